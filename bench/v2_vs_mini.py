"""A training step of `prorl_v2.py`, all its pieces on, against one of `prorl_mini.py`: what such a study costs.

    python bench/v2_vs_mini.py [--steps 30] [--out FILE]

Two runs of the laptop model in one process take turns, so that whatever else the machine does hits both.  Their
learning rate is too small to move a weight, so both write and train on the same answers.  Processor seconds; the ratio
is that of the medians, with the range over thirds of the steps.
"""

import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

import prorl_mini as mini
import prorl_v2 as v2

PIECES = dict(
    advantage="batch", length_bonus=0.1, overlong_buffer=4, learning_rate_warm_up=10, reset_kl_above=1e9,
    reset_entropy_below=1e-9,
)  # fmt: skip


@dataclass
class Settings:
    """Command line."""

    steps: int = 30  # of each side
    prompts_per_step: int = 32
    base_cache: str = "runs/base-models"
    warm_up_steps: int = 450  # of the base model, as in prorl_mini
    out: str | None = None  # also write the figures there, as JSON


def make(module: Any, settings: Settings, folder: Path, **more: Any) -> Any:
    """A run that is ready for its first step."""
    config = module.Config(
        out=str(folder / module.__name__), base_cache=settings.base_cache, warm_up_steps=settings.warm_up_steps,
        prompts_per_step=settings.prompts_per_step, steps=10**6, learning_rate=1e-30, weight_decay=0.0,
        dynamic_sampling=False, **more,
    )  # fmt: skip
    return mini.start_run(mini.settings.resolve(config), module.Run)


def step(run: Any) -> float:
    """Processor seconds of one step."""
    start = time.process_time()
    mini.train_step(run)
    run.reset_if_due()
    return time.process_time() - start


def main(settings: Settings) -> None:
    with tempfile.TemporaryDirectory() as name:
        runs = [make(mini, settings, Path(name)), make(v2, settings, Path(name), **PIECES)]
        for run in runs:
            run.folder.say = lambda line: None
        seconds: list[list[float]] = [[], []]
        with runs[0].folder, runs[1].folder:
            for number in range(settings.steps + 1):
                for i in (0, 1) if number % 2 else (1, 0):
                    taken = step(runs[i])
                    if number:  # the first of each is warm-up
                        seconds[i].append(taken)
    theirs, ours = map(statistics.median, seconds)
    thirds = [b / a for a, b in zip(*map(thirds_of, seconds), strict=True)]
    figures = {
        "steps": settings.steps, "prompts_per_step": settings.prompts_per_step, "v2_seconds": round(ours, 4),
        "mini_seconds": round(theirs, 4), "ratio": round(ours / theirs, 4), "low": round(min(thirds), 4),
        "high": round(max(thirds), 4), "torch": torch.__version__, "threads": torch.get_num_threads(),
    }  # fmt: skip
    print(json.dumps(figures, indent=2))
    if settings.out:
        Path(settings.out).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def thirds_of(values: list[float]) -> list[float]:
    """The medians of the first, second and last third."""
    size = len(values) // 3
    return [statistics.median(values[i * size : (i + 1) * size]) for i in range(3)]


if __name__ == "__main__":
    main(tyro.cli(Settings))
