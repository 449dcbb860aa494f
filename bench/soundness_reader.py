r"""A reader of LaTeX answers that proves two of them different, or the same, or says that it can't.

It is the judge's own: nothing of the project, of math-verify or of latex2sympy is in it, so that a fault there is no
fault here.  An answer becomes a typed value (expression, list, tuple or interval, union, equation, ...).  Expressions
without letters, roots or functions are compared as fractions, exactly; others at three points, with 60 digits, where
a relative difference above 1e-20 proves them different and one below 1e-40 counts as the same.

    >>> differ(read(r"\frac{1}{2}"), read("0.5")), differ(read("r-R"), read("R-r"))
    (False, True)
"""

import functools
import hashlib
import itertools
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath

mpmath.mp.dps = 60
POINTS = 3
FUNCTIONS = {"sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "arcsin", "arccos", "arctan"}
GREEK = {"alpha", "beta", "gamma", "theta", "phi", "lambda", "mu", "omega", "sigma", "rho", "tau"}
WORDY = r"\\(?:text|mbox|textnormal|mathrm|textbf|mathbf|rm)"
TOKEN = re.compile(
    r"(?P<number>\d{1,3}(?:(?:\{,\}|,)\d{3})+(?![\d])(?:\.\d+)?|\d+\.\d+|\d+|\.\d+)"
    r"|(?P<command>\\[A-Za-z]+|\\[{}])|(?P<letter>[A-Za-z])|(?P<sign>[-+*/^_!()\[\]{}|=:,])"
)


class Unread(Exception):
    """Not in the reader's language; nothing is claimed about such an answer."""


# --- typed values


@dataclass(frozen=True)
class Expression:
    tree: tuple


@dataclass(frozen=True)
class Many:
    """Several values.  `kind`: "list" (any order), "tuple" or "[)" (brackets), "ratio", "union", "matrix"."""

    kind: str
    items: tuple


@dataclass(frozen=True)
class Equation:
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Word:
    text: str


@dataclass(frozen=True)
class Based:
    """A numeral with its base."""

    digits: str
    base: int

    @property
    def value(self) -> int:
        return int(self.digits, self.base)


@dataclass(frozen=True)
class Marked:
    """A value with a unit, a currency or a percent sign."""

    value: Any
    mark: str


def clean(text: str) -> str:
    """LaTeX without spacing and without sizes of brackets."""
    text = re.sub(r"\\(?:left|right|displaystyle|big|Big|bigl|bigr|phantom)(?![A-Za-z])", "", text)
    text = re.sub(r"(?<!\\)\\[!,;: ]|~|\\q?quad(?![a-z])", " ", text)
    text = re.sub(r"\\[dt]frac(?![a-z])", r"\\frac", text)
    text = re.sub(r"(?<=\d),\s+(?=\d{3}(?!\d))", ",", text) if re.search(r"\\!", text) else text
    return text.strip()


@functools.lru_cache(maxsize=100_000)
def read(text: str) -> Any:
    """The typed value of an answer.  Raises Unread."""
    joined = re.sub(r",\s*(?:\\!\s*)+(?=\d{3})", "{,}", text)
    text = clean(joined).strip("$ ").rstrip(". ").strip()
    if not text:
        raise Unread("empty")
    if choices := re.fullmatch(r"\\text\{([A-Z](?:, ?[A-Z])+)\}", text):
        return Many("list", tuple(Word(c.lower()) for c in re.findall("[A-Z]", choices[1])))
    if whole := re.fullmatch(WORDY + r"\{([^{}]*)\}", text):
        return Word(re.sub(r"[^a-z0-9]", "", whole[1].lower())) if re.search("[A-Za-z]", whole[1]) else read(whole[1])
    if choice := re.fullmatch(r"\(?" + WORDY + r"\{\(?([A-Z])\)?\}\)?,?", text):
        return Word(choice[1].lower())
    if text.startswith(r"\$"):
        return Marked(read(text[2:]), "$")
    if text.endswith("%"):
        return Marked(read(text[:-1].rstrip("\\ ")), "%")
    unit = re.fullmatch(r"([^a-zA-Z{}]*|.*[\d}])\s*" + WORDY + r"\{([^{}]*)\}(\^\{?-?\d\}?)?", text)
    if unit and re.search(r"\d|\\pi", unit[1]) and not re.fullmatch(r"\s*(or|and|,).*", unit[2]):
        return Marked(read(unit[1]), unit[2].strip(" .").lower() + (unit[3] or ""))
    if degrees := re.fullmatch(r"([-\d.]+|\\frac\{-?\d+\}\{\d+\})\s*\^\{?\\circ\}?", text):
        return Marked(read(degrees[1]), "degrees")
    if based := re.fullmatch(r"(?:\\text\{)?(-?[0-9A-F]+)\}?_\{?(?:\\text\{)?(\d+)\}{0,2}", text):
        try:
            return Based(based[1], int(based[2])) if Based(based[1], int(based[2])).value is not None else None
        except ValueError:
            raise Unread(text) from None
    if matrix := re.fullmatch(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", text, re.DOTALL):
        rows = [tuple(expression(cell) for cell in row.split("&")) for row in matrix[1].split(r"\\") if row.strip()]
        return Many("matrix", tuple(Many("tuple", row) for row in rows))
    if re.search(r"\\cup|\\(?:le|ge|leq|geq|ne|neq|lt|gt|in|approx|subset|ldots|dots|cdots)(?![a-z])|[<>]", text):
        if r"\cup" in text and not re.search(r"[<>=]|\\(?:le|ge|in)(?![a-z])", text):
            parts = tuple(read(part) for part in text.split(r"\cup"))
            if all(isinstance(p, Many) and p.kind[0] in "([" for p in parts):
                return Many("union", parts)
        raise Unread(text)
    text = re.sub(WORDY + r"\{\s*,?\s*(?:or|and)\s*\}", ",", text)
    text = re.sub(r",(\s*,)+", ",", text)
    if re.search(WORDY, text):
        raise Unread(text)
    parts = split(text, ",")
    if len(parts) > 1:
        return Many("list", tuple(x for part in parts for x in both_signs(part)))
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return Many("list", tuple(x for part in split(text[2:-2], ",") for x in both_signs(part)))
    if text[0] in "([" and text[-1] in ")]" and closes_last(text) and len(inside := split(text[1:-1], ",", True)) > 1:
        return Many(text[0] + text[-1], tuple(expression(part) for part in inside))
    if text.count("=") == 1:
        left, right = text.split("=")
        if re.fullmatch(r"\s*[A-Za-z]\s*", left) and left.strip() not in right:
            return named(left.strip(), read(right))
        return Equation(expression(left), expression(right))
    if text.count(":") == 1 and "=" not in text:
        return Many("ratio", tuple(expression(part) for part in text.split(":")))
    if r"\pm" in text:
        return Many("list", tuple(both_signs(text)))
    return expression(text)


def named(name: str, value: Any) -> Any:
    """`x = 5` is 5 where the value is a number; y = 2x + 3 stays an equation."""
    if isinstance(value, Expression) and letters(value.tree):
        return Equation(Expression(("sym", name)), value)
    return value


def both_signs(text: str) -> list[Any]:
    if text.count(r"\pm") == 1:
        return [expression(text.replace(r"\pm", sign)) for sign in "+-"]
    return [Marked(expression(text[:-6]), "degrees") if text.strip().endswith(r"^\circ") else expression(text)]


def split(text: str, at: str, bracketed: bool = False) -> list[str]:
    """The parts between separators outside brackets.  A comma of thousands is none: 2,220, but not (2,220)."""
    if not bracketed and re.fullmatch(r"\s*-?\d{1,3}(,\d{3})+(\.\d+)?\s*", text):
        return [text]
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == at and depth == 0 and text[i - 1 : i + 2] != "{,}":
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def closes_last(text: str) -> bool:
    """Whether the first bracket is closed by the last."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0:
            return i == len(text) - 1
    return False


# --- expressions


def expression(text: str) -> Expression:
    """The tree of one expression.  Raises Unread."""
    parser = _Parser(text)
    tree = parser.sum()
    if parser.here < len(parser.tokens):
        raise Unread(text)
    return Expression(tree)


class _Parser:
    def __init__(self, text: str):
        text = clean(text)
        self.tokens, at = [], 0
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            found = TOKEN.match(text, at)
            if not found:
                raise Unread(text)
            self.tokens.append((found.lastgroup, found.group(), at > 0 and text[at - 1].isspace()))
            at = found.end()
        self.here = 0

    def peek(self) -> str:
        return self.tokens[self.here][1] if self.here < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.here][0] if self.here < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Unread(f"{expected!r} wanted, {token!r} found")
        self.here += 1
        return token

    def sum(self) -> tuple:
        sign = self.take() if self.peek() in ("+", "-") else "+"
        total = self.product() if sign == "+" else ("neg", self.product())
        while self.peek() in ("+", "-"):
            sign = self.take()
            term = self.product()
            total = ("add", total, term if sign == "+" else ("neg", term))
        return total

    def product(self) -> tuple:
        total = self.power()
        while True:
            token = self.peek()
            if token in ("*", r"\cdot", r"\times"):
                self.take()
                total = ("mul", total, self.signed_power())
            elif token == "/":
                self.take()
                total = ("div", total, self.signed_power())
            elif self.starts_factor():
                if self.kind() == "number":
                    raise Unread("a number after a factor")  # 2 3, x2
                mixed = self.mixed(total)
                total = mixed if mixed else ("mul", total, self.power())
            else:
                return total

    def signed_power(self) -> tuple:
        if self.peek() == "-":
            self.take()
            return ("neg", self.power())
        return self.power()

    def mixed(self, before: tuple) -> tuple | None:
        """129\\frac13 is 129 + 1/3; 2\\frac{3}{2} is left unread."""
        if self.peek() != r"\frac" or before[0] != "num" or before[1].denominator != 1:
            return None
        part = self.power()
        if part[0] == "div" and part[1][0] == part[2][0] == "num":
            if part[1][1] < part[2][1]:
                return ("add", before, part)
            raise Unread("a number before an improper fraction")
        return ("mul", before, part)

    def starts_factor(self) -> bool:
        token, kind = self.peek(), self.kind()
        return (
            kind in ("number", "letter")
            or token in ("(", "{")
            or (kind == "command" and token[1:] in FUNCTIONS | GREEK | {"frac", "sqrt", "pi", "infty"})
        )

    def power(self) -> tuple:
        base = self.atom()
        while self.peek() in ("^", "!"):
            if self.take() == "!":
                base = ("fact", base)
                continue
            if self.peek() == r"\circ" or (self.peek() == "{" and self.tokens[self.here + 1][1] == r"\circ"):
                for _ in range(3 if self.peek() == "{" else 1):
                    self.take()
                base = ("degree", base)
            else:
                base = ("pow", base, self.argument())
        return base

    def argument(self) -> tuple:
        """What a command takes: a group in braces, or one digit, letter or command."""
        kind, token, _ = self.tokens[self.here] if self.here < len(self.tokens) else ("", "", False)
        if token == "{":
            self.take()
            inner = self.sum()
            self.take("}")
            return inner
        if kind == "number" and len(token) > 1:
            self.tokens[self.here] = (kind, token[1:], False)
            return ("num", Fraction(token[0]))
        if kind in ("number", "letter") or token == r"\pi" or token == r"\frac":
            return self.atom()
        raise Unread(f"an argument that begins with {token!r}")

    def atom(self) -> tuple:
        kind, token = self.kind(), self.take()
        if kind == "number":
            return ("num", Fraction(token.replace("{,}", "").replace(",", "")))
        if kind == "letter":
            if token == "e":
                raise Unread("e: a number or a letter")
            if token in "fgh" and self.peek() == "(":
                raise Unread("a function or a factor")
            if self.peek() == "_":
                self.take()
                return ("sym", f"{token}_{self.argument()}")
            return ("sym", token)
        if token in ("(", "{"):
            inner = self.sum()
            self.take(")" if token == "(" else "}")
            return inner
        name = token[1:]
        if name == "frac":
            return ("div", self.argument(), self.argument())
        if name == "sqrt":
            if self.peek() == "[":
                self.take()
                degree = self.sum()
                self.take("]")
                return ("root", degree, self.argument())
            return ("root", ("num", Fraction(2)), self.argument())
        if name == "pi":
            return ("pi",)
        if name == "infty":
            return ("infinity",)
        if name in GREEK:
            return ("sym", name)
        if name in FUNCTIONS:
            return self.call(name)
        raise Unread(token)

    def call(self, name: str) -> tuple:
        exponent = None
        if self.peek() == "^":
            self.take()
            exponent = self.argument()
        if self.peek() in ("(", "{"):
            argument = self.power()
        else:
            argument = self.power()
            while self.starts_factor() and self.peek()[1:] not in FUNCTIONS and self.peek() != "(":
                argument = ("mul", argument, self.power())
        value = ("call", name, argument)
        return ("pow", value, exponent) if exponent else value


def letters(tree: Any) -> set[str]:
    """The unknowns of a tree; i is the imaginary unit."""
    if not isinstance(tree, tuple):
        return set()
    if tree and tree[0] == "sym":
        return set() if tree[1] == "i" else {tree[1]}
    return set().union(*(letters(part) for part in tree)) if tree else set()


@functools.lru_cache(maxsize=200_000)
def exact(tree: tuple) -> Fraction | None:
    """The value as a fraction, or None where it is not one that arithmetic alone gives."""
    match tree:
        case ("num", value):
            return value
        case ("neg", a):
            a = exact(a)
            return None if a is None else -a
        case ("add" | "mul" | "div", a, b):
            a, b = exact(a), exact(b)
            if a is None or b is None or (tree[0] == "div" and b == 0):
                return None
            return a + b if tree[0] == "add" else a * b if tree[0] == "mul" else a / b
        case ("pow", a, b):
            a, b = exact(a), exact(b)
            if a is None or b is None or b.denominator != 1 or abs(b) > 10_000 or (a == 0 and b <= 0):
                return None
            return a ** int(b)
        case ("fact", a):
            a = exact(a)
            if a is not None and a.denominator == 1 and 0 <= a <= 2000:
                return Fraction(int(mpmath.fac(int(a)))) if a < 20 else None
    return None


@functools.lru_cache(maxsize=200_000)
def at(tree: tuple, point: int, inside: bool = False) -> Any:
    """The value at a point, with 60 digits.  Raises Unread where there is none."""
    match tree:
        case ("num", value):
            return mpmath.mpf(value.numerator) / value.denominator
        case ("sym", "i"):
            return mpmath.mpc(0, 1)
        case ("sym", name):
            seed = int.from_bytes(hashlib.sha256(f"{name} {point}".encode()).digest()[:8], "big")
            return mpmath.mpf(seed) / 2**64 * mpmath.mpf("2.4") + mpmath.mpf("0.3")
        case ("pi",):
            return +mpmath.pi
        case ("infinity",):
            return mpmath.inf
        case ("neg", a):
            return -at(a, point, inside)
        case ("add", a, b):
            return at(a, point, inside) + at(b, point, inside)
        case ("mul", a, b):
            return at(a, point, inside) * at(b, point, inside)
        case ("div", a, b):
            below = at(b, point, inside)
            if below == 0:
                raise Unread("division by zero")
            return at(a, point, inside) / below
        case ("pow", a, b):
            base, exponent = at(a, point, inside), at(b, point, inside)
            if abs(exponent) > 100_000 or (base == 0 and mpmath.re(exponent) <= 0):
                raise Unread("a power out of reach")
            return base**exponent
        case ("root", n, a):
            return mpmath.root(at(a, point, inside), int(at(n, point))) if n[0] == "num" else _unread(n)
        case ("fact", a):
            value = at(a, point)
            return mpmath.factorial(value) if abs(value) < 5000 else _unread(a)
        case ("degree", a):
            return at(a, point) * (mpmath.pi / 180 if inside else 1)
        case ("call", name, a):
            argument = at(a, point, True)
            if name in ("log", "ln"):
                if argument == 0:
                    raise Unread("log 0")
                return mpmath.log(argument) if name == "ln" else mpmath.log(argument) * mpmath.mpf("1.7")
            name = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}.get(name, name)
            return getattr(mpmath, name)(argument)
    raise Unread(str(tree))


def _unread(what: Any) -> Any:
    raise Unread(str(what))


# --- proofs


def differ(a: Any, b: Any) -> bool | None:
    """True: proven different; False: the same; None: not known."""
    if isinstance(a, Marked) or isinstance(b, Marked):
        return _differ_marked(a, b)
    if isinstance(a, Expression) and isinstance(b, Expression):
        return _differ_expressions(a.tree, b.tree)
    if isinstance(a, Based) or isinstance(b, Based):
        return _differ_based(a, b)
    if isinstance(a, Word) and isinstance(b, Word):
        return a.text != b.text
    if isinstance(a, Word) or isinstance(b, Word):
        word, other = (a, b) if isinstance(a, Word) else (b, a)
        number = isinstance(other, Expression) and not letters(other.tree)
        return True if number and word.text not in NUMBERS else None
    if isinstance(a, Equation) and isinstance(b, Equation):
        return _differ_equations(a, b)
    if isinstance(a, Equation) or isinstance(b, Equation):
        return None  # by convention y = f(x) may be given as f(x); kinds that mean it prove it themselves
    if isinstance(a, Many) and isinstance(b, Many):
        return _differ_many(a, b)
    many, single = (a, b) if isinstance(a, Many) else (b, a)
    if many.kind in ("list", "union", "matrix") or many.kind[0] in "([":
        return True if many.kind != "list" or _distinct(many.items) > 1 else None
    if many.kind == "ratio" and isinstance(single, Expression):
        quotient = Expression(("div", many.items[0].tree, many.items[1].tree))
        return True if differ(quotient, single) else None  # 1:4 and 1/4 may be meant as the same
    return None


NUMBERS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "zero", "none", "empty"}


def _differ_expressions(a: tuple, b: tuple) -> bool | None:
    ours, theirs = exact(a), exact(b)
    if ours is not None and theirs is not None:
        return ours != theirs
    try:
        verdicts = []
        for point in range(POINTS):
            x, y = at(a, point), at(b, point)
            if mpmath.isinf(x) or mpmath.isinf(y):
                verdicts.append(x != y)
                continue
            size, gap = max(abs(x), abs(y)), abs(x - y)
            verdicts.append(
                True if gap > size * mpmath.mpf("1e-20") else False if gap <= size * 1e-40 + 1e-50 else None
            )
    except (Unread, ZeroDivisionError, ValueError, OverflowError):
        return None
    if True in verdicts:
        return True
    return False if all(v is False for v in verdicts) else None


def _differ_marked(a: Any, b: Any) -> bool | None:
    mark_a, mark_b = getattr(a, "mark", ""), getattr(b, "mark", "")
    value_a, value_b = getattr(a, "value", a), getattr(b, "value", b)
    if isinstance(a, Based) or isinstance(b, Based):
        return None
    if mark_a == mark_b:
        return differ(value_a, value_b)
    if "%" in (mark_a, mark_b):  # 25 %, 25 and 0.25 may be meant as the same
        if not isinstance(value_a, Expression) or not isinstance(value_b, Expression):
            return differ(value_a, value_b)
        hundred = ("num", Fraction(100))
        x, y = (value_a, value_b) if mark_a == "%" else (value_b, value_a)
        readings = [x, Expression(("div", x.tree, hundred))]
        return True if all(differ(reading, y) for reading in readings) else None
    different = differ(value_a, value_b)
    if different is False:
        return False if "" in (mark_a, mark_b) else None
    return different if "" in (mark_a, mark_b) else None  # 1 m and 100 cm


def _differ_based(a: Any, b: Any) -> bool | None:
    if isinstance(a, Based) and isinstance(b, Based):
        return a.value != b.value
    numeral, other = (a, b) if isinstance(a, Based) else (b, a)
    if not isinstance(other, Expression) or exact(other.tree) is None:
        return True if isinstance(other, Many) else None
    readings = [numeral.value, int(numeral.digits) if numeral.digits.lstrip("-").isdigit() else None]
    return True if all(exact(other.tree) != r for r in readings) else None  # without its base: by convention right


def _differ_equations(a: Equation, b: Equation) -> bool | None:
    """Two linear-looking equations are the same where their left sides less right ones are proportional."""
    first = ("add", a.left.tree, ("neg", a.right.tree))
    second = ("add", b.left.tree, ("neg", b.right.tree))
    try:
        ratios = [at(first, p) / at(second, p) for p in range(POINTS)]
    except (Unread, ZeroDivisionError):
        return None
    steady = all(abs(r - ratios[0]) <= abs(ratios[0]) * mpmath.mpf("1e-40") for r in ratios)
    if steady:
        return False
    # Different up to a constant factor; a factor that is no constant may leave the solutions alone.
    polynomial = _degree(first) is not None and _degree(first) == _degree(second)
    return True if polynomial else None


def _degree(tree: Any) -> int | None:
    """The total degree of a polynomial as written; None for what is none."""
    match tree:
        case ("num", _) | ("pi",):
            return 0
        case ("sym", _):
            return 1
        case ("neg", a):
            return _degree(a)
        case ("add", a, b):
            parts = [_degree(a), _degree(b)]
            return None if None in parts else max(parts)
        case ("mul", a, b):
            parts = [_degree(a), _degree(b)]
            return None if None in parts else sum(parts)
        case ("div", a, b):
            return _degree(a) if _degree(b) == 0 else None
        case ("pow", a, ("num", n)):
            return None if _degree(a) is None or n.denominator != 1 or n < 0 else _degree(a) * int(n)
        case ("root", _, a):
            return 0 if _degree(a) == 0 else None
    return None


def _differ_many(a: Many, b: Many) -> bool | None:
    if "ratio" in (a.kind, b.kind) and a.kind != b.kind:
        return None
    if a.kind == b.kind == "ratio":
        quotients = [Expression(("div", m.items[0].tree, m.items[1].tree)) for m in (a, b)]
        return differ(*quotients)
    if a.kind == b.kind == "list":
        return _differ_sets(a.items, b.items)
    if a.kind == b.kind == "union":
        return _differ_unions(a.items, b.items)
    if a.kind == "matrix" or b.kind == "matrix":
        if a.kind != b.kind:
            return None  # a column may be given as a tuple
        if len(a.items) != len(b.items) or len(a.items[0].items) != len(b.items[0].items):
            return True
        return _any(differ(x, y) for x, y in zip(a.items, b.items, strict=True))
    brackets = all(m.kind[0] in "([" or m.kind == "tuple" for m in (a, b))
    if brackets:
        if len(a.items) != len(b.items):
            return True
        inner = _any(differ(x, y) for x, y in zip(a.items, b.items, strict=True))
        if a.kind != b.kind and "tuple" not in (a.kind, b.kind):
            return True
        return inner
    if "union" in (a.kind, b.kind) and "list" not in (a.kind, b.kind):
        union = a if a.kind == "union" else b
        return True if _apart(union.items) else None  # pieces with something between them are no interval
    if "list" in (a.kind, b.kind):  # a list in round brackets may be meant as the same
        return True if _differ_sets(a.items, b.items) is True and "union" not in (a.kind, b.kind) else None
    return None


def _any(verdicts: Any) -> bool | None:
    verdicts = list(verdicts)
    return True if True in verdicts else None if None in verdicts else False


def _differ_sets(ours: tuple, theirs: tuple) -> bool | None:
    """Whether an element of one is proven to be none of the other."""
    table = [[differ(x, y) for y in theirs] for x in ours]
    if any(all(v is True for v in row) for row in table):
        return True
    if any(all(row[j] is True for row in table) for j in range(len(theirs))):
        return True
    found = all(False in row for row in table) and all(False in column for column in zip(*table, strict=True))
    return False if found and len(ours) == len(theirs) else None


def _differ_unions(ours: tuple, theirs: tuple) -> bool | None:
    """Sorted unions of disjoint pieces, not touching, are the same set only piece by piece."""
    if not (_apart(ours) and _apart(theirs)):
        return None
    if len(ours) != len(theirs):
        return True
    return _any(differ(x, y) for x, y in zip(ours, theirs, strict=True))


def _apart(pieces: tuple) -> bool:
    try:
        ends = [(at(p.items[0].tree, 0), at(p.items[1].tree, 0), p.kind) for p in pieces]
        return all(mpmath.im(a) == mpmath.im(b) == 0 and a < b for a, b, _ in ends) and all(
            x[1] < y[0] or (x[1] == y[0] and x[2][1] == ")" and y[2][0] == "(") for x, y in itertools.pairwise(ends)
        )
    except Unread:
        return False


def _distinct(items: tuple) -> int:
    """How many elements are proven to be others than those before them."""
    return sum(all(differ(x, y) is True for y in items[:i]) for i, x in enumerate(items))


def proven(gold: str, answer: str) -> bool | None:
    """`differ` of two texts; None where either can't be read."""
    try:
        return differ(read(gold), read(answer))
    except (Unread, RecursionError, ZeroDivisionError, OverflowError, ValueError, IndexError):
        return None
