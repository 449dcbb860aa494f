"""Reading what is analysed: an evaluation folder, published curves, the metrics of a training run."""

import itertools
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from prorl_lab.errors import UserError


@dataclass
class Answers:
    """One model's answers to one set, P prompts with n answers each; texts stay in the file until asked for."""

    path: Path
    scores: np.ndarray  # (P, n) in [0, 1]
    originals: np.ndarray | None  # (P, n) by the task's own scorer, where a corrected one made `scores`
    tokens: np.ndarray  # (P, n)
    truncated: np.ndarray  # (P, n) bool
    offsets: np.ndarray  # (P, n) where each line starts in the file, in bytes

    @property
    def n(self) -> int:
        return self.scores.shape[1]

    def texts(self, cells: list[tuple[int, int]]) -> Iterator[str]:
        """The texts of the given (prompt, sample) cells."""
        with self.path.open("rb") as file:
            for cell in cells:
                file.seek(self.offsets[cell])
                yield json.loads(file.readline())["text"]


@dataclass
class Evaluation:
    """An evaluation folder; `models` in the order of training, `prompts` by set in the order of the file."""

    models: list[str]
    prompts: dict[str, list[dict]]
    answers: dict[tuple[str, str], Answers]  # by (model, set)


@dataclass
class Published:
    """Curves from a file: {set: {model: (K,) pass@1, pass@2, pass@4, ...}}; `models` in the order of training."""

    models: list[str]
    curves: dict[str, dict[str, np.ndarray]]


@dataclass
class Training:
    steps: list[dict] = field(default_factory=list)
    evaluations: list[dict] = field(default_factory=list)
    resets: list[dict] = field(default_factory=list)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON ({type(error).__name__}): give a file that is whole") from error


def read_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """(offset in bytes, object) for each line of a JSON-lines file.  Raises UserError at a line that is none."""
    offset, number = 0, 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 (the message below has it)
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                yield offset, row
                offset += len(line)
    except OSError as error:
        raise UserError(f"{path} is missing or can't be read: let the run that writes it finish") from error
    except ValueError as error:
        raise UserError(f"{path} has no JSON object in line {number}: let the run that writes it finish") from error


def load_evaluation(folder: Path) -> Evaluation:
    """Read a whole evaluation folder.  Raises UserError where something is missing or does not fit together."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give --runs the --out of prorl_scale.evaluate")
    models = read_json(folder / "config.json").get("models")
    if not isinstance(models, dict) or len(models) < 2:
        raise UserError(f"{folder / 'config.json'} names fewer than two models: evaluate at least a base and a final")
    paths = sorted((folder / "prompts").glob("*.jsonl"))
    if not paths:
        raise UserError(f"{folder} holds no prompts/SET.jsonl: give --runs the --out of prorl_scale.evaluate")
    prompts = {path.stem: [row for _, row in read_lines(path)] for path in paths}
    missing = [f"{m}/{s}" for m in models for s in prompts if not (folder / "answers" / m / f"{s}.jsonl").exists()]
    if missing:
        raise UserError(f"{folder}/answers lacks {', '.join(missing[:5])} (.jsonl): run the evaluation to its end")
    answers = {}
    for model, name in tqdm(list(itertools.product(models, prompts)), "answers", leave=False, disable=None):
        path = folder / "answers" / model / f"{name}.jsonl"
        answers[model, name] = load_answers(path, [row["id"] for row in prompts[name]])
    return Evaluation(list(models), prompts, answers)


def load_answers(path: Path, ids: list[Any]) -> Answers:
    """One answers file as arrays whose rows follow `ids`; the lines may come in any order."""
    row_of = {identity: row for row, identity in enumerate(ids)}
    if not ids or len(row_of) < len(ids):
        raise UserError(f"the prompts of {path.stem} are empty or have an id twice: evaluate that set again")
    where, scores, originals, tokens, truncated, offsets = (array(kind) for kind in ("q", "d", "d", "q", "b", "q"))
    samples = array("q")
    for offset, answer in read_lines(path):
        try:
            where.append(row_of[answer["id"]])
            samples.append(answer["sample"])
            scores.append(answer["score"])
            tokens.append(answer["tokens"])
            truncated.append(bool(answer["truncated"]))
            offsets.append(offset)
            if "original_score" in answer:
                originals.append(answer["original_score"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} has an answer that does not fit ({error!r}): evaluate that set again") from error
    count = np.bincount(np.array(where, int), minlength=len(ids))
    n = count.max()
    if count.min() < n:
        few = ids[int(count.argmin())]
        raise UserError(
            f"{path} has {count.min()} answers to prompt {few!r} and {n} to another: run the evaluation to its end"
        )
    cell = np.array(where, int), np.array(samples, int)
    table = np.zeros((len(ids), n), int)
    if min(samples) < 0 or max(samples) >= n:
        raise UserError(f"{path} has sample numbers outside 0 to {n - 1}: evaluate that set again")
    np.add.at(table, cell, 1)
    if (table != 1).any():
        raise UserError(f"{path} has the same sample of a prompt twice: evaluate that set again")

    def filled(values: array) -> np.ndarray:
        out = np.zeros((len(ids), n), np.array(values).dtype)
        out[cell] = values
        return out

    scored = filled(scores)
    if not ((scored >= 0) & (scored <= 1)).all():
        raise UserError(f"{path} has a score outside 0 to 1: evaluate that set again")
    if len(originals) not in (0, len(scores)):
        raise UserError(f"{path} has original_score in some answers only: evaluate that set again")
    return Answers(
        path,
        scored,
        filled(originals) if originals else None,
        filled(tokens),
        filled(truncated).astype(bool),
        filled(offsets),
    )


def load_published(path: Path) -> Published:
    """Curves of k = 1, 2, 4, ... by set and model.  Raises UserError where a set lacks base or final."""
    raw = read_json(path)
    if not isinstance(raw, dict) or not raw:
        raise UserError(f"{path} holds no curves: give {{SET: {{base: [...], final: [...]}}}}")
    models = ["base", "inter", "final"] if all("inter" in v for v in raw.values()) else ["base", "final"]
    curves = {}
    for name, entry in raw.items():
        if not all(isinstance(entry.get(model), list) for model in models):
            raise UserError(f"{path} lacks a list for base or final of {name}: add it, or take the set out")
        names = {"inter": "intermediate"}
        curves[name] = {names.get(model, model): np.array(entry[model], float) for model in models}
        if len({len(values) for values in curves[name].values()}) > 1:
            raise UserError(f"{path} has curves of different length for {name}: cut them to the same k")
    return Published(list(next(iter(curves.values()))), curves)


def load_training(folder: Path) -> Training:
    """The steps, evaluations and resets of a run folder's metrics.jsonl."""
    if not (folder / "metrics.jsonl").exists():
        raise UserError(f"{folder} is not a run folder (no metrics.jsonl): give --training a folder made by --out")
    training = Training()
    kinds = {None: training.steps, "evaluation": training.evaluations, "reset": training.resets}
    for _, row in read_lines(folder / "metrics.jsonl"):
        kinds.get(row.get("event"), []).append(row)
    if not training.steps:
        raise UserError(f"{folder}/metrics.jsonl has no step yet: let the run go on first")
    return training
