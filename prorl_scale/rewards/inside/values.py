"""Values on their way between the runner and a program: JSON that keeps Python's types, and stand-ins for the rest."""

import itertools
from collections.abc import Callable
from typing import Any

MAX_ITEMS = 1_000_000  # of an iterator that a call returns


class Remote:
    """A stand-in for an object of the program that is no plain value: it can be called and its attributes used.

    It is equal to nothing and neither true nor false, so no assert passes on an object's own say-so.
    """

    def __init__(self, program: Any, number: int):
        self.__dict__.update(_program=program, _number=number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._program.ask("call", self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._program.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._program.ask("set", self, name, value)

    def __bool__(self) -> bool:
        raise TypeError("the program's object is no plain value")

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        raise TypeError("the program's object is no plain value")

    __hash__ = None


def encode(value: Any, objects: dict[int, Any] | None = None) -> Any:
    """A value as JSON that keeps Python's types; other objects go into `objects` and travel as a number.

    Raises TypeError for an object where `objects` is None: the tests' own objects do not travel.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, Remote):
        return ["remote", value._number]
    if isinstance(value, (int, float, str)):  # a subclass, which JSON would write as its base anyway
        return next(base(value) for base in (int, float, str) if isinstance(value, base))
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return [kind.__name__ if kind is bytearray else "bytes", bytes(value).hex()]
    if isinstance(value, dict):
        return ["dict", *([encode(k, objects), encode(v, objects)] for k, v in value.items())]
    for base in (list, tuple, set, frozenset):
        if isinstance(value, base):
            return [base.__name__, *(encode(item, objects) for item in value)]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return encode(value.tolist(), objects)
    if hasattr(value, "__next__") or isinstance(value, (range, map, filter, zip)):
        return ["list", *(encode(item, objects) for item in itertools.islice(value, MAX_ITEMS))]
    if objects is None:
        raise TypeError(f"only plain values can be passed to the program, not {type(value).__name__}")
    number = len(objects)
    objects[number] = value
    return ["remote", number]


def decode(value: Any, remote: Callable[[int], Any]) -> Any:
    """The inverse of `encode`; `remote(number)` stands for an object of the other side."""
    if not isinstance(value, list):
        return value
    kind, *rest = value
    if kind == "remote":
        return remote(rest[0])
    if kind == "complex":
        return complex(*rest)
    if kind in ("bytes", "bytearray"):
        return {"bytes": bytes, "bytearray": bytearray}[kind].fromhex(rest[0])
    if kind == "dict":
        return {decode(k, remote): decode(v, remote) for k, v in rest}
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return kinds[kind](decode(item, remote) for item in rest)


def change_in_place(ours: Any, theirs: Any) -> Any:
    """Make our value what a call left of it there, keeping our lists, dicts and sets -> the value.

    >>> row = [3, 1]; table = [row]
    >>> change_in_place(table, [[1, 3], []]) is table, row
    (True, [1, 3])
    """
    kinds = (list, dict, set, bytearray)
    if type(ours) is not type(theirs) or not isinstance(ours, (*kinds, tuple)):
        return theirs
    if isinstance(ours, dict):
        new = {key: change_in_place(ours[key], value) if key in ours else value for key, value in theirs.items()}
        ours.clear()
        ours.update(new)
    elif isinstance(ours, set):
        ours.clear()
        ours.update(theirs)
    elif isinstance(ours, bytearray):
        ours[:] = theirs
    else:  # by place
        kept = min(len(ours), len(theirs))
        new = [change_in_place(ours[i], theirs[i]) for i in range(kept)] + list(theirs[kept:])
        if isinstance(ours, tuple):
            return tuple(new)
        ours[:] = new
    return ours
