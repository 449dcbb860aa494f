"""The dimensions of a decoder, and what follows from them alone: weights, bytes of activations, of keys and values."""

from dataclasses import dataclass
from typing import Any

from prorl_lab.mfu import Size

FULL = 4  # bytes of a float32, which weights, gradients and Adam's moments are


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

    @property
    def size(self) -> Size:
        """What the arithmetic of a forward pass depends on."""
        body = self.layers * self.layer_weights + self.hidden
        return Size(body, self.vocabulary * self.hidden, self.layers * self.heads * self.head)


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


def answers_that_fit(shape: Shape, free: float, context: int, half: bool) -> int:
    """Answers of `context` tokens, prompt included, that `prorl_mini.rollout` can write side by side in `free` bytes.

    free: with weights and reference loaded.  What training adds later, gradients and two moments, stays when the next
    answers are written; so does a bfloat16 copy of the weights while they are.  Each answer takes its keys and values;
    those of one layer once more for every head, as attention with a mask repeats them; and a few rows of logits.

    >>> qwen = Shape(1536, 28, 12, 2, 128, 8960, 151_936, tied=False)
    >>> answers_that_fit(qwen, 65e9, 1024 + 1024, True), answers_that_fit(qwen, 65e9, 1024 + 8192, True)
    (455, 103)
    """
    size = 2 if half else FULL
    rest = (3 * FULL + 2 * half) * shape.weights
    each = 2 * size * context * (shape.layers * shape.kv + shape.heads * shape.head) + 4 * FULL * shape.vocabulary
    return max(1, int((0.9 * free - rest) // each))
