"""How much of the answers is copied from a corpus."""

from pathlib import Path

import numpy as np

from prorl_lab.intervals import mean_interval

from .. import figures
from ..creativity import corpus_files, read_corpus, uniqueness
from ..load import Evaluation
from ..page import Plot, Section, Table
from ..sources import Source


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
