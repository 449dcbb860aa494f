"""What a model takes: the memory of one rank while it trains, term by term, and of vLLM while it writes.

Arithmetic on shapes and settings; `tests/test_plan.py` holds it to torch's own count.
"""

from typing import Any

from prorl_lab.shapes import FULL, Shape, layer_activations
from prorl_scale.policy import logits_at_once

LOGITS_COPIES = 5  # of a chunk, in float32, while it is differentiated: logits, scaled, their log-sum, two gradients


def shards(shape: Shape, world: int) -> dict[str, float]:
    """Bytes per GPU that stay: each rank holds its share, in float32."""
    return {
        "weights, shard": FULL * shape.weights / world,
        "Adam's two moments, shard": 2 * FULL * shape.weights / world,
        "reference, shard": FULL * shape.weights / world,
    }


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


def peak(shape: Shape, config: Any, world: int, context: int, gpu_bytes: float) -> float:
    """Bytes that a GPU holds at most: in an update, or while vLLM writes in its share and the shards stay.

    context: tokens of the longest prompt and answer; such a sample makes a micro-batch of its own.
    """
    tokens, half = max(config.microbatch_tokens, context), config.dtype == "bfloat16"
    _, update = update_peak(shape, world, tokens, half, config.gradient_checkpointing, config.device == "cuda")
    writing = config.gpu_memory * gpu_bytes if config.device == "cuda" else 0.0
    return sum(shards(shape, world).values()) + max(sum(update.values()), writing)


def cache_tokens(shape: Shape, vllm_bytes: float) -> int:
    """Tokens whose keys and values fit into what vLLM has besides its bfloat16 weights (its buffers not counted)."""
    return max(0, int((vllm_bytes - 2 * shape.weights) // (2 * 2 * shape.layers * shape.kv)))
