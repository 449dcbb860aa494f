"""The command line of `prorl_mini.py`: defaults, checks, and one sentence for each mistake."""

import dataclasses
import datetime
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch
import tyro
from transformers.utils.logging import disable_progress_bar

from prorl_lab.errors import UserError
from prorl_lab.lock import release_all

# What a field left at None becomes.  The laptop's values were found by trial (results/), the others follow the paper
# where it states them (learning rate, KL coefficient, 8k context) and one GPU where it does not.
DEFAULTS: dict[str, dict[str, Any]] = {
    "laptop": {
        "task": "laptop",
        "threads": 1,  # matrices this small run slower on two
        "steps": 100,
        "prompts_per_step": 32,
        "max_new_tokens": 22,
        "rollout_batch": 4096,
        "microbatch_tokens": 4096,
        "binary_reward": True,
        "kl_coef": 1e-3,
        "learning_rate": 5e-5,
        "gradient_checkpointing": False,
        "reset_every": 40,
        "eval_every": 10,
        "eval_prompts": 16,
        "eval_temperature": 1.0,
        "boundary_prompts": 48,
        "boundary_answers": 64,
    },
    "model": {
        "task": "leg_counting",
        "threads": 0,  # torch's own choice
        "steps": 500,
        "prompts_per_step": 16,
        "max_new_tokens": 1024,
        "rollout_batch": 256,
        "microbatch_tokens": 16384,
        "binary_reward": False,
        "kl_coef": 1e-4,
        "learning_rate": 2e-6,
        "gradient_checkpointing": True,
        "reset_every": 200,
        "eval_every": 25,
        "eval_prompts": 16,
        "eval_temperature": 0.6,
        "boundary_prompts": 32,
        "boundary_answers": 64,
    },
}
AT_LEAST_ONE = (
    *("steps", "save_every", "prompts_per_step", "max_new_tokens", "rollout_batch", "max_rounds", "updates_per_step"),
    *("microbatch_tokens", "max_bad_steps", "eval_prompts", "eval_answers", "length_bonus_on"),
)
NOT_NEGATIVE = (
    *("kl_coef", "eps_low", "eps_high", "weight_decay", "overlong_buffer", "length_bonus_off", "learning_rate_warm_up"),
    *("reset_every", "reset_on_stall", "reset_margin", "reset_on_drop", "reset_kl_above", "reset_entropy_below"),
)
# What a resumed run may change: how long it goes on, what is watched, what the machine gives it; nothing it computes.
RESUMABLE = {
    *(
        "steps",
        "max_seconds",
        "tensorboard",
        "break_lock",
        "verifier_workers",
        "gpu_memory",
        "timeout_minutes",
        "keep_checkpoints",
    ),
    *("health_stops", "health_entropy_min", "health_length_growth", "health_repetition_max", "health_truncated_max"),
    *("health_kl_max", "health_reward_jump", "async_save"),
}


def run(config_class: type, train: Any, args: list[str] | None, parser: Any = None) -> int:
    """Parse, train, and turn what users can mend into one sentence and an exit code."""
    disable_progress_bar()  # transformers draws one for every folder it reads or writes
    try:
        train((parser or parse)(config_class, args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        saved = f"state saved: continue with --resume {stop.args[0]}" if stop.args else "not saved since the last save"
        print(f"stopped; {saved}", file=sys.stderr)
        return 130
    finally:
        release_all()  # whatever ended the run, it writes no more
    return 0


def parse(config_class: type, args: list[str] | None) -> Any:
    """The command line as a Config.  With --resume, the stored settings are the defaults and may not be changed."""
    given = tyro.cli(config_class, args=args, description="ProRL on one device; a run is a folder.")
    if not given.resume:
        return given
    stored = stored_settings(Path(given.resume))
    names = {f.name for f in dataclasses.fields(config_class)}
    if set(stored) != names:
        raise UserError(
            f"{given.resume} was written by another version ({sorted(set(stored) ^ names)}): start a new run"
        )
    stored["resume"] = given.resume
    again = tyro.cli(config_class, args=args, default=config_class(**stored))
    changed = [n for n in names - RESUMABLE - {"resume"} if getattr(again, n) != stored[n]]
    if changed:
        raise UserError(
            f"--resume continues with the stored settings, but {', '.join(sorted(changed))} was given another value: "
            "leave it out, or start a new run with --out"
        )
    return again


def stored_settings(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder} is not a run folder (no readable config.json): give --resume a folder made by --out"
        ) from error


def resolve(config: Any) -> Any:
    """Fill what was left open and check the rest; the input is not changed.  Raises UserError."""
    config = dataclasses.replace(config)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("no GPU found: run `make mini`, or pass --device cpu")
    if config.device == "auto":
        config.device = "cuda" if torch.cuda.is_available() and config.model != "laptop" else "cpu"
    if config.dtype == "auto":
        config.dtype = "bfloat16" if config.device == "cuda" else "float32"
    for name, value in DEFAULTS["laptop" if config.model == "laptop" else "model"].items():
        if getattr(config, name) is None:
            setattr(config, name, value)
    if config.out is None:
        config.out = f"runs/{datetime.datetime.now():%Y-%m-%d-%H%M%S}-mini"
    config.threads = config.threads or torch.get_num_threads()
    check(config)
    return config


def check(config: Any) -> None:
    """Settings that can't work, each with what to do instead."""
    for name in AT_LEAST_ONE:
        if getattr(config, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(config, name)}: give at least 1")
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "TensorBoard is not installed: install the version in requirements-rewards.txt, or leave out --tensorboard"
        )
    if config.answers_per_prompt < 2:
        raise UserError(
            "--answers-per-prompt 1 leaves nothing to compare an answer with, so every advantage is 0: give at least 2"
        )
    for name in ("temperature", "eval_temperature", "learning_rate", "grad_clip"):
        if not getattr(config, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, not {getattr(config, name)}")
    for name in NOT_NEGATIVE:
        if getattr(config, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} must not be negative, but is {getattr(config, name)}")
    if config.eps_low >= 1:
        raise UserError(
            f"--eps-low {config.eps_low} lets a ratio fall to 0 or below: give less than 1 (the paper: 0.2)"
        )
    watching = {"reset_on_stall": config.reset_on_stall, "reset_on_drop": config.reset_on_drop,
                "reset_to": config.reset_to == "best"}  # fmt: skip
    for name in (name for name, on in watching.items() if on and not config.eval_every):
        raise UserError(
            f"--{name.replace('_', '-')} needs validation, which --eval-every 0 turns off: set --eval-every"
        )
    if config.reset_kl_above and not config.kl_coef:
        raise UserError("--reset-kl-above watches the KL, which --kl-coef 0 does not measure: set --kl-coef")
    if config.overlong_buffer >= config.max_new_tokens:
        raise UserError(
            f"--overlong-buffer {config.overlong_buffer} must be less than --max-new-tokens {config.max_new_tokens}"
        )
    if config.model != "laptop" and config.task == "laptop":
        raise UserError(
            "--task laptop speaks the 38 words of the laptop model only: give --model laptop, or another --task"
        )
    if config.model == "laptop" and config.task != "laptop":
        raise UserError(
            f"the laptop model knows 38 words and can't read {config.task!r}: give --model a Hugging Face model"
        )


def check_eval_sets(config: Any, tiers: list[str]) -> None:
    """Raise UserError where the validation blend names a set that the task does not have, or weighs none."""
    unknown = sorted(set(config.eval_sets or ()) - set(tiers))
    if unknown:
        raise UserError(
            f"--eval-sets names {', '.join(unknown)}, and the task has {', '.join(tiers)}: give some of those"
        )
    if config.eval_sets and not (min(config.eval_sets.values()) >= 0 and sum(config.eval_sets.values()) > 0):
        raise UserError("--eval-sets needs weights of at least 0, one of them above: mend them")


def check_prompt_fits(prompt: list[int], model_config: Any, config: Any) -> None:
    """Raise UserError where a prompt is longer than allowed, or with its answer than the model's context."""
    context = getattr(model_config, "max_position_embeddings", None)
    if config.max_prompt_tokens and len(prompt) > config.max_prompt_tokens:
        raise UserError(
            f"a prompt of {len(prompt)} tokens exceeds --max-prompt-tokens {config.max_prompt_tokens}: raise it, "
            "or choose another task"
        )
    if context and len(prompt) + config.max_new_tokens > context:
        raise UserError(
            f"a prompt of {len(prompt)} tokens and an answer of {config.max_new_tokens} do not fit the model's context "
            f"of {context}: lower --max-new-tokens, or choose another task"
        )


def explain_bad_steps(config: Any, any_contrast: bool, folder: Path) -> str:
    """Why a run gave up."""
    if not any_contrast:
        return (
            "no group ever had contrast, so there was nothing to learn from: all answers to each prompt earned the "
            "same; choose tasks that the model solves now and then, or raise --max-new-tokens "
            f"(state saved in {folder})"
        )
    return (
        f"{config.max_bad_steps} steps in a row had no contrast or a loss that is not finite: see metrics.jsonl, "
        f"then lower --learning-rate or change the task (state saved in {folder})"
    )
