"""When the boundary moved: diminish, plateau, sustained."""

from collections import Counter

from prorl_lab.intervals import difference_interval

from .. import figures
from ..page import Plot, Section, Table
from ..regimes import BOUNDARY_K, STEP, regime
from ..sources import Source, Unit

PAPER_REGIMES = {
    "math": "diminish",
    "deepcoder_livecodebench": "diminish",
    "letter_counting": "diminish",
    "gpqa_diamond": "plateau",
    "maze": "plateau",
    "palindrome": "plateau",
    "codecontests": "sustained",
    "taco": "sustained",
    "dice": "sustained",
}


def regime_rows(source: Source, units: list[Unit]) -> list[dict]:
    """Regime, gain and late gain of each unit, with paired intervals where there are prompts."""
    out = []
    for unit in units:
        base, final = (unit.at_boundary(model) for model in (source.base, source.final))
        middle = unit.at_boundary(source.middle) if source.middle else None
        row = {
            "unit": unit,
            "k": unit.ks[unit.boundary],
            "base": base,
            "middle": middle,
            "final": final,
            "gain": final - base,
            "late": None if middle is None else final - middle,
            "regime": regime(base, middle, final),
            "bands": [],
        }
        if unit.per_prompt:
            at = {model: curve[:, unit.boundary] for model, curve in unit.per_prompt.items()}
            against = [source.base] + ([source.middle] if source.middle else [])
            bands = [difference_interval(at[model], at[source.final]) for model in against]
            row["bands"] = [float(end) for band in bands for end in band]
        out.append(row)
    return out


def regimes_section(sources: list[Source]) -> Section:
    section = Section(
        "regimes",
        "Regimes: diminish, plateau, sustained",
        [
            "The paper sorts sets into three regimes and gives no rule. The rule here looks at pass@{boundary_k} (or "
            "at the largest k that was measured) of base, intermediate and final checkpoint. <b>Diminish</b>: final − "
            "base is at most {step}. <b>Sustained</b>: it is more, and so is final − intermediate: the second half "
            "of training still moved the boundary. <b>Plateau</b>: it is more, and final − intermediate is not.",
            "Mind the ceiling: a base model near 1 can only fall under diminish, and a set on which the intermediate "
            "model is near 1 only under plateau. Such sets say little about the limits of RL.",
        ],
        {"boundary_k": BOUNDARY_K, "step": STEP, "linear": 2 * STEP},
    )
    for source in sources:
        rows = regime_rows(source, source.units)
        count = Counter(row["regime"] for row in rows)
        p = source.prefix
        for name in ("diminish", "plateau", "sustained", "gain"):
            section.facts[f"{p}{name}"] = count[name]
        section.facts[f"{p}units"] = len(rows)
        names = [n for n in ("diminish", "plateau", "sustained", "gain") if count[n]]
        verdict = ", ".join(f"{{{p}{name}}} {name}" for name in names)
        nine = [row for row in rows if row["unit"].set in PAPER_REGIMES] if p else []
        if p:
            section.facts[f"{p}examples"] = len(nine)
            section.facts[f"{p}examples_right"] = sum(r["regime"] == PAPER_REGIMES[r["unit"].set] for r in nine)
            section.text.append(
                f"Published curves, {{{p}units}} sets: {verdict}. Of the {{{p}examples}} examples that the paper "
                f"itself sorts, {{{p}examples_right}} come out as it has them."
            )
        else:
            section.facts[f"{p}clear"] = sum(is_clear(row) for row in rows)
            section.text.append(
                f"Measured, {{{p}units}} sets and tiers: {verdict}. A row is <i>clear</i> when the 95 % intervals of "
                "the differences that decide, on the same prompts for all models, lie on one side of the threshold; "
                f"{{{p}clear}} are. What is not clear is where the numbers happened to fall."
            )
        section.tables.append(regime_table(source, rows))
        if source.middle:
            labelled = {id(row["unit"]) for row in (nine or (rows if len(rows) <= 24 else []))}
            points = [{**row, "label": row["unit"].label if id(row["unit"]) in labelled else ""} for row in rows]
            what = "Named: the paper's own examples." if nine else ""
            section.plots.append(
                Plot(
                    f"{p}regimes", figures.regime_map(points, source.k_name, STEP),
                    f"Each point is one of {{{p}units}} {'published sets' if p else 'sets and tiers'}. Across: how far "
                    "the boundary moved from base to final. Up: how far from intermediate to final. Both axes are "
                    "linear near 0 and logarithmic beyond ±{linear}. Dotted: the rule's thresholds, {step}. " + what,
                )
            )  # fmt: skip
    return section


def regime_table(source: Source, rows: list[dict]) -> Table:
    measured_here = source.units[0].per_prompt is not None
    middle = source.middle is not None
    columns = ["set", "tier", "regime", "k", source.base, *([source.middle] if middle else []), source.final, "gain"]
    columns += ["late"] if middle else []
    if measured_here:
        columns += ["gain low", "gain high", *(["late low", "late high"] if middle else []), "clear"]
    else:
        columns += ["in the paper"]
    table = []
    for row in rows:
        values = [row["base"], *([row["middle"]] if middle else []), row["final"], row["gain"]]
        values += [row["late"]] if middle else []
        last = [*row["bands"], is_clear(row)] if measured_here else [PAPER_REGIMES.get(row["unit"].set, "")]
        table.append([row["unit"].set, row["unit"].tier or "all", row["regime"], row["k"], *values, *last])
    return Table(f"{source.prefix}regimes", f"Regimes, {'measured' if measured_here else 'published'}", columns, table)


def is_clear(row: dict) -> bool:
    """Whether the bands of all differences that decide the regime lie on one side of the threshold."""
    low, high, *late = row["bands"]
    if row["regime"] in ("diminish", "gain"):
        return high <= STEP or low > STEP
    return low > STEP and (late[1] <= STEP or late[0] > STEP)
