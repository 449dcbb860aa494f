r"""Which rows a program can't judge, or that teach the wrong thing: one readable predicate for each reason.

A verifier compares an answer with a reference, or a program's output with an expected one.  Where a problem has several
right answers, where the reference answers only half of it, or where what it asks about is missing, that comparison
pays for luck.  `reason` names what is wrong with a row.  `prorl_scale.data prepare` drops and counts such a row, a run
on a `.jsonl` refuses it or leaves it out (`--skip-bad-rows`), and both keep it with `--keep`.

Every predicate reads words, so each misses some and is wrong about some: counts on rows labelled by hand are in
`results/2026-11-28-rows/`.  Where a pattern could go either way, it lets the row pass: a lost good row is lost for
certain, a kept bad one wastes a group now and then.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from prorl_lab.errors import UserError
from prorl_lab.scoring.extract import last_boxed
from prorl_lab.split import plain


@dataclass(frozen=True)
class Task:
    """What is judged: the question as it came, and the reference that the verifier will take."""

    domain: str
    question: str
    reference: dict[str, Any]


def reason(task: Task, keep: Collection[str] = ()) -> str | None:
    """The first reason to drop a row, those in `keep` left out; None for a row that can be judged."""
    asked = (name for name, (domains, _) in REASONS.items() if task.domain in domains and name not in keep)
    return next((name for name in asked if REASONS[name][1](task)), None)


def notes(task: Task) -> list[str]:
    """What is worth counting in rows that are kept."""
    return [name for name, holds in NOTES.items() if holds(task)]


def check_keep(keep: Collection[str]) -> None:
    """Raise UserError where --keep names what is no reason."""
    if unknown := sorted(set(keep) - set(REASONS)):
        raise UserError(f"--keep {', '.join(unknown)}: choose from {', '.join(map(repr, REASONS))}")


# --- text


def _any(*patterns: str) -> re.Pattern:
    """Any of these, whatever the case; a space in them stands for white space of any kind."""
    return re.compile("|".join(pattern.replace(" ", r"\s+") for pattern in patterns), re.IGNORECASE)


class _Rare:
    """A pattern that is tried only on texts that hold one of its key words, in lower case: most hold none."""

    def __init__(self, words: str, *patterns: str):
        self.words, self.pattern = words.split(), _any(*patterns)

    def may(self, text: str) -> bool:
        low = text.lower()
        return any(word in low for word in self.words)

    def search(self, text: str) -> re.Match | None:
        return self.pattern.search(text) if self.may(text) else None


_DRAWING = re.compile(
    r"\[asy\].*?(?:\[/asy\]|$)|\\begin\{(tikzpicture|asy|picture|pspicture)\}.*?\\end\{\1\}", re.DOTALL
)
_IMAGE = _Rare(
    "<im ![ includegraphics [im [pic",
    r"<(?:image|img)\b",
    r"!\[[^\]]*\]\(",
    r"\\includegraphics",
    r"\[(?:image|img|picture)[\]:\s]",
)
_TABLE = _any(r"\\begin\{(?:tabular|array|table|[a-z]?matrix)\}", r"\n\s*\|.*\|.*\n", r"\n[^\n]*\t[^\n]*\n", r"<table")
_ORDER = (
    "find|determine|compute|calculate|evaluate|estimate|solve|express|give|simplify|obtain|derive|write|state|count|"
    "predict|convert|deduce|identify"
)
_ASK = f"{_ORDER}|what|which|how|when|where|who|name|use|list"


def without_drawings(text: str) -> str:
    """A question without drawings in code, whose labels look like options and parts."""
    return _DRAWING.sub(" ", text) if "[asy]" in text or "\\begin{" in text else text


_TEXT = r"\\(?:text\w*|mathrm|mbox|operatorname)\s*\{([^{}]*)\}"
_SHORT = re.compile(r"is|no|of|to|in|at|on|an|or|if|it|be|by|as|do|we|so|he", re.IGNORECASE)


def words_of(latex: str) -> list[str]:
    r"""The words of an answer: those in \text, and beside it those that no product of letters looks like.

    >>> words_of(r"\text{none of them}"), words_of(r"5\frac{x}{2}\text{ miles}"), words_of("-(ab + bc)")
    (['none', 'of', 'them'], ['miles'], [])
    """
    beside = re.sub(rf"{_TEXT}|\\(?:begin|end)\{{[a-z*]+\}}|\\[A-Za-z]+", " ", latex)
    bare = [word for word in re.findall(r"[A-Za-z][a-z']+", beside) if len(word) > 2 or _SHORT.fullmatch(word)]
    return re.findall(r"[A-Za-z][a-z']+", " ".join(re.findall(_TEXT, latex))) + bare


# --- the answer


def answers(task: Task) -> list[str]:
    """The accepted answers of a mathematics or STEM reference."""
    found = task.reference["answer"]
    return found if isinstance(found, list) else [found]


_NO_ANSWER = re.compile(
    r"(?:see|refer to|as (?:in|above|shown))\b.*|"
    r"(?:the |this )?(?:solution|answer|proof)\b.*\b(?:above|below|omitted|without|not|left|follows)\b.*|"
    r"no (?:final |numerical )?answer.*|"
    r"(?:answers? )?(?:may |will )?var(?:y|ies)\.?|"
    r"not (?:given|provided|available|specified|applicable)\b.*|"
    r"proof\.?|proved|q\.?e\.?d\.?|omitted|unknown|[-?.…\s]+",
    re.IGNORECASE | re.DOTALL,
)
_NUMBER = re.compile(r"[\s$]*[-+]?[0-9][0-9.,]*[\s$]*")  # what most answers are; no predicate on words need look at it


def no_answer(answer: str) -> bool:
    """Whether the text says where the answer is, or that there is none, instead of giving it.

    >>> no_answer("See the solution above."), no_answer("?"), no_answer("42"), no_answer("no")
    (True, True, False, False)
    """
    bare = re.sub(r"\\(?:text\w*|mathrm|mbox)\b|[{}$]", "", answer).strip()
    return _NO_ANSWER.fullmatch(bare) is not None


def _answer_missing(task: Task) -> bool:
    return any(not _NUMBER.fullmatch(answer) and no_answer(answer) for answer in answers(task))


_SENTENCE = _any(  # beside one of these, a single other word makes a sentence
    r"\b(?:is|are|was|were|ha[sd]|have|do|does|did|can|cannot|could|will|would|must|should|may|loses?|wins?|exists?|holds?|"
    r"contains?|follows?|never|always|because|since|if|then|there|such|that|which|whose|who|none|any|every|all|both)\b"
)


def is_prose(answer: str) -> bool:
    r"""Whether an answer is a sentence: no spelling of it can be told apart from a wrong one.

    A word or a name is compared as it is; a number may have the words of its unit behind it.

    >>> is_prose("Side 0 loses"), is_prose(r"{\text{none of them}}"), is_prose("25 is not reached by any n")
    (True, True, True)
    >>> is_prose(r"\text{ellipse}"), is_prose("Red, Tall Oak"), is_prose(r"20 \text{ sq units}"), is_prose("x=2 or 3")
    (False, False, False, False)
    """
    for part in re.split(r"[,;&]|\\\\|\bor\b|\band\b", re.sub(r"\\(?:begin|end)\{[a-z*]+\}", " ", answer)):
        words = words_of(part)
        value_first = re.match(r"[\s${(\\,~]*(?:text\{\s*)?[-+]?(?:[0-9]|[dt]?frac|sqrt|pi)", part)
        if len(words) >= (5 if value_first else 3) or (len(words) >= 2 and _SENTENCE.search(" ".join(words))):
            return True
    return False


def _answer_is_prose(task: Task) -> bool:
    return any(not _NUMBER.fullmatch(answer) and is_prose(answer) for answer in answers(task))


# --- options

_STYLE = r"\\(?:text(?:bf)?|mathrm|mathbf|bf|rm)\b"
_LABEL = re.compile(
    rf"(?:(?<![A-Za-z0-9\\_])|(?={_STYLE}))(?:{_STYLE}\s*\{{?\s*)*\(?\b([A-Ja-j])\s*\}}?[).:]\s*\}}*(?=[\s\\$~}}])"
)
_LAST_LABEL = re.compile(r"[Cc]\s*\}?[).:]")  # without an option C there are none, and most questions have none
_LETTER = re.compile(r"\$?\(?(?:\\(?:text(?:bf)?|mathrm|mathbf)\{)?\(?([A-J])\)?\.?\}?\)?\$?")


def options(question: str) -> dict[str, str]:
    r"""The options that a question lists, text by letter; none if it lists fewer than three.

    >>> options(r"What is $3+4$? $\textbf{(A)}\ 5\qquad\textbf{(B)}\ 6\qquad\textbf{(C)}\ 7$")
    {'A': '\\ 5\\qquad', 'B': '\\ 6\\qquad', 'C': '\\ 7$'}
    >>> options("Is P(A) > P(B) > P(C)?")
    {}
    """
    text = without_drawings(question)
    labels = list(_LABEL.finditer(text)) if _LAST_LABEL.search(text) else []
    for start in "Aa":
        run: list[re.Match] = []
        for label in labels:
            if label[1] == chr(ord(start) + len(run)):
                run.append(label)
        if len(run) >= 3:
            ends = [label.start() for label in run[1:]] + [len(text)]
            return {label[1].upper(): text[label.end() : end] for label, end in zip(run, ends, strict=True)}
    return {}


def letter(answer: str) -> str | None:
    r"""The letter that an answer consists of.

    >>> letter("C"), letter(r"\textbf{(B)}"), letter("AB")
    ('C', 'B', None)
    """
    match = _LETTER.fullmatch(answer.strip())
    return match[1] if match else None


def wants_letter(task: Task) -> bool:
    """Whether the reference is the letter of an option, or letters."""
    found = [part for answer in answers(task) for part in re.split(r",|\\text|[{}]", answer) if part.strip(" $")]
    if not found or not all(letter(part) for part in found):
        return False
    return task.domain == "stem" or bool(options(task.question))


def wants_option(task: Task) -> bool:
    """Whether the reference is what one of the listed options says."""
    if not (found := options(task.question)):
        return False
    listed = [re.sub(r"\\q?quad|\\\\", "", plain(text)) for text in found.values()]
    return any(plain(answer) and plain(answer) in text for answer in answers(task) for text in listed)


BOXED = "Let's think step by step and output the final answer within \\boxed{}."
LETTER = "Let's think step by step and output the letter of the right option within \\boxed{}."
VALUE = "Let's think step by step and output the right option itself, not its letter, within \\boxed{}."


def form_of_answer(task: Task) -> str:
    """The sentence behind a question of mathematics or STEM, which says what goes into the box.

    Where options are listed, the letter and the value can't both be right: only the reference's form scores.
    """
    if wants_letter(task):
        return LETTER
    return VALUE if wants_option(task) else BOXED


# --- the question: mathematics and STEM


_SOLUTION = re.compile(r"\n\W*(?:solution|answer)\W*[0-9]?\W*[:.\n](.*)", re.IGNORECASE | re.DOTALL)


def _box_in_the_problem(task: Task) -> bool:
    """A box that holds something: the solution has slipped into the problem.  An empty one shows where to answer.

    Or a heading "Solution:" with the reference behind it.
    """
    told = _SOLUTION.search(task.question)
    content = last_boxed(task.question)
    if told and any(re.search(rf"(?<![\w.]){re.escape(answer)}(?![\w.]*\w)", told[1]) for answer in answers(task)):
        return True
    content = re.sub(r"\\h?phantom\{[^{}]*\}|\\(?:text|q?quad|hspace)", "", content or "")
    return bool(re.search(r"[0-9]|\\frac|\\sqrt|[A-Za-z]{2}", content))


_PICTURE = (
    "(?:figures?|diagrams?|pictures?|graphs?|images?|illustrations?|sketch|maps?|circuits?|drawings?|grids?|charts?|"
    "photos?)"
)
_FIGURE = _Rare(
    "fig diagram picture graph image illustration sketch map circuit drawing grid chart photo shown accompanying "
    "adjoining attached depicted drawn",
    r"\bfig(?:ures?|s?\.)?[\s~(]*[0-9]+",
    r"\b(?:in|from|on|see|by|using|consider|per|refer to|look at) (?:the|this|these|our) (?:\w+ ){0,2}?"
    r"(?:figures?|diagrams?|sketch)\b",
    rf"\b(?:following|according to the) {_PICTURE}\b(?! of)",
    r"\b(?:in|from|see) figures?\b(?! (?:skat|eight|of))",  # whose number was lost
    rf"\b{_PICTURE},? (?:(?:is|are|as|given|drawn|depicted|pictured) )*"
    r"(?:shown|shows|below|above|provided|depicted|attached|(?:at|to|on) (?:the )?(?:right|left))\b",
    r"\b(?:shown|pictured|depicted|illustrated|drawn|sketched|indicated|labell?ed) (?:in|on) the "
    rf"(?:\w+ )?{_PICTURE}\b",
    r"\bgraphs? of [^.?]{0,80}\b(?:is|are) shown\b|\bas (?:shown|pictured|drawn|depicted) (?:below|above)\b",
    r"\bthe (?:accompanying|adjoining|attached) \w+",
    r"\b(?:pictured|depicted) (?:below|above|here)\b",
)

_ASIDE = _any(r"\((?:fig(?:ure)?s?\.?|eqs?\.?|equations?)[\s~]*\(?[0-9][0-9.\-–]*[a-z]?\)?(?: on page [0-9]+)?\)")


_AS_SHOWN = _Rare(  # without a comma before it: behind one, all is mostly told; "as shown:" shows something
    "shown pictured depicted illustrated drawn sketched",
    r"(?<![,\s]) as (?:shown|pictured|depicted|illustrated|drawn|sketched)\b(?! (?:in|by|below|above)\b|\s*:)",
    r"\bthe (?!reactions? |equations? |formulas? |structures? |data |values? |numbers? )\w+ shown\b"
    r"(?! (?:in|on|by) (?:the|a|an|figs?|figures?|tables?|eqs?|equations?)\b|\s*:)",
)
_POINT = re.compile(r"\b(?:at|to|from|between|and)\s+points?\s+([A-Z])\b")
_PLACE_TOLD = _any(  # what a figure would tell: a length, an angle, a place
    r"\b(?:radi(?:us|i)|diameter|distances?|heights?|high|tall|lengths?|long|wide|width|depth|deep|thick(?:ness)?|sides?|"
    r"apart|separat\w+|away|angles?|degrees?|cent(?:er|re)s?|mid(?:way|point)|coordinates?|origin|axis|opposite)\b",
    r"[0-9]\$?(?:[~{\s]|\\[,;:\s]|\\(?:mathrm|text|rm)\b)*(?:[mckn]?m|ft|feet|inch(?:es)?|miles?)\b(?!\s*(?:/|per\b))",
    r"°|\^\s*\{?\s*\\circ",
)


def _place_missing(question: str) -> bool:
    """Whether something is "as shown", or points have names, and no word says where anything is.

    A question that gives four values mostly gives all, and points whose values are told need no place.
    """
    values, points = set(re.findall(r"[0-9][0-9.,]*", question)), set(_POINT.findall(question))
    named = len(points) > len(values) and "$" not in question
    if not named and not (len(values) < 4 and _AS_SHOWN.search(question)):
        return False
    return not _PLACE_TOLD.search(question)


def _refers_to_a_figure(task: Task) -> bool:
    """A figure that is named and not there, or in STEM one that must have been there.

    A drawing in code, or a table, may be what is meant; what stands in brackets, "(Fig. 5.8)", is said in words too.
    """
    named = _FIGURE.may(task.question) and _FIGURE.search(_ASIDE.sub(" ", task.question))
    if not named and not _IMAGE.search(task.question) and not (task.domain == "stem" and _place_missing(task.question)):
        return False
    numbered = re.search(r"\bfig(?:ure|\.)?\s*[0-9]", task.question, re.IGNORECASE)
    return not _DRAWING.search(task.question) and (bool(numbered) or not _TABLE.search(task.question))


_NUMBERED = (
    r"(?:exercises?|problems?|examples?|questions?|sections?|chapters?|appendix|equations?|eqs?\.|theorems?|lemmas?|"
    r"tables?)"
)
_ELSEWHERE = _Rare(
    "exercise problem example question section chapter appendix eq theorem lemma table",
    rf"\b(?:repeat|see|in|of|from|by|use|using|with|to|and|for|do|consider|redo|solve|under|per) {_NUMBERED}"
    r"[\s~]*\(?[0-9]+(?:[.\-–][0-9]+)*[a-z]?\)?",
    r"\b(?:exercise|problem|eqs?\.?|equations?|table)[\s~]*\(?[0-9]+[.\-–][0-9]+",
    r"\b(?:previous|preceding|foregoing|earlier|last|above) (?:exercise|problem|question|example|section)s?\b",
    r"\b(?:exercise|problem|example|question) (?:above|before)\b",
)
_HEADING = _any(r"\A\W*(?:exercise|problem|example|question)\W*[0-9][0-9.\-a-z]*[.:)\s]", r"\bfor example\b")


def _refers_elsewhere(task: Task) -> bool:
    """Another exercise, a numbered equation or table of the book that the question was cut from."""
    if not _ELSEWHERE.search(task.question):
        return False
    question = _ASIDE.sub(" ", _HEADING.sub("", task.question))
    shown = bool(_TABLE.search(question))
    return any(not (shown and "table" in match[0].lower()) for match in _ELSEWHERE.pattern.finditer(question))


_BEGIN = r"(?:\A|[.;:,)\n?]\s*|\bto |\band |\bthen |\bplease )"
_TOLD_TO_SHOW = _Rare(
    "prove show demonstrate justify explain describe discuss sketch draw plot",
    rf"{_BEGIN}(?:prove|show|demonstrate|justify|explain|describe|discuss|sketch|draw|plot)\b",
)
_ASKED = _any(rf"{_BEGIN}(?:{_ASK})\b(?! that)", r"\?", r"\b(?:what|how (?:many|much))\b")


def _asks_for_a_proof(task: Task) -> bool:
    """A proof or an explanation, and nothing else that has a value."""
    if not _TOLD_TO_SHOW.search(task.question):
        return False
    question = without_drawings(task.question)
    return bool(_TOLD_TO_SHOW.search(question)) and not _ASKED.search(question)


_MARKS = [  # how parts are numbered: from the first on, in order; (a) behind a letter is f(a)
    [re.compile(mark, re.IGNORECASE) for mark in marks]
    for marks in (
        [rf"(?<![\w}}])\({letter}\)" for letter in "abcdef"],
        [rf"(?<![\w}}])\({number}\)" for number in ("i", "ii", "iii", "iv", "v")],
        [rf"(?<![\w}}])\({number}\)" for number in "12345"],
        [rf"(?:^|\n|\s)\(?{letter}[.)]\s" for letter in "abcdef"],
        [rf"(?:^|\n)\s*\(?{number}[.)]\s" for number in ("1", "2", "3", "4")],
        [rf"\bpart\s+\(?{letter}\b" for letter in "abcd"],
    )
]
_SECOND_MARK = _Rare("b) b. ii) ii. 2) 2. part", r"\b(?:b|ii|2)[).]", r"\bpart\s")  # without it there are no parts
_CONDITIONS = _any(
    r"\b(?:conditions?|propert(?:y|ies)|such that|satisf\w+|true that|given|statements?|rules?|if|with|where|whose)\b"
)
_ASK_BEFORE = _any(rf"\b(?:{_ORDER}|what (?:is|are)|how (?:many|much|far|long|fast))\b(?P<what>[^?]{{0,90}})$")
_TWO_QUESTIONS = _any(
    r"\b(?:what|how|which|where|when)\b[^?.]*\? "
    r"(?:and |also, )?(?:what|how|which|where|does|do|is|are|will|why) [^?]*\?"
)
_FOR_EACH = _any(r"\bfor each (?:of )?(?:the )?(?:following )?[^?]{0,120}$")
_ASK_WITHIN = _any(
    r"\?",
    rf"(?:\A\W*|[.;,:] )(?:if [^.]*, |now |then |hence |and |also )?(?:{_ORDER}|prove|show|sketch|draw|explain|plot)\b",
)


def _several_parts(task: Task) -> bool:
    """Several things are asked, and the reference answers one of them.

    Conditions may be numbered too, and options: so two of the parts must ask, or what stands before the first must.
    """
    marked = _SECOND_MARK.search(task.question)
    if not marked and task.domain != "stem":
        return False
    if wants_letter(task) or any(re.search(r"[,;]|\band\b|\(b\)|\(2\)|\(ii\)", answer) for answer in answers(task)):
        return False
    question = without_drawings(task.question)
    unmarked = task.domain == "stem" and _TWO_QUESTIONS.search(question) and not options(question)
    return bool(unmarked) or (bool(marked) and any(_asks_in_parts(question, marks) for marks in _MARKS))


def _asks_in_parts(question: str, marks: list[re.Pattern]) -> bool:
    places: list[re.Match] = []
    for mark in marks:
        match = mark.search(question, places[-1].end() if places else 0)
        if match is None:
            break
        places.append(match)
    if len(places) < 2:
        return False
    before = _ASK_BEFORE.search(re.split(r"[.?!]\s", question[: places[0].start()])[-1])
    if before and not _CONDITIONS.search(before["what"]):
        at_once = len(before["what"].strip()) <= 12  # Calculate (a) the mass, (b) the volume
        if at_once or not options(question):
            return True
    if _FOR_EACH.search(question[: places[0].start()]) and not options(question):
        return True
    ends = [match.start() for match in places[1:]] + [len(question)]
    parts = [question[match.end() : end] for match, end in zip(places, ends, strict=True)]
    return sum(bool(_ASK_WITHIN.search(part)) for part in parts) >= 2


# --- the question: code

_TELL = r"(?:print|output|return|find|write|give|report|choose|construct|display|produce)(?:ed|s)?"
_MANY = r"(?:several|multiple|many|more than one|different|various)"
_TAKEN = r"(?:accepted|acceptable|allowed|fine|considered|correct|valid|ok(?:ay)?|printed|output|returned)"
_SEVERAL_OUTPUTS = _any(
    rf"(?<!n't\s)(?<!not\s)\b{_TELL} (?:out )?(?:(?:the|one|them|it) )?any(?:one)?\b"
    r"(?! (?:extra|additional|other|more|prompt|debug|text|spaces?|trailing|leading|message|further|result|case)\b)",
    rf"\bany (?:one )?of (?:them|these|those|the) [^.]{{0,60}}\b{_TAKEN}\b",
    rf"\bany (?:(?:valid|correct|possible|suitable|optimal|such|appropriate) )*"
    r"(?:answer|solution|output|order|permutation|sequence|arrangement|one)s? (?:(?:that|which|with) [^.]{0,60} )?"
    rf"(?:(?:is|are|will|would|can|may|be|judged|as) )*{_TAKEN}\b",
    rf"\b{_TELL}\b[^.]{{0,60}}\bin (?:any|arbitrary) order\b",
    r"\border (?:of [^.]{1,30} )?(?:does not|doesn't) matter\b",
    rf"\b{_MANY} (?:\w+ ){{0,3}}(?:answers|solutions|outputs|ways|options|possibilities|variants)\b[^.]{{0,80}}\bany\b",
    rf"\bif (?:there (?:is|are|exists?) )?{_MANY}\b[^.]{{0,120}}[,.] (?:you (?:can|may|should) )?(?:{_TELL} )?"
    r"[^.]{0,25}\b(?:any|(?:an )?arbitrary|one of (?:them|these|those)|either)\b",
    r"\bspecial (?:judge|checker)\b",
)
_INTERACTIVE = _any(
    r"\binteractive (?:problem|task|question|mode|judge|protocol)|\bis interactive\b|\binteractor\b",
    r"\binteraction protocol|\bfflush\s*\(|\bstdout\.flush|\bflush after\b",
    r"\bflush(?:ed|ing)? (?:(?:the|your|standard) )*(?:output|stdout|stream|buffer)",
    r"\bcommunicat\w+ with (?:the |our )?(?:judge|jury|grader|interactor)",
    r"\b(?:ask|make|use) (?:at most|no more than|up to) \S+ (?:queries|questions)\b",
)
_FUNCTION = _any(
    r"\b(?:do not|don['’]?t) (?:need|have) to (?:read|take)(?: any| the)? (?:input|stdin)",
    r"\bcomplete the (?:\w+ )?(?:function|method)\b",
    r"\b(?:your task is|you (?:only |just )?(?:need|have)) to (?:complete|implement|write) (?:the |a |this )?"
    r"(?:function|method)\b",
    r"\bclass Solution\b",
)
_STANDARD = _any(r"\bfrom (?:the )?(?:standard input|stdin)\b", r"\bto (?:the )?(?:standard output|stdout)\b")


def _several_outputs(task: Task) -> bool:
    """The statement accepts more than one output, and the tests hold one."""
    return bool(_SEVERAL_OUTPUTS.search(" ".join(task.question.split())))  # so that the look-behinds see one space


def _interactive(task: Task) -> bool:
    """The program would have to talk with a judge."""
    return bool(_INTERACTIVE.search(task.question))


def _form_mismatch(task: Task) -> bool:
    """The statement asks for a function and the tests feed standard input, or the reverse."""
    if "asserts" in task.reference:
        return False
    function, standard = _FUNCTION.search(task.question), _STANDARD.search(task.question)
    return bool(standard and not function) if "fn_name" in task.reference else bool(function)


def _cut_off(task: Task) -> bool:
    """A test that ends in three dots: whoever published it cut it short."""
    return any(cut_off(text) for text in [*_texts(task, "inputs"), *_texts(task, "outputs")])


def cut_off(text: str) -> bool:
    r"""Whether a test was cut short.  In a grid, dots are cells.

    >>> cut_off("3\n1 2 3\n4 5..."), cut_off("2\n0\n..."), cut_off("2 3\n#..\n..."), cut_off("0.5")
    (True, True, False, False)
    """
    text = re.sub(r"\s*[(\[](?:truncated|omitted|cut)[)\]]$", "...", text.rstrip()).replace("…", "...")
    if not text.endswith("...") or text.endswith("...."):
        return False
    number = re.compile(r"[-+]?[0-9]*\.[0-9]+(?:e[-+]?[0-9]+)?", re.IGNORECASE)
    return not any("." in word and not number.fullmatch(word) for word in text.removesuffix("...").split())


def _texts(task: Task, key: str) -> Iterator[str]:
    return (text for text in task.reference.get(key, ()) if isinstance(text, str))


def _shown_test(task: Task) -> bool:
    """One test, which the statement shows: a program that prints its output and reads nothing earns everything."""
    outputs = task.reference.get("outputs", ())
    if len(outputs) != 1 or "fn_name" in task.reference:
        return False
    shown = " ".join(task.question.split())
    test = [" ".join(str(task.reference[key][0]).split()) for key in ("inputs", "outputs")]
    return all(text and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", shown) for text in test)


# --- the table

_ANSWERED, _CODE = ("math", "stem"), ("code",)
REASONS: dict[str, tuple[tuple[str, ...], Callable[[Task], bool]]] = {  # the domains it is asked in, and the predicate
    "answer missing": (_ANSWERED, _answer_missing),
    "answer is prose": (_ANSWERED, _answer_is_prose),
    "box in the problem": (_ANSWERED, _box_in_the_problem),
    "refers to a figure": (_ANSWERED, _refers_to_a_figure),
    "refers to another exercise": (_ANSWERED, _refers_elsewhere),
    "asks for a proof": (_ANSWERED, _asks_for_a_proof),
    "several parts": (_ANSWERED, _several_parts),
    "interactive": (_CODE, _interactive),
    "several outputs": (_CODE, _several_outputs),
    "form mismatch": (_CODE, _form_mismatch),
    "cut off": (_CODE, _cut_off),
    "only a shown test": (_CODE, _shown_test),
}
NOTES: dict[str, Callable[[Task], bool]] = {
    "drawing in code": lambda task: without_drawings(task.question) != task.question,
    "image missing": lambda task: bool(_IMAGE.search(task.question)),
    "options, value wanted": lambda task: task.domain in _ANSWERED and not wants_letter(task) and wants_option(task),
    "one test": lambda task: len(task.reference.get("outputs") or task.reference.get("asserts") or ()) == 1,
}
