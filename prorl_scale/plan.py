"""What a run would take, before anything is started: what is missing, its stages, batches, tokens and memory.

    python -m prorl_scale.train --recipe prorl-1.5b --dry-run [--gpus 32]

Arithmetic on shapes and settings; needs neither torchrun, nor a GPU, nor vLLM, nor the weights.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch

from prorl_lab.errors import UserError
from prorl_scale import memory, recipes
from prorl_scale.config import Config, longest_answer, recipe_of, resolve, stages_of
from prorl_scale.memory import GPU_BYTES, Shape
from prorl_scale.missing import Missing, missing_data, missing_model

MEAN_SHARE = 0.5  # assumed mean length of an answer, as a share of its limit (ProRL, Fig. 2: 0.4 to 0.7)


# ---------------------------------------------------------------- stages, batches, tokens


@dataclass(frozen=True)
class StagePlan:
    """What one stage does in a step.  Tokens are those of answers; prompts come on top."""

    name: str
    first: int | None  # step; None: wherever the reset is that ends the one before
    last: int | None
    changes: dict[str, Any]
    prompts: int
    answers: int  # to each prompt
    updates: int
    limit: int  # tokens of an answer

    @property
    def batch(self) -> int:
        return self.prompts * self.answers

    @property
    def most(self) -> int:
        """Tokens that one step trains on, if every answer is as long as it may be."""
        return self.batch * self.limit

    @property
    def expected(self) -> float:
        return MEAN_SHARE * self.most

    @property
    def steps(self) -> int | None:
        return None if self.first is None or self.last is None else max(0, self.last - self.first + 1)


def stage_plans(config: Config) -> list[StagePlan]:
    """The stages of a run that `config` starts, those beyond --steps with no step in them."""
    plans, first = [], 1
    stages = recipe_of(config).stages
    for number, (stage, now) in enumerate(zip(stages, stages_of(config), strict=True)):
        open_end = stage.end is None and stage.ends_at_reset
        last = None if open_end else min(stage.end or config.steps, config.steps)
        if number == len(stages) - 1:
            last = config.steps
        plans.append(
            StagePlan(stage.name, first, last, stage.changes, now.prompts_per_step, now.answers_per_prompt,
                      now.updates_per_step, now.max_new_tokens)
        )  # fmt: skip
        first = None if last is None or stage.ends_at_reset else last + 1
    return plans


def run_tokens(plans: list[StagePlan], steps: int) -> tuple[float, float]:
    """Expected tokens of the whole run: least and most, which differ where stages end at a reset not known yet."""
    known = [plan.steps for plan in plans]
    if None not in known:
        total = sum(plan.expected * count for plan, count in zip(plans, known, strict=True))
        return total, total
    each = [plan.expected for plan in plans]
    return steps * min(each), steps * max(each)


# ---------------------------------------------------------------- text


def stage_lines(plans: list[StagePlan], config: Config, gpus: int) -> list[str]:
    """A table with a line per stage, and below it what the stage changes."""
    width = max(10, *(len(plan.name) for plan in plans))
    lines = [
        f"  {'stage':{width + 3}}{'steps':13}{'prompts x answers':>21}{'per GPU':>9}{'mini-batches':>19}{'limit':>8}"
        f"{'tokens: most':>15}{'expected':>15}{'micro-batches':>15}"
    ]
    for number, plan in enumerate(plans, 1):
        steps = f"{plan.first or 'reset'} to {plan.last or 'reset'}"
        batch = f"{plan.prompts} x {plan.answers} = {plan.batch:,}"
        mini = f"{plan.updates} x {plan.batch // plan.updates:,}"
        lines.append(
            f"  {number:<3}{plan.name:{width}}{steps:13}{batch:>21}{plan.batch / gpus:>9g}{mini:>19}{plan.limit:>8,}"
            f"{amount(plan.most):>15}{amount(plan.expected):>15}{microbatches(plan, config, gpus):>15}"
        )
        if plan.changes:
            lines.append("     " + ", ".join(f"{key} = {recipes.text(value)}" for key, value in plan.changes.items()))
    rounds = f"; written: up to {config.max_rounds} times as many" if config.dynamic_sampling else ""
    return [
        *lines,
        f"  limit, tokens: of answers, trained on in a step; expected: assuming {MEAN_SHARE:.0%} of the limit{rounds}",
        f"  micro-batches: for each GPU and update, of {config.microbatch_tokens:,} tokens, longest prompts included",
    ]


def microbatches(plan: StagePlan, config: Config, gpus: int) -> int:
    """Of the expected tokens and the longest prompts, each read once; their cut may take a few more."""
    tokens = (plan.expected + plan.prompts * config.max_prompt_tokens) / plan.updates
    return math.ceil(tokens / (config.microbatch_tokens * gpus))


def memory_lines(shape: Shape, config: Config, gpus: int) -> list[str]:
    """What one GPU holds while vLLM writes, and at the peak of an update: a term a line, two totals."""
    half = config.dtype == "bfloat16"
    context = config.max_prompt_tokens + longest_answer(stages_of(config))
    tokens = max(config.microbatch_tokens, context)  # a longer sample makes a micro-batch of its own
    stay = memory.shards(shape, gpus)
    gpu = config.device == "cuda"
    moment, update = memory.update_peak(shape, gpus, tokens, half, config.gradient_checkpointing, gpu)
    kind = "GPU" if gpu else "process"
    lines = [f"memory per {kind}, {shape.weights / 1e9:.2f} billion weights over {gpus}"]
    lines += [term(name, size) for name, size in stay.items()]
    lines += [f"  while training, at its peak in the {moment}, micro-batches of {tokens:,} tokens"]
    lines += [term(name, size) for name, size in update.items() if size]
    total = sum(stay.values()) + sum(update.values())
    if config.device == "cpu":
        return [*lines, term("together", total), "  not counted: vLLM, which shares the machine's memory"]
    share = config.gpu_memory * GPU_BYTES
    room = memory.cache_tokens(shape, share)
    return [
        *lines,
        term("together with what stays; vLLM sleeps", total, total > GPU_BYTES),
        "  while answers are written",
        term(f"vLLM's share, --gpu-memory {config.gpu_memory:g}", share),
        term("together with what stays", share + sum(stay.values()), share + sum(stay.values()) > GPU_BYTES),
        f"    it holds keys and values of {amount(room)} tokens: {room // context} prompts with answers of full length",
        "  not counted: CUDA's context, NCCL, fragmentation, vLLM's rest while it sleeps",
    ]


def term(name: str, size: float, too_much: bool = False) -> str:
    return f"    {name:50}{size / 1e9:8.2f} GB" + (f"  more than {GPU_BYTES / 1e9:g} GB" if too_much else "")


def amount(value: float) -> str:
    """Three digits and a word.

    >>> [amount(x) for x in (512, 33_554_432, 1.2e9, 4.1e13)]
    ['512', '33.6 million', '1.2 billion', '41 trillion']
    """
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}"


def report(config: Config, gpus: int, shape: Shape | None, shape_source: str, missing: list[Missing]) -> str:
    """All that `dry_run` prints."""
    plans = stage_plans(config)
    low, high = run_tokens(plans, config.steps)
    total = amount(low) if low == high else f"{amount(low)} to {amount(high)} (stages end at resets)"
    lines = [f"{config.recipe or 'no recipe'}, planned for {gpus} processes on {config.device}; nothing is started", ""]
    for item in missing:
        lines += [f"{item.kind} missing: {item.what}"] + [f"    {item.remedy}"] * (item.remedy is not None)
    lines += [] if missing else ["model and data are there"]
    lines += ["", f"stages, {config.steps} steps in all"] + stage_lines(plans, config, gpus)
    lines += [f"  expected tokens trained on in the whole run: {total}", ""]
    if shape is None:
        return "\n".join([*lines, f"memory: not estimated, since the shape of {config.model} is not known"])
    lines += memory_lines(shape, config, gpus)
    lines += [f"  shape from {shape_source}"]
    checkpoint = 4 * memory.FULL * shape.weights  # policy, reference, two moments
    return "\n".join(
        [*lines, "", f"disk: {checkpoint / 1e9:.3g} GB a checkpoint, up to {config.keep_checkpoints + 2} at a time"]
    )


# ---------------------------------------------------------------- command


def planned(config: Config) -> tuple[Config, int]:
    """The settings as they would be on the machine that the run is planned for, checked, and its processes.

    Without --device and --dtype that is a machine with GPUs, except for the laptop model.
    """
    device = "cpu" if config.model == "laptop" or config.device == "cpu" else "cuda"
    dtype = config.dtype if config.dtype != "auto" else "bfloat16" if device == "cuda" else "float32"
    stand_in = "float32" if device == "cuda" and dtype == "bfloat16" else dtype  # for a machine without a GPU
    checked = resolve(dataclasses.replace(config, device="cpu", dtype=stand_in))
    gpus = config.gpus or max(1, torch.cuda.device_count())
    return dataclasses.replace(checked, device=device, dtype=dtype), gpus


def dry_run(config: Config) -> None:
    """Print the plan.  Raises UserError, after printing all of it, where something is missing."""
    config, gpus = planned(config)
    for stage in stages_of(config):
        stage.check()
    shape, source = memory.known_shape(config.model)
    missing = [item for item in (missing_model(config.model), missing_data(config)) if item]
    print(report(config, gpus, shape, source, missing))
    if missing:
        raise UserError(f"{' and '.join(item.kind for item in missing)} missing: see above what makes it whole")
