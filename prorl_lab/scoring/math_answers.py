r"""Math and STEM: is the last \boxed answer the reference's?  The doors; what is equal is told in `answers`.

    1. extract   the last \boxed{...} behind the thought; as many last ones as the reference has members; where "or" or
                 a comma joins several ("\boxed{7} or \boxed{8}"), all of them
    2. read      both texts into typed values (`answers.reader`)
    3. compare   by kind (`answers.compare`), which names the rule that decided

Nothing is evaluated as code, and no step needs more than milliseconds or a bounded number of digits, whatever the text.
"""

import re

from prorl_lab.scoring.extract import after_think, all_boxed, foreign_digits, joined_boxes, last_boxed

from .answers import compare, marks, precision, reader
from .answers.tokens import NotRead, canonical, tokenize
from .answers.values import Many, Text, Tuple, Value

MAX_ANSWER = 500  # characters; longer ones only serve to slow a reader down
STEM_TOLERANCE = float(precision.TOLERANCE)
_CHOICE = re.compile(r"[(\[]?\s*([A-J])\s*[)\]]?(?:\s*[.:)].*)?", re.DOTALL)
_SECOND_CHOICE = re.compile(r"[(\[]([A-J])[)\]]|\b([A-J])[.):]|^\W*([A-J])$|(?:or|and|,|/|&)\s*([A-J])(?![a-z])")
_LEAD = re.compile(r"^(?:the )?(?:correct |final )?(?:answer|option|choice)(?: is)?\s*[:=]?\s*", re.IGNORECASE)

Scored = tuple[float, str, str]  # score, status, the rule that decided


def score_math(response: str, reference: dict) -> Scored:
    r"""1 if the last \boxed answer after </think> equals `reference["answer"]`, else 0; a status; and the rule.

    A reference may be a list of alternatives, of which one must be met.

    >>> score_math(r"so \boxed{\frac{2}{4}}", {"answer": "0.5"})
    (1.0, 'ok', 'values')
    >>> score_math(r"so \boxed{r-R}", {"answer": "R-r"})
    (0.0, 'wrong', 'values differ')
    """
    return _score(response, reference, stem=False)


def score_stem(response: str, reference: dict) -> Scored:
    """As `score_math`, but symbols are positive, and decimals agree within `STEM_TOLERANCE`."""
    return _score(response, reference, stem=True)


def _score(response: str, reference: dict, stem: bool) -> Scored:
    answers = reference["answer"]
    golds = [gold_text(answer) for answer in (answers if isinstance(answers, list) else [answers])]
    text = after_think(response)
    found = all_boxed(text)
    boxes = [box for box in found if box] or found  # "put it in \boxed{}" is said and not meant
    if not boxes or not 0 < len(boxes[-1]) <= MAX_ANSWER:
        return 0.0, "format", "no box" if not boxes else "an empty box" if not boxes[-1] else "a box too long"
    if foreign_digits(boxes[-1]):
        return 0.0, "format", "digits of another script"
    if not any(golds):
        return 0.0, "error", "the reference is empty"
    joined, rule = joined_boxes(text), ""
    for gold in golds:
        right, rule = judge(gold, boxes, stem, joined)
        if right:
            return 1.0, "ok", rule
    return 0.0, "wrong", rule


def gold_text(answer: object) -> str:
    r"""The reference's answer without the boxes or dollars that some data puts around it; several boxes are a list."""
    text = str(answer).strip()
    boxes = list(dict.fromkeys(box for box in all_boxed(text) if box))
    return ", ".join(boxes) if boxes else text


def judge(gold: str, boxes: list[str], stem: bool, joined: int = 1) -> tuple[bool, str]:
    """Whether the last box is right, or the last ones where the reference has several members; and the rule.

    The last `joined` boxes are one answer: each of them is right, or together they are the members.
    """
    if letter := choice(gold):
        return all(choice(box) == letter for box in boxes[-joined:]), "choice"
    expected = reader.read(gold, gold=True, stem=stem)
    verdicts = [compare.same(expected, reader.read(box, stem=stem), stem) for box in boxes[-joined:]]
    right, rule = next((verdict for verdict in verdicts if not verdict[0]), verdicts[-1])
    members = len(expected.items) if isinstance(expected, Many | Tuple) else 1
    if not right and joined <= members <= len(boxes) and members > 1:
        text = ", ".join(boxes[-members:])
        if len(text) <= MAX_ANSWER and not foreign_digits(text):
            several, last = compare.same(expected, reader.read(text, stem=stem), stem)
            if several:
                return True, f"{last} (several boxes)"
    return right, rule


def choice(text: str) -> str | None:
    r"""The letter of a multiple-choice answer: C, (C), [C], \text{C}, "C. 5 m", "Answer: C"; None if it names two.

    >>> choice(r"\textbf{(C)}\ 5"), choice("C. 5 m"), choice("(A) or (B)"), choice("CD")
    ('C', 'C', None, None)
    """
    try:
        plain = _LEAD.sub("", canonical(marks.stripped(tokenize(marks.bare(text))))).strip()
    except NotRead:
        return None
    found = _CHOICE.fullmatch(re.sub(r"^\(\s*([A-J])\s*\)\s*(?=[^\s.:)])", r"\1. ", plain))
    if not found:
        return None
    others = {letter for match in _SECOND_CHOICE.findall(plain[found.end(1) :]) for letter in match if letter}
    return found[1] if others <= {found[1]} else None


def explain(gold: str, answer: str, stem: bool = False) -> dict[str, str]:
    """What `python -m prorl_scale.rewards check` prints: the value read from each side, the rule and the verdict."""
    score, status, rule = _score(answer if "\\boxed" in answer else f"\\boxed{{{answer}}}", {"answer": gold}, stem)
    ours = last_boxed(answer) or answer
    return {
        "reference": _shown(gold_text(gold), True, stem),
        "answer": _shown(ours, False, stem),
        "rule": rule,
        "verdict": f"{score:g} ({status})",
    }


def _shown(text: str, gold: bool, stem: bool) -> str:
    value: Value = reader.read(text, gold=gold, stem=stem)
    letter = choice(text)
    if letter:
        return f"choice: {letter}"
    return f"text: {value.text!r} ({value.why})" if isinstance(value, Text) else str(value)
