"""What a model takes: its shape, the memory of one rank while it trains, term by term, and of vLLM while it writes.

Arithmetic on shapes and settings; `tests/test_plan.py` holds it to torch's own count.
"""

from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig

from prorl_lab import laptop
from prorl_lab.errors import UserError
from prorl_scale import recipes
from prorl_scale.missing import model_folder
from prorl_scale.policy import logits_at_once

GPU_BYTES = 80e9  # of an H100
FULL = 4  # bytes of a float32, which weights, gradients and Adam's moments are
LOGITS_COPIES = 5  # of a chunk, in float32, while it is differentiated: logits, scaled, their log-sum, two gradients


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


def known_shape(name: str) -> tuple[Shape | None, str]:
    """The shape of a model, from its own files or the table here, and which of the two."""
    if name == "laptop":
        return shape_of(laptop.model_config(laptop.WarmUp(), len(laptop.build_tokenizer()))), "the laptop model"
    folder = model_folder(name)
    if folder is not None and (folder / "config.json").exists():
        try:
            return shape_of(AutoConfig.from_pretrained(folder, trust_remote_code=False)), str(folder / "config.json")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{folder}/config.json is no decoder's ({error}): choose a model such as Qwen") from error
    return SHAPES.get(name), "a table in prorl_scale/memory.py, since the model is not here"


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
