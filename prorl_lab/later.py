"""Modules imported when they are first used: `--help` and `status` need no transformers, which takes seconds."""

import importlib
from typing import Any


class Later:
    """Stands for a module, or for a name in it, until it is used.

    >>> Later("math", "sqrt")(9.0), Later("math").pi > 3
    (3.0, True)
    """

    def __init__(self, module: str, name: str | None = None):
        self._module, self._name = module, name

    def _found(self) -> Any:
        module = importlib.import_module(self._module)
        return module if self._name is None else getattr(module, self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)
