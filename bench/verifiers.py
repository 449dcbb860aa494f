"""Verdicts per second of each domain's verifier, sandbox included.

    python bench/verifiers.py --data /path/to/test-data [--workers 2] [--seconds 10] [--out figures.json]

The answers are real where the data folder (as PRORL_TEST_DATA in the tests) has them: MATH-500, HumanEval, IFEval.
Half of them are right.  Imports happen before the clock starts, and each domain is timed three times.
"""

import gzip
import itertools
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prorl_scale.rewards import Pool

Item = tuple[str, str, dict[str, Any]]
PUZZLES = "chain_sum countdown graph_color word_sorting zebra_puzzles simple_integration spiral_matrix maze"


@dataclass
class Config:
    data: Path  # the folder of real test data
    workers: int = len(os.sched_getaffinity(0))
    seconds: float = 10.0  # of each of the three timings
    out: Path | None = None  # where the figures go, as JSON


def math_items(data: Path) -> list[Item]:
    rows = json.loads((data / "math" / "eval_math.json").read_text(encoding="utf-8"))
    answers = [row["answer"] for row in rows]
    given = [a if i % 2 else answers[i - 1] for i, a in enumerate(answers)]
    return [("math", f"\\boxed{{{g}}}", {"answer": a}) for g, a in zip(given, answers, strict=True)]


def stem_items(data: Path) -> list[Item]:
    return [("stem", response, reference) for _, response, reference in math_items(data)]


def code_items(data: Path) -> list[Item]:
    """HumanEval as asserts, and an equal number of programs with ten stdin/stdout tests."""
    with gzip.open(data / "code" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(row) for row in file]
    items = []
    for i, row in enumerate(rows):
        code = row["prompt"] + (row["canonical_solution"] if i % 2 else "    pass")
        setup = f"{row['test']}\ncandidate = {row['entry_point']}"
        items.append(("code", f"```python\n{code}\n```", {"asserts": ["check(candidate)"], "setup": setup}))
        tests = {"inputs": [f"{k} {i}\n" for k in range(10)], "outputs": [str(k + i) for k in range(10)]}
        program = "a, b = map(int, input().split())\nprint(a + b)" if i % 2 else "print(0)"
        items.append(("code", f"```python\n{program}\n```", tests))
    return items


def puzzle_items(data: Path) -> list[Item]:
    import reasoning_gym

    items = []
    for task in PUZZLES.split():
        for i, item in enumerate(reasoning_gym.create_dataset(task, seed=1, size=20)):
            answer = item["answer"] or json.dumps(item["metadata"].get("possible_answer"))
            items.append(("puzzle", f"<answer>{answer if i % 2 else 'banana'}</answer>", {"task": task, "item": item}))
    return items


def instruction_items(data: Path) -> list[Item]:
    """The prompts themselves serve as responses: real text of a realistic length is what the time depends on."""
    lines = (data / "instruction_following" / "ifeval_input_data.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [" ".join(rows[(i + k) % len(rows)]["prompt"] for k in range(4)) for i in range(len(rows))]
    return [("instruction", text, row) for text, row in zip(texts, rows, strict=True)]


def rate(pool: Pool, items: list[Item], seconds: float) -> float:
    """Verdicts per second, over batches of ten times the workers until the time is up."""
    draw = itertools.cycle(items)
    done, start = 0, time.monotonic()
    while time.monotonic() < start + seconds:
        done += len(pool.verify(itertools.islice(draw, 10 * len(pool._workers))))
    return done / (time.monotonic() - start)


def main(config: Config) -> None:
    sources: dict[str, Callable[[Path], list[Item]]] = {
        "math": math_items,
        "stem": stem_items,
        "code": code_items,
        "puzzle": puzzle_items,
        "instruction": instruction_items,
    }
    figures: dict[str, Any] = {"workers": config.workers, "python": platform.python_version(), "rates": {}}
    figures["cpus"], figures["load at the start"] = os.cpu_count(), os.getloadavg()[0]
    with Pool(config.workers) as pool:
        for domain, source in sources.items():
            items = source(config.data)
            random.Random(0).shuffle(items)
            scores = [verdict.score for verdict in pool.verify(items[: 10 * config.workers])]  # imports
            rates = [rate(pool, items, config.seconds) for _ in range(3)]
            median, mean = statistics.median(rates), statistics.mean(scores)
            figures["rates"][domain] = {"median": round(median, 1), "all": [round(r, 1) for r in rates]}
            spread = f"{min(rates):.1f} to {max(rates):.1f}"
            print(f"{domain:12} {median:8.1f} verdicts/s  (three runs: {spread}; mean score {mean:.2f})")
    figures["load at the end"] = os.getloadavg()[0]
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
