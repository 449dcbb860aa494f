"""The dimensions of a decoder, and what follows from them alone: weights, bytes of activations, of keys and values."""

from dataclasses import dataclass
from typing import Any

from prorl_lab.mfu import Size

FULL = 4  # bytes of a float32, which weights, gradients and Adam's moments are
LOGITS_AT_ONCE = 2**26  # of a chunk of `prorl_mini.answer_logprobs`: 256 MB of float32
# Of a GPU's memory.  The rest is CUDA's context and fragmentation, and at scale NCCL and vLLM's rest while it sleeps.
FITS = 0.9


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
    def layer_matrices(self) -> int:
        """Those of them that multiply, biases included: all but two norms."""
        return self.layer_weights - 2 * self.hidden

    def adapter_weights(self, rank: int) -> int:
        """Weights of adapters beside every matrix of the layers, (out, rank) and (rank, in) for each (out, in)."""
        query = self.heads * self.head
        sides = [(query, self.hidden), (self.kv, self.hidden), (self.kv, self.hidden), (self.hidden, query)]
        sides += 3 * [(self.hidden, self.intermediate)]
        return self.layers * rank * sum(map(sum, sides))

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
