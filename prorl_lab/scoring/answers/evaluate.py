r"""What a tree is worth, and whether two trees are worth the same.

Rational arithmetic is exact.  What is irrational is computed to 50 digits and, where that does not settle it, to 110:
two values are equal if they agree to 40 and then to 90 digits, relative to their size, so neither a tiny value nor a
near miss is "equal"; a difference that shrinks with the precision is rounding noise of a true zero.

Expressions with symbols are compared at points from a fixed seed.  Symbols are real there (positive in STEM), and a
point where something leaves the reals does not count, unless `i` occurs in one of the two.  Two different
expressions of this size agree at a random point with a chance that is practically nought, so one disagreement refutes
and five agreements prove.
"""

import functools
import random
from fractions import Fraction
from math import comb, factorial, isqrt, prod

import mpmath
from mpmath import mp

from .grammar import has, nodes, symbols
from .tokens import NotRead

MAX_BITS = 65_536  # of an exact integer; beyond, a text equals the same text only
MAX_FACTORIAL = 5_000
MAX_MAGNITUDE = 1e9  # of what stands in an exponent
POINTS, TRIES = 5, 14
LOW, HIGH = 50, 110  # digits


class Undefined(ArithmeticError):
    """No value at this point: a division by zero, a root of a negative number where symbols are real."""


class Setting(dict):
    """Values of the symbols at a point, and how to compute there."""

    real = False  # leave the point if a value is not real
    sign = 1  # what a plus-minus sign means
    ten = False  # \log is to base 10
    exact = True  # an integer too large is refused, not rounded


def same(a: tuple, b: tuple, positive: bool = False) -> bool:
    r"""Whether two trees are equal, under one meaning of \log for both.  Raises NotRead for values out of bounds."""
    if a == b:
        return True
    logs = any(node[:2] == ("function", "log") and len(node) == 3 for tree in (a, b) for node in nodes(tree))
    return _same(a, b, positive, False) or (logs and _same(a, b, positive, True))


def _same(a: tuple, b: tuple, positive: bool, ten: bool) -> bool:
    if _infinite_part(a) or _infinite_part(b):
        raise NotRead("arithmetic with infinity")
    names = sorted(symbols(a) | symbols(b))
    if not names:
        return agree(a, b, Setting(), ten)
    agreed = 0
    for point in points(tuple(names), positive):
        setting = Setting(point)
        setting.real = not any(node == ("constant", "i") for tree in (a, b) for node in nodes(tree))
        setting.exact = False
        try:
            if not agree(a, b, setting, ten):
                return False
        except Undefined:
            continue
        agreed += 1
        if agreed == POINTS:
            return True
    return False


@functools.lru_cache(maxsize=256)
def points(names: tuple[str, ...], positive: bool) -> list[dict[str, Fraction]]:
    """Fixed random points: positive ones first, then of both signs, then integers (for n!, (-1)^n)."""
    rng = random.Random(20_251)
    found = []
    for i in range(TRIES):
        whole = i >= TRIES - POINTS
        values = rng.sample(range(2, 12 + len(names)), len(names)) if whole else None
        point = {}
        for k, name in enumerate(names):
            value = Fraction(values[k]) if values else Fraction(rng.randint(3_000, 30_000), 10_007)
            point[name] = -value if not positive and not whole and i > 2 and rng.random() < 0.5 else value
        found.append(point)
    return found


def agree(a: tuple, b: tuple, setting: dict, ten: bool = False) -> bool:
    """Whether two trees have one value at a point."""
    setting.ten = ten
    x, y, gap, size = _gap(a, b, setting, LOW)
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x == y
    if mpmath.isinf(x) or mpmath.isinf(y):
        return bool(x == y)
    close = gap <= size * mpmath.mpf(10) ** (10 - LOW)
    if close and setting:
        return True
    *_, fine, fine_size = _gap(a, b, setting, HIGH)
    if close:
        return bool(fine <= fine_size * mpmath.mpf(10) ** (20 - HIGH))
    return bool(fine <= gap * mpmath.mpf(10) ** -30)  # noise shrinks with the precision, a difference does not


def _gap(a: tuple, b: tuple, setting: dict, digits: int) -> tuple:
    with mp.workdps(digits):
        x, y = value(a, setting), value(b, setting)
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return x, y, 0, 0
        x, y = to_float(x), to_float(y)
        if mpmath.isnan(x) or mpmath.isnan(y):
            raise Undefined
        return x, y, abs(x - y), max(abs(x), abs(y))


def _infinite_part(tree: tuple) -> bool:
    """Whether infinity is part of a larger expression: there it has no arithmetic."""
    infinity = ("constant", "inf")
    return tree not in (infinity, ("neg", infinity)) and any(node == infinity for node in nodes(tree))


def number(tree: tuple, digits: int = LOW):
    """A constant tree's value: a Fraction, or a number of mpmath.  Raises NotRead if it has none."""
    if _infinite_part(tree):
        raise NotRead("arithmetic with infinity")
    with mp.workdps(digits):
        try:
            return value(tree, Setting())
        except Undefined as error:
            raise NotRead("an undefined value") from error


def real(tree: tuple) -> Fraction | mpmath.mpf | None:
    """A constant tree's real value, to be ordered; None if it is not real.  Raises NotRead if it has none."""
    if symbols(tree):
        return None
    found = number(tree)
    return (
        None if isinstance(found, mpmath.mpc) and found.imag else found.real if isinstance(found, mpmath.mpc) else found
    )


def value(tree: tuple, setting: dict, in_angle: bool = False):
    """A Fraction or a number of mpmath.  Raises Undefined or NotRead."""
    match tree:
        case ("number", found, _):
            return found
        case ("symbol", name):
            return setting[name]
        case ("constant", name):
            return {"pi": lambda: +mp.pi, "e": lambda: +mp.e, "i": lambda: mpmath.mpc(0, 1), "inf": lambda: mp.inf}[
                name
            ]()
        case ("add", terms):
            return _bounded(functools.reduce(_plus, (value(term, setting, in_angle) for term in terms)), setting)
        case ("mul", factors):
            return functools.reduce(
                lambda a, b: _bounded(_times(a, b), setting), (value(factor, setting, in_angle) for factor in factors)
            )
        case ("neg", a):
            return -value(a, setting, in_angle)
        case ("plusminus", a):
            return value(a, setting, in_angle) * setting.sign
        case ("minusplus", a):
            return value(a, setting, in_angle) * -setting.sign
        case ("div", a, b):
            return _bounded(_divide(value(a, setting, in_angle), value(b, setting, in_angle)), setting)
        case ("pow", ("constant", "e"), b):
            return _check(mpmath.exp(_exponent(value(b, setting))), setting)
        case ("pow", a, b):
            return _power(value(a, setting, in_angle), value(b, setting), setting)
        case ("root", n, a):
            return _root(value(a, setting), value(n, setting), setting)
        case ("degree", a):
            inner = value(a, setting)
            return to_float(inner) * mp.pi / 180 if in_angle else inner
        case ("factorial", a):
            return _factorial(value(a, setting), setting)
        case ("double factorial", a):
            return _double_factorial(value(a, setting), setting)
        case ("binom", n, k):
            return _binomial(value(n, setting), value(k, setting))
        case ("abs", a):
            return abs(value(a, setting, in_angle))
        case ("floor", a):
            return Fraction(int(mpmath.floor(_real(value(a, setting)))))
        case ("ceil", a):
            return Fraction(int(mpmath.ceil(_real(value(a, setting)))))
        case ("apply", name, a):  # some function that has no symmetry: f(2x), 2f(x) and f(-x) are three things
            inner, key = to_float(value(a, setting)), to_float(setting[name])
            return mpmath.cos(inner * key + 1) + inner * inner / (3 + key) + inner / 7
        case ("function", name, a, *base):
            return _check(_function(name, a, base, setting), setting)
    raise NotRead(f"no value of {tree[0]}")


def _function(name: str, a: tuple, base: list, setting: dict):
    if name in ("log", "ln", "lg"):
        inner = to_float(value(a, setting))
        if inner == 0:
            raise Undefined
        if base:
            below = to_float(value(base[0], setting))
        else:
            below = mpmath.mpf(10) if name == "lg" or (name == "log" and setting.ten) else None
        if below is not None and below in (0, 1):
            raise Undefined
        return mpmath.log(inner) if below is None else mpmath.log(inner) / mpmath.log(below)
    inner = to_float(value(a, setting, in_angle=True))
    if name in ("sinh", "cosh", "tanh"):
        _exponent(inner)
    elif not mpmath.isfinite(inner) or abs(inner) > mpmath.mpf(10) ** 40:
        raise NotRead("an angle out of bounds")
    names = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
    try:
        return getattr(mpmath, names.get(name, name))(inner)
    except (ZeroDivisionError, ValueError) as error:
        raise Undefined from error


def _plus(a, b):
    return a + b if isinstance(a, Fraction) and isinstance(b, Fraction) else to_float(a) + to_float(b)


def minus(a, b):
    return _plus(a, -b)


def _times(a, b):
    return a * b if isinstance(a, Fraction) and isinstance(b, Fraction) else to_float(a) * to_float(b)


def _divide(a, b):
    if b == 0:
        raise Undefined
    return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else to_float(a) / to_float(b)


def to_float(a):
    """A number of mpmath, at the precision in force."""
    return mpmath.mpf(a.numerator) / a.denominator if isinstance(a, Fraction) else a


def _real(a):
    if isinstance(a, mpmath.mpc) or not mpmath.isfinite(to_float(a)) or abs(a) > 10**30:
        raise Undefined
    return to_float(a)


def _bounded(a, setting):
    """The value, refused (or rounded, where it is one of several points) if its digits would take long."""
    if isinstance(a, Fraction) and max(a.numerator.bit_length(), a.denominator.bit_length()) > MAX_BITS:
        if setting.exact:
            raise NotRead("a number too large to be exact")
        return to_float(a)
    return a


def _check(a, setting):
    if setting.real and isinstance(a, mpmath.mpc):
        if abs(a.imag) > abs(a) * mpmath.mpf(10) ** -30:
            raise Undefined
        return a.real
    return a


def _exponent(a):
    a = to_float(a)
    if mpmath.isfinite(a) and abs(a) > MAX_MAGNITUDE:
        raise NotRead("an exponent out of bounds")
    return a


def _power(a, b, setting):
    if isinstance(a, Fraction) and isinstance(b, Fraction) and b.denominator == 1:
        if a == 0:
            if b < 0:
                raise Undefined
            return Fraction(b == 0)
        size = max(abs(a.numerator).bit_length(), a.denominator.bit_length())
        if size <= 1 or size * abs(b) <= MAX_BITS:
            return a**b if size > 1 else Fraction(1) if a > 0 or b % 2 == 0 else Fraction(-1)
        if setting.exact:
            raise NotRead("a number too large to be exact")
    if isinstance(a, Fraction) and isinstance(b, Fraction) and a >= 0 and 1 < b.denominator <= 6 and abs(b) <= 1000:
        root = _exact_root(a, b.denominator)
        if root is not None:
            return _power(root, Fraction(b.numerator), setting)
    x, y = to_float(a), _exponent(b)
    if x == 0:
        if isinstance(y, mpmath.mpc) or y <= 0:
            raise Undefined
        return mpmath.mpf(0)
    if abs(mpmath.log(abs(x))) * abs(y) > MAX_MAGNITUDE:
        raise NotRead("a power out of bounds")
    return _check(mpmath.power(x, y), setting)


def _root(a, n, setting):
    if not isinstance(n, Fraction) or n.denominator != 1 or not 2 <= n <= 1000:
        return _power(a, _divide(Fraction(1), n), setting)
    n = int(n)
    if isinstance(a, Fraction):
        if a < 0 and n % 2:
            return -_root(-a, Fraction(n), setting)
        if a >= 0 and (root := _exact_root(a, n)) is not None:
            return root
    a = to_float(a)
    if n % 2 and not isinstance(a, mpmath.mpc) and a < 0:
        return -mpmath.root(-a, n)
    return _check(mpmath.sqrt(a) if n == 2 else mpmath.root(a, n), setting)


def _exact_root(a: Fraction, n: int) -> Fraction | None:
    """The n-th root of a fraction if it is one."""
    found = []
    for part in (a.numerator, a.denominator):
        if n == 2:
            root = isqrt(part)
        elif part.bit_length() > 4_000:
            return None
        else:
            with mp.workdps(part.bit_length() // 3 + 10):
                root = int(mpmath.nint(mpmath.root(part, n)))
        if root**n != part:
            return None
        found.append(root)
    return Fraction(*found)


def _factorial(a, setting):
    if isinstance(a, Fraction) and a.denominator == 1:
        if a < 0:
            raise Undefined
        if a > MAX_FACTORIAL:
            raise NotRead("a factorial out of bounds")
        return Fraction(factorial(int(a)))
    if isinstance(a, mpmath.mpc) or abs(a) > MAX_FACTORIAL:
        raise NotRead("a factorial out of bounds")
    if not setting:
        raise NotRead("a factorial of no integer")
    return mpmath.gamma(to_float(a) + 1)


def _double_factorial(a, setting):
    """n (n-2) (n-4) ..., of integers alone."""
    if not isinstance(a, Fraction) or a.denominator != 1 or a < -1:
        raise Undefined
    if a > MAX_FACTORIAL:
        raise NotRead("a factorial out of bounds")
    return Fraction(prod(range(int(a), 0, -2)))


def _binomial(n, k):
    if isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1:
        if not 0 <= n <= MAX_FACTORIAL:
            raise NotRead("a binomial out of bounds")
        return Fraction(comb(int(n), int(k))) if k >= 0 else Fraction(0)
    if any(isinstance(x, mpmath.mpc) or abs(x) > MAX_FACTORIAL for x in (n, k)):
        raise NotRead("a binomial out of bounds")
    return mpmath.binomial(to_float(n), to_float(k))


def signed(tree: tuple, together: bool = True) -> list[tuple]:
    """A tree with plus-minus signs as its two trees (of upper and of lower signs), or as all that they may be."""
    if not has(tree, "plusminus", "minusplus"):
        return [tree]
    if together:
        return [_with_sign(tree, sign) for sign in (1, -1)]
    count = sum(node[0] in ("plusminus", "minusplus") for node in nodes(tree))
    if count > 4:
        raise NotRead("too many signs")
    return [_with_sign(tree, [1 if bits >> i & 1 else -1 for i in range(count)]) for bits in range(2**count)]


def _with_sign(tree: tuple, sign) -> tuple:
    """The tree with its plus-minus signs decided: by one sign for all, or by a list of them that is used up."""
    kind = tree[0]
    if kind in ("plusminus", "minusplus"):
        own = sign.pop() if isinstance(sign, list) else sign if kind == "plusminus" else -sign
        inner = _with_sign(tree[1], sign)
        return inner if own == 1 else ("neg", inner)
    if kind in ("add", "mul"):
        return (kind, tuple(_with_sign(part, sign) for part in tree[1]))
    if kind in ("number", "symbol", "constant"):
        return tree
    return (kind, *(_with_sign(part, sign) if isinstance(part, tuple) else part for part in tree[1:]))
