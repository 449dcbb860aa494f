r"""Sets of real numbers: intervals, inequalities in one variable, unions, differences and points as one normal form.

A set is a list of pieces (low, low included, high, high included), in order, none touching the next.  So (0,1] and
0 < x <= 1 are one set, and so are x != 2 and (-inf,2) with (2,inf).
"""

from fractions import Fraction
from typing import NamedTuple

import mpmath

from . import evaluate, grammar
from .tokens import NotRead
from .values import Joined, Many, Quantity, Reals, Relation, Tuple, Value

INFINITY = mpmath.inf


class Piece(NamedTuple):
    low: mpmath.mpf
    low_in: bool
    high: mpmath.mpf
    high_in: bool


WHOLE = [Piece(-INFINITY, False, INFINITY, False)]


def of(value: Value) -> list[Piece] | None:
    """The set that a value stands for; None if it is none, or not of real numbers."""
    try:
        with mpmath.workdps(evaluate.LOW):
            pieces = _pieces(value)
            return None if pieces is None else _normal(pieces)
    except (NotRead, evaluate.Undefined):
        return None


def same(a: list[Piece], b: list[Piece]) -> bool:
    return len(a) == len(b) and all(
        equal(p.low, q.low) and equal(p.high, q.high) and (p.low_in, p.high_in) == (q.low_in, q.high_in)
        for p, q in zip(a, b, strict=True)
    )


def variables(value: Value) -> set[str]:
    """The variables that an inequality, or several joined ones, speak of; none for intervals."""
    match value:
        case Relation(sides=sides):
            return set().union(*(grammar.symbols(_variables(side)) for side in sides))
        case Joined(items=items):
            return set().union(*map(variables, items))
    return {value.name} - {""}


def solved(value: Value) -> bool:
    """Whether each side of its inequalities is a constant, a variable, or the variable's absolute value."""
    match value:
        case Joined(items=items):
            return all(map(solved, items))
        case Relation(sides=sides):
            bare = (_variables(side[1] if side[0] == "abs" else side) for side in sides)
            return all(side[0] == "symbol" or not grammar.symbols(side) for side in bare)
    return True


def _pieces(value: Value) -> list[Piece] | None:
    match value:
        case Reals():
            return WHOLE
        case Tuple(opening=opening, items=(Quantity() as low, Quantity() as high), closing=closing):
            ends = _end(low.tree), _end(high.tree)
            if None in ends or not ends[0] <= ends[1]:
                return None
            return [Piece(ends[0], opening == "[", ends[1], closing == "]")]
        case Many(items=items, braces=True) if all(isinstance(item, Quantity) for item in items):
            points = [_end(item.tree) for item in items]
            return None if None in points else [Piece(point, True, point, True) for point in points]
        case Joined(how=how, items=items):
            found = [_pieces(item) for item in items]
            if None in found:
                return None
            if how == "union":
                return [piece for pieces in found for piece in pieces]
            first = _normal(found[0])
            for other in found[1:]:
                other = _normal(other)
                first = _intersection(first, other if how == "intersection" else _complement(other))
            return first
        case Relation():
            return _solution(value)
    return None


def _end(tree: tuple) -> mpmath.mpf | None:
    found = evaluate.real(tree)
    return None if found is None else evaluate.to_float(found)


def _solution(relation: Relation) -> list[Piece] | None:
    """The solutions of a chain of inequalities that are linear in one variable."""
    sides = [_variables(side) for side in relation.sides]
    names = set().union(*map(grammar.symbols, sides))
    if len(names) != 1 or "=" in relation.signs:
        return None
    found = WHOLE
    for left, sign, right in zip(sides, relation.signs, sides[1:], strict=False):
        pieces = _half_line(left, sign, right, *names)
        if pieces is None:
            return None
        found = _intersection(found, pieces)
    return found


def _variables(tree: tuple) -> tuple:
    """A side that is g(x) as a variable of its own."""
    if tree[0] == "apply" and tree[2][0] == "symbol":
        return ("symbol", f"{tree[1]}({tree[2][1]})")
    return tree


def _half_line(left: tuple, sign: str, right: tuple, name: str) -> list[Piece] | None:
    """The solutions of one inequality; None if it is not linear, or the absolute value of what is."""
    if right[0] == "abs" and left[0] != "abs":
        turned = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
        return _half_line(right, turned.get(sign, sign), left, name)
    if left[0] == "abs" and not grammar.symbols(right):
        if not _at_least_nought(right):
            return None
        upper = _half_line(left[1], sign, right, name)
        lower = _half_line(("neg", left[1]), sign, right, name)
        if upper is None or lower is None:
            return None
        return _intersection(upper, lower) if sign in ("<", r"\le", r"\ne") else _normal(upper + lower)
    infinite = [("constant", "inf"), ("neg", ("constant", "inf"))]
    if left in infinite or right in infinite:  # -inf < x
        return WHOLE
    values = []
    for point in (0, 1, 3):
        x, y = (evaluate.value(tree, evaluate.Setting({name: Fraction(point)})) for tree in (left, right))
        values.append(evaluate.minus(x, y))
    if any(isinstance(v, mpmath.mpc) for v in values):
        return None
    slope = values[1] - values[0]
    if not equal(values[2] - values[0], 3 * slope) or equal(slope, Fraction(0)):
        return None
    bound = evaluate.to_float(-values[0] / slope)
    if sign == r"\ne":
        return [Piece(-INFINITY, False, bound, False), Piece(bound, False, INFINITY, False)]
    included = sign in (r"\le", r"\ge")
    below = (sign in ("<", r"\le")) == (slope > 0)
    return [Piece(-INFINITY, False, bound, included) if below else Piece(bound, included, INFINITY, False)]


def _at_least_nought(tree: tuple) -> bool:
    end = _end(tree)
    return end is not None and end >= 0


def _normal(pieces: list[Piece]) -> list[Piece]:
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.low, not p.low_in)):
        if piece.low == piece.high and not (piece.low_in and piece.high_in):
            continue
        last = found[-1] if found else None
        if last and (piece.low < last.high or (equal(piece.low, last.high) and (piece.low_in or last.high_in))):
            if piece.high > last.high or (equal(piece.high, last.high) and piece.high_in):
                found[-1] = last._replace(high=piece.high, high_in=piece.high_in)
        else:
            found.append(piece)
    return found


def _intersection(a: list[Piece], b: list[Piece]) -> list[Piece]:
    found = []
    for p in a:
        for q in b:
            low, low_in = (
                (p.low, p.low_in and q.low_in) if equal(p.low, q.low) else max((p.low, p.low_in), (q.low, q.low_in))
            )
            high, high_in = (
                (p.high, p.high_in and q.high_in)
                if equal(p.high, q.high)
                else min((p.high, p.high_in), (q.high, q.high_in))
            )
            if low < high or (equal(low, high) and low_in and high_in):
                found.append(Piece(low, low_in, high, high_in))
    return _normal(found)


def _complement(pieces: list[Piece]) -> list[Piece]:
    found, low, low_in = [], -INFINITY, False
    for piece in pieces:
        found.append(Piece(low, low_in, piece.low, not piece.low_in))
        low, low_in = piece.high, not piece.high_in
    found.append(Piece(low, low_in, INFINITY, False))
    return [
        p for p in found if p.low < p.high or (p.low == p.high and p.low_in and p.high_in and mpmath.isfinite(p.low))
    ]


def equal(a, b) -> bool:
    """Whether two numbers are one, to 40 digits where they are not exact."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = evaluate.to_float(a), evaluate.to_float(b)
    if mpmath.isinf(a) or mpmath.isinf(b):
        return bool(a == b)
    with mpmath.workdps(evaluate.LOW):
        return bool(abs(a - b) <= mpmath.mpf(10) ** -40 * max(abs(a), abs(b)))
