"""The policy and its reference: a Hugging Face model, sharded over ranks, that scores packed samples."""

import copy
import dataclasses
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import revert_weight_conversion

from prorl_lab import models, probe
from prorl_lab.errors import UserError
from prorl_mini import Sample, token_entropy, token_logprobs
from prorl_scale import batch, distributed

LOGITS_AT_ONCE = 2**24  # in one chunk of the head: 64 MB of float32; the backward pass holds about six such tensors
LARGER_ON_GPU = 8  # each chunk reads and writes the head's whole gradient, which on a GPU would outweigh small chunks
ATTENTION = "prorl_packed"


# ---------------------------------------------------------------- attention that stays within its sample


HARMLESS = {"position_ids", "use_cache", "cache_position", "position_embeddings"}  # told to any attention, change none


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, pieces: batch.Pieces,
    scaling: float | None = None, dropout: float = 0.0, sliding_window: int | None = None,
    softcap: float | None = None, s_aux: Tensor | None = None, is_causal: bool | None = None, **unknown: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention of packed samples: query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D), None.

    The signature is that of transformers' attention interface; `pieces` is what `Scorer` passes to the model.  It has
    no default: a model that does not hand it down must fail here, not attend across samples.

    sliding_window: keys that a query sees, itself included.  softcap: scores s become softcap * tanh(s / softcap).
    s_aux: (H,) a score of each head for a key without a value ("sinks").  Raises UserError on what it does not honour.
    """
    unknown = {name: v for name, v in unknown.items() if v is not None and v is not False and name not in HARMLESS}
    if unknown or dropout or is_causal is False or attention_mask is not None:
        asked = sorted({*unknown, *(["dropout"] if dropout else []), *(["a mask of its own"] if not unknown else [])})
        raise UserError(f"{type(module).__name__} asks for {', '.join(asked)}, which packed attention does not honour")
    grouped = query.shape[1] != key.shape[1]
    keys, values = (take(x, 2, pieces.keys) for x in (key, value))
    plain = softcap is None and s_aux is None
    if plain and query.is_cuda and query.dtype != torch.float32:  # a flash kernel without float32; not yet run on a GPU
        return _ragged(query, keys, values, pieces, sliding_window, scaling), None
    # `split`, not a slice for each piece: the backward pass of a slice fills a whole row with zeros.
    lengths, seen = pieces.starts.diff().tolist(), pieces.key_starts.diff().tolist()
    rows = []
    for q, k, v in zip(query.split(lengths, 2), keys.split(seen, 2), values.split(seen, 2), strict=True):
        mask = _mask(q, k, sliding_window)
        if plain:
            causal = {"is_causal": True} if mask is None else {"attn_mask": mask}
            rows.append(F.scaled_dot_product_attention(q, k, v, **causal, scale=scaling, enable_gqa=grouped))
        else:
            rows.append(_with_scores(q, k, v, mask, scaling, softcap, s_aux))
    return torch.cat(rows, 2).transpose(1, 2), None


def _ragged(
    query: Tensor, keys: Tensor, values: Tensor, pieces: batch.Pieces, window: int | None, scaling: float | None
) -> Tensor:
    """All pieces in one kernel, without masks: query (1, H, T, D), keys, values (1, K, number, D) -> (1, T, H, D).

    torch aligns a piece's queries with the end of its keys: the last query sees the last key, and each one before it
    one key less (torch/nn/attention/varlen.py of 2.13: window_size (-1, 0)); backwards all, or a window.
    """
    from torch.nn.attention.varlen import varlen_attn  # needs CUDA to be of use

    q, k, v = (x[0].transpose(0, 1) for x in (query, keys, values))  # (T or keys, heads, D)
    seen = (-1 if window is None else window - 1, 0)
    out = varlen_attn(
        q, k, v, pieces.starts, pieces.key_starts, pieces.longest, pieces.longest,
        scale=scaling, window_size=seen, enable_gqa=query.shape[1] != keys.shape[1],
    )  # fmt: skip
    return out[None]


def _mask(query: Tensor, key: Tensor, window: int | None) -> Tensor | None:
    """(queries, keys) bool: the last query looks at every key, and each one before it at one less; in a window, at so
    many of the nearest.  None where that is the plain causal mask, which kernels do without."""
    queries, keys = query.shape[2], key.shape[2]
    windowed = window is not None and window < keys
    if queries == keys and not windowed:
        return None
    seen = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    return seen.triu(keys - queries - window + 1) if windowed else seen


def _with_scores(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:  # fmt: skip
    """Attention with what torch's kernels lack, caps (Gemma 2) and sinks (gpt-oss): (1, H, T, D) -> (1, H, T, D).

    They know a term that is added to the scores.  A sink is a key of zeros with such a term; a capped score is all
    term, of a query of zeros.  The term is as large as the scores, so memory grows with the square of a sample.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    term = query.new_zeros(1, query.shape[1], query.shape[2], key.shape[2])
    if softcap is not None:
        scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        term, query = softcap * (scores / softcap).tanh(), torch.zeros_like(query)
    if mask is None:
        mask = torch.ones(term.shape[2:], dtype=torch.bool, device=query.device).tril()
    term = term.masked_fill(~mask, -math.inf)
    if sinks is not None:
        key, value = (F.pad(x, (0, 0, 0, 1)) for x in (key, value))
        term = torch.cat([term, sinks[None, :, None, None].to(term).expand(*term.shape[:3], 1)], -1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=term, scale=scaling)


def take(values: Tensor, dim: int, places: Tensor) -> Tensor:
    """`index_select` for places that come up many times: their gradients are summed in float32.

    A prompt's gradient is a sum over its answers, and in bfloat16 a long sum stops growing.
    """
    return values.to(_accurate(values.dtype)).index_select(dim, places).to(values.dtype)


AttentionInterface.register(ATTENTION, packed_attention)


# ---------------------------------------------------------------- log-probs without a (tokens, vocabulary) matrix


class ChunkedLogprobs(torch.autograd.Function):
    """`token_logprobs` and `token_entropy` of head(hidden), a chunk of tokens at a time, forward and backward.

    hidden (N, D), weight (V, D), targets (N,), bias (V,) -> log-probs (N,), entropies (N,).  Logits are recomputed in
    the backward pass, and the weight's gradient is summed in one buffer.  Entropies have no gradient; without
    `with_entropy`: zeros.  after: see `models.after_head`.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, with_entropy, bias=None, after=lambda logits: logits):
        ctx.save_for_backward(hidden, weight, targets, bias)
        ctx.temperature, ctx.after = temperature, after
        logp = hidden.new_zeros(len(targets), dtype=_accurate(hidden.dtype))
        entropy = torch.zeros_like(logp)
        for part in _chunks(len(targets), weight):
            logits = after(_head(hidden[part], weight, bias).to(logp.dtype))
            logp[part] = token_logprobs(logits[None], targets[None, part], temperature)[0]
            if with_entropy:
                entropy[part] = token_entropy(logits, temperature)
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx, d_logp, _):
        hidden, weight, targets, bias = ctx.saved_tensors
        d_hidden = torch.zeros_like(hidden)
        d_weight = torch.zeros_like(weight, dtype=_accurate(weight.dtype))  # bfloat16 would lose the last chunks
        d_bias = None if bias is None else torch.zeros_like(bias, dtype=d_weight.dtype)
        for part in _chunks(len(targets), weight):
            logits = _head(hidden[part], weight, bias).to(d_weight.dtype).requires_grad_()
            with torch.enable_grad():
                logp = token_logprobs(ctx.after(logits)[None], targets[None, part], ctx.temperature)[0]
            d_logits = torch.autograd.grad(logp, logits, d_logp[part])[0].to(hidden.dtype)
            d_hidden[part] = d_logits @ weight
            if d_bias is not None:
                d_bias += d_logits.sum(0)
            if d_weight.dtype == hidden.dtype:
                d_weight.addmm_(d_logits.T, hidden[part])  # in place: no second (V, D) matrix
            else:
                d_weight += d_logits.T @ hidden[part]
        return (
            d_hidden,
            d_weight.to(weight.dtype),
            None,
            None,
            None,
            d_bias if bias is None else d_bias.to(bias.dtype),
            None,
        )


def plain_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, bias: Tensor | None) -> Tensor:
    """`ChunkedLogprobs` without entropies, by torch's own kernel, in two thirds of its time; float32 on a CPU.

    Not in bfloat16, where torch 2.13 gives log-probs in bfloat16, 0.03 nats off, and not for capped logits.
    """
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=_chunk(weight))
    bias = None if bias is None else bias / temperature
    return -F.linear_cross_entropy(
        hidden / temperature, weight, targets, linear_bias=bias, reduction="none", options=options
    )


def _head(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = models.accurate_product(hidden, weight.T)
    return logits if bias is None else logits + bias


def logits_at_once(gpu: bool) -> int:
    """In one chunk of the head."""
    return LOGITS_AT_ONCE * (LARGER_ON_GPU if gpu else 1)


def _chunk(weight: Tensor) -> int:
    return max(1, logits_at_once(weight.is_cuda) // len(weight))


def _chunks(tokens: int, weight: Tensor) -> Iterator[slice]:
    size = _chunk(weight)
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
        after = models.after_head(self.config)
        if before.dtype == torch.float32 and after is models.unchanged and not with_entropy and len(packed.targets):
            logp = plain_logprobs(before, head.weight, packed.targets, temperature, head.bias)
            return logp, torch.zeros_like(logp)
        return ChunkedLogprobs.apply(before, head.weight, packed.targets, temperature, with_entropy, head.bias, after)


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
    check_packing(model, Path(config.base_cache))
    keep_from_vllm(model)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    device = distributed.device(config.device)
    policy = shard(Scorer(model, device), config)
    return policy, shard(Scorer(reference, device), config, config.offload_reference)


def check_packing(model: Any, proofs: Path | None = None) -> None:
    """Switch a model to packed attention; raise UserError where that changes log-probs on a tiny copy of it."""
    probe.prove(type(model).__name__, model.config, (packing,), proofs)
    model.set_attn_implementation(ATTENTION)


@torch.no_grad()
def packing(model: Any) -> Iterator[tuple[Tensor, str]]:
    """For `probe.prove`: samples in one row, of which two share their prompt, against each alone."""
    rows = probe.samples(model)
    alone = torch.cat([probe.plain(model, s) for s in rows])
    model.set_attn_implementation(ATTENTION)
    yield Scorer(model)(batch.pack(rows, "cpu"), 1.0)[0] - alone, "samples packed into one row and each alone"


def keep_from_vllm(model: PreTrainedModel) -> None:
    """Give a model, in place, classes of its own.

    vLLM 0.32 serves many architectures (SmolLM3, OLMo 2, GPT-NeoX and others) through transformers' own class, which it
    changes for the whole process: `__call__` then reads settings that only vLLM's instance has.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            kind = type(module)
            names = {"__call__": nn.Module.__call__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
            module.__class__ = type(kind.__name__, (kind,), names)


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
    """Name in a checkpoint, and whole tensor, of each weight.  A collective: every rank must exhaust it alike.

    transformers 5 keeps some weights in memory under other names and shapes than in files (the experts of Mixtral are
    one tensor), and samplers know those of files.  One layer at a time is turned back; else, one weight at a time is
    gathered.  Cast before the gather, so that half as many bytes travel where the sampler computes in bfloat16.
    """
    model = policy.model
    converted = getattr(model, "_weight_conversions", None) or get_model_conversion_mapping(model, add_legacy=False)

    def part(item: tuple[str, Tensor]) -> str:
        layer = re.match(r".*?\.\d+\.", item[0])
        return layer[0] if converted and layer else item[0]

    trained = ((name, weight) for name, weight in model.state_dict().items() if isinstance(weight, DTensor))
    for _, weights in itertools.groupby(trained, part):  # without buffers, which nothing shards or changes
        whole = {name: weight.to(dtype).full_tensor() for name, weight in weights}
        yield from (revert_weight_conversion(model, whole) if converted else whole).items()


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
