"""Rows of data files as their authors wrote them: JSON is read as text, so that a reference keeps its spelling.

A data-frame reader turns "007" into 7, "2021-03-04" into a time stamp and a long integer into a float; `json` alone
turns the number 0.50 into 0.5.  Here a number with a point keeps its digits (as `Decimal`), and text stays text.
"""

import ast
import json
import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from prorl_lab.errors import UserError

MISSING = frozenset({"", "none", "null", "nan", "n/a"})  # what a table writes where it has nothing


# The names under which a column is taken, everywhere that questions and answers are read; the first is the usual one.
NAMES = {"question": ("question", "problem"), "answer": ("answer",)}


def column(record: dict[str, Any], name: str) -> str | None:
    """What a record calls its question, or its answer; None where it has none.

    >>> column({"problem": "1 + 1?"}, "question"), column({}, "answer")
    ('problem', None)
    """
    return next((known for known in NAMES[name] if known in record), None)


def question_of(record: dict[str, Any]) -> Any:
    """What a record asks, as it stands there.  Raises KeyError with the usual name where it has no such column."""
    return record[column(record, "question") or NAMES["question"][0]]


def loads(text: str) -> Any:
    """JSON, numbers with a point as `Decimal`.  Raises ValueError."""
    return json.loads(text, parse_float=Decimal)


def json_lines(lines: Iterable[str], path: Path) -> Iterator[tuple[int, Any]]:
    r"""(line number, value) of each line that is not blank.  Raises UserError that names the first broken line.

    The lines must have been cut at "\n" alone, as `open(newline="\n")` does: a JSON string may hold U+2028 and its
    kin, at which `str.splitlines` would cut it.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                value = loads(line)
            except ValueError as error:
                raise UserError(f"can't read {path}, line {number} ({error}): mend or remove it") from error
            yield number, value


def number_of(value: Any) -> Any:
    """A `Decimal` as the number that a checker takes; anything else as it is.

    >>> number_of(Decimal("300.0")), number_of(Decimal("0.5")), number_of("x")
    (300, 0.5, 'x')
    """
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def text_of(value: Any) -> str | None:
    """A question as text; None where there is none.

    >>> text_of(" How many? "), text_of(None), text_of("  "), text_of(float("nan"))
    ('How many?', None, None, None)
    """
    if not isinstance(value, str):
        return None
    return value.strip() or None


def answers_of(value: Any) -> list[str] | None:
    r"""The answers that a field holds, as text: one, or those of a list (or of the text of a list); None for none.

    >>> answers_of("007"), answers_of(Decimal("0.50")), answers_of(142.0), answers_of(["1", 2]), answers_of("['9\\n']")
    (['007'], ['0.50'], ['142'], ['1', '2'], ['9'])
    >>> answers_of(None), answers_of(float("nan")), answers_of("null"), answers_of([]), answers_of("[0, 1]")
    (None, None, None, None, ['[0, 1]'])
    """
    if isinstance(value, str) and value.strip().startswith(("['", '["')):
        value = _quoted_list(value.strip())
    if isinstance(value, list | tuple):
        parts = [answers_of(part) for part in value]
        return None if not parts or None in parts else [text for part in parts for text in part]
    text = _scalar(value)
    return None if text is None or text.lower() in MISSING else [text]


def answer_of(value: Any) -> str | None:
    """One answer as text: the members of a list all count, and are joined.

    >>> answer_of(["1", "2"]), answer_of("3"), answer_of([None])
    ('1, 2', '3', None)
    """
    found = answers_of(value)
    return None if found is None else ", ".join(found)


def _quoted_list(text: str) -> Any:
    """The list whose text this is, or the text itself."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, list) and all(isinstance(part, str) for part in value) else text


def _scalar(value: Any) -> str | None:
    match value:
        case None | dict():
            return None
        case float() | Decimal() if not math.isfinite(value):
            return None
        case float() | Decimal():  # some files have 142.0 for the integer
            return str(value).lower().removesuffix(".0")
    return str(value).strip()
