r"""Pairs of a real reference and an answer that is provably wrong, or right in another spelling.

A kind is a generator of answers for one row; what it makes is kept only where `soundness_reader`, which knows nothing
of the project's own verifier, proves it (`proven`), or where the kind brings a proof of its own, said beside it.
What can't be proved is left out and counted.

    WRONG, RIGHT        kind -> maker
    make(data, seed)    all pairs, the same for the same seed
"""

import functools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import sympy
from soundness_reader import (
    WORDY,
    Based,
    Equation,
    Expression,
    Many,
    Marked,
    Unread,
    Word,
    at,
    exact,
    letters,
    proven,
    read,
    split,
)


@dataclass(frozen=True)
class Row:
    source: str
    problem: str
    gold: str


@dataclass(frozen=True)
class Pair:
    kind: str
    right: bool
    domain: str
    gold: str
    answer: str  # what is in the box
    response: str
    source: str
    reference: dict | None = None  # of the other domains; of mathematics and STEM it is the gold


Maker = Callable[[Row, random.Random, list[Row]], Iterator[str]]
WRONG: dict[str, Maker] = {}
RIGHT: dict[str, Maker] = {}
OWN_PROOF: set[str] = set()  # kinds that prove what they make themselves; their docstring says how
PLAIN_RESPONSE = "The answer is $\\boxed{{{}}}$."


def wrong(own_proof: bool = False) -> Callable[[Maker], Maker]:
    return _into(WRONG, own_proof)


def right(own_proof: bool = False) -> Callable[[Maker], Maker]:
    return _into(RIGHT, own_proof)


def _into(registry: dict[str, Maker], own_proof: bool) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        registry[maker.__name__] = maker
        if own_proof:
            OWN_PROOF.add(maker.__name__)
        return maker

    return add


# --- rows


def rows(data: Path) -> list[Row]:
    """Every row of the public mathematics sets that has an answer."""
    found = []
    for name in ("eval_math", "train_math", "eval_aime", "eval_amc"):
        for row in json.loads((data / "math" / f"{name}.json").read_text(encoding="utf-8")):
            answer = row["answer"]
            gold = str(int(answer)) if isinstance(answer, float) and answer == int(answer) else str(answer)
            found.append(Row(name, row["problem"], gold.strip()))
    for line in (data / "math" / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.append(Row("gsm8k", row["question"], row["answer"].rpartition("####")[2].strip()))
    return [row for row in found if row.gold and row.gold != "None"]


@functools.cache
def value(text: str) -> object:
    try:
        return read(text)
    except (Unread, RecursionError, ValueError):
        return None


def number(text: str) -> Fraction | None:
    """The exact value of a plain rational answer."""
    found = value(text)
    return exact(found.tree) if isinstance(found, Expression) else None


def integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def fraction(text: str) -> tuple[str, str, str] | None:
    r"""Sign, numerator and denominator of \frac{a}{b} with whole numbers."""
    found = re.fullmatch(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}", text)
    return found.groups() if found else None


def pieces(text: str) -> tuple[str, list[str], str] | None:
    """Opening, elements and closing of a list, tuple or set."""
    plain = re.sub(r"\\left|\\right|\\[,;:!]", "", text).strip()
    opening = plain[:2] if plain.startswith(r"\{") else plain[0] if plain[:1] in ("(", "[") else ""
    closing = plain[-2:] if plain.endswith(r"\}") else plain[-1] if plain[-1:] in (")", "]") else ""
    if opening and closing:
        found = value(text)
        if isinstance(found, Many) and (found.kind == "list" or found.kind[0] in "(["):
            return opening, [p.strip() for p in split(plain[len(opening) : -len(closing)], ",", True)], closing
        return None
    if isinstance(value(text), Many) and value(text).kind == "list" and not re.search(WORDY, text):
        parts = [p.strip() for p in split(plain, ",")]
        return ("", parts, "") if len(parts) > 1 else None
    return None


def replaced(text: str, start: int, end: int, by: str) -> str:
    return text[:start] + by + text[end:]


def digits(text: str) -> list[int]:
    return [i for i, c in enumerate(text) if c.isdigit()]


# --- wrong: the digits


@wrong()
def digit_changed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    for i in rng.sample(digits(row.gold), min(2, len(digits(row.gold)))):
        yield replaced(row.gold, i, i + 1, rng.choice("0123456789".replace(row.gold[i], "")))


@wrong()
def digits_transposed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    places = [i for i in digits(row.gold) if row.gold[i + 1 : i + 2].isdigit() and row.gold[i] != row.gold[i + 1]]
    if places:
        i = rng.choice(places)
        yield replaced(row.gold, i, i + 2, row.gold[i + 1] + row.gold[i])


@wrong()
def digit_dropped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    places = [i for i in digits(row.gold) if row.gold[i - 1 : i].isdigit() or row.gold[i + 1 : i + 2].isdigit()]
    if places:
        i = rng.choice(places)
        yield replaced(row.gold, i, i + 1, "")


@wrong()
def digit_added(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if digits(row.gold):
        i = rng.choice(digits(row.gold))
        yield replaced(row.gold, i, i, rng.choice("123456789"))


@wrong()
def magnitude_shifted(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Times a power of ten, spelled in several ways."""
    n = integer(row.gold)
    if n:
        k = rng.choice((1, 2, 3, 6))
        yield rng.choice((f"{n}{'0' * k}", rf"{n}\times10^{{{k}}}", rf"{n}\cdot 10^{{-{k}}}"))
    elif re.fullmatch(r"-?\d*\.\d+", row.gold):
        yield rng.choice((str(Fraction(row.gold) * 10), row.gold.replace(".", ""), rf"{row.gold}\times10^{{3}}"))


@wrong()
def nearly_equal(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A whole number off in the fourth to seventh decimal place."""
    n = integer(row.gold)
    if n is not None:
        yield f"{n}.{'0' * rng.choice((3, 4, 5, 6))}{rng.randint(1, 9)}"


@wrong()
def decimal_truncated(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A number that is no short decimal, cut to one or more decimal places: in mathematics another number."""
    found = value(row.gold)
    if isinstance(found, Expression) and not letters(found.tree) and "." not in row.gold and "i" not in row.gold:
        try:
            x = at(found.tree, 0)
        except (Unread, ZeroDivisionError):
            return
        if abs(x) < 1e12 and integer(row.gold) is None:
            places = rng.choice((1, 2, 3, 4))
            yield f"{float(x):.{places}f}"


@wrong()
def number_split(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """One number as two: 2220 as `2, 220`."""
    if re.fullmatch(r"[1-9]\d{2,}", row.gold):
        i = rng.randint(1, len(row.gold) - 1)
        yield row.gold[:i] + ", " + row.gold[i:]


@wrong()
def list_joined(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Several numbers as one: `81, 256` as 81256."""
    parts = pieces(row.gold)
    if parts and not parts[0]:
        yield "".join(parts[1])


# --- wrong: constants, and another's answer


@wrong()
def constant(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    yield from rng.sample(["0", "1", "-1", "2", "x", r"\infty", "n", "10"], 3)


@wrong()
def anothers_gold(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    yield rng.choice(others).gold


@wrong()
def anothers_gold_same_form(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The answer to another question that looks like this one: the same text but for its digits."""
    yield rng.choice(_by_form(tuple(others))[_form(row.gold)])


def _form(text: str) -> str:
    return re.sub(r"\d+", "0", text.replace(" ", ""))


@functools.lru_cache(maxsize=4)
def _by_form(others: tuple[Row, ...]) -> dict[str, list[str]]:
    forms: dict[str, list[str]] = {}
    for row in others:
        forms.setdefault(_form(row.gold), []).append(row.gold)
    return forms


# --- wrong: signs and operators


@wrong()
def sign_flipped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if isinstance(value(row.gold), Expression):
        gold = row.gold.strip()
        if gold.startswith("-") and not re.search(r"[+-]", gold[1:]):
            yield gold[1:]
        elif re.search(r"(?<!^)[+-](?![^{]*\})", gold):
            yield f"-({gold})"
        else:
            yield f"-{gold}"


@wrong()
def inner_sign_flipped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    places = [i for i, c in enumerate(row.gold) if c in "+-" and i > 0 and row.gold[:i].strip(" ([{\\left")]
    if places:
        i = rng.choice(places)
        yield replaced(row.gold, i, i + 1, "-" if row.gold[i] == "+" else "+")


@wrong()
def plus_becomes_times(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    places = [i for i, c in enumerate(row.gold) if c == "+" and i > 0]
    if places:
        i = rng.choice(places)
        yield replaced(row.gold, i, i + 1, r" \cdot ")


@wrong()
def tail_added(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if isinstance(value(row.gold), Expression):
        tails = ["x", "+x", "+1", r" \text{ or } 7", ", 7", "^2", r"\pi", r" \pm 1", "!" if integer(row.gold) else "y"]
        for tail in rng.sample(tails, 2):
            yield row.gold + tail


@wrong()
def head_added(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if isinstance(value(row.gold), Expression) and re.match(r"[\d\\a-z]", row.gold):
        yield rng.choice((r"\sqrt{%s}", "x + %s", "2(%s)", r"\frac{%s}{7}", r"\log %s", "x^{%s}", "7, %s")) % row.gold


# --- wrong: fractions, roots, powers, percent


@wrong()
def fraction_inverted(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if found := fraction(row.gold):
        yield f"{found[0]}\\frac{{{found[2]}}}{{{found[1]}}}"
    elif found := re.fullmatch(r"(-?\d+)/(\d+)", row.gold):
        yield f"{found[2]}/{found[1]}"


@wrong()
def fraction_part(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The numerator or the denominator alone, or their sum, product or digits in a row."""
    if found := fraction(row.gold):
        sign, a, b = found
        yield from rng.sample([a, b, sign + a, str(int(a) + int(b)), str(int(a) * int(b)), sign + a + b], 2)


@wrong()
def exponent_changed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    places = list(re.finditer(r"(?<=\^)(?:\{(-?\d+)\}|(\d))", row.gold))
    if places:
        found = rng.choice(places)
        n = int(found[1] or found[2])
        yield replaced(row.gold, *found.span(), f"{{{n + rng.choice((-2, -1, 1, 2))}}}")
        yield replaced(row.gold, found.start() - 1, found.end(), "")


@wrong()
def root_dropped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    places = list(re.finditer(r"\\sqrt(?:\{([^{}]*)\}|(\d))", row.gold))
    if places:
        found = rng.choice(places)
        inner = found[1] or found[2]
        yield replaced(row.gold, *found.span(), f"({inner})")
        yield replaced(row.gold, *found.span(), f"\\sqrt[3]{{{inner}}}")


@wrong()
def pi_dropped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if r"\pi" in row.gold:
        without = re.sub(r"\s*\\pi(\^\d)?\s*", "", row.gold, count=1)
        yield without.replace("{}", "{1}") or "1"
        yield row.gold.replace(r"\pi", "3.14" if re.match(r"\\pi|\\frac\{\\pi", row.gold) else r"\cdot 3.14", 1)


@wrong()
def mixed_number_as_product(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""129\frac13 as 129 thirds; and a fraction of a whole as a mixed number's parts."""
    if found := re.match(r"(-?)(\d+)\s*\\frac\{?(\d)\}?\{?(\d)\}?", row.gold):
        sign, whole, a, b = found.groups()
        product = Fraction(int(whole) * int(a), int(b))
        yield (
            f"{sign}{product}"
            if product.denominator == 1
            else rf"{sign}\frac{{{product.numerator}}}{{{product.denominator}}}"
        )
        yield rf"{sign}{whole} \cdot \frac{{{a}}}{{{b}}}"
    if (found := fraction(row.gold)) and int(found[1]) > int(found[2]) > 1:
        sign, a, b = found[0], int(found[1]), int(found[2])
        yield rf"{sign}\frac{{{a // b * (a % b)}}}{{{b}}}" if a % b else "0"


@wrong()
def percent_scaled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Off by a hundred both ways: 25 % as 0.25 % and 2500 %, 0.15 as 1.5 % and 0.0015.  25 for 25 % is left out."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*\\%", row.gold):
        n = Fraction(found[1])
        yield from (f"{float(n / 100):g}\\%", f"{n * 100}\\%", f"{n * 100}")
    elif re.fullmatch(r"0?\.\d+", row.gold):
        n = Fraction(row.gold)
        yield from (f"{float(n * 10):g}\\%", f"{float(n * 1000):g}\\%", f"{float(n / 100):g}")


# --- wrong: letters


@wrong()
def case_of_a_letter(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    named = re.match(r"[A-Za-z]\s*=", row.gold)
    places = [i for i in _symbols(row.gold) if i > 0 or not named]  # the name of what is asked is no value
    name = re.fullmatch(r"[A-Z, ]+|[A-Za-z]", row.gold)  # a choice, or points that might be spelled either way
    if places and not name and isinstance(value(row.gold), Expression | Equation | Many):
        i = rng.choice(places)
        yield replaced(row.gold, i, i + 1, row.gold[i].swapcase())
        yield "".join(c.swapcase() if j in places else c for j, c in enumerate(row.gold))


@wrong()
def another_letter(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    places = _symbols(row.gold)
    if places and isinstance(value(row.gold), Expression | Many) and "=" not in row.gold:
        i = rng.choice(places)
        yield replaced(row.gold, i, i + 1, rng.choice("abkmuvwz".replace(row.gold[i], "")))
        yield "".join("h" if j in places else c for j, c in enumerate(row.gold))


def _symbols(text: str) -> list[int]:
    """Where the unknowns of an answer stand, one letter each."""
    hidden = re.sub(r"\\[A-Za-z]+(\{[a-z ,.]*\})?", lambda m: "." * len(m[0]), text)
    return [i for i, c in enumerate(hidden) if c.isalpha() and c not in "ie"]


@wrong()
def imaginary_part(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Conjugated, without its i, or its real part alone."""
    if re.search(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", row.gold) and isinstance(value(row.gold), Expression | Many):
        yield re.sub(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", "", row.gold).strip() or "1"
        yield re.sub(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", "(-i)", row.gold)
        if found := re.match(r"(-?[\d.]+|-?\\d?frac\{\d+\}\{\d+\})\s*[+-]", row.gold):
            yield found[1]


@wrong()
def function_swapped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    swap = {"sin": "cos", "cos": "sin", "tan": "cot", "cot": "tan", "sec": "csc", "csc": "sec"}
    found = list(re.finditer(r"\\(sin|cos|tan|cot|sec|csc)", row.gold))
    if found:
        place = rng.choice(found)
        yield replaced(row.gold, *place.span(), "\\" + swap[place[1]])
    if r"^\circ" in row.gold and found:
        yield row.gold.replace(r"^\circ", "")


# --- wrong: several values


@wrong()
def element_dropped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if parts := pieces(row.gold):
        opening, items, closing = parts
        i = rng.randrange(len(items))
        rest = items[:i] + items[i + 1 :]
        yield opening + ", ".join(rest) + closing if len(rest) > 1 or opening == r"\{" else rest[0]


@wrong()
def element_added(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if parts := pieces(row.gold):
        opening, items, closing = parts
        yield opening + ", ".join([*items, str(rng.randint(30, 99))]) + closing


@wrong()
def element_changed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if parts := pieces(row.gold):
        opening, items, closing = parts
        for i in rng.sample(range(len(items)), min(2, len(items))):
            changed = [
                *items[:i],
                rng.choice((items[i] + "+1", f"-({items[i]})", str(rng.randint(30, 99)))),
                *items[i + 1 :],
            ]
            yield opening + ", ".join(changed) + closing


@wrong()
def tuple_reordered(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    parts = pieces(row.gold)
    if parts and parts[0] == "(" and parts[2] == ")":
        yield "(" + ", ".join(reversed(parts[1])) + ")"
        yield "(" + ", ".join([*parts[1][1:], parts[1][0]]) + ")"


@wrong()
def bracket_changed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """An interval's end open for closed, or closed for open; an end at infinity stays as it is."""
    if not re.search(r"\[|\\cup|\\infty|\]", row.gold):
        return  # (1, 2) may be a point
    turned = {"(": "[", "[": "(", ")": "]", "]": ")"}
    for i, c in enumerate(row.gold):
        beside = row.gold[i + 1 : i + 9] if c in "([" else row.gold[max(0, i - 15) : i].replace(r"\right", "")
        if c in turned and "infty" not in beside and not re.search(r"sqrt$", row.gold[:i]):
            yield replaced(row.gold, i, i + 1, turned[c])


@wrong()
def piece_of_a_union(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    parts = row.gold.split(r"\cup")
    if len(parts) > 1:
        yield parts[0].strip()
        yield parts[-1].strip()
        if len(parts) > 2:
            yield r" \cup ".join(parts[1:])


@wrong()
def half_of_two(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""One of `a \text{ or } b`, of `a \pm b`, of a list; or what is left where the words between are deleted."""
    if re.search(r"\\(?:text|mbox)\{[ ,]*(?:or|and) *\}", row.gold):
        parts = re.split(r",?\s*\\(?:text|mbox)\{[ ,]*(?:or|and) *\}|,", row.gold)
        yield from (part.strip() for part in parts if part.strip())
        numbers = [number(part.strip()) for part in parts if part.strip()]
        if None not in numbers:
            yield str(sum(numbers))
    if r"\pm" in row.gold:
        yield row.gold.replace(r"\pm", "+").strip("\\{}").split(",")[0]
        yield row.gold.replace(r"\pm", "-").strip("\\{}").split(",")[0]
    if (parts := pieces(row.gold)) and not parts[0]:
        yield rng.choice(parts[1])


@wrong()
def list_among_wrong(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The right value as one of several answers: two different numbers are not one."""
    n = integer(row.gold)
    if n is not None:
        other = n + rng.randint(1, 9)
        yield rng.choice((r"%s \text{ or } %s", r"%s \text{ and } %s", r"\{%s, %s\}", r"%s, %s")) % (
            (n, other) if rng.random() < 0.5 else (other, n)
        )


@wrong()
def matrix_changed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """An entry of a matrix changed, two columns or rows exchanged."""
    if found := re.search(r"(\\begin\{pmatrix\})(.*)(\\end\{pmatrix\})", row.gold, re.DOTALL):
        cells = [[c.strip() for c in line.split("&")] for line in found[2].split(r"\\") if line.strip()]
        variants = [[list(line) for line in cells] for _ in range(3)]
        i, j = rng.randrange(len(cells)), rng.randrange(len(cells[0]))
        variants[0][i][j] = str(rng.randint(30, 99))
        variants[1].reverse()
        variants[2] = [list(reversed(line)) for line in cells]
        for variant in variants:
            yield found[1] + r" \\ ".join(" & ".join(line) for line in variant) + found[3]


# --- wrong: bases, equations, inequalities, units, words


@wrong()
def base_changed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if isinstance(found := value(row.gold), Based):
        top = max(int(d, 36) for d in found.digits.lstrip("-"))
        for base in rng.sample([b for b in range(max(2, top + 1), 17) if b != found.base], 2):
            yield f"{found.digits}_{{{base}}}"
        yield str(found.value + 1)


@wrong(own_proof=True)
def side_of_an_equation(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """One side of an equation that names nothing: a statement is no value.  y = f(x) is left out: it may name f(x)."""
    found = value(row.gold)
    if isinstance(found, Equation) and letters(found.left.tree) and not re.match(r"[A-Z]*\s*=|[a-z]\s*=", row.gold):
        left, right_side = row.gold.split("=")
        yield right_side.strip()
        yield left.strip()


@wrong()
def equation_changed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Another constant in an equation, or another sign on one side."""
    if isinstance(value(row.gold), Equation):
        left, right_side = (side.strip() for side in row.gold.split("="))
        yield f"{left} = {right_side} + {rng.randint(1, 9)}"
        yield f"{left} = -({right_side})"
        yield f"{left} = 2({right_side})"


@wrong(own_proof=True)
def inequality_for_interval(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""An interval as an inequality with an end of the other sort, or turned round: membership of an end, or of a
    point inside, decides it exactly."""
    ends = _interval(row.gold)
    if ends:
        opening, low, high, closing = ends
        strict = ("<" if opening == "(" else r"\le", "<" if closing == ")" else r"\le")
        loose = {"<": r"\le", r"\le": "<"}
        if "infty" not in low and "infty" not in high:
            yield f"{low} {loose[strict[0]]} x {strict[1]} {high}"
            yield f"{low} {strict[0]} x {loose[strict[1]]} {high}"
            yield f"x {strict[1]} {high}"
        elif "infty" in high and "infty" not in low:
            yield f"x {strict[0]} {low}"
            yield f"x {TURNED[loose[strict[0]]]} {low}"
        elif "infty" not in high:
            yield f"x {TURNED[strict[1]]} {high}"
            yield f"x {loose[strict[1]]} {high}"


TURNED = {"<": ">", r"\le": r"\ge"}


def _interval(text: str) -> tuple[str, str, str, str] | None:
    r"""The brackets and ends of an interval: one that has a square bracket or an infinity, so that it is no point."""
    parts = pieces(text)
    if not parts or len(parts[1]) != 2 or parts[0] not in ("(", "["):
        return None
    if "[" not in parts[0] and "]" not in parts[2] and "infty" not in text:
        return None
    if parts[0] == "[" and parts[2] == "]" and not re.search("domain|range|interval|values|solution", text):
        pass
    low, high = (value(part) for part in parts[1])
    if not isinstance(low, Expression) or not isinstance(high, Expression) or letters(low.tree) | letters(high.tree):
        return None
    return parts[0], parts[1][0], parts[1][1], parts[2]


# What a unit measures: two units of different quantities are never the same answer.
QUANTITIES = {
    "length": "cm inches inch feet miles mile units foot",
    "area": "square", "time": "days hours min minutes", "angle": "degrees", "money": "dollars cents euros usd",
    "mass": "pounds", "volume": "gallons cubic", "things": "dogs values pieces ways",
}  # fmt: skip


def _quantity(mark: str) -> str | None:
    if mark in ("$",):
        return "money"
    words = re.findall("[a-z]+", mark)
    if re.search(r"\^", mark) or "square" in words or "sq" in words:
        return "area"
    return next((q for q, names in QUANTITIES.items() if set(words) & set(names.split())), None)


@wrong(own_proof=True)
def unit_of_another_quantity(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Centimetres as kilograms: the quantities differ by `QUANTITIES`, whatever the number."""
    found = value(row.gold)
    if isinstance(found, Marked) and (quantity := _quantity(found.mark)):
        plain = re.sub(WORDY + r"\{.*|\^\{?\\circ\}?|\\\$", "", row.gold).strip()
        units = {"length": "cm", "time": "hours", "mass": "kg", "money": "dollars"}
        for other in rng.sample([u for q, u in units.items() if q != quantity], 2):
            yield plain + rf"\text{{ {other}}}"


@wrong()
def unit_exponent(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""The unit's exponent on the number: 225 for 15\text{ cm}^2."""
    if found := re.fullmatch(r"(\d+)\s*" + WORDY + r"\{([^{}]*)\}\^(\d)", row.gold):
        yield str(int(found[1]) ** int(found[3]))
        yield f"{found[1]}^{found[3]}"


@wrong()
def word_changed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Another word or choice letter; the word negated; the answer's box empty of it."""
    found = value(row.gold)
    if isinstance(found, Word):
        words = [r.gold for r in others if isinstance(value(r.gold), Word) and value(r.gold) != found]
        yield from rng.sample(words, 2)
        yield rf"\text{{not {found.text}}}"
        if len(found.text) == 1:
            yield rf"\text{{({rng.choice('ABCDE'.replace(found.text.upper(), ''))})}}"


@wrong(own_proof=True)
def negated(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Not the answer: a number, denied in words or by a sign."""
    if integer(row.gold) is not None:
        yield rng.choice((r"\text{not } %s", r"x \ne %s", r"\text{anything but } %s", "x > %s", r"x \ge %s")) % row.gold


@wrong(own_proof=True)
def scaled_in_words(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A number times a word that is a number, one that the question does not have: 27 million is not 27."""
    word = rng.choice(("million", "thousand", "dozen", "billion"))
    if integer(row.gold) and word not in row.problem:
        yield rf"{row.gold}\text{{ {word}}}"


@wrong(own_proof=True)
def clock_time(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """a.m. for p.m., a minute more: other times of the day."""
    if "p.m." in row.gold:
        yield row.gold.replace("p.m.", "a.m.")
        yield re.sub(r"(\d)( \\text)", lambda m: str((int(m[1]) + 1) % 10) + m[2], row.gold)


@wrong()
def letters_reordered(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A word of capitals that is an order or a code, in another order."""
    if found := re.fullmatch(r"\\text\{([A-Z]{2,})\}", row.gold):
        for _ in range(3):
            yield rf"\text{{{''.join(rng.sample(found[1], len(found[1])))}}}"


@wrong(own_proof=True)
def no_answer(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A box that holds no value: the golds all have one (a gold that says none, empty or neither is left out)."""
    if not re.search("none|empty|neither|even|odd", row.gold):
        yield rng.choice(("", " ", "?", r"\ldots", r"\emptyset", r"\text{none}", "()", "{}", r"\text{see above}", "-"))


# --- wrong: the response around the answer


@wrong(own_proof=True)
def box_taken_back(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The right box first, another number in the last: read as the last box or as both, it is not the answer."""
    n = integer(row.gold)
    if n is not None:
        yield str(n + rng.randint(1, 9))


@wrong(own_proof=True)
def thought_cut_off(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The answer within a thought that never ends: nothing was answered."""
    yield row.gold


def takes_back(gold: str, answer: str) -> str:
    return f"First I get $\\boxed{{{gold}}}$. No, that misses a case. The answer is $\\boxed{{{answer}}}$."


# --- right: fractions and decimals


@right()
def dfrac_tfrac(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if re.search(r"\\[dt]?frac", row.gold):
        for name in ("frac", "dfrac", "tfrac"):
            yield re.sub(r"\\[dt]?frac", r"\\" + name, row.gold)


@right()
def plain_fraction(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """a/b for \\frac{a}{b}."""
    if found := fraction(row.gold):
        yield f"{found[0]}{found[1]}/{found[2]}"
        yield f"{found[0]} {found[1]} / {found[2]}".strip()


@right()
def unbraced_fraction(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if (found := fraction(row.gold)) and len(found[1]) == 1:
        yield rf"{found[0]}\frac {found[1]}{{{found[2]}}}"
        if len(found[2]) == 1:
            yield rf"{found[0]}\frac{found[1]}{found[2]}"
            yield rf"{found[0]}\frac {found[1]} {found[2]}"


@right()
def sign_within_fraction(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if (found := fraction(row.gold)) and found[0]:
        yield rf"\frac{{-{found[1]}}}{{{found[2]}}}"
        yield rf"\frac{{{found[1]}}}{{-{found[2]}}}"


@right()
def terminating_decimal(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    found = fraction(row.gold)
    if found and (text := _decimal(Fraction(int(found[1]), int(found[2])))):
        yield found[0] + text


def _decimal(x: Fraction) -> str | None:
    """All decimal places of a fraction that has at most six."""
    scaled = x * 10**6
    if scaled.denominator != 1 or x < 0:
        return None
    whole, places = divmod(int(scaled), 10**6)
    return f"{whole}.{places:06d}".rstrip("0") if places else str(whole)


@right()
def repeating_decimal(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""0.\overline{3} for 1/3."""
    if found := fraction(row.gold):
        a, b = int(found[1]), int(found[2])
        if b % 2 and b % 5 and b > 1:
            whole, rest = divmod(a, b)
            period, r = "", rest
            for _ in range(7):
                r *= 10
                period += str(r // b)
                r %= b
                if r == rest:
                    yield rf"{found[0]}{whole}.\overline{{{period}}}"
                    return


@right()
def decimal_as_fraction(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if found := re.fullmatch(r"(-?)(\d*\.\d+)", row.gold):
        x = Fraction(found[2])
        yield rf"{found[1]}\frac{{{x.numerator}}}{{{x.denominator}}}"


@right()
def zeros_of_a_decimal(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """3.0 for 3, 0.50 for 0.5, .5 for 0.5."""
    if integer(row.gold) is not None and row.gold[0] != "0":
        yield row.gold + rng.choice((".0", ".00"))
    elif re.fullmatch(r"-?\d*\.\d+", row.gold):
        yield row.gold + "0"
        yield row.gold.replace("0.", ".", 1) if row.gold.startswith("0.") else "0" + row.gold


@right()
def mixed_number(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    found = fraction(row.gold)
    if found and int(found[1]) > int(found[2]) > 1 and int(found[1]) % int(found[2]):
        whole, rest = divmod(int(found[1]), int(found[2]))
        yield rf"{found[0]}{whole}\frac{{{rest}}}{{{found[2]}}}"
    elif found := re.fullmatch(r"(-?)(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}", row.gold):
        yield rf"{found[1]}\frac{{{int(found[2]) * int(found[4]) + int(found[3])}}}{{{found[4]}}}"


# --- right: numbers


@right()
def thousands_separated(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    found = re.fullmatch(r"(-?)(\d{4,})", row.gold)
    if found and not found[2].startswith("0"):
        grouped = f"{int(found[2]):,}"
        for comma in (",", "{,}", r",\!"):
            yield found[1] + grouped.replace(",", comma)


@right()
def thousands_joined(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if re.fullmatch(r"-?\d{1,3}((,\\!\s*|\{,\}|,)\d{3})+", row.gold):
        yield re.sub(r",\\!\s*|\{,\}|,", "", row.gold)


@right()
def scientific(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""2.8\times10^{4} for 28000; 2.8e4."""
    found = re.fullmatch(r"(-?)([1-9])(\d*?)(0{2,})", row.gold)
    if found:
        sign, lead, rest, zeros = found.groups()
        mantissa, power = (f"{lead}.{rest}" if rest else lead), len(rest) + len(zeros)
        yield rf"{sign}{mantissa}\times10^{{{power}}}"
        yield rf"{sign}{mantissa} \cdot 10^{power}" if power < 10 else rf"{sign}{mantissa}\cdot 10^{{{power}}}"
        yield f"{sign}{mantissa}e{power}"


@right()
def factorised_number(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A whole number as a product of prime powers."""
    n = integer(row.gold)
    if n and 4 <= n <= 10**7 and row.gold[0] != "0" and not sympy.isprime(n):
        yield r" \cdot ".join(f"{p}^{{{k}}}" if k > 1 else str(p) for p, k in sympy.factorint(n).items())


@right()
def power_evaluated(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    found = re.fullmatch(r"(-?)(\d+)\^\{?(\d+)\}?", row.gold)
    if found and int(found[3]) <= 60:
        yield found[1] + str(int(found[2]) ** int(found[3]))


# --- right: typography


@right()
def spaces_removed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if " " in row.gold and not re.search(WORDY, row.gold):
        yield re.sub(
            r"(?<!\\)(\\[A-Za-z]+)? +(?=([A-Za-z])?)", lambda m: (m[1] or "") + (" " if m[1] and m[2] else ""), row.gold
        )


@right()
def spaces_added(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    signs = not re.fullmatch(r"-?[\d,.{}]+", row.gold) and re.search(r"[-+=,]", row.gold)
    if signs and not re.search(WORDY + r"|\\!|\{,\}", row.gold):
        yield re.sub(r"(?<=[^(\[{,^ ])([-+=])", r" \1 ", row.gold)
        yield re.sub(r"(?<=\w|\)|\})([-+=])", r"\\,\1\\;", row.gold)


@right()
def left_right(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    plain = re.sub(r"\\left|\\right", "", row.gold)
    if re.search(WORDY + r"\{[^{}]*[(\[]", row.gold):
        return  # within \text these commands are none
    if "(" in plain or "[" in plain.replace("sqrt[", ""):
        if r"\left" in row.gold:
            yield plain
        elif "sqrt[" not in plain:
            yield re.sub(r"([(\[])", r"\\left\1", re.sub(r"([)\]])", r"\\right\1", plain))


@right()
def wrapped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""Dollars, \displaystyle, a full stop, a comma, colour or bold around the whole answer."""
    yield rng.choice(("${}$", r"\displaystyle {}", "{}.", r"\textcolor{{red}}{{{}}}", "{{{}}}", r"{}\,")).format(
        row.gold
    )


@right()
def unicode_signs(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    spelled = row.gold
    for plain, sign in UNICODE.items():
        spelled = re.sub(re.escape(plain) + ("(?![a-z])" if plain[-1].isalpha() else ""), sign, spelled)
    spelled = re.sub(r"√\{(\w+)\}", lambda m: "√" + (m[1] if len(m[1]) == 1 else f"({m[1]})"), spelled)
    spelled = re.sub(r"\^\{?([0-9])\}?(?![0-9}])", lambda m: SUPERSCRIPTS[int(m[1])], spelled)
    if spelled != row.gold:
        yield spelled


UNICODE = {
    r"^{\circ}": "°", r"^\circ": "°", r"\pi": "π", r"\sqrt": "√", r"\infty": "∞", r"\cup": "∪", r"\cdot": "·",
    r"\times": "×", r"\theta": "θ", r"\pm": "±", "-": "−",
}  # fmt: skip
SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
PLAIN = {sign: plain for plain, sign in UNICODE.items() if plain != r"^{\circ}"} | {"½": r"\frac{1}{2}"}


def unspelled(text: str) -> str:
    """An answer back in the LaTeX that the judge's reader knows; the inverse of the spelling kinds above and below."""
    for sign, plain in PLAIN.items():
        text = text.replace(sign, plain + (" " if plain[-1].isalpha() else ""))
    text = re.sub(f"[{SUPERSCRIPTS}]", lambda m: f"^{SUPERSCRIPTS.index(m[0])}", text)
    text = re.sub(r"\\sqrt \((\w+)\)", r"\\sqrt{\1}", text).replace("\\sqrt ", "\\sqrt")
    text = re.sub(r"\\(?:mathrm|text)\{i\}", "i", text)
    text = re.sub(r"^\\textcolor\{red\}\{(.*)\}$", r"\1", text)
    if text.startswith("{") and text.endswith("}") and "}" not in text[1:-1].replace("{,}", ""):
        text = text[1:-1]
    text = re.sub(r"(\d)e(-?\d+)", r"\1\\times10^{\2}", text)
    if re.fullmatch(r"[A-Za-z][a-z ]{2,}|\(?[A-Z]\)?", text):
        text = rf"\text{{{text}}}"
    if found := re.fullmatch(r"(-?)(\d+)\.\\overline\{(\d+)\}", text):
        text = rf"{found[1]}({found[2]}+\frac{{{found[3]}}}{{{10 ** len(found[3]) - 1}}})"
    return text


@right()
def box_spelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""\boxed {42}, \boxed{\boxed{42}}, blanks and line ends within the box: see `BOXES`."""
    yield row.gold


@right()
def boxes_of_working(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A closed thought with another box, then the answer."""
    yield row.gold


@right()
def upright_i(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if re.search(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", row.gold) and isinstance(value(row.gold), Expression | Many):
        yield re.sub(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", r"\\mathrm{i}", row.gold)


# --- right: names and units


@right()
def named_value(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """`x = 5` for 5, with a letter that the problem asks about."""
    asked = re.findall(r"(?:find|of|is|determine|compute|value of|for) \$([a-zA-Z])\$", row.problem)
    if (
        asked
        and isinstance(value(row.gold), Expression)
        and not letters(value(row.gold).tree)
        and asked[-1] not in "ie"
    ):
        yield f"{asked[-1]} = {row.gold}"
        yield f"{asked[-1]}={row.gold}"


@right()
def name_dropped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    found = re.fullmatch(r"([A-Za-z])\s*=\s*(.*)", row.gold)
    if found and isinstance(value(row.gold), Expression):
        yield found[2]


@right(own_proof=True)
def counted_noun(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The noun that the question counts, behind a whole number: "How many eggs ...?" 12 eggs."""
    found = re.findall(r"[Hh]ow many ([a-z]{3,}s)\b", row.problem)
    if found and integer(row.gold) is not None and found[-1] not in NO_NOUN:
        yield rng.choice((r"%s\text{ %s}", r"%s \text{ %s}", r"%s\ \mathrm{%s}", "%s %s")) % (row.gold, found[-1])


NO_NOUN = {"times", "ways", "does", "this", "less", "previous", "various", "percents", "thousands", "dozens", "as"}


@right(own_proof=True)
def money(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Dollars in front or as a word, where the gold has dollars or the question asks for them."""
    found = re.fullmatch(r"(?:\\\$\s*)?(\d+(?:\.\d+)?)", row.gold)
    asks = re.search(r"[Hh]ow (?:much|many dollars)[^.?]*(?:dollar|\$|cost|pay|money|spend|earn)", row.problem)
    if found and ("$" in row.gold or ("$" in row.problem and asks and row.source == "gsm8k")):
        yield from (rf"\${found[1]}", rf"{found[1]}\text{{ dollars}}", f"{found[1]} dollars", found[1])


@right()
def unit_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""\mathrm, \mbox or plain letters for \text around a unit; the unit dropped, where the gold alone has one."""
    if found := re.fullmatch(r"(.*?[\d}])\s*\\(?:text|mbox|textnormal)\{\s*([a-z ]+)\.?\}(\^\d)?", row.gold):
        number_part, unit, exponent = found[1], found[2].strip(), found[3] or ""
        if isinstance(value(number_part), Expression):
            yield number_part
            upright = unit.replace(" ", "\\ ")
            yield rf"{number_part}\ \mathrm{{{upright}}}{exponent}"
            yield rf"{number_part} \text{{ {unit}}}{exponent}"


@right()
def degrees(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if found := re.fullmatch(r"([\d.]+)\s*\^\{?\\circ\}?", row.gold):
        yield from (found[1], rf"{found[1]}^{{\circ}}", rf"{found[1]}\text{{ degrees}}", f"{found[1]}°")
    elif integer(row.gold) is not None and re.search(r"in degrees|degree measure|how many degrees", row.problem, re.I):
        yield from (rf"{row.gold}^\circ", rf"{row.gold}^{{\circ}}", rf"{row.gold} \text{{ degrees}}")


@right(own_proof=True)
def percent(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""25, 25 % or 25\text{ percent} for 25\%: the sign means a hundredth in all of them, or is in the question."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*\\%", row.gold):
        yield from (found[1], f"{found[1]}%", rf"{found[1]} \%", rf"{found[1]}\text{{ percent}}")


@right()
def base_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if found := re.fullmatch(r"(\d+)_\{?(\d+)\}?", row.gold):
        yield f"{found[1]}_{{{found[2]}}}"
        yield rf"{found[1]}_{{\text{{{found[2]}}}}}"
        yield rf"\text{{{found[1]}}}_{found[2]}" if len(found[2]) == 1 else f"{found[1]}_{{{found[2]}}}"


@right()
def word_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A word without \\text, in bold, in other case."""
    if found := re.fullmatch(r"\\text\{([A-Za-z ]{2,})\}", row.gold):
        word = found[1]
        yield from (rf"\textbf{{{word}}}", rf"\mathrm{{{word}}}", word, rf"\text{{ {word} }}")
        if not word.isupper():
            yield rf"\text{{{word.lower()}}}"
    elif found := re.fullmatch(r"\\text\{\(([A-Z])\)\}", row.gold):
        yield from (
            found[1],
            f"({found[1]})",
            rf"\text{{{found[1]}}}",
            rf"\textbf{{({found[1]})}}",
            rf"\mathrm{{({found[1]})}}",
        )


# --- right: several values


@right()
def list_reordered(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    parts = pieces(row.gold)
    if parts and parts[0] in ("", r"\{"):
        yield parts[0] + ", ".join(reversed(parts[1])) + parts[2]
        yield parts[0] + ",".join(sorted(parts[1])) + parts[2]


@right()
def list_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""Braces, `and`, `or` between the members of a list."""
    parts = pieces(row.gold)
    if parts and not parts[0] and len(parts[1]) > 1:
        yield r"\{" + ", ".join(parts[1]) + r"\}"
        yield ", ".join(parts[1][:-1]) + r" \text{ and } " + parts[1][-1]
        if len(parts[1]) == 2:
            yield r" \text{ or } ".join(parts[1])


@right()
def plus_minus_expanded(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if row.gold.count(r"\pm") == 1 and "," not in row.gold:
        yield row.gold.replace(r"\pm", "+") + ", " + row.gold.replace(r"\pm", "-")


@right(own_proof=True)
def interval_as_inequality(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The same ends, open and closed alike, around x; half-lines as one inequality."""
    ends = _interval(row.gold)
    asked = re.search(r"interval notation", row.problem)
    if ends and not asked and "in" in row.problem:
        opening, low, high, closing = ends
        if re.match(r"\s*\[", row.gold) and re.search(r"vector|matrix", row.problem):
            return
        below, above = ("<" if opening == "(" else r"\le", "<" if closing == ")" else r"\le")
        if "infty" not in low + high:
            yield f"{low} {below} x {above} {high}"
        elif "infty" in high and "infty" not in low:
            yield f"x {TURNED[below]} {low}"
            yield rf"{low} {below} x < \infty"
        elif "infty" not in high:
            yield f"x {above} {high}"


@right()
def matrix_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if re.match(r"\\begin\{pmatrix\}", row.gold):
        yield row.gold.replace("pmatrix", "bmatrix")
        yield re.sub(r"(-?)(\d+)/(\d+)", r"\1\\frac{\2}{\3}", row.gold)
        yield re.sub(r" *(&|\\\\) *", r"\1", row.gold)


# --- right: algebra, written again by sympy or by hand, and proved by the judge's reader


def _sympy(tree: tuple) -> sympy.Expr | None:
    """A tree as sympy's; None for what is not a polynomial or a root."""
    match tree:
        case ("num", x):
            return sympy.Rational(x.numerator, x.denominator)
        case ("sym", "i"):
            return sympy.I
        case ("sym", name):
            return sympy.Symbol(name)
        case ("pi",):
            return sympy.pi
        case ("neg", a):
            a = _sympy(a)
            return None if a is None else -a
        case ("root", ("num", n), a):
            a = _sympy(a)
            return None if a is None else sympy.root(a, int(n))
        case ("add" | "mul" | "div" | "pow", a, b):
            a, b = _sympy(a), _sympy(b)
            if a is None or b is None or (tree[0] == "pow" and not (b.is_Integer and abs(b) < 20)):
                return None
            return a + b if tree[0] == "add" else a * b if tree[0] == "mul" else a / b if tree[0] == "div" else a**b
    return None


@functools.cache
def _algebra(gold: str) -> sympy.Expr | None:
    found = value(gold)
    return _sympy(found.tree) if isinstance(found, Expression) and number(gold) is None else None


@right()
def expanded(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if (found := _algebra(row.gold)) is not None:
        yield sympy.latex(sympy.expand(found))


@right()
def factored(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if (found := _algebra(row.gold)) is not None and found.free_symbols:
        yield sympy.latex(sympy.factor(found))


@right()
def simplified(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """As sympy prints it: its own order of terms and factors, its own form of roots."""
    if (found := _algebra(row.gold)) is not None:
        yield sympy.latex(found)
        yield sympy.latex(sympy.together(found))


@right()
def terms_reordered(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    found = value(row.gold)
    if isinstance(found, Expression):
        terms = _terms(row.gold)
        if len(terms) > 1:
            for order in (terms[::-1], terms[1:] + terms[:1]):
                yield "".join(f" {t[0]} {t[1:]}" for t in order).strip().removeprefix("+ ")


def _terms(text: str) -> list[str]:
    """The signed terms of a sum, cut outside brackets."""
    terms, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c in "+-" and depth == 0 and i > start and text[start:i].strip(" +-"):
            terms.append(text[start:i].strip())
            start = i
    terms.append(text[start:].strip())
    return [t if t[0] in "+-" else "+" + t for t in (re.sub(r"^([+-])\s+", r"\1", t) for t in terms if t)]


@right()
def factors_reordered(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""\sqrt{13} \cdot 3 for 3\sqrt{13}, \pi \cdot 10 for 10\pi, the brackets of a product in another order."""
    if found := re.fullmatch(r"(-?)(\d+)\s*(\\pi|\\sqrt\{[^{}]+\}|[a-zA-Z](?:\^\{?\d+\}?)?)", row.gold):
        sign, a, b = found.groups()
        yield rf"{sign}{b} \cdot {a}"
        yield rf"{sign}{a} \cdot {b}"
        yield rf"{sign}{a} \times {b}"
    elif re.fullmatch(r"(?:\([^()]*\)\s*){2,}", row.gold):
        yield "".join(reversed(re.findall(r"\([^()]*\)", row.gold)))
        yield r" \cdot ".join(re.findall(r"\([^()]*\)", row.gold))


@right()
def root_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""\sqrt{117}, 3 \cdot 13^{1/2}, 3\sqrt[2]{13} for 3\sqrt{13}."""
    if found := re.fullmatch(r"(-?)(\d*)\s*\\sqrt\{?(\d+)\}?", row.gold):
        sign, a, n = found[1], found[2], found[3]
        yield rf"{sign}\sqrt{{{int(a or 1) ** 2 * int(n)}}}"
        yield sign + (rf"{a} \cdot " if a else "") + rf"{n}^{{1/2}}"
        yield rf"{sign}{a}\sqrt[2]{{{n}}}"
        yield rf"{sign}{a}\sqrt{n}" if len(n) == 1 else rf"{sign}{a} \sqrt{{{n}}}"


@right()
def denominator_rationalised(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""\frac{1}{\sqrt3} for \frac{\sqrt3}{3}, and back."""
    if found := re.fullmatch(r"(-?)\\frac\{(\d*)\s*\\sqrt\{(\d+)\}\}\{(\d+)\}", row.gold):
        sign, a, n, b = found[1], int(found[2] or 1), int(found[3]), int(found[4])
        x = Fraction(a * n, b)
        below = rf"\sqrt{{{n}}}" if x.denominator == 1 else rf"{x.denominator}\sqrt{{{n}}}"
        yield rf"{sign}\frac{{{x.numerator}}}{{{below}}}"
        yield rf"{sign}\frac{{{a}}}{{{b}}}\sqrt{{{n}}}" if a * b > 1 else row.gold
        yield rf"{sign}{a if a > 1 else ''}\sqrt{{{n}}}/{b}"
    elif found := re.fullmatch(r"(-?)\\frac\{(\d+)\}\{\\sqrt\{(\d+)\}\}", row.gold):
        a, n = int(found[2]), int(found[3])
        x = Fraction(a, n)
        top = rf"{x.numerator}\sqrt{{{n}}}" if x.numerator > 1 else rf"\sqrt{{{n}}}"
        yield rf"{found[1]}\frac{{{top}}}{{{x.denominator}}}" if x.denominator > 1 else found[1] + top


@right()
def pi_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""\frac{1}{2}\pi, \pi/2, 0.5\pi for \frac{\pi}{2}."""
    if found := re.fullmatch(r"(-?)\\frac\{(\d*)\s*\\pi\}\{(\d+)\}", row.gold):
        sign, a, b = found[1], found[2] or "1", found[3]
        yield rf"{sign}\frac{{{a}}}{{{b}}}\pi"
        yield rf"{sign}{found[2]}\pi/{b}"
        if text := _decimal(Fraction(int(a), int(b))):
            yield rf"{sign}{text}\pi"


@right()
def equation_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Sides exchanged, a side moved over, both multiplied."""
    if isinstance(value(row.gold), Equation) and not re.match(r"[A-Z]+\s*=", row.gold):
        left, other = (side.strip() for side in row.gold.split("="))
        yield f"{other} = {left}"
        if re.search(r"[a-z]", other) or other == "0":
            yield f"2({left}) = 2({other})"
        yield f"{left} - ({other}) = 0" if other != "0" else f"0 = {left}"


# --- STEM: references with a power of ten, made from the digits of real golds (there is no public STEM set here)

STEM_WRONG = ("power_of_ten", "sign", "digits", "mantissa_alone", "tenth_off")
STEM_RIGHT = ("e_notation", "cdot", "unit_in_both", "more_digits", "plain_decimal", "shifted_mantissa")
STEM_TOLERANCE = Fraction(1, 100)  # the least difference of a wrong answer; a right one is within half of it


def stem_pairs(everything: list[Row], seed: int) -> list[Pair]:
    """Both sides are exact fractions: a wrong one is off by more than `STEM_TOLERANCE`, a right one by half at most."""
    rng = random.Random(f"{seed} stem")
    numbers = sorted({abs(int(row.gold)) for row in everything if re.fullmatch(r"-?[1-9]\d{1,2}", row.gold)})
    pairs = []
    for n in rng.sample(numbers, min(300, len(numbers))):
        mantissa, power = (
            Fraction(n, 10 ** (len(str(n)) - 1)),
            rng.choice((-31, -23, -19, -12, -9, -7, -6, 5, 8, 11, 24)),
        )
        unit = rng.choice(("", r"\text{ C}", r"\text{ kg}", r"\ \mathrm{m}", r"\text{ J}"))
        gold = _scientific(mantissa, power) + unit
        shift = rng.choice((-3, -2, -1, 1, 2, 3))
        other = mantissa + rng.choice((Fraction(1, 2), -Fraction(1, 3) * mantissa, 3))
        wrong_ones = {
            "power_of_ten": (_scientific(mantissa, power + shift), mantissa * 10**shift),
            "sign": ("-" + _scientific(mantissa, power), -mantissa),
            "digits": (_scientific(other, power), other),
            "mantissa_alone": (_places(mantissa), mantissa / Fraction(10) ** power),
            "tenth_off": (_scientific(mantissa * Fraction(11, 10), power), mantissa * Fraction(11, 10)),
        }
        close = mantissa + mantissa * rng.choice((-1, 1)) / 1000
        right_ones = {
            "e_notation": (f"{_places(mantissa)}e{power}", mantissa),
            "cdot": (rf"{_places(mantissa)} \cdot 10^{{{power}}}", mantissa),
            "unit_in_both": (_scientific(mantissa, power) + (unit or r"\text{ m}"), mantissa),
            "more_digits": (_scientific(close, power), close),
            "shifted_mantissa": (_scientific(mantissa * 10, power - 1), mantissa),
        }
        if -10 < power < 10:
            right_ones["plain_decimal"] = (_plain_decimal(mantissa * Fraction(10) ** power), mantissa)
        for group, is_right in ((wrong_ones, False), (right_ones, True)):
            for kind, (answer, worth) in group.items():
                gap = abs(worth - mantissa) / mantissa  # the power of ten is cut out of both
                if gap < STEM_TOLERANCE / 2 if is_right else gap > STEM_TOLERANCE:
                    text = PLAIN_RESPONSE.format(answer)
                    pairs.append(Pair(f"stem_{kind}", is_right, "stem", gold, answer, text, "made from digits"))
    return pairs


def _places(x: Fraction) -> str:
    return f"{float(x):.6g}"


def _scientific(mantissa: Fraction, power: int) -> str:
    return rf"{_places(mantissa)} \times 10^{{{power}}}"


def _plain_decimal(x: Fraction) -> str:
    return f"{float(x):.15f}".rstrip("0").rstrip(".") if x.denominator > 1 else str(x.numerator)


# --- made pairs


BOXES = (
    r"The answer is $\boxed {{{}}}$.",
    r"The answer is \boxed{{ {} }}.",
    "Therefore\n\\[\n\\boxed{{\n{}\n}}\n\\]",
    r"\boxed{{\boxed{{{}}}}}",
    r"**Final answer**: $\boxed{{{}}}$",
)
# Kinds in which the text may stay the same, or the same but for blanks.
TYPOGRAPHY = {
    "thought_cut_off", "box_spelled", "boxes_of_working", "wrapped", "spaces_removed", "spaces_added", "dfrac_tfrac",
    "unbraced_fraction", "root_respelled", "base_respelled", "thousands_separated", "thousands_joined",
    "matrix_respelled", "number_split", "list_joined",
}  # fmt: skip
CAPS = {"wrong": 620, "right": 400}  # pairs of one kind; plain whole numbers come last, so that all forms are there


def response(kind: str, gold: str, answer: str, rng: random.Random) -> str:
    if kind == "box_taken_back":
        return takes_back(gold, answer)
    if kind == "thought_cut_off":
        return f"<think>Let me see. Perhaps $\\boxed{{{answer}}}$? No, wait"
    if kind == "box_spelled":
        return rng.choice(BOXES).format(answer)
    if kind == "boxes_of_working":
        return f"<think>Is it \\boxed{{17}} or \\boxed{{x}}? No.</think>\nThe answer is $\\boxed{{{answer}}}$."
    return PLAIN_RESPONSE.format(answer)


def make(data: Path, seed: int = 0) -> tuple[list[Pair], dict[str, Counter]]:
    """All pairs, and how many candidates each kind left out as unproven or as the wrong side of the proof."""
    everything = rows(data)
    pairs: list[Pair] = []
    left_out: dict[str, Counter] = {}
    for registry, is_right in ((WRONG, False), (RIGHT, True)):
        for kind, maker in registry.items():
            rng = random.Random(f"{seed} {kind}")
            order = rng.sample(everything, len(everything))
            order.sort(key=lambda row: integer(row.gold) is not None)
            made, dropped, seen = [], Counter(), set()
            for row in order:
                if len(made) >= CAPS["right" if is_right else "wrong"]:
                    break
                for answer in maker(row, rng, everything):
                    if (row.gold, answer) in seen or (_bare(answer) == _bare(row.gold) and kind not in TYPOGRAPHY):
                        continue
                    seen.add((row.gold, answer))
                    verdict = proof(kind, row.gold, answer)
                    if verdict is not (not is_right):
                        dropped[
                            "unproven"
                            if verdict is None
                            else "of the same value"
                            if not is_right
                            else "of another value"
                        ] += 1
                        continue
                    text = response(kind, row.gold, answer, rng)
                    made.append(Pair(kind, is_right, "math", row.gold, answer, text, row.source))
            pairs += made
            left_out[kind] = dropped
    return pairs + stem_pairs(everything, seed), left_out


def _bare(text: str) -> str:
    return re.sub(r"[\s{}]|\\[,!]", "", text)


def proof(kind: str, gold: str, answer: str) -> bool | None:
    """True: proven of another value; False: proven of the same; None: neither."""
    if kind in OWN_PROOF:
        return kind in WRONG
    plain = proven(gold, unspelled(answer))
    if kind in RIGHT:
        return plain
    return plain if plain is False else proven(gold, answer)  # wrong only if it is so in no spelling
