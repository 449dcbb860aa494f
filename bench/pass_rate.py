"""What leaving out prompts by their pass rate would spare: the laptop task's base model, by mini's own rollout.

    python bench/pass_rate.py [--seeds 0 1 2 3 4] [--prompts 160] [--out results/...]

For each seed, of the prompts and the samples, the base model answers training prompts twice, independently:
`--estimate-answers` times, as `prepare --estimate` does, and `answers_per_prompt` times, as a step does.  Of the second
the share of groups with contrast and of tokens in groups without is counted, over all prompts and over those within
`--pass-rate`.  Whether a run learns more with it for the same tokens is a study: `python -m prorl_lab.study run
pass-rate`.
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from measure import machine
from worker_pass_rate import answers_of, rates_of

import prorl_mini as mini
from prorl_lab import intervals, models, settings, tasks


@dataclass
class Config:
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    prompts: int = 160  # of each seed
    estimate_answers: int = 8
    pass_rate: tuple[float, float] = (0.02, 0.98)
    base_cache: str = "runs/base-models"
    out: Path | None = None


def of_seed(config: Config, seed: int) -> dict[str, Any]:
    """A row for every prompt of a seed: pass rate, contrast of its group, tokens of its group."""
    own = settings.resolve(mini.Config(base_cache=config.base_cache, eval_every=0, boundary_prompts=0))
    policy, tokenizer = models.load_policy(own)
    task = tasks.LaptopTask(seed, models.stop_ids(policy.config, tokenizer))
    run = mini.Run(own, policy, None, None, tokenizer, task, None, None)
    problems = [task.problem("train", number) for number in range(config.prompts)]
    first = answers_of(run, problems, config.estimate_answers, "estimate")
    second = answers_of(run, problems, own.answers_per_prompt, "step")
    rates = np.array(rates_of(first))
    contrast = np.array([len({right for right, _ in group}) > 1 for group in second], dtype=float)
    tokens = np.array([sum(length for _, length in group) for group in second])
    within = (rates >= config.pass_rate[0]) & (rates <= config.pass_rate[1])
    return {
        "seed": seed,
        "prompts": len(rates),
        "within": int(within.sum()),
        "kept": shares(contrast, tokens),
        "kept within": shares(contrast[within], tokens[within]),
        "contrast lost": float(contrast[~within].sum() / contrast.sum()),  # groups that would have taught something
        "tokens of the estimate": sum(length for group in first for _, length in group),
        "tokens a step's groups": int(tokens.sum()),
    }


def shares(contrast: np.ndarray, tokens: np.ndarray) -> dict[str, float]:
    return {"groups": float(contrast.mean()), "tokens wasted": float((tokens * (1 - contrast)).sum() / tokens.sum())}


def main(config: Config) -> None:
    torch.set_num_threads(1)
    start, rows = machine(), []
    for seed in config.seeds:
        begin = time.monotonic()
        rows.append(of_seed(config, seed))
        print(json.dumps(rows[-1]), f"{time.monotonic() - begin:.0f} s", flush=True)
    figures: dict[str, Any] = {"config": {**dataclasses.asdict(config), "out": None}, "machine": [start, machine()]}
    for name in ("groups", "tokens wasted"):
        before, after = (np.array([row[side][name] for row in rows]) for side in ("kept", "kept within"))
        low, high = intervals.difference_interval(before, after)
        figures[name] = {
            "all": before.mean(), "within": after.mean(), "difference": [float(low), float(high)],
        }  # fmt: skip
        print(f"{name}: {before.mean():.2f} of all, {after.mean():.2f} within; difference {low:+.2f} to {high:+.2f}")
    if config.out:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "figures.json").write_text(json.dumps({**figures, "seeds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config))
