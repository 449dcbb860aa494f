"""What every grader's script shares: JSON lines in, JSON lines out.  Standard library only; runs in any environment.

A line in has `domain`, `gold`, `answer` (what is in the box), `response` (the whole text) and `plain`: whether the
response is one sentence around one box, which a grader may have in the form that it asks its models for.  A line out
has `score` (null where the grader declines to judge) and `status`.  The parent keeps the clock.
"""

import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

Grade = Callable[[dict], tuple[float | None, str]]


def serve(grade: Grade) -> None:
    """Answer until the input ends.  What the grader prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        try:
            score, status = grade(json.loads(line))
        except Exception as error:  # noqa: BLE001  what a grader raises, a trainer would see too: no reward
            score, status = 0.0, f"raised {type(error).__name__}"
        print(json.dumps({"score": score, "status": status}), file=out, flush=True)


def in_form(item: dict, form: str) -> str:
    """The response in the form that a grader asks for; as it is where more than one box is the point of it."""
    return form.format(item["answer"]) if item["plain"] else item["response"]


def bare_package(name: str) -> Path:
    """A package without its `__init__`, so that one module of it loads alone; its folder."""
    parent, _, last = name.rpartition(".")
    where = sys.modules[parent].__path__ if parent else sys.path
    folder = next(Path(path, last) for path in where if Path(path, last).is_dir())
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    return folder


def hollow(name: str, **names: object) -> None:
    """A module that only has these names, and a bare class for each other, in the place of one that needs too much."""
    module = types.ModuleType(name)
    module.__dict__.update(names)
    module.__getattr__ = lambda attribute: type(attribute, (), {})
    sys.modules[name] = module


def load(name: str, path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
