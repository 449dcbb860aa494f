"""What a run would take, before anything is started: what is missing, its stages, batches, tokens and memory.

    python -m prorl_scale.train --recipe prorl-1.5b --dry-run [--gpus 32]

Arithmetic on shapes and settings; needs neither torchrun, nor a GPU, nor vLLM, nor the weights.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig

from prorl_lab import laptop, tasks
from prorl_lab.errors import UserError
from prorl_lab.run_folder import read_json
from prorl_scale import recipes
from prorl_scale.config import Config, at_stage, longest_answer, resolve, stages_of
from prorl_scale.policy import logits_at_once

GPU_BYTES = 80e9  # of an H100
FULL = 4  # bytes of a float32, which weights, gradients and Adam's moments are
LOGITS_COPIES = 5  # of a chunk, in float32, while it is differentiated: logits, scaled, their log-sum, two gradients
DATA_RECIPE = "prorl-1.5b"  # of prorl_scale.data: all five domains
MEAN_SHARE = 0.5  # assumed mean length of an answer, as a share of its limit (ProRL, Fig. 2: 0.4 to 0.7)


# ---------------------------------------------------------------- the model's shape


@dataclass(frozen=True)
class Shape:
    """A decoder of the Qwen2 or Llama kind; all numbers are dimensions."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int  # of one head
    intermediate: int
    vocabulary: int
    tied: bool  # the head is the embedding

    @property
    def kv(self) -> int:
        """Values that one token's keys, or its values, take in a layer."""
        return self.kv_heads * self.head

    @property
    def layer_weights(self) -> int:
        """Weights of one decoder layer, with the biases of Qwen2's query, key and value (0.004 % where absent)."""
        query = self.heads * self.head
        attention = (self.hidden + 1) * (query + 2 * self.kv) + query * self.hidden
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def root_weights(self) -> int:
        """What stands outside the layers: embedding, head, last norm."""
        return (1 if self.tied else 2) * self.vocabulary * self.hidden + self.hidden

    @property
    def weights(self) -> int:
        return self.layers * self.layer_weights + self.root_weights


# From config.json of the model on the Hugging Face hub, as its fine-tuned copies repeat it.
SHAPES = {recipes.R1_DISTILL: Shape(1536, 28, 12, 2, 128, 8960, 151_936, tied=False)}


def shape_of(config: Any) -> Shape:
    """The shape that a transformers configuration describes."""
    return Shape(
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        config.intermediate_size,
        config.vocab_size,
        config.tie_word_embeddings,
    )


# ---------------------------------------------------------------- memory


def shards(shape: Shape, world: int) -> dict[str, float]:
    """Bytes per GPU that stay: each rank holds its share, in float32."""
    return {
        "weights, shard": FULL * shape.weights / world,
        "Adam's two moments, shard": 2 * FULL * shape.weights / world,
        "reference, shard": FULL * shape.weights / world,
    }


def layer_activations(shape: Shape, half: bool) -> int:
    """Bytes per token that the backward pass of one layer needs, as transformers computes it.

    Each norm keeps its input in float32, and what it hands on before and after its weight; attention its query, key,
    value, and its output as it comes and as the projection reads it; the MLP gate, activated gate, up, and product.
    Left out: of a shared prompt, attention keeps keys and values once more for each answer, which only counts where
    answers are much shorter than their prompt.
    """
    size = 2 if half else FULL
    norms = 2 * (FULL + 2 * size) * shape.hidden
    attention = size * (3 * shape.heads * shape.head + 2 * shape.kv)
    return norms + attention + 4 * size * shape.intermediate


def update_moments(
    shape: Shape, world: int, tokens: int, half: bool, checkpointing: bool, gpu: bool
) -> dict[str, dict[str, float]]:
    """What comes on top of the shards while one micro-batch is trained on, at each moment that may be the peak.

    tokens: of the micro-batch.  half: computed in bfloat16.  gpu: or on a CPU.  -> moment: {term: bytes per process}.
    """
    size = 2 if half else FULL
    head = shape.vocabulary * shape.hidden
    chunk = min(logits_at_once(gpu), tokens * shape.vocabulary)
    layer = tokens * layer_activations(shape, half)
    kept = tokens * size * shape.hidden if checkpointing else layer
    always = {
        "gradients, shard": FULL * shape.weights / world,
        "embedding and head, gathered": size * shape.root_weights,
    }
    inputs = {"activations kept for the backward pass": shape.layers * kept}
    return {
        "backward pass of the head": {
            **always,
            **inputs,
            "last layer's output, its norm, their gradients": tokens * shape.hidden * (FULL + 4 * size),
            "a chunk of logits and its gradient": chunk * (LOGITS_COPIES * FULL + size),
            "gradient of the head, float32": FULL * head,
        },
        "backward pass of a layer": {
            **always,
            **inputs,
            "gradient of the head": size * head,
            "activations of the layer, recomputed": layer if checkpointing else 0,
            "gradients inside its MLP, less what they free": tokens * size * 2 * shape.intermediate,
            "two layers, gathered": 2 * size * shape.layer_weights,
            "gradients of a layer, on their way": (size + FULL) * shape.layer_weights,
        },
        "end of the backward pass": {
            **always,
            "gradients of embedding and head": size * shape.root_weights,
            "the same in float32, on their way": FULL * shape.root_weights,
        },
    }


def update_peak(
    shape: Shape, world: int, tokens: int, half: bool, checkpointing: bool, gpu: bool
) -> tuple[str, dict[str, float]]:
    """The moment that takes the most -> its name, {term: bytes per process}."""
    moments = update_moments(shape, world, tokens, half, checkpointing, gpu)
    return max(moments.items(), key=lambda item: sum(item[1].values()))


def cache_tokens(shape: Shape, vllm_bytes: float) -> int:
    """Tokens whose keys and values fit into what vLLM has besides its bfloat16 weights (its buffers not counted)."""
    return max(0, int((vllm_bytes - 2 * shape.weights) // (2 * 2 * shape.layers * shape.kv)))


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
    stages = stages_of(config).stages
    for number, stage in enumerate(stages):
        now = at_stage(config, number)
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


# ---------------------------------------------------------------- what must be there


@dataclass(frozen=True)
class Missing:
    """Something that is not there, and the command that fetches or makes it, where `what` does not say it."""

    kind: str  # "model" | "data"
    what: str
    remedy: str | None


def model_folder(name: str) -> Path | None:
    """Where the model lies: a folder, or the Hugging Face cache.  The hub is not asked."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError, HFValidationError):
        return None


def missing_model(name: str) -> Missing | None:
    """None where the model can be loaded without the network."""
    if name == "laptop":
        return None
    looks_local = name.startswith((".", "/", "~")) or name.count("/") != 1
    remedy = "give --model a folder that is there, or a name on the hub" if looks_local else f"hf download {name}"
    folder = model_folder(name)
    if folder is None:
        where = "no such folder" if looks_local else "neither a folder nor in the Hugging Face cache"
        return Missing("model", f"{name}: {where}", remedy)
    lacking = lacking_files(folder)
    return Missing("model", f"{name}: {folder} lacks {', '.join(lacking)}", remedy) if lacking else None


def lacking_files(folder: Path) -> list[str]:
    """What a model folder needs and does not have: configuration, tokenizer, every file of its weights."""
    lacking = [] if (folder / "config.json").exists() else ["config.json"]
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        lacking.append("a tokenizer")
    indices = [folder / name for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json")]
    whole = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    if any(path.exists() for path in whole):
        return lacking
    for index in indices:
        if index.exists():
            parts = set(read_json(index)["weight_map"].values())
            return lacking + sorted(part for part in parts if not (folder / part).exists())
    return [*lacking, "weights (model.safetensors)"]


def missing_data(config: Config) -> Missing | None:
    """None where the task can be had, and every domain that a stage trains on or validates with has prepared rows."""
    folder = Path(config.task)
    if not folder.is_dir() and ("/" not in config.task or folder.suffix == ".jsonl"):
        try:
            tasks.load_task(config, [], sandboxed=True)
        except UserError as error:
            return Missing("data", str(error), None)
        return None
    remedy = f"python -m prorl_scale.data prepare --recipe {DATA_RECIPE} --out {folder}"
    manifest = folder / "manifest.json"
    if not manifest.exists():
        reason = "not wholly prepared (no manifest.json)" if folder.is_dir() else "no such folder"
        return Missing("data", f"{folder}: {reason}", remedy)
    lacking = lacking_rows(config, folder, read_json(manifest))
    return Missing("data", f"{folder}: {', '.join(lacking)}", remedy) if lacking else None


def lacking_rows(config: Config, folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Domains without rows, and files without which the manifest promises too much."""
    stages = [at_stage(config, number) for number in range(len(stages_of(config).stages))]
    wanted = {"train": [s.domains for s in stages], "validation": [s.eval_sets for s in stages if s.eval_every]}
    pairs = sorted({(split, domain) for split, sets in wanted.items() for domains in sets for domain in domains or {}})
    rows = manifest["rows"]
    lacking = [f"no {split} rows of {domain}" for split, domain in pairs if not rows.get(domain, {}).get(split)]
    for part in manifest["parts"]:
        files = [Path(split) / f"{part['name']}.parquet" for split, count in part["rows"].items() if count]
        lacking += [f"no {file}" for file in files if not (folder / file).exists()]
    return lacking


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
    context = config.max_prompt_tokens + longest_answer(config)
    tokens = max(config.microbatch_tokens, context)  # a longer sample makes a micro-batch of its own
    stay = shards(shape, gpus)
    moment, update = update_peak(shape, gpus, tokens, half, config.gradient_checkpointing, config.device == "cuda")
    kind = "GPU" if config.device == "cuda" else "process"
    lines = [f"memory per {kind}, {shape.weights / 1e9:.2f} billion weights over {gpus}"]
    lines += [term(name, size) for name, size in stay.items()]
    lines += [f"  while training, at its peak in the {moment}, micro-batches of {tokens:,} tokens"]
    lines += [term(name, size) for name, size in update.items() if size]
    total = sum(stay.values()) + sum(update.values())
    if config.device == "cpu":
        return [*lines, term("together", total), "  not counted: vLLM, which shares the machine's memory"]
    share = config.gpu_memory * GPU_BYTES
    room = cache_tokens(shape, share)
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


def known_shape(name: str) -> tuple[Shape | None, str]:
    """The shape of a model, from its own files or the table here, and which of the two."""
    if name == "laptop":
        return shape_of(laptop.model_config(laptop.WarmUp(), len(laptop.build_tokenizer()))), "the laptop model"
    folder = model_folder(name)
    if folder is not None and (folder / "config.json").exists():
        try:
            return shape_of(AutoConfig.from_pretrained(folder)), str(folder / "config.json")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{folder}/config.json is no decoder's ({error}): choose a model such as Qwen") from error
    return SHAPES.get(name), "a table in prorl_scale/plan.py, since the model is not here"


def dry_run(config: Config) -> None:
    """Print the plan.  Raises UserError, after printing all of it, where something is missing."""
    config, gpus = planned(config)
    shape, source = known_shape(config.model)
    missing = [item for item in (missing_model(config.model), missing_data(config)) if item]
    print(report(config, gpus, shape, source, missing))
    if missing:
        raise UserError(f"{' and '.join(item.kind for item in missing)} missing: see above what makes it whole")
