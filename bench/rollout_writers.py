"""Ways to write answers with transformers alone, beside `prorl_mini.rollout`: a static cache, the same compiled, and
continuous batching.

    PYTHONPATH=. python bench/rollout_writers.py --out results/<date-name>

See bench/README.md for what is equal and how to read the result.
"""

import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import tyro
from measure import machine, versions
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, logging
from transformers.generation.configuration_utils import CompileConfig, ContinuousBatchingConfig

import prorl_mini as mini
from prorl_lab import models

WRITERS = ("mini", "static", "compiled", "continuous")


@dataclass
class Args:
    """Tokens a second of each writer, in turns, on a model of random weights."""

    rounds: int = 3
    prompts: int = 8
    answers: int = 8  # to each prompt
    longest: int = 96  # tokens of a prompt; the shortest has a quarter
    tokens: int = 96  # of each answer: nothing ends one early, which spares mini nothing that the others pay
    hidden: int = 512
    layers: int = 8
    vocabulary: int = 8192
    threads: int = 1
    writers: tuple[str, ...] = WRITERS
    out: Path | None = None  # a folder for rollout_writers.json; not given: only printed


def make_model(args: Args) -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=args.vocabulary, hidden_size=args.hidden, intermediate_size=3 * args.hidden,
        num_hidden_layers=args.layers, num_attention_heads=args.hidden // 64, num_key_value_heads=args.hidden // 128,
        pad_token_id=0, eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def with_mini(model: Any, prompts: list[list[int]], args: Args) -> list[list[int]]:
    return mini.rollout(model, prompts, args.answers, args.tokens, 1.2, [-1], torch.Generator().manual_seed(0))


def sampling(args: Args, **more: Any) -> GenerationConfig:
    """The whole softmax at the temperature, as mini samples."""
    return GenerationConfig(
        do_sample=True, temperature=1.2, top_k=0, top_p=1.0, max_new_tokens=args.tokens, pad_token_id=0,
        num_return_sequences=args.answers, **more,
    )  # fmt: skip


def with_static_cache(model: Any, prompts: list[list[int]], args: Args, compiled: bool) -> list[list[int]]:
    ids, seen = mini.pad_left(prompts, model.device)
    more: dict[str, Any] = {"disable_compile": True}
    if compiled:
        more = {"compile_config": CompileConfig(mode="default")}
        more["compile_config"]._compile_all_devices = True  # transformers' own switch; without it a CPU is left out
    config = sampling(args, cache_implementation="static", **more)
    torch.manual_seed(0)  # it takes no generator
    written = model.generate(input_ids=ids, attention_mask=seen.long(), generation_config=config)
    return written[:, ids.shape[1] :].tolist()


def with_continuous_batching(model: Any, prompts: list[list[int]], args: Args) -> list[list[int]]:
    how = ContinuousBatchingConfig(seed=0, num_blocks=256, max_batch_tokens=2048)
    written = model.generate_batch(prompts, sampling(args), how, progress_bar=False)
    return [output.generated_tokens for output in written.values()]


def writer(name: str, model: Any, args: Args) -> Callable[[list[list[int]]], list[list[int]]]:
    if name == "mini":
        return lambda prompts: with_mini(model, prompts, args)
    if name == "continuous":
        return lambda prompts: with_continuous_batching(model, prompts, args)
    return lambda prompts: with_static_cache(model, prompts, args, compiled=name == "compiled")


def sees_autocast() -> bool:
    """Does a thread that is started under autocast compute under it, as continuous batching's would have to?"""
    seen = []
    with models.autocast(SimpleNamespace(dtype="bfloat16", device="cpu")):
        thread = threading.Thread(target=lambda: seen.append(torch.is_autocast_enabled("cpu")))
        thread.start()
        thread.join()
    return seen[0]


def main() -> None:
    args = tyro.cli(Args)
    logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    draw, model = random.Random(0), make_model(args)
    prompts = [
        [draw.randrange(1, args.vocabulary) for _ in range(draw.randint(args.longest // 4, args.longest))]
        for _ in range(args.prompts)
    ]
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in args.writers}
    first: dict[str, float] = {}  # seconds of the first call, compilation included
    for turn in range(args.rounds + 1):
        for name in args.writers:
            start, processor = time.perf_counter(), time.process_time()
            answers = writer(name, model, args)(prompts)
            seconds = {"wall": time.perf_counter() - start, "processor": time.process_time() - processor}
            assert [len(answer) for answer in answers] == [args.tokens] * (args.prompts * args.answers), name
            if turn:
                taken[name].append(seconds)
            else:
                first[name] = seconds["wall"]
            print(f"{name:12} {seconds['wall']:8.2f} s, {seconds['processor']:8.2f} of the processor", flush=True)
    tokens = args.prompts * args.answers * args.tokens
    result = {
        "args": asdict(args) | {"out": None},
        "tokens_per_processor_second": {
            name: tokens / statistics.median(row["processor"] for row in rows) for name, rows in taken.items()
        },
        "seconds": taken,
        "first_call": first,
        "a_thread_inherits_autocast": sees_autocast(),
        "versions": versions("torch", "transformers"),
        "machine": machine(),
    }
    print(json.dumps({key: result[key] for key in ("tokens_per_processor_second", "first_call")}, indent=2))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "rollout_writers.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
