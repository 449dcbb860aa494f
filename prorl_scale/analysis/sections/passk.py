"""pass@k of every set and tier, the other counting, and the floor under it."""

import numpy as np

from .. import figures
from ..curves import pass_curves, summed_counts
from ..load import Evaluation
from ..page import Section, Table
from ..sources import Source, measured
from .common import band_table, in_figures, panels, sizes, wide_table


def pass_at_k_section(mine: Source | None, evaluation: Evaluation | None, theirs: Source | None) -> Section:
    section = Section(
        "passk",
        "pass@k: what a model solves in k tries",
        [
            "pass@k is the chance that at least one of k answers to a prompt is right, averaged over prompts. It is "
            "estimated without bias from c right ones among n answers as 1 − C(n−c, k) / C(n, k) (Chen et al. 2021), "
            "for k = 1, 2, 4, … up to 256 or n. pass@1 says how reliable a model is; pass@k at large k what it can "
            "reach at all."
        ],
    )
    if mine:
        section.facts |= sizes(mine)
        section.text.append(
            "Right means the whole reward (score 1). Bands are 95 % intervals of the mean over prompts: they "
            "say how far another draw of prompts would move the curve, not how far other answers or another training "
            "run would."
        )
        section.plots += in_figures(
            "passk", mine.units, lambda part: figures.pass_curves(panels(part), mine.models),
            "pass@k (binary) against k, a panel for each set and each tier ({panels} panels, {prompts_low} to "
            "{prompts_high} prompts each, {n} answers per prompt). Shaded: 95 % interval over prompts.",
        )  # fmt: skip
        section.tables += [wide_table(mine, "passk", "pass@k, binary"), band_table(mine, "passk_bands")]
        add_summed(section, mine, measured(evaluation, summed_counts))
    if theirs:
        section.facts["published_sets"] = len(theirs.units)
        section.text.append("The published curves are drawn as they were printed, without bands.")
        section.plots += in_figures(
            "published_passk", theirs.units, lambda part: figures.pass_curves(panels(part), theirs.models),
            "Published pass@k against k for {published_sets} sets. No bands: answers to single prompts are not public.",
        )  # fmt: skip
        section.tables.append(wide_table(theirs, "published_passk", "pass@k, as published"))
        add_floor(section, theirs)
    return section


SUMMED = (
    "<b>int(sum of rewards).</b> The paper's curves of several tasks do not count right answers. They fit c = "
    "int(sum of a prompt's n rewards), put into the same estimator, where the rewards are the continuous ones: 256 "
    "wrong answers that earn 0.01 each for their format then count as 2 right ones, and pass@256 is 1. That is "
    "inferred from the printed numbers, the paper does not say it."
)


def add_summed(section: Section, mine: Source, summed: Source) -> None:
    """The int(sum) variant beside the binary curves; drawn where the two differ."""
    section.text.append(SUMMED)
    differ = [
        (a, b)
        for a, b in zip(mine.units, summed.units, strict=True)
        if any((a.values[model] != b.values[model]).any() for model in mine.models)
    ]
    section.facts["differ"] = len(differ)
    section.tables.append(wide_table(summed, "passk_int_sum", "pass@k with c = int(sum of rewards)"))
    if not differ:
        section.text.append("Here the two countings agree on every panel: all rewards are 0 or 1.")
        return
    both = [
        {**panel, "low": None, "high": None, "dashed": b.values, "dashed_ks": b.ks, "dashed_label": "int(sum)"}
        for panel, (_, b) in zip(panels([a for a, _ in differ]), differ, strict=True)
    ]
    section.plots += in_figures(
        "passk_int_sum", both, lambda part: figures.pass_curves(part, mine.models),
        "The {differ} panels on which the countings differ. Solid: right means score 1. Dashed: c = int(sum of "
        "rewards), which partial rewards lift towards 1.",
    )  # fmt: skip


def add_floor(section: Section, theirs: Source) -> None:
    """What a reward of 0.01 for every wrong answer alone gives, beside a published curve that it explains."""
    if SUMMED not in section.text:
        section.text.append(SUMMED)
    unit = next((u for u in theirs.units if u.set == "group_anagrams" and u.ks[-1] == 256), None)
    if unit is None:
        return
    floor = pass_curves(summed_counts(np.full((1, 256), 0.01)), 256, unit.ks)[0]
    rows = [
        ["0.01 for each of 256 wrong answers", *floor.tolist()],
        *([f"group_anagrams, {model}, as published", *unit.values[model].tolist()] for model in theirs.models),
    ]
    columns = ["curve", *(f"pass@{k}" for k in unit.ks)]
    section.facts["floor_difference"] = float(np.abs(floor - unit.values[theirs.final]).max())
    section.text.append(
        "group_anagrams shows it: the final model's published curve and the one that comes of no right answer at all, "
        "with 0.01 for each wrong one, differ by {floor_difference} at most, which is rounding."
    )
    section.tables.append(Table("published_floor", "A curve made of format rewards alone", columns, rows))
