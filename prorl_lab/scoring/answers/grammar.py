r"""From tokens to the tree of one expression, by recursive descent.

A tree is a tuple: its kind, then its parts.

    ("number", Fraction, decimal?)    decimal: it was written with a point or an exponent, so it may be rounded
    ("symbol", name)  ("constant", "pi" | "e" | "i" | "inf")
    ("add", trees)  ("mul", trees)  ("neg", t)  ("div", a, b)  ("pow", a, b)  ("root", n, t)
    ("function", name, tree, base or None)  ("apply", name, tree)  ("degree", t)  ("binom", n, k)
    ("factorial", t)  ("double factorial", t)  ("floor", t)  ("ceil", t)  ("abs", t)  ("plusminus", t)  ("minusplus", t)

What binds: powers, then products (written or not) and quotients from left to right, then sums.  A function without
brackets takes the product behind it up to the next function (\sin 5x \cos x).  A number followed by a fraction of two
smaller integers is a mixed number.  A number directly behind another number or a letter is no product.
"""

from fractions import Fraction

from .notation import FUNCTIONS, GREEK
from .tokens import NotRead, Token, canonical

MAX_DEPTH = 60  # of brackets, signs, powers and functions
_OPAQUE = frozenset("fgFG")  # before a bracket they are functions that we know nothing of
_CLOSERS = frozenset([")", "]", "\\}", ",", ";", "\\rfloor", "\\rceil"])
_FENCES = {"(": ")", "[": "]", r"\{": r"\}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_INVERSES = {r"\sin": r"\arcsin", r"\cos": r"\arccos", r"\tan": r"\arctan"}
_DEGREE = r"\circ"


def parse(tokens) -> tuple:
    """The tree of an expression.  Raises NotRead for anything else."""
    parser = _Parser(tokens)
    tree = parser.sum()
    if parser.peek() is not None:
        raise NotRead(f"{parser.peek().text or parser.peek().kind} in an expression")
    return tree


def parts(tree: tuple):
    """The trees right below this one."""
    for part in tree[1:]:
        if isinstance(part, tuple):
            if part and isinstance(part[0], tuple):
                yield from part
            elif part:
                yield part


def nodes(tree: tuple):
    """Every tree in this one, itself included."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(parts(node))


def symbols(tree: tuple) -> frozenset[str]:
    return frozenset(node[1] for node in nodes(tree) if node[0] in ("symbol", "apply"))


def has(tree: tuple, *kinds: str) -> bool:
    return any(node[0] in kinds for node in nodes(tree))


def renamed(tree: tuple, old: str, new: str) -> tuple:
    """The tree with a symbol under another name."""
    if tree == ("symbol", old):
        return ("symbol", new)
    return tuple(renamed(part, old, new) if isinstance(part, tuple) else part for part in tree)


class _Parser:
    def __init__(self, tokens, depth: int = 0):
        self.tokens, self.at, self.depth, self.bars = tokens, 0, depth, 0
        if depth > MAX_DEPTH:
            raise NotRead("an expression too deep")

    def peek(self, ahead: int = 0) -> Token | None:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else None

    def text(self) -> str:
        token = self.peek()
        return token.text if token is not None and token.kind in ("symbol", "command") else ""

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotRead("an expression too deep")

    def inner(self, tokens) -> tuple:
        """The tree of a group."""
        parser = _Parser(tokens, self.depth + 1)
        tree = parser.sum()
        if parser.peek() is not None:
            raise NotRead("a group that is no expression")
        return tree

    # --- sums and products

    def sum(self) -> tuple:
        terms = []
        while True:
            sign = self.text()
            if sign in ("+", "-", r"\pm", r"\mp"):
                self.at += 1
            elif terms:
                break
            term = self.product()
            wrap = {"-": "neg", r"\pm": "plusminus", r"\mp": "minusplus"}.get(sign)
            terms.append((wrap, term) if wrap else term)
        return terms[0] if len(terms) == 1 else ("add", tuple(terms))

    def product(self, of_function: bool = False) -> tuple:
        """Factors from left to right; behind a function's name it ends where the function's argument does."""
        factors = [self.signed()]
        while True:
            text = self.text()
            if text in ("*", "/") and not of_function:
                self.at += 1
                if text == "*" and self.text() == "*":  # ** as Python writes a power
                    raise NotRead("two operators")
                factor = self.signed()
                if text == "/":
                    left = factors[0] if len(factors) == 1 else ("mul", tuple(factors))
                    factors = [("div", left, factor)]
                else:
                    factors.append(factor)
            elif self.starts_factor(of_function):
                token, last = self.peek(), self.tokens[self.at - 1]
                if token.kind == "number" and last.kind in ("number", "letter", "accent"):
                    raise NotRead("a number behind a number")
                if token.kind == "group" and token.items[0].kind == "number" and last.kind in ("number", "group"):
                    raise NotRead("digits in braces behind a number")  # 2{3} is 23 to the eye
                factors.append(self.power())
            else:
                return factors[0] if len(factors) == 1 else ("mul", tuple(factors))

    def signed(self) -> tuple:
        """A factor that may carry signs: 2 * -3."""
        if self.text() in ("-", "+"):
            self.deeper()
            sign = self.text()
            self.at += 1
            tree = self.signed()
            self.depth -= 1
            return ("neg", tree) if sign == "-" else tree
        return self.power()

    def starts_factor(self, of_function: bool) -> bool:
        token = self.peek()
        if token is None:
            return False
        if token.kind in ("number", "letter", "word", "group", "frac", "sqrt", "binom", "accent"):
            return True
        if token.text == "|":
            return self.bars == 0 and not of_function
        if token.text in _FENCES:
            return (not of_function and token.text not in ("[", r"\{")) or (token.text == "[" and not of_function)
        if token.text in FUNCTIONS:
            return not of_function
        return token.kind == "command" and (
            token.text[1:] in GREEK or token.text in (r"\infty", r"\angle", r"\triangle")
        )

    # --- powers and what stands behind a factor

    def power(self) -> tuple:
        base = self.postfix(self.primary())
        while self.text() == "^":
            exponent = self.exponent()
            base = ("degree", base) if exponent is None else ("pow", base, exponent)
            base = self.postfix(base)
        return base

    def postfix(self, tree: tuple) -> tuple:
        while self.text() == "!":
            self.at += 1
            double = self.text() == "!" and not self.peek().blank
            self.at += double
            tree = ("double factorial" if double else "factorial", tree)
        if self.text() == _DEGREE:
            self.at += 1
            tree = ("degree", tree)
        return tree

    def exponent(self) -> tuple | None:
        r"""What follows ^; None for the degree sign."""
        self.deeper()
        self.at += 1
        token = self.peek()
        if token is None:
            raise NotRead("a power of nothing")
        if token.text == _DEGREE or (token.kind == "group" and canonical(token.items).strip() == _DEGREE):
            self.at += 1
            tree = None
        elif token.kind == "group":
            self.at += 1
            tree = self.inner(token.items)
        elif token.text in ("-", "+"):
            tree = self.signed()
        else:
            tree = self.postfix(self.scripted())
            if self.text() == "^":  # x^y^z is x^(y^z)
                upper = self.exponent()
                tree = ("pow", tree, upper) if upper is not None else ("degree", tree)
        self.depth -= 1
        return tree

    # --- the smallest pieces

    def scripted(self) -> tuple:
        r"""What stands in a script without braces: x^2\frac12 is no power of a mixed number."""
        token = self.peek()
        if token is not None and token.kind == "number" and "e" not in token.text.lower():
            self.at += 1
            return ("number", Fraction(token.text), not token.text.isdigit())
        return self.primary()

    def primary(self) -> tuple:
        token = self.peek()
        if token is None:
            raise NotRead("an expression that ends too early")
        self.at += 1
        match token.kind:
            case "number":
                return self.number(token)
            case "letter":
                return self.letter(token)
            case "group":
                return self.inner(token.items)
            case "frac":
                return ("div", self.inner(token.items[0]), self.inner(token.items[1]))
            case "binom":
                return ("binom", self.inner(token.items[0]), self.inner(token.items[1]))
            case "sqrt":
                index = self.inner(token.items[0]) if token.items[0] else ("number", Fraction(2), False)
                return ("root", index, self.inner(token.items[1]))
            case "accent" if token.items:
                return ("symbol", self.named(f"{token.text}{{{canonical(token.items)}}}"))
        if token.text in _FENCES or token.text == "|":
            return self.fenced(token.text)
        if token.text == "." and (repeated := self.repeating("0.")) is not None:
            return ("number", repeated, False)
        if token.text in FUNCTIONS:
            return self.function(token.text)
        if token.text == r"\infty":
            return ("constant", "inf")
        if token.text == r"\pi":
            return ("constant", "pi") if self.text() != "_" else ("symbol", self.named("pi"))
        if token.text in (r"\angle", r"\triangle"):
            name = token.text
            while (after := self.peek()) is not None and after.kind == "letter":
                name += after.text
                self.at += 1
            return ("symbol", name)
        if token.kind == "command" and token.text[1:] in GREEK:
            return ("symbol", self.named(token.text[1:]))
        raise NotRead(f"{token.text} in an expression")

    def number(self, token: Token) -> tuple:
        if len(token.text.lower().partition("e")[2]) > 5:  # 1e999999 has a million digits
            raise NotRead("an exponent out of bounds")
        value = Fraction(token.text)
        decimal = not token.text.isdigit()
        after = self.peek()
        if after is not None and after.text == "_":
            raise NotRead("a base inside an expression")
        repeated = self.repeating(token.text)
        if repeated is not None:
            return ("number", repeated, False)
        if not decimal and after is not None:
            if after.kind == "frac" and (part := _proper(after)) is not None:
                self.at += 1
                return ("number", value + part, False)
            if after.kind == "number" and after.blank:  # 1 1/4
                slash, below = self.peek(1), self.peek(2)
                whole = slash and slash.text == "/" and below and below.text.isdigit() and after.text.isdigit()
                if whole and int(after.text) < int(below.text):
                    self.at += 3
                    return ("number", value + Fraction(int(after.text), int(below.text)), False)
                raise NotRead("two numbers with a blank between")
        return ("number", value, decimal)

    def repeating(self, text: str) -> Fraction | None:
        r"""0.1\overline{6}: the accent's digits for ever; 3.\overline{3} and 3.(3), whose point stands apart."""
        after, ahead = self.peek(), 0
        if after is not None and after.text == "." and "." not in text:
            text, ahead, after = text + ".", 1, self.peek(1)
        if ahead and after is not None and after.text == "(" and (closing := self.peek(3)) and closing.text == ")":
            after, ahead = Token("accent", r"\overline", items=(self.peek(2),)), 3
        if (
            after is None
            or after.kind != "accent"
            or after.text not in (r"\overline", r"\bar", r"\dot")
            or "." not in text
        ):
            return None
        digits = "".join(item.text for item in after.items)
        if not (digits.isascii() and digits.isdigit()):
            return None
        self.at += ahead + 1
        places = len(text.partition(".")[2])
        start = Fraction(text + "0")
        return start + Fraction(int(digits), (10 ** len(digits) - 1) * 10**places)

    def letter(self, token: Token) -> tuple:
        after = self.peek()
        if token.text in _OPAQUE and after is not None and after.text == "(":
            self.at += 1
            return ("apply", token.text, self.fenced("("))
        if after is not None and after.text in ("_", "'"):
            return ("symbol", self.named(token.text))
        if token.text in ("e", "i"):
            return ("constant", token.text)
        return ("symbol", token.text)

    def named(self, name: str) -> str:
        """A name with the subscripts and primes behind it."""
        while self.text() in ("_", "'"):
            mark = self.text()
            self.at += 1
            if mark == "_":
                below = self.peek()
                if below is None:
                    raise NotRead("an empty subscript")
                self.at += 1
                mark += canonical([below]).strip()
            name += mark
        return name

    def fenced(self, opening: str) -> tuple:
        self.deeper()
        if opening == "|":
            self.bars += 1
            tree = self.sum()
            self.bars -= 1
            closing = "|"
        else:
            bars, self.bars = self.bars, 0
            tree = self.sum()
            self.bars = bars
            closing = _FENCES[opening]
        if self.text() != closing:
            raise NotRead("brackets that do not match")
        self.at += 1
        self.depth -= 1
        kind = {"|": "abs", r"\lfloor": "floor", r"\lceil": "ceil"}.get(opening)
        return (kind, tree) if kind else tree

    def function(self, name: str) -> tuple:
        r"""\sin^2 x, \log_2(8), \sin^{-1} x, exp(x): the name, its power or base, its argument."""
        self.deeper()
        base = power = None
        while self.text() in ("_", "^"):
            if self.text() == "_" and base is None:
                self.at += 1
                if self.peek() is None:
                    raise NotRead("a logarithm without its base")
                base = self.scripted()
            elif power is None:
                power = self.exponent()
                if power is None:
                    raise NotRead("degrees of a function's name")
            else:
                raise NotRead("two powers of a function's name")
        if power is not None and name in _INVERSES and power == ("neg", ("number", Fraction(1), False)):
            name, power = _INVERSES[name], None
        if self.text() == "(":
            self.at += 1
            argument = self.fenced("(")
        else:
            argument = self.product(of_function=True)
        self.depth -= 1
        if name == r"\sqrt":
            tree = ("root", ("number", Fraction(2), False), argument)
        elif name == r"\cis":
            sine = ("mul", (("constant", "i"), ("function", "sin", argument)))
            tree = ("add", (("function", "cos", argument), sine))
        elif name == r"\exp":
            tree = ("pow", ("constant", "e"), argument)
        else:
            tree = ("function", name[1:], argument, base) if base is not None else ("function", name[1:], argument)
        return tree if power is None else ("pow", tree, power)


def _proper(token: Token) -> Fraction | None:
    """A fraction of two integers, the upper one smaller; else None."""
    above, below = (canonical(part) for part in token.items)
    if above.isdigit() and below.isdigit() and int(above) < int(below):
        return Fraction(int(above), int(below))
    return None
