"""Load the policy: the tiny laptop model, or any Hugging Face causal language model."""

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from prorl_lab import laptop
from prorl_lab.errors import UserError, first_line


def load_policy(config: Any) -> tuple[Any, Any]:
    """-> (model, tokenizer).  Raises UserError where the name is no model, or one that the trainer can't score."""
    name = config.model
    if name == "laptop":
        name = str(
            laptop.base_model_folder(
                laptop.WarmUp(seed=config.seed, steps=config.warm_up_steps), Path(config.base_cache)
            )
        )
    tokenizer, policy = read(config.model, name, torch.float64 if config.dtype == "float64" else torch.float32)
    for module in policy.modules():  # dropout would make the ratio differ from 1 before any update
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    policy = policy.to(config.device).eval()
    if config.gradient_checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    _check_head(policy)
    return policy, tokenizer


def read(asked: str, folder: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """-> (tokenizer, model), each weight from the files.  asked: what the user called the folder.  Raises UserError.

    Weights and Adam's moments are float32 whatever the computation uses: a learning rate of 2e-6 changes most weights
    by less than one step of bfloat16, and such an update is rounded away.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        if getattr(config, "quantization_config", None):
            raise UserError(
                f"{asked} is quantized, and its weights can't take small updates: give --model its unquantized original"
            )
        # Sizes that do not fit are named by `_check_report`; without the flag they are an exception of many lines.
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attention_dropout=0.0, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except UserError:
        raise
    except Exception as error:  # whatever foreign files make transformers and its helpers raise
        raise UserError(
            f"can't load {asked!r} as a Hugging Face causal language model: give --model a folder with "
            f"config.json, weights and a tokenizer, or a name on the hub ({first_line(error)})"
        ) from error
    _check_report(asked, report)
    return tokenizer, model


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
    """The tokens that end an answer: the tokenizer's EOS and what the model's config lists (chat models have two)."""
    listed = getattr(policy_config, "eos_token_id", None)
    listed = listed if isinstance(listed, list) else [listed]
    return sorted({i for i in [tokenizer.eos_token_id, *listed] if i is not None})
