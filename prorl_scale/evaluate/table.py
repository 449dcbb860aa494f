"""The result table: pass@1 of every set and model, with bands, beside the paper's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prorl_lab.errors import UserError
from prorl_lab.files import read_json
from prorl_lab.intervals import mean_interval
from prorl_scale.data.sources import TASKS
from prorl_scale.evaluate import sets, store

NOTE = """
pass@1 in percent, with the 95 % interval over prompts: the share of full scores for mathematics, code, STEM and
the laptop tiers, the mean score for puzzles and instructions. Averages over sets are plain means, without a band. The
paper: its Tables 1, 2, 3 and 5, 16 samples, temperature 0.6, top-p 0.95, 32k tokens.
"""


@dataclass
class Row:
    """One line of the table.  values: percent by prompt of each model, None where it has not answered yet."""

    name: str
    values: list[np.ndarray | None]
    paper: tuple[float, float] | None = None

    def cells(self) -> list[str]:
        prompts = max((len(values) for values in self.values if values is not None), default=0)
        return [self.name, str(prompts), *map(_cell, self.values)]


def table(out: Path) -> str:
    """Markdown.  Raises UserError where `out` is no evaluation."""
    try:
        config = read_json(out / "config.json")
        models, names, n = list(config["models"]), config["settings"]["sets"], config["settings"]["n"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{out} is not an evaluation (no readable config.json): give the --out of one") from error
    known = {name: sets.SETS.get(name) or sets.EvalSet(name, config["sets"][name]["domain"]) for name in names}
    whole = {name: _scores(out, models, name, known[name].scoring == "binary") for name in names}
    # The paper scored puzzles and instructions with the published scorers, so only those can stand beside its numbers.
    hollow = {name: _scores(out, models, name, False, "original_score") for name in names if known[name].hollow}
    lines = [line for name in names for line in _rows(out, models, known[name], whole[name], hollow.get(name))]
    lines += _averages(names, models, whole, hollow)
    head = ["set", "prompts", *models, "paper: base", "paper: ProRL"]
    text = [head, ["---"] * len(head), *lines]
    by = f"scored by version {config['settings'].get('verifiers', 1)} of the verifiers"
    return (
        "\n".join(f"| {' | '.join(cells)} |" for cells in text)
        + f"\n\n{n} answers to each prompt, {by}; {NOTE.strip()}\n"
    )


def _scores(out: Path, models: list[str], of: str, binary: bool, key: str = "score") -> list[dict[str, float] | None]:
    """Mean score of each prompt in percent, by model; None where answers are missing, or lack the key."""
    return [
        prompt_means(path, binary, key) if (path := store.answers_file(out, model, of)).exists() else None
        for model in models
    ]


def prompt_means(path: Path, binary: bool, key: str = "score") -> dict[str, float] | None:
    """An answers file -> percent of each prompt: of full scores if binary, else the mean; None without the key."""
    total: dict[str, list[float]] = {}
    for row in store.read_lines(path):
        if key not in row:
            return None
        total.setdefault(row["id"], []).append(float(row[key] >= 1) if binary else row[key])
    return {name: 100 * float(np.mean(values)) for name, values in total.items()}


def _rows(out: Path, models: list[str], of: sets.EvalSet, scores: list, published: list | None) -> list[list[str]]:
    name, prompts = of.name, store.read_prompts(out, of.name)
    tiers = list(dict.fromkeys(prompt.tier for prompt in prompts))
    made = []
    for tier in tiers if len(tiers) > 1 else []:
        ids = [prompt.id for prompt in prompts if prompt.tier == tier]
        made.append(Row(f"{name}: {tier}", [s and np.array([s[i] for i in ids]) for s in scores]))
    made.append(Row(name, _arrays(scores), None if published else of.paper))
    if published and of.paper:
        made.append(Row(f"{name}, original scorer", _arrays(published), of.paper))
    return [row.cells() + _paper(row.paper) for row in made]


def _averages(
    names: list[str], models: list[str], whole: dict[str, list], published: dict[str, list]
) -> list[list[str]]:
    """The paper's averages, each where all of its sets are there."""
    lines = []
    for average, paper in sets.AVERAGES.items():
        members = [s.name for s in sets.SETS.values() if s.average == average and s.domain == average]
        if not members or not set(members) <= set(names):
            continue
        means = [
            f"{np.mean([np.mean(list(whole[m][i].values())) for m in members]):.2f}"
            if all(whole[m][i] is not None for m in members)
            else "-"
            for i in range(len(models))
        ]
        lines.append([f"average: {average}", "", *means, *_paper(paper)])
    groups = {name: [t for t in TASKS if sets.category(t) == name] for name in sets.CATEGORY_SCORES}
    pooled = {f"reasoning gym: {name}": (groups[name], sets.CATEGORY_SCORES[name]) for name in groups}
    pooled["reasoning gym"] = (list(TASKS), sets.AVERAGES["reasoning gym"])
    for label, (members, paper) in pooled.items():
        if set(members) <= set(names):
            for name, scores, beside in ((label, whole, None), (f"{label}, original scorer", published, paper)):
                row = Row(name, [_pool([scores[m][i] for m in members]) for i in range(len(models))], beside)
                lines.append(row.cells() + _paper(beside))
    return lines


def _arrays(scores: list[dict[str, float] | None]) -> list[np.ndarray | None]:
    return [None if s is None else np.array(list(s.values())) for s in scores]


def _pool(scores: list[dict[str, float] | None]) -> np.ndarray | None:
    """All prompts of several tasks: equally many of each, so their mean is the paper's mean over tasks."""
    return None if any(s is None for s in scores) else np.concatenate([list(s.values()) for s in scores])


def _cell(values: np.ndarray | None) -> str:
    if values is None:
        return "-"
    low, high = mean_interval(values / 100)
    return f"{values.mean():.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def _paper(numbers: tuple[float, float] | None) -> list[str]:
    return ["", ""] if numbers is None else [f"{number:.2f}" for number in numbers]
