"""The five sources: where each comes from, and how one of its records becomes a row, or why it does not.

The loading code is written to the sources' published schemas and tested on small files in them; the full sets have not
been seen here, so an unknown column is an error that names the columns there are.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from prorl_lab.errors import UserError, first_line
from prorl_lab.puzzles import Puzzles
from prorl_lab.scoring.extract import after_think, last_boxed

BOXED = "Let's think step by step and output the final answer within \\boxed{}."
CODE = "Write Python code to solve the problem. Present the code in \n```python\nYour code\n```\nat the end."
TAGGED = "Think step by step, then give the final answer between <answer> and </answer> tags."

TASKS = (Path(__file__).parent / "puzzle_tasks.txt").read_text(encoding="utf-8").split()  # the paper's 96
# SCP-116K changed its columns.  The first release's card names `matched_solution` and answers of o1-mini and QwQ with a
# verdict each; a set derived from a later one has `extract_solution` and `r1_response`.
SOLUTION_COLUMNS = ("matched_solution", "extracted_solution", "extract_solution")
RESPONSE_COLUMNS = ("r1_response", "r1_solution", "qwq_solution", "o1_solution")  # the paper's filter read R1's


class Dropped(Exception):
    """A record that becomes no row; its text is the reason, counted in the manifest."""


@dataclass
class Row:
    """A training prompt.  `check` is a response, and the score it must get for the row to be kept."""

    id: str
    domain: str
    source: str
    prompt: list[dict[str, str]]
    reference: dict[str, Any]
    meta: dict[str, Any]
    check: tuple[str, float] = ("", 0.0)


@dataclass(frozen=True)
class Source:
    """Where a domain's records come from."""

    domain: str
    name: str  # on the Hugging Face hub
    config: str | None = None
    split: str = "train"


SOURCES = {
    "math": Source("math", "agentica-org/DeepScaleR-Preview-Dataset"),
    "code": Source("code", "PRIME-RL/Eurus-2-RL-Data"),
    "stem": Source("stem", "EricLu/SCP-116K"),
    "instruction": Source("instruction", "nvidia/Llama-Nemotron-Post-Training-Dataset", "RL", "instruction_following"),
}


def records(source: Source, path: Path | None) -> Any:
    """The records of a source, from the hub or from a .json, .jsonl or .parquet file (or a folder of one kind).

    Raises UserError where they can't be had.
    """
    import datasets

    what, instead = f"fetch {source.name} from the Hugging Face hub", "PATH of files already on disk"
    kind, how = source.name, {"name": source.config, "split": source.split}
    if path is not None:
        kinds = (".json", ".jsonl", ".parquet")
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in kinds)
        if not files:
            raise UserError(f"no .json, .jsonl or .parquet file at {path}: give --source {source.domain}=PATH of some")
        kind = "parquet" if files[0].suffix == ".parquet" else "json"
        how = {"data_files": [str(file) for file in files], "split": "train"}
        what, instead = f"read {path} as {kind}", "PATH of files that are whole"
    try:
        return datasets.load_dataset(kind, **how)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = first_line(error.__cause__ or error)
        raise UserError(f"can't {what} ({reason}): give --source {source.domain}={instead}") from error


def row(domain: str, number: int, record: dict[str, Any]) -> Row:
    """The row of one record.  Raises Dropped, or UserError for a column that the schema promises and the file lacks."""
    make = {"math": _math, "code": _code, "stem": _stem, "instruction": _instruction}[domain]
    try:
        return make(partial(Row, f"{domain}-{number:06d}", domain, SOURCES[domain].name), record)
    except KeyError as error:
        raise UserError(
            f"{SOURCES[domain].name} has no column {error}: it has {', '.join(sorted(record))}; give --source {domain}="
            "PATH of a release with that column, or mend prorl_scale/data/sources.py"
        ) from error


def _asked(text: str, suffix: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{text.strip()}\n{suffix}"}]


def question(made: Row) -> str:
    """What a row asks, without the suffix that says how to answer."""
    text = made.prompt[-1]["content"]
    return next((text.removesuffix(suffix) for suffix in (BOXED, CODE, TAGGED) if text.endswith(suffix)), text)


def _math(make: partial, record: dict[str, Any]) -> Row:
    answer = str(record["answer"]).strip()
    if not answer:
        raise Dropped("no answer")
    check = (f"\\boxed{{{last_boxed(answer) or answer}}}", 1.0)  # an answer that can't verify can't be learned
    return make(_asked(record["problem"], BOXED), {"answer": answer}, {}, check)


def _code(make: partial, record: dict[str, Any]) -> Row:
    if record["ability"] != "code":
        raise Dropped("not code")
    try:
        truth = json.loads(record["reward_model"]["ground_truth"])
        reference = {key: truth[key] for key in ("inputs", "outputs", "fn_name", "asserts", "setup") if truth.get(key)}
    except (ValueError, TypeError, AttributeError):
        raise Dropped("tests that can't be read") from None
    if not reference.get("asserts") and len(reference.get("inputs", ())) != len(reference.get("outputs", [None])):
        raise Dropped("not as many outputs as inputs")
    asked = [message["content"] for message in record["prompt"] if message["role"] == "user"]
    if not asked:
        raise Dropped("no question")
    text = asked[-1].strip()
    prompt = [{"role": "user", "content": text}] if "```python" in text else _asked(text, CODE)
    return make(prompt, reference, {"data_source": record["data_source"]})


def _stem(make: partial, record: dict[str, Any]) -> Row:
    """Kept if its solution ends in an answer that R1's agrees with.  Our verifier says so; the paper asked GPT-4o."""
    answer = final_answer(_first(record, SOLUTION_COLUMNS))
    if answer is None:
        raise Dropped("no answer to be found in the solution")
    theirs = final_answer(after_think(_first(record, RESPONSE_COLUMNS)))
    if theirs is None:
        raise Dropped("no answer to be found in the model's response")
    meta = {"subject": record.get("domain")}
    return make(_asked(record["problem"], BOXED), {"answer": answer}, meta, (f"\\boxed{{{theirs}}}", 1.0))


def _first(record: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of several columns that the record has.  Raises KeyError with the first name if it has none."""
    return record[next((name for name in names if name in record), names[0])] or ""


def final_answer(text: str) -> str | None:
    r"""The answer a solution ends in: its last box, a choice, or the number after the last line's last `=`.

    >>> final_answer("so the answer is (C)."), final_answer("Thus\n$v = at = 3.5$ m/s."), final_answer("It depends.")
    ('C', '3.5', None)
    """
    if (boxed := last_boxed(text)) is not None:
        return boxed or None
    last = text.strip().rpartition("\n")[2]
    if choice := re.search(r"(?:answer|option|choice)(?: is|:)?\s*\(?([A-J])\)?\W*$", last):
        return choice[1]
    number = r"[-+]?[0-9][0-9,]*(?:\.[0-9]+)?(?:\s*\\times\s*10\^(?:\{-?[0-9]+\}|[0-9]))?"
    found = re.search(rf"(?:=|\\approx)\s*({number})(?![0-9.])[^=0-9]{{0,30}}$", last)
    return found[1] if found else None


def _instruction(make: partial, record: dict[str, Any]) -> Row:
    given = record["args"]
    given = json.loads(given) if isinstance(given, str) else given
    kwargs = given.get("instruction_kwargs", given.get("kwargs"))
    asked = [{"role": m["role"], "content": m["content"]} for m in record["input"] if m["role"] == "user"]
    if not asked or not given.get("instruction_id_list") or kwargs is None:
        raise Dropped("no question or no instructions")
    kwargs = [{key: value for key, value in (k or {}).items() if value is not None} for k in kwargs]
    return make(asked[-1:], {"instruction_id_list": list(given["instruction_id_list"]), "kwargs": kwargs}, {})


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
        prompt = _asked(item["question"], TAGGED)
        yield Row(name, "puzzle", "reasoning-gym", prompt, {"task": task, "item": item}, {})
