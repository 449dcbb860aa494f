"""Equations and inequalities between expressions: equal up to a factor that is one number at all points."""

from dataclasses import replace
from fractions import Fraction

import mpmath

from . import evaluate, grammar, sets
from .tokens import NotRead, tokenize
from .values import Quantity, Relation, Value

Verdict = tuple[bool, str]


def relations(gold: Value, answer: Value, stem: bool) -> Verdict:
    if isinstance(gold, Quantity) and isinstance(answer, Relation) and not grammar.symbols(gold.tree):
        return False, "an equation that is not solved"
    ours, theirs = equation(answer), equation(gold)
    if ours is not None and theirs is not None:
        return proportional(theirs, ours, stem, False), "equations up to a factor"
    match gold, answer:
        case Relation(), Relation():
            if len(gold.signs) != len(answer.signs):
                return False, "relations of other lengths"
            turned = replace(
                answer, signs=tuple(_TURNED.get(s, s) for s in answer.signs[::-1]), sides=answer.sides[::-1]
            )
            right = any(_same_inequalities(gold, other, stem) for other in (answer, turned))
            return right, "inequalities up to a positive factor"
    return False, "a relation and a value"


_TURNED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}


def _same_inequalities(gold: Relation, answer: Relation, stem: bool) -> bool:
    for i, (ours, theirs) in enumerate(zip(answer.signs, gold.signs, strict=True)):
        left, right = (_difference(r.sides[i], r.sides[i + 1]) for r in (gold, answer))
        if _TURNED.get(ours, ours) == theirs:
            right = ("neg", right)
        elif ours != theirs:
            return False
        if not proportional(left, right, stem, theirs in _TURNED):
            return False
    return True


def _difference(a: tuple, b: tuple) -> tuple:
    return ("add", (a, ("neg", b)))


def equation(value: Value) -> tuple | None:
    """The tree that is 0: of an equation, or of y = 2x + 1 (a named expression)."""
    if isinstance(value, Relation) and value.signs == ("=",):
        return _difference(*value.sides)
    if isinstance(value, Quantity) and value.name:
        try:
            return _difference(grammar.parse(tokenize(value.name)), value.tree)
        except NotRead:
            return None
    return None


def proportional(a: tuple, b: tuple, stem: bool, positive: bool) -> bool:
    """Whether a / b is one constant (a positive one, if asked) at all points."""
    names = tuple(sorted(grammar.symbols(a) | grammar.symbols(b)))
    if grammar.symbols(a) != grammar.symbols(b) and not names:
        return False
    ratio, agreed = None, 0
    for point in evaluate.points(names, stem):
        setting = evaluate.Setting(point)
        setting.real, setting.exact = True, False
        try:
            with mpmath.workdps(evaluate.LOW):
                x, y = evaluate.value(a, setting), evaluate.value(b, setting)
                if x == 0 or y == 0:
                    if x != y:
                        return False
                    continue
                if not isinstance(x, Fraction) or not isinstance(y, Fraction):
                    x, y = evaluate.to_float(x), evaluate.to_float(y)
                found = x / y
                if (positive and not found > 0) or (ratio is not None and not sets.equal(found, ratio)):
                    return False
        except evaluate.Undefined:
            continue
        ratio, agreed = found, agreed + 1
        if agreed == evaluate.POINTS:
            return True
    return False
