"""What one training step generated, kept and threw away, and how long its parts took.

Without this, selection looks like learning: the reward of the groups that were kept is near one half by construction,
whatever the policy can do.  So `reward_unfiltered` and `solved` are over all answers, dropped ones included.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

PARTS = ("generate", "reward", "logprobs", "update")


class Ledger:
    """Filled by the stages of one step, read once by `metrics`."""

    def __init__(self) -> None:
        self.tiers: dict[str, dict[str, int]] = {}
        self.samples: list[Any] = []  # every answer of this step
        self.tokens_wasted = 0
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Add the time spent inside to one of `PARTS`."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start

    def add(self, tier: str, group: list[Any], kept: bool) -> None:
        """Count one group of samples."""
        row = self.tiers.setdefault(tier, dict.fromkeys(("generated", "kept", "solved_all", "solved_none"), 0))
        row["generated"] += 1
        row["kept"] += kept
        row["solved_all"] += all(s.reward >= 1 for s in group)
        row["solved_none"] += all(s.reward < 1 for s in group)
        self.samples += group
        self.tokens_wasted += 0 if kept else sum(len(s.answer) for s in group)

    def metrics(self, trained_on: list[list[Any]]) -> dict[str, Any]:
        """The step's part of metrics.jsonl; None where there was nothing to average."""
        trained = [s for group in trained_on for s in group]
        trained_tokens = sum(len(s.answer) for s in trained)
        return {
            "reward": mean([s.reward for s in trained]),
            "reward_unfiltered": mean([s.reward for s in self.samples]),
            "solved": mean([s.reward >= 1 for s in self.samples]),
            "length": mean([len(s.answer) for s in self.samples]),
            "truncated": mean([s.truncated for s in self.samples]),
            "entropy": sum(s.entropy for s in trained) / trained_tokens if trained else None,
            "groups_kept": len(trained_on),
            "groups_generated": sum(row["generated"] for row in self.tiers.values()),
            "tokens": sum(len(s.answer) for s in self.samples),
            "tokens_wasted": self.tokens_wasted,
            **{f"seconds_{part}": self.seconds[part] for part in PARTS},
            "ledger": self.tiers,
        }


def mean(values: list) -> float | None:
    """The mean as a float, or None of nothing."""
    return float(sum(values) / len(values)) if values else None
