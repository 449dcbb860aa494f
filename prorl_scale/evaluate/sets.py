"""The evaluation sets: where each comes from, how its records become prompts, what scores them, what the paper got.

`SETS` has an `EvalSet` by name; `GROUPS` names several at once.  Where the paper does not say how it asked or scored
(its STEM verifier, the wording around HumanEval's functions), the choice here is that of the training prompts.

The code that reads sets from the hub is written to their published schemas and tested on small files in them.  Of the
files themselves, only AIME24, AMC, MATH-500, GSM8K, HumanEval and IFEval have been seen here.
"""

import ast
import difflib
import functools
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prorl_lab import tasks
from prorl_lab.errors import UserError
from prorl_lab.puzzles import RENAMED
from prorl_scale.data import sources
from prorl_scale.data.sources import BOXED, CODE, TAGGED, TASKS, Dropped, Source

HELD_OUT_PUZZLES = 100  # of each Reasoning Gym task, as in the paper
LAPTOP_PROMPTS = 48  # of each tier, as `make mini` takes for its figure
BINARY = ("math", "code", "stem", "laptop")  # pass@1 counts full scores alone; the others' is the mean score
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
    suffix: str  # what is added to the question, as in training
    read: Callable[[Record], tuple[str, dict] | None] | None = None  # question and reference; None: of another set
    make: Callable[[int | None], Iterator[Made]] | None = None
    hub: Source | None = None
    files: str = ""  # which of the hub's files hold it, as a pattern
    local: str = ""  # a file under --data-dir that has it, if it is kept there in another form
    rows: int = 0  # prompts when complete
    paper: tuple[float, float] | None = None  # pass@1 in percent, base and ProRL (Tables 1 to 3)
    average: str | None = None  # the row of `AVERAGES`, or Reasoning Gym's category, that it is part of
    hollow: bool = False  # its original scorer pays for wrong answers: both scores are kept

    @property
    def scoring(self) -> str:
        """ "binary", or "continuous"."""
        return "binary" if self.domain in BINARY else "continuous"

    @property
    def source(self) -> str:
        """Where the prompts come from, for config.json."""
        if self.hub is None:
            return "Reasoning Gym" if self.domain == "puzzle" else "prorl_lab.laptop"
        return " ".join(filter(None, ("hub:", self.hub.name, self.hub.config, self.hub.split)))

    def fetch_command(self, folder: Path) -> str:
        """The command that puts the set where `--data-dir folder` finds it."""
        what = f"{self.hub.name} --repo-type dataset --include '{self.files}'"
        return f"hf download {what} --local-dir {folder / self.name}"


# --- how records become questions and references; a column that is missing is a KeyError


def _problem(record: Record) -> tuple[str, dict]:
    """Competition problems: `problem` or `question`, and `answer`."""
    return record["problem" if "problem" in record else "question"], {"answer": _answer(record["answer"])}


def _answer(value: Any) -> str:
    """An answer as text: 142.0 is 142, and some files have a list of one (or its text) in place of an answer.

    >>> _answer("142.0"), _answer(["9.6\\n"]), _answer("['a', 'b']"), _answer("[0, 1]")
    ('142', '9.6', 'a, b', '[0, 1]')
    """
    if isinstance(value, str) and value.startswith(("['", '["')):
        value = ast.literal_eval(value)
    text = ", ".join(str(v).strip() for v in value) if isinstance(value, list) else str(value).strip()
    return text.removesuffix(".0")


def _olympiad(record: Record) -> tuple[str, dict]:
    """The hub's columns, or those of DeepScaleR's file."""
    if "final_answer" not in record:
        return _problem(record)
    context = (record.get("context") or "").strip()
    return f"{context}\n{record['question']}".strip(), {"answer": _answer(record["final_answer"])}


def _gsm8k(record: Record) -> tuple[str, dict]:
    return record["question"], {"answer": record["answer"].rpartition("####")[2].strip().replace(",", "")}


def _gpqa(record: Record) -> tuple[str, dict]:
    """The question ends with its options (A) to (D)."""
    return record["question"], {"answer": record["correct_answer"]}


def _ifeval(record: Record) -> tuple[str, dict]:
    kwargs = [{k: v for k, v in (given or {}).items() if v is not None} for given in record["kwargs"]]
    return record["prompt"], {"instruction_id_list": list(record["instruction_id_list"]), "kwargs": kwargs}


def _eurus(of: str, record: Record) -> tuple[str, dict] | None:
    """PRIME's validation set holds four sets of code and some mathematics."""
    if record["ability"] != "code" or record["data_source"] != of:
        return None
    made = sources.row("code", 0, record)
    return sources.question(made), made.reference


def _human_eval(record: Record) -> tuple[str, dict]:
    """The model writes the whole function; it may rely on the imports that the question shows."""
    imports = [line for line in record["prompt"].splitlines() if line.startswith(("import ", "from "))]
    setup = "\n".join([*imports, record["test"], f"candidate = {record['entry_point']}"])
    question = f"Complete this Python function.\n\n{record['prompt'].strip()}\n"
    return question, {"asserts": ["check(candidate)"], "setup": setup}


def _livecodebench(record: Record) -> tuple[str, dict]:
    """DeepCoder's version: tests by standard input, or calls of the method that the starter code begins."""
    tests = _json(record["tests"])
    reference = {"inputs": [t["input"] for t in tests], "outputs": [t["output"] for t in tests]}
    if tests and tests[0]["testtype"] == "functional":
        reference["fn_name"] = _json(record["metadata"])["func_name"]
    starter = (record.get("starter_code") or "").strip()
    return record["problem"] + (f"\n\nBegin with:\n```python\n{starter}\n```\n" if starter else ""), reference


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


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
    math = functools.partial(EvalSet, domain="math", suffix=BOXED, average="math")
    code = functools.partial(EvalSet, domain="code", suffix=CODE, average="code")
    hub = Source
    yield math(
        "aime24", read=_problem, hub=hub("math", "HuggingFaceH4/aime_2024"), files="data/train*",
        local="math/eval_aime.json", rows=30, paper=(28.54, 48.13),
    )  # fmt: skip
    yield math(
        "aime25", read=_problem, hub=hub("math", "math-ai/aime25", split="test"), files="test*",
        rows=30, paper=(22.71, 33.33),
    )  # fmt: skip
    yield math(
        "amc", read=_problem, hub=hub("math", "AI-MO/aimo-validation-amc"), files="data/train*",
        local="math/eval_amc.json", rows=83, paper=(62.58, 79.29),
    )  # fmt: skip
    yield math(
        "math", read=_problem, hub=hub("math", "HuggingFaceH4/MATH-500", split="test"), files="test*",
        local="math/eval_math.json", rows=500, paper=(82.90, 91.89),
    )  # fmt: skip
    yield math(
        "minerva", read=_problem, hub=hub("math", "math-ai/minervamath", split="test"), files="test*",
        local="math/eval_minerva.json", rows=272, paper=(26.38, 47.98),
    )  # fmt: skip
    yield math(
        "olympiadbench", read=_olympiad, hub=hub("math", "Hothan/OlympiadBench", "OE_TO_maths_en_COMP"),
        files="*OE_TO_maths_en_COMP*", local="math/eval_olympiad_bench.json", rows=674, paper=(43.58, 60.22),
    )  # fmt: skip
    yield EvalSet(
        "gsm8k", "math", BOXED, read=_gsm8k, hub=hub("math", "openai/gsm8k", "main", "test"), files="main/test*",
        local="math/gsm8k_test.jsonl", rows=1319,
    )  # fmt: skip
    eurus = {
        "apps": (20.95, 41.99),
        "codecontests": (16.79, 31.80),
        "codeforces": (14.13, 34.50),
        "taco": (8.03, 20.81),
    }
    for name, paper in eurus.items():
        yield code(
            name, read=functools.partial(_eurus, name), hub=hub("code", "PRIME-RL/Eurus-2-RL-Data", split="validation"),
            files="validation*", paper=paper,
        )  # fmt: skip
    yield code(
        "humaneval_plus", read=_human_eval, hub=hub("code", "evalplus/humanevalplus", split="test"), files="data/test*",
        rows=164, paper=(61.77, 72.05),
    )  # fmt: skip
    yield EvalSet(
        "humaneval", "code", CODE, read=_human_eval, hub=hub("code", "openai/openai_humaneval", split="test"),
        files="openai_humaneval/test*", local="code/HumanEval.jsonl.gz", rows=164,
    )  # fmt: skip
    yield code(
        "livecodebench", read=_livecodebench,
        hub=hub("code", "agentica-org/DeepCoder-Preview-Dataset", "lcbv5", "test"), files="lcbv5/test*",
        rows=279, paper=(16.80, 23.81),
    )  # fmt: skip
    yield EvalSet(
        "gpqa_diamond", "stem", BOXED, read=_gpqa, hub=hub("stem", "spawn99/GPQA-diamond-ClaudeR1"),
        files="data/train*", rows=198, paper=(15.86, 41.78),
    )  # fmt: skip
    yield EvalSet(
        "ifeval", "instruction", "", read=_ifeval, hub=hub("instruction", "google/IFEval"), files="*.jsonl",
        local="instruction_following/ifeval_input_data.jsonl", rows=541, paper=(44.05, 66.02),
    )  # fmt: skip


def _made_here() -> Iterator[EvalSet]:
    puzzle = functools.partial(EvalSet, domain="puzzle", suffix=TAGGED, rows=HELD_OUT_PUZZLES)
    for task in TASKS:
        yield puzzle(task, make=functools.partial(_puzzles, task, None), average=category(task))
    for size in GRAPH_SIZES:
        yield puzzle(f"graph_color_{size}", make=functools.partial(_puzzles, "graph_color", size))
    held_out = {"acre": (5.99, 58.57), "boxnet": (0.00, 7.91), "game_of_life_halting": (3.49, 52.29), "puzzle24": None}
    for task, paper in held_out.items():
        hollow = task in ("game_of_life_halting", "puzzle24")
        yield puzzle(task, make=functools.partial(_puzzles, task, None), paper=paper, hollow=hollow)
    yield EvalSet("laptop", "laptop", "", make=_laptop, rows=LAPTOP_PROMPTS * 12)


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


def named(names: Iterable[str]) -> list[EvalSet]:
    """Sets by name or group, each once, in the order given.  Raises UserError for a name that does not exist."""
    found: dict[str, EvalSet] = {}
    for name in names:
        if name not in SETS and name not in GROUPS:
            close = difflib.get_close_matches(name.lower(), [*SETS, *GROUPS], 3, 0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join([*GROUPS, *SETS])}"
            raise UserError(f"unknown set {name!r}: {hint}")
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
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            raise UserError(
                f"set {of.name!r}: record {number} is not of the schema of {of.hub.name} ({error!r}); its columns are "
                f"{', '.join(sorted(record))}: give --data {of.name}=PATH of another file"
            ) from error
        if made is not None:
            question, reference = made
            text = f"{question.strip()}\n{of.suffix}" if of.suffix else question
            found.append(Prompt(f"{of.name}-{number:04d}", of.name, of.domain, None, text, reference))
    if not found:
        raise UserError(f"set {of.name!r}: its data has no record of it: give --data {of.name}=PATH of another file")
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
        return _read(of, path)
    try:
        return iter(sources.records(of.hub, None))
    except Exception as error:  # whatever datasets and the network raise, the way out is the same
        where = f"not in {folder}, and " if folder else ""
        command = of.fetch_command(folder or Path("data"))
        raise UserError(
            f"no data for set {of.name!r}: {where}not to be had from the hub ({type(error).__name__}); fetch it with "
            f"`{command}`, then give --data-dir {folder or 'data'}"
        ) from error


def _read(of: EvalSet, path: Path) -> Iterator[Record]:
    """Records of a .json, .jsonl (also .gz) or .parquet file, or of all such files in a folder, in order of name."""
    kinds = (".json", ".jsonl", ".gz", ".parquet")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in kinds)
    files = [file for file in files if ".cache" not in file.parts]  # hf download keeps notes there
    if not files:
        raise UserError(f"set {of.name!r}: no .json, .jsonl or .parquet file in {path}: give --data {of.name}=PATH")
    for file in files:
        if file.suffix == ".parquet":
            import pyarrow.parquet

            yield from pyarrow.parquet.read_table(file).to_pylist()
            continue
        opener = gzip.open if file.suffix == ".gz" else open
        try:
            with opener(file, "rt", encoding="utf-8") as lines:
                text = lines.read()
            one_list = text.lstrip().startswith("[")
            yield from json.loads(text) if one_list else map(json.loads, filter(str.strip, text.split("\n")))
        except (OSError, ValueError) as error:
            raise UserError(f"set {of.name!r}: can't read {file} ({error}): fetch it again") from error
