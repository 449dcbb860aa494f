"""Settings of a run: those of `prorl_mini.Config`, and what only many processes and vLLM need."""

import datetime
import importlib.util
import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro

import prorl_mini
from prorl_lab import cli
from prorl_lab.errors import UserError
from prorl_scale.recipes import RECIPES


@dataclass
class Config(prorl_mini.Config):
    """Every setting of a run.  A recipe sets some, the command line overrides it; None takes the model's default."""

    recipe: str | None = None  # a name from prorl_scale/recipes.py
    canary_tolerance: float | None = None  # mean |log-prob difference| of sampler and trainer; 1e-4 in float32
    keep_checkpoints: int = 2  # the last so many, and the one with the best validation
    timeout_minutes: float = 60.0  # of a collective: longer than the slowest rollout
    gpu_memory: float = 0.5  # share of a GPU's memory that vLLM may take
    tensorboard: bool = False  # also write <run folder>/tensorboard
    sleep_level: Literal[1, 2] = 1  # 1: vLLM keeps its weights in host memory while training; 2: drops them


def parse(config_class: type, args: list[str] | None) -> Any:
    """The command line as a Config, over the recipe's values or, with --resume, over the stored ones."""
    given = tyro.cli(config_class, args=args, description="ProRL under torchrun; a run is a folder.")
    if given.resume or given.recipe is None:
        return cli.parse(config_class, args)
    if given.recipe not in RECIPES:
        raise UserError(f"unknown recipe {given.recipe!r}: give --recipe one of {', '.join(sorted(RECIPES))}")
    return tyro.cli(config_class, args=args, default=config_class(**RECIPES[given.recipe], recipe=given.recipe))


def resolve(config: Config) -> Config:
    """Fill what was left open and check the rest, as `prorl_lab.cli.resolve` does.  Raises UserError."""
    if "RANK" not in os.environ:
        raise UserError(
            "one process per device is started by torchrun: torchrun --nproc-per-node 1 -m prorl_scale.train"
        )
    if config.out is None:
        config.out = f"runs/{datetime.datetime.now():%Y-%m-%d-%H%M%S}-scale"
    config = cli.resolve(config)
    if config.canary_tolerance is None:
        config.canary_tolerance = 1e-4 if config.dtype == "float32" else 0.05
    if config.dtype == "float64":
        raise UserError("vLLM does not compute in float64: give --dtype float32 or bfloat16")
    if config.dtype == "bfloat16" and config.device == "cpu":
        raise UserError("bfloat16 on a CPU is not supported here: give --dtype float32")
    for name in ("canary_tolerance", "timeout_minutes", "gpu_memory", "keep_checkpoints"):
        if not getattr(config, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, not {getattr(config, name)}")
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "TensorBoard is not installed: install the version in requirements-rewards.txt, or leave out --tensorboard"
        )
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    if config.device == "cuda" and local > torch.cuda.device_count():
        raise UserError(
            f"{local} processes for {torch.cuda.device_count()} GPUs: give torchrun --nproc-per-node at most the latter"
        )
    return config
