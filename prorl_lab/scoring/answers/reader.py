r"""From tokens to a value of one kind.  The kinds are tried from the outermost construction inwards:

1. what surrounds an answer goes: $...$, brackets of TeX, a full stop, "the answer is"
2. an ellipsis, or words only: text (all real numbers and number words excepted); a reaction; 2 hours 30 minutes
3. a congruence; a matrix, a function by cases
4. a list: , ; and or at the outermost level; 1,234 is one number, 1, 234 and (1,234) are two
5. a union, a difference of sets
6. a relation: x = 5 is the value 5 named x; x + y = 5 is an equation; 0.5 = 50\% one value twice
7. a ratio or a time
8. brackets: a tuple or interval, a set, {x | ...}
9. digits to a base
10. capital letters alone: a word or a sequence, not a product
11. a quantity: an expression of one number or of symbols, perhaps with a unit
"""

import functools
import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from . import evaluate, grammar, marks, units
from .notation import CONNECTIVES, words
from .tokens import NotRead, Token, canonical, formula, tokenize
from .values import IN_ORDER, Based, Chain, Colon, Joined, Many, Matrix, Quantity, Reals, Relation, Text, Tuple, Value

MAX_LENGTH = 2_000  # characters
MAX_ITEMS = 100  # of a list
MAX_NESTING = 5  # of lists and brackets

_EQUAL, _ROUNDED = "=", r"\approx"
_ORDER = frozenset(["<", ">", r"\le", r"\ge", r"\ne"])
_RELATIONS = _ORDER | {_EQUAL, _ROUNDED, r"\in"}
_UNREAD_RELATIONS = words(r"\equiv \sim \to \iff \Rightarrow \implies \notin \subset \subseteq \perp \parallel \propto")
_NUMBER_WORDS = {word: n for n, word in enumerate(str.split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"))}  # fmt: skip
for _tens, _word in enumerate(str.split("twenty thirty forty fifty sixty seventy eighty ninety"), start=2):
    _NUMBER_WORDS |= {_word: 10 * _tens} | {
        f"{_word}-{one}": 10 * _tens + n for one, n in _NUMBER_WORDS.items() if 0 < n < 10
    }
_MODULO = words(r"\pmod \bmod \mod mod modulo")
_BASE_WORDS = {**_NUMBER_WORDS, "sixteen": 16}
_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_TH = " ?(?:st|nd|rd|th)?"
_DATE = re.compile(  # March 5, 5 March, the 5th of March, 1776
    rf"(?:(?P<m>{_MONTH})\.? ?(?P<d>[0-9]{{1,2}}){_TH}|(?:the ?)?(?P<D>[0-9]{{1,2}}){_TH} ?(?:of ?)?(?P<M>{_MONTH})\.?)"
    r"(?: ?,? ?(?P<y>[0-9]{4}))?",
    re.IGNORECASE,
)
_INDIAN = re.compile(r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}")
_EMPTY = frozenset(
    {"empty set", "no solution", "no solutions", "no real solution", "no real solutions", "there is no solution"}
    | {"there are no solutions", "there are no real solutions", "there is no real solution"}
)
_ALL_REALS = frozenset({"all real numbers", "all reals", "real numbers", "the real numbers", "all real number"})


@functools.lru_cache(maxsize=4096)
def read(text: str, gold: bool = False, stem: bool = False) -> Value:
    r"""The value of an answer.  A `gold` is taken as written where an answer gets the benefit of a doubt.

    >>> print(read(r"x = 3\frac12\text{ cm}"))
    quantity: text 3\frac{1}{2}cm, name x, tree 7/2, unit cm
    """
    try:
        if len(text) > MAX_LENGTH:
            raise NotRead("too long")
        return _Reader(gold, stem).value(tokenize(marks.bare(text)))
    except (NotRead, RecursionError) as error:
        return Text(re.sub(r"\s+", " ", text.strip()), why=str(error))


class _Reader:
    def __init__(self, gold: bool, stem: bool):
        self.gold, self.stem = gold, stem

    def value(self, tokens, depth: int = 0) -> Value:
        """A value; Text where no kind fits.  Raises NotRead beyond the limits."""
        if depth > MAX_NESTING:
            raise NotRead("lists or brackets too deep")
        tokens = marks.lines(marks.stripped(tokens))
        if not self.gold:
            tokens = marks.behind_choice(tokens)
        text = canonical(tokens).strip()
        if not tokens:
            return Text(text, why="empty")
        if any(token.text == r"\ldots" for token in marks.everything(tokens)):
            return Text(text, why="an ellipsis stands for what is not written")
        why = ""
        sets = (self.congruence, self.matrix, self.listed, self.union, self.related)
        for kind in (
            self.words,
            self.reaction,
            self.compound,
            *sets,
            self.colon,
            self.bracketed,
            self.based,
            self.sequence,
            self.quantity,
        ):
            try:
                if (found := kind(tokens, text, depth)) is not None:
                    return found
            except NotRead as error:
                why = str(error)
                if kind in sets:
                    break
        return Text(text, why=why)

    # --- 2

    def words(self, tokens, text: str, depth: int) -> Value | None:
        if text.lower() in _ALL_REALS or text in (r"\mathbb{R}", r"\mathbf{R}"):
            return Reals(text)
        if (number := _NUMBER_WORDS.get(text.lower().replace(" ", "-"))) is not None:
            return Quantity(text, tree=("number", Fraction(number), False))
        if text.lower().removeprefix("the ") in _EMPTY:
            return Many(text, braces=True)
        if text.lower() in ("dne", "does not exist", "doesn't exist"):
            return Text("does not exist", why="words")
        if date := _DATE.fullmatch(text):
            day, month, year = (next(filter(None, map(date.group, names)), "") for names in ("dD", "mM", "y"))
            return Text(f"{day} {month[:3].lower()} {year}".strip(), why="a date")
        return None

    def reaction(self, tokens, text: str, depth: int) -> Value | None:
        r"""2H_2 + O_2 \to 2H_2O: what reacts in any order, and what comes of it."""
        sides = marks.split(tokens, {r"\to"})
        if len(sides) == 1 or not all(sides):
            return None
        for side in sides:
            for i, (before, token) in enumerate(pairwise(side), start=1):
                if (before.text, token.text) == ("^", "+"):
                    side[i] = token._replace(kind="letter")  # a charge
        terms = [sorted(formula(canonical(term)) for term in marks.split(side, {"+"})) for side in sides]
        return Text(r" \to ".join(map(" + ".join, terms)), why="a reaction")

    def compound(self, tokens, text: str, depth: int) -> Value | None:
        """2 hours 30 minutes: the sum of what is given in ever smaller units."""
        parts = marks.compound(tokens)
        found = [next(iter(marks.unit_splits(part, self.gold, self.stem)), None) for part in parts]
        if len(parts) < 2 or not all(found):
            return None
        sizes = [unit.factor for _, unit, _ in found]
        alike = {unit.dimension for _, unit, _ in found}
        if len(alike) > 1 or None in alike or sizes != sorted(set(sizes), reverse=True):
            return None
        terms = [("mul", (grammar.parse(n), ("number", unit.factor / sizes[0], False))) for n, unit, _ in found]
        return Quantity(text, tree=("add", tuple(terms)), unit=found[0][1])

    # --- 3

    def congruence(self, tokens, text: str, depth: int) -> Value | None:
        r"""x \equiv 1, 3 \pmod 8: each residue beside its modulus, reduced."""
        found = [i for i, token in enumerate(tokens) if token.text in _MODULO]
        if len(found) != 1 or not (at := found[0]):
            return None
        modulus = self.value([t for t in tokens[at + 1 :] if t.text not in ("(", ")")], depth + 1)
        *subject, residues = marks.split(tokens[: at - (tokens[at - 1].text == "(")], {r"\equiv", _EQUAL})
        if len(subject) > 1 or not isinstance(modulus, Quantity):
            raise NotRead("a congruence that is not read")
        name = marks.name(subject[0]) if subject else ""
        if subject and not name:
            raise NotRead("a congruence of an expression")
        found = self.value(residues, depth + 1)
        values = [self.residue(item, modulus, name) for item in (found.items if isinstance(found, Many) else [found])]
        return values[0] if len(values) == 1 else Many(text, items=tuple(values), name=name)

    def residue(self, value: Value, modulus: Quantity, name: str) -> Value:
        if not isinstance(value, Quantity):
            raise NotRead("a residue that is no number")
        a, m = evaluate.real(value.tree), evaluate.real(modulus.tree)
        if isinstance(a, Fraction) and isinstance(m, Fraction) and m > 0:
            value = Quantity(str(a % m), tree=("number", a % m, False))
        return Tuple(f"{value.text} mod {modulus.text}", "mod", (value, modulus), "", name=name)

    def cases(self, rows, text: str, depth: int) -> Value:
        """A function by cases: each value beside its condition, in any order."""
        if not all(len(row) == 2 for row in rows):
            raise NotRead("cases without their conditions")
        pairs = [(self.value(v, depth + 1), self.value(marks.behind_if(c), depth + 1)) for v, c in rows]
        return Many(text, items=tuple(Tuple("", "if", pair, "") for pair in pairs))

    def matrix(self, tokens, text: str, depth: int) -> Value | None:
        if (
            tokens[-1].text in (")", "]")
            and len(tokens) >= 3
            and tokens[-2].kind == "matrix"
            and tokens[-3].text in ("(", "[")
        ):
            tokens = [*tokens[:-3], tokens[-2]]
        if tokens[-1].kind != "matrix" or any(token.text in _RELATIONS for token in tokens):
            return None
        if tokens[-1].text == "cases" and len(tokens) == 1:
            return self.cases(tokens[-1].items, text, depth)
        if tokens[-1].text not in ("pmatrix", "bmatrix", "matrix", "Bmatrix", "array", "smallmatrix"):
            raise NotRead(f"an environment {tokens[-1].text}")
        rows = [[grammar.parse(cell) for cell in row] for row in tokens[-1].items]
        if len(tokens) > 1:
            factor = tokens[:-1] if tokens[:-1][-1].text != "*" else tokens[:-2]
            scale = grammar.parse([*factor, Token("number", "1", True)] if canonical(factor) == "-" else factor)
            rows = [[("mul", (scale, cell)) for cell in row] for row in rows]
        return Matrix(text, rows=tuple(tuple(Quantity("", tree=cell) for cell in row) for row in rows))

    # --- 4, 5

    def listed(self, tokens, text: str, depth: int) -> Value | None:
        if not self.gold and _INDIAN.fullmatch(text):  # 12,34,567
            number = Quantity(text, tree=("number", Fraction(text.replace(",", "")), False))
            return replace(self._listed(tokens, text, depth), other=number)
        joined = marks.joined_thousands(tokens)
        found = self._listed(joined, text, depth)
        if len(joined) < len(tokens):
            found = found or self.value(joined, depth + 1)
            return replace(found, other=self._listed(tokens, text, depth))
        return found

    def _listed(self, tokens, text: str, depth: int) -> Value | None:
        parts = marks.split(tokens, CONNECTIVES | {",", ";"})
        if len(parts) == 1:
            return None
        items = [part for part in parts if part]  # ", and" leaves an empty one
        if not items or len(items) > MAX_ITEMS:
            raise NotRead("a list of nothing" if not items else "a list too long")
        values = tuple(self.value(part, depth + 1) for part in items)
        if values[0].name:  # x = 1, 2
            values = tuple(replace(v, name=v.name or values[0].name) for v in values)
        said = {token.text for token in tokens if token.text in CONNECTIVES}
        if not said and (qualified := _qualified(values)):
            return replace(qualified, text=text)
        if said == {"or"} and any(isinstance(v, Relation) for v in values):  # x < 1 or x = 3
            values = tuple(
                Many(v.text, items=(v,), braces=True) if isinstance(v, Quantity) and v.name else v for v in values
            )
        sets = all(_is_set(v) for v in values)
        apart = sum(isinstance(v, Relation) and v.signs == (r"\ne",) for v in values)
        if sets and not said and apart >= len(values) - 1 and _speak_of_one(values):  # x < 3, x \ne 1
            return Joined(text, how="intersection", items=values)
        if sets and len(said) == 1 and (said == {"or"} or all(isinstance(v, Relation) for v in values)):
            return Joined(text, how="union" if said == {"or"} else "intersection", items=values)
        if any(isinstance(v, Text) for v in values) and not all(_is_word(part) for part in items):
            return Text(text, why="a list of what is no value")
        return Many(text, items=values)

    def union(self, tokens, text: str, depth: int) -> Value | None:
        tokens = list(tokens)
        for i, (before, token, after) in enumerate(zip(tokens, tokens[1:], tokens[2:], strict=False), start=1):
            left, right = before.text in (")", "]", r"\}", r"\mathbb"), after.text in ("(", "[", r"\{")
            if token.text in ("U", "u") and left and right:
                tokens[i] = token._replace(kind="command", text=r"\cup")
            elif token.text == "-" and left and after.text == r"\{":  # \mathbb{R} - \{2\}
                tokens[i] = token._replace(kind="command", text=r"\setminus")
        for sign, how in ((r"\cup", "union"), (r"\cap", "intersection"), (r"\setminus", "difference")):
            parts = marks.split(tokens, {sign})
            if len(parts) > 1:
                if any(token.text in (_EQUAL, r"\in") for token in parts[0]):
                    continue  # x \in ... \cup ...
                return Joined(text, how=how, items=tuple(self.value(part, depth + 1) for part in parts))
        return None

    # --- 6

    def related(self, tokens, text: str, depth: int) -> Value | None:
        tokens = [
            t for i, t in enumerate(tokens) if not (t.text == ":" and i + 1 < len(tokens) and tokens[i + 1].text == "=")
        ]
        sides = marks.split(tokens, _RELATIONS | _UNREAD_RELATIONS)
        if len(sides) == 1:
            return None
        signs = [token.text for token in marks.outside(tokens) if token.text in _RELATIONS | _UNREAD_RELATIONS]
        if not set(signs) <= _RELATIONS or not all(sides) or len(signs) > 6:
            raise NotRead("a relation that is not read")
        name = marks.name(sides[0])
        if signs == [_EQUAL] and not name and marks.name(sides[1]):  # 5 = x
            sides, name = sides[::-1], marks.name(sides[1])
        if signs[0] == r"\in":
            if len(signs) > 1 or not name:
                raise NotRead("a membership that is not read")
            return replace(self.value(sides[1], depth + 1), name=name, text=text)
        if set(signs) <= {_EQUAL, _ROUNDED}:
            if name and name not in marks.names_in(sides[1:]):
                if len(sides) == 2:
                    found = self.value(sides[1], depth + 1)
                    return replace(found, name=name, text=found.text)
                values = tuple(self.value(side, depth + 1) for side in sides[1:])
                return Chain(text, sides=values, rounded=_ROUNDED in signs[1:], name=name)
            values = [self.value(side, depth + 1) for side in sides]
            constant = [isinstance(v, Quantity) and not grammar.symbols(v.tree) for v in values]
            if all(constant):
                return Chain(text, sides=tuple(values), rounded=_ROUNDED in signs)
            if len(sides) > 2 or _ROUNDED in signs:
                raise NotRead("a chain of equations")
        trees = [grammar.parse(marks.without_unit(side)) for side in sides]
        return Relation(text, signs=tuple(signs), sides=tuple(trees))

    # --- 7, 8, 9, 10

    def colon(self, tokens, text: str, depth: int) -> Value | None:
        half = ""
        if canonical(tokens[-1:]).lower() in ("am", "pm"):
            half, tokens = tokens[-1].text.lower(), tokens[:-1]
        elif canonical(tokens[-2:]).lower() in ("am", "pm"):
            half, tokens = canonical(tokens[-2:]).lower(), tokens[:-2]
        parts = marks.split([t._replace(text=":") if t.text == "to" and t.kind == "word" else t for t in tokens], {":"})
        if len(parts) == 1 and not half:
            return None
        return Colon(text, parts=tuple(grammar.parse(part) for part in parts), half=half)

    def bracketed(self, tokens, text: str, depth: int) -> Value | None:
        if len(tokens) > 4 and tokens[0].kind == "letter" and tokens[0].text.isupper() and tokens[1].text == "(":
            point = self.bracketed(tokens[1:], text, depth)  # P(1, 2)
            return replace(point, name=tokens[0].text) if isinstance(point, Tuple) else None
        opening, closing = tokens[0].text, tokens[-1].text
        if (opening, closing) in (("]", "["), ("]", "]"), ("[", "["), ("(", "["), ("]", ")")) and len(tokens) > 2:
            inner = marks.split(tokens[1:-1], {",", ";"})  # ]0, 1[ as in France
            if len(inner) == 2:
                turned = (
                    {"]": "(", "[": "["}[opening] if opening != "(" else "(",
                    {"[": ")", "]": "]", ")": ")"}[closing],
                )
                return Tuple(text, turned[0], tuple(self.value(part, depth + 1) for part in inner), turned[1])
            return None
        if opening not in ("(", "[", r"\{") or closing not in (")", "]", r"\}") or not marks.matched(tokens):
            if text.strip() == r"\emptyset":
                return Many(text, braces=True)
            return None
        inner = tokens[1:-1]
        if opening == r"\{" and closing == r"\}":
            return self.braces(inner, text, depth)
        if r"\{" in (opening, closing) or r"\}" in (opening, closing):
            raise NotRead("brackets that do not match")
        parts = marks.split(inner, {",", ";"})
        if len(parts) == 1:
            if opening + closing == "()" or (opening + closing == "[]" and len(inner) == 1):
                return self.value(inner, depth + 1)
            return None
        if not all(parts) or len(parts) > MAX_ITEMS:
            raise NotRead("a tuple with an empty place")
        return Tuple(text, opening, tuple(self.value(part, depth + 1) for part in parts), closing)

    def braces(self, inner, text: str, depth: int) -> Value:
        if not inner:
            return Many(text, braces=True)
        for sign in ("|", ":"):
            parts = marks.split(inner, {sign})
            if len(parts) == 2:
                subject, condition = parts
                if marks.name(subject) or (
                    r"\in" in [t.text for t in subject] and marks.name(marks.split(subject, {r"\in"})[0])
                ):
                    found = self.value(condition, depth + 1)
                    if _is_set(found) and (
                        marks.name(subject) or canonical(marks.split(subject, {r"\in"})[1]) == r"\mathbb{R}"
                    ):
                        return found
                raise NotRead("a set that is not read")
        parts = marks.split(inner, {",", ";"} | CONNECTIVES)
        if len(parts) > MAX_ITEMS:
            raise NotRead("a set too long")
        return Many(text, items=tuple(self.value(part, depth + 1) for part in parts if part), braces=True)

    def based(self, tokens, text: str, depth: int) -> Value | None:
        if len(tokens) < 3 or tokens[-2].text != "_":
            return None
        body = tokens[:-2]
        sign, body = ("-", body[1:]) if body[0].text == "-" else ("", body)
        if body[-1].text == ")" and body[0].text == "(" and marks.matched(body):
            body = body[1:-1]
        base = canonical(tokens[-1:]).lower().strip("{()}")
        number = int(base) if base.isdigit() and base.isascii() and len(base) < 3 else _BASE_WORDS.get(base, 0)
        digits = "".join(token.text for token in body)
        plain = all(token.kind in ("number", "letter", "word") for token in body) and any(
            t.kind == "number" for t in body
        )
        if not plain or not 2 <= number <= 36 or not digits.replace(".", "", 1).isalnum() or not digits.isascii():
            return None
        if any(int(digit, 36) >= number for digit in digits.replace(".", "")):
            raise NotRead("a digit that the base does not have")
        return Based(text, digits=sign + digits.upper(), base=number)

    def sequence(self, tokens, text: str, depth: int) -> Value | None:
        """CBAD, CD, H_2O: capital letters are a word, vertices or a formula, whose order counts."""
        letters = [t for t in tokens if t.kind in ("letter", "word")]
        rest = [t for t in tokens if t.kind not in ("letter", "word")]
        many = len(letters) > 1 or (letters and len(letters[0].text) > 1)
        capitals = tokens[0].text[:1].isupper() and all(t.text[0].isupper() or t.upright for t in letters)
        signs = all(t.text in ("_", "'", "^", "+", "-") or t.kind in ("number", "group") for t in rest)
        operators = any(t.text in ("+", "-", "^") for t in rest) and not any(t.upright for t in letters)
        lowered = all(
            before.text in ("_", "^") or before.upright or (t.kind == "number" and before.kind in ("letter", "word"))
            for before, t in pairwise([Token("", ""), *tokens])
            if t.kind in ("number", "group")
        )
        if many and capitals and signs and not operators and lowered:
            return Text(text, why=IN_ORDER)
        return None

    # --- 11

    def quantity(self, tokens, text: str, depth: int) -> Value | None:
        currency, rest = marks.currency(_multiplied(tokens))
        for number, unit, certain in marks.unit_splits(rest, self.gold, self.stem):
            if currency is not None and units.same(currency, unit) is False:
                continue
            try:
                tree = grammar.parse(number)
            except NotRead:
                continue
            if unit.dimension is None and grammar.symbols(tree):
                continue
            found = Quantity(text, tree=tree, unit=currency or unit)
            if certain:
                return found
            try:
                return Quantity(text, tree=grammar.parse(tokens), other=found)
            except NotRead:
                return found
        return Quantity(text, tree=grammar.parse(rest), unit=currency)


def _multiplied(tokens) -> list[Token]:
    """2.5 million as 2.5 * 1000000."""
    found: list[Token] = []
    for token in tokens:
        size = units.MAGNITUDES.get(token.text.lower()) if token.kind == "word" else None
        if size and found and found[-1].kind == "number":
            found += [Token("symbol", "*"), Token("number", str(size))]
        else:
            found.append(token)
    return found


def _is_set(value: Value) -> bool:
    if isinstance(value, Relation):
        return set(value.signs) <= _ORDER
    if isinstance(value, Tuple):
        return len(value.items) == 2
    return isinstance(value, Joined | Reals) or (isinstance(value, Many) and value.braces)


def _qualified(values: tuple[Value, ...]) -> Value | None:
    r"""What conditions stand behind: x + 1 of "x + 1, x \ne 2"; \pi k of "\pi k, k \in \mathbb{Z}", k by any name."""
    first, *rest = values
    if not isinstance(first, Quantity) or not rest:
        return None
    names = grammar.symbols(first.tree)
    if all(isinstance(v, Relation) and v.signs == (r"\ne",) for v in rest):
        about = set().union(*(grammar.symbols(side) for v in rest for side in v.sides))
        return first if about and about <= names else None
    if len(rest) == 1 and isinstance(rest[0], Quantity) and rest[0].tree == _INTEGERS and rest[0].name in names:
        return replace(first, tree=grammar.renamed(first.tree, rest[0].name, _INTEGERS[1]))
    return None


_INTEGERS = ("symbol", r"\mathbb{Z}")


def _speak_of_one(values: tuple[Value, ...]) -> bool:
    """Whether these are all inequalities in one variable."""
    names = [grammar.symbols(side) for value in values if isinstance(value, Relation) for side in value.sides]
    return all(isinstance(value, Relation) for value in values) and len(set().union(*names)) == 1


def _is_word(tokens) -> bool:
    """Whether an item of a list is words: letters, numbers and blanks only."""
    return all(
        token.kind in ("word", "letter", "number") or token.text in ("(", ")", "_", "'") or token.kind == "group"
        for token in tokens
    )
