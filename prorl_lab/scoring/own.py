"""Score answers with a user's own file, which `prorl_lab.own` describes.  Runs in the killable child, or the sandbox.

The file travels as text inside the reference, so the child needs no folder of the user's, and a prepared row keeps the
scorer that it was made with.
"""

import copy
import functools
import json
import math
import numbers
import sys
import types
from typing import Any

from prorl_lab.scoring.extract import after_think

Scored = tuple[float, str, str]  # score, status, and why: the parts as JSON, or what is wrong


def load(source: str, file: str, name: str | None) -> Any:
    """What has the functions: the module that `source` makes, or the object `name` in it; of a class an instance.

    Raises whatever the file raises, AttributeError without that name.
    """
    module = types.ModuleType("own_task")
    module.__file__ = file
    sys.modules["own_task"] = module  # where dataclasses look their module up
    exec(compile(source, file, "exec"), vars(module))  # the user's program, not a model's text
    if name is None:
        return module
    made = getattr(module, name)
    return made() if isinstance(made, type) else made


_loaded = functools.lru_cache(maxsize=8)(load)


def score(response: str, reference: dict[str, Any]) -> Scored:
    """The verdict of the file's own `score(problem, answer)` on what the response says behind its thought.

    reference: {"source", "file", "name", "problem"}.
    """
    try:
        task = _loaded(reference["source"], reference["file"], reference["name"])
        given = task.score(copy.deepcopy(reference["problem"]), after_think(response))
        return verdict(given, getattr(task, "WEIGHTS", None))
    except Exception as error:  # noqa: BLE001  whatever the file raises on hostile text is this answer's verdict
        return 0.0, "error", f"raises {type(error).__name__}: {error}"


def verdict(given: Any, weights: dict[str, float] | None) -> Scored:
    """One score out of what the file gave: a number in [0, 1], or such a number for each of its WEIGHTS.

    >>> verdict(True, None), verdict({"right": 1, "form": 0.5}, {"right": 0.8, "form": 0.2})
    ((1.0, 'ok', ''), (0.9, 'wrong', '{"right": 1.0, "form": 0.5}'))
    >>> verdict(float("nan"), None)
    (0.0, 'error', 'gives nan, where a number from 0 to 1 is wanted')
    """
    if isinstance(given, dict):
        if set(given) != set(weights or ()):
            named = ", ".join(map(str, given)) or "nothing"
            return 0.0, "error", f"gives the parts {named}, where WEIGHTS has {', '.join(weights or ()) or 'none'}"
        wrong = [f"{part} = {value!r}" for part, value in given.items() if not _is_share(value)]
        if wrong:
            return 0.0, "error", f"gives {wrong[0]}, where a number from 0 to 1 is wanted"
        parts = {part: float(value) for part, value in given.items()}
        total = round(math.fsum(weights[part] * value for part, value in parts.items()), 9)  # 0.7 + 0.2 + 0.1 is 1
        return total, "ok" if total >= 1 else "wrong", json.dumps(parts)
    if not _is_share(given):
        return 0.0, "error", f"gives {given!r:.80}, where a number from 0 to 1 is wanted"
    return float(given), "ok" if given >= 1 else "wrong", ""


def _is_share(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value) and 0 <= value <= 1
