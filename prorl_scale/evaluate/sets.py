"""The evaluation sets: where each comes from, how its records become prompts, what scores them, what the paper got.

`SETS` has an `EvalSet` by name; `GROUPS` names several at once.  Where the paper does not say how it asked or scored
(its STEM verifier, the wording around HumanEval's functions), the choice here is that of the training prompts.

The code that reads sets is written to their published schemas (prorl_scale/data/README.md has a table of them) and
tested on small files in them.  Of the files themselves, only AIME24, AMC, MATH-500, GSM8K, HumanEval and IFEval have
been seen here.
"""

import base64
import binascii
import difflib
import functools
import hashlib
import json
import pickletools
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prorl_lab import judge, own, questions, rows, tasks
from prorl_lab.errors import UserError
from prorl_lab.inputs import file_of_python, sum_of
from prorl_lab.puzzles import RENAMED
from prorl_scale.data import files, sources
from prorl_scale.data.sources import TASKS, Dropped, Source

HELD_OUT_PUZZLES = 100  # of each Reasoning Gym task, as in the paper
LAPTOP_PROMPTS = 48  # of each tier, as `make mini` takes for its figure
BINARY = ("math", "code", "stem", "laptop", "own")  # pass@1 counts full scores alone; the others' is the mean score
HOLLOW = ("puzzle", "instruction")  # domains whose published scorers pay for what is no answer
BOUNDARY_TASKS = (  # the 18 tasks of the paper's pass@k study (its Figure 13)
    *("advanced_geometry", "arc_1d", "chain_sum", "circuit_logic", "dice", "family_relationships", "group_anagrams"),
    *("leg_counting", "letter_counting", "maze", "needle_haystack", "n_queens", "palindrome", "power_function"),
    *("prime_factorization", "sokoban", "word_sorting", "zebra_puzzles"),
)
GRAPH_SIZES = (5, 8, 10, 13, 15, 18, 20)  # vertices; trained with 10, Reasoning Gym's default
CATEGORY_SCORES = {  # the paper's Table 5, percent: base and ProRL
    "algebra": (0.73, 97.21),
    "algorithmic": (3.56, 53.90),
    "arc": (1.53, 2.52),
    "arithmetic": (5.36, 82.81),
    "code": (1.22, 29.84),
    "cognition": (6.47, 40.16),
    "games": (2.34, 26.38),
    "geometry": (1.05, 89.84),
    "graphs": (6.64, 66.49),
    "induction": (1.32, 73.50),
    "logic": (10.90, 82.94),
}
AVERAGES = {"math": (44.45, 60.14), "code": (23.08, 37.49), "reasoning gym": (4.24, 59.06)}  # Tables 1, 2, 5

Record = dict[str, Any]
Made = tuple[str, str | None, str, dict]  # number, tier, prompt, reference


@dataclass(frozen=True)
class Prompt:
    """A line of prompts/SET.jsonl.  `reference` is what the scorer of `domain` takes."""

    id: str
    set: str
    domain: str
    tier: str | None
    prompt: str
    reference: dict[str, Any]


@dataclass(frozen=True)
class EvalSet:
    """One set.  Its prompts come from `read(records)`, or from `make(limit)` if they are made here."""

    name: str
    domain: str  # of prorl_scale.rewards, or "laptop"
    columns: str = ""  # those that `read` takes, for whoever brings a file with others
    read: Callable[[Record], tuple[str, dict] | None] | None = None  # question and reference; None: of another set
    make: Callable[[int | None], Iterator[Made]] | None = None
    hub: Source | None = None
    files: str = ""  # which of the hub's files hold it, as a pattern
    local: str = ""  # a file under --data-dir that has it, if it is kept there in another form
    rows: int = 0  # prompts when complete
    paper: tuple[float, float] | None = None  # pass@1 in percent, base and ProRL (Tables 1 to 3)
    average: str | None = None  # the row of `AVERAGES` that it is part of; a puzzle's: `category`

    file: Path | None = None  # a file of one's own, which --sets named: see `own_set`

    @property
    def hollow(self) -> bool:
        """Whether its published scorer pays for what is no answer: the published score is kept beside ours."""
        return self.domain in HOLLOW

    @property
    def scoring(self) -> str:
        """ "binary", or "continuous"."""
        return "binary" if self.domain in BINARY else "continuous"

    @property
    def source(self) -> str:
        """Where the prompts come from, for config.json."""
        if self.file is not None:
            return f"file {self.file.name} sha256 {sum_of(self.file)}"
        if self.hub is None:
            return "Reasoning Gym" if self.domain == "puzzle" else "prorl_lab.laptop"
        return " ".join(filter(None, ("hub:", self.hub.name, self.hub.config, self.hub.split)))

    def fetch_command(self, folder: Path) -> str:
        """The command that puts the set where `--data-dir folder` finds it."""
        what = f"{self.hub.name} --repo-type dataset --include '{self.files}'"
        return f"hf download {what} --local-dir {folder / self.name}"


# --- how records become questions and references; a column that is missing is a KeyError


def _question(record: Record, *names: str) -> str:
    """The text of the first of these columns that there is.  Raises KeyError without one, Dropped if it is empty."""
    text = rows.text_of(record[next((name for name in names if name in record), names[0])])
    if text is None:
        raise Dropped("no question")
    return text


def _given(answer: str | None) -> dict:
    if answer is None:
        raise Dropped("answer missing")
    return {"answer": answer}


def _problem(record: Record) -> tuple[str, dict]:
    """Competition problems: `problem` or `question`, and `answer`; a list of answers means all of them."""
    return _question(record, "problem", "question"), _given(rows.answer_of(record["answer"]))


def _minerva(record: Record) -> tuple[str, dict]:
    """A list of answers, or its text (DeepScaleR's file), holds spellings of one: any of them is right."""
    found = rows.answers_of(record["answer"])
    if found is None:
        raise Dropped("answer missing")
    different = list(dict.fromkeys(found))
    return _question(record, "problem", "question"), {"answer": different[0] if len(different) == 1 else different}


def _olympiad(record: Record) -> tuple[str, dict]:
    """The hub's columns, or those of DeepScaleR's file."""
    if "final_answer" not in record:
        return _problem(record)
    context = rows.text_of(record.get("context")) or ""
    return f"{context}\n{_question(record, 'question')}".strip(), _given(rows.answer_of(record["final_answer"]))


def _gsm8k(record: Record) -> tuple[str, dict]:
    told = str(record["answer"])
    answer = told.rpartition("####")[2].strip().replace(",", "")
    return _question(record, "question"), _given(rows.answer_of(answer))


def _gpqa(record: Record) -> tuple[str, dict]:
    """The official columns, the options in an order drawn from the question; or a question that holds them."""
    if "Question" not in record:
        answer = record["correct_answer" if "correct_answer" in record else "answer"]
        return _question(record, "question"), _given(rows.answer_of(answer))
    question = _question(record, "Question")
    texts = [str(record[name]).strip() for name in ("Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3)))]
    order = list(range(4))
    random.Random(hashlib.sha256(question.encode()).hexdigest()).shuffle(order)  # whatever order the file is in
    listed = "\n".join(f"({letter}) {texts[place]}" for letter, place in zip("ABCD", order, strict=True))
    return f"{question}\n\n{listed}", {"answer": "ABCD"[order.index(0)]}


def _ifeval(record: Record) -> tuple[str, dict]:
    _question(record, "prompt")
    return record["prompt"], sources.instructions(record["instruction_id_list"], record["kwargs"])


def _eurus(of: str, record: Record) -> tuple[str, dict] | None:
    """PRIME's validation set holds four sets of code and some mathematics.  None of it is left out: it is a test."""
    if record["ability"] != "code" or record["data_source"] != of:
        return None
    made = sources.row("code", 0, record, keep=judge.REASONS)
    return made.question, made.reference


def _human_eval(record: Record) -> tuple[str, dict]:
    """The model writes the whole function; it may rely on the imports that the question shows."""
    asked = _question(record, "prompt")
    imports = [line for line in asked.splitlines() if line.startswith(("import ", "from "))]
    setup = "\n".join([*imports, record["test"], f"candidate = {record['entry_point']}"])
    return f"Complete this Python function.\n\n{asked}\n", {"asserts": ["check(candidate)"], "setup": setup}


def _livecodebench(record: Record) -> tuple[str, dict]:
    """The official columns (v5, v6), or DeepCoder's: tests by standard input, or calls of the starter code's method."""
    if "question_content" in record:
        asked = _question(record, "question_content")
        tests = [*_json(record["public_test_cases"]), *_packed(record["private_test_cases"])]
    else:
        asked, tests = _question(record, "problem"), _json(record["tests"])
    if not tests:
        raise Dropped("no tests")
    reference = {"inputs": [t["input"] for t in tests], "outputs": [t["output"] for t in tests]}
    if tests[0].get("testtype") == "functional":
        reference["fn_name"] = _json(record["metadata"])["func_name"]
    starter = (record.get("starter_code") or "").strip()
    return asked + (f"\n\nBegin with:\n```python\n{starter}\n```\n" if starter else ""), reference


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


MAX_UNPACKED = 2**30  # bytes of one problem's tests; a packed kilobyte can hold a gigabyte of zeros


def _packed(value: Any) -> Any:
    """LiveCodeBench's private tests: JSON, or base64 of zlib of a pickle of one text of JSON.

    The pickle is read as data, opcode by opcode, and nothing but a text in it is taken: unpickling would run whatever
    the file says.  Raises ValueError for anything else.
    """
    if not isinstance(value, str) or value.lstrip().startswith("["):
        return _json(value)
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(base64.b64decode(value, validate=True), MAX_UNPACKED)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"private tests that are neither JSON nor base64 of zlib ({error})") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("private tests that are cut off or too large")
    return json.loads(data if data.lstrip()[:1] == b"[" else _pickled_text(data))


_TEXT = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_AROUND = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}


def _pickled_text(data: bytes) -> str:
    """The text of a pickle that holds one text and nothing else, without unpickling it.  Raises ValueError."""
    texts = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _TEXT:
            texts.append(argument)
        elif opcode.name not in _AROUND:
            raise ValueError(f"private tests are a pickle with {opcode.name}, and only one text is taken from it")
    if len(texts) != 1:
        raise ValueError(f"private tests are a pickle of {len(texts)} texts where one was expected")
    return texts[0]


# --- sets that are made here


def _puzzles(task: str, size: int | None, limit: int | None) -> Iterator[Made]:
    """Held-out items of a task, which no run and no `prepare` trains or validates on.  size: vertices of a graph."""
    options = {} if size is None else {"min_num_vertices": size, "max_num_vertices": size}
    count = min(HELD_OUT_PUZZLES, limit or HELD_OUT_PUZZLES)
    for number, row in enumerate(sources.puzzles(task, "held-out", count, 0, **options)):
        tier = None if size is None else f"{size} vertices"
        yield f"{number:04d}", tier, row.prompt[-1]["content"], row.reference


def _laptop(limit: int | None) -> Iterator[Made]:
    """Every tier of `make mini`, the prompts of its own pass@k figure first (those of --seed 0)."""
    task = tasks.LaptopTask(0, [])
    for tier in task.tiers:
        for number in range(limit or LAPTOP_PROMPTS):
            made = task.problem("held-out", number, tier)
            yield f"{tier.split()[0]:0>2}-{number:04d}", tier, made.prompt, {"tier": tier, "entry": made.entry}


# --- the registry


def _of_files() -> Iterator[EvalSet]:
    competition = "problem or question, and answer"
    math = functools.partial(EvalSet, domain="math", columns=competition, read=_problem, average="math")
    code = functools.partial(EvalSet, domain="code", average="code")
    human_eval = "prompt, test, entry_point"
    hub = Source
    yield math(
        "aime24", hub=hub("math", "HuggingFaceH4/aime_2024"), files="data/train*",
        local="math/eval_aime.json", rows=30, paper=(28.54, 48.13),
    )  # fmt: skip
    yield math(
        "aime25", hub=hub("math", "math-ai/aime25", split="test"), files="test*",
        rows=30, paper=(22.71, 33.33),
    )  # fmt: skip
    yield math(
        "amc", hub=hub("math", "AI-MO/aimo-validation-amc"), files="data/train*",
        local="math/eval_amc.json", rows=83, paper=(62.58, 79.29),
    )  # fmt: skip
    yield math(
        "math", hub=hub("math", "HuggingFaceH4/MATH-500", split="test"), files="test*",
        local="math/eval_math.json", rows=500, paper=(82.90, 91.89),
    )  # fmt: skip
    yield math(
        "minerva", read=_minerva, hub=hub("math", "math-ai/minervamath", split="test"), files="test*",
        local="math/eval_minerva.json", rows=272, paper=(26.38, 47.98),
    )  # fmt: skip
    yield math(
        "olympiadbench", read=_olympiad, columns="question, final_answer (and context); or problem, answer",
        hub=hub("math", "Hothan/OlympiadBench", "OE_TO_maths_en_COMP"),
        files="*OE_TO_maths_en_COMP*", local="math/eval_olympiad_bench.json", rows=674, paper=(43.58, 60.22),
    )  # fmt: skip
    yield EvalSet(
        "gsm8k", "math", "question, answer", _gsm8k, hub=hub("math", "openai/gsm8k", "main", "test"),
        files="main/test*", local="math/gsm8k_test.jsonl", rows=1319,
    )  # fmt: skip
    eurus = {
        "apps": (20.95, 41.99),
        "codecontests": (16.79, 31.80),
        "codeforces": (14.13, 34.50),
        "taco": (8.03, 20.81),
    }
    for name, paper in eurus.items():
        yield code(
            name, read=functools.partial(_eurus, name), columns=sources.SOURCES["code"].columns,
            hub=hub("code", "PRIME-RL/Eurus-2-RL-Data", split="validation"),
            files="validation*", paper=paper,
        )  # fmt: skip
    yield code(
        "humaneval_plus", read=_human_eval, columns=human_eval,
        hub=hub("code", "evalplus/humanevalplus", split="test"), files="data/test*",
        rows=164, paper=(61.77, 72.05),
    )  # fmt: skip
    yield EvalSet(
        "humaneval", "code", human_eval, _human_eval, hub=hub("code", "openai/openai_humaneval", split="test"),
        files="openai_humaneval/test*", local="code/HumanEval.jsonl.gz", rows=164,
    )  # fmt: skip
    yield code(
        "livecodebench", read=_livecodebench,
        columns="question_content, public_test_cases, private_test_cases, starter_code, metadata; or problem, tests, "
        "starter_code, metadata",
        hub=hub("code", "agentica-org/DeepCoder-Preview-Dataset", "lcbv5", "test"), files="lcbv5/test*",
        rows=279, paper=(16.80, 23.81),
    )  # fmt: skip
    yield EvalSet(
        "gpqa_diamond", "stem", "Question, Correct Answer, Incorrect Answer 1 to 3; or question, "
        "correct_answer or answer", _gpqa,
        hub=hub("stem", "spawn99/GPQA-diamond-ClaudeR1"),
        files="data/train*", rows=198, paper=(15.86, 41.78),
    )  # fmt: skip
    yield EvalSet(
        "ifeval", "instruction", "prompt, instruction_id_list, kwargs", _ifeval,
        hub=hub("instruction", "google/IFEval"), files="*.jsonl",
        local="instruction_following/ifeval_input_data.jsonl", rows=541, paper=(44.05, 66.02),
    )  # fmt: skip


def _made_here() -> Iterator[EvalSet]:
    puzzle = functools.partial(EvalSet, domain="puzzle", rows=HELD_OUT_PUZZLES)
    for task in TASKS:
        yield puzzle(task, make=functools.partial(_puzzles, task, None))
    for size in GRAPH_SIZES:
        yield puzzle(f"graph_color_{size}", make=functools.partial(_puzzles, "graph_color", size))
    held_out = {"acre": (5.99, 58.57), "boxnet": (0.00, 7.91), "game_of_life_halting": (3.49, 52.29), "puzzle24": None}
    for task, paper in held_out.items():
        yield puzzle(task, make=functools.partial(_puzzles, task, None), paper=paper)
    yield EvalSet("laptop", "laptop", make=_laptop, rows=LAPTOP_PROMPTS * 12)


def category(task: str) -> str:
    """Reasoning Gym's category of a task, as the paper's Table 5 has them: the package that it lives in."""
    from reasoning_gym.factory import DATASETS

    return DATASETS[RENAMED.get(task, task)][0].__module__.split(".")[1]


SETS: dict[str, EvalSet] = {made.name: made for made in (*_of_files(), *_made_here())}
GROUPS: dict[str, tuple[str, ...]] = {
    "reasoning_gym": tuple(TASKS),
    "boundary_tasks": BOUNDARY_TASKS,
    "graph_color_sizes": tuple(f"graph_color_{size}" for size in GRAPH_SIZES),
    "ood": ("acre", "boxnet", "game_of_life_halting", "puzzle24"),
    "tables": tuple(name for name, s in SETS.items() if s.paper) + tuple(TASKS),  # Tables 1, 2, 3 and 5
}


# --- a file of one's own


def own_set(path: str) -> EvalSet | None:
    """The held-out rows of a .jsonl of questions and answers, or of a task of one's own; None for another name.

    It is called as the file is; the `split.jsonl` of a run as its folder.  Raises UserError where there is no file.
    """
    own_task = file_of_python(path)
    if own_task is None and not path.endswith(".jsonl"):
        return None
    file = own_task[0] if own_task else Path(path)
    if not file.is_file():
        raise UserError(f"--sets {path}: there is no such file; give one that is there, or the name of a set")
    title = file.parent.resolve().name if file.name == questions.FILE else file.stem
    name = re.sub(r"[^\w.-]", "_", "-".join(filter(None, (title, own_task[1] if own_task else None))))
    if own_task:
        return EvalSet(name, "own", make=functools.partial(_own_task, *own_task), file=file)
    return EvalSet(name, "math", make=functools.partial(_own_rows, file), file=file)


def _own_rows(file: Path, limit: int | None) -> Iterator[Made]:
    found = questions.read(file)
    if file.name != questions.FILE:  # a run has chosen the rows of its own
        bad = questions.BadRows(file, skip=True)
        found = questions.fit(found, bad)
        bad.say()
    held_out = questions.by_split(found)["held-out"][:limit]
    if not held_out:
        raise UserError(f"{file} has no held-out row: give a file with more rows, or rows with a split of their own")
    for number, row in enumerate(held_out):
        yield f"{number:04d}", None, questions.prompt_of(row), {"answer": row["answer"]}


def _own_task(file: Path, name: str | None, limit: int | None) -> Iterator[Made]:
    task = own.OwnTask(file, name, 0, [], None)
    task.prove(binary=False)
    for tier in task.tiers:
        for number, problem in enumerate(tasks.held_out(task, "held-out", tier, limit or HELD_OUT_PUZZLES)):
            yield f"{tier}-{number:04d}", tier, problem.prompt, task.item(problem, "")[2]


def named(names: Iterable[str]) -> list[EvalSet]:
    """Sets by name, group or file, each once, in the order given.  Raises UserError for a name that does not exist."""
    found: dict[str, EvalSet] = {}
    for name in names:
        if made := own_set(name):
            if made.name in found or made.name in SETS:
                raise UserError(f"--sets {name}: there is another set called {made.name}: rename the file")
            found[made.name] = made
            continue
        if name not in SETS and name not in GROUPS:
            close = difflib.get_close_matches(name.lower(), [*SETS, *GROUPS], 3, 0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join([*GROUPS, *SETS])}"
            raise UserError(f"unknown set {name!r}: {hint}; a file of your own is named by its path, x.jsonl or x.py")
        found.update({member: SETS[member] for member in GROUPS.get(name, (name,))})
    return list(found.values())


def listing() -> str:
    """All sets and groups as a Markdown table: where they come from, how they are scored, what the paper reports."""
    rows = [["set", "prompts", "scored by", "pass@1", "from", "paper: base, ProRL"], ["---"] * 6]
    for of in SETS.values():
        paper = ", ".join(f"{number:.2f}" for number in of.paper or ())
        rows.append([of.name, str(of.rows or ""), of.domain, of.scoring, of.source, paper])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    groups = [f"{name}: {len(members)} sets, {members[0]} to {members[-1]}" for name, members in GROUPS.items()]
    return "\n".join([*lines, "", "Groups:", *groups])


# --- from a set to its prompts


def prompts(of: EvalSet, path: Path | None, folder: Path | None, limit: int | None) -> tuple[list[Prompt], Counter]:
    """The prompts of a set, and why records were dropped.

    path: of its data (a file or a folder), else it is looked for in `folder` and then on the hub.  limit: at most so
    many prompts, of each tier where there are tiers.  Raises UserError where there is no data, or none of its schema.
    """
    if of.make is not None:
        made = of.make(limit)
        return [Prompt(f"{of.name}-{number}", of.name, of.domain, *rest) for number, *rest in made], Counter()
    found, dropped = [], Counter()
    for number, record in enumerate(_records(of, path, folder)):
        if limit is not None and len(found) >= limit:
            break
        try:
            made = of.read(record)
        except Dropped as reason:
            dropped[str(reason)] += 1
            continue
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"set {of.name!r}: record {number} is not of the schema of {of.hub.name} ({error!r}); its columns are "
                f"{', '.join(sorted(map(str, record)))}, and expected are {of.columns}: give --data {of.name}=PATH of "
                "another file"
            ) from error
        if made is not None:
            question, reference = made
            text = sources.ask(of.domain, question, reference)
            found.append(Prompt(f"{of.name}-{number:04d}", of.name, of.domain, None, text, reference))
    if not found:
        why = "".join(f", {count} dropped: {reason}" for reason, count in dropped.items())
        raise UserError(
            f"set {of.name!r}: its data has no record of it{why}: give --data {of.name}=PATH of another file"
        )
    return found, dropped


def local_data(of: EvalSet, path: Path | None, folder: Path | None) -> Path | None:
    """Where a set's data is on this machine: at `path`, or in `folder`; None if it is to come from the hub."""
    if path is not None and not path.exists():
        raise UserError(f"set {of.name!r}: there is nothing at {path}: give --data {of.name}=PATH of an existing file")
    if path is not None or folder is None:
        return path
    places = [folder / of.local] if of.local else []
    return next((place for place in [*places, folder / of.name] if place.exists()), None)


def _records(of: EvalSet, path: Path | None, folder: Path | None) -> Iterator[Record]:
    path = local_data(of, path, folder)
    if path is not None:
        try:
            yield from files.read(path)
        except UserError as error:
            raise UserError(f"set {of.name!r}: {error} (--data {of.name}=PATH)") from error
        return
    try:
        yield from sources.records(of.hub, None)
    except Exception as error:  # whatever datasets and the network raise, the way out is the same
        where = f"not in {folder}, and " if folder else ""
        command = of.fetch_command(folder or Path("data"))
        raise UserError(
            f"no data for set {of.name!r}: {where}not to be had from the hub ({type(error).__name__}); fetch it with "
            f"`{command}`, then give --data-dir {folder or 'data'}"
        ) from error
