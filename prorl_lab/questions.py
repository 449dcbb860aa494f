"""Files of questions and answers, one JSON object a line, as `--task`, `data prepare` and `evaluate --sets` read them.

    {"question": "How many legs do 3 cats have?", "answer": "12"}

`problem` is taken for `question`.  A row may say with "split" that it is for "train", "validation" or "held-out"; where
none does, its text decides (`split.split_of`).  `split.jsonl` of a run has every row with its split, and is such a file
itself: to evaluate on it is to evaluate on what that run held out.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from prorl_lab import rows
from prorl_lab.errors import UserError, first_line
from prorl_lab.later import Later
from prorl_lab.split import asked, plain, split_of

judge = Later("prorl_lab.judge")  # its patterns take a tenth of a second to compile
SPLITS = ("train", "validation", "held-out")
PARTS = 8  # of a file: one of them held out, one for validation
FILE = "split.jsonl"  # in a run folder

Row = dict[str, Any]  # question, answer, split, whether the file said that split, line


class BadRows:
    """Rows that can't be used.  The first ends the start, its line named; with `skip` they are left out and counted.

    skip: None where no option of the program's would leave them out.
    """

    def __init__(self, path: Path, skip: bool | None = False):
        self.path, self.skip = path, skip
        self.found: Counter = Counter()  # by what is wrong

    def add(self, line: int, what: str, kind: str) -> None:
        """what: continues "FILE, line N ...".  Raises UserError unless bad rows are to be skipped."""
        if not self.skip:
            option = "" if self.skip is None else ", or leave out all rows that can't be used with --skip-bad-rows"
            raise UserError(f"{self.path}, line {line} {what}: mend or remove it{option}")
        self.found[kind] += 1

    def say(self) -> None:
        """Say once what was left out."""
        if self.found:
            counts = ", ".join(f"{count} {kind}" for kind, count in self.found.most_common())
            print(f"{self.path}: {self.found.total()} rows left out ({counts})", flush=True)
            self.found.clear()


def read(path: Path, bad: BadRows | None = None) -> list[Row]:
    """The rows of a file, each question once and as text.  Raises UserError that names the first line that is none.

    Two questions that differ in layout alone (`split.plain`) count for one where their answers agree as well.
    """
    bad = bad or BadRows(path, skip=None)
    found: dict[str, Row] = {}
    known: set[tuple[str, str]] = set()
    again = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as lines:
            for row in _rows(lines, bad):
                key, in_all = asked(row["question"]), (plain(row["question"]), row["answer"])
                if key in found and found[key]["answer"] != row["answer"]:
                    what = f"asks what line {found[key]['line']} asks, with another answer"
                    bad.add(row["line"], what, "with another answer to an earlier question")
                elif in_all in known:
                    again += 1
                else:
                    found[key] = row
                    known.add(in_all)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path} ({first_line(error)}): give a text file of JSON lines") from error
    if again:
        print(f"{path}: {again} rows ask what an earlier one asks, and are left out", flush=True)
    if not found:
        raise UserError(f"{path} holds no problems: give a file with some")
    return list(found.values())


def _rows(lines: Iterable[str], bad: BadRows) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = rows.loads(line)
        except (ValueError, RecursionError) as error:
            bad.add(number, f"is not JSON ({first_line(error)})", "that are not JSON")
            continue
        if fault := _fault(value):
            bad.add(number, *fault)
            continue
        question, answer = rows.text_of(rows.question_of(value)), rows.answer_of(value["answer"])
        split = value.get("split") or split_of(question, PARTS)
        yield {"question": question, "answer": answer, "split": split, "said": bool(value.get("split")), "line": number}


def _fault(value: Any) -> tuple[str, str] | None:
    """What is wrong with one row, and its kind; None where it can be used."""
    missing = [n for n in ("question", "answer") if not isinstance(value, dict) or rows.column(value, n) is None]
    if missing:
        return (
            f'is not an object with "question" and "answer" ({missing[0]!r} is missing)',
            "without question or answer",
        )
    question = rows.question_of(value)
    if rows.text_of(question) is None:
        return f"has no question ({question!r})", "without question or answer"
    if rows.answer_of(value["answer"]) is None:
        return f"has no answer ({value['answer']!r})", "without question or answer"
    if value.get("split") not in (None, *SPLITS):
        return f"has the split {value['split']!r}, and there are {', '.join(SPLITS)}", "of an unknown split"
    return None


def fit(found: list[Row], bad: BadRows, keep: Collection[str] = ()) -> list[Row]:
    """The rows that a program can judge, as `prorl_scale.data prepare` sees it.

    keep: the reasons of `judge.REASONS` that do not count.  Raises UserError that names the first of the others and
    how many there are of each reason, unless they are to be skipped; or where none is left.
    """
    judge.check_keep(keep)
    reasons = [judge.reason(as_task(row), keep) for row in found]
    counts = ", ".join(f"{count} {reason!r}" for reason, count in Counter(filter(None, reasons)).most_common())
    for row, reason in zip(found, reasons, strict=True):
        if reason:
            what = f"can't be judged by a program ({reason!r}; in all {counts}; --keep {reason!r} takes such rows)"
            bad.add(row["line"], what, repr(reason))
    if not (left := [row for row, reason in zip(found, reasons, strict=True) if not reason]):
        raise UserError(f"{bad.path} holds no row that a program can judge ({counts}): give a file with some")
    return left


def as_task(row: Row) -> Any:
    """A row as `judge` takes it."""
    return judge.Task("math", row["question"], {"answer": row["answer"]})


def prompt_of(row: Row) -> str:
    """What a row asks, and behind it in which form the answer is wanted."""
    return f"{row['question']}\n{judge.form_of_answer(as_task(row))}"


def by_split(found: list[Row]) -> dict[str, list[Row]]:
    """Rows by split.  Those held out stand in an order that their text fixes, so that the first few are a fair draw."""
    order = sorted(found, key=lambda row: split_order(row["question"]))
    if any(row["said"] for row in order):
        return {split: [row for row in order if row["split"] == split] for split in SPLITS}
    if len(order) < len(SPLITS):  # too few to divide
        return {"train": order, "validation": [], "held-out": []}
    divided = {split: [row for row in order if row["split"] == split] for split in SPLITS}
    for split in SPLITS:  # of a handful chance may leave a split empty: then it gets one, which the texts fix as well
        if not divided[split]:
            divided[split].append(max(divided.values(), key=len).pop())
    return divided


def split_order(question: str) -> str:
    """A key that sorts questions at random, but alike everywhere."""
    return hashlib.sha256(f"order/{asked(question)}".encode()).hexdigest()


def as_lines(divided: dict[str, list[Row]]) -> str:
    """The text of `FILE`: every row with its split."""
    columns = ("question", "answer", "split")
    some = [{**row, "split": split} for split, group in divided.items() for row in group]
    return "".join(json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n" for row in some)
