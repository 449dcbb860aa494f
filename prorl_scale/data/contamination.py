"""Find training prompts that share a long run of words with an evaluation set."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from prorl_lab.errors import UserError

WORDS = 13  # a run this long in common is no coincidence; a shorter text must be the same as a whole
_FIELDS = ("problem", "question", "prompt", "Question")


def evaluation_texts(path: Path) -> list[str]:
    """The questions of a .json (a list) or .jsonl file of objects.  Raises UserError where none can be found."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line]
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {path} ({error}): give --evaluation .json or .jsonl files") from error
    found = [next((row[field] for field in _FIELDS if isinstance(row.get(field), str)), None) for row in rows]
    if not found or None in found:
        raise UserError(f"{path}: every object of an --evaluation file needs one of the fields {', '.join(_FIELDS)}")
    return found


class Index:
    """The runs of words of some evaluation questions."""

    def __init__(self, questions: Iterable[tuple[str, str]]):
        """Of (name of the set, question) pairs."""
        self.runs = {run: name for name, question in questions for run in _runs(question)}

    def match(self, text: str) -> tuple[str, str] | None:
        """The evaluation set that a text shares a run of words with, and the run; None if there is none."""
        return next(((self.runs[run], run) for run in _runs(text) if run in self.runs), None)


def _runs(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))] if words else []
