"""How plans say numbers."""

import math


def term(name: str, size: float, limit: float = math.inf) -> str:
    """A line of a table of memory: what it is, and its GB.

    size, limit: bytes.

    >>> term("weights", 7.1e9)
    '    weights                                               7.10 GB'
    """
    return f"    {name:50}{size / 1e9:8.2f} GB" + (f"  more than {limit / 1e9:g} GB" if size > limit else "")


def amount(value: float) -> str:
    """Three digits and a word.

    >>> [amount(x) for x in (512, 33_554_432, 1.2e9, 4.1e13)]
    ['512', '33.6 million', '1.2 billion', '41 trillion']
    """
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}"
