"""The precision that a STEM value is written with, and whether two values agree within it."""

from fractions import Fraction

import mpmath

from . import evaluate, grammar

TOLERANCE = Fraction(1, 100)  # relative, beside a decimal STEM reference: those are rounded results


def rounded(gold: tuple, answer: tuple) -> bool:
    """Whether two constants are one value as far as the one that was rounded says."""
    if grammar.symbols(gold) or grammar.symbols(answer):
        return False
    if _decimal(gold):
        return within(gold, answer, TOLERANCE) or (not _decimal(answer) and _rounds_to(answer, gold, 10))
    exact = evaluate.real(gold)
    if exact is None or (isinstance(exact, Fraction) and exact.denominator == 1):
        return False
    return _rounds_to(gold, answer, 100)


def _rounds_to(exact: tuple, decimal: tuple, least: int) -> bool:
    """Whether an exact value, rounded, is the decimal, whose digits make a number of at least `least`."""
    places = _places(decimal)
    if places is None:
        return False
    value, unrounded = evaluate.number(decimal), evaluate.real(exact)
    if unrounded is None or abs(value) < least * places:
        return False
    with mpmath.workdps(evaluate.LOW):
        gap = abs(evaluate.to_float(unrounded) - evaluate.to_float(value))
        return bool(gap <= evaluate.to_float(places / 2) * (1 + mpmath.mpf(10) ** -30))


def _decimal(tree: tuple) -> bool:
    r"""Whether a value is rounded: a decimal in it, or a power of ten as in 6 \times 10^{23}."""
    ten = ("number", Fraction(10), False)
    return any(
        (node[0] == "number" and node[2]) or (node[0] == "pow" and node[1] == ten) for node in grammar.nodes(tree)
    )


def _places(tree: tuple) -> Fraction | None:
    r"""What the last digit of a decimal counts (0.01 in 1.41, 10^5 in 1.41 \times 10^7); None for another tree."""
    match tree:
        case ("neg", inner):
            return _places(inner)
        case ("number", found, True):
            return _last_place(found)
        case ("mul", (("number", found, True), ("pow", ("number", base, False), exponent))) if base == 10:
            power = evaluate.real(exponent)
            if isinstance(power, Fraction) and power.denominator == 1 and abs(power) < 400:
                return _last_place(found) * Fraction(10) ** int(power)
    return None


def _last_place(found: Fraction) -> Fraction:
    places = 0
    while (found * 10**places).denominator != 1:
        places += 1
    return Fraction(1, 10**places)


def within(gold: tuple, answer: tuple, tolerance: Fraction) -> bool:
    ours, theirs = evaluate.real(answer), evaluate.real(gold)
    if ours is None or theirs is None:
        return False
    with mpmath.workdps(evaluate.LOW):
        ours, theirs = evaluate.to_float(ours), evaluate.to_float(theirs)
        if not mpmath.isfinite(ours) or not mpmath.isfinite(theirs):
            return False
        return bool(abs(ours - theirs) <= evaluate.to_float(tolerance) * abs(theirs))
