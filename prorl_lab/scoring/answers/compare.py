r"""Is the answer the reference's?  The verdict names the rule that decided.

The order of the rules, each of which settles the kinds it names:

    same text         after fonts, spacing and braces are gone
    words             text equals text; capitals count, except in plain words (Friday, friday)
    sets of reals     intervals, inequalities and unions are equal as sets of numbers
    lists             the same members as often, in any order; in the same order between tuples, matrices and words
    named             x = 5 is 5, and y = 2x is 2x, but not x = 5 for y = 5
    relations         equations up to a constant factor, inequalities up to a positive one; where the reference is
                      solved (x = 7, x > 3), so must the answer be: 2x = 14 and 2x > 6 may be the question, copied
    ratio, time, base digit groups must agree; a missing base, or am/pm, is taken from the question
    quantities        values exactly (see `evaluate`); units of one dimension are converted; a missing unit, per cent or
                      degree sign is taken from the question, another unit is wrong
    STEM              beside a decimal reference values agree within `precision.TOLERANCE`, and a decimal of three
                      digits or more stands for the exact reference that rounds to it
"""

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from . import evaluate, grammar, precision, relations, sets, units
from .tokens import NotRead, formula
from .values import IN_ORDER, Based, Chain, Colon, Joined, Many, Matrix, Quantity, Reals, Relation, Text, Tuple, Value

_WORD = re.compile(r"[A-Za-z]?[a-z]{2,}")
_ARTICLES = re.compile(r"\b(?:the|an|a)\s+", re.IGNORECASE)

Verdict = tuple[bool, str]


def same(gold: Value, answer: Value, stem: bool = False) -> Verdict:
    """Whether the answer is right, and the rule that says so."""
    try:
        right, rule = _same(gold, answer, stem)
        if not right and answer.other is not None:
            right, other = _same(gold, answer.other, stem)
            rule = f"{other} (the answer read in its second way)" if right else rule
        return right, rule
    except (NotRead, evaluate.Undefined, OverflowError, ZeroDivisionError, RecursionError) as error:
        return False, f"not compared: {error or type(error).__name__}"


def _same(gold: Value, answer: Value, stem: bool) -> Verdict:
    if gold.text and gold.text == answer.text and not _other_name(gold, answer):
        return True, "same text"
    if isinstance(gold, Text) or isinstance(answer, Text):
        return _words(gold, answer)
    if isinstance(gold, Chain) or isinstance(answer, Chain):
        return _chain(gold, answer, stem)
    gold, answer = _unfolded(gold), _unfolded(answer)
    if _other_name(gold, answer):
        ours, theirs = relations.equation(answer), relations.equation(gold)
        both = ours is not None and theirs is not None and grammar.symbols(ours) == grammar.symbols(theirs)
        return both and relations.proportional(theirs, ours, stem, False), "named: another name"
    if not (isinstance(gold, Tuple) and isinstance(answer, Tuple)) and (_is_region(gold) or _is_region(answer)):
        ours, theirs = sets.of(answer), sets.of(gold)
        if ours is not None and theirs is not None:
            if sets.solved(gold) and not sets.solved(answer):
                return False, "a condition that is not solved"
            one = len(sets.variables(gold) | sets.variables(answer)) < 2
            return one and sets.same(ours, theirs), "sets of reals"
    match gold, answer:
        case Many(), Many():
            return _lists(gold, answer, stem)
        case Many(items=(single,), braces=True), Quantity():
            return _same(single, answer, stem)
        case Quantity(), Many(items=(single,), braces=True):
            return _same(gold, single, stem)
        case Tuple(), Tuple():
            if (gold.opening, gold.closing) != (answer.opening, answer.closing):
                return False, "tuples: other brackets"
            return _ordered(gold.items, answer.items, stem), "tuples"
        case (Tuple(opening="(", closing=")"), Many()) | (Many(), Tuple(opening="(", closing=")")):  # x = 1, y = 2
            pair = [_by_name(value) for value in (gold, answer)]
            return all(pair) and _ordered(*pair, stem), "named coordinates"
        case (Quantity(tree=tree), Tuple() as point) | (Tuple() as point, Quantity(tree=tree)) if point.closing == ")":
            vector = _vector(point) if any(axis in grammar.nodes(tree) for axis in _AXES) else None
            return vector is not None and evaluate.same(tree, vector, positive=stem), "a vector as a point"
        case Matrix(), Matrix():
            if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
                return False, "matrices: another shape"
            return all(_ordered(g, a, stem) for g, a in zip(gold.rows, answer.rows, strict=True)), "matrices"
        case (Matrix() as matrix, Tuple() as point) | (Tuple() as point, Matrix() as matrix):
            if point.opening + point.closing not in ("()", "[]"):
                return False, "a matrix and an interval"
            if all(isinstance(row, Tuple) and len(row.items) == len(matrix.rows[0]) for row in point.items):
                return _same(matrix, Matrix("", rows=tuple(row.items for row in point.items)), stem)  # [[1, 2], [3, 4]]
            if 1 not in (len(matrix.rows), len(matrix.rows[0])):
                return False, "a matrix and a point"
            entries = [cell for row in matrix.rows for cell in row]
            return _ordered(entries, point.items, stem), "a vector as a point"
        case Reals(), Reals():
            return True, "sets of reals"
        case Joined(), Joined():
            if gold.how != answer.how:
                return False, "sets: joined in another way"
            return _lists(Many("", items=gold.items), Many("", items=answer.items), stem)
        case (Joined(how="union") as union, Many() as many) | (Many() as many, Joined(how="union") as union):
            if not all(isinstance(item, Tuple) for item in union.items):
                return False, "a union and a list"
            return _lists(Many("", items=union.items), many, stem)  # (1, 2) or (3, 4)
        case Colon(), Colon():
            half = not (gold.half and answer.half) or gold.half == answer.half
            if gold.half or answer.half:  # 10 a.m., 10:00 a.m.
                gold, answer = _to_the_minute(gold), _to_the_minute(answer)
            parts = len(gold.parts) == len(answer.parts) and all(map(evaluate.same, gold.parts, answer.parts))
            return half and parts, "ratio or time"
        case Colon(parts=(above, below), half=""), Quantity(tree=("div", *_) as tree):
            whole = all(part[0] == "number" and part[1].denominator == 1 for part in (above, below))
            return whole and evaluate.same(("div", above, below), tree), "a ratio as a fraction"
        case Based(), Based():
            return gold.base == answer.base and _digits(gold) == _digits(answer), "digits to a base"
        case Based(), Quantity():
            return _digits(gold) == answer.text.upper().lstrip("0"), "digits to a base, which the question names"
        case (Relation(), Relation() | Quantity()) | (Quantity(), Relation()):
            return relations.relations(gold, answer, stem)
        case Quantity(), Quantity():
            return _quantities(gold, answer, stem)
    return False, f"{type(gold).__name__.lower()} and {type(answer).__name__.lower()} are two kinds"


# --- words, chains, lists


def _words(gold: Value, answer: Value) -> Verdict:
    if not isinstance(gold, Text):
        return False, f"the answer is no {type(gold).__name__.lower()}: {answer.why}"
    ours, theirs = answer.text.strip(" ."), gold.text.strip(" .")
    if gold.why == IN_ORDER:  # H_2O, or H2O as it is typed
        ours, theirs = formula(ours), formula(theirs)
    if _WORD.search(theirs) and not re.search(r"[\\_^]", theirs):
        ours, theirs = (_ARTICLES.sub("", text) for text in (ours, theirs))
        short = {w for w in re.findall(r"[A-Za-z]+", theirs) if not _WORD.fullmatch(w)}
        found = {w for w in re.findall(r"[A-Za-z]+", ours) if not _WORD.fullmatch(w)}
        if short <= found or not short:
            ours, theirs = ours.casefold(), theirs.casefold()
    right = bool(theirs) and ours == theirs
    return right, "words" if right else f"other words (the reference is text: {gold.why or 'words'})"


def _chain(gold: Value, answer: Value, stem: bool) -> Verdict:
    """A chain of an answer must be true and end in the reference; any side of the reference's may be given."""
    if isinstance(answer, Chain):
        first, *rest = answer.sides
        if any(not _near(first, side, answer.rounded) for side in rest):
            return False, "a chain whose sides differ"
        answer = replace(first, name=answer.name)
    if not isinstance(gold, Chain):
        return _same(gold, answer, stem)
    rules = [_same(replace(side, name=gold.name), answer, stem) for side in gold.sides]
    return any(right for right, _ in rules), next((rule for right, rule in rules if right), rules[-1][1])


def _near(a: Value, b: Value, rounded: bool) -> bool:
    if same(a, b)[0]:
        return True
    if not rounded or not isinstance(a, Quantity) or not isinstance(b, Quantity):
        return False
    return precision.within(a.tree, b.tree, Fraction(1, 20))


def _other_name(gold: Value, answer: Value) -> bool:
    """Whether two constants were given different names; y = x + 1 and f(x) = x + 1 may still be one."""
    if not gold.name or not answer.name or gold.name == answer.name:
        return False
    functions = isinstance(gold, Quantity) and isinstance(answer, Quantity) and grammar.symbols(gold.tree)
    return not functions or not {"y"} | {gold.name, answer.name} <= {"y"} | _calls(gold, answer)


def _calls(*values: Value) -> set[str]:
    """The names that are a function's: f(x)."""
    return {value.name for value in values if value.name.endswith(")")}


def _unfolded(value: Value) -> Value:
    """A value with a plus-minus sign as the list of its values."""
    if isinstance(value, Quantity) and grammar.has(value.tree, "plusminus", "minusplus"):
        items = tuple(replace(value, tree=tree, text="") for tree in evaluate.signed(value.tree))
        return Many(value.text, items=items, name=value.name)
    if isinstance(value, Many):
        items = []
        for item in map(_unfolded, value.items):
            items += item.items if isinstance(item, Many) and not item.braces else [item]
        return replace(value, items=tuple(items))
    return value


def _lists(gold: Many, answer: Many, stem: bool) -> Verdict:
    ours, theirs = list(answer.items), list(gold.items)
    if gold.braces and answer.braces:
        ours, theirs = _distinct(ours), _distinct(theirs)
    if len(ours) != len(theirs):
        return False, f"lists: {len(ours)} members and not {len(theirs)}"
    names = [item.name for item in theirs]
    named = len(set(names)) > 1 and not all(item.name for item in ours)
    words = any(isinstance(item, Text) and _WORD.search(item.text) for item in theirs)
    if named or words:
        return _ordered(theirs, ours, stem), "lists in order"
    for item in theirs:
        match = next((i for i, other in enumerate(ours) if same(item, other, stem)[0]), None)
        if match is None:
            return False, "lists: another member"
        ours.pop(match)
    return True, "lists"


def _by_name(value: Tuple | Many) -> list[Value]:
    """A point's coordinates, or what y = 2, x = 1 says of them; [] where the order of the names is not known.

    Neighbours in the alphabet have one order, whatever they are said in; m = 2, b = 3 does not tell which comes first.
    """
    if isinstance(value, Tuple):
        return list(value.items)
    items = sorted(value.items, key=lambda item: item.name)
    names = [item.name for item in items]
    neighbours = all(len(a) == len(b) == 1 and ord(b) - ord(a) == 1 for a, b in pairwise(names))
    known = neighbours or (all(names) and list(value.items) == items and len(set(names)) == len(names))
    return items if known else []


_AXES = [("symbol", rf"\hat{{{axis}}}") for axis in "ijk"]


def _vector(point: Tuple) -> tuple | None:
    r"""The tree of 3\hat{i} + 4\hat{j}, which (3, 4) stands for beside such a one."""
    if len(point.items) > len(_AXES) or not all(isinstance(item, Quantity) for item in point.items):
        return None
    return ("add", tuple(("mul", (item.tree, axis)) for item, axis in zip(point.items, _AXES, strict=False)))


def _to_the_minute(time: Colon) -> Colon:
    return replace(time, parts=(*time.parts, ("number", Fraction(0), False))) if len(time.parts) == 1 else time


def _distinct(items: list[Value]) -> list[Value]:
    found: list[Value] = []
    for item in items:
        if not any(same(item, other)[0] for other in found):
            found.append(item)
    return found


def _ordered(gold, answer, stem: bool) -> bool:
    return len(gold) == len(answer) and all(same(g, a, stem)[0] for g, a in zip(gold, answer, strict=True))


def _is_region(value: Value) -> bool:
    match value:
        case Tuple(opening=opening, closing=closing, items=items):
            ends = [item.tree for item in items if isinstance(item, Quantity)]
            return opening + closing != "()" or any(("constant", "inf") in grammar.nodes(tree) for tree in ends)
        case Relation(signs=signs):
            return "=" not in signs
    return isinstance(value, Joined | Reals)


def _digits(value: Based) -> str:
    return value.digits.lstrip("0") or "0"


# --- quantities


def _quantities(gold: Quantity, answer: Quantity, stem: bool) -> Verdict:
    rule = "named value" if gold.name or answer.name else "values"
    if not gold.name and answer.name in grammar.symbols(gold.tree):
        return False, "named: an equation and not a value"
    for theirs, ours, note in _in_one_unit(gold, answer):
        if theirs is None:
            return False, note
        if evaluate.same(theirs, ours, positive=stem):
            return True, f"{rule}{note}"
        if stem and precision.rounded(theirs, ours):
            return True, f"STEM: {rule} within the tolerance{note}"
    return False, f"{rule} differ"


def _is_part(tree: tuple) -> bool:
    """Whether a constant lies between 0 and 1."""
    found = evaluate.real(tree)
    return found is not None and 0 < found < 1


def _in_one_unit(gold: Quantity, answer: Quantity):
    """Pairs of trees that may be compared, and what was done to the units."""
    percent = [
        value.unit is units.PERCENT or (value.unit and value.unit.dimension == units.PERCENT.dimension)
        for value in (gold, answer)
    ]
    degree = [bool(value.unit and value.unit.dimension == units.DEGREE.dimension) for value in (gold, answer)]
    if gold.unit is None or answer.unit is None:
        if not (percent[1] and _is_part(gold.tree)):  # 0.28 may be 28 %, and so is not 0.28 %
            yield gold.tree, answer.tree, "" if gold.unit is answer.unit else ", a unit on one side"
        hundredth = ("number", Fraction(1, 100), False)
        if percent[1]:
            yield gold.tree, ("mul", (answer.tree, hundredth)), ", per cent"
        if percent[0]:
            yield ("mul", (gold.tree, hundredth)), answer.tree, ", per cent"
        radian = ("div", ("constant", "pi"), ("number", Fraction(180), False))
        if degree[1] and grammar.has(gold.tree, "constant"):
            yield gold.tree, ("mul", (answer.tree, radian)), ", degrees in radians"
        if degree[0] and grammar.has(answer.tree, "constant"):
            yield ("mul", (gold.tree, radian)), answer.tree, ", degrees in radians"
        return
    factor = units.same(gold.unit, answer.unit)
    if factor is False:
        yield None, None, f"another unit: {answer.unit} and not {gold.unit}"
    elif factor == 1:
        yield gold.tree, answer.tree, ", the same unit"
    else:  # in the unit of the answer, whose digits say how far it was rounded
        yield ("div", gold.tree, ("number", factor, False)), answer.tree, f", {gold.unit} in {answer.unit}"
