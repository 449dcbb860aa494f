"""What an answer to each puzzle looks like, where Reasoning Gym's scorer takes more than that.

Three tables, from task to rule:

    GRAMMARS   the only text that the nine scorers which evaluate it may see
    OWN        tasks with one right answer, or few: our score, which has no use for Reasoning Gym's
    FORMS      tasks with many right answers: how one is written; whether it is right, Reasoning Gym's scorer finds out

and PARTIAL, the tasks of Reasoning Gym's scorer where less than the whole is worth something: the answer in another
notation, or a solution that is longer than need be.  What a constant or an echo of the question earns is not among it.
"""

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from . import expressions

Rule = Callable[
    [str, dict], Any
]  # (answer, item) -> a score, or whether it holds; may raise on odd text, which then fails

_CALCULUS = frozenset(
    {"sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh"}
    | {"atanh", "exp", "log", "ln", "sqrt", "Abs"}
)


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


# --- our own scores


_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,400})?(?:\.[0-9]{0,400})?(?:[eE][+-]?[0-9]{1,4})?")


def number(text: str) -> Fraction:
    """The value of one decimal number and nothing else.  Raises ValueError.

    >>> number("-1,234.50"), number("2e3")
    (Fraction(-2469, 2), Fraction(2000, 1))
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError("not a number")
    return Fraction(text.strip().replace(",", ""))


def _numbers(text: str) -> list[Fraction]:
    return [number(part) for part in text.split(",")] if text.strip() else []


def _close(ours: list[Fraction], theirs: list[Fraction], absolute: float = 0.0, relative: float = 0.0) -> bool:
    return len(ours) == len(theirs) and all(
        math.isclose(a, b, rel_tol=relative, abs_tol=absolute) for a, b in zip(ours, theirs, strict=True)
    )


def _same_number(answer: str, item: dict) -> bool:
    return number(answer) == number(item["answer"])


def _same_text(answer: str, item: dict) -> bool:
    """Letter case and blanks aside."""
    return answer.casefold().split() == item["answer"].casefold().split()


def _same_letters(answer: str, item: dict) -> bool:
    return "".join(answer.casefold().split()) == "".join(item["answer"].casefold().split())


def _same_json(answer: str, item: dict) -> bool:
    return _canonical(answer) == _canonical(item["answer"])


def _canonical(text: str) -> str:
    """JSON with its keys in order and its numbers by value; 1 is not true, NaN and infinities are none."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    def value(digits: str) -> str:
        return f"\0{Decimal(digits).normalize()}"

    return json.dumps(json.loads(text, parse_int=value, parse_float=value, parse_constant=refuse), sort_keys=True)


def _words_in_place(answer: list[str], right: list[str]) -> float:
    """The share of words in their places, if they are the right words."""
    if sorted(answer) != sorted(right):
        return 0.0
    return sum(a == b for a, b in zip(answer, right, strict=True)) / len(right)


def _word_sorting(answer: str, item: dict) -> float:
    return _words_in_place([word.strip() for word in answer.split(",")], item["metadata"]["sorted_words"])


def _sentence_reordering(answer: str, item: dict) -> float:
    return _words_in_place(answer.casefold().split(), item["answer"].casefold().split())


def _number_sorting(answer: str, item: dict) -> bool:
    """Numbers, in quotation marks or not.  Reasoning Gym's own forgives 1 in each, and NaN everything."""
    ours, theirs = (json.loads(text.replace("'", '"')) for text in (answer, item["answer"]))
    return [number(str(value)) for value in ours] == [number(str(value)) for value in theirs]


def _polynomial_equations(answer: str, item: dict) -> bool:
    """All real roots, to four decimals as asked: the last may be rounded either way."""
    return _close(sorted(_numbers(answer)), sorted(_numbers(item["answer"])), absolute=1.01e-4)


def _decimal_arithmetic(answer: str, item: dict) -> bool:
    """12 significant digits are asked for; the last ones depend on what was rounded on the way."""
    return _close([number(answer)], [number(item["answer"])], relative=1e-9)


def _pool_matrix(answer: str, item: dict) -> bool:
    ours, theirs = (
        [[number(cell) for cell in row.split()] for row in t.strip().splitlines()] for t in (answer, item["answer"])
    )
    return len(ours) == len(theirs) and all(_close(a, b, absolute=0.01001) for a, b in zip(ours, theirs, strict=True))


def _calendar(answer: str, item: dict) -> bool:
    try:
        return _same_number(answer, item)
    except ValueError:  # a day of the week, or Yes or No
        return _same_text(answer, item)


def _grid(answer: str, item: dict) -> bool:
    """A board of digits, as rows; a futoshiki has its signs between them."""
    rows = [re.findall("[0-9]", row) for row in answer.splitlines()]
    right = [list(map(str, row)) for row in item["metadata"]["solution"]]
    return re.fullmatch(r"[0-9\s<>\u2227\u2228]*", answer) is not None and [row for row in rows if row] == right


def _knights_knaves(answer: str, item: dict) -> bool:
    """Who is what, in any order."""
    ours, theirs = _who_is_what(answer), _who_is_what(item["answer"])
    return sorted(ours) == sorted(theirs)


def _who_is_what(text: str) -> list[tuple[str, ...]]:
    parts = re.split(r",? and |, ?", " ".join(text.casefold().split()).rstrip("."))
    return [re.fullmatch(r"(\w+) is an? (\w+)", part).groups() for part in parts]


def _coin_flip(answer: str, item: dict) -> bool:
    """A probability as a decimal or a fraction.  Reasoning Gym's own pays "0" in full as the beginning of 0.0625."""
    above, _, below = answer.partition("/")
    return _close([number(above) / number(below or "1")], [number(item["answer"])], relative=1e-3)


def _survo(answer: str, item: dict) -> bool:
    """A board of numbers, as rows."""
    return [list(map(int, row.split())) for row in answer.splitlines()] == item["metadata"]["solution"]


def _codeio(answer: str, item: dict) -> bool:
    return answer == item["answer"].strip() or _same_json(answer, item)


def _puzzle24(answer: str, item: dict) -> bool:
    """Worth 24, of exactly the given numbers, each once.  The original never looks which numbers."""
    tree = expressions.parse(answer)
    return expressions.value(tree) == 24 and sorted(expressions.integers(tree)) == sorted(item["metadata"]["numbers"])


OWN: dict[str, Rule] = {
    **dict.fromkeys(("sudoku", "mini_sudoku", "futoshiki"), _grid),
    **dict.fromkeys(("letter_jumble", "spell_backward", "game_of_life_halting"), _same_text),
    "calendar_arithmetic": _calendar,
    "codeio": _codeio,
    "coin_flip": _coin_flip,
    "decimal_arithmetic": _decimal_arithmetic,
    "figlet_font": _same_letters,
    "game_of_life": _same_json,
    "gsm_symbolic": _same_number,
    "knights_knaves": _knights_knaves,
    "number_sorting": _number_sorting,
    "polynomial_equations": _polynomial_equations,
    "pool_matrix": _pool_matrix,
    "puzzle24": _puzzle24,
    "sentence_reordering": _sentence_reordering,
    "survo": _survo,
    "word_sorting": _word_sorting,
}


# --- the forms of answers of which there are many


def _every(part: str, separator: str) -> Rule:
    """Whether each piece between separators is of this form."""
    compiled = re.compile(part)
    return lambda answer, item: all(compiled.fullmatch(p) for p in re.split(separator, answer.strip()))


def _graph_color(answer: str, item: dict) -> bool:
    return sorted(json.loads(answer)) == sorted(map(str, item["metadata"]["puzzle"]["vertices"]))


def _jugs(answer: str, item: dict) -> bool:
    return all(re.fullmatch("(?:fill|empty) [A-Z]|pour [A-Z]->[A-Z]", move) for move in json.loads(answer))


def _partitions(answer: str, item: dict) -> bool:
    return len(json.loads(answer)) == len(item["metadata"]["solution"])


def _cryptarithm(answer: str, item: dict) -> bool:
    pairs = [re.fullmatch(r"([A-Z])\s?=\s?[0-9]", pair.strip())[1] for pair in answer.split(",")]
    return len(pairs) == len(set(pairs))


_REAL = r"[0-9]{1,12}(?:\.[0-9]{0,12})?"
FORMS: dict[str, Rule] = {
    **dict.fromkeys(("arc_agi", "rearc"), _pattern(r"[0-9\s]+")),
    # A distance to "nan" is no number, and the smaller of that and 1 is 1.
    "complex_arithmetic": _pattern(rf"\(*[+-]?\s?(?:{_REAL})?[ij]?(?:\s?[+-]\s?(?:{_REAL})?[ij])?\)*"),
    "advanced_geometry": _pattern(rf"-?{_REAL}\s?\u00b0?|\(\s?-?{_REAL}\s?,\s?-?{_REAL}\s?\)"),
    "cryptarithm": _cryptarithm,
    "fraction_simplification": _pattern(r"\$?(?:\\d?frac\s?\{\s?\d+\s?\}\s?\{\s?\d+\s?\}|\d+\s?/\s?\d+)\$?"),
    "graph_color": _graph_color,
    "jugs": _jugs,
    "kakurasu": _pattern(r"[01\s]+"),
    "palindrome_partitioning": _partitions,
    "propositional_logic": _pattern(r"[A-Z()\u2227\u2228\u2192\u2194\u00ac\s]{1,500}"),
    "quantum_lock": _pattern(r"[A-Ca-c\s,\u2192>-]+"),
    "rubiks_cube": _every(r"[A-Za-z]w?['2]?", r"\s+"),
    "rush_hour": _every(r"[A-Z][+-][0-9]", r"[\s,]+"),
    "sokoban": _pattern(r"[LRUD\s]+"),
    "time_intervals": _pattern(
        r"-?[0-9]+(?: days?)?(?:, ?[0-9]+:[0-9]{2}(?::[0-9]{2})?)?|[0-9]+:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"
    ),
    "tower_of_hanoi": _every(r"\s*Move disk [0-9]+ from Peg [0-9]+ to Peg [0-9]+\.?\s*", r"\n+"),
}

PARTIAL = frozenset(
    ("string_insertion", "spiral_matrix", "binary_matrix", "n_queens")  # the answer as a Python list
    + ("knight_swap", "tower_of_hanoi", "quantum_lock", "shortest_path")  # more moves than need be
    + ("boxnet",)  # the share of boxes that are where they belong
)
