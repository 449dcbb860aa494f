"""The kinds of answer that there are.  Every value keeps the canonical text that it was read from."""

from dataclasses import dataclass, field, fields
from fractions import Fraction

from .units import Unit


@dataclass(frozen=True)
class Value:
    text: str  # canonical, see `tokens.canonical`
    name: str = field(default="", kw_only=True)  # what it was said to be: x in x = 5
    other: "Value | None" = field(default=None, kw_only=True)  # a second way to read an ambiguous text

    def __str__(self) -> str:
        parts = [
            f"{f.name} {_shown(getattr(self, f.name))}"
            for f in fields(self)
            if getattr(self, f.name) not in ("", None, ())
        ]
        return f"{type(self).__name__.lower()}: " + ", ".join(parts)


IN_ORDER = "letters in order"  # why a text is one: see `reader`


@dataclass(frozen=True)
class Text(Value):
    """Words, or what is in no grammar: equal to the same text only."""

    why: str = ""


@dataclass(frozen=True)
class Quantity(Value):
    """A number or an expression, perhaps with a unit."""

    tree: tuple = ()
    unit: Unit | None = None


@dataclass(frozen=True)
class Chain(Value):
    """One value said several times: 3/4 = 0.75, 2/3 \\approx 0.67."""

    sides: tuple[Value, ...] = ()
    rounded: bool = False


@dataclass(frozen=True)
class Relation(Value):
    """An equation or inequality between expressions: one side more than there are signs."""

    signs: tuple[str, ...] = ()
    sides: tuple[tuple, ...] = ()


@dataclass(frozen=True)
class Tuple(Value):
    """Values in order between brackets: a point, or an interval."""

    opening: str = "("
    items: tuple[Value, ...] = ()
    closing: str = ")"


@dataclass(frozen=True)
class Many(Value):
    """Values in any order: a list, or a set in braces."""

    items: tuple[Value, ...] = ()
    braces: bool = False


@dataclass(frozen=True)
class Joined(Value):
    """Sets or conditions that are joined: how is union, intersection or difference."""

    how: str = "union"
    items: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Reals(Value):
    """All real numbers."""


@dataclass(frozen=True)
class Matrix(Value):
    rows: tuple[tuple[Value, ...], ...] = ()


@dataclass(frozen=True)
class Colon(Value):
    """A ratio or a time of day."""

    parts: tuple[tuple, ...] = ()
    half: str = ""  # am or pm


@dataclass(frozen=True)
class Based(Value):
    """Digits to a base other than the usual one."""

    digits: str = ""
    base: int = 10


def _shown(part: object) -> str:
    match part:
        case Value() | Unit():
            return str(part)
        case tuple() if part and isinstance(part[0], Value):
            return "[" + "; ".join(map(str, part)) + "]"
        case tuple():
            return tree_text(part)
    return str(part)


def tree_text(tree: object) -> str:
    """A tree as a person reads it: add(x, 1/2).

    >>> tree_text(("add", (("symbol", "x"), ("number", Fraction(1, 2), False))))
    'add(x, 1/2)'
    """
    match tree:
        case ("number", Fraction() as found, bool() as decimal):
            return f"{float(found):g} (a decimal)" if decimal else str(found)
        case ("symbol" | "constant", str() as name):
            return name
        case (str() as kind, *parts) if parts and not all(isinstance(part, str) for part in parts):
            return f"{kind}({', '.join(map(tree_text, parts))})"
        case tuple():
            return ", ".join(map(tree_text, tree))
    return str(tree)
