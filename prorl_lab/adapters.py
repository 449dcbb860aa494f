"""LoRA in which a reset is a merge: `--lora-rank 32`.

The policy is a frozen base and, beside each of its layers' matrices W (out, in), two thin trained ones: W + s B A with
A (r, in), B (out, r), s = ALPHA / r (Hu et al. 2021, arXiv 2106.09685).  ProRL's reference is an earlier policy, and
here that is the base: what the policy computes with its adapter turned off.  So there is no second copy of the weights,
and gradients and Adam's moments exist for A and B alone.  A reset folds B A into W, which is the policy from then on
and the new reference at once, and starts a fresh adapter, whose B is 0: KL is exactly 0 afterwards.

peft makes the layers, in place: the model keeps its class, so everything that scores or samples stays as it is.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from prorl_lab.errors import UserError, first_line
from prorl_lab.later import Later
from prorl_lab.seeds import derived

peft = Later("peft")  # optional, see requirements-options.txt
NAME = "default"  # what peft calls an adapter that was given no name
# With it B A keeps its size from rank to rank, and so does the best learning rate: about 10 times that of all weights,
# with adapters beside every matrix (Schulman et al. 2025, "LoRA Without Regret").
ALPHA = 32.0


def add(model: Any, rank: int, seed: int) -> None:
    """Freeze a model, in place, and put an adapter beside each matrix of its layers; its output layer gets none.

    Raises UserError for a model whose layers are of a kind that peft does not know.
    """
    config = peft.LoraConfig(r=rank, lora_alpha=ALPHA, target_modules="all-linear")
    try:
        with torch.random.fork_rng(devices=[]):  # peft draws, and then `renew` does
            peft.inject_adapter_in_model(config, model)
    except (ValueError, NotImplementedError) as error:
        kind = model.config.model_type
        raise UserError(f"peft has no adapters for {kind} ({first_line(error)}): leave out --lora-rank") from error
    renew(model, seed, merges=0)


def renew(model: Any, seed: int, merges: int) -> None:
    """Draw each A anew, another one after each merge, and set each B to 0: the policy is then the base."""
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(derived("adapter", seed, merges))
        for _, layer in layers(model):
            layer.reset_lora_parameters(NAME, True)


def layers(model: Any) -> list[tuple[str, Any]]:
    """Those that have an adapter, by name."""
    return [(name, module) for name, module in model.named_modules() if hasattr(module, "reset_lora_parameters")]


@contextlib.contextmanager
def turned_off(model: Any) -> Iterator[None]:
    """Within it the model is its base."""
    for _, layer in layers(model):
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for _, layer in layers(model):
            layer.enable_adapters(True)


class Base:
    """The reference of a run with adapters: its policy with them turned off, which holds no weights of its own.

    What is saved of it is how often it was merged, from which the next adapter is drawn.
    """

    def __init__(self, policy: Any, seed: int):
        self.policy, self.seed, self.merges = policy, seed, 0

    def __getattr__(self, name: str) -> Any:  # what scores a model reads its config, device, mode and output layer
        return getattr(self.policy, name)

    def base_model(self, **inputs: Any) -> Any:
        with turned_off(self.policy):
            return self.policy.base_model(**inputs)

    def state_dict(self) -> dict[str, int]:
        return {"merges": self.merges}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.merges = state["merges"]


@torch.no_grad()
def merge(policy: Any, reference: Base, optimizer: torch.optim.Optimizer, keep_optimizer: bool = False) -> None:
    """`prorl_mini.reset_reference` of a run with adapters.

    The optimizer always starts afresh (`settings` refuses to keep it): its moments were those of the old A and B.
    """
    for _, layer in layers(policy):
        layer.base_layer.weight.add_(layer.get_delta_weight(NAME))
    reference.merges += 1
    renew(policy, reference.seed, reference.merges)
    optimizer.state.clear()


def run_class(plain: type, config: Any) -> type:
    """The class of a run: `plain`, or with adapters one whose reset is a merge."""
    return type(plain.__name__, (plain,), {"reset_reference": staticmethod(merge)}) if config.lora_rank else plain


@torch.no_grad()
def merged_weights(model: Any) -> dict[str, Tensor]:
    """Name and weight of each parameter as if the adapters were merged, on the CPU: what a Hugging Face folder holds.

    Copies, so that a run goes on from the very numbers it had: a merge that is undone again rounds.
    """
    adapted, weights = dict(layers(model)), {}
    copies: dict[int, Tensor] = {}  # a weight that stands twice stays one, or its second name would be saved as well
    for name, weight in model.state_dict().items():
        if ".lora_" in name:
            continue
        layer, _, end = name.rpartition(".base_layer.")
        if layer and end == "weight":
            weights[f"{layer}.{end}"] = (weight + adapted[layer].get_delta_weight(NAME)).cpu()
        else:
            plain = f"{layer}.{end}" if layer else name
            weights[plain] = copies.setdefault(weight.data_ptr(), weight.cpu())
    return weights
