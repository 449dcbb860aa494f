"""Trained tokens per second on answers of very uneven length: prorl_scale's packed rows against padded ones.

    PYTHONPATH=. python bench/packed_vs_padded.py --out results/<date-name>

See bench/README.md for what is equal and how to read the result.
"""

import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import tyro
from measure import machine, versions
from transformers import LlamaConfig, LlamaForCausalLM, logging

import prorl_mini as mini
from prorl_lab import laptop
from prorl_scale import policy, train
from prorl_scale.config import Config


@dataclass
class Args:
    """Time one update (forward, backward, AdamW) on one mini-batch, side by side in turns."""

    rounds: int = 5
    prompts: int = 16
    answers: int = 8
    prompt_tokens: int = 24
    shortest: int = 8
    longest: int = 512
    median: float = 48.0  # of the log-normal that answer lengths follow, before they are cut to the two bounds
    sigma: float = 1.2
    microbatch_tokens: int = 8192
    hidden: int = 256
    layers: int = 4
    vocabulary: int = 4096
    threads: int = 1
    out: Path | None = None  # a folder for packed_vs_padded.json; not given: only printed


def make_model(folder: Path, args: Args) -> int:
    """A random Llama, saved as prorl_scale loads it; returns its number of parameters."""
    logging.disable_progress_bar()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=args.vocabulary, hidden_size=args.hidden, intermediate_size=3 * args.hidden,
            num_hidden_layers=args.layers, num_attention_heads=args.hidden // 64, tie_word_embeddings=True,
            num_key_value_heads=args.hidden // 64, max_position_embeddings=args.prompt_tokens + args.longest,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    laptop.build_tokenizer().save_pretrained(folder)  # nothing is decoded here, but a model folder has one
    return model.num_parameters()


def make_samples(args: Args) -> list[mini.Sample]:
    """Groups in the order in which a rollout returns them.  Log-probs are of no model: they only have to be there."""
    draw = random.Random(0)
    samples = []
    for _ in range(args.prompts):
        prompt = [draw.randrange(args.vocabulary) for _ in range(args.prompt_tokens)]
        for _ in range(args.answers):
            length = round(draw.lognormvariate(math.log(args.median), args.sigma))
            length = min(max(length, args.shortest), args.longest)
            answer = [draw.randrange(args.vocabulary) for _ in range(length)]
            old, ref = (
                torch.tensor([draw.gauss(-math.log(args.vocabulary), 0.3) for _ in range(length)]) for _ in range(2)
            )
            samples.append(mini.Sample(prompt, answer, advantage=draw.gauss(0, 1), old_logp=old, ref_logp=ref))
    return samples


def in_order(samples: list[mini.Sample], max_tokens: int) -> list[list[mini.Sample]]:
    """Micro-batches as most trainers cut them: in the order of the rollout, each padded to its longest sample."""
    batches: list[list[mini.Sample]] = []
    for sample in samples:
        longest = max(map(len, [*(batches[-1] if batches else []), sample]))
        if not batches or longest * (len(batches[-1]) + 1) > max_tokens:
            batches.append([])
        batches[-1].append(sample)
    return batches


def make_sides(args: Args, folder: Path) -> dict[str, Callable[[list[mini.Sample]], dict[str, float]]]:
    """Three ways to one update of the same model.  The learning rate is too small to move the loss between rounds."""
    settings = {"device": "cpu", "dtype": "float32", "gradient_checkpointing": False, "kl_coef": 1e-3}
    settings |= {"learning_rate": 1e-12, "weight_decay": 0.0, "microbatch_tokens": args.microbatch_tokens}
    config = Config(**settings)

    def run_of(model: Any) -> SimpleNamespace:
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True)
        return SimpleNamespace(config=config, policy=model, optimizer=optimizer, state=mini.State())

    packed = run_of(policy.load(config, str(folder))[0])
    padded = run_of(LlamaForCausalLM.from_pretrained(folder).eval())

    def unsorted(samples: list[mini.Sample]) -> dict[str, float]:
        cut, mini.split_microbatches = mini.split_microbatches, in_order
        try:
            return mini.update(padded, samples)
        finally:
            mini.split_microbatches = cut

    return {
        "packed (prorl_scale)": lambda samples: train.update(packed, samples),
        "padded, sorted (prorl_mini)": lambda samples: mini.update(padded, samples),
        "padded, in order": unsorted,
    }


def check_equal(results: dict[str, dict[str, float]]) -> None:
    """A rate means nothing unless all sides computed the same loss and gradient."""
    (name, expected), *others = results.items()
    for other, result in others:
        for key in ("loss", "kl", "grad_norm", "tokens"):
            if not math.isclose(result[key], expected[key], rel_tol=1e-4):
                sys.exit(f"error: {key} is {expected[key]} in {name} and {result[key]} in {other}")


def padded_share(samples: list[mini.Sample], batches: list[list[mini.Sample]]) -> float:
    """Share of padding among the answer positions of padded micro-batches."""
    width = sum(len(b) * max(len(s.answer) for s in b) for b in batches)
    return 1 - sum(len(s.answer) for s in samples) / width


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    samples = make_samples(args)
    tokens = sum(len(s.answer) for s in samples)
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        parameters = make_model(Path(folder), args)
        sides = make_sides(args, Path(folder))
        results = {name: side(samples) for name, side in sides.items()}  # also the warm-up
    check_equal(results)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(args.rounds):  # in turns, so that a busy minute hits all
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            side(samples)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    rows = {}
    for name, pairs in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows[name] = {"tokens_per_second": tokens / wall, "tokens_per_cpu_second": tokens / cpu, "seconds": pairs}
    first = rows["packed (prorl_scale)"]
    for name, row in rows.items():
        for key in ("tokens_per_second", "tokens_per_cpu_second"):
            row[f"packed_over_this_{key}"] = first[key] / row[key]
        print(
            f"{name:28} {row['tokens_per_second']:8.0f} trained tokens/s, {row['tokens_per_cpu_second']:8.0f} per "
            f"processor second; packed over this {row['packed_over_this_tokens_per_cpu_second']:.2f}"
        )
    padding = {
        "sorted": padded_share(samples, mini.split_microbatches(samples, args.microbatch_tokens)),
        "in order": padded_share(samples, in_order(samples, args.microbatch_tokens)),
    }
    print("padding among answer positions: " + ", ".join(f"{k} {v:.0%}" for k, v in padding.items()))
    if args.out:
        lengths = sorted(len(s.answer) for s in samples)
        result = {
            "settings": asdict(replace(args, out=None)),
            "parameters": parameters,
            "answers": {"tokens": tokens, "count": len(lengths), "median": statistics.median(lengths)},
            "padding": padding,
            "loss": results,
            "versions": versions("torch", "transformers"),
            "machine": {"before": before, "after": machine()},
            "sides": rows,
        }
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "packed_vs_padded.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(tyro.cli(Args))
