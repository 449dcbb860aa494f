"""Code: run a model's program in a fresh sandbox and score the fraction of all tests it passes.

This runs outside the sandbox, so it treats the program as a string and its outputs as data to compare.
"""

import ast
import json
import math
import re
import secrets
import time
from typing import Any

from prorl_lab.scoring.extract import after_think, last_code

from .inside.program import decode
from .sandbox import Child, ChildDied

_DECIMAL = re.compile(r"[+-]?[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?")


def score(
    response: str, reference: dict[str, Any], seconds: float, unsafe: bool, children: list[Child]
) -> tuple[float, str]:
    """The fraction of tests passed, and a status; 0 if they take longer than `seconds` together, as in the paper.

    `children` shows the caller the sandbox while it runs.

    Raises ValueError for a reference of another shape, SandboxError where the sandbox can't start.
    """
    request, tests = _split(reference)
    code = last_code(after_think(response))
    if code is None:
        return 0.0, "format"
    child = Child("program", unsafe)
    children.append(child)
    try:
        child.wait_ready()
        deadline = time.monotonic() + seconds
        child.send({**request, "code": code, "seconds": seconds}, deadline)
        passed = _run(child, tests, deadline)
    except TimeoutError:
        return 0.0, "timeout"
    except ChildDied:
        return 0.0, "error"
    finally:
        child.kill()
        children.remove(child)
    fraction = sum(passed) / len(passed)
    return fraction, "ok" if fraction == 1.0 else "wrong"


def _split(reference: dict[str, Any]) -> tuple[dict, dict]:
    """What the sandbox may know before the program runs, and what it may not."""
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
            "outputs": [_json_or_text(o) for o in outputs],
        }
    return {"form": "stdin", "inputs": [_lines(i) for i in inputs]}, {"outputs": [_lines(o) for o in outputs]}


def _imports(setup: str) -> str:
    """The import statements of the asserts' setup.  The program may rely on them; the rest would show it the tests."""
    tree = ast.parse(setup)
    return "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))


def _run(child: Child, tests: dict, deadline: float) -> list[bool]:
    """Whether each test passed.  Raises TimeoutError or ChildDied."""
    if "asserts" in tests:
        child.receive(deadline)  # the program's process has been forked
        nonce = secrets.token_hex(16)
        child.send({**tests, "nonce": nonce}, deadline)
        report = child.receive(deadline)
        honest = isinstance(report, dict) and report.get("nonce") == nonce
        if not honest or len(report["passed"]) != len(tests["asserts"]):
            raise ChildDied("a report that is not ours")
        return [passed is True for passed in report["passed"]]
    if "calls" in tests:
        child.receive(deadline)
        child.send({"fn_name": tests["fn_name"], "calls": tests["calls"]}, deadline)
        return [_same_value(child.receive(deadline), expected) for expected in tests["outputs"]]
    return [same_output(child.receive(deadline), expected) for expected in tests["outputs"]]


def same_output(printed: Any, expected: str) -> bool:
    """Whether the printed text is the expected one: line ends aside, and decimals within a millionth.

    >>> same_output("1 0.50000001 \\n\\n", "1 0.5"), same_output("2", "1"), same_output(None, "")
    (True, False, False)
    """
    if not isinstance(printed, str):
        return False
    ours, theirs = printed.rstrip().split("\n"), expected.rstrip().split("\n")
    return len(ours) == len(theirs) and all(
        a.rstrip() == b.rstrip() or _same_words(a.split(), b.split()) for a, b in zip(ours, theirs, strict=True)
    )


def _same_words(ours: list[str], theirs: list[str]) -> bool:
    return len(ours) == len(theirs) and all(
        a == b or (_DECIMAL.fullmatch(b) and re.fullmatch(r"[-+.eE0-9]{1,40}", a) and _close(a, float(b)))
        for a, b in zip(ours, theirs, strict=True)
    )


def _close(text: str, expected: float) -> bool:
    try:
        return math.isclose(float(text), expected, rel_tol=1e-6, abs_tol=1e-6)
    except ValueError:
        return False


def _same_value(report: Any, expected: Any) -> bool:
    """Whether a call returned the expected value, as JSON would write both.

    Some data wraps every expected value in a list of one.
    """
    try:
        kind, *value = report
        if kind != "returned":
            return False
        ours = _as_json(decode(value[0], lambda number: object()))
    except Exception:  # noqa: BLE001  a report that is no value of ours is a failed test, whatever it is
        return False
    return ours == expected or (isinstance(expected, list) and len(expected) == 1 and ours == expected[0])


def _as_json(value: Any) -> Any:
    """Tuples as lists and keys as strings."""
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    return value


def _arguments(value: Any) -> list:
    """The arguments of a call: a list of them, or text with the JSON of one argument per line."""
    return [json.loads(line) for line in value.splitlines()] if isinstance(value, str) else list(value)


def _json_or_text(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return _as_json(value)


def _lines(value: Any) -> str:
    """Text of an input or output; some data has a list of lines."""
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
