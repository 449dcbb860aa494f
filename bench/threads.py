"""Threads, spinning and neighbours: what one and two threads of torch make of an idle and of a busy machine.

    python bench/threads.py [--turns 5] [--out FILE]

OpenMP's idle threads spin before they sleep, libgomp's for a very long time; on a busy machine they spin while the
thread that they wait for has no processor.  `GOMP_SPINCOUNT`, set before torch is imported, bounds that.  One process
per choice of threads and spin count takes whole training steps in turns with the others, beside `--loads` busy loops.
The learning rate is too small to move a weight, so all of them do the same work.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CHOICES = ((1, None), (2, None), (2, 300), (2, 1000), (2, 3000), (2, 10000))  # (threads, spin count)


@dataclass
class Settings:
    """Command line."""

    turns: int = 5  # of each choice beside each load
    loads: tuple[int, ...] = (0, 1, 3, 6)  # busy loops
    steps: int = 2  # whole training steps per turn
    model: Literal["laptop", "100M"] = "laptop"
    base_cache: str = "runs/base-models"
    out: Path | None = None  # also write the figures there, as JSON


def work(model: str, threads: int, base_cache: str) -> None:
    """A worker: take as many training steps as each line of the input says, and print their tokens and seconds."""
    import torch

    import prorl_mini as mini
    from prorl_lab import laptop

    with tempfile.TemporaryDirectory() as name:
        config = mini.Config(
            out=f"{name}/run", base_cache=base_cache, threads=threads, steps=10**6, learning_rate=1e-30,
            weight_decay=0.0, dynamic_sampling=False, prompts_per_step=32 if model == "laptop" else 2,
        )  # fmt: skip
        with contextlib.redirect_stdout(sys.stderr):  # the greeting: standard output is for figures
            run = mini.start_run(mini.settings.resolve(config))
        if model == "100M":
            from transformers import AutoModelForCausalLM

            big = laptop.model_config(laptop.WarmUp(width=768, layers=13, heads=12), run.policy.config.vocab_size)
            run.policy = AutoModelForCausalLM.from_config(big)
            run.reference = AutoModelForCausalLM.from_config(big).requires_grad_(False)
            run.optimizer = torch.optim.AdamW(run.policy.parameters(), 1e-30, weight_decay=0.0, fused=True)
        print(sum(p.numel() for p in run.policy.parameters()), flush=True)
        rows: list[dict] = []
        run.folder.metrics = rows.append
        for line in sys.stdin:
            rows.clear()
            start = time.perf_counter()
            for _ in range(int(line)):
                mini.train_step(run)
            seconds = time.perf_counter() - start
            print(json.dumps([sum(row["tokens"] for row in rows), seconds]), flush=True)


def start(settings: Settings, threads: int, spin: int | None) -> subprocess.Popen:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    }
    environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": "."}
    # libgomp's own: prorl_lab.openmp sets nothing where a person has chosen how threads wait.
    environment |= {"OMP_WAIT_POLICY": ""} if spin is None else {"GOMP_SPINCOUNT": str(spin)}
    command = [sys.executable, __file__, "worker", settings.model, str(threads), settings.base_cache]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        stderr=None if os.environ.get("LOUD") else subprocess.DEVNULL,
    )  # fmt: skip
    print("parameters", worker.stdout.readline().strip(), "threads", threads, "spin", spin, flush=True)
    return worker


def turn(worker: subprocess.Popen, steps: int) -> float:
    """Tokens a second of one turn."""
    worker.stdin.write(f"{steps}\n")
    worker.stdin.flush()
    tokens, seconds = json.loads(worker.stdout.readline())
    return tokens / seconds


def main(settings: Settings) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit must not leave the loops behind
    workers = {choice: start(settings, *choice) for choice in CHOICES}
    for worker in workers.values():
        turn(worker, 1)
    rows = []
    for load in settings.loads:
        # libgomp's own count is a minute a step beside three loops
        tried = {choice: worker for choice, worker in workers.items() if load < 3 or choice != (2, None)}
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
        try:
            rates: dict = {choice: [] for choice in tried}
            for _ in range(settings.turns):
                for choice, worker in tried.items():
                    rates[choice].append(turn(worker, settings.steps))
        finally:
            for loop in loops:
                loop.kill()
        for (threads, spin), seen in rates.items():
            row = dict(model=settings.model, busy_loops=load, threads=threads, spin=spin, tokens_per_second=seen)
            rows.append(row | dict(median=statistics.median(seen)))
            print(f"{load} loops, {threads} threads, spin {spin}: {statistics.median(seen):.0f} tokens/s "
                  f"({min(seen):.0f} to {max(seen):.0f})", flush=True)  # fmt: skip
            if settings.out:
                settings.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        import tyro

        main(tyro.cli(Settings))
