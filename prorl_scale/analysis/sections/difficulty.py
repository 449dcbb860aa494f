"""By difficulty, out of distribution, and by scorer."""

from .. import figures
from ..curves import pass_curves, powers_of_two, right_counts
from ..load import Evaluation
from ..page import Section, Table
from ..regimes import families
from ..sources import Source, Unit
from .common import in_figures

OUT_OF_DISTRIBUTION = ("acre", "boxnet", "game_of_life_halting", "puzzle24")  # the paper's four, never trained on


def difficulty_section(evaluation: Evaluation | None, sources: list[Source]) -> Section | None:
    section = Section(
        "difficulty",
        "Harder than trained, and other than trained",
        ["pass@1 and pass@k at the largest k, by difficulty, and on tasks that were in no training data."],
    )
    for source in sources:
        shown, rows = [], []
        for title, xlabel, units in by_difficulty(source):
            for k_index, what in ((0, "pass@1"), (-1, "pass@max")):
                ks = {unit.ks[k_index] for _, unit in units}
                name = f"pass@{min(ks)}" if len(ks) == 1 else what
                shown.append(
                    {
                        "title": f"{title}: {name}",
                        "xlabel": xlabel,
                        "labels": [label for label, _ in units],
                        "values": {m: [u.values[m][k_index] for _, u in units] for m in source.models},
                        **bands_at(source, [unit for _, unit in units], k_index),
                    }
                )
            for label, unit in units:
                ends = [float(unit.values[m][i]) for i in (0, -1) for m in source.models]
                rows.append([title, label, unit.ks[-1], *ends])
        if shown:
            p = source.prefix
            bands = "" if p else " Shaded: 95 % interval over prompts."
            section.plots += in_figures(
                f"{p}difficulty", shown, lambda part, s=source: figures.by_size(part, s.models),
                "Share of prompts solved, in one try (pass@1) and in the most tries measured, by the size of the "
                f"problem.{bands}",
            )  # fmt: skip
            columns = ["task", "size", "largest k"]
            columns += [f"{m} {w}" for w in ("pass@1", "pass@largest k") for m in source.models]
            kind = "published" if p else "measured"
            section.tables.append(Table(f"{p}difficulty", f"By difficulty, {kind}", columns, rows))
            if p:
                section.text.append(
                    "Mind that published curves of puzzles count format rewards (section on pass@k): that is why the "
                    "largest sizes still reach 1 at the largest k."
                )
        section.tables += ood_tables(source)
    if evaluation:
        add_scorers(section, evaluation)
    return section if section.tables else None


def bands_at(source: Source, units: list[Unit], k_index: int) -> dict[str, dict[str, list]]:
    """{"low", "high": {model: (units,)}} at one k; nothing where there are no bands."""
    if units[0].low is None:
        return {}
    return {side: {m: [getattr(u, side)[m][k_index] for u in units] for m in source.models} for side in ("low", "high")}


def by_difficulty(source: Source) -> list[tuple[str, str, list[tuple[str, Unit]]]]:
    """(title, axis label, [(size, unit), ...]): sets with tiers, and families of sets by size."""
    out = []
    for unit in source.sets:
        tiers = [u for u in source.units if u.set == unit.set and u.tier]
        if tiers:
            out.append((unit.set, "tier", [(u.tier.strip(), u) for u in tiers]))
    of_name = {unit.set: unit for unit in source.sets}
    for stem, sized in families(list(of_name)).items():
        out.append((stem, "size", [(str(size), of_name[name]) for size, name in sized]))
    return out


def ood_tables(source: Source) -> list[Table]:
    rows = []
    for unit in source.sets:
        if any(unit.set == name or unit.set.startswith(name + "_") for name in OUT_OF_DISTRIBUTION):
            ends = [float(unit.values[m][i]) for i in (0, unit.boundary) for m in source.models]
            rows.append([unit.set, unit.ks[unit.boundary], *ends])
    if not rows:
        return []
    columns = ["set", "k", *(f"{m} {w}" for w in ("pass@1", "pass@k") for m in source.models)]
    return [Table(f"{source.prefix}ood", "Tasks never trained on", columns, rows)]


def add_scorers(section: Section, evaluation: Evaluation) -> None:
    """The original and the corrected scorer side by side, where the answers carry both."""
    rows = []
    for (model, name), answers in evaluation.answers.items():
        if answers.originals is None:
            continue
        for scorer, scores in (("original", answers.originals), ("corrected", answers.scores)):
            ks = powers_of_two(answers.n)
            curve = pass_curves(right_counts(scores), answers.n, ks).mean(0)
            rows.append([name, model, scorer, float(scores.mean()), float(curve[0]), ks[-1], float(curve[-1])])
    if rows:
        section.text.append(
            "Some tasks' own scorers pay for the wrong thing (game_of_life_halting: for any non-empty answer). There "
            "the answers carry two scores: everything else on this page uses the corrected one, and the table below "
            "has both."
        )
        columns = ["set", "model", "scorer", "mean score", "pass@1", "largest k", "pass@largest k"]
        rows.sort(key=lambda row: row[0])
        section.tables.append(Table("scorers", "Original and corrected scorer", columns, rows))
