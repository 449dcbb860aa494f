"""Modules imported when they are first used: `--help` and `status` need no transformers, which takes seconds."""

import importlib
from typing import Any

_PUT_OFF: list["Later"] = []


class Later:
    """Stands for a module, or for a name in it, until it is used.

    >>> Later("math", "sqrt")(9.0), Later("math").pi > 3
    (3.0, True)
    """

    def __init__(self, module: str, name: str | None = None):
        self._module, self._name = module, name
        _PUT_OFF.append(self)

    def _found(self) -> Any:
        module = importlib.import_module(self._module)
        return module if self._name is None else getattr(module, self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)


def import_now() -> None:
    """Import all that has been put off: before forks that would each do it again."""
    for later in _PUT_OFF:
        later._found()
