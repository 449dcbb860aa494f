"""Load the policy: the tiny laptop model, or any Hugging Face causal language model."""

import contextlib
import functools
import json
import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from prorl_lab import adapters, laptop, memory, settings
from prorl_lab.errors import UserError, first_line
from prorl_lab.later import Later
from prorl_lab.scoring.extract import FRAMES
from prorl_lab.shapes import shape_of

AutoConfig, AutoModelForCausalLM = Later("transformers", "AutoConfig"), Later("transformers", "AutoModelForCausalLM")
AutoTokenizer, GenerationConfig = Later("transformers", "AutoTokenizer"), Later("transformers", "GenerationConfig")
probe = Later("prorl_lab.probe")
DynamicCache, cached_file = Later("transformers", "DynamicCache"), Later("transformers.utils", "cached_file")


def load_policy(config: Any) -> tuple[Any, Any]:
    """-> (model, tokenizer).  Raises UserError where the name is no model, or one that the trainer can't score."""
    memory.check(config)
    name = config.model
    if getattr(config, "resume", None) and (Path(config.resume) / "base").is_dir():
        name = str(Path(config.resume) / "base")  # the run's own copy: the folder it came from may have changed
    elif name == "laptop":
        name = str(
            laptop.base_model_folder(
                laptop.WarmUp(seed=config.seed, steps=config.warm_up_steps), Path(config.base_cache)
            )
        )
    tokenizer, policy = read(
        config.model,
        name,
        torch.float64 if config.dtype == "float64" else torch.float32,
        context=context_asked(config),
        proofs=Path(config.base_cache) if hasattr(config, "base_cache") else None,
    )
    set_template_defaults(tokenizer, getattr(config, "chat_template_kwargs", []))
    if getattr(config, "lora_rank", 0):
        adapters.add(policy, config.lora_rank, config.seed)  # on the CPU, so that A is the same on every device
    policy = policy.to(config.device).eval()
    if config.gradient_checkpointing:
        try:
            policy.gradient_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise UserError(
                f"{config.model} has no gradient checkpointing: leave it out with --no-gradient-checkpointing"
            ) from error
    return policy, tokenizer


def context_asked(config: Any) -> int | None:
    """The most tokens of a prompt and its answer, where the settings say."""
    parts = [getattr(config, name, None) for name in ("max_prompt_tokens", "max_new_tokens")]
    return sum(parts) if all(parts) else None


def open_checked(asked: str, folder: str, context: int | None = None, proofs: Path | None = None) -> tuple[Any, Any]:
    """-> (tokenizer, config) of a model that can be trained, as far as that is known without its weights.

    asked: what the user called the folder.  context, proofs: see `check_rotary` and `probe.prove`.  Raises UserError.
    """
    _check_files(asked, Path(folder))
    try:
        tokenizer, config = open_folder(folder)
    except Exception as error:  # whatever foreign files make transformers and its helpers raise
        raise _unreadable(asked, error) from error
    if getattr(config, "quantization_config", None):
        raise UserError(
            f"{asked} is quantized, and its weights can't take small updates: give --model its unquantized original"
        )
    check_rotary(asked, config, context)
    _without_dropout(config)
    if getattr(config.get_text_config(decoder=True), "attn_logit_softcapping", None):
        config._attn_implementation = "eager"  # transformers 5.19 drops Gemma 2's cap on the way to torch's kernel
    probe.prove(asked, config, cache=proofs)
    return tokenizer, config


def read(
    asked: str, folder: str, dtype: torch.dtype, context: int | None = None, proofs: Path | None = None
) -> tuple[Any, Any]:
    """-> (tokenizer, model), each weight from the files.  Raises UserError.

    As `open_checked`.  Weights and Adam's moments are float32 whatever the computation uses: a learning rate of 2e-6
    changes most weights by less than one step of bfloat16, and such an update is rounded away.
    """
    tokenizer, config = open_checked(asked, folder, context, proofs)
    try:
        # Sizes that do not fit are named by `_check_report`; without the flag they are an exception of many lines.
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True,
            attn_implementation=config._attn_implementation, trust_remote_code=False,
        )  # fmt: skip
    except Exception as error:  # as above
        raise _unreadable(asked, error) from error
    _check_report(asked, report)
    broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if broken:
        raise UserError(f"the files of {asked} hold numbers that are not finite in {_some(broken)}: get them again")
    rows, added = len(model.get_input_embeddings().weight), tokenizer.get_added_vocab()
    # A special token beyond the embedding (Gemma 3 has one for images) harms no prompt without it, see `settings`.
    beyond = [word for word, i in tokenizer.get_vocab().items() if i >= rows and word not in added]
    if beyond:
        raise UserError(
            f"the tokenizer of {asked} has {len(beyond)} tokens more than the model's embedding of {rows} rows, so "
            "some prompt would end the run: give the tokenizer that belongs to it, or resize the embedding"
        )
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        # Where the files hold a head of its own transformers reads it whatever the config says; vLLM would tie it.
        model.config.tie_word_embeddings = False
    _make_writable(model.generation_config)
    return tokenizer, model


def open_folder(folder: str) -> tuple[Any, Any]:
    """-> (tokenizer, config) of a model's folder.  Raises whatever foreign files make transformers raise.

    Said aloud: a folder with code of its own is refused, where transformers would ask on the terminal whether to run
    it; and texts are what was sampled, where a tokenizer may ask that "a , b" become "a, b".
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, clean_up_tokenization_spaces=False)
    return tokenizer, AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _check_files(asked: str, folder: Path) -> None:
    """Refuse a folder of which transformers would read a part without a word."""
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"{asked} holds an adapter (adapter_config.json), which would be left out: merge it into its model, and "
            "give a folder with the merged weights"
        )
    whole, index = "model.safetensors", "model.safetensors.index.json"
    if (folder / whole).exists() and (folder / index).exists():
        raise UserError(
            f"{asked} holds weights twice, in {whole} and in the shards of {index}, and only the first would be read: "
            "take away what is old"
        )


def _make_writable(generation: Any) -> None:
    """Mend, in place, a generation config that transformers 5.19 reads and refuses to write: each export needs it.

    Its usual fault is a temperature without do_sample.  Nothing here samples by it.
    """
    try:
        generation.validate(strict=True)
    except ValueError:
        generation.do_sample = True
    try:
        generation.validate(strict=True)
    except ValueError:  # another fault: keep what names tokens
        kept = {name: value for name, value in generation.to_dict().items() if name.endswith("_token_id")}
        vars(generation).clear()
        vars(generation).update(vars(GenerationConfig(**kept)))


def _unreadable(asked: str, error: Exception) -> UserError:
    return UserError(
        f"can't load {asked!r} as a Hugging Face causal language model: give --model a folder with "
        f"config.json, weights and a tokenizer, or a name on the hub ({first_line(error)})"
    )


def check_rotary(asked: str, config: Any, context: int | None) -> None:
    """Refuse rotary factors that a run of `context` tokens (None: not known) can change.

    longrope and dynamic take their factors from the longest row of a batch.  So a sample's log-probs would depend on
    its neighbours, and keys cached before the change would keep the old factors.
    """
    text = config.get_text_config(decoder=True)
    rope = getattr(text, "rope_parameters", None) or {}
    for part in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        if not probe.follows_the_longest(part):
            continue
        border = part.get("original_max_position_embeddings") or text.max_position_embeddings
        if not (context and context <= border):
            raise UserError(
                f"{asked} has rotary factors that follow the longest of a batch above {border} tokens, so log-probs "
                "would depend on neighbours: give --max-prompt-tokens and --max-new-tokens that add up to at most "
                f"{border}, or another model"
            )


def _without_dropout(config: Any) -> None:
    """Turn off, in place, what is random in training mode: the ratio must be 1 before any update.

    In the config and not in modules: OPT, Seed-OSS, XGLM and others call the function with a number they were given.
    """
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        for name, value in list(vars(part).items()) if part is not None else ():
            threshold = name == "router_jitter_noise" and part.model_type == "phimoe"  # which routes by it at all times
            if isinstance(value, float) and ("drop" in name or "jitter" in name) and not threshold:
                setattr(part, name, 0.0)


def _check_report(asked: str, report: dict[str, Any]) -> None:
    """Refuse what transformers 5.19 only logs: weights that no file holds are drawn at random, and files' weights that
    the model has no place for are dropped.  A head that the config ties to the embedding is not reported as missing."""
    mismatched = [name for name, *_ in report["mismatched_keys"]]
    faults = {
        "lacks": report["missing_keys"],
        "has in another shape": mismatched,
        "has beyond": report["unexpected_keys"],
    }
    found = [f"{how} {_some(names)}" for how, names in faults.items() if names]
    if found:
        raise UserError(
            f"the files of {asked} do not fit its config.json, so it would be trained in part from random weights: it "
            f"{', '.join(found)}; save it again from the bare model with save_pretrained, or mend config.json"
        )


def _some(names: Collection[str]) -> str:
    """The first names, and how many there are."""
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


def logits(model: Any, hidden: Tensor) -> Tensor:
    """The model's logits for chosen hidden states: (..., D) -> (..., V).  In bfloat16 runs they are float32."""
    head = model.get_output_embeddings()
    if torch.is_autocast_enabled(hidden.device.type):
        made = AccurateHead.apply(hidden.bfloat16(), head.weight.bfloat16())
        made = made if getattr(head, "bias", None) is None else made + head.bias
    else:
        made = head(hidden)
    return after_head(model.config)(made)


def accurate_product(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product that is not rounded to bfloat16: (N, D), (D, V) -> (N, V), float32 from bfloat16 factors.

    bfloat16 has 8 bits: a logit of 20 is rounded by up to 0.06 nats, which is a good part of what sampler and trainer
    disagree about (results/2026-11-28-precision).  vLLM does the same, see `rollout.Engine`.
    """
    if left.dtype not in (torch.bfloat16, torch.float16):
        return left @ right
    if left.is_cuda:  # torch 2.13 has this for CUDA alone; not yet run
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


class AccurateHead(torch.autograd.Function):
    """hidden (..., D), weight (V, D), both bfloat16 -> logits (..., V), float32.

    `torch.mm` with `out_dtype` has no derivative in torch 2.13.  This one is that of a product in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        with torch.autocast(hidden.device.type, enabled=False):
            return accurate_product(hidden.flatten(0, -2), weight.T).unflatten(0, hidden.shape[:-1])

    @staticmethod
    def backward(ctx: Any, d_logits: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden, weight = ctx.saved_tensors
        d_logits = d_logits.to(weight.dtype).flatten(0, -2)
        d_weight = d_logits.T @ hidden.flatten(0, -2) if ctx.needs_input_grad[1] else None  # frozen beside adapters
        return (d_logits @ weight).view_as(hidden), d_weight


def after_head(config: Any) -> Callable[[Tensor], Tensor]:
    """What a model does to its logits after the output layer: nothing, a scale (Granite, Cohere), a cap (Gemma).

    The probe compares it with the model's own logits, so one that does something else is refused.
    """
    text = config.get_text_config(decoder=True)
    cap = getattr(text, "final_logit_softcapping", None)
    scale = getattr(text, "logit_scale", None) or getattr(text, "logits_scaling", None) or 1.0
    if getattr(text, "logits_scaling", None) and text.model_type != "hyperclovax":  # which alone multiplies by it
        scale = 1 / scale
    if scale == 1.0 and not cap:
        return unchanged
    if not cap:
        return lambda logits: logits * scale
    return lambda logits: cap * (logits * scale / cap).tanh()


def unchanged(logits: Tensor) -> Tensor:
    """What most models do to their logits."""
    return logits


def autocast(config: Any) -> contextlib.AbstractContextManager:
    """bfloat16 matrix products where asked; a null context otherwise.

    Without autocast's cache: it keeps the bfloat16 copy of a weight until the context ends, and this one spans the run,
    so everything after the first update would be computed with the weights of before.
    """
    if config.dtype == "bfloat16":
        return torch.autocast(config.device, torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


def weights_stay(write: Callable) -> Callable:
    """A decorator for what writes a policy's answers and changes no weight: under `autocast` each weight is cast once.

    Else it is cast at every token: for 1.5B weights 9 GB of traffic, some 3 ms on an H100 (estimated).
    """

    @functools.wraps(write)
    def with_casts_kept(policy: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
            return write(policy, *args, **kwargs)
        before = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(True)
        frozen = [weight for weight in policy.parameters() if not weight.requires_grad]  # the base of adapters
        for weight in frozen:  # no casts are kept of such, and without a graph the mark does nothing else
            weight.requires_grad_(True)
        try:
            return write(policy, *args, **kwargs)
        finally:
            for weight in frozen:
                weight.requires_grad_(False)
            torch.set_autocast_cache_enabled(before)
            torch.clear_autocast_cache()  # the next update changes what was cast

    return with_casts_kept


def rollout_batch(policy: Any, config: Any) -> int:
    """How many answers to write side by side where no setting says so: what the GPU's free memory holds, else 256."""
    if policy.device.type != "cuda":
        return 256
    try:
        shape = shape_of(policy.config.get_text_config(decoder=True))
    except AttributeError:  # no decoder of this kind
        return 256
    ours = torch.cuda.memory_allocated(policy.device)  # the policy, which is loaded
    return memory.answers_that_fit(shape, config, ours + torch.cuda.mem_get_info(policy.device)[0])


def stop_ids(policy_config: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: every one that the tokenizer, the model's files or its chat template name.

    They differ more often than not: Phi-3.5 names the end of a turn in generation_config.json alone, and a base model
    with the chat template of its sibling nowhere but there.  An answer whose end goes unseen runs on into an invented
    next turn.

    Raises UserError where there is none, or generation_config.json can't be read.
    """
    configs = [policy_config, policy_config.get_text_config()]
    listed = [tokenizer.eos_token_id, *(getattr(c, "eos_token_id", None) for c in configs)]
    listed += [_generation_eos(policy_config.name_or_path), _end_of_turn(tokenizer)]
    named = [i for ids in listed for i in (ids if isinstance(ids, list | tuple) else [ids]) if i is not None]
    for i in named:
        if type(i) is not int or i < 0:
            raise UserError(
                f"{policy_config.name_or_path} names {i!r} as a token that ends an answer: write the numbers of such "
                "tokens into eos_token_id of its config.json and generation_config.json"
            )
    rows = getattr(configs[1], "vocab_size", math.inf)
    found = {i for i in named if i < rows}  # no answer holds one beyond
    if not found:
        raise UserError(
            f"nothing says which token ends an answer of {policy_config.name_or_path}: set eos_token in its "
            "tokenizer_config.json, or eos_token_id in its config.json"
        )
    return sorted(found)


def _generation_eos(name: str) -> int | list[int] | None:
    """`eos_token_id` of a model's generation_config.json, read as it stands: transformers refuses files that it wrote
    itself when other settings in them do not go together."""
    if not name:  # a model that was built here
        return None
    quiet = {f"_raise_exceptions_for_{kind}": False for kind in ("missing_entries", "connection_errors")}
    path = cached_file(name, "generation_config.json", **quiet)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"can't read {path} ({error}): mend it, or remove it") from error


def _end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the chat template writes right behind what an assistant said."""
    if tokenizer.chat_template is None:
        return None
    said = "prorl-answer"
    chat = [{"role": "user", "content": "prorl-question"}, {"role": "assistant", "content": said}]
    try:
        text = tokenizer.apply_chat_template(chat, tokenize=False)
    except (ValueError, TypeError, KeyError, TemplateError):  # for prompts alone
        return None
    behind = FRAMES.sub("", text.rpartition(said)[2]).lstrip()
    special = {str(token): i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return special.get(max(filter(behind.startswith, special), key=len, default=None))


def set_template_defaults(tokenizer: Any, items: list[str]) -> None:
    """Write NAME=VALUE settings into the tokenizer's chat template, as what its variables are unless told otherwise.

    So they hold wherever this tokenizer makes a prompt, and in every folder that it is saved to: the checkpoints of a
    run are served and evaluated as they were trained.

    Raises UserError for what the template would ignore without a word.
    """
    for item in items:
        name, text = settings.named_value(item)
        templates = tokenizer.chat_template  # one, or several by name
        named = templates if isinstance(templates, dict) else {"": templates or ""}
        # Jinja takes an argument that no template looks at without a word.
        if name in _GIVEN or not any(re.search(rf"\b{name}\b", re.sub(r"(?s){#.*?#}", "", t)) for t in named.values()):
            raise UserError(
                f"--chat-template-kwargs {item}: the chat template of this model has no switch {name}; look into its "
                "chat_template.jinja or tokenizer_config.json for the name"
            )
        line = f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(text)} %}}{{%- endif %}}"
        made = {key: line + template.removeprefix(line) for key, template in named.items()}
        tokenizer.chat_template = made if isinstance(templates, dict) else made[""]


# What every template is given, so no switches.
_GIVEN = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token")


def _literal(text: str) -> str:
    """A value as Jinja spells it: JSON, or Python's spelling of its three words; anything else is text."""
    if text.lower() in ("true", "false", "none", "null"):
        return text.lower().replace("null", "none")
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text
