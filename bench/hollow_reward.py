"""What a hole in the reward does to a run: the laptop task paid by a verifier that ignores what follows a right list.

    python bench/hollow_reward.py --seeds 0 1 2 --steps 150 --out results/DATE-hollow-reward

Reasoning Gym 0.1.25 pays `word_sorting` in full for the sorted words with any words behind them.  Each seed is trained
twice, paid by that scorer and by the strict one of the laptop task, which both runs are also measured with: on every
answer they write in training, and on held-out prompts.  Chapter 11 draws what comes of it.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prorl_mini as mini
from prorl_lab.run_folder import read_json, read_metrics

ARMS = ("hollow", "strict")


@dataclass
class Args:
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 150
    eval_every: int = 10
    runs: Path = Path("runs/hollow-reward")  # where the run folders go; finished ones are not run again
    out: Path | None = None  # where rows.json goes


class HollowTask:
    """The laptop task, paid by the published scorer while training; counts what the strict one would have paid."""

    def __init__(self, task: Any):
        self.task, self.strict, self.answers, self.right, self.with_tail = task, False, 0, 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def score(self, answers: list[tuple[Any, str]]) -> list[float]:
        truth = self.task.score(answers)
        if self.strict:
            return truth
        self.answers += len(answers)
        self.right += sum(score >= 1 for score in truth)
        paid = []
        for problem, text in answers:
            paid.append(self.task.puzzles[problem.tier].dataset.score_answer(", ".join(text.split()), problem.entry))
            self.with_tail += paid[-1] >= 1 and len(text.split()) != problem.entry["metadata"]["num_words"]
        return paid


@dataclass
class HollowRun(mini.Run):
    """A run whose task pays for more than it should; its validation is strict."""

    def __post_init__(self) -> None:
        self.task = HollowTask(self.task)

    def validate(self) -> Any:
        self.task.strict = True
        try:
            return mini.validate(self)
        finally:
            self.task.strict = False

    def end_step(self, row: dict, *args: Any) -> dict:
        task = self.task
        counts = {"true": task.right / task.answers, "paid_with_tail": task.with_tail / task.answers}
        task.answers, task.right, task.with_tail = 0, 0.0, 0
        return {**super().end_step(row, *args), **counts}


def trained(args: Args, arm: str, seed: int) -> list[dict]:
    """The rows of one run's metrics.jsonl, run first where that has not been done."""
    folder = args.runs / f"{arm}-{seed}"
    if not (folder / "summary.json").exists():
        resume = {"resume": str(folder)} if (folder / "state.pt").exists() else {"out": str(folder)}
        config = mini.Config(seed=seed, steps=args.steps, eval_every=args.eval_every, boundary_prompts=0, **resume)
        mini.train(config, HollowRun if arm == "hollow" else mini.Run)
    return read_metrics(folder / "metrics.jsonl")


def main(args: Args) -> None:
    rows = {arm: {seed: trained(args, arm, seed) for seed in args.seeds} for arm in ARMS}
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        kept = ("step", "solved", "reward_unfiltered", "true", "paid_with_tail", "length", "event", "score")
        small = {
            arm: {seed: [{key: row[key] for key in kept if key in row} for row in run] for seed, run in runs.items()}
            for arm, runs in rows.items()
        }
        config = read_json(args.runs / f"hollow-{args.seeds[0]}" / "config.json")
        whole = {"args": {"seeds": args.seeds, "steps": args.steps}, "config": config, "rows": small}
        (args.out / "rows.json").write_text(json.dumps(whole) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args))
