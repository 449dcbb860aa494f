r"""Kinds written after the verifier, and kept from its author until it had been run on them once.

A verifier is soon right on the kinds that its author can see; these say how it does on others.  Registered beside those
of soundness_pairs.py, and proved alike.
"""

import random
import re
from collections.abc import Iterator
from fractions import Fraction

import sympy
from soundness_pairs import (
    OWN_PROOF,
    RIGHT,
    Row,
    _algebra,
    _interval,
    _symbols,
    _terms,
    fraction,
    integer,
    number,
    pieces,
    replaced,
    right,
    value,
    wrong,
)
from soundness_reader import Expression, Many, Word, letters

FIRST_SEEN: set[str] = set()  # the names of the kinds in this module


def late_wrong(own_proof: bool = False):
    return _late(wrong(own_proof))


def late_right(own_proof: bool = False):
    return _late(right(own_proof))


def _late(add):
    def mark(maker):
        FIRST_SEEN.add(maker.__name__)
        return add(maker)

    return mark


# --- wrong


@late_wrong()
def power_as_multiple(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """2x for x^2, and x^2 for 2x."""
    for found in list(re.finditer(r"([a-zA-Z])\^\{?(\d+)\}?", row.gold))[:2]:
        yield replaced(row.gold, *found.span(), f"({found[2]}{found[1]})")
    for found in list(re.finditer(r"(?<![\d^{.])([2-9])([a-z])(?![\^a-z_])", row.gold))[:1]:
        yield replaced(row.gold, *found.span(), f"{found[2]}^{found[1]}")


@late_wrong()
def subscript_added(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Another symbol: x_1 for x."""
    places = _symbols(row.gold)
    if places and isinstance(value(row.gold), Expression) and "=" not in row.gold and len(row.gold) > 1:
        i = rng.choice(places)
        yield replaced(row.gold, i + 1, i + 1, "_1")


@late_wrong()
def term_dropped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if isinstance(value(row.gold), Expression) and len(terms := _terms(row.gold)) > 1:
        for i in rng.sample(range(len(terms)), 2):
            yield " ".join(f"{t[0]} {t[1:]}" for t in terms[:i] + terms[i + 1 :]).removeprefix("+ ")
        yield " ".join(f"{t[0]} {t[1:]}" for t in [*terms, terms[-1]]).removeprefix("+ ")


@late_wrong()
def coefficient_dropped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if found := re.match(r"(-?)(\d+)\s*(\\sqrt|\\pi|[a-z(])", row.gold):
        yield found[1] + row.gold[found.start(3) :]
    if re.fullmatch(r"(?:\([^()]*\)\s*){2,}", row.gold):
        yield "".join(re.findall(r"\([^()]*\)", row.gold)[1:])


@late_wrong()
def brackets_dropped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """ab + c for a(b + c)."""
    if isinstance(value(row.gold), Expression) and re.search(r"\([^()]*[+-][^()]*\)", row.gold):
        yield re.sub(r"\\left|\\right|[()]", "", row.gold)
        yield re.sub(r"\)(?!\^)", ")^2", row.gold, count=1)


@late_wrong(own_proof=True)
def absolute_value(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """|x| of a negative number is positive."""
    if (x := number(row.gold)) is not None and x < 0:
        yield from (f"|{row.gold}|", rf"\left| {row.gold} \right|", rf"\lvert {row.gold} \rvert", f"-({row.gold})")


@late_wrong(own_proof=True)
def rounded_by_brackets(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The floor or ceiling of a number that is not whole."""
    if (x := number(row.gold)) is not None and x.denominator > 1:
        yield rng.choice((r"\lfloor %s \rfloor", r"\left\lceil %s \right\rceil", r"\lceil %s \rceil")) % row.gold


@late_wrong(own_proof=True)
def residue_class(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """n + m modulo m: a class of numbers, written by one that is not n."""
    if (n := integer(row.gold)) is not None:
        m = rng.randint(3, 12)
        forms = [rf"{n + m} \pmod{{{m}}}", rf"x \equiv {n + m} \pmod{{{m}}}"]
        yield rng.choice([*forms, rf"{n + m} \bmod {m}"] if n >= m else forms)  # the least residue is below m


@late_wrong(own_proof=True)
def binomial(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """n over 2 is n(n - 1)/2, which is n only for 0 and 3; n over 1 is left out."""
    if (n := integer(row.gold)) and n > 3:
        yield rng.choice((rf"\binom{{{n}}}{{2}}", rf"\dbinom{{{n}}}{{2}}", rf"{{{n} \choose 2}}"))


@late_wrong()
def ratio_reversed(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if found := re.fullmatch(r"(\d+)\s*:\s*(\d+)", row.gold):
        yield f"{found[2]}:{found[1]}"
    elif found := fraction(row.gold):
        yield f"{found[0]}{found[2]}/{found[1]}"
        yield f"{found[0]}{found[2]}:{found[1]}"


@late_wrong()
def scientific_off(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Another power of ten, or the sign of it."""
    if found := re.fullmatch(r"(-?)([1-9])(\d*?)(0{2,})", row.gold):
        sign, lead, rest, zeros = found.groups()
        mantissa, power = (f"{lead}.{rest}" if rest else lead), len(rest) + len(zeros)
        for p in (power - 1, power + 1, -power):
            yield rf"{sign}{mantissa}\times10^{{{p}}}"
        yield rf"{sign}{mantissa}\times10"


@late_wrong(own_proof=True)
def repeating_digits_off(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""0.\overline{4} for 1/3: every value here is computed as a fraction and differs."""
    if (found := fraction(row.gold)) and int(found[2]) % 2 and int(found[2]) % 5 and int(found[2]) > 1:
        x = Fraction(int(found[1]), int(found[2]))
        whole, digit = divmod(int(x * 10), 10)
        for period, worth in ((digit, Fraction(digit, 9)), ((digit + 1) % 10, Fraction((digit + 1) % 10, 9))):
            if whole + worth != x and 0 < period < 9:
                yield rf"{found[0]}{whole}.\overline{{{period}}}"


@late_wrong()
def plus_minus_added(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if (x := number(row.gold)) and not row.gold.startswith("-") and x:
        yield rf"\pm {row.gold}"
        yield rf"{row.gold}, -{row.gold}"


@late_wrong(own_proof=True)
def range_around(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """More than one number: a range that holds the value."""
    if (n := integer(row.gold)) is not None:
        yield rng.choice(
            (
                rf"[{n - 1}, {n + 1}]", rf"{n - 1} < x < {n + 1}", rf"{n - 1} \text{{ to }} {n + 1}",
                rf"\text{{at least }} {n}", rf"{n} \text{{ or more}}", rf"\text{{at most }} {n}",
                rf"\text{{between }} {n - 1} \text{{ and }} {n + 1}", rf"\ge {n}", rf"> {n}", rf"{n}, \ldots, {n + 5}",
            )
        )  # fmt: skip


@late_wrong(own_proof=True)
def false_equation(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """An equation of two numbers that differ, one of them the answer."""
    if (n := integer(row.gold)) is not None:
        other = n + rng.randint(1, 9)
        yield rng.choice((f"{n} = {other}", f"{other} = {n}", f"{n} + 1 = {n}", f"2 + 2 = {n if n != 4 else 5}"))


@late_wrong(own_proof=True)
def equation_with_other_root(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """An equation in x that the value does not solve."""
    if n := integer(row.gold):
        yield rng.choice(
            (f"x + 1 = {n}", f"2x = {n}", f"x - {n} = 1", f"-x = {n}", f"x^2 = {n * n + 1}", f"3x + {n} = 0")
        )


@late_wrong(own_proof=True)
def whole_line_for_punctured(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The point left out is in it, or another is left out."""
    found = re.fullmatch(r"\(-\\infty,\s*(-?\d+)\)\s*\\cup\s*\((-?\d+),\s*\\infty\)", row.gold)
    if found and found[1] == found[2]:
        a = int(found[1])
        yield from (
            r"(-\infty, \infty)",
            r"\mathbb{R}",
            rf"x \ne {a + 1}",
            rf"(-\infty, {a}] \cup ({a}, \infty)",
            f"x = {a}",
        )
        yield rf"\mathbb{{R}} \setminus \{{{a + 1}\}}"


@late_wrong()
def point_as_number(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""3 - 1 or 3 - i for the point (3, -1); \{3, -1, 3\} keeps its members and is left out."""
    parts = pieces(row.gold)
    if parts and parts[0] == "(" and parts[2] == ")" and len(parts[1]) == 2:
        a, b = parts[1]
        yield f"{a} + ({b})"
        yield f"{a} + ({b})i"
        yield rf"\frac{{{a}}}{{{b}}}" if b != "0" else a


@late_wrong(own_proof=True)
def determinant_for_matrix(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A determinant is a number; a square matrix of two or more rows is none."""
    found = value(row.gold)
    if isinstance(found, Many) and found.kind == "matrix" and len(found.items) == len(found.items[0].items) > 1:
        yield row.gold.replace("pmatrix", "vmatrix")
        yield r"\det " + row.gold


@late_wrong()
def misgrouped(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Commas where no thousands end: 22,20 is two numbers."""
    if re.fullmatch(r"[1-9]\d{3,}", row.gold):
        yield row.gold[:-2] + "," + row.gold[-2:]
        yield row.gold[:-1] + "," + row.gold[-1:]


@late_wrong(own_proof=True)
def hedged_word(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The word or letter with another beside it, or denied: not that word alone."""
    if isinstance(found := value(row.gold), Word):
        word = re.sub(r"\\[a-z]+|[{}(),]", "", row.gold).strip()
        other = "Z" if len(found.text) == 1 else "Banana"
        yield from (rf"\text{{{word} or {other}}}", rf"\text{{{word}, {other}}}", rf"\text{{neither {word}}}")
        yield rf"\text{{{word}}} \text{{ and }} \text{{{other}}}"


@late_wrong()
def root_of_another(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """The coefficient under the root, the radicand doubled with it: wrong ways to write 3 root 13."""
    if found := re.fullmatch(r"(\d+)\s*\\sqrt\{?(\d+)\}?", row.gold):
        a, n = found[1], found[2]
        yield from (rf"\sqrt{{{int(a) * int(n)}}}", rf"{n}\sqrt{{{a}}}", rf"\sqrt[{a}]{{{n}}}", rf"\sqrt{{{a}}}{{{n}}}")


@late_wrong(own_proof=True)
def unicode_other_value(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Signs of Unicode with another value: cubes for squares, a root or a half beside a whole number."""
    if n := integer(row.gold):
        if n > 1:
            yield rng.choice((f"{n}²", f"√{n}", f"{n}½", f"{n}π", f"{n}∞", f"−{n}", f"∛{n}", f"≠{n}", f"±{n}"))
    elif re.search(r"[a-z]\^2(?!\d)", row.gold) and "sqrt" not in row.gold:
        yield re.sub(r"(?<=[a-z])\^2(?!\d)", "³", row.gold, count=1)


# --- right


@late_right(own_proof=True)
def quotient_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A fraction by other commands, or as a product with an inverse: the same two whole numbers by construction."""
    if found := fraction(row.gold):
        sign, a, b = found
        yield rng.choice(
            (
                rf"{sign}{a} \div {b}", rf"{sign}\cfrac{{{a}}}{{{b}}}", rf"{sign}{{{a} \over {b}}}",
                rf"{sign}{a} \cdot \frac{{1}}{{{b}}}", rf"{sign}{a} \cdot {b}^{{-1}}",
                rf"{sign}\left(\frac{{{a}}}{{{b}}}\right)", rf"{sign}({a}/{b})", rf"{sign}\frac{{ {a} }}{{ {b} }}",
            )
        )  # fmt: skip


@late_right()
def whole_and_rest(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    found = fraction(row.gold)
    if found and int(found[1]) > int(found[2]) > 1 and int(found[1]) % int(found[2]):
        whole, rest = divmod(int(found[1]), int(found[2]))
        sign = found[0] or "+"
        yield rf"{found[0]}{whole} {sign} \frac{{{rest}}}{{{found[2]}}}"


@late_right()
def negative_power(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if (found := fraction(row.gold)) and found[1] == "1":
        yield rf"{found[0]}{found[2]}^{{-1}}"
        factors = sympy.factorint(int(found[2]))
        if len(factors) == 1 and max(factors.values()) > 1:
            ((p, k),) = factors.items()
            yield rf"{found[0]}{p}^{{-{k}}}"
            yield rf"{found[0]}\frac{{1}}{{{p}^{{{k}}}}}"


@late_right(own_proof=True)
def percent_as_number(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """0.25 and a quarter for 25 %: the same number, as a fraction."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*\\%", row.gold):
        x = Fraction(found[1]) / 100
        yield f"{float(x):g}"
        yield rf"\frac{{{x.numerator}}}{{{x.denominator}}}" if x.denominator > 1 else str(x)


@late_right(own_proof=True)
def set_of_reals(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """x in the interval, or the set of such x: the gold's own text within."""
    if _interval(row.gold) and "in" in row.problem and not re.search("vector|matrix|ordered", row.problem):
        opening, low, high, closing = _interval(row.gold)
        yield rf"x \in {row.gold}"
        if "infty" not in low + high:
            below, above = ("<" if opening == "(" else r"\le", "<" if closing == ")" else r"\le")
            yield rf"\{{x \mid {low} {below} x {above} {high}\}}"
            yield rf"{low} {below} y {above} {high}"


@late_right(own_proof=True)
def punctured_line(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """All reals but one, in other words."""
    found = re.fullmatch(r"\(-\\infty,\s*(-?\d+)\)\s*\\cup\s*\((-?\d+),\s*\\infty\)", row.gold)
    if found and found[1] == found[2]:
        a = found[1]
        yield from (
            rf"x \ne {a}",
            rf"x \neq {a}",
            rf"\mathbb{{R}} \setminus \{{{a}\}}",
            rf"x < {a} \text{{ or }} x > {a}",
        )


@late_right(own_proof=True)
def number_in_a_font(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A whole number in \\text, \\mathbf, \\mathrm, in a colour or between thin spaces."""
    if integer(row.gold) is not None:
        yield rng.choice(
            (r"\text{%s}", r"\mathbf{%s}", r"\mathrm{%s}", r"\color{blue}{%s}", r"\, %s \,", r"\bf{%s}", r"\ %s")
        ) % (row.gold)


@late_right(own_proof=True)
def ascii_mathematics(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """3*sqrt(13), 2*pi, x^2+1 with stars: the same tree, in plain characters."""
    if found := re.fullmatch(r"(-?)(\d*)\s*\\sqrt\{?(\d+)\}?", row.gold):
        yield f"{found[1]}{found[2] + '*' if found[2] else ''}sqrt({found[3]})"
    elif found := re.fullmatch(r"(-?)(\d*)\s*\\pi", row.gold):
        yield f"{found[1]}{found[2] + '*' if found[2] else ''}pi"
    elif re.fullmatch(r"[-+\d a-z^]+", row.gold) and re.search(r"\d[a-z]", row.gold) and "i" not in row.gold:
        yield re.sub(r"(\d)([a-z])", r"\1*\2", row.gold)


@late_right(own_proof=True)
def full_width(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Brackets and commas as Chinese text has them."""
    if re.search(r"[(,]", row.gold) and "\\" not in row.gold and pieces(row.gold):
        yield row.gold.translate(str.maketrans("(),", "（），"))


@late_right(own_proof=True)
def named_braces(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""A set in \left\{ ... \right\} or \lbrace ... \rbrace."""
    parts = pieces(row.gold)
    if parts and parts[0] in ("", r"\{"):
        inner = ", ".join(parts[1])
        yield rf"\left\{{{inner}\right\}}"
        yield rf"\lbrace {inner} \rbrace"


@late_right(own_proof=True)
def unit_in_a_font(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""{\rm cm}, \operatorname{cm}, \unit{cm}, a unit in plain letters: the gold's own number and unit."""
    if found := re.fullmatch(r"([\d.]+)\s*\\(?:text|mbox)\{\s*([a-z]+)\.?\}", row.gold):
        n, unit = found[1], found[2]
        yield from (rf"{n} {{\rm {unit}}}", rf"{n}\operatorname{{{unit}}}", f"{n} {unit}", rf"{n}~\mathrm{{{unit}}}")
    elif found := re.fullmatch(r"([\d.]+)\s*\^\{?\\circ\}?", row.gold):
        yield from (rf"{found[1]}\degree", rf"{found[1]} ^ \circ", rf"{found[1]}^{{\, \circ}}")


@late_right()
def minus_taken_out(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """-(3 - x) for x - 3; a polynomial in Horner's form."""
    if (found := _algebra(row.gold)) is not None and found.is_Add:
        yield f"-({sympy.latex(sympy.expand(-found))})"
        if len(found.free_symbols) == 1 and found.is_polynomial():
            yield sympy.latex(sympy.horner(found))


@late_right()
def complex_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if found := re.fullmatch(r"(-?\d+)\s*([+-])\s*(\d*)i", row.gold):
        a, sign, b = found[1], found[2], found[3] or "1"
        yield (
            f"{'-' if sign == '-' else ''}{b}i + {a}"
            if not a.startswith("-")
            else f"{'-' if sign == '-' else ''}{b}i - {a[1:]}"
        )
        yield f"{a} + ({sign if sign == '-' else ''}{b})i"
        yield rf"{a} {sign} i \cdot {b}"


@late_right(own_proof=True)
def choices_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A set of choice letters in another order, without \\text, with brackets."""
    if found := re.fullmatch(r"\\text\{([A-Z](?:, ?[A-Z])+)\}", row.gold):
        chosen = re.findall("[A-Z]", found[1])
        yield from (", ".join(chosen), rf"\text{{{', '.join(reversed(chosen))}}}", rf"\{{{', '.join(chosen)}\}}")
        yield ", ".join(rf"\text{{{c}}}" for c in chosen)
        yield rf"\text{{{', '.join(chosen[:-1])} and {chosen[-1]}}}"


@late_right()
def root_as_power(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    if found := re.fullmatch(r"(-?)(\d*)\s*\\sqrt(?:\[(\d)\])?\{?(\d+)\}?", row.gold):
        sign, a, n, inner = found[1], found[2], found[3] or "2", found[4]
        front = rf"{sign}{a} \cdot " if a else sign
        yield rf"{front}{inner}^{{\frac{{1}}{{{n}}}}}"
        if n == "2":
            yield rf"{front}{inner}^{{0.5}}"
            yield rf"{front}\frac{{{inner}}}{{\sqrt{{{inner}}}}}"


@late_right()
def letters_in_order(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Commuting letters of a product in another order: yx for xy."""
    found = value(row.gold)
    if isinstance(found, Expression) and len(letters(found.tree)) > 1:
        for place in list(re.finditer(r"(?<![a-zA-Z\\])([a-z])([a-z])(?![a-zA-Z^_])", row.gold))[:2]:
            yield replaced(row.gold, *place.span(), place[2] + place[1])


# --- several boxes, choices


@late_right(own_proof=True)
def box_for_each(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Each member of a list in a box of its own, in the list's order: all of it is said, and nothing else."""
    parts = pieces(row.gold)
    if parts and parts[0] in ("", r"\{") and len(set(parts[1])) == len(parts[1]):
        yield boxes(parts[1])


@late_wrong(own_proof=True)
def box_for_each_but_one_off(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """One member replaced by a number that is no member, or left out."""
    parts = pieces(row.gold)
    if parts and parts[0] in ("", r"\{") and len(set(parts[1])) == len(parts[1]):
        items = list(parts[1])
        i = rng.randrange(len(items))
        yield boxes([*items[:i], "9876", *items[i + 1 :]])
        yield boxes(items[:i] + items[i + 1 :])


def boxes(items: list[str]) -> str:
    r"""The inside of a box that the response closes: `1}$ and $\boxed{2`."""
    return "}$ and $\\boxed{".join(items)


@late_right(own_proof=True)
def choice_respelled(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A choice's letter with its dot, brackets, font, or the word before it."""
    if found := re.fullmatch(r"\\text\{\(?([A-J])\)?\}", row.gold):
        c = found[1]
        yield from (f"{c}.", f"({c})", rf"\mathbf{{{c}}}", rf"\textbf{{({c})}}", rf"\text{{{c}.}}", f"[{c}]")


@late_wrong(own_proof=True)
def choice_of_another(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Another letter, more than one, or a word that begins with the letter."""
    if found := re.fullmatch(r"\\text\{\(?([A-J])\)?\}", row.gold):
        c = found[1]
        d = rng.choice("ABCDE".replace(c, ""))
        yield from (
            d,
            f"({d})",
            f"{c} or {d}",
            f"({c}), ({d})",
            f"{d}{c}",
            f"{c}{d}",
            rf"\text{{not {c}}}",
            f"{c}, {d}, {c}",
        )
        yield from (f"{d}. {c}", rf"\text{{{d}}}, \text{{{c}}}", f"{c}pple", f"{c}^2", f"-{c}", f"2{c}")


@late_wrong(own_proof=True)
def box_beside_another(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""\boxed{9876} or \boxed{42}: two answers, whichever comes last."""
    if integer(row.gold) is not None:
        yield f"9876}}${rng.choice((' or ', ', ', ' and ', ''))}$\\boxed{{{row.gold}"


@late_wrong(own_proof=True)
def condition_unsolved(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""2x > 6 for (3, \infty), 2x + 1 = 7 for x = 3: of the same solutions, but as a question has it; not an answer."""
    ends = _interval(row.gold)
    if ends and "infty" in ends[2] and (low := integer(ends[1])) is not None:
        sign = r"\ge" if ends[0] == "[" else ">"
        yield from (rf"2x {sign} {2 * low}", rf"x + 1 {sign} {low + 1}")
    if found := re.fullmatch(r"([a-z]) ?= ?(-?\d+)", row.gold):
        yield from (f"2{found[1]} + 1 = {2 * int(found[2]) + 1}", f"{found[1]} - 1 = {int(found[2]) - 1}")


@late_wrong(own_proof=True)
def part_in_words(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """7 tenths, 7 dozens, 7!!: numbers, and other ones than 7."""
    if integer(row.gold) not in (None, 0, 1, 2):
        yield rf"{row.gold}\text{{ {rng.choice(('tenths', 'halves', 'sixteenths', 'dozens', 'millions'))}}}"
    if 3 < (integer(row.gold) or 0) < 100:
        yield f"{row.gold}!!"


@late_wrong(own_proof=True)
def hundredth_of_a_part(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""0.28\% for 0.28, which is 28\%."""
    if (n := number(row.gold)) is not None and 0 < n < 1:
        yield rf"{row.gold}\%"


@late_right(own_proof=True)
def thousands_in_words(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """3 thousand, 1.5 million."""
    n = integer(row.gold) or 0
    if n > 0 and n % 1000 == 0:
        yield from (rf"{n // 1000}\text{{ thousand}}", rf"{n / 10**6:.12g}\text{{ million}}")


@late_right(own_proof=True)
def value_before_its_name(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """42 = x."""
    if integer(row.gold) is not None:
        yield f"{row.gold} = {rng.choice('xnk')}"


@late_right(own_proof=True)
def letter_before_value(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    r"""\textbf{(C)}\ 42: the choice's letter and what it stands for."""
    if number(row.gold) is not None:
        yield rf"\textbf{{({rng.choice('ABCDE')})}}\ {row.gold}"


# --- edits of tokens, and one respelling upon another: kinds without a hypothesis

TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d|[a-zA-Z]|\S")
COMMANDS = (r"\sqrt", r"\pi", r"\cdot", r"\frac", r"\infty", r"\cup", r"\pm", r"\sin", r"\circ", r"\text")


def edited(text: str, rng: random.Random) -> str:
    """One token deleted, doubled, exchanged with the next, or replaced by another of its sort."""
    places = list(TOKEN.finditer(text))
    i = rng.randrange(len(places))
    start, end, token = places[i].start(), places[i].end(), places[i].group()
    match rng.randrange(4):
        case 0:
            return replaced(text, start, end, "")
        case 1:
            return replaced(text, end, end, token)
        case 2 if i + 1 < len(places):
            after = places[i + 1]
            return text[:start] + after.group() + text[end : after.start()] + token + text[after.end() :]
    pool = next((p for p in ("0123456789", "abcnxyz", "+-*/^", "([", ")]", COMMANDS) if token in p), "17x")
    return replaced(text, start, end, rng.choice(pool))


@late_wrong()
def token_edited(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    yield edited(row.gold, rng)


@late_wrong()
def two_tokens_edited(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    yield edited(edited(row.gold, rng) or "0", rng)


@late_wrong()
def respelled_then_edited(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """A right spelling with one token changed."""
    for spelled in respelled(row, rng, others):
        yield edited(spelled, rng)


@late_right()
def respelled_twice(row: Row, rng: random.Random, others: list[Row]) -> Iterator[str]:
    """Two respellings, one upon the other."""
    for once in respelled(row, rng, others):
        yield from respelled(Row(row.source, row.problem, once), rng, others)


def respelled(row: Row, rng: random.Random, others: list[Row]) -> list[str]:
    """One answer by a kind of right ones that the judge's reader can prove; none where no kind fits."""
    kinds = [kind for kind in RIGHT if kind not in OWN_PROOF | FIRST_SEEN | {"box_spelled", "boxes_of_working"}]
    for kind in rng.sample(kinds, len(kinds)):
        answers = [a for a in RIGHT[kind](row, rng, others) if a != row.gold]
        if answers:
            return [rng.choice(answers)]
    return []
