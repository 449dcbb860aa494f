"""What `prorl_scale.data prepare` keeps of the real rows at hand, and why it drops the others: a manifest a domain.

    PRORL_TEST_DATA=DIR PYTHONPATH=. python bench/row_manifests.py --work FOLDER [--bigbench FOLDER] [--out results/...]

The rows are written into FOLDER in the columns of the sources, then prepared by the recipe `prorl-1.5b`: MATH's
training file, with AIME24, AMC and MATH-500 to be overlapped; HumanEval with its tests and solutions as code; IFEval's
prompts as instructions; of BIG-bench (`bigbench/benchmark_tasks` of the source distribution of bigbench 1.0.0) the
physics questions and the science questions as STEM, by their own answers; and puzzles, which are made.  A run that was
cut off goes on.
"""

import argparse
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prorl_scale.data.prepare import Prepare, prepare
from prorl_scale.evaluate import sets

Record = dict[str, Any]


def code(data: Path) -> Iterator[Record]:
    """HumanEval in the columns of Eurus, its canonical solution as the row's own."""
    with gzip.open(data / "code/HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            question, reference = sets.SETS["humaneval"].read(record)
            yield {
                "data_source": "humaneval", "ability": "code",
                "prompt": [{"role": "user", "content": question}],
                "reward_model": {"ground_truth": json.dumps(reference)},
                "solution": record["prompt"] + record["canonical_solution"],
            }  # fmt: skip


def instruction(data: Path) -> Iterator[Record]:
    """IFEval in the columns of Nemotron."""
    for line in (data / "instruction_following/ifeval_input_data.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        args = {"instruction_id_list": record["instruction_id_list"], "instruction_kwargs": record["kwargs"]}
        yield {"input": [{"role": "user", "content": record["prompt"]}], "args": args}


def stem(bigbench: Path) -> Iterator[Record]:
    """Questions with an answer of their own; a letter without its full stop."""
    for name in ("physics_questions", "natural_instructions/subtask047_misc_answering_science_questions"):
        for record in json.loads((bigbench / name / "task.json").read_text(encoding="utf-8"))["examples"]:
            target = record["target"]
            yield {"problem": record["input"], "answer": target[0].rstrip(".") if isinstance(target, list) else target}


def written(path: Path, records: Iterator[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def without_texts(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest whose overlaps are counted, not quoted; of many parts only their sum."""
    parts = [{**part, "overlaps": len(part["overlaps"])} for part in manifest["parts"]]
    return {**manifest, "parts": parts if len(parts) == 1 else len(parts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bigbench", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", default=["math", "code", "instruction", "stem", "puzzle"])
    given = parser.parse_args()
    data = Path(os.environ["PRORL_TEST_DATA"])
    evaluation = [data / f"math/{name}.json" for name in ("eval_math", "eval_aime", "eval_amc")]
    for domain in given.only:
        source = {
            "math": lambda: data / "math/train_math.json",
            "code": lambda: written(given.work / "rows/code.jsonl", code(data)),
            "instruction": lambda: written(given.work / "rows/instruction.jsonl", instruction(data)),
            "stem": lambda: written(given.work / "rows/stem.jsonl", stem(given.bigbench)),
            "puzzle": lambda: None,
        }[domain]()
        config = Prepare(given.work / domain, only=[domain], workers=1)
        config.source = [f"{domain}={source}"] if source else []
        config.evaluation = evaluation if domain == "math" else []
        manifest = without_texts(prepare(config))
        print(domain, json.dumps({key: manifest[key] for key in ("rows", "wanted", "dropped", "noted")}), flush=True)
        if given.out:
            text = json.dumps(manifest, indent=1) + "\n"
            (given.out / f"manifest_{domain}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
