"""Find training prompts that an evaluation set holds: the same text in whatever layout, or a long run of its words."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from prorl_lab import rows
from prorl_lab.errors import UserError
from prorl_lab.split import plain

from . import files

WORDS = 13  # a run this long in common is no coincidence; a shorter text must be the same as a whole
FIELDS = ("problem", "question", "prompt", "Question", "question_content", "input", "text")


class Overlap(NamedTuple):
    """What a training prompt shares with an evaluation set."""

    evaluation: str
    how: str  # "the same text", "the same text in another layout", "13 words in a row"
    words: str


def evaluation_texts(path: Path) -> list[str]:
    """The questions of a data file or folder, in any form that `files.read` takes.

    Raises UserError where it can't be read, or a record has no question.
    """
    found = [_question(record) for record in files.read(path)]
    if not found or None in found:
        raise UserError(f"{path}: every object of an --evaluation file needs one of the fields {', '.join(FIELDS)}")
    return found


def _question(record: dict) -> str | None:
    for field in FIELDS:
        value = record.get(field)
        if isinstance(value, list):  # a chat
            value = next(
                (m.get("content") for m in reversed(value) if isinstance(m, dict) and m.get("role") == "user"), None
            )
        if text := rows.text_of(value):
            return text
    return None


_FORM = re.compile(  # the sentence with which our own prompts end: `evaluate` writes questions with it
    r"\n(?:Let's think step by step and output|Think step by step, then give|Write Python code to solve the problem)"
    r".*\Z",
    re.DOTALL,
)


class Index:
    """The texts of some evaluation questions, and their runs of words."""

    def __init__(self, questions: Iterable[tuple[str, str]]):
        """Of (name of the set, question) pairs."""
        questions = [(name, _FORM.sub("", question)) for name, question in questions]
        self.texts = {plain(question): (name, question) for name, question in questions}
        self.runs = {run: name for name, question in questions for run in _runs(question)}

    def match(self, text: str, runs: bool = True) -> Overlap | None:
        """What a text shares with an evaluation set, the closest first; None if it shares nothing.

        runs: whether a run of words counts.  The questions of one kind of puzzle all share their instructions.
        """
        if not self.texts or not text.strip():
            return None
        if same := self.texts.get(plain(text)):
            name, question = same
            how = "the same text" if question.strip() == text.strip() else "the same text in another layout"
            return Overlap(name, how, " ".join(text.split()[:WORDS]))
        found = (run for run in _runs(text) if run in self.runs) if runs and self.runs else ()
        return next((Overlap(self.runs[run], f"{WORDS} words in a row", run) for run in found), None)


def _runs(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))] if words else []
