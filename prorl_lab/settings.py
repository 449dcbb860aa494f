"""Settings: those of model, folder and machine, what a setting left open becomes, and which ones can't work."""

import dataclasses
import datetime
import importlib.util
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch

from prorl_lab import devices, hub, laptop, trackers
from prorl_lab.errors import UserError
from prorl_lab.inputs import file_of_python
from prorl_lab.processors import usable_processors

# What a field left at None becomes.  The laptop's values were found by trial (results/), the others follow the paper
# where it states them (learning rate, KL coefficient, 8k context) and one GPU where it does not.
DEFAULTS: dict[str, dict[str, Any]] = {
    "laptop": {
        "task": "laptop",
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

COOLEST = 0.01  # vLLM 0.32 raises a temperature below this to it, with a warning


@dataclass
class Common:
    """Settings of model, folder and machine, which `prorl_mini`, `prorl_v2` and `prorl_scale` share.

    A subclass adds its own, and to the three names below what holds for them.
    """

    # Numbers that must be above 0.  All others must be finite and not negative.
    POSITIVE: ClassVar[frozenset[str]] = frozenset((
        *("save_every", "max_seconds", "steps", "prompts_per_step", "max_new_tokens", "max_prompt_tokens"),
        *("rollout_batch", "max_rounds", "updates_per_step", "microbatch_tokens", "max_bad_steps", "eval_prompts"),
        *("eval_answers", "boundary_answers", "temperature", "eval_temperature", "learning_rate", "grad_clip"),
    ))  # fmt: skip
    # Rules that watch the validation score.
    NEED_VALIDATION: ClassVar[frozenset[str]] = frozenset(("reset_on_stall", "reset_on_drop"))
    # What a resumed run may change: how long it goes on, what is watched, what the machine gives; not what it computes.
    # The two limits are among them because a prompt that exceeds one ends a run at whatever step it comes.
    RESUMABLE: ClassVar[frozenset[str]] = frozenset((
        *("steps", "max_seconds", "track", "break_lock", "max_prompt_tokens", "max_new_tokens"),
        *("threads", "save_every", "offload_reference", "dry_run", "gpu"),
    ))  # fmt: skip

    model: str = "laptop"  # "laptop", or a Hugging Face name or folder
    # "laptop", Reasoning Gym names joined by commas, a .jsonl of question and answer, a .py of your own
    # (prorl_lab/own.py says what is in it; FILE.py:NAME for one of several); in prorl_scale a prepared folder
    task: str | None = None
    skip_bad_rows: bool = False  # leave out rows of a .jsonl that can't be used, and count them, instead of stopping
    # Reasons of prorl_lab/judge.py, such as "asks for a proof", for which a row of a .jsonl is used all the same
    keep: list[str] = dataclasses.field(default_factory=list)
    out: str | None = None  # the run folder; default runs/<date>-mini
    dry_run: bool = False  # say whether the run would fit, and how long a step may take; start nothing
    gpu: str | None = None  # for --dry-run: GB of memory, or a name from prorl_lab/devices.py; None: the card at hand
    resume: str | None = None  # an interrupted run folder: continue it with the settings stored there
    break_lock: bool = False  # take over a folder that another machine has locked, which you know to be dead
    track: Literal["off", "tensorboard", "wandb", "trackio"] = "off"  # give its metrics to one of these as well
    # NAME=VALUE for the chat template, where it has such a switch: enable_thinking=false, reasoning_effort=low
    chat_template_kwargs: list[str] = dataclasses.field(default_factory=list)
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"  # of the computation; weights stay float32
    threads: int | None = None  # of torch, on a CPU; None or 0: see `default_threads`
    rollout_batch: int | None = None  # answers written side by side; on a GPU as many as its memory holds
    microbatch_tokens: int | None = None  # of one backward pass, padding included
    gradient_checkpointing: bool | None = None  # compute activations again in the backward pass instead of keeping them
    lora_rank: int = 0  # train adapters of this rank; a reset merges them into the base, which is the reference; 0: all
    bfloat16_reference: bool = False  # a little over half the bytes, the same log-probs; with --dtype bfloat16
    offload_reference: bool = False  # keep the reference in host memory; it visits the GPU when it scores
    adam_8bit: bool = False  # keep Adam's two moments in 8 bits
    base_cache: str = "runs/base-models"  # where warmed-up laptop models are kept
    warm_up_steps: int = 450  # supervised steps of the laptop model; 0: random weights
    max_seconds: float | None = None  # end training early, after this many seconds of steps
    save_every: int = 20

    def check(self) -> None:
        """Raise UserError for settings that can't work, with what to do instead."""
        check(self)


# ---------------------------------------------------------------- before a run


def resolve(config: Any) -> Any:
    """Fill what was left open and check the rest; the input is not changed.  Raises UserError."""
    config = dataclasses.replace(config)
    if config.device == "cuda" and not torch.cuda.is_available() and not config.dry_run:
        raise UserError("no GPU found: run `make mini`, or pass --device cpu")
    if config.device == "auto":
        config.device = "cuda" if torch.cuda.is_available() and config.model != "laptop" else "cpu"
    if config.dtype == "auto":
        config.dtype = "bfloat16" if config.device == "cuda" else "float32"
    for name, value in defaults(config.model, config.task).items():
        chosen_later = name == "rollout_batch" and config.device == "cuda"  # by the memory there is
        if getattr(config, name) is None and not chosen_later:
            setattr(config, name, value)
    if config.out is None:
        config.out = f"runs/{datetime.datetime.now():%Y-%m-%d-%H%M%S}-mini"
    config.check()
    config.threads = config.threads or default_threads(small=config.model == "laptop")
    return config


def defaults(model: str, task: str | None = None) -> dict[str, Any]:
    """What a setting left open becomes for this model and task."""
    found = dict(DEFAULTS["laptop" if model == "laptop" else "model"])
    if file_of_python(task or ""):
        found["binary_reward"] = False  # an own score in between would be rounded away without a word
    return found


SMALL_MODEL_THREADS = 2  # more than two have not been measured on matrices as small as the laptop model's


def default_threads(small: bool) -> int:
    """Threads of torch for this process: as many as OMP_NUM_THREADS says, else its share of the processors we may use.

    small: has the model matrices too small to be worth many threads?  Where no processor is hidden from torch it knows
    better: it leaves out those that are half of a core.  torchrun says OMP_NUM_THREADS=1 to many processes that were
    told nothing, so there a 1 is no one's wish.
    """
    ranks, said = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), os.environ.get("OMP_NUM_THREADS")
    by_torchrun = ranks > 1 and said == "1"
    if said and not by_torchrun:
        return torch.get_num_threads()
    share = max(1, usable_processors() // ranks)
    if not by_torchrun:
        share = min(share, torch.get_num_threads())
    return min(share, SMALL_MODEL_THREADS) if small else share


def check(config: Any) -> None:
    """What has to hold of every program's settings.  Raises UserError."""
    check_choices(config)
    check_numbers(config)
    check_context(config)
    check_economies(config)
    check_packages(config)
    for item in config.chat_template_kwargs:
        named_value(item)
    if config.gpu:
        devices.of(config.gpu)  # or raises UserError
    if config.gpu != type(config).gpu and not config.dry_run:
        raise UserError("--gpu says what --dry-run plans for: give that as well, or leave it out")
    if config.track != "off" and importlib.util.find_spec(config.track) is None:
        raise UserError(
            f"{config.track} is not installed: install the version in {trackers.LISTED[config.track]}, or leave out "
            "--track"
        )
    if config.answers_per_prompt < 2:
        raise UserError(
            f"--answers-per-prompt {config.answers_per_prompt} leaves nothing to compare an answer with, so every "
            "advantage is 0: give at least 2"
        )
    for name in ("temperature", "eval_temperature"):
        if getattr(config, name) < COOLEST:
            raise UserError(
                f"{flag(name)} {getattr(config, name)} is below {COOLEST}, where log-probs overflow and vLLM samples "
                "at another temperature than it is given: give at least that"
            )
    if config.eps_low >= 1:
        raise UserError(
            f"--eps-low {config.eps_low} lets a ratio fall to 0 or below: give less than 1 (the paper: 0.2)"
        )
    for name in sorted(config.NEED_VALIDATION):
        if getattr(config, name) and not config.eval_every:
            raise UserError(f"{flag(name)} needs validation, which --eval-every 0 turns off: set --eval-every")
    for name in ("skip_bad_rows", "keep"):
        if getattr(config, name) and not config.task.endswith(".jsonl"):
            raise UserError(
                f"{flag(name)} is about the rows of a .jsonl, and --task {config.task} is none: leave it out"
            )
    if config.model != "laptop" and config.task == "laptop":
        raise UserError(
            "--task laptop speaks the 38 words of the laptop model only: give --model laptop, or another --task"
        )
    # A file of one's own may ask in those words.
    if config.model == "laptop" and config.task != "laptop" and not file_of_python(config.task):
        raise UserError(
            f"the laptop model knows 38 words and can't read {config.task!r}: give --model a Hugging Face model"
        )


def context_of(model: str) -> int | None:
    """Tokens that a model can read, prompt and answer together, as its config says; None where that is not here yet."""
    if model == "laptop":
        return laptop.CONTEXT
    folder = hub.model_folder(model)
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8")) if folder else {}
        return told.get("text_config", told).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return None  # whoever loads it will say what is wrong


def check_context(config: Any) -> None:
    """Do the longest prompt and answer fit the model?  Before anything is loaded.  Raises UserError."""
    context, answer, prompt = context_of(config.model), config.max_new_tokens, config.max_prompt_tokens
    if not isinstance(context, int):
        return
    if answer >= context:
        raise UserError(
            f"--max-new-tokens {answer} leaves no prompt room in the model's context of {context}: give at most "
            f"{context - 1}, less the longest prompt"
        )
    if prompt and prompt + answer > context:
        raise UserError(
            f"--max-prompt-tokens {prompt} and --max-new-tokens {answer} are more than the model's context of "
            f"{context}: give --max-prompt-tokens {context - answer}, or shorter answers"
        )


def check_economies(config: Any) -> None:
    """Raise UserError where settings that save memory exclude each other, or others."""
    if config.bfloat16_reference and config.dtype != "bfloat16":
        raise UserError(
            f"--bfloat16-reference rounds what --dtype {config.dtype} computes with in full, so that KL would not be 0 "
            "after a reset: leave it out, or give --dtype bfloat16"
        )
    if config.adam_8bit and config.dtype == "float64":
        raise UserError("--adam-8bit updates weights in float32: leave it out, or give another --dtype")
    if not config.lora_rank:
        return
    for name in ("bfloat16_reference", "offload_reference"):
        if getattr(config, name):
            raise UserError(
                f"{flag(name)} has nothing to make smaller, since with --lora-rank the reference is the policy without "
                "its adapter: leave one of them out"
            )
    if config.reset_keeps_optimizer:
        raise UserError(
            "--reset-keeps-optimizer would keep the moments of an adapter that a reset merges away: leave it out, or "
            "leave out --lora-rank"
        )
    if getattr(config, "reset_to", "policy") == "best":
        raise UserError(
            "--reset-to best needs a reference of its own, and with --lora-rank it is the policy without its adapter: "
            "leave one of them out"
        )


def named_value(item: str) -> tuple[str, str]:
    """A NAME=VALUE of --chat-template-kwargs.  Raises UserError for another form."""
    name, given, text = item.partition("=")
    if not given or not name.isidentifier():
        raise UserError(f"--chat-template-kwargs {item}: give NAME=VALUE, as in enable_thinking=false")
    return name, text


def check_packages(config: Any) -> None:
    """Raise UserError where a setting needs a package that is not installed."""
    for name, package in {"lora_rank": "peft", "adam_8bit": "bitsandbytes"}.items():
        if getattr(config, name) and importlib.util.find_spec(package) is None:
            raise UserError(
                f"{flag(name)} needs the package {package}: install the version in requirements-options.txt, or leave "
                "it out"
            )


def check_choices(config: Any) -> None:
    """A setting with a list of words has one of them, also where no command line looked.  Raises UserError."""
    for name, kind in get_type_hints(type(config)).items():
        if get_origin(kind) is Literal and getattr(config, name) not in get_args(kind):
            words = ", ".join(map(str, get_args(kind)))
            raise UserError(f"{flag(name)} is one of {words}, not {getattr(config, name)!r}: give one of these")


def check_numbers(config: Any) -> None:
    """No number of any setting is NaN, infinite or negative, and those of `POSITIVE` are above 0.  Raises UserError.

    A NaN passes every comparison that asks for something wrong, so it is refused before the rules that compare.
    """
    for field in dataclasses.fields(config):
        positive = field.name in config.POSITIVE
        for value in numbers(getattr(config, field.name)):
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{flag(field.name)} must be a finite number, but is {value}: give another")
            if positive and value <= 0 and isinstance(value, int):
                raise UserError(f"{flag(field.name)} is {value}: give at least 1")
            if positive and value <= 0:
                raise UserError(f"{flag(field.name)} must be above 0, but is {value}: give another")
            if value < 0:
                raise UserError(f"{flag(field.name)} must not be negative, but is {value}: give at least 0")
            if isinstance(value, int) and value >= 2**63:
                raise UserError(f"{flag(field.name)} is {value}, more than 64 bits hold: give a smaller number")


def numbers(value: Any) -> Iterator[float]:
    """Every number in a setting, those in lists and dicts included; a truth value is none."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        yield from (number for item in value for number in numbers(item))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def flag(name: str) -> str:
    """How a setting is called on the command line."""
    return f"--{name.replace('_', '-')}"


def check_eval_sets(config: Any, tiers: list[str]) -> None:
    """Raise UserError where the validation blend names a set that the task does not have, or weighs none."""
    unknown = sorted(set(config.eval_sets or ()) - set(tiers))
    if unknown:
        raise UserError(
            f"--eval-sets names {', '.join(unknown)}, and the task has {', '.join(tiers)}: give some of those"
        )
    if config.eval_sets and not (min(config.eval_sets.values()) >= 0 and sum(config.eval_sets.values()) > 0):
        raise UserError("--eval-sets needs weights of at least 0, one of them above: mend them")


# ---------------------------------------------------------------- during a run


def that_fits(prompt: list[int], model_config: Any, config: Any) -> list[int]:
    """The prompt.  Raises UserError where it is longer than allowed, or with its answer than the model's context."""
    context = getattr(model_config, "max_position_embeddings", None)
    if config.max_prompt_tokens and len(prompt) > config.max_prompt_tokens:
        raise UserError(
            f"a prompt of {len(prompt)} tokens exceeds --max-prompt-tokens {config.max_prompt_tokens}: raise it (a "
            "resumed run may), or choose another task"
        )
    if not prompt:
        raise UserError("a prompt has no token at all: give a task whose questions the model's tokenizer can write")
    if max(prompt) >= (rows := model_config.get_text_config(decoder=True).vocab_size):
        raise UserError(
            f"a prompt has the token {max(prompt)}, and the model's embedding {rows} rows: give the model a tokenizer "
            "that belongs to it, or choose a task without that token"
        )
    if context and len(prompt) + config.max_new_tokens > context:
        raise UserError(
            f"a prompt of {len(prompt)} tokens and an answer of {config.max_new_tokens} do not fit the model's context "
            f"of {context}: lower --max-new-tokens (a resumed run may), or choose another task"
        )
    return prompt


def reason_to_leave(run: Any, asked: bool) -> BaseException | None:
    """What to raise, once the state is saved, where a run gives up or was asked to stop; None: it goes on."""
    if run.state.bad_steps >= run.config.max_bad_steps:
        return UserError(explain_bad_steps(run))
    return KeyboardInterrupt(str(run.folder.path)) if asked else None


def check_contrast(run: Any) -> None:
    """Raise UserError at the end of a run in which there was never anything to learn from."""
    if not run.state.any_contrast:
        raise UserError(explain_bad_steps(run))


def explain_bad_steps(run: Any) -> str:
    """Why a run gave up."""
    if not run.state.any_contrast:
        return (
            "no group ever had contrast, so there was nothing to learn from: all answers to each prompt earned the "
            "same; choose tasks that the model solves now and then, or raise --max-new-tokens "
            f"(state saved in {run.folder.path})"
        )
    return (
        f"{run.config.max_bad_steps} steps in a row had no contrast or a loss that is not finite: see metrics.jsonl, "
        f"then lower --learning-rate or change the task (state saved in {run.folder.path})"
    )
