"""Sets, and tiers of sets, with their pass@k curves: from an evaluation, or from published numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prorl_lab.intervals import mean_interval

from .curves import pass_curves, powers_of_two, right_counts
from .load import Evaluation, Published
from .regimes import BOUNDARY_K, tasks


@dataclass
class Unit:
    """What a curve is drawn of: a set, or one tier of a set.  From an evaluation, or from published numbers (then
    `rows` is None, and there are no bands)."""

    set: str
    tier: str | None
    ks: list[int]
    values: dict[str, np.ndarray]  # {model: (K,) pass@k}
    n: int | None = None  # answers per prompt
    rows: np.ndarray | None = None  # (P,) which prompts of the set
    low: dict[str, np.ndarray] | None = None
    high: dict[str, np.ndarray] | None = None
    per_prompt: dict[str, np.ndarray] | None = None  # {model: (P, K)}

    @property
    def label(self) -> str:
        return f"{self.set}, {self.tier.strip()}" if self.tier else self.set

    @property
    def boundary(self) -> int:
        """Where in `ks` pass@128 stands, or the largest k below."""
        return max(i for i, k in enumerate(self.ks) if k <= BOUNDARY_K)

    def at_boundary(self, model: str) -> float:
        return float(self.values[model][self.boundary])


@dataclass
class Source:
    """Where curves come from; `prefix` goes before the names of their files."""

    prefix: str
    models: list[str]
    units: list[Unit]  # a set, then its tiers, where it has more than one

    @property
    def base(self) -> str:
        return self.models[0]

    @property
    def middle(self) -> str | None:
        return self.models[len(self.models) // 2] if len(self.models) > 2 else None

    @property
    def final(self) -> str:
        return self.models[-1]

    @property
    def sets(self) -> list[Unit]:
        return [unit for unit in self.units if unit.tier is None]

    @property
    def leaves(self) -> list[Unit]:
        """Tiers instead of the sets that have them."""
        tiered = {unit.set for unit in self.units if unit.tier}
        return [unit for unit in self.units if unit.tier or unit.set not in tiered]

    @property
    def points(self) -> list[Unit]:
        """What the regression runs over: one unit per task, or the leaves where there are fewer than 3 tasks."""
        names = tasks([unit.set for unit in self.sets])
        return [unit for unit in self.sets if unit.set in names] if len(names) >= 3 else self.leaves

    @property
    def k_name(self) -> str:
        """pass@128, or what stands for it."""
        ks = sorted({unit.ks[unit.boundary] for unit in self.units})
        return f"pass@{ks[0]}" if len(ks) == 1 else f"pass@{ks[0]} to @{ks[-1]}"


def tiers_of(prompts: list[dict]) -> dict[str, np.ndarray]:
    """{tier: rows}, in the order of their numbers where all have one, else of the file; empty for a single tier."""
    names = [str(row["tier"]) for row in prompts if row.get("tier") is not None]
    order = list(dict.fromkeys(names))
    digits = {name: "".join(c for c in name if c.isdigit()) for name in order}
    if all(digits.values()):
        order.sort(key=lambda name: int(digits[name]))
    if len(order) < 2:
        return {}
    return {tier: np.array([i for i, row in enumerate(prompts) if str(row.get("tier")) == tier]) for tier in order}


def measured(evaluation: Evaluation, count: Callable[[np.ndarray], np.ndarray] = right_counts) -> Source:
    """pass@k with bands of every set and tier.  count: (P, n) scores -> (P,) right answers."""
    units = []
    for name, prompts in evaluation.prompts.items():
        answers = {model: evaluation.answers[model, name] for model in evaluation.models}
        n = min(a.n for a in answers.values())
        ks = powers_of_two(n)
        curves = {model: pass_curves(count(a.scores), a.n, ks) for model, a in answers.items()}
        for tier, rows in {None: np.arange(len(prompts)), **tiers_of(prompts)}.items():
            mine = {model: curve[rows] for model, curve in curves.items()}
            bands = {model: mean_interval(curve) for model, curve in mine.items()}
            values = {model: curve.mean(0) for model, curve in mine.items()}
            low, high = ({model: band[side] for model, band in bands.items()} for side in (0, 1))
            units.append(Unit(name, tier, ks, values, n, rows, low, high, mine))
    return Source("", evaluation.models, units)


def published(data: Published) -> Source:
    units = [
        Unit(name, None, [2**i for i in range(len(curves["base"]))], curves) for name, curves in data.curves.items()
    ]
    return Source("published_", data.models, units)
