"""Progress: a bar on a terminal, and in a log, where a bar would be one endless line, a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm as bar

EVERY = 30.0  # seconds between two lines of a log
Item = TypeVar("Item")


def tqdm(items: Iterable[Item], desc: str, leave: bool = True, disable: bool = False, **how: Any) -> Iterable[Item]:
    """`tqdm.tqdm` where standard error is a terminal, else `lines`."""
    if disable:
        return items
    return bar(items, desc, leave=leave, **how) if sys.stderr.isatty() else lines(items, desc)


def lines(items: Iterable[Item], desc: str, every: float = EVERY) -> Iterator[Item]:
    """The items; on standard error how many are done, once in a while."""
    total = f" of {len(items)}" if hasattr(items, "__len__") else ""
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said >= every:
            said = time.monotonic()
            print(f"{desc}: {done}{total}", file=sys.stderr, flush=True)
        yield item
