"""Verdicts per second of each domain's verifier, sandbox included; beside an earlier commit's where one is given.

    python bench/verifiers.py --data /path/to/test-data [--workers 2] [--seconds 10] [--out figures.json]
    git archive 5fec207 --prefix=old/ | tar x -C /tmp && python bench/verifiers.py --data ... --against /tmp/old

Where the machine is busy, its other programs take part in both sides' wall clock; their processor time is theirs alone:

    perf stat -e task-clock python bench/verifiers.py --data ... --side . --workers 1 --count 60 --domains math

The answers are real where the data folder (as PRORL_TEST_DATA in the tests) has them: MATH-500, HumanEval, IFEval.
Half of them are right.  Imports happen before the clock starts.  The sides take turns, each in a process of its own,
and the figure is the ratio of their medians, since a busy machine slows both.
"""

import gzip
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from measure import machine

ROOT = Path(__file__).resolve().parents[1]
Item = tuple[str, str, dict[str, Any]]
PUZZLES = "chain_sum countdown graph_color word_sorting zebra_puzzles simple_integration spiral_matrix maze"


@dataclass
class Config:
    data: Path  # the folder of real test data
    workers: int = len(os.sched_getaffinity(0))
    seconds: float = 10.0  # of each timing
    rounds: int = 3  # timings of each side
    against: Path | None = None  # a checkout of another commit
    domains: list[str] = field(default_factory=lambda: list(SOURCES))
    count: int | None = None  # score so many of each domain and stop, as for `perf stat`
    side: Path | None = None  # used by the script itself: be the process that times this checkout
    out: Path | None = None  # where the figures go, as JSON


def math_items(data: Path) -> list[Item]:
    rows = json.loads((data / "math" / "eval_math.json").read_text(encoding="utf-8"))
    answers = [row["answer"] for row in rows]
    given = [a if i % 2 else answers[i - 1] for i, a in enumerate(answers)]
    return [("math", f"\\boxed{{{g}}}", {"answer": a}) for g, a in zip(given, answers, strict=True)]


def stem_items(data: Path) -> list[Item]:
    return [("stem", response, reference) for _, response, reference in math_items(data)]


def assert_items(data: Path) -> list[Item]:
    """HumanEval's checks."""
    with gzip.open(data / "code" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(row) for row in file]
    items = []
    for i, row in enumerate(rows):
        code = row["prompt"] + (row["canonical_solution"] if i % 2 else "    pass")
        setup = f"{row['test']}\ncandidate = {row['entry_point']}"
        items.append(("code", f"```python\n{code}\n```", {"asserts": ["check(candidate)"], "setup": setup}))
    return items


def stdin_items(data: Path) -> list[Item]:
    """Programs with ten tests on standard input each."""
    items = []
    for i in range(164):
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


SOURCES: dict[str, Callable[[Path], list[Item]]] = {
    "math": math_items,
    "stem": stem_items,
    "code, asserts": assert_items,
    "code, ten stdin tests": stdin_items,
    "puzzle": puzzle_items,
    "instruction": instruction_items,
}


def serve(config: Config) -> None:
    """One side: warm up, then time whatever domain is named on standard input and print its verdicts per second."""
    sys.path.insert(0, str(config.side))
    from prorl_scale.rewards import Pool

    items = {name: SOURCES[name](config.data) for name in config.domains}
    for some in items.values():
        random.Random(0).shuffle(some)
    with Pool(config.workers) as pool:
        for name, some in items.items():
            scores = [verdict.score for verdict in pool.verify(some[: 10 * config.workers])]  # imports
            print(json.dumps([name, statistics.mean(scores)]), flush=True)
            if config.count is not None:
                pool.verify(itertools.islice(itertools.cycle(some), config.count))
        if config.count is not None:
            return
        for line in sys.stdin:
            print(rate(pool, items[line.strip()], config.seconds), flush=True)


def rate(pool: Any, items: list[Item], seconds: float) -> float:
    """Verdicts per second, over batches of ten times the workers until the time is up."""
    draw = itertools.cycle(items)
    done, start = 0, time.monotonic()
    while time.monotonic() < start + seconds:
        done += len(pool.verify(itertools.islice(draw, 10 * len(pool._workers))))
    return done / (time.monotonic() - start)


def start_side(config: Config, side: Path) -> subprocess.Popen:
    command = [sys.executable, __file__, *("--data", str(config.data)), *("--workers", str(config.workers))]
    command += ["--seconds", str(config.seconds), "--side", str(side), "--domains", *config.domains]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in config.domains:
        name, mean = json.loads(process.stdout.readline())
        print(f"{side.name}: {name}, mean score {mean:.2f}", file=sys.stderr)
    return process


def ask(process: subprocess.Popen, domain: str) -> float:
    process.stdin.write(domain + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main(config: Config) -> None:
    if config.side:
        serve(config)
        return
    sides = {"this": ROOT} | ({"against": config.against} if config.against else {})
    figures: dict[str, Any] = {"workers": config.workers, "python": platform.python_version(), "start": machine()}
    processes = {name: start_side(config, path) for name, path in sides.items()}
    rates: dict[str, dict[str, list[float]]] = {d: {name: [] for name in sides} for d in config.domains}
    for round_number in range(config.rounds):
        order = list(processes)[:: 1 if round_number % 2 else -1]
        for domain, name in itertools.product(config.domains, order):
            rates[domain][name].append(ask(processes[name], domain))
    for process in processes.values():
        process.communicate()
    for domain, found in rates.items():
        medians = {name: statistics.median(some) for name, some in found.items()}
        line = f"{domain:22} {medians['this']:8.1f} verdicts/s ({min(found['this']):.1f} to {max(found['this']):.1f})"
        if config.against:
            line += f"   against {medians['against']:8.1f}: {medians['this'] / medians['against']:.2f} times"
        print(line)
    figures |= {"rates": {d: {n: [round(r, 1) for r in some] for n, some in f.items()} for d, f in rates.items()}}
    figures["end"] = machine()
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
