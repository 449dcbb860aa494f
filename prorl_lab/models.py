"""Load the policy: the tiny laptop model, or any Hugging Face causal language model."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

from prorl_lab import laptop
from prorl_lab.errors import UserError, first_line
from prorl_lab.scoring.extract import FRAMES


def load_policy(config: Any) -> tuple[Any, Any]:
    """-> (model, tokenizer).  Raises UserError where the name is no model, or one that the trainer can't score."""
    name = config.model
    if name == "laptop":
        name = str(
            laptop.base_model_folder(
                laptop.WarmUp(seed=config.seed, steps=config.warm_up_steps), Path(config.base_cache)
            )
        )
    # Weights and Adam's moments are float32 whatever the computation uses: a learning rate of 2e-6 changes most
    # weights by less than one step of bfloat16, and such an update is rounded away.
    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        policy = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, attention_dropout=0.0)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"can't load {config.model!r} as a Hugging Face causal language model: give --model a folder with "
            f"config.json, weights and a tokenizer, or a name on the hub ({first_line(error)})"
        ) from error
    for module in policy.modules():  # dropout would make the ratio differ from 1 before any update
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    set_template_defaults(tokenizer, getattr(config, "chat_template_kwargs", []))
    policy = policy.to(config.device).eval()
    if config.gradient_checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    _check_head(policy)
    return policy, tokenizer


@torch.no_grad()
def _check_head(policy: Any) -> None:
    """The trainer applies the head to chunks of hidden states.  Some models change the logits after the head
    (soft-capping, scaling); for them that shortcut would train on other log-probs than the sampler's."""
    ids = torch.tensor([[0, 1]], device=policy.device)
    head = policy.get_output_embeddings()
    ours = head(policy.base_model(input_ids=ids).last_hidden_state)
    if not torch.allclose(ours, policy(input_ids=ids).logits, atol=1e-4, rtol=1e-4):
        raise UserError(
            f"{type(policy).__name__} changes its logits after the output layer, which this trainer does not support: "
            "choose a model whose logits are head(hidden), such as Qwen or Llama"
        )


def autocast(config: Any) -> contextlib.AbstractContextManager:
    """bfloat16 matrix products where asked; a null context otherwise.

    Without autocast's cache: it keeps the bfloat16 copy of a weight until the context ends, and this one spans the run,
    so everything after the first update would be computed with the weights of before.
    """
    if config.dtype == "bfloat16":
        return torch.autocast(config.device, torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


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
    found = {i for ids in listed for i in (ids if isinstance(ids, list | tuple) else [ids]) if i is not None}
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
        name, given, text = item.partition("=")
        if not given or not name.isidentifier():
            raise UserError(f"--chat-template-kwargs {item}: give NAME=VALUE, as in enable_thinking=false")
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
