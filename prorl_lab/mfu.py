"""How much of the GPUs' arithmetic a step used: counts of operations, no measurement of its own.

Counted are the passes that score and train, not vLLM's.  `mfu` leaves out what is computed twice (Chowdhery et al.
2022, "PaLM", appendix B), so that runs with and without gradient checkpointing compare; `hfu` counts it.
"""

from dataclasses import dataclass
from typing import Any

from prorl_lab import devices

Group = tuple[int, list[int]]  # tokens of a prompt, and of each of its answers


@dataclass(frozen=True)
class Size:
    """What the arithmetic of a forward pass depends on."""

    body: int  # weights that every token meets
    head: int  # weights of the output layer, which only answer tokens meet
    attention: int  # layers x heads x width of a head


def size_of(model: Any) -> Size:
    """A Hugging Face causal LM, sharded or not -> its size.  The embedding table is looked up, not multiplied."""
    config, head = model.config, model.get_output_embeddings().weight
    aside = {id(head), id(model.get_input_embeddings().weight)}  # the same one where they are tied
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Size(
        body=sum(p.numel() for p in model.parameters() if id(p) not in aside),
        head=head.numel(),
        attention=config.num_hidden_layers * config.num_attention_heads * width,
    )


def forward_flops(size: Size, groups: list[Group]) -> tuple[float, float]:
    """One forward pass over packed groups -> FLOP of the body, FLOP of the head.

    A prompt is read once for all its answers, the last token of an answer not at all (`batch.pack`); a cut that falls
    among the answers reads it again, which is not counted.  2 for each weight and token; in attention 2 for each query
    and key in q k and 2 in p v; of a piece with itself half the keys are seen.
    """
    read = [(prompt, answer - 1) for prompt, answers in groups for answer in answers]
    tokens = sum(prompt for prompt, _ in groups) + sum(answer for _, answer in read)
    seen = sum(prompt**2 / 2 for prompt, _ in groups) + sum(a * (p + a / 2) for p, a in read)
    predicted = sum(sum(answers) for _, answers in groups)
    return 2 * size.body * tokens + 4 * size.attention * seen, 2 * size.head * predicted


def step_flops(size: Size, groups: list[Group], config: Any, recomputed: bool) -> float:
    """FLOP of one rollout step over all ranks: old and reference log-probs forward, the update forward and backward.

    A backward pass costs two forward ones.  recomputed: add what is computed again in it, the logits always
    (`policy.ChunkedLogprobs`) and the body with gradient checkpointing.
    """
    body, head = forward_flops(size, groups)
    scored = (config.updates_per_step > 1) + (config.kl_coef > 0)
    again = recomputed * ((body if config.gradient_checkpointing else 0.0) + head)
    return (3 + scored) * (body + head) + again


def utilization(
    size: Size, groups: list[Group], config: Any, seconds: float, count: int, device_name: str | None
) -> dict[str, float | None]:
    """`mfu` and `hfu` in [0, 1] of the `seconds` that `count` GPUs scored and updated; None on a CPU or unknown GPU."""
    device = devices.named(device_name) if device_name else None
    if device is None or not groups:
        return {"mfu": None, "hfu": None}
    available = device.flops * count * seconds
    return {
        "mfu": step_flops(size, groups, config, recomputed=False) / available,
        "hfu": step_flops(size, groups, config, recomputed=True) / available,
    }
