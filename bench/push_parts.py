"""What a weight push is made of on this CPU: vLLM's reload, and the canary scored on both sides, beside the plan.

python bench/push_parts.py --layers 4 --width 128       one model a process: an engine can't be started twice

Processor seconds, one thread, medians of ten.  The model is a Qwen2 of random weights; the canary 24 rows of 12 tokens.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.distributed as dist
import tyro
from transformers import Qwen2Config, Qwen2ForCausalLM

import prorl_mini
from prorl_lab import cost, devices, laptop
from prorl_lab.shapes import shape_of
from prorl_scale import config, distributed, policy, rollout

ALONE = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": 29611}
ROWS = [[2 + (i * j) % 30 for j in range(12)] for i in range(1, 25)]


@dataclass
class Args:
    layers: int = 4
    width: int = 128  # its heads have 32 values, its MLP is three times as wide


def model_folder(args: Args, folder: str) -> str:
    tokenizer = laptop.build_tokenizer()
    tokenizer.save_pretrained(folder)
    Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=args.width, intermediate_size=3 * args.width,
        num_hidden_layers=args.layers, num_attention_heads=args.width // 32, num_key_value_heads=args.width // 32,
        max_position_embeddings=128, tie_word_embeddings=False, eos_token_id=1, bos_token_id=None, pad_token_id=0,
    )).save_pretrained(folder)  # fmt: skip
    return folder


def seconds(work: Callable[[], object]) -> float:
    """Median of ten, after two."""
    took = []
    for _ in range(12):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return statistics.median(took[2:])


def main(args: Args) -> int:
    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in ALONE.items()})
    devices.time = SimpleNamespace(perf_counter=time.process_time)
    dist.init_process_group("gloo")
    with tempfile.TemporaryDirectory() as made:
        folder = model_folder(args, made)
        asked = config.Config(
            model=folder, dtype="float32", device="cpu", gradient_checkpointing=False, rollout_batch=512,
            max_new_tokens=16, base_cache=folder,
        )  # fmt: skip
        scorer, _, _ = policy.load(asked, folder)
        engine = rollout.Engine(folder, asked, [1], 64)
    samples = [prorl_mini.Sample(row[:1], row[1:]) for row in ROWS]
    seen = {
        "reload": seconds(lambda: engine.push(policy.full_weights(scorer, torch.float32))),
        "trainer scores": seconds(lambda: policy.score_samples(scorer, samples, 5000, 1.0)),
        "sampler scores": seconds(lambda: engine.score(ROWS)),
    }
    shape = shape_of(scorer.model.config)
    site = cost.Site(shape, devices.cpu(5248, shape.hidden), 1, cost.VLLM_CPU, cost.CPU, half=False)
    together = cost.push_seconds(site, cost.Guess(canary=len(ROWS), prompt=len(ROWS[0])), 5000)
    parts = ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in seen.items())
    whole = sum(seen.values())
    print(f"{args.layers} x {args.width}, {shape.weights / 1e6:.1f}M: {parts}, together {1000 * whole:.1f}")
    print(f"predicted: {1000 * together:.1f} ({together / whole:.2f}), reload {1000 * cost.reload_seconds(site):.1f}")
    engine.close()
    return 0


if __name__ == "__main__":
    distributed.leave(lambda: main(tyro.cli(Args)))
