"""Where RL gains most: gain against the base model's boundary."""

import numpy as np

from .. import figures
from ..page import Plot, Section, Table
from ..regimes import BOUNDARY_K, regression
from ..sources import Source
from .regimes import PAPER_REGIMES, regime_rows


def gain_section(sources: list[Source]) -> Section:
    section = Section(
        "gain",
        "Where RL gains most: gain against the base model's boundary",
        [
            "Each point is a task: across, the base model's pass@{boundary_k} (or the largest k that was measured); "
            "up, final − base. A slope near −1 with an intercept near 1 says that the final model's boundary is near "
            "1 wherever it began, so that the weakest tasks gain most. Part of that is arithmetic: the gain contains "
            "the base value with a minus sign, and cannot exceed 1 − base.",
            "One point per task: size variants of a task (graph_color_5 beside graph_color) are left out. With fewer "
            "than 3 sets, the tiers of a set are the points.",
        ],
        {"boundary_k": BOUNDARY_K},
    )
    for source in sources:
        p = source.prefix
        rows = regime_rows(source, source.points)
        base, gain = (np.array([row[key] for row in rows]) for key in ("base", "gain"))
        line = regression(base, gain)
        section.facts[f"{p}points"] = len(rows)
        kind = "Published" if p else "Measured"
        if line:
            section.facts |= {f"{p}slope": line.slope, f"{p}intercept": line.intercept, f"{p}r2": line.r2}
            section.text.append(
                f"{kind}, {{{p}points}} points: gain = {{{p}intercept}} + ({{{p}slope}}) × base, R² = {{{p}r2}}."
            )
        else:
            section.text.append(f"{kind}: {{{p}points}} points, too few or too much alike for a line.")
        named = PAPER_REGIMES if p else {unit.set for unit in source.points} if len(rows) <= 24 else {}
        points = [{**row, "label": row["unit"].label if row["unit"].set in named else ""} for row in rows]
        section.plots.append(
            Plot(
                f"{p}gain", figures.gain_scatter(points, line, source.k_name),
                f"Gain in {source.k_name} (final − base, difference of shares) against the base model's, "
                f"{{{p}points}} tasks, coloured by regime. Solid: least squares. Dashed: all that is left to gain.",
            )
        )  # fmt: skip
        table = [[r["unit"].set, r["unit"].tier or "all", r["k"], r["base"], r["final"], r["gain"]] for r in rows]
        section.tables.append(
            Table(f"{p}gain", f"{kind} points", ["set", "tier", "k", source.base, source.final, "gain"], table)
        )
    return section
