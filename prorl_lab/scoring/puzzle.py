"""Puzzles: what the last <answer> earns, by Reasoning Gym's scorer of the task behind a door of our own.

Training pays in full for the answer alone, and for nothing that is not (a part of) one.  Reasoning Gym 0.1.25 is
friendlier, which a policy finds out within a hundred steps: the right answer with anything behind it, `[NaN, NaN]` for
sorted numbers, 0.9 for an empty grid.  `puzzle_rules` says for each task what its answers look like; `"scorer":
"original"` in the reference asks for Reasoning Gym's own score, which published numbers are.

Nine scorers evaluate the answer as Python.  Whoever asks, they see it only if it fits the strict grammar of their task.
Some raise on odd text: that is a wrong answer.
"""

import functools
from collections.abc import Callable
from typing import Any

import reasoning_gym

from prorl_lab.scoring.extract import after_think, foreign_digits, last_tagged

from .puzzle_rules import FORMS, GRAMMARS, OWN, PARTIAL

MAX_ANSWER = 20_000  # characters; the longest answers are grids of a few thousand
ALIASES = {"palindrome": "palindrome_generation"}  # the paper's name: the name it is registered under today
FLOORS = {"countdown": 0.01, "puzzle24": 0.01}  # what Reasoning Gym pays there for what is no expression
NO_CREDIT = 0.05  # the most that Reasoning Gym pays for an answer of the right form alone


def score(response: str, reference: dict[str, Any]) -> tuple[float, str]:
    """The score of the last <answer> after the thought, in [0, 1], and a status.

    Raises ValueError for a task that Reasoning Gym does not have.
    """
    task = ALIASES.get(reference["task"], reference["task"])
    answer, item = last_tagged(after_think(response)), _restored(task, reference["item"])
    original, published = scorer(task), reference.get("scorer") == "original"
    if answer is None or len(answer) > MAX_ANSWER or foreign_digits(answer):
        return 0.0, "format"
    if task in GRAMMARS and not GRAMMARS[task](answer, item):
        return FLOORS.get(task, 0.0) if published else 0.0, "format"
    points = _guarded(original, answer, item) if published else _strict(task, answer, item, original)
    return points, "ok" if points >= 1.0 else "wrong"


def _strict(task: str, answer: str, item: dict[str, Any], original: Callable[[str, dict], float]) -> float:
    """What training pays: all for the answer, some for a part of it where that is worth something, else nothing."""
    if task in OWN:
        return _guarded(OWN[task], answer, item)
    if task in FORMS and not _guarded(FORMS[task], answer, item):
        return 0.0
    points = _guarded(original, answer, item)
    return points if points >= 1.0 or (task in PARTIAL and points > NO_CREDIT) else 0.0


@functools.cache
def scorer(task: str) -> Callable[[str, dict], float]:
    """Reasoning Gym's scorer of a task.  Raises ValueError if there is none."""
    return reasoning_gym.get_score_answer_fn(task)


def _restored(task: str, item: dict[str, Any]) -> dict[str, Any]:
    """The item as it was generated: two scorers compare with a grid of tuples, which JSON turns into lists."""
    if task not in ("arc_agi", "rearc"):
        return item
    grid = tuple(map(tuple, item["metadata"]["output"]))
    return {**item, "metadata": {**item["metadata"], "output": grid}}


def _guarded(rule: Callable[[str, dict], float], answer: str, item: dict) -> float:
    try:
        return min(1.0, max(0.0, float(rule(answer, item))))
    except Exception:  # noqa: BLE001  what is no number, no date or no JSON raises, here as in six of Reasoning Gym's
        return 0.0
