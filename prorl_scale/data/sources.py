"""The five sources: where each comes from, and how one of its records becomes a row, or why it does not.

The loading code is written to the sources' published schemas and tested on small files in them; the full sets have not
been seen here, so an unknown column is an error that names the columns there are and those expected.
"""

import ast
import builtins
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from prorl_lab import judge, rows
from prorl_lab.errors import UserError, first_line
from prorl_lab.puzzles import Puzzles
from prorl_lab.scoring.extract import after_think, last_boxed

from . import files

CODE = "Write Python code to solve the problem{form}. Present the code in \n```python\nYour code\n```\nat the end."
PROGRAM = ", as a program that reads standard input and prints to standard output"
FUNCTION = ", as a function {name} that is called and returns the result"
METHOD = ", as the method {name} of a class Solution, which is called and returns the result"
TAGGED = "Think step by step, then give the final answer between <answer> and </answer> tags."

TASKS = (Path(__file__).parent / "puzzle_tasks.txt").read_text(encoding="utf-8").split()  # the paper's 96
# SCP-116K changed its columns.  The first release's card names `matched_solution` and answers of o1-mini and QwQ with a
# verdict each; a set derived from a later one has `extract_solution` and `r1_response`.
SOLUTION_COLUMNS = ("matched_solution", "extracted_solution", "extract_solution")
RESPONSE_COLUMNS = ("r1_response", "r1_solution", "qwq_solution", "o1_solution")  # the paper's filter read R1's
DISAGREES = "answer disagrees with the solution"


class Dropped(Exception):
    """A record that becomes no row; its text is the reason, counted in the manifest."""


@dataclass(frozen=True)
class Check:
    """A response, and what it must score for the row to be kept: at least `low` and less than `below`."""

    response: str
    reason: str  # why the row is dropped where it does not
    low: float = 0.0
    below: float = 2.0


TAKEN = Check("", "the verifier does not take the reference")  # an empty answer shows whether the reference is one


@dataclass
class Row:
    """A training prompt.  `question` is what it asks, without the sentence that says how to answer."""

    id: str
    domain: str
    source: str
    question: str
    prompt: list[dict[str, str]]
    reference: dict[str, Any]
    meta: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """Where a domain's records come from, and the columns that they have."""

    domain: str
    name: str  # on the Hugging Face hub
    config: str | None = None
    split: str = "train"
    columns: str = ""


SOURCES = {
    "math": Source(
        "math", "agentica-org/DeepScaleR-Preview-Dataset", columns="question or problem, answer (and solution)"
    ),
    "code": Source("code", "PRIME-RL/Eurus-2-RL-Data", columns="data_source, ability, prompt, reward_model"),
    "stem": Source(
        "stem", "EricLu/SCP-116K",
        columns=f"question or problem; answer, or one of {' / '.join(SOLUTION_COLUMNS)} and one of "
        f"{' / '.join(RESPONSE_COLUMNS)}",
    ),
    "instruction": Source(
        "instruction", "nvidia/Llama-Nemotron-Post-Training-Dataset", "RL", "instruction_following",
        columns="input, args (instruction_id_list and instruction_kwargs)",
    ),
}  # fmt: skip


def records(source: Source, path: Path | None) -> Iterator[dict[str, Any]]:
    """The records of a source, from the hub or from files on disk (`files.read` says of which kinds).

    Raises UserError where they can't be had.
    """
    if path is not None:
        try:
            yield from files.read(path)
        except UserError as error:
            raise UserError(f"{error} (--source {source.domain}=PATH)") from error
        return
    try:
        yield from files.from_hub(source.name, source.config, source.split)
    except Exception as error:  # whatever datasets, the hub's client and the network raise, the way out is the same
        raise UserError(
            f"can't fetch {source.name} from the Hugging Face hub ({first_line(error.__cause__ or error)}): give "
            f"--source {source.domain}=PATH of files already on disk"
        ) from error


def row(domain: str, number: int, record: dict[str, Any], keep: Collection[str] = ()) -> Row:
    """The row of one record.

    keep: the reasons of `judge.REASONS` for which it is not dropped.  Raises Dropped, or UserError for a column that
    the schema promises and the file lacks.
    """
    make = {"math": _math, "code": _code, "stem": _stem, "instruction": _instruction}[domain]
    source = SOURCES[domain]
    try:
        question, reference, meta, checks = make(record)
    except KeyError as error:
        raise UserError(
            f"{source.name} has no column {error}: it has {', '.join(sorted(map(str, record)))}, and expected are "
            f"{source.columns}; give --source {domain}=PATH of a release with those, or mend "
            "prorl_scale/data/sources.py"
        ) from error
    if reason := judge.reason(judge.Task(domain, question, reference), keep):
        raise Dropped(reason)
    prompt = [{"role": "user", "content": ask(domain, question, reference)}]
    return Row(f"{domain}-{number:06d}", domain, source.name, question, prompt, reference, meta, checks)


def ask(domain: str, question: str, reference: dict[str, Any]) -> str:
    """The prompt of a question: what is asked, and once, in which form the answer is wanted.

    A value or a letter in a box, a program, a function by its name, an answer between tags; instructions say it all
    themselves.
    """
    if domain in ("math", "stem"):
        suffix = judge.form_of_answer(judge.Task(domain, question, reference))
    elif domain == "code":
        suffix = CODE.format(form=_code_form(question, reference))
    else:
        suffix = {"puzzle": TAGGED}.get(domain, "")
    return f"{question.strip()}\n{suffix}" if suffix else question


def _code_form(question: str, reference: dict[str, Any]) -> str:
    """What the tests do with the code.  HumanEval's and its kin show the head of the function in the question."""
    name = reference.get("fn_name")
    if name is None and "asserts" not in reference:
        return PROGRAM
    if name is None and ((name := _called(reference["asserts"])) is None or name in question):
        return ""
    return (METHOD if "class Solution" in question else FUNCTION).format(name=name)


def _called(asserts: list[str]) -> str | None:
    """The function that the first test calls, HumanEval's `check` aside."""
    try:
        tree = ast.parse(asserts[0])
    except (SyntaxError, ValueError):
        return None
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return next((name for name in called if name != "check" and not hasattr(builtins, name)), None)


def question(made: Row) -> str:
    """What a row asks, without the suffix that says how to answer."""
    return made.question


Parts = tuple[str, dict[str, Any], dict[str, Any], list[Check]]  # question, reference, meta, checks


def _asked(value: Any) -> str:
    text = rows.text_of(value)
    if text is None:
        raise Dropped("no question")
    return text


def _last_turn(chat: Any) -> Any:
    """What the user of a chat says last; a text is a user's turn."""
    if isinstance(chat, str):
        return chat
    said = [turn.get("content") for turn in chat or () if isinstance(turn, dict) and turn.get("role") == "user"]
    return said[-1] if said else None


def _math(record: dict[str, Any]) -> Parts:
    question, answer = _asked(rows.question_of(record)), _known(record)
    known = last_boxed(answer) or answer
    checks = [Check(f"\\boxed{{{known}}}", "the known answer does not verify", low=1.0)]
    theirs = solved(rows.text_of(record.get("solution")) or "")
    if theirs and theirs != known and not judge.letter(theirs):  # a letter says nothing about a value
        checks.append(Check(f"\\boxed{{{theirs}}}", DISAGREES, low=1.0))
    return question, {"answer": answer}, {}, _settled([*checks, *_refusals(known)], known)


def solved(solution: str) -> str | None:
    r"""What the last box of a solution holds, without the option's letter before it; None without a box.

    >>> solved(r"so it is $\boxed{\textbf{(D)}\ 3\sqrt{2}}$.")
    '3\\sqrt{2}'
    """
    found = last_boxed(solution)
    if not found:
        return None
    return re.sub(
        r"^\$?\s*\\(?:text(?:bf)?|mathrm|mathbf)\{\s*\(?[A-J]\)?[.:]?\s*\}(?:[\s~]|\\[ ,;]|\\q?quad)*(?=\S)", "", found
    ).strip("$ ")


def changed(answer: str, leading: bool = False) -> str | None:
    r"""A wrong answer made of a right one: its last digit, or else its only letter, is the next.

    leading: the first digit instead, for STEM, where numbers agree that differ by a hundredth; not an index's, `v_1`.

    >>> changed(r"\frac{1}{9}"), changed("B"), changed(r"\text{ellipse}")
    ('\\frac{1}{8}', 'C', None)
    >>> changed("396.9 m", leading=True), changed("v_1 = 9.16", leading=True)
    ('496.9 m', 'v_1 = 8.16')
    """
    if found := re.search(r"(?<![A-Za-z_])(?<!_\{)[0-9]" if leading else r"[0-9](?=[^0-9]*$)", answer):
        digit = int(found[0])
        return f"{answer[: found.start()]}{digit + 1 if digit < 9 else 8}{answer[found.end() :]}"
    if judge.letter(answer):
        return re.sub(r"[A-J](?![A-Za-z])", lambda match: chr((ord(match[0]) - 64) % 10 + 65), answer, count=1)
    return None


def _refusals(answer: str, leading: bool = False) -> list[Check]:
    """A changed answer must not score: a verifier that takes it would pay for anything here."""
    other = changed(answer, leading)
    return [] if other is None else [Check(f"\\boxed{{{other}}}", "a changed answer verifies too", below=1.0)]


def _settled(checks: list[Check], answer: str) -> list[Check]:
    """The checks less those that compare plain numbers, which needs no verifier: most answers are numbers.

    Raises Dropped where one fails.
    """
    value, left = _number(answer), []
    for check in checks:
        theirs = _number(check.response.removeprefix("\\boxed{").removesuffix("}"))
        if value is None or theirs is None:
            left.append(check)
        elif not check.low <= float(value == theirs) < check.below:
            raise Dropped(check.reason)
    return left


_PLAIN = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?[0-9]{1,15})\}\{([0-9]{1,15})\}")


def _number(text: str) -> int | Fraction | None:
    r"""The value of an integer, a decimal or a fraction of integers; None for anything else.

    >>> _number("-012"), _number(r"\frac{3}{6}"), _number("0.50"), _number("2x")
    (-12, Fraction(1, 2), Fraction(1, 2), None)
    """
    text = text.strip("$ ")
    if _PLAIN.fullmatch(text):
        return Fraction(text) if "." in text else int(text)
    found = _FRACTION.fullmatch(text)
    if found is None or int(found[3]) == 0:
        return None
    return Fraction(int(found[2]), int(found[3])) * (-1 if found[1] else 1)


def _code(record: dict[str, Any]) -> Parts:
    if record["ability"] != "code":
        raise Dropped("not code")
    reference = _tests(record["reward_model"])
    text = _asked(_last_turn(record["prompt"]))
    text = _asked(
        re.sub(
            r"\s*Write Python code to solve the problem\.[^`]{0,80}```python\s*Your code\s*```\s*at the end\.?\s*\Z",
            "",
            text,
        )
    )
    return text, reference, {"data_source": record["data_source"]}, [TAKEN, *_programs(record)]


def _tests(reward_model: Any) -> dict[str, Any]:
    """A reference of what Eurus calls the ground truth.  Raises Dropped."""
    try:
        truth = json.loads(reward_model["ground_truth"])
        reference = {key: truth[key] for key in ("inputs", "outputs", "fn_name", "asserts", "setup") if truth.get(key)}
    except (ValueError, TypeError, AttributeError, KeyError):
        raise Dropped("tests that can't be read") from None
    lists = [reference[key] for key in ("inputs", "outputs", "asserts") if key in reference]
    if not all(isinstance(tests, list) for tests in lists) or not isinstance(reference.get("fn_name", ""), str):
        raise Dropped("tests that can't be read")  # a text of several lines may be one test or many
    if not lists:
        raise Dropped("no tests")
    if not reference.get("asserts") and len(reference.get("inputs", ())) != len(reference.get("outputs", ())):
        raise Dropped("not as many outputs as inputs")
    return reference


def _programs(record: dict[str, Any]) -> list[Check]:
    """A row that carries a solution: that must pass all tests, and a program that does nothing must not."""
    solution = record.get("solution") or next(iter(record.get("solutions") or ()), None)
    empty = Check("```python\npass\n```", "a program that does nothing passes", below=1.0)
    if not isinstance(solution, str) or not solution.strip():
        return []
    program = solution if "```" in solution else f"```python\n{solution}\n```"
    return [Check(program, DISAGREES, low=1.0), empty]


def _stem(record: dict[str, Any]) -> Parts:
    """Kept if its solution ends in an answer that R1's agrees with.  Our verifier says so; the paper asked GPT-4o."""
    asked = _asked(rows.question_of(record))
    if "answer" in record and not set(SOLUTION_COLUMNS) & set(record):  # a file of one's own: it says the answer itself
        return asked, {"answer": _known(record)}, {}, _refusals(_known(record), leading=True)
    answer = final_answer(_first(record, SOLUTION_COLUMNS))
    if answer is None:
        raise Dropped("no answer to be found in the solution")
    theirs = final_answer(after_think(_first(record, RESPONSE_COLUMNS)))
    if theirs is None:
        raise Dropped("no answer to be found in the model's response")
    agrees = Check(f"\\boxed{{{theirs}}}", "answer disagrees with the model's", low=1.0)
    checks = [agrees, *_refusals(answer, leading=True)]
    return asked, {"answer": answer}, {"subject": record.get("domain")}, checks


def _known(record: dict[str, Any]) -> str:
    answer = rows.answer_of(record["answer"])
    if answer is None:
        raise Dropped("answer missing")
    return answer


def _first(record: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of several columns that the record has.  Raises KeyError with the first name if it has none."""
    value = record[next((name for name in names if name in record), names[0])]
    return value if isinstance(value, str) else ""


_TIMES_TEN = r"\s*(?:\\times|\\cdot|×|x)\s*10\s*\^\s*(?:\{\s*[-+]?[0-9]+\s*\}|[-+]?[0-9]+)"
_NUMBER = rf"[-+]?(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)(?:{_TIMES_TEN}|[eE][-+]?[0-9]+)?"
_UNIT_COMMAND = (
    r"\\(?:mathrm|text\w*|rm|operatorname|mathbf|mathit|boldsymbol|mbox|cdot|times|circ|degree|%|Omega|mu|AA|quad|qquad|"
    r"left|right|per|[,;:! \\])"
)
_EXPONENT = r"\^\s*(?:\{\s*[-+−]?\s*[0-9]*\s*(?:\\circ)?\s*\}|[-+−]?[0-9]|\\circ)"
_UNIT = rf"(?:[A-Za-z~{{}}/·%°$\s.,;)\]µΩÅ&]|{_UNIT_COMMAND}|{_EXPONENT})"  # what may stand behind a value
_VALUE = re.compile(rf"(?:=|\\approx|\\simeq|\\cong|\\doteq|≈|≃)\s*\{{*\s*({_NUMBER})(?![0-9.])({_UNIT}{{0,120}})$")
_BARE_VALUE = re.compile(rf"({_NUMBER})({_UNIT}{{0,60}})")
_CLOSER = re.compile(  # of a display or a sentence
    r"(?:\$\$?|\\\\|\\\]|\\\)|\\end\{[a-z*]+\}|[.,;]|\\tag\{[^{}]*\}|\\(?:q?quad|hfill|(?:black)?square)|"
    r"\\text\s*\{\s*\(?(?:Answer|Ans\.?)\)?\s*\}|\((?:Answer|Ans\.?)\)|\*\*|\s)+$",
    re.IGNORECASE,
)
_REMARK = re.compile(  # behind an answer, or in brackets: where it comes from
    r"(?:^|,\s*|\()(?:where|here|since|because|note|notice|using|with|in which|recall|as|for|taking|assuming)\b.*$",
    re.I,
)


def final_answer(text: str) -> str | None:
    r"""The answer a solution ends in: its last box, a choice, or the number after the last line's last `=`.

    A display that closes on a line of its own, and a remark behind the answer, are taken off first.  Two values of two
    quantities are no one answer.

    >>> final_answer("so the answer is (C)."), final_answer("Thus\n$v = at = 3.5$ m/s."), final_answer("It depends.")
    ('C', '3.5', None)
    >>> final_answer("$$\nF = 17\\ \\mathrm{kN}\n$$\nwhere we have used 1 J = 1 N m."), final_answer("x = 3, y = 4")
    ('17', None)
    """
    if (boxed := last_boxed(text)) is not None:
        return boxed or None
    last = _last_line(text)
    if choice := re.search(r"(?:answer|option|choice)(?: is|:)?\s*\(?([A-J])\)?\W*$", last):
        return choice[1]
    if bare := _BARE_VALUE.fullmatch(_CLOSER.sub("", text.strip(" $\n"))):
        return bare[1].strip().rstrip(",")
    found = _VALUE.search(last)
    return None if found is None or _another_value(last[: found.start()]) else found[1].strip().rstrip(",")


def _last_line(text: str) -> str:
    """The last line that states something: without the closing of its display, and without remarks behind it."""
    for line in reversed(text.strip().split("\n")):
        bare = _CLOSER.sub("", line)
        if stated := _CLOSER.sub("", _REMARK.sub("", bare)).strip(" $,"):
            return stated.split("\\\\")[-1]
    return ""


def _another_value(before: str) -> bool:
    """Whether the text before the last `=` ends a statement about another quantity: `x = 3, y`."""
    earlier, comma, quantity = before.rpartition(",") if "," in before else before.rpartition(" and ")
    if "=" in quantity or re.search(r"(?<![\\{a-z])[a-z]{3,}\b", quantity):  # `x = 3, which gives y`
        return False
    return bool(comma) and re.search(rf"=\s*{_NUMBER}{_UNIT}*$", earlier) is not None


def _instruction(record: dict[str, Any]) -> Parts:
    given = record["args"]
    try:
        given = json.loads(given) if isinstance(given, str) else given
        names, kwargs = given.get("instruction_id_list"), given.get("instruction_kwargs", given.get("kwargs"))
    except (ValueError, AttributeError):
        raise Dropped("instructions that can't be read") from None
    text = _last_turn(record["input"])
    _asked(text)
    if not names or kwargs is None:
        raise Dropped("no instructions")
    if not isinstance(kwargs, list) or not all(isinstance(one, dict | None) for one in kwargs):
        raise Dropped("instructions that can't be read")
    return text, instructions(names, kwargs), {}, [TAKEN]


def instructions(names: list[str], kwargs: list[dict | None]) -> dict[str, Any]:
    """A reference of instructions, without the empty arguments that a table fills in."""
    given = [{key: rows.number_of(v) for key, v in (one or {}).items() if v is not None} for one in kwargs]
    return {"instruction_id_list": list(names), "kwargs": given}


def _fraction(value: Any) -> str:
    """For JSON: one item of gsm_symbolic in fifty notes a variable of its question as a Fraction."""
    if isinstance(value, Fraction):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not for JSON")


def puzzles(task: str, split: str, count: int, seed: int, **options: Any) -> Iterator[Row]:
    """Up to `count` rows of one Reasoning Gym task, made here; the same at each call.

    split: "train"; "validation", or "held-out", which `prorl_scale.evaluate` asks; no question is in two of them, of
    whatever seeds, nor twice in the last two, which a task may have fewer than `count` questions for.
    options: of the task's generator, where they are to differ from its defaults.
    """
    made = Puzzles(task, seed, **options)
    for number in range(count):
        try:
            entry = made.train(number) if split == "train" else made.held_out(split, number)
        except IndexError:
            return
        item = json.loads(json.dumps(entry, default=_fraction))
        name = f"puzzle-{task}-{split}-{number:05d}"
        reference = {"task": task, "item": item}
        prompt = [{"role": "user", "content": ask("puzzle", item["question"], reference)}]
        yield Row(name, "puzzle", "reasoning-gym", item["question"].strip(), prompt, reference)
