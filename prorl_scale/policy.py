"""The policy and its reference: a Hugging Face model, sharded over ranks, that scores packed samples."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from transformers import AttentionInterface

from prorl_lab import models
from prorl_lab.errors import UserError
from prorl_mini import Sample, token_entropy, token_logprobs
from prorl_scale import batch, distributed

LOGITS_AT_ONCE = 2**24  # in one chunk of the head: 64 MB of float32; the backward pass holds about six such tensors
LARGER_ON_GPU = 8  # each chunk reads and writes the head's whole gradient, which on a GPU would outweigh small chunks
ATTENTION = "prorl_packed"


# ---------------------------------------------------------------- attention that stays within its sample


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *,
    scaling: float, pieces: batch.Pieces, **ignored: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention of packed samples: query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D), None.

    The signature is that of transformers' attention interface; `pieces` is what `Scorer` passes to the model.  It has
    no default: a model that does not hand it down must fail here, not attend across samples.
    """
    grouped = query.shape[1] != key.shape[1]
    keys, values = (take(x, 2, pieces.keys) for x in (key, value))
    if query.is_cuda and query.dtype != torch.float32:  # a flash kernel, which has no float32; not yet run on a GPU
        from torch.nn.attention.varlen import varlen_attn  # needs CUDA to be of use

        q, k, v = (x[0].transpose(0, 1) for x in (query, keys, values))  # (T or keys, heads, D)
        causal = (-1, 0)  # the last query of a piece sees its last key, and each one before it one key less
        out = varlen_attn(
            q, k, v, pieces.starts, pieces.key_starts, pieces.longest, pieces.longest,
            scale=scaling, window_size=causal, enable_gqa=grouped,
        )  # fmt: skip
        return out[None], None
    # `split`, not a slice for each piece: the backward pass of a slice fills a whole row with zeros.
    lengths, seen = pieces.starts.diff().tolist(), pieces.key_starts.diff().tolist()
    rows = [
        F.scaled_dot_product_attention(q, k, v, **_causal(q, k), scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(query.split(lengths, 2), keys.split(seen, 2), values.split(seen, 2), strict=True)
    ]
    return torch.cat(rows, 2).transpose(1, 2), None


def _causal(query: Tensor, key: Tensor) -> dict[str, Any]:
    """How the last query looks at every key, and each one before it at one less; only unequal numbers need a mask."""
    queries, keys = query.shape[2], key.shape[2]
    if queries == keys:
        return {"is_causal": True}
    return {"attn_mask": torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)}


def take(values: Tensor, dim: int, places: Tensor) -> Tensor:
    """`index_select` for places that come up many times: their gradients are summed in float32.

    A prompt's gradient is a sum over its answers, and in bfloat16 a long sum stops growing.
    """
    return values.to(_accurate(values.dtype)).index_select(dim, places).to(values.dtype)


AttentionInterface.register(ATTENTION, packed_attention)


# ---------------------------------------------------------------- log-probs without a (tokens, vocabulary) matrix


class ChunkedLogprobs(torch.autograd.Function):
    """`token_logprobs` and `token_entropy` of head(hidden), a chunk of tokens at a time, forward and backward.

    hidden (N, D), weight (V, D), targets (N,) -> log-probs (N,), entropies (N,).  Logits are recomputed in the backward
    pass, and the weight's gradient is summed in one buffer.  Entropies have no gradient; without `with_entropy`: zeros.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, with_entropy):
        ctx.save_for_backward(hidden, weight, targets)
        ctx.temperature = temperature
        logp = hidden.new_zeros(len(targets), dtype=_accurate(hidden.dtype))
        entropy = torch.zeros_like(logp)
        for part in _chunks(len(targets), weight):
            logits = (hidden[part] @ weight.T).to(logp.dtype)
            logp[part] = token_logprobs(logits[None], targets[None, part], temperature)[0]
            if with_entropy:
                entropy[part] = token_entropy(logits, temperature)
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx, d_logp, _):
        hidden, weight, targets = ctx.saved_tensors
        d_hidden = torch.zeros_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=_accurate(weight.dtype))  # bfloat16 would lose the last chunks
        for part in _chunks(len(targets), weight):
            logits = (hidden[part] @ weight.T).to(d_weight.dtype).requires_grad_()
            with torch.enable_grad():
                logp = token_logprobs(logits[None], targets[None, part], ctx.temperature)[0]
            d_logits = torch.autograd.grad(logp, logits, d_logp[part])[0].to(hidden.dtype)
            d_hidden[part] = d_logits @ weight
            if d_weight.dtype == hidden.dtype:
                d_weight.addmm_(d_logits.T, hidden[part])  # in place: no second (V, D) matrix
            else:
                d_weight += d_logits.T @ hidden[part]
        return d_hidden, d_weight.to(weight.dtype), None, None, None


def logits_at_once(gpu: bool) -> int:
    """In one chunk of the head."""
    return LOGITS_AT_ONCE * (LARGER_ON_GPU if gpu else 1)


def _chunks(tokens: int, weight: Tensor) -> Iterator[slice]:
    size = max(1, logits_at_once(weight.is_cuda) // len(weight))
    return (slice(i, i + size) for i in range(0, tokens, size))


def _accurate(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class Scorer(nn.Module):
    """A causal LM whose forward pass returns log-probs of answers instead of logits.

    The head runs inside `forward`, because FSDP2 gathers the weights of the root when its forward pass begins: outside,
    head and embedding are shards.
    """

    def __init__(self, model: Any, device: torch.device | None = None):
        """device: where it computes, if that is not where the weights are (see `shard`)."""
        super().__init__()
        self.model, self.config, self.device = model, model.config, device or model.device

    def forward(self, packed: batch.Packed, temperature: float, with_entropy: bool = False) -> tuple[Tensor, Tensor]:
        """-> log-probs (N,) and entropies (N,) of the answer tokens; prompt positions never reach the head."""
        hidden = self.model.base_model(
            input_ids=packed.ids, position_ids=packed.positions, use_cache=False, pieces=packed.pieces
        ).last_hidden_state[0]
        head = self.model.get_output_embeddings()
        before = take(hidden, 0, packed.before)
        return ChunkedLogprobs.apply(before, head.weight, packed.targets, temperature, with_entropy)


# ---------------------------------------------------------------- load and shard


def load(config: Any, folder: str) -> tuple[Scorer, Scorer, Any]:
    """A model folder -> policy and reference, as `shard_pair` makes them, and the tokenizer."""
    model, tokenizer = models.load_policy(dataclasses.replace(config, model=folder, device="cpu"))
    return *shard_pair(model, config), tokenizer


def shard_pair(model: Any, config: Any) -> tuple[Scorer, Scorer]:
    """A model on the CPU, the same on all ranks -> policy and reference, both sharded over them.

    Weights are float32 and stay it: FSDP2 gathers them in bfloat16 where that is what the computation uses.  Raises
    UserError for a model that packing would change.
    """
    if set(getattr(model.config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        raise UserError(
            f"{config.model} has layers without full attention, which packing does not support: choose another"
        )
    check_packing(model)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    device = distributed.device(config.device)
    policy = shard(Scorer(model, device), config)
    return policy, shard(Scorer(reference, device), config, config.offload_reference)


@torch.no_grad()
def check_packing(model: Any) -> None:
    """Switch a model to packed attention; raise UserError where that changes the log-probs of short samples."""
    samples = [Sample([0, 1, 2], [1, 0]), Sample([2], [1, 1, 0, 2]), Sample([0, 1, 2], [2, 1])]
    plain = []
    for s in samples:
        ids = torch.tensor([s.prompt + s.answer])
        plain.append(token_logprobs(model(input_ids=ids).logits[:, :-1], ids[:, 1:], 1.0)[0, len(s.prompt) - 1 :])
    model.set_attn_implementation(ATTENTION)
    logp, _ = Scorer(model)(batch.pack(samples, "cpu"), 1.0)
    if not torch.allclose(logp, torch.cat(plain).to(logp), atol=1e-4, rtol=1e-4):
        raise UserError(
            f"{type(model).__name__} scores packed samples differently from single ones, so it can't be trained here: "
            "choose a model such as Qwen or Llama"
        )


def shard(scorer: Scorer, config: Any, offload: bool = False) -> Scorer:
    """FSDP2 over all ranks, in place: one group of weights per decoder layer, the rest in the root.

    offload: the shards stay in host memory; each layer is copied to the GPU when its forward pass begins.
    """
    half = config.dtype == "bfloat16"
    mesh = init_device_mesh(config.device, (distributed.world(),))
    precision = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if half else MixedPrecisionPolicy()
    on_gpu = config.device == "cuda"  # memory is pinned for a GPU; without one that is an error
    where = CPUOffloadPolicy(pin_memory=on_gpu) if offload else OffloadPolicy()
    layers = [m for m in scorer.modules() if type(m).__name__ in scorer.model._no_split_modules]
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=precision, offload_policy=where)
    return fully_shard(scorer, mesh=mesh, mp_policy=precision, offload_policy=where, reshard_after_forward=False)


def full_weights(policy: Scorer, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Name and whole tensor of each weight, one at a time.  A collective: every rank must exhaust it alike.

    Cast before the gather, so that half as many bytes travel where the sampler computes in bfloat16.
    """
    for name, weight in policy.model.state_dict().items():
        yield name, weight.to(dtype).full_tensor()


@torch.no_grad()
def score_samples(
    model: Scorer, samples: list[Sample], max_tokens: int, temperature: float, with_entropy: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Log-probs and entropies of every sample's answer, each (answer length,) on the CPU, on every rank.

    The ranks share the work; `samples` must be the same list on all of them.
    """
    parts = batch.cut(samples, max_tokens, distributed.world())[distributed.rank()]
    mine = {}
    for part in parts:
        packed = batch.pack([samples[i] for i in part], model.device)
        columns = (packed.split(values) for values in model(packed, temperature, with_entropy))
        mine.update(zip(part, zip(*columns, strict=True), strict=True))
    # The root keeps its weights gathered until a backward pass; after the optimizer's step that copy would be stale.
    model.reshard()
    scored = {i: values for ranks in distributed.exchange(mine) for i, values in ranks.items()}
    return [scored[i] for i in range(len(samples))]
