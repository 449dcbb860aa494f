"""Prompts newly solvable, and prompts lost."""

from collections import Counter

import numpy as np

from .. import figures
from ..curves import CONFIDENCE, rate_bound, right_counts
from ..load import Answers, Evaluation
from ..page import Example, Plot, Section, Table, clean
from ..sources import Source
from .common import sizes

KEPT_TEXT = 2000  # characters of a prompt or an answer in a CSV file


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
