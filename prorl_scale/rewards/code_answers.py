"""Code: have a program run in the sandbox and score the fraction of all tests it passes.

This runs outside the sandbox, so it treats the program as a string and its outputs as data to compare.
"""

import ast
import json
import math
import re
import secrets
from decimal import Decimal
from typing import Any

from prorl_lab.clock import Clock
from prorl_lab.scoring.code_blocks import last_code
from prorl_lab.scoring.extract import after_think

from .inside.values import decode
from .sandbox import Child, ChildDied

_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{0,39})?|\.[0-9]{1,39})(?:[eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
TOLERANCE = 1e-6  # relative or absolute, between decimals

Question = tuple[dict[str, Any], dict[str, Any]]  # what the sandbox may know before the program runs, and what not


def question(response: str, reference: dict[str, Any], seconds: float) -> Question | None:
    """What to send into the sandbox, and the tests; None for a response without a program.

    `seconds` is the processor time of all tests together.  Raises ValueError for a reference of another shape.
    """
    request, tests = _split(reference)
    code = last_code(after_think(response))
    return None if code is None else ({**request, "code": code, "seconds": seconds}, tests)


def judge(child: Child, asked: Question, clock: Clock) -> tuple[float, str]:
    """The fraction of tests passed, and a status; 0 if they take longer than their time together, as in the paper.

    Raises ChildDied, or what the clock raises: then the sandbox is in no state to take another program.
    """
    request, tests = asked
    child.send(request, clock)
    try:
        passed = _run(child, tests, clock)
    except OutOfTime:  # the inside has ended the program, and waits for the next
        return 0.0, "timeout"
    except _RunnerDied as death:  # tests that use up the time in our own process there hit the kernel's limit
        raise (TimeoutError if death.seconds >= request["seconds"] else ChildDied)(str(death)) from death
    fraction = sum(passed) / len(passed)
    return fraction, "ok" if fraction == 1.0 else "wrong"


class OutOfTime(Exception):
    """The inside says that the program has used up its processor time."""


class _RunnerDied(Exception):
    def __init__(self, seconds: float):
        super().__init__(f"the runner of a program died after {seconds:.1f} s of processor time")
        self.seconds = seconds


def _split(reference: dict[str, Any]) -> Question:
    if reference.get("asserts"):
        setup = reference.get("setup") or ""
        return {"form": "asserts", "preamble": _imports(setup)}, {"asserts": reference["asserts"], "setup": setup}
    inputs, outputs = reference.get("inputs"), reference.get("outputs")
    if not inputs or not outputs or len(inputs) != len(outputs):
        raise ValueError("a code reference needs `asserts`, or as many `inputs` as `outputs` and at least one")
    if reference.get("fn_name"):
        return {"form": "calls", "preamble": ""}, {
            "fn_name": reference["fn_name"],
            "calls": [_arguments(i) for i in inputs],
            "outputs": [_readings(o) for o in outputs],
        }
    return {"form": "stdin", "inputs": [_text(i) for i in inputs]}, {"outputs": [_text(o) for o in outputs]}


def _imports(setup: str) -> str:
    """The import statements of the asserts' setup.  The program may rely on them; the rest would show it the tests."""
    tree = ast.parse(setup)
    return "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))


def _run(child: Child, tests: dict, clock: Clock) -> list[bool]:
    """Whether each test passed.  Raises OutOfTime, ChildDied, or what the clock raises."""
    if "asserts" in tests:
        _next(child, clock)  # the program's process has been forked
        nonce = secrets.token_hex(16)
        child.send({**tests, "nonce": nonce}, clock)
        report = _next(child, clock)
        honest = isinstance(report, dict) and report.get("nonce") == nonce
        if not honest or len(report["passed"]) != len(tests["asserts"]):
            raise ChildDied("a report that is not ours")
        return [passed is True for passed in report["passed"]]
    if "calls" in tests:
        _next(child, clock)
        child.send({"fn_name": tests["fn_name"], "calls": tests["calls"]}, clock)
        return [_same_value(_next(child, clock), readings) for readings in tests["outputs"]]
    return [same_output(_printed(_next(child, clock)), expected) for expected in tests["outputs"]]


def _next(child: Child, clock: Clock) -> Any:
    """The next report of the inside.  Raises OutOfTime, _RunnerDied, ChildDied, or what the clock raises."""
    match child.receive(clock):
        case "out of time":
            raise OutOfTime
        case {"died": float() as seconds}:
            raise _RunnerDied(seconds)
        case report:
            return report


def _printed(report: Any) -> Any:
    match report:
        case ["printed", str() as text]:
            return text
    return None


# --- printed text


def same_output(printed: Any, expected: str) -> bool:
    """Whether the printed text is the expected one, word by word, as the checkers of programming contests compare.

    White space only parts the words, unless a drawing is expected (lines without letters and digits that are indented
    differently): there only blank lines around it and spaces at the ends of its lines are free.  Words that are numbers
    are compared as numbers: exactly where an integer is expected, else within a millionth.

    >>> same_output("1 0.50000001 \\n\\n", "1\\n0.5"), same_output("5.0", "5"), same_output("2", "1")
    (True, True, False)
    >>> same_output("*\\n***", " *\\n***"), same_output(None, "")
    (False, False)
    """
    if not isinstance(printed, str):
        return False
    lines = _lines(expected)
    indents = {len(line) - len(line.lstrip()) for line in lines if line}
    if len(indents) > 1 and not any(map(str.isalnum, expected)):
        return _lines(printed) == lines
    ours, theirs = printed.split(), expected.split()
    return len(ours) == len(theirs) and all(a == b or _same_number(a, b) for a, b in zip(ours, theirs, strict=True))


def _lines(text: str) -> list[str]:
    """Lines without trailing spaces, and without blank ones at the start and the end."""
    lines = [line.expandtabs().rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    written = [i for i, line in enumerate(lines) if line]
    return lines[written[0] : written[-1] + 1] if written else []


def _same_number(ours: str, theirs: str) -> bool:
    """Whether two words are the same number.  A leading zero makes a word no number: 011 may be a string of bits."""
    if not (_NUMBER.fullmatch(ours) and _NUMBER.fullmatch(theirs)):
        return False
    if _INTEGER.fullmatch(theirs):
        return Decimal(ours) == Decimal(theirs)
    return math.isclose(float(ours), float(theirs), rel_tol=TOLERANCE, abs_tol=TOLERANCE)


# --- results of calls


def _same_value(report: Any, readings: list[Any]) -> bool:
    """Whether a call returned one of the readings of the expected value, as JSON would write both."""
    try:
        kind, *value = report
        if kind != "returned":
            return False
        ours = _as_json(decode(value[0], lambda number: object()))
        return any(same_result(ours, expected) for expected in readings)
    except Exception:  # noqa: BLE001  a report that is no value of ours is a failed test, whatever it is
        return False


def same_result(ours: Any, expected: Any) -> bool:
    """Whether two values of JSON's types are equal, decimals at any depth within a millionth.

    An integer that is expected must be met exactly, as 3 or 3.0.  True is 1, as it is for Python's == and so for the
    graders that use it; nothing else is equal across kinds.

    >>> same_result([0.1 + 0.2, {"a": 3.0}], [0.3, {"a": 3}]), same_result(3.0000001, 3), same_result("3", 3)
    (True, False, False)
    """
    if isinstance(expected, list):
        return (
            isinstance(ours, list)
            and len(ours) == len(expected)
            and all(same_result(a, b) for a, b in zip(ours, expected, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(ours, dict)
            and ours.keys() == expected.keys()
            and all(same_result(ours[key], expected[key]) for key in expected)
        )
    if isinstance(expected, float) and isinstance(ours, int | float):
        both_nan = math.isnan(ours) and math.isnan(expected)
        return both_nan or math.isclose(ours, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(ours == expected)


def _as_json(value: Any) -> Any:
    """Tuples as lists and keys as strings."""
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    return value


# --- tests as data sets write them


def _arguments(value: Any) -> list:
    """The arguments of a call: a list of them, one alone, or text with the JSON of one per line.

    >>> _arguments("[1, 2]\\nabc\\n"), _arguments(5)
    ([[1, 2], 'abc'], [5])
    """
    if isinstance(value, str):
        try:
            return [json.loads(value)]  # which may span lines
        except ValueError:
            return [_read(line) for line in value.replace("\r\n", "\n").split("\n") if line.strip()]
    if isinstance(value, int | float):
        return [value]
    if not isinstance(value, list | tuple):
        raise ValueError("the arguments of a call are a list, or text with one per line")
    return list(value)


def _readings(value: Any) -> list[Any]:
    """What an expected value may stand for: itself, what its text says, or what is in its list of one.

    Some data has `[["8"]]` for a function that returns 8, some the text `"abc"` with its quotes, some without.

    >>> _readings(["8"]), _readings("True")
    ([['8'], '8', 8], ['True', True])
    """
    value = _as_json(value)
    found = [value]
    if isinstance(value, list) and len(value) == 1:
        found += _readings(value[0])
    elif isinstance(value, str) and _read(value) != value:
        found.append(_as_json(_read(value)))
    return found


def _read(text: str) -> Any:
    """What a text says as JSON, or as Python writes values; else the text itself.

    Of Python's literals only those that can hardly be meant as text: `()` may well be a string of brackets.
    """
    with_quotes = text.strip().startswith(("[", "{", "'")) or text.strip() in ("True", "False", "None")
    for read in (json.loads, ast.literal_eval) if with_quotes else (json.loads,):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    return text


def _text(value: Any) -> str:
    """Text of an input or output, with line ends as Python writes them; some data has a list of lines, or null."""
    if value is None:
        return ""
    text = "\n".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("\r\n", "\n").replace("\r", "\n")
