"""From the inputs to the page's sections: which numbers, tables, figures and sentences belong together."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from prorl_lab.intervals import difference_interval, mean_interval

from . import figures
from .creativity import corpus_files, read_corpus, uniqueness
from .curves import (
    CONFIDENCE,
    moments,
    pass_bound,
    pass_curves,
    powers_of_two,
    rate_bound,
    right_counts,
    summed_counts,
)
from .load import Answers, Evaluation, Training
from .page import Example, Plot, Section, Table, clean
from .regimes import BOUNDARY_K, STEP, families, regime, regression
from .sources import Source, Unit, measured

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
OUT_OF_DISTRIBUTION = ("acre", "boxnet", "game_of_life_halting", "puzzle24")  # the paper's four, never trained on
KEPT_TEXT = 2000  # characters of a prompt or an answer in a CSV file


def wide_table(source: Source, name: str, title: str) -> Table:
    """pass@k of each unit and model, a column per k."""
    ks = sorted({k for unit in source.units for k in unit.ks})
    known = source.units[0].rows is not None
    rows = []
    for unit in source.units:
        for model in source.models:
            at = dict(zip(unit.ks, unit.values[model].tolist(), strict=True))
            size = [len(unit.rows), unit.n] if known else []
            rows.append([unit.set, unit.tier or "all", model, *size, *(at.get(k) for k in ks)])
    size = ["prompts", "answers per prompt"] if known else []
    return Table(name, title, ["set", "tier", "model", *size, *(f"pass@{k}" for k in ks)], rows)


def band_table(source: Source, name: str) -> Table:
    rows = [
        [unit.set, unit.tier or "all", model, k, *map(float, row)]
        for unit in source.units
        for model in source.models
        for k, *row in zip(unit.ks, unit.values[model], unit.low[model], unit.high[model], strict=True)
    ]
    columns = ["set", "tier", "model", "k", "pass@k", "low", "high"]
    return Table(name, "pass@k with bands", columns, rows, on_page=False)


def titles(units: list[Unit]) -> list[str]:
    """What stands above each panel: the tiers alone where all are of one set."""
    one = len({unit.set for unit in units}) == 1
    return [unit.tier.strip() if one and unit.tier else unit.label for unit in units]


def panels(units: list[Unit]) -> list[dict]:
    return [
        {"title": title, "ks": unit.ks, "values": unit.values, "low": unit.low, "high": unit.high}
        for title, unit in zip(titles(units), units, strict=True)
    ]


def in_figures(name: str, units: list, draw: Callable[[list], figures.Figure], caption: str) -> list[Plot]:
    """As many figures as the panels need."""
    parts = [units[i : i + figures.PANELS] for i in range(0, len(units), figures.PANELS)]
    names = [name] + [f"{name}_{i}" for i in range(2, len(parts) + 1)]
    return [Plot(n, draw(part), caption) for n, part in zip(names, parts, strict=True)]


def sizes(source: Source) -> dict[str, object]:
    """The facts that captions need: how many prompts and answers."""
    prompts = [len(unit.rows) for unit in source.units]
    n = [unit.n for unit in source.units]
    return {
        "prompts_low": min(prompts),
        "prompts_high": max(prompts),
        "prompts_all": sum(len(unit.rows) for unit in source.sets),
        "n": str(n[0]) if len(set(n)) == 1 else f"{min(n)} to {max(n)}",
        "panels": len(source.units),
    }


# ---------------------------------------------------------------- 1. pass@k


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


# ---------------------------------------------------------------- 2. regimes


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


# ---------------------------------------------------------------- 3. gain against base


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


# ---------------------------------------------------------------- 4. distributions and the bound


def distribution_section(evaluation: Evaluation, mine: Source) -> Section:
    section = Section(
        "distribution",
        "How pass@1 is spread over prompts, and what that bounds",
        [
            "A mean pass@1 may be made of prompts that are half solved, or of some always and some never solved. "
            "With the same mean, the wider spread has the lower pass@k. For the true solve rates ρ of the prompts, "
            "E[pass@k] ≤ 1 − ((1 − E[ρ])² + Var(ρ))^(k/2).",
            "The bound holds for k ≥ 2. The bracket is E[(1 − ρ)²], which is 1 − pass@2: at k = 2 the two sides are "
            "equal, beyond it Jensen's inequality for x^(k/2) gives the bound, and at k = 1, where that function bends "
            "the other way, the formula is too small and the inequality turns round. It speaks of true rates: an "
            "estimate from n answers may cross it by chance when k comes near n. The variance is that of the "
            "true rates: the sampling noise of n answers, which the variance of c/n would contain, is taken out.",
        ],
        sizes(mine),
    )
    shown, rows = [], []
    for title, unit in zip(titles(mine.units), mine.units, strict=True):
        shown.append({"title": title, "rates": {m: unit.per_prompt[m][:, 0] for m in mine.models}})
    bounds = panels(mine.units)
    for unit, panel in zip(mine.units, bounds, strict=True):
        panel |= {"low": None, "high": None, "dashed": {}, "dashed_label": "bound"}
        panel["dashed_ks"] = [k for k in unit.ks if k >= 2]
        for model in mine.models:
            answers = evaluation.answers[model, unit.set]
            counts = right_counts(answers.scores)[unit.rows]
            mean, variance = moments(counts, answers.n) if answers.n > 1 else (counts.mean(), 0.0)
            panel["dashed"][model] = pass_bound(mean, variance, np.array(panel["dashed_ks"]))
            never, always = (counts == 0).mean(), (counts == answers.n).mean()
            quarters = np.percentile(counts / answers.n, [25, 50, 75])
            at = unit.ks[unit.boundary]
            rows.append(
                [unit.set, unit.tier or "all", model, mean, variance, *quarters.tolist(), float(never), float(always),
                 at, unit.at_boundary(model), float(pass_bound(mean, variance, at)) if at >= 2 else None]
            )  # fmt: skip
    section.plots += in_figures(
        "distribution", shown, lambda part: figures.distributions(part, mine.models),
        "pass@1 of single prompts, {prompts_low} to {prompts_high} prompts a panel, {n} answers each. Bars: share of "
        "prompts per bin of 0.05.",
    )  # fmt: skip
    section.plots += in_figures(
        "bound", bounds, lambda part: figures.pass_curves(part, mine.models),
        "pass@k, estimated without bias (solid), and its bound from mean and variance of pass@1 (dashed, k ≥ 2).",
    )  # fmt: skip
    columns = ["set", "tier", "model", "mean", "variance", "25 %", "median", "75 %", "never right", "always right"]
    section.tables.append(Table("distribution", "pass@1 over prompts", [*columns, "k", "pass@k", "bound"], rows))
    section.tables.append(prompt_table(evaluation))
    return section


def prompt_table(evaluation: Evaluation) -> Table:
    """Every prompt: right answers and mean score of each model."""
    rows = []
    for name, prompts in evaluation.prompts.items():
        answers = [evaluation.answers[model, name] for model in evaluation.models]
        right = [right_counts(a.scores) for a in answers]
        for i, prompt in enumerate(prompts):
            values = [
                v for a, c in zip(answers, right, strict=True) for v in (int(c[i]), a.n, float(a.scores[i].mean()))
            ]
            rows.append([name, prompt["id"], prompt.get("tier") or "all", *values])
    columns = [f"{model} {what}" for model in evaluation.models for what in ("right", "answers", "mean score")]
    return Table("prompts", "Every prompt", ["set", "id", "tier", *columns], rows, on_page=False)


# ---------------------------------------------------------------- 5. newly solvable, lost


def solvable_section(evaluation: Evaluation, mine: Source, examples: int) -> Section:
    base, final = mine.base, mine.final
    section = Section(
        "solvable",
        "Newly solvable prompts, and lost ones",
        [
            "<b>Newly solvable</b>: the base model is right in none of its n answers, the final model in at least "
            "one. None of n does not mean never: the exact one-sided {confidence} bound (Clopper and Pearson) on the "
            "base model's solve rate is {zero_bound} for n = {n_base}. <b>Strict</b>: the final model's lower bound, "
            "one-sided {confidence} as well, lies above that upper bound. <b>Lost</b> is the same with the models "
            "exchanged.",
            "If the two models were equally good, chance would make as many newly solvable prompts as lost ones: the "
            "second number is the yardstick for the first. Each bound fails by chance for 1 prompt in 20 at most.",
        ],
        {"confidence": f"{100 * CONFIDENCE:g} %", **sizes(mine)},
    )
    lists = {"newly": ("newly_solvable", "Newly solvable prompts"), "lost": ("lost", "Lost prompts")}
    tables: dict[str, list] = {"newly": [], "lost": []}
    cells: list[tuple[str, Example]] = []
    n_base = [evaluation.answers[base, name].n for name in evaluation.prompts]
    section.facts |= {"n_base": min(n_base), "zero_bound": rate_bound(0, min(n_base), "upper")}
    for name, prompts in evaluation.prompts.items():
        for key, (weak, strong) in {"newly": (base, final), "lost": (final, base)}.items():
            found = transitions(evaluation.answers[weak, name], evaluation.answers[strong, name])
            texts = first_right_texts(evaluation.answers[strong, name], [i for i, *_ in found])
            for (i, *values), text in zip(found, texts, strict=True):
                tier = prompts[i].get("tier") or "all"
                asked = clean(plain(prompts[i]["prompt"]), KEPT_TEXT)
                tables[key].append([name, prompts[i]["id"], tier, *values, asked, clean(text, KEPT_TEXT)])
    for key, (file, title) in lists.items():
        weak, strong = (base, final) if key == "newly" else (final, base)
        rows = sorted(tables[key], key=lambda row: (not row[8], -row[5]))
        columns = ["set", "id", "tier", f"{weak} right", f"{weak} upper bound", f"{strong} right",
                   "answers", f"{strong} lower bound", "strict", "prompt", "right answer"]  # fmt: skip
        section.tables.append(Table(file, title, columns, rows, text=("prompt", "right answer")))
        section.facts |= {key: len(rows), f"{key}_strict": sum(row[8] for row in rows)}
        chosen = spread(rows, examples)
        word = "Newly solvable" if key == "newly" else "Lost"
        cells += [
            (
                key,
                Example(
                    f"{word}: {r[0]}, {r[2]}, prompt {r[1]}: {weak} 0 right, {strong} {r[5]} of {r[6]}", r[9], r[10]
                ),
            )
            for r in chosen
        ]
    section.examples = [example for _, example in cells]
    section.text.append(
        "{newly} of {prompts_all} prompts are newly solvable, {newly_strict} of them strictly; {lost} are lost, "
        "{lost_strict} strictly."
    )
    bars, table = [], []
    for unit in mine.leaves:
        right = [right_counts(evaluation.answers[m, unit.set].scores)[unit.rows] > 0 for m in (base, final)]
        row = {
            "label": unit.label,
            "both": int((right[0] & right[1]).sum()),
            "new": int((~right[0] & right[1]).sum()),
            "lost": int((right[0] & ~right[1]).sum()),
            "never": int((~right[0] & ~right[1]).sum()),
        }
        bars.append(row)
        table.append([unit.set, unit.tier or "all", len(unit.rows), row["both"], row["new"], row["lost"], row["never"]])
    section.plots.append(
        Plot(
            "solvable", figures.solvable(bars),
            "Prompts by whether base and final model are right at least once in {n} answers, in numbers of prompts.",
        )
    )  # fmt: skip
    columns = ["set", "tier", "prompts", "solved by both", "newly solvable", "lost", "solved by neither"]
    section.tables.insert(0, Table("solvable", "Solved at least once", columns, table))
    return section


def transitions(weak: Answers, strong: Answers) -> list[tuple]:
    """Prompts that `weak` never solves and `strong` does: (row, weak's right answers, their upper bound, strong's
    right answers, of how many, their lower bound, strict)."""
    few, many = right_counts(weak.scores), right_counts(strong.scores)
    upper = rate_bound(0, weak.n, "upper")
    found = []
    for i in np.flatnonzero((few == 0) & (many > 0)).tolist():
        lower = rate_bound(int(many[i]), strong.n, "lower")
        found.append((i, 0, upper, int(many[i]), strong.n, lower, lower > upper))
    return found


def first_right_texts(answers: Answers, rows: list[int]) -> list[str]:
    return list(answers.texts([(i, int((answers.scores[i] >= 1).argmax())) for i in rows]))


def plain(prompt: object) -> str:
    """A prompt as text; a chat is written message by message."""
    if isinstance(prompt, list):
        return "\n".join(
            f"{m.get('role', '')}: {m.get('content', '')}" if isinstance(m, dict) else str(m) for m in prompt
        )
    return str(prompt)


def spread(rows: list[list], most: int) -> list[list]:
    """The first row of each set and tier, then the second of each, and so on, up to `most`."""
    seen: Counter = Counter()
    ranked = []
    for order, row in enumerate(rows):
        ranked.append((seen[row[0], row[2]], order, row))
        seen[row[0], row[2]] += 1
    return [row for *_, row in sorted(ranked, key=lambda r: r[:2])[:most]]


# ---------------------------------------------------------------- 6. creativity


def creativity_section(
    evaluation: Evaluation, mine: Source, corpus: list[Path], lengths: range, per_prompt: int
) -> Section:
    files = corpus_files(corpus)
    section = Section(
        "creativity",
        "Creativity index: how little of the answers stands in a corpus",
        [
            "For a length L, the L-uniqueness of an answer is the share of its words that lie in no span of L or more "
            "words found word for word in the corpus. The index is the sum over L = {shortest} to {longest} (Lu et al. "
            "2024, whose range is 5 to 12), between 0 (all copied) and {terms} (nothing found). An answer of fewer "
            "than L words counts as unique at L, so answers of different length do not compare well. The paper's own "
            "range is not stated, and must have at least 9 terms, since it prints values above 8: compare models here, "
            "not with its figures.",
            "Corpus: {files} files. Of every prompt the first {per_prompt} answers were taken. Answers without a word "
            "({wordless} of {answers}) are left out. Spans match exactly, and never cross from one document into the "
            "next.",
        ],
        {
            "shortest": lengths[0],
            "longest": lengths[-1],
            "terms": len(lengths),
            "files": len(files),
            "per_prompt": per_prompt,
        },
    )
    keys, texts = [], []
    for name in evaluation.prompts:
        for model in mine.models:
            answers = evaluation.answers[model, name]
            taken = [(i, s) for i in range(len(answers.scores)) for s in range(min(per_prompt, answers.n))]
            keys += [(model, name, i) for i, _ in taken]
            texts += answers.texts(taken)
    result = uniqueness(texts, read_corpus(files), lengths)
    section.facts |= {"answers": len(texts), "wordless": int((result.words == 0).sum())}
    by_prompt: dict[tuple, list] = {}
    for key, shares, words in zip(keys, result.shares, result.words, strict=True):
        if words:
            by_prompt.setdefault(key, []).append((shares, words))
    rows, drawn, shown = [], {}, []
    for unit in mine.units:
        for model in mine.models:
            here = [by_prompt[key] for i in unit.rows if (key := (model, unit.set, int(i))) in by_prompt]
            if not here:
                continue
            shares = np.array([np.mean([s for s, _ in prompt], axis=0) for prompt in here])  # (P, lengths)
            words = float(np.mean([w for prompt in here for _, w in prompt]))
            low, high = (float(end) * len(lengths) for end in mean_interval(shares.mean(1)))
            index = float(shares.sum(1).mean())
            drawn[unit.label, model] = {"index": index, "low": low, "high": high, "shares": shares.mean(0)}
            size = [len(here), sum(map(len, here)), words]
            rows.append(
                [
                    unit.set,
                    unit.tier or "all",
                    model,
                    *size,
                    index,
                    low,
                    high,
                    *shares.mean(0).tolist(),
                ]
            )
        if all((unit.label, model) in drawn for model in mine.models):
            shown.append(unit.label)
    columns = ["set", "tier", "model", "prompts", "answers", "words per answer", "index", "low", "high"]
    section.tables.append(Table("creativity", "Creativity index", [*columns, *(f"L = {n}" for n in lengths)], rows))
    if shown:
        section.plots.append(
            Plot(
                "creativity", figures.creativity(shown, mine.models, drawn, lengths),
                "Left: creativity index, mean over prompts, whiskers: 95 % interval over prompts. Right: "
                "L-uniqueness by L, mean over the rows on the left.",
            )
        )  # fmt: skip
    return section


# ---------------------------------------------------------------- 7. difficulty, out of distribution, scorers


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


# ---------------------------------------------------------------- 8. training


def training_section(training: Training) -> Section:
    section = Section(
        "training",
        "Training across reference resets",
        [
            "At a reset the reference policy becomes the current one and the optimizer starts afresh, so KL falls to 0 "
            "there. Validation is measured on held-out prompts during training, with fewer prompts and answers than "
            "the sections above.",
            "{steps} steps, {evaluations} evaluations, {resets} resets.",
        ],
        {
            "steps": training.steps[-1]["step"],
            "evaluations": len(training.evaluations),
            "resets": len(training.resets),
        },
    )
    lines = validation_lines(training.evaluations)
    section.facts["validation"] = ", ".join(lines) or "none"
    section.plots.append(
        Plot(
            "training", figures.dynamics(training.steps, lines, [row["step"] for row in training.resets]),
            "By training step: validation ({validation}; share of prompts), entropy and KL (nats per token), answer "
            "length (tokens). Dotted: resets.",
        )
    )  # fmt: skip
    keys = ["step", "entropy", "kl", "length", "solved", "resets"]
    section.tables.append(
        Table(
            "training_steps", "Steps", keys, [[row.get(key) for key in keys] for row in training.steps], on_page=False
        )
    )
    rows = [[x, label, y] for label, (xs, ys) in lines.items() for x, y in zip(xs, ys, strict=True)]
    section.tables.append(Table("training_validation", "Validation", ["step", "what", "value"], rows, on_page=False))
    if training.resets:
        rows = [[row["step"], row.get("reason", ""), *around(training, lines, row["step"])] for row in training.resets]
        columns = ["step", "why", "KL before", "KL after", "entropy", "last validation"]
        section.tables.append(Table("training_resets", "Resets", columns, rows))
    return section


def validation_lines(evaluations: list[dict]) -> dict[str, tuple[list, list]]:
    """{"pass@k": (steps, values)}; an evaluation without "pass@k" has its score, which is pass@1."""
    lines: dict[str, tuple[list, list]] = {}
    for row in evaluations:
        values = row.get("pass@k") or {"1": row["score"]}
        for k, value in values.items():
            xs, ys = lines.setdefault(f"pass@{k}", ([], []))
            xs.append(row["step"])
            ys.append(value)
    return lines


def around(training: Training, lines: dict[str, tuple[list, list]], step: int) -> list[float | None]:
    """KL just before and after a reset, entropy just before, the last validation until then."""
    before = [row for row in training.steps if row["step"] <= step]
    after = [row for row in training.steps if row["step"] > step]
    xs, ys = next(iter(lines.values()), ([], []))
    seen = [y for x, y in zip(xs, ys, strict=True) if x <= step]
    return [
        before[-1].get("kl") if before else None,
        after[0].get("kl") if after else None,
        before[-1].get("entropy") if before else None,
        seen[-1] if seen else None,
    ]
