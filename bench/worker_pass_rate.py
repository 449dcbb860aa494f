"""An arm of the study `pass-rate`: prorl_mini on a set of training prompts that has an end, as a prepared one has.

    python bench/worker_pass_rate.py --pool 512 [--pass-rate 0.02 0.98] ...       and every flag of prorl_mini.py

With --pass-rate the base model first answers every prompt of the set, as `prorl_scale.data prepare --estimate` has it
do, and those it solves less often than LOW or more often than HIGH are left out, as `prorl_scale.train --pass-rate`
does.  The estimate follows from the settings alone, so a resumed run makes it again instead of storing it.
"""

import functools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prorl_mini as mini
from prorl_lab import cli
from prorl_lab.errors import UserError
from prorl_lab.ledger import Ledger
from prorl_lab.seeds import derived
from prorl_lab.split import Epochs
from prorl_lab.tasks import LaptopTask, Problem


@dataclass
class Config(mini.Config):
    """Settings of `prorl_mini`, and the set of prompts."""

    pool: int = 512  # training prompts; when all were drawn they come again, in another order
    pass_rate: list[float] = field(default_factory=list)  # LOW HIGH; empty: nothing is estimated or left out
    estimate_answers: int = 8  # to each prompt


class PoolTask(LaptopTask):
    """The laptop task with these training problems alone; what is held out is the same as ever."""

    def __init__(self, seed: int, stop_ids: list[int], numbers: list[int]):
        super().__init__(seed, stop_ids)
        self.numbers, self.epochs = numbers, Epochs(seed, len(numbers))

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        return super().problem(split, self.numbers[self.epochs.place(number)] if split == "train" else number, tier)


def answers_of(run: mini.Run, problems: list[Problem], count: int, purpose: str) -> list[list[tuple[bool, int]]]:
    """P problems -> of each of their answers (is it right, tokens), drawn from a generator of their own."""
    generator = torch.Generator(run.policy.device).manual_seed(derived(purpose, run.task.seed))
    prompts = [mini.encode(run, problem) for problem in problems]
    groups = run.write(problems, prompts, count, run.config.temperature, generator, Ledger())
    return [[(sample.reward >= 1, len(sample.answer)) for sample in group] for group in groups]


def rates_of(groups: list[list[tuple[bool, int]]]) -> list[float]:
    """The share of right answers of each group."""
    return [sum(right for right, _ in group) / len(group) for group in groups]


@dataclass
class Run(mini.Run):
    """The run of `prorl_mini` on the set of prompts; its first step says what the estimate cost."""

    estimated: int = 0  # tokens

    def __post_init__(self) -> None:
        # Here the policy is the base, also of a run that goes on: its state is restored later.
        config, task, numbers = self.config, self.task, list(range(self.config.pool))
        if config.pass_rate:
            low, high = config.pass_rate
            problems = [task.problem("train", number) for number in numbers]
            groups = answers_of(self, problems, config.estimate_answers, "estimate")
            numbers = [number for number, rate in zip(numbers, rates_of(groups), strict=True) if low <= rate <= high]
            self.estimated = sum(length for group in groups for _, length in group)
            if not numbers:
                raise UserError(f"the base solves no prompt in {low:g} to {high:g} of its answers: widen --pass-rate")
        self.task = PoolTask(task.seed, task.stop_ids, numbers)

    def end_step(self, row: dict, ledger: Ledger, groups: list[list[mini.Sample]]) -> dict[str, Any]:
        tokens = self.estimated if row["step"] == 1 else 0
        return {**super().end_step(row, ledger, groups), "tokens_estimate": tokens, "pool": len(self.task.numbers)}


if __name__ == "__main__":
    raise SystemExit(cli.run(Config, functools.partial(mini.train, run_class=Run), None))
