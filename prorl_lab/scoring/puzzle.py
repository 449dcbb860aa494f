"""Puzzles: Reasoning Gym's own score of the last <answer>, behind a guard where its scorers need one.

- Nine scorers evaluate the answer as Python.  They see it only if it fits the strict grammar of their task, and get
  what the scorer gives to nonsense otherwise.
- Two scorers are hollow and get corrected ones: puzzle24's never looks whether the given numbers were used, and
  game_of_life_halting's accepts any text.  `"scorer": "original"` in the reference asks for Reasoning Gym's.
- Some raise on odd text: that is a wrong answer.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import reasoning_gym

from prorl_lab.scoring.extract import after_think, foreign_digits, last_tagged

from . import expressions

MAX_ANSWER = 20_000  # characters; the longest answers are grids of a few thousand
ALIASES = {"palindrome": "palindrome_generation"}  # the paper's name: the name it is registered under today
FLOORS = {"countdown": 0.01, "puzzle24": 0.01}  # what Reasoning Gym pays for nonsense, where it is not 0

_CALCULUS = frozenset(
    {"sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh"}
    | {"atanh", "exp", "log", "ln", "sqrt", "Abs"}
)


def score(response: str, reference: dict[str, Any]) -> tuple[float, str]:
    """The task's score of the last <answer> after </think>, in [0, 1], and a status.

    Raises ValueError for a task that Reasoning Gym does not have.
    """
    task = ALIASES.get(reference["task"], reference["task"])
    answer, item = last_tagged(after_think(response)), _restored(task, reference["item"])
    original = scorer(task)
    if answer is None or len(answer) > MAX_ANSWER or foreign_digits(answer):
        return 0.0, "format"
    if task in GRAMMARS and not GRAMMARS[task](answer, item):
        return FLOORS.get(task, 0.0), "format"
    if task in CORRECTED and reference.get("scorer") != "original":
        points = CORRECTED[task](answer, item)
    else:
        points = _guarded(original, answer, item)
    return points, "ok" if points >= 1.0 else "wrong"


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


def _guarded(original: Callable[[str, dict], float], answer: str, item: dict) -> float:
    try:
        return min(1.0, max(0.0, float(original(answer, item))))
    except Exception:  # noqa: BLE001  six scorers raise on text that is no number, no date or no JSON of theirs
        return 0.0


# --- the grammars of the nine tasks whose scorers evaluate the answer


def _pattern(expression: str) -> Callable[[str, dict], bool]:
    compiled = re.compile(expression)
    return lambda answer, item: compiled.fullmatch(answer) is not None


def _listed(item: str) -> str:
    """The pattern of a Python list of `item`."""
    return rf"\[\s*{item}(\s*,\s*{item})*\s*\]"


def _spaced(item: str) -> str:
    """The pattern of lines of `item`, as the tasks print grids."""
    return rf"{item}(\s+{item})*"


_INTEGER = r"-?[0-9]{1,9}"
_LETTER = r"""(?:'[A-E]'|"[A-E]")"""
_SQUARE = r"""(?:'[_Q]'|"[_Q]")"""


def _arithmetic(answer: str, item: dict) -> bool:
    return _fits(answer, frozenset(), frozenset()) and "**" not in answer


def _polynomial(answer: str, item: dict) -> bool:
    return _fits(answer, frozenset(item["metadata"]["variables"]), frozenset())


def _antiderivative(answer: str, item: dict) -> bool:
    # No Integral(...): the integrand wrapped in it differentiates to itself and would be "right".
    return _fits(answer, frozenset({item["metadata"]["variable"], "C", "E", "pi"}), _CALCULUS)


def _fits(answer: str, names: frozenset[str], functions: frozenset[str]) -> bool:
    try:
        expressions.parse(answer, names, functions)
    except expressions.NotAnExpression:
        return False
    return True


GRAMMARS: dict[str, Callable[[str, dict], bool]] = {
    "string_insertion": _pattern(f"[A-E]+|{_listed(_LETTER)}"),
    "spiral_matrix": _pattern(f"{_spaced(_INTEGER)}|{_listed(_INTEGER)}"),
    "binary_matrix": _pattern(f"{_spaced(_INTEGER)}|{_listed(_listed(_INTEGER))}"),
    "n_queens": _pattern(f"{_spaced('[_Q]')}|{_listed(_listed(_SQUARE))}"),
    "simple_integration": _antiderivative,
    "intermediate_integration": _antiderivative,
    "polynomial_multiplication": _polynomial,
    "countdown": _arithmetic,
    "puzzle24": _arithmetic,
}


# --- corrected scorers


def _puzzle24(answer: str, item: dict) -> float:
    """1 if the expression is worth 24 and uses exactly the given numbers, each once."""
    try:
        tree = expressions.parse(answer)
        right = expressions.value(tree) == 24
        used = sorted(expressions.integers(tree))
    except expressions.NotAnExpression:
        return FLOORS["puzzle24"]
    return 1.0 if right and used == sorted(item["metadata"]["numbers"]) else FLOORS["puzzle24"]


def _game_of_life_halting(answer: str, item: dict) -> float:
    """1 if the answer is the word True or False that the item holds."""
    return float(answer.lower() == item["answer"].lower())


CORRECTED: dict[str, Callable[[str, dict], float]] = {
    "puzzle24": _puzzle24,
    "game_of_life_halting": _game_of_life_halting,
}
