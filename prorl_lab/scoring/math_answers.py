r"""Math and STEM: is the last \boxed answer the reference's?

Accepted by either of two checks, as in the paper: our own, in the manner of DeepScaleR (normalise both texts, compare
them, else compare what they are worth), or math-verify.  Runs in a worker: math-verify's own alarm is off, because it
can't interrupt one long operation on large integers and would report a timeout as a wrong answer.
"""

import functools
import re
from collections.abc import Callable

import sympy
from math_verify import parse, verify

from prorl_lab.scoring.extract import after_think, foreign_digits, last_boxed

from . import expressions

MAX_ANSWER = 500  # characters; longer ones only serve to slow a parser down
_NAMES = frozenset("abcdefghijklmnopqrstuvwxyz") | {"pi"}
_FUNCTIONS = frozenset({"sqrt"})
_CHOICE = re.compile(r"\(?([A-J])\)?(?:[.:)].*)?", re.DOTALL)
_DECIMAL = re.compile(r"[+-]?[0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?")
STEM_TOLERANCE = 1e-2  # relative, between decimals: STEM references are rounded results


def _any_alternative(scorer: Callable[[str, dict], tuple[float, str]]) -> Callable[[str, dict], tuple[float, str]]:
    """A reference may list accepted spellings of its answer: the best verdict of any of them counts."""

    @functools.wraps(scorer)
    def score(response: str, reference: dict) -> tuple[float, str]:
        answers = reference["answer"] if isinstance(reference["answer"], list) else [reference["answer"]]
        return max((scorer(response, {**reference, "answer": answer}) for answer in answers), key=lambda pair: pair[0])

    return score


@_any_alternative
def score_math(response: str, reference: dict) -> tuple[float, str]:
    r"""1 if the last \boxed answer after </think> equals `reference["answer"]`, else 0; and a status."""
    answer = _boxed(response)
    if answer is None:
        return 0.0, "format"
    return _verdict(same_answer(answer, gold(reference)))


@_any_alternative
def score_stem(response: str, reference: dict) -> tuple[float, str]:
    """As `score_math`, but a reference of one letter is a choice, and decimals agree within `STEM_TOLERANCE`."""
    answer, expected = _boxed(response), gold(reference)
    if answer is None:
        return 0.0, "format"
    if choice := _choice(expected):
        return _verdict(_choice(answer) == choice)
    return _verdict(_close(answer, expected) or same_answer(_scientific(answer), _scientific(expected)))


def gold(reference: dict) -> str:
    """The reference's answer without the box or the dollars that some data puts around it."""
    answer = str(reference["answer"]).strip()
    return (last_boxed(answer) or answer).strip("$ ")


def _boxed(response: str) -> str | None:
    answer = last_boxed(after_think(response))
    return None if not answer or len(answer) > MAX_ANSWER or foreign_digits(answer) else answer


def _verdict(right: bool) -> tuple[float, str]:
    return (1.0, "ok") if right else (0.0, "wrong")


def same_answer(answer: str, expected: str) -> bool:
    """Whether two LaTeX answers say the same.  The order matters: math-verify is not symmetric."""
    ours, theirs = normalise(answer), normalise(expected)
    if not theirs:
        return False
    if ours == theirs or _same_parts(ours, theirs):
        return True
    return verify(_parsed_gold(expected), _parsed(answer), timeout_seconds=None)


@functools.lru_cache(maxsize=4096)
def _parsed_gold(text: str) -> list:
    return _parsed(text)


def _parsed(text: str) -> list:
    # Without a box around it, a fifth of MATH's references are lost on the parser.
    return parse(f"\\boxed{{{text}}}", parsing_timeout=None)


# --- our own check


def normalise(text: str) -> str:
    r"""LaTeX without what does not change an answer: spaces, \left, units in \text, a leading `x =`, ...

    >>> normalise(r"x = \dfrac12\text{ cm}"), normalise(r"\$1,000"), normalise(r"50\%")
    ('\\frac{1}{2}', '1000', '50')
    """
    text = re.sub(r"\\(?:left|right|displaystyle|,|!|;|:|quad| )|~", "", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    whole = re.fullmatch(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}", text.strip())
    text = whole[1] if whole else re.sub(r"\\(?:text|mathrm|mbox)\{[^{}]*\}", "", text)
    text = re.sub(r"\^\{?\\circ\}?|\\?%|\\?\$|\s", "", text).rstrip(".")
    text = re.sub(r"^[A-Za-z]=", "", text)
    text = re.sub(r"\\frac([0-9])([0-9])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\sqrt([0-9a-z])", r"\\sqrt{\1}", text)
    return text.replace(",", "") if re.fullmatch(r"-?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?", text) else text


def _same_parts(ours: str, theirs: str) -> bool:
    """Whether two tuples, intervals or single values are worth the same, part by part and with the same brackets."""
    brackets = "()[]"
    if theirs[0] in brackets and theirs[-1] in brackets and "," in theirs:
        if not ours or ours[0] != theirs[0] or ours[-1] != theirs[-1]:
            return False
        ours, theirs = ours[1:-1], theirs[1:-1]
        pairs = list(zip(ours.split(","), theirs.split(","), strict=False))
        return ours.count(",") == theirs.count(",") and all(a == b or _same_worth(a, b) for a, b in pairs)
    return _same_worth(ours, theirs)


def _same_worth(ours: str, theirs: str) -> bool:
    try:
        difference = _to_sympy(ours) - _to_sympy(theirs)
    except expressions.NotAnExpression:
        return False
    return bool(sympy.simplify(difference) == 0)


@functools.lru_cache(maxsize=4096)
def _to_sympy(latex: str) -> sympy.Expr:
    r"""The value of fractions, roots, powers and sums in LaTeX.  Raises NotAnExpression for anything else."""
    text = latex
    for _ in range(10):  # from the inside out; deeper nesting is left to math-verify
        text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text)
    text = re.sub(r"\\(?:cdot|times)", "*", text).replace("\\pi", " pi ").replace("^", "**")
    text = re.sub(r"(?<=[0-9)])\s*(?=[a-z(])", "*", text)  # 2x, 3(x+1), 2 pi
    tree = expressions.parse(text, _NAMES, _FUNCTIONS)
    return _build(tree)


def _build(node: expressions.ast.expr) -> sympy.Expr:
    """A checked tree as sympy's own objects."""
    ast = expressions.ast
    match node:
        case ast.Constant(value=number):
            return sympy.Rational(str(number))
        case ast.Name(id="pi"):
            return sympy.pi
        case ast.Name(id=name):
            return sympy.Symbol(name)
        case ast.UnaryOp(op=sign, operand=operand):
            return -_build(operand) if isinstance(sign, ast.USub) else _build(operand)
        case ast.Call(args=[argument]):
            return sympy.sqrt(_build(argument))
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _build(left), _build(right)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
                case ast.Pow():
                    return a**b
    raise expressions.NotAnExpression(type(node).__name__)


# --- STEM


def _choice(text: str) -> str | None:
    r"""The letter of a multiple-choice answer: C, (C), \text{C}, "C. 5 m"."""
    found = _CHOICE.fullmatch(re.sub(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}", r"\1", text).strip())
    return found[1] if found else None


def _scientific(text: str) -> str:
    r"""8.7e8 as 8.7\times10^{8}, which math-verify reads."""
    return re.sub(r"([0-9])[eE]([+-]?[0-9]+)", r"\1\\times10^{\2}", text)


def _close(answer: str, expected: str) -> bool:
    """Whether both are numbers, one of them a decimal, and within the tolerance.  Integers must agree exactly."""
    ours, theirs = _number(answer), _number(expected)
    if ours is None or theirs is None or ("." not in expected and "e" not in _plain(expected)):
        return False
    return abs(ours - theirs) <= STEM_TOLERANCE * abs(theirs)


def _plain(text: str) -> str:
    return re.sub(r"(?:\\times|\\cdot)10\^\{?([+-]?[0-9]+)\}?", r"e\1", normalise(text)).lower()


def _number(text: str) -> float | None:
    plain = _plain(text)
    return float(plain) if _DECIMAL.fullmatch(plain) else None
