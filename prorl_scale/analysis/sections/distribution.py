"""How pass@1 is spread over prompts, and what that bounds."""

import numpy as np

from .. import figures
from ..curves import moments, pass_bound, right_counts
from ..load import Evaluation
from ..page import Section, Table
from ..sources import Source
from .common import in_figures, panels, sizes, titles


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
