"""What training assumes of a model, proved on a tiny copy of it before the first step.

Every assumption here was broken by some architecture of transformers without a word: the run went on, with log-probs
of another model.  A new one is a generator of (difference, what was compared) in `ASSUMPTIONS`.
"""

import contextlib
import copy
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedConfig
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from prorl_lab.errors import UserError, first_line

TOLERANCE = (
    1e-3  # nats, or of the largest gradient; float32 differs by 1e-5, and the faults that were seen by 1e-2 to 3
)
HEAD = 32  # features of an attention head: the fewest that vLLM's CPU kernels take
WIDE = 8 * HEAD  # a model no wider than this keeps its widths
ROWS = 128  # positions that the tiny copy has
BORDER = 8  # tokens of a window or chunk of the tiny copy,
ROTARY = 16  # and those from which rotary factors might be others
# Sizes of the tiny copy, under the names that architectures of transformers 5.19 give them; smaller ones stay.
SMALL = {
    **dict.fromkeys(
        ("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads", "attention_heads"), 4
    ),
    **dict.fromkeys(("hidden_size", "d_model", "embed_dim", "word_embed_proj_dim", "embedding_size"), 4 * HEAD),
    **dict.fromkeys(("head_dim", "d_kv", "v_head_dim", "global_head_dim", "swa_head_dim", "attention_head_dim"), HEAD),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim"), HEAD // 2),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "index_head_dim", "o_lora_rank"), 32),
    **dict.fromkeys(("hidden_size_per_layer_input", "laurel_rank"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "ffn_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "mamba_n_groups", "mamba_ngroups", "n_groups"), 1),
    **dict.fromkeys(("linear_num_key_heads",), 2),  # linear attention and state spaces
    **dict.fromkeys(("linear_num_value_heads",), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 32),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 16),
    **dict.fromkeys(("mamba_d_ssm",), 8 * HEAD),
    **dict.fromkeys(("lru_width",), 4 * HEAD),
}
NEAR = {  # of every copy, however narrow the model is
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), ROWS),
    **dict.fromkeys(("sliding_window", "attention_chunk_size", "window_size", "attention_window_size"), BORDER),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), BORDER),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), 2.0),  # so low that they change something
    **dict.fromkeys(("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"), 1),  # experts within reach
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers")
Check = Callable[[Any], Iterator[tuple[Tensor, str]]]


# ---------------------------------------------------------------- the tiny copy


def tiny(config: PreTrainedConfig) -> PreTrainedConfig:
    """The same config with few layers, narrow ones and near borders -> a new config.

    What decides how a model computes stays: the kinds of layers, grouped heads, rotary type, caps, ties.  Windows,
    chunks and the place where rotary factors change come so near that rows of some dozen tokens cross them.
    """
    small = copy.deepcopy(config)
    for part in [small, *(getattr(small, name, None) for name in small.sub_configs)]:
        if isinstance(part, PreTrainedConfig):
            _shrink(part)
    return small


def _shrink(config: PreTrainedConfig) -> None:
    alias = {theirs: ours for ours, theirs in (config.attribute_map or {}).items()}
    values = {name: value for name, value in vars(config).items() if not name.startswith("__")}
    named = {alias.get(name, name): value for name, value in values.items()}
    limits = NEAR | (SMALL if (named.get("hidden_size") or 0) > WIDE else {})

    def small(name: str, value: Any) -> Any:
        limit = limits.get(name, limits.get(alias.get(name)))
        if (
            limit is None
            and limits is not NEAR
            and ("intermediate" in name or "ffn" in name or name in ("n_inner", "mlp_dim"))
        ):
            limit = 64
        return min(value, limit) if limit and type(value) in (int, float) else value

    changed = {name: small(name, value) for name, value in values.items()}
    heads, keys = (values.get(n) for n in ("num_attention_heads", "num_key_value_heads"))
    if type(heads) is int and type(keys) is int and changed["num_attention_heads"] < heads:
        changed["num_key_value_heads"] = changed["num_attention_heads"] if keys == heads else min(keys, 2)
    if "qk_rope_head_dim" in values and "head_dim" in values:
        changed["head_dim"] = changed["qk_rope_head_dim"]
    changed |= {name: number for name, number in SPECIAL.items() if values.get(name) is not None}
    depth = next((values[n] for n in LAYERS if type(values.get(n)) is int), None)
    if depth:
        kept = _layers_kept(values, depth)
        changed |= {name: len(kept) for name in LAYERS if values.get(name) == depth}
        per_layer = [n for n, v in values.items() if isinstance(v, list | tuple) and len(v) == depth]
        changed |= {name: [values[name][i] for i in kept] for name in per_layer}
    for name in ("rope_parameters", "rope_scaling"):
        if values.get(name):
            changed[name] = _small_rope(copy.deepcopy(values[name]), changed)
            border = changed[name].get("original_max_position_embeddings")
            if border and "original_max_position_embeddings" in values:  # Phi-3 keeps it twice
                changed["original_max_position_embeddings"] = border
    for name, value in changed.items():
        if value is not values.get(name):
            setattr(config, name, value)


def _layers_kept(values: dict[str, Any], depth: int) -> list[int]:
    """The first two layers, and the first of each kind."""
    kinds = values.get("layer_types") or values.get("layers_block_type") or [None] * depth
    return sorted({*(list(kinds).index(kind) for kind in kinds), *range(min(2, depth))})


def _small_rope(rope: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    for value in rope.values():
        if isinstance(value, dict):  # one for each kind of layer
            _small_rope(value, sizes)
    border = rope.get("original_max_position_embeddings")
    if border:  # a type known to change there is used below it only, see `models.check_rotary`
        rope["original_max_position_embeddings"] = ROWS if follows_the_longest(rope) else min(ROTARY, border)
    for name in ("short_factor", "long_factor"):
        if rope.get(name) and sizes.get("hidden_size") and sizes.get("num_attention_heads"):
            width = sizes.get("head_dim") or sizes["hidden_size"] // sizes["num_attention_heads"]
            rope[name] = rope[name][: int(width * rope.get("partial_rotary_factor", 1.0)) // 2]
    return rope


def follows_the_longest(rope: dict[str, Any]) -> bool:
    """Do rotary factors follow the longest row of a batch?  Then a sample's log-probs depend on its neighbours."""
    return (rope.get("rope_type") or rope.get("type")) in ("longrope", "dynamic")


def last_border(config: PreTrainedConfig) -> int:
    """The most tokens at which a model of this config begins to compute otherwise: windows, chunks, rotary; 0: none."""
    text = config.get_text_config(decoder=True)
    rope = getattr(text, "rope_parameters", None) or {}
    found = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    found += [r.get("original_max_position_embeddings") for r in (rope, *rope.values()) if isinstance(r, dict)]
    return max((border for border in found if border), default=0)


def copy_of(config: PreTrainedConfig) -> Any:
    """A tiny model of this config, with weights so large that every part of it changes the log-probs."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        # As the real one is loaded: the attention kernel is part of what is proved.
        model = AutoModelForCausalLM.from_config(
            tiny(config), dtype=torch.float32, attn_implementation=config._attn_implementation
        )
        for weight in model.parameters():
            weight += 0.15 * torch.randn_like(weight)
    return model.eval()


# ---------------------------------------------------------------- the assumptions


def samples(model: Any) -> list[Any]:
    """Two answers to one prompt and one to another; all cross the tiny copy's borders, one within its prompt."""
    import prorl_mini  # not above: it imports this package

    words = min(48, model.get_input_embeddings().weight.shape[0])
    ids = torch.randint(min(4, words - 1), words, (110,), generator=torch.Generator().manual_seed(1)).tolist()
    return [
        prorl_mini.Sample(ids[:5], ids[5:35]),
        prorl_mini.Sample(ids[:5], ids[35:44]),
        prorl_mini.Sample(ids[44:65], ids[65:87]),
    ]


def plain(model: Any, sample: Any) -> Tensor:
    """Log-probs of one answer by the model's own forward pass: one row, no cache, no padding -> (answer length,)."""
    import prorl_mini

    ids = torch.tensor([sample.prompt + sample.answer])
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return prorl_mini.token_logprobs(logits, ids[:, 1:], 1.0)[0, len(sample.prompt) - 1 :]


def in_batch(model: Any, rows: list[Any]) -> Tensor:
    """The same as training computes them, all samples in one batch -> (tokens of all answers,)."""
    import prorl_mini

    batch = prorl_mini.make_batch(rows, "cpu")
    return prorl_mini.answer_logprobs(model, batch, 1.0)[0][batch.mask]


@torch.no_grad()
def kernels(model: Any) -> Iterator[tuple[Tensor, str]]:
    rows, fast = samples(model), model.config._attn_implementation
    ours = torch.cat([plain(model, s) for s in rows])
    if fast != "eager":
        model.set_attn_implementation("eager")
        theirs = torch.cat([plain(model, s) for s in rows])
        model.set_attn_implementation(fast)
        yield ours - theirs, f"its attention written out and by the kernel {fast}"


@torch.no_grad()
def training_mode(model: Any) -> Iterator[tuple[Tensor, str]]:
    rows = samples(model)
    model.train()
    first, second = in_batch(model, rows), in_batch(model, rows)
    model.eval()
    yield first - second, "two passes in training mode (dropout or noise that no setting turns off)"
    yield first - torch.cat([plain(model, s) for s in rows]), "a padded row beside longer ones and the row alone"


@torch.enable_grad()  # whoever loads a model may need no gradients
def shared_prompts(model: Any) -> Iterator[tuple[Tensor, str]]:
    rows = samples(model)
    weights = [p for p in model.parameters() if p.requires_grad]
    both = []
    for logp in (in_batch(model, rows), torch.cat([plain(model, s) for s in rows])):
        gradient = torch.autograd.grad(logp.sum(), weights, allow_unused=True)
        both.append((logp.detach(), torch.cat([g.flatten() for g in gradient if g is not None])))
    (logp, gradient), (their_logp, their_gradient) = both
    yield logp - their_logp, "an answer that goes on from its prompt's cached keys and the whole row"
    yield (gradient - their_gradient) / their_gradient.abs().max(), "the gradients of those two"


@torch.no_grad()
def sampling(model: Any) -> Iterator[tuple[Tensor, str]]:
    """Nearly greedy answers are the plain forward pass's best tokens, also where rows leave the batch one by one."""
    import prorl_mini

    prompts = [s.prompt for s in samples(model)[1:] for _ in range(2)]

    def lost(stop: int) -> tuple[list[list[int]], Tensor]:
        answers = prorl_mini.rollout(model, prompts[::2], 2, 24, 1e-4, [stop], torch.Generator().manual_seed(0))
        gaps = []
        for prompt, answer in zip(prompts, answers, strict=True):
            logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
            gaps.append(logits.max(-1).values - logits.gather(-1, torch.tensor(answer)[:, None])[:, 0])
        return answers, torch.cat(gaps)

    answers, gap = lost(stop=-1)
    yield gap, "tokens sampled with a cache and without one"
    yield lost(stop=answers[0][5])[1], "tokens sampled after others' rows have ended and without a cache"


ASSUMPTIONS: tuple[Check, ...] = (kernels, training_mode, shared_prompts, sampling)


def prove(
    asked: str, config: PreTrainedConfig, checks: tuple[Check, ...] = ASSUMPTIONS, cache: Path | None = None
) -> None:
    """Raise UserError, one sentence, where an assumption does not hold for models of this config.

    cache: a folder that remembers which configs passed with these versions and this code, so that they are not tried
    again.  Takes about a second where they are.
    """
    passed = cache / f"{_key(config, checks)}.proved" if cache else None
    if passed and passed.exists():
        return
    what = f"{asked} ({config.model_type}) can't be trained here"
    if carries_a_state(config):
        raise UserError(
            f"{what}: it has layers that carry a state along the row (state space, linear attention or convolution), "
            "which a rollout can't branch after a prompt; choose another model, such as Qwen or Llama"
        )
    try:
        model = copy_of(config)
    except Exception as error:  # whatever a class raises that does not bear small sizes
        raise UserError(
            f"{what}: no small copy of it can be built to prove what training assumes ({first_line(error)}); choose "
            "another model, such as Qwen or Llama"
        ) from error
    for check in checks:
        try:
            found = [(difference.abs().max().item(), compared) for difference, compared in check(model)]
        except Exception as error:  # a model without some operation fails in a way of its own
            raise UserError(
                f"{what}: comparing {check.__name__.replace('_', ' ')} ended in {first_line(error)!r}; choose another "
                "model, such as Qwen or Llama"
            ) from error
        for difference, compared in found:
            if not difference < TOLERANCE:
                raise UserError(
                    f"{what}: {compared} give log-probs {difference:.2g} apart on a tiny copy of it, where training "
                    "assumes that they are equal; choose another model, such as Qwen or Llama"
                )
    if passed:
        with contextlib.suppress(OSError):  # a full or read-only disk: it will be proved again
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()


def carries_a_state(config: PreTrainedConfig) -> bool:
    """Has it layers whose cache is no list of keys?  transformers 5.19 neither repeats nor selects rows of those."""
    try:
        layers = DynamicCache(config=config).layers
    except (AttributeError, KeyError, TypeError, ValueError):  # no cache can be made: the checks below say so
        return False
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)


def _key(config: PreTrainedConfig, checks: tuple[Check, ...]) -> str:
    """What a proof holds for: the config, the versions, and the code that was proved to fit it."""
    import prorl_mini

    versions = [importlib.metadata.version(name) for name in ("torch", "transformers")]
    code = [
        Path(file).read_bytes()
        for file in sorted({__file__, prorl_mini.__file__, *(c.__code__.co_filename for c in checks)})
    ]
    settings = json.loads(config.to_json_string(use_diff=False))
    parts = [
        json.dumps({**settings, "_name_or_path": None}),  # a copy of what was proved is proved
        config._attn_implementation,
        *versions,
        *(c.__name__ for c in checks),
    ]
    return hashlib.sha256(b"\0".join([*(str(part).encode() for part in parts), *code])).hexdigest()[:32]
