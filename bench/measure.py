"""What the scripts of this folder share; each side of step_vs_trl.py imports it in its own environment."""

import importlib.metadata
import json
import os
import platform
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


class Yardstick:
    """Wall and processor seconds from one reward call to the next.

    A trainer asks for rewards exactly once per rollout, so this stretch is one whole step (updates, logging, the next
    rollout) on both sides, whatever functions the trainer is made of.  Inside, time belongs to the innermost `part`.
    """

    def __init__(self, outside: str):
        self.names = [outside]  # what time belongs to when no part is open
        self.seconds: dict[str, float] = defaultdict(float)
        self.updates = 0
        self.steps: list[dict[str, Any]] = []  # the stretch before the first reward call comes first, and is no step
        self.since = time.perf_counter()
        self.cpu_since = time.process_time()
        register_optimizer_step_post_hook(self._count_update)  # every optimizer of the process, wrapped or not

    def _count_update(self, *_: Any) -> None:
        self.updates += 1

    def _charge(self) -> None:
        now = time.perf_counter()
        self.seconds[self.names[-1]] += now - self.since
        self.since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._charge()
        self.names.append(name)
        try:
            yield
        finally:
            self._charge()
            self.names.pop()

    def mark(self, answer_tokens: int | None = None) -> None:
        """Called by the reward function: one step ends, the next begins.  The tokens are those just generated."""
        self._charge()
        cpu = time.process_time()
        self.steps.append(
            {
                "seconds": sum(self.seconds.values()),
                "cpu_seconds": cpu - self.cpu_since,
                "updates": self.updates,
                "answer_tokens": answer_tokens,
                "parts": dict(self.seconds),
            }
        )
        self.seconds.clear()
        self.cpu_since, self.updates = cpu, 0


def random_rewards(count: int, draw: random.Random) -> list[float]:
    """Rewards that ignore the answers: every group has contrast, so neither side filters or skips anything."""
    return [draw.random() for _ in range(count)]


def read_settings() -> dict[str, Any]:
    """The worker's one argument is its settings file; threads are set before any other work."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(settings["threads"])
    return settings


def write_result(settings: dict[str, Any], steps: list[dict[str, Any]], packages: list[str]) -> None:
    used = {"versions": versions(*packages), "threads": torch.get_num_threads()}
    result = {"steps": steps[settings["warmup"] :], **used}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


def versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def machine() -> dict[str, Any]:
    """The processor, and the load when asked: a figure from a busy machine must say so."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = f"{names[0] if names else platform.processor()} ({platform.machine()})"
    return {"cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
