"""Names that a program finds without an import: those of a script, and for functions those of LeetCode's judge.

LeetCode, and LiveCodeBench after it, run a solution behind a page of imports, and the starter code that a model
completes uses them (`nums: List[int]`).  They stand among the builtins, so that they are not the program's own: a
program that defines no `gcd` has none to be called.
"""

import _sitebuiltins
import builtins
import contextlib
import importlib
import os
import sys
import types
from typing import Any

_MODULES = (
    *("typing", "string", "re", "datetime", "time", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json", "os", "array", "decimal", "fractions"),
)
# Modules of which all public names are there too; what two of them share is the later one's.
_OPEN = (
    *("string", "re", "datetime", "copy", "random", "statistics", "operator", "sys", "json", "io"),
    *("math", "collections", "heapq", "bisect", "itertools", "functools", "typing"),
)


class ListNode:
    def __init__(self, val: Any = 0, next: Any = None):  # LeetCode's own names
        self.val, self.next = val, next


class TreeNode:
    def __init__(self, val: Any = 0, left: Any = None, right: Any = None):
        self.val, self.left, self.right = val, left, right


def load() -> None:
    """Import what most programs import, once and for all that are forked from here.

    `random` would draw a new seed in every fork, which costs time, and makes a verdict depend on it.
    """
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    try:
        import random
    finally:
        os.register_at_fork = register
    random.seed(0)
    for name in ("bisect", "collections", "functools", "heapq", "itertools", "math", "re", "string", "typing"):
        importlib.import_module(name)
    compile("", "", "exec")  # its first call makes two hundred types


def of_leetcode() -> dict[str, Any]:
    """Name to value; where a module has a name of its own (`datetime`), the module wins, as in LiveCodeBench."""
    modules = {name: importlib.import_module(name) for name in _MODULES}
    names: dict[str, Any] = {"ListNode": ListNode, "TreeNode": TreeNode}
    for name in _OPEN:
        module = modules[name]
        public = getattr(module, "__all__", None) or [key for key in vars(module) if not key.startswith("_")]
        names.update((key, getattr(module, key)) for key in public)
    with contextlib.suppress(ImportError):
        names["SortedList"] = importlib.import_module("sortedcontainers").SortedList
    return {**names, **modules}


OF_A_SCRIPT = {  # what Python's site module adds, which does not run here
    "exit": _sitebuiltins.Quitter("exit", "Ctrl-D"),
    "quit": _sitebuiltins.Quitter("quit", "Ctrl-D"),
    "help": _sitebuiltins._Helper(),
}


def provide(names: dict[str, Any]) -> None:
    """Make the names known everywhere in this process; Python's own builtins stay what they are."""
    for name, value in names.items():
        vars(builtins).setdefault(name, value)


def new_module(name: str) -> types.ModuleType:
    """The module that a program runs in.  Whatever looks itself up (dataclasses, pickle) finds it by its name."""
    module = types.ModuleType(name)
    module.__file__ = "solution.py"
    sys.modules[name] = sys.modules["__main__"] = module
    sys.argv = ["solution.py"]
    return module
