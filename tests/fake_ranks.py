"""One rank of many, counted without them: the trainer's own update on tensors that have shapes and no contents.

    python -m tests.fake_ranks '{"world": 32, "tokens": 32768, "checkpointing": true}'

Prints the peak in bytes as `FSDPMemTracker` sees it: shards, gathered weights, gradients, Adam's moments, activations.
The shards of the reference are not among them.
"""

import dataclasses
import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import Qwen2Config, Qwen2ForCausalLM

from prorl_lab import hub, shapes
from prorl_scale import batch, policy, recipes


def packed(tokens: int, samples: int, prompt: int) -> batch.Packed:
    """Prompts of one answer each, all of equal length, `tokens` in all to read."""
    read = tokens // samples - prompt
    answers = samples * (read + 1)

    def bounds(lengths: list[int]) -> Any:  # attention reads these numbers, and a tensor here has none
        return SimpleNamespace(diff=lambda: SimpleNamespace(tolist=lambda: lengths))

    return batch.Packed(
        ids=torch.zeros(1, tokens, dtype=torch.long),
        positions=torch.zeros(1, tokens, dtype=torch.long),
        pieces=batch.Pieces(
            starts=bounds([prompt, read] * samples),
            keys=torch.zeros(samples * (2 * prompt + read), dtype=torch.long),
            key_starts=bounds([prompt, prompt + read] * samples),
            longest=prompt + read,
        ),
        before=torch.zeros(answers, dtype=torch.long),
        targets=torch.zeros(answers, dtype=torch.long),
        lengths=[read + 1] * samples,
    )


def update(scorer: policy.Scorer, optimizer: torch.optim.Optimizer, rows: batch.Packed) -> None:
    logp, _ = scorer(rows, 1.2)
    logp.sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def peak(
    shape: shapes.Shape, world: int, tokens: int, checkpointing: bool, samples: int = 4, prompt: int = 256
) -> dict:
    """Bytes that one of `world` ranks holds at most in the second of two updates of one micro-batch each."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    mesh = init_device_mesh("cpu", (world,))  # holds real numbers, so not among fake tensors
    policy.init_device_mesh = lambda *_: mesh
    policy._causal = lambda query, key: {"is_causal": True}  # a GPU's kernel needs no mask
    with FakeTensorMode():
        model = Qwen2ForCausalLM(Qwen2Config(
            vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
            head_dim=shape.head, tie_word_embeddings=shape.tied,
        ))  # fmt: skip
        model.set_attn_implementation(policy.ATTENTION)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        scorer = policy.shard(policy.Scorer(model), SimpleNamespace(dtype="bfloat16", device="cpu"))
        optimizer = torch.optim.AdamW(scorer.parameters(), fused=True)
        rows = packed(tokens, samples, prompt)
        update(scorer, optimizer, rows)  # makes Adam's moments
        tracker = FSDPMemTracker(scorer, optimizer)
        tracker.track_external(*(m for state in optimizer.state.values() for m in state.values()))
        with tracker:
            update(scorer, optimizer, rows)
    (snapshot,) = tracker.get_tracker_snapshot("peak").values()
    return {str(getattr(key, "value", key)): value for key, value in snapshot.items()}


def main(asked: dict) -> None:
    """asked: arguments of `peak`, and what to change of the 1.5B model's shape."""
    shape = dataclasses.replace(hub.SHAPES[recipes.R1_DISTILL], **asked.pop("shape", {}))
    print(json.dumps(peak(shape, **asked)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
