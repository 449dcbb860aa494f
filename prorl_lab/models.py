"""Load the policy: the tiny laptop model, or any Hugging Face causal language model."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

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
    """The tokens that end an answer: the tokenizer's EOS and what the model's config lists (chat models have two)."""
    listed = getattr(policy_config, "eos_token_id", None)
    listed = listed if isinstance(listed, list) else [listed]
    return sorted({i for i in [tokenizer.eos_token_id, *listed] if i is not None})
