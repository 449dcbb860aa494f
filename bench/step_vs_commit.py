"""A training step of this working tree beside that of another commit: `step_vs_trl.py` with two of ours.

    git worktree add /tmp/before COMMIT
    python bench/step_vs_commit.py --against /tmp/before --sides mini scale --out results/<date-name>/step.json

The sides take turns, each turn a process of its own.  On a busy machine the ratio of processor seconds is the figure.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from measure import machine
from step_vs_trl import HERE, Args, check, check_equal_work, make_model, make_prompts, take_turn


@dataclass
class Beside(Args):
    """Time one step of both trees, turn by turn."""

    against: Path = Path("/tmp/before")  # a checkout of another commit
    sides: tuple[Literal["mini", "scale"], ...] = ("mini",)


def commit(tree: Path) -> str:
    command = ["git", "-C", tree, "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def medians(turns: list[dict[str, Any]], key: str) -> list[float]:
    """Of each turn over its steps."""
    return [statistics.median(step[key] for step in turn["steps"]) for turn in turns]


def main(args: Beside) -> None:
    check(args)
    trees = {"before": args.against.resolve(), "now": HERE.parent}
    result: dict[str, Any] = {"commits": {name: commit(tree) for name, tree in trees.items()}, "sides": {}}
    result["machine"] = {"before": machine()}
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / "model", args)
        settings = Path(folder) / "settings.json"
        plain = {key: value for key, value in asdict(args).items() if not isinstance(value, Path | None)}
        result["settings"] = plain
        more = {"model": str(Path(folder) / "model"), "prompt_texts": make_prompts(args)}
        settings.write_text(json.dumps(plain | more), encoding="utf-8")
        for side in args.sides:
            turns: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
            for repeat in range(args.repeats):
                for name in sorted(trees, reverse=repeat % 2 == 1):  # who comes first changes
                    turn = take_turn(side, Path(sys.executable), settings, args.threads, trees[name])
                    check_equal_work(side, turn, args)
                    turns[name].append(turn)
            found: dict[str, Any] = {}
            for key in ("seconds", "cpu_seconds"):
                each = {name: medians(taken, key) for name, taken in turns.items()}
                ratios = [now / before for now, before in zip(each["now"], each["before"], strict=True)]
                whole = {name: statistics.median(values) for name, values in each.items()}
                found[key] = {**whole, "ratio": whole["now"] / whole["before"], "by turn": ratios, "turns": each}
                spread = f"{min(ratios):.3f} to {max(ratios):.3f} by turn"
                print(f"{side}, {key} a step: {whole['before']:.3f} before, {whole['now']:.3f} now", flush=True)
                print(f"ratio {found[key]['ratio']:.3f} ({spread})", flush=True)
            result["sides"][side] = found
    result["machine"]["after"] = machine()
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Beside))
