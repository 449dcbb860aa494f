"""What a run would take, before anything is started: what is missing, its stages, batches, tokens, memory and time.

    python -m prorl_scale.train --recipe prorl-1.5b --dry-run [--gpus 32] [--gpu H100]

Arithmetic on shapes and settings; needs neither torchrun, nor a GPU, nor vLLM, nor the weights.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import torch

from prorl_lab import cost, devices
from prorl_lab.dry_run import opened
from prorl_lab.errors import UserError
from prorl_lab.hub import known_shape, model_folder
from prorl_lab.shapes import FITS, FULL, Shape
from prorl_lab.wording import amount, term
from prorl_scale import memory, recipes, start
from prorl_scale.config import Config, longest_answer, recipe_of, resolve, stages_of
from prorl_scale.missing import Missing, missing_data, missing_model

# ProRL names 4 nodes of 8 H100 and "16k GPU hours" in all: its eight runs, and whatever was tried beside them.
PAPER_GPU_HOURS = 16_000
PAPERS = ("prorl-1.5b", "prorl-1.5b-auto")
STAGE = 22  # characters


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
    mean_share: float  # expected mean length of an answer, as a share of that

    @property
    def batch(self) -> int:
        return self.prompts * self.answers

    @property
    def most(self) -> int:
        """Tokens that one step trains on, if every answer is as long as it may be."""
        return self.batch * self.limit

    @property
    def expected(self) -> float:
        return self.mean_share * self.most

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
                      now.updates_per_step, now.max_new_tokens, now.expect_length)
        )  # fmt: skip
        first = None if last is None or stage.ends_at_reset else last + 1
    return plans


def run_tokens(plans: list[StagePlan], steps: int) -> tuple[float, float]:
    """Expected tokens of the whole run: least and most, which differ where stages end at a reset not known yet."""
    return over_run([plan.expected for plan in plans], plans, steps)


def over_run(each: list[float], plans: list[StagePlan], steps: int) -> tuple[float, float]:
    """What a step of each stage takes, summed over the run: least and most."""
    known = [plan.steps for plan in plans]
    if None not in known:
        total = sum(one * count for one, count in zip(each, known, strict=True))
        return total, total
    return steps * min(each), steps * max(each)


# ---------------------------------------------------------------- time


def site_of(config: Config, shape: Shape, gpus: int) -> cost.Site:
    """The model on what the run is planned for."""
    gpu = devices.of(config.gpu) if config.device == "cuda" else None
    return cost.site_of(config, shape, gpu, gpus, cost.VLLM if gpu else cost.VLLM_CPU)


def guess_of(config: Config) -> cost.Guess:
    """What the settings expect of the answers."""
    return dataclasses.replace(cost.guess_of(config), keep=config.expect_kept, mean_answer=config.expect_length)


def gpu_hours(config: Config, stages: list[Config], site: cost.Site) -> tuple[float, float]:
    """Hours times ranks of the whole run: least and most, which differ where stages end at a reset not known yet."""
    each = [sum(cost.step_seconds(now, site, guess_of(now)).values()) * site.ranks / 3600 for now in stages]
    return over_run(each, stage_plans(config), config.steps)


@dataclass(frozen=True)
class Variant:
    """Settings to compare with those planned."""

    name: str
    changes: dict[str, Callable[[Any], Any]] = field(default_factory=dict)  # setting: from the planned value
    ranks: float = 1.0  # times those planned
    same: bool = True  # does it compute the same, up to rounding?

    def of(self, config: Config) -> Config:
        return dataclasses.replace(config, **{key: new(getattr(config, key)) for key, new in self.changes.items()})


def times(factor: float) -> Callable[[int], int]:
    return lambda value: max(1, int(value * factor))


OFF, ON = {"gradient_checkpointing": lambda _: False}, {"gradient_checkpointing": lambda _: True}
VARIANTS = [
    Variant("as planned"),
    Variant("gradient checkpointing on", ON),
    Variant("gradient checkpointing off", OFF),
    *(Variant(f"off, micro-batches of 1/{part}", {**OFF, "microbatch_tokens": times(1 / part)}) for part in (2, 4)),
    Variant("micro-batches twice as large", {"microbatch_tokens": times(2)}),
    Variant("half the GPUs", ranks=0.5),
    Variant("twice the GPUs", ranks=2.0),
    Variant("half the answers to a prompt", {"answers_per_prompt": times(0.5)}, same=False),
    Variant("twice the answers to a prompt", {"answers_per_prompt": times(2)}, same=False),
    Variant("half the context", {"max_new_tokens": times(0.5)}, same=False),
    Variant("twice the context", {"max_new_tokens": times(2)}, same=False),
]


# ---------------------------------------------------------------- a run that has begun


COMPARED = 20  # first steps that a run is compared with its plan after


def seen_guess(config: Config, rows: list[dict[str, Any]]) -> cost.Guess:
    """What the answers of these steps were, in place of what was expected."""
    tiers = [tier for row in rows for tier in row["ledger"].values()]
    generated, kept = (sum(tier[key] for tier in tiers) for key in ("generated", "kept"))
    lengths = [row["length"] for row in rows if row["length"] is not None]
    mean = fmean(lengths) / config.max_new_tokens if lengths else config.expect_length
    return dataclasses.replace(guess_of(config), keep=max(kept, 1) / max(generated, 1), mean_answer=min(1.0, mean))


def compare(config: Config, site: cost.Site, rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Seconds of a step by phase: "predicted" by the plan, "with these answers" that it got, and "seen" (medians)."""
    phases = [phase for phase in cost.PHASES if f"seconds_{phase}" in rows[0]]
    plans = {"predicted": guess_of(config), "with these answers": seen_guess(config, rows)}
    table = {name: cost.step_seconds(config, site, guess) for name, guess in plans.items()}
    table = {name: {phase: seconds[phase] for phase in phases} for name, seconds in table.items()}
    return {**table, "seen": {phase: median(row[f"seconds_{phase}"] for row in rows) for phase in phases}}


def comparison_text(table: dict[str, dict[str, float]]) -> str:
    """`compare` as a table, and by how much the step as a whole differs."""
    lines = [f"{'seconds of a step':20}" + "".join(f"{phase:>10}" for phase in table["seen"]) + f"{'together':>10}"]
    for name, seconds in table.items():
        lines += [f"{name:20}" + "".join(f"{value:10.3g}" for value in (*seconds.values(), sum(seconds.values())))]
    return "\n".join(lines)


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
    return [
        *lines,
        f"  limit, tokens: of answers, trained on in a step; expected: {config.expect_length:.0%} of the limit",
        *written_lines(config),
        f"  micro-batches: for each GPU and update, of {config.microbatch_tokens:,} tokens, longest prompts included",
    ]


def written_lines(config: Config) -> list[str]:
    """How much more is written than trained on; nothing where all of it is."""
    if not config.dynamic_sampling:
        return []
    count, more = cost.rounds(config, config.expect_kept)
    how = "in one round" if config.draw == "adaptive" else f"in {count:.2g} rounds of all prompts, on average"
    return [
        f"  written, in the long run: {count * more:.2g} times the column 'expected', {how}, where "
        f"{config.expect_kept:.0%} of groups have contrast (--expect-kept); never more than {config.max_rounds} times"
    ]


def microbatches(plan: StagePlan, config: Config, gpus: int) -> int:
    """Of the expected tokens and the longest prompts, each read once; their cut may take a few more."""
    tokens = (plan.expected + plan.prompts * config.max_prompt_tokens) / plan.updates
    return math.ceil(tokens / (config.microbatch_tokens * gpus))


def memory_lines(shape: Shape, config: Config, gpus: int, gpu_bytes: float) -> list[str]:
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
    most = most_bytes(config, shape, gpus, gpu_bytes)
    share = config.gpu_memory * gpu_bytes
    room = memory.cache_tokens(shape, share)
    return [
        *lines,
        term("together with what stays; vLLM sleeps", total, gpu_bytes),
        "  while answers are written",
        term(f"vLLM's share, --gpu-memory {config.gpu_memory:g}", share),
        term("together with what stays", share + sum(stay.values()), gpu_bytes),
        f"  {'fits' if most <= FITS * gpu_bytes else 'does not fit'}: at most {most / 1e9:.1f} GB in any stage, where "
        f"{FITS:.0%} of {gpu_bytes / 1e9:g} GB may be planned with",
        f"    it holds keys and values of {amount(room)} tokens: {room // context} prompts with answers of full length",
        "  not counted: CUDA's context, NCCL, fragmentation, vLLM's rest while it sleeps",
    ]


def time_lines(plans: list[StagePlan], config: Config, site: cost.Site) -> list[str]:
    """Seconds of a step, a line per stage; GPU-hours of the whole run."""
    guess, stages = guess_of(config), stages_of(config)
    lines = [f"seconds of a step on {site.ranks} x {site.device.name}, estimated (prorl_lab/cost.py)"]
    lines += [f"  {'':{STAGE}}" + "".join(f"{phase:>11}" for phase in cost.PHASES) + f"{'together':>11}"]
    for plan, now in zip(plans, stages, strict=True):
        seconds = cost.step_seconds(now, site, guess_of(now))
        row = [*(seconds[phase] for phase in cost.PHASES), sum(seconds.values())]
        lines += [f"  {plan.name:{STAGE}}" + "".join(f"{value:>11.3g}" for value in row)]
    low, high = gpu_hours(config, stages, site)
    spent = span(low, high)
    price = config.gpu_price and f", {span(config.gpu_price * low, config.gpu_price * high)} in money"
    kind = "GPU" if config.device == "cuda" else "processor"
    paper = f"; the paper names {PAPER_GPU_HOURS:,} (see prorl_scale/README.md)" if config.recipe in PAPERS else ""
    return [
        *lines,
        f"  assuming {guess.keep:.0%} of groups with contrast (--expect-kept), answers of {guess.mean_answer:.0%} of "
        f"the limit on average (--expect-length), prompts of {guess.prompt} tokens",
        f"  the whole run: {spent} {kind}-hours, {low / site.ranks:,.1f} hours at least{price or ''}{paper}",
    ]


def span(low: float, high: float) -> str:
    """
    >>> span(1200, 1200), span(1200, 1300)
    ('1,200', '1,200 to 1,300')
    """
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def what_if_lines(config: Config, site: cost.Site) -> list[str]:
    """A line per variant, and which of those that fit and compute the same is the fastest; nothing for a CPU."""
    if config.device == "cpu":
        return []
    lines = [f"what if        {'':{STAGE}}{'s a step':>9}{'GPU-hours':>11}{'GB a GPU':>10}"]
    found, limit = [], FITS * site.device.memory
    for variant in VARIANTS:
        ranks = max(1, int(site.ranks * variant.ranks))
        there = dataclasses.replace(site, ranks=ranks)
        stages = [variant.of(now) for now in stages_of(config)]
        first = sum(cost.step_seconds(stages[0], there, guess_of(stages[0])).values())
        _, hours = gpu_hours(config, stages, there)
        context = config.max_prompt_tokens + longest_answer(stages)
        size = memory.peak(site.shape, variant.of(config), ranks, context, site.device.memory)
        note = "" if size <= limit else "  does not fit"
        lines += [f"  {variant.name:{STAGE + 13}}{first:9.3g}{hours:11,.0f}{size / 1e9:10.1f}{note}"]
        if variant.same and ranks == site.ranks and size <= limit:
            found.append((hours, variant.name))
    if found:
        hours, name = min(found)
        lines += [f"  fastest on {site.ranks} of those that fit and compute the same: {name}, {hours:,.0f} GPU-hours"]
    return [*lines, f"  s a step: of the first stage; fits: in {FITS:.0%} of {site.device.memory / 1e9:g} GB"]


def place(config: Config, gpus: int) -> str:
    """What a run is planned for, and whether this machine is such a one."""
    if config.device == "cpu":
        return f"{gpus} processes on this machine's processors"
    here = torch.cuda.device_count()
    seen = "of which this machine has none" if not here else f"and this machine has {here} GPU{'s' * (here > 1)}"
    return f"{gpus} processes, each on {devices.of(config.gpu).name} (--gpus, --gpu), {seen}"


def report(config: Config, gpus: int, shape: Shape | None, shape_source: str, missing: list[Missing]) -> str:
    """All that `dry_run` prints."""
    plans = stage_plans(config)
    low, high = run_tokens(plans, config.steps)
    total = amount(low) if low == high else f"{amount(low)} to {amount(high)} (stages end at resets)"
    lines = [f"{config.recipe or 'no recipe'}, planned for {place(config, gpus)}; nothing is started", ""]
    for item in missing:
        lines += [f"{item.kind} missing: {item.what}"] + [f"    {item.remedy}"] * (item.remedy is not None)
        if item.kind == "model" and shape:
            lines += [f"    {2 * shape.weights / 1e9:.2g} GB to fetch, if it lies there in bfloat16"]
    lines += [] if missing else ["model and data are there"]
    lines += ["", f"stages, {config.steps} steps in all"] + stage_lines(plans, config, gpus)
    lines += [f"  expected tokens trained on in the whole run: {total}", ""]
    if shape is None:
        return "\n".join([*lines, f"memory: not estimated, since the shape of {config.model} is not known"])
    site = site_of(config, shape, gpus)
    lines += memory_lines(shape, config, gpus, site.device.memory)
    lines += [f"  shape from {shape_source}", "", *time_lines(plans, config, site), "", *what_if_lines(config, site)]
    checkpoint = 4 * FULL * shape.weights  # policy, reference, two moments
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
    """Print the plan.  Raises UserError, after it, where something is missing, does not fit, or would be refused."""
    config, gpus = planned(config)
    for stage in stages_of(config):
        stage.check()
    shape, source = known_shape(config.model)
    missing = [item for item in (missing_model(config.model), missing_data(config)) if item]
    print(report(config, gpus, shape, source, missing))
    if missing:
        raise UserError(f"{' and '.join(item.kind for item in missing)} missing: see above what makes it whole")
    if shape is not None and config.device == "cuda":
        check_memory(config, shape, gpus)
    check_start(config)


def check_start(config: Config) -> None:
    """What a run refuses once it can read prompts, by the function that its start asks.  Raises UserError."""
    folder = None if config.model == "laptop" else model_folder(config.model)
    start.open_task(config, *opened(config, folder), recipe_of(config), stages_of(config))


def most_bytes(config: Config, shape: Shape, gpus: int, there: float) -> float:
    """What a GPU of `there` bytes holds at its fullest, in any stage."""
    context = config.max_prompt_tokens + longest_answer(stages_of(config))
    return max(memory.peak(shape, stage, gpus, context, there) for stage in stages_of(config))


def check_memory(config: Config, shape: Shape, gpus: int) -> None:
    """Raise UserError where a GPU would have to hold more than may be planned with, at any stage."""
    there = devices.of(config.gpu).memory
    most = most_bytes(config, shape, gpus, there)
    if most > FITS * there:
        raise UserError(
            f"a GPU would take {most / 1e9:.1f} GB, more than {FITS:.0%} of {there / 1e9:.3g}: see above what else "
            "could be set; smaller --microbatch-tokens, --gradient-checkpointing, less --gpu-memory or more GPUs help"
        )
