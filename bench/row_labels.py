"""What the predicates of `prorl_lab/judge.py` catch, miss and drop wrongly, on the rows labelled by hand.

    PRORL_TEST_DATA=DIR python bench/row_labels.py [--bigbench FOLDER] [--write]

`results/2026-11-28-rows/labels.csv` has a hash of each question, no text.  Those whose text is at hand are judged anew:
mathematics, HumanEval and IFEval in DIR, the tasks of CodeI/O that Reasoning Gym ships, and three tasks of BIG-bench,
in the folder `bigbench/benchmark_tasks` of the source distribution of bigbench 1.0.0.  The others, typed off by hand,
keep the verdict they had.  --write: into labels.csv.
"""

import argparse
import csv
import gzip
import hashlib
import importlib.resources
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prorl_lab import judge, rows

LABELS = Path(__file__).resolve().parents[1] / "results/2026-11-28-rows/labels.csv"
BIGBENCH = ("physics", "physics_questions", "natural_instructions/subtask047_misc_answering_science_questions")
TESTS = {"inputs": ["1\n", "2\n"], "outputs": ["3\n", "4\n"]}


def texts(data: Path, bigbench: Path | None) -> Iterator[judge.Task]:
    """The rows at hand.  What BIG-bench answers is no reference of ours, so a number stands in for it."""
    for name in ("train_math", "eval_math", "eval_aime", "eval_amc"):
        for row in json.loads((data / f"math/{name}.json").read_text(encoding="utf-8")):
            yield judge.Task("math", row["problem"], {"answer": rows.answer_of(row["answer"]) or ""})
    with gzip.open(data / "code/HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield judge.Task("code", row["prompt"], {"asserts": [row["test"]]})
    packed = importlib.resources.files("reasoning_gym") / "data/codeio.jsonl.gz"
    with packed.open("rb") as file, gzip.open(file, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield judge.Task("code", row["task_description"], TESTS)
    for line in (data / "instruction_following/ifeval_input_data.jsonl").read_text(encoding="utf-8").splitlines():
        yield judge.Task("instruction", json.loads(line)["prompt"], {})
    for name in BIGBENCH if bigbench else ():
        for row in json.loads((bigbench / name / "task.json").read_text(encoding="utf-8"))["examples"]:
            yield judge.Task("stem", row["input"], {"answer": "7"})


def hashed(question: str) -> str:
    return hashlib.sha256(question.encode()).hexdigest()[:16]


def table(labels: list[dict[str, str]]) -> str:
    """By domain: good rows and those dropped wrongly, unfit rows and those caught (for whatever reason)."""
    lines = ["| domain | good rows | dropped wrongly | | unfit rows | caught |", "|---|---|---|---|---|---|"]
    for domain in ("math", "stem", "code", "instruction"):
        good = [row["verdict"] for row in labels if row["domain"] == domain and row["label"] == "good"]
        unfit = [row["verdict"] for row in labels if row["domain"] == domain and row["label"] != "good"]
        wrong = sum(verdict != "kept" for verdict in good)
        caught = f"{len(unfit)} | {sum(verdict != 'kept' for verdict in unfit)}" if unfit else "|"
        lines.append(f"| {domain} | {len(good)} | {wrong} | {100 * wrong / len(good):.1f} % | {caught} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bigbench", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with LABELS.open(encoding="utf-8", newline="") as file:
        labels = list(csv.DictReader(file))
    wanted, found = {row["question_sha256_16"] for row in labels}, {}
    for task in texts(Path(os.environ["PRORL_TEST_DATA"]), given.bigbench):
        for text in {task.question, task.question.strip()}:
            key = hashed(text), task.domain
            if key[0] in wanted and found.get(key, "answer missing") == "answer missing":  # else: one asked twice
                missing = task.reference.get("answer") == ""  # which `rows.answer_of` sees before any predicate
                found[key] = "answer missing" if missing else judge.reason(task) or "kept"
    for row in labels:
        now = found.get((row["question_sha256_16"], row["domain"]), row["verdict"])
        if now != row["verdict"]:
            print(f"{row['domain']}, {row['source']}: {row['label']!r} was {row['verdict']!r}, is {now!r}")
        row["verdict"] = now
    here = sum((row["question_sha256_16"], row["domain"]) in found for row in labels)
    print(f"{len(labels)} rows, {here} judged anew\n\n{table(labels)}\n")
    for (domain, label), count in sorted(Counter((row["domain"], row["label"]) for row in labels).items()):
        verdicts = Counter(row["verdict"] for row in labels if (row["domain"], row["label"]) == (domain, label))
        print(f"{domain}, {label}: {count}, of which {dict(verdicts)}")
    if given.write:
        with LABELS.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, labels[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(labels)


if __name__ == "__main__":
    main()
