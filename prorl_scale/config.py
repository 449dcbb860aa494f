"""Settings of a run: those of `prorl_mini` and `prorl_v2`, and what only many processes and vLLM need."""

import dataclasses
import datetime
import os
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

import prorl_v2
from prorl_lab import cli, flags, settings
from prorl_lab.errors import UserError
from prorl_scale import health, recipes


@dataclass
class Config(prorl_v2.Config):
    """Every setting of a run.  A recipe sets some, the command line overrides it; None takes the model's default."""

    POSITIVE: ClassVar[frozenset[str]] = prorl_v2.Config.POSITIVE | {
        *("gpus", "mismatch_high", "canary_tolerance", "keep_checkpoints", "timeout_minutes", "gpu_memory"),
        *("verifier_workers", "gpu_price", "expect_kept", "expect_length", "eval_top_p"),
    }
    RESUMABLE: ClassVar[frozenset[str]] = prorl_v2.Config.RESUMABLE | {
        *("verifier_workers", "gpu_memory", "timeout_minutes", "keep_checkpoints", "async_save"),
        *("canary_tolerance", "sleep_level", "rollout_batch", "microbatch_tokens"),  # change results by rounding alone
        *("health_stops", "health_entropy_min", "health_length_growth", "health_repetition_max"),
        *("health_truncated_max", "health_kl_max", "health_reward_jump", "health_outside_max"),
    }

    gpus: int | None = None  # for --dry-run: processes to plan for,
    gpu: str = "H100"  # their kind, by a name from prorl_lab/devices.py or GB of memory,
    gpu_price: float | None = None  # of an hour of one, in whatever you pay,
    expect_kept: float = 0.45  # share of groups with contrast,
    expect_length: float = 0.5  # mean tokens of an answer, as a share of max_new_tokens (ProRL, Fig. 2: 0.4 to 0.7)
    recipe: str | None = None  # a name from prorl_scale/recipes.py; its stages then change settings on the way
    domains: dict[str, float] | None = None  # share of each domain in the training prompts; None: the task's own
    pass_rate: list[float] = dataclasses.field(default_factory=list)  # LOW HIGH: see prorl_scale/data/estimate.py
    mismatch: Literal["off", "tis", "icepop", "geometric"] = "off"  # correct for a sampler whose log-probs differ
    # Bounds of exp(trainer's log-prob - sampler's): 0.5 and 5; tis uses the upper one alone.  For geometric, of its
    # geometric mean over an answer: 0.99 and 1.01.
    mismatch_low: float | None = None
    mismatch_high: float | None = None
    eval_top_p: float = 1.0  # of validation and boundary; training samples from the whole distribution
    # mean |log-prob difference| of sampler and trainer; None: 1e-4 in float32, measured at the start in bfloat16
    canary_tolerance: float | None = None
    keep_checkpoints: int = 2  # the last so many, and the one with the best validation
    async_save: bool = True  # write checkpoints while training goes on; costs a copy of the shards in host memory
    timeout_minutes: float = 60.0  # of a collective: longer than the slowest rollout
    gpu_memory: float = 0.5  # share of a GPU's memory that vLLM may take
    sleep_level: Literal[1, 2] = 1  # 1: vLLM keeps its weights in host memory while training; 2: drops them
    verifier_workers: int | None = None  # of each process, to score answers; by default its share of the processors
    unsafe_verifiers: bool = False  # score model text, and run model programs, without a sandbox: with your rights
    # health: limits that a run in good order stays within (prorl_scale/health.py); 0: not watched
    health_entropy_min: float = 0.0  # nats per token
    health_length_growth: float = 0.0  # mean answer length, late over early in the window
    health_repetition_max: float = 0.0  # share of answers that end in a loop
    health_truncated_max: float = 0.0  # share of answers cut off
    health_kl_max: float = 0.0  # to the reference, per token
    health_reward_jump: float = 0.0  # rise of the training reward over the window while validation gained nothing
    health_outside_max: float = 0.1  # share of tokens outside the bounds of `mismatch`
    health_stops: list[str] = dataclasses.field(default_factory=list)  # of these rules; the others warn

    def check(self) -> None:
        """Raise UserError for settings that can't work, with what to do instead."""
        super().check()
        if self.pass_rate and not (len(self.pass_rate) == 2 and 0 <= self.pass_rate[0] < self.pass_rate[1] <= 1):
            raise UserError(f"--pass-rate takes two shares, the lower first, not {self.pass_rate}: give 0.02 0.98, say")
        low, high = self.mismatch_bounds
        if not low < high:
            raise UserError(
                f"--mismatch-low {low} and --mismatch-high {high} leave no ratio between "
                "them: give a lower low bound, or a higher high one"
            )
        if self.eval_top_p > 1:
            raise UserError(f"--eval-top-p {self.eval_top_p} is a share of the probability: give at most 1")
        for name in ("expect_kept", "expect_length"):
            if getattr(self, name) > 1:
                raise UserError(f"{settings.flag(name)} {getattr(self, name)} is a share: give at most 1")
        for name in ("lora_rank", "bfloat16_reference", "adam_8bit"):
            if getattr(self, name):
                raise UserError(
                    f"{settings.flag(name)} is for one device: leave it out, or run prorl_mini.py or prorl_v2.py"
                )
        if self.gpu_memory > 1:
            raise UserError(f"--gpu-memory {self.gpu_memory} is a share of a GPU's memory: give at most 1")
        for name in set(self.health_stops) - set(health.RULES):
            raise UserError(f"--health-stops knows {', '.join(health.RULES)}, not {name!r}")

    @property
    def mismatch_bounds(self) -> tuple[float, float]:
        """Lowest and highest weight that `mismatch` leaves as it is: those given, or its own."""
        low, high = (0.99, 1.01) if self.mismatch == "geometric" else (0.5, 5.0)
        given = self.mismatch_low, self.mismatch_high
        return low if given[0] is None else given[0], high if given[1] is None else given[1]


def parse(config_class: type, args: list[str] | None) -> Any:
    """The command line as a Config, over the recipe's values or, with --resume, over the stored ones."""
    about = "ProRL under torchrun; a run is a folder."
    if "--help" in args or "-h" in args:
        named = recipes.find(args[args.index("--recipe") + 1]).settings if "--recipe" in args[:-1] else {}
        return flags.read(config_class, args, description=about, default=cli.with_defaults(config_class, args, **named))
    given = flags.read(config_class, args, description=about)
    if given.resume or given.recipe is None:
        return cli.parse(config_class, args)
    settings = recipes.find(given.recipe).settings
    return flags.read(config_class, args, default=config_class(**settings, recipe=given.recipe))


def resolve(config: Config) -> Config:
    """Fill what was left open and check the rest, as `prorl_lab.settings.resolve` does.  Raises UserError."""
    if "RANK" not in os.environ and not config.dry_run:
        raise UserError(
            "one process per device is started by torchrun: torchrun --nproc-per-node 1 -m prorl_scale.train"
        )
    if config.out is None:
        config.out = f"runs/{datetime.datetime.now():%Y-%m-%d-%H%M%S}-scale"
    config = settings.resolve(config)
    if config.max_prompt_tokens is None:
        config.max_prompt_tokens = 24 if config.model == "laptop" else 1024
    config.rollout_batch = config.rollout_batch or 256
    if config.canary_tolerance is None and config.dtype == "float32":
        config.canary_tolerance = 1e-4
    if config.dtype == "float64":
        raise UserError("vLLM does not compute in float64: give --dtype float32 or bfloat16")
    if config.dtype == "bfloat16" and config.device == "cpu":
        raise UserError("bfloat16 on a CPU is not supported here: give --dtype float32")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if config.device == "cuda" and local > torch.cuda.device_count():
        raise UserError(
            f"{local} processes for {torch.cuda.device_count()} GPUs: give torchrun --nproc-per-node at most the latter"
        )
    return config


def recipe_of(config: Config) -> recipes.Recipe:
    """The recipe that the run follows; without one, a single stage that changes nothing."""
    return recipes.find(config.recipe) if config.recipe else recipes.Recipe("no recipe", {})


def stages_of(config: Config) -> list[Config]:
    """The settings in force at each stage of its recipe: those of the start, and what the stages up to it change.

    A stage wins over the command line, which says how the run starts.
    """
    recipe = recipe_of(config)
    return [dataclasses.replace(config, **recipe.settings_at(number)) for number in range(len(recipe.stages))]


def longest_answer(stages: list[Config]) -> int:
    """The largest max_new_tokens of any stage.  With the longest prompt it is the context that vLLM is started for.

    One engine serves all stages.  Its memory is divided into pages, so a longer limit costs nothing until it is used,
    and a stage with a longer context needs no new engine.
    """
    return max(stage.max_new_tokens for stage in stages)
