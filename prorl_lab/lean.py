"""What a run on one device keeps beside its policy, the reference and Adam's moments, and how to keep them smaller.

    --bfloat16-reference    nearly half of the reference saved; the same log-probs, bit for bit (`in_bfloat16`)
    --offload-reference     the reference waits in host memory and visits the GPU when it scores (`present`)
    --adam-8bit             Adam's two moments in a quarter of their bytes (bitsandbytes); rounds them
    --lora-rank 32          no reference at all, gradients and moments of thin matrices alone (`adapters`)

Weights that are trained, or that adapters are merged into, stay float32: bfloat16 would round small updates away.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from prorl_lab import adapters
from prorl_lab.errors import UserError
from prorl_lab.later import Later

probe = Later("prorl_lab.probe")
optim = Later("bitsandbytes.optim")  # optional, see requirements-options.txt


# ---------------------------------------------------------------- the reference


def reference_of(policy: Any, config: Any) -> Any:
    """A frozen copy of the policy, kept as the settings say; with adapters the policy itself without them."""
    if config.lora_rank:
        return adapters.Base(policy, config.seed)
    # A copy in host memory is made there: for a moment the GPU would hold weights twice that fit it once.
    reference = copied_to_host(policy) if config.offload_reference else copy.deepcopy(policy)
    reference = reference.eval().requires_grad_(False)
    if not config.bfloat16_reference:
        return reference
    prove_rounding(config.model, policy.config)
    return in_bfloat16(reference)


@torch.no_grad()
def prove_rounding(asked: str, config: Any) -> None:
    """Raise UserError where `in_bfloat16` would change log-probs, tried on a tiny copy of a model of this config.

    It does where a model takes one of those matrices past autocast, as some that route to experts do.
    """
    model = probe.copy_of(config)
    rounded, rows = in_bfloat16(copy.deepcopy(model)), probe.samples(model)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        same = torch.equal(probe.in_batch(rounded, rows), probe.in_batch(model, rows))
    if not same:
        raise UserError(
            f"--bfloat16-reference would change the log-probs of {asked} ({config.model_type}), and KL would not be 0 "
            "after a reset: leave it out, or give --offload-reference instead"
        )


def copied_to_host(model: Any) -> Any:
    """A copy of a model whose tensors are all on the CPU."""
    tensors = (*model.parameters(), *model.buffers())
    # `deepcopy` asks its memo before it copies: there each tensor finds the copy that it is to become.
    return copy.deepcopy(model, {id(tensor): _on_host(tensor) for tensor in tensors})


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    data = tensor.detach().to("cpu", copy=True)
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def in_bfloat16(model: Any) -> Any:
    """Round, in place, the matrices that autocast rounds each time they are used -> the model.

    So the log-probs are those of the float32 copy, bit for bit, and KL is exactly 0 after a reset.  Embedding and norms
    stay float32: autocast leaves them alone, and what they make would carry the rounding through all layers.
    """
    embedding = model.get_input_embeddings().weight
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight is not embedding:
            module.to(torch.bfloat16)
    return model


@contextlib.contextmanager
def present(reference: Any, device: torch.device) -> Iterator[None]:
    """Within it the reference is where it is to compute; None: it is not to.

    One that waits in host memory visits as a whole, when no gradients are held, whose room it takes.
    """
    if reference is None or isinstance(reference, adapters.Base) or reference.device == device:
        yield
    else:
        with visiting(reference, lambda data: data.to(device)):
            yield


@contextlib.contextmanager
def visiting(model: Any, send: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Within it a model computes with what `send` makes of its tensors; they must not change: nothing comes back."""
    home = [(tensor, tensor.data) for tensor in (*model.parameters(), *model.buffers())]
    try:
        for tensor, data in home:
            tensor.data = send(data)
        yield
    finally:
        for tensor, data in home:
            tensor.data = data


# ---------------------------------------------------------------- the optimizer


def adam_of(policy: Any, config: Any) -> torch.optim.Optimizer:
    """AdamW over what is trained of the policy: all its weights, or its adapters."""
    trained = [weight for weight in policy.parameters() if weight.requires_grad]
    if config.adam_8bit:  # of tensors with fewer than 4,096 numbers bitsandbytes keeps float32 moments
        return optim.AdamW8bit(trained, config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay, fused=True)
