"""What a run of `prorl_mini` or `prorl_v2` holds on its one device, term by term, and the nearest settings that fit it.

    moments(shape, config, rows) -> {"while answers are written": {"weights": bytes, ...}, ...}

Arithmetic on a shape and settings: no weights are needed.  `tests/test_memory.py` holds it to what torch's own tracker
counts while `prorl_mini` trains and writes.  The same for many devices: `prorl_scale.memory`.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import torch

from prorl_lab import hub, settings
from prorl_lab.errors import UserError
from prorl_lab.shapes import FITS, FULL, LOGITS_AT_ONCE, Shape

HALF = 2  # bytes of a bfloat16
PROMPT = 1024  # tokens of the longest prompt, where no setting says
MOMENT_8BIT = 1 + FULL / 256  # bytes: a code, and a scale for 256 of them (bitsandbytes 0.50)
LOGITS_COPIES = 3  # of a chunk, not in bfloat16, while it is differentiated: log-softmax, and two gradients


def context(config: Any) -> int:
    """Tokens of the longest prompt and its answer."""
    most = settings.context_of(config.model) or PROMPT + config.max_new_tokens
    return min(most, (config.max_prompt_tokens or PROMPT) + config.max_new_tokens)


def width(config: Any) -> int:
    """Bytes of a weight."""
    return 8 if config.dtype == "float64" else FULL


# ---------------------------------------------------------------- what stays


def stays(shape: Shape, config: Any) -> dict[str, float]:
    """What is held all through a run."""
    full, thin = width(config), shape.adapter_weights(config.lora_rank)
    trained = thin or shape.weights
    moment = MOMENT_8BIT if config.adam_8bit else full
    held = {"weights": full * shape.weights, "adapters": full * thin, "Adam's two moments": 2 * moment * trained}
    if not config.offload_reference and not config.lora_rank:
        held["reference"] = reference(shape, config)
    return held


def reference(shape: Shape, config: Any) -> float:
    """Bytes of a reference, wherever it is; see `lean.in_bfloat16`."""
    if not config.bfloat16_reference:
        return width(config) * shape.weights
    head = 0 if shape.tied else shape.vocabulary * shape.hidden
    rounded = shape.layers * shape.layer_matrices + head
    return HALF * rounded + FULL * (shape.weights - rounded)


# ---------------------------------------------------------------- while answers are written


def answer(shape: Shape, config: Any) -> float:
    """Bytes of one answer, prompt included, while it is written beside others.

    Keys and values, of which autocast leaves the keys in float32, for rotation by float32 angles makes them so; those
    of one layer once more for every head, as attention with a mask repeats them; a few rows of logits.
    """
    full, half = width(config), config.dtype == "bfloat16"
    size = HALF if half else full
    cached = (full + size) * shape.layers * shape.kv
    repeated = 2 * size * shape.heads * shape.head + (size * shape.kv if half else 0)
    return context(config) * (cached + repeated) + 4 * full * shape.vocabulary


def copies(shape: Shape, config: Any) -> float:
    """Bytes of the bfloat16 copies of the weights that `models.weights_stay` keeps, and of the head's."""
    matrices = shape.layers * shape.layer_matrices + shape.vocabulary * shape.hidden
    return HALF * matrices if config.dtype == "bfloat16" else 0.0


def answers_that_fit(shape: Shape, config: Any, there: float) -> int:
    """Answers that can be written side by side on a device of `there` bytes; at least one.

    No gradients are held meanwhile.
    """
    room = FITS * there - sum(stays(shape, config).values()) - copies(shape, config)
    return max(1, int(room // answer(shape, config)))


def side_by_side(shape: Shape, config: Any, there: float) -> int:
    """Answers written at once: as many as the settings say or as fit, but a prompt's all together."""
    together = [config.answers_per_prompt]
    together += [config.eval_answers] if config.eval_every else []
    together += [config.boundary_answers] if config.boundary_prompts else []
    return max(config.rollout_batch or answers_that_fit(shape, config, there), *together)


# ---------------------------------------------------------------- while a micro-batch is trained on


def activations(shape: Shape, config: Any) -> float:
    """Bytes per token that the backward pass of one layer needs, in rows as long as a prompt and its answer may be.

    Each norm keeps its input and what it makes of it, and each projection what it reads: under autocast that is a copy
    of its own.  Attention keeps its query, its output, keys and values as it repeats them for every head, and its mask
    as numbers; the MLP gate, activated gate, up, and product.
    """
    full, half = width(config), config.dtype == "bfloat16"
    size = HALF if half else full
    norms = (4 * full + (5 * HALF if half else 2 * full)) * shape.hidden
    return norms + size * (4 * shape.heads * shape.head + 4 * shape.intermediate + context(config))


def updating(shape: Shape, config: Any) -> dict[str, dict[str, float]]:
    """What comes on top of `stays` in the two moments of an update that may be its peak."""
    full, half = width(config), config.dtype == "bfloat16"
    size = HALF if half else full
    tokens = max(config.microbatch_tokens, context(config))  # a longer sample makes a micro-batch of its own
    head, trained = shape.vocabulary * shape.hidden, shape.adapter_weights(config.lora_rank) or shape.weights
    casts = HALF * shape.layer_matrices if half else 0
    layer = tokens * activations(shape, config)
    kept = tokens * full * shape.hidden if config.gradient_checkpointing else layer + casts
    always = {"gradients": full * trained, "activations kept for the backward pass": shape.layers * kept}
    chunk = min(tokens * shape.vocabulary, max(256 * shape.vocabulary, LOGITS_AT_ONCE))
    return {
        "the backward pass of the head": {
            **always,
            "a chunk of logits and their gradients": chunk * LOGITS_COPIES * full,
            "the head in bfloat16": HALF * head * half,
            "gradient of the head, on its way": 0 if config.lora_rank else (full + HALF * half) * head,
        },
        "the backward pass of a layer": {
            **always,
            "activations of the layer, computed again": layer + casts if config.gradient_checkpointing else 0,
            "gradients inside its MLP": tokens * size * 2 * shape.intermediate,
            "what its adapters read, in float32": tokens * full * shape.intermediate
            if config.lora_rank and half
            else 0,
            "gradient of a matrix, on its way": (full + HALF * half) * shape.hidden * shape.intermediate,
        },
    }


# ---------------------------------------------------------------- all of it


def moments(shape: Shape, config: Any, rows: int) -> dict[str, dict[str, float]]:
    """What the device holds at each moment that may be the peak of a run -> moment: {term: bytes}.

    rows: answers written side by side.
    """
    held = stays(shape, config)
    writing = {
        "weights in bfloat16": copies(shape, config),
        f"keys and values of {rows} answers, their logits": rows * answer(shape, config),
    }
    found = {"while answers are written": {**held, **writing}}
    return found | {f"while training, in {name}": {**held, **more} for name, more in updating(shape, config).items()}


def peak(shape: Shape, config: Any, there: float) -> float:
    """Bytes that a run holds at most on a device of `there` bytes."""
    return max(sum(terms.values()) for terms in moments(shape, config, side_by_side(shape, config, there)).values())


def fits(shape: Shape, config: Any, there: float) -> bool:
    return peak(shape, config, there) <= FITS * there


def options(config: Any) -> Iterator[tuple[str, Any]]:
    """Settings that need less, first those that compute the same."""
    yield from (("microbatch_tokens", part) for part in halves(config.microbatch_tokens, context(config)))
    yield "gradient_checkpointing", True
    yield from (("rollout_batch", part) for part in halves(config.rollout_batch or 0, config.answers_per_prompt))
    yield "bfloat16_reference", True
    yield "offload_reference", True
    yield from (("boundary_answers", part) for part in halves(config.boundary_answers, config.answers_per_prompt))
    yield "adam_8bit", True
    yield "lora_rank", 32
    yield from (("max_new_tokens", part) for part in halves(config.max_new_tokens, 128))


def halves(value: int, least: int) -> Iterator[int]:
    """
    >>> list(halves(100, 20))
    [50, 25]
    """
    while (value := value // 2) >= least:
        yield value


def nearest(shape: Shape, config: Any, there: float) -> dict[str, Any]:
    """The fewest settings to change, and to what, so that a run fits `there` bytes; empty where three are too few."""
    found = [(name, value) for name, value in options(config) if getattr(config, name) != value]
    for count in (1, 2, 3):
        for chosen in itertools.combinations(found, count):
            changes = dict(chosen)
            tried = dataclasses.replace(config, **changes)
            with contextlib.suppress(UserError):
                settings.check_economies(tried)
                if len(changes) == count and fits(shape, tried, there):
                    return changes
    return {}


def check(config: Any) -> None:
    """Before a run loads its model: can the GPU hold what stays?  Raises UserError where it can't.

    `--dry-run` is the stricter one: it counts the rest, which is an estimate.
    """
    if config.device != "cuda":
        return
    shape, _ = hub.known_shape(config.model)
    there = torch.cuda.get_device_properties(0).total_memory
    if shape and (held := sum(stays(shape, config).values())) > there:
        raise UserError(
            f"weights, reference and optimizer take {held / 1e9:.1f} GB, and the GPU has {there / 1e9:.1f}: see what "
            "fits with --dry-run"
        )
