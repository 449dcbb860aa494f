"""What one training step generated, kept and threw away, and how long its parts took.

Without this, selection looks like learning: the reward of the groups that were kept is near one half by construction,
whatever the policy can do.  So `reward_unfiltered` and `solved` are over all answers, dropped ones included, and so is
`entropy_unfiltered`: groups with contrast are those that the policy is least sure of.
"""

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

PARTS = ("generate", "reward", "logprobs", "update")
RECENT_ROUNDS = 10  # rounds that say what share of the groups is kept


class Ledger:
    """Filled by the stages of one step, read once by `metrics`."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, list[Any], bool]] = []  # (tier, samples, kept), all of this step
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Add the time spent inside to one of `PARTS`."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start

    def add(self, tier: str, group: list[Any], kept: bool) -> None:
        """Count one group of samples."""
        self.groups.append((tier, group, kept))

    def kept(self, count: int) -> int:
        """How many of the last `count` groups were kept."""
        return sum(kept for _, _, kept in self.groups[-count:])

    @property
    def samples(self) -> list[Any]:
        """Every answer of this step."""
        return [sample for _, group, _ in self.groups for sample in group]

    def metrics(self, trained_on: list[list[Any]]) -> dict[str, Any]:
        """The step's part of metrics.jsonl; None where there was nothing to average."""
        samples = self.samples
        trained = [s for group in trained_on for s in group]
        tiers = {tier: self._tier([row for row in self.groups if row[0] == tier]) for tier, _, _ in self.groups}
        return {
            "reward": mean([s.reward for s in trained]),
            "reward_unfiltered": mean([s.reward for s in verified(samples)]),
            "solved": mean([s.reward >= 1 for s in verified(samples)]),
            "length": mean([len(s.answer) for s in samples]),
            "truncated": mean([s.truncated for s in samples]),
            "unverified": sum(s.reward is None for s in samples),
            "entropy": sum(s.entropy for s in trained) / count_tokens(trained) if trained else None,
            "entropy_unfiltered": sum(s.sampler_entropy for s in samples) / count_tokens(samples) if samples else None,
            "groups_kept": len(trained_on),
            "groups_generated": len(self.groups),
            "tokens": count_tokens(samples),
            "tokens_wasted": sum(row["tokens_wasted"] for row in tiers.values()),
            **{f"seconds_{part}": self.seconds[part] for part in PARTS},
            "ledger": tiers,
        }

    def _tier(self, rows: list[tuple[str, list[Any], bool]]) -> dict[str, Any]:
        """The same of one tier: groups by their fate, and what all its answers, dropped ones included, earned."""
        groups, rewards = [group for _, group, _ in rows], [verified(group) for _, group, _ in rows]
        return {
            "generated": len(rows),
            "kept": sum(kept for _, _, kept in rows),
            "solved_all": sum(bool(group) and all(s.reward >= 1 for s in group) for group in rewards),
            "solved_none": sum(bool(group) and all(s.reward < 1 for s in group) for group in rewards),
            "reward_unfiltered": mean([s.reward for group in rewards for s in group]),
            "tokens": sum(map(count_tokens, groups)),
            "tokens_wasted": sum(count_tokens(group) for _, group, kept in rows if not kept),
        }


def prompts_to_draw(missing: int, rounds: list[tuple[int, int]], drawn: int, config: Any) -> int:
    """How many prompts a step's next round draws; 0: the step is full, or has drawn all that it may.

    missing: groups that the step still wants.  rounds: (prompts drawn, groups kept) of the last rounds, of whatever
    step.  drawn: prompts of this step so far.

    A round takes as long as its longest answer, and nearly as long for many prompts as for few.  So it draws what is
    missing over the share that was kept of late, and a tenth more, lest chance make another round necessary.  Where
    less than an eighth of P is missing it counts an eighth: a few prompts more hardly make the round longer, a second
    round would, and what is too much waits for the next step.  One prompt more, and kept, is counted: before the first
    round all are taken to be kept, and nothing is divided by zero.  `--draw rounds`: P prompts in each round, as in the
    code base of the paper.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(draw="adaptive", dynamic_sampling=True, prompts_per_step=32, max_rounds=4)
    >>> prompts_to_draw(32, [], 0, config), prompts_to_draw(32, [(39, 19), (40, 20)], 0, config)
    (36, 71)
    >>> prompts_to_draw(1, [(39, 19), (40, 20)], 71, config), prompts_to_draw(32, [(99, 0)], 40, config)
    (9, 88)
    """
    if missing <= 0:
        return 0
    if config.draw == "rounds" or not config.dynamic_sampling:
        return config.prompts_per_step
    prompts = 1 + sum(count for count, _ in rounds)
    kept = 1 + sum(count for _, count in rounds)
    wanted = max(missing, config.prompts_per_step / 8)
    return min(math.ceil(1.1 * wanted * prompts / kept), config.max_rounds * config.prompts_per_step - drawn)


def verified(samples: list[Any]) -> list[Any]:
    """Those whose reward is known.  None means that the machine was too busy to judge the answer in time."""
    return [sample for sample in samples if sample.reward is not None]


def count_tokens(samples: list[Any]) -> int:
    """Tokens of their answers."""
    return sum(len(s.answer) for s in samples)


def mean(values: list) -> float | None:
    """The mean as a float, or None of nothing."""
    return float(sum(values) / len(values)) if values else None
