"""Answers for people to read: a few prompts of every evaluation, each with its best, median and worst answer.

They are the lines of `samples.jsonl` in a run folder:

    {"step", "split", "tier", "prompt", "answers": {"best": {"reward", "tokens", "truncated", "text"}, ...}}

split: "validation", or "held-out" of the boundary.  A text is what was scored, long ones without their middle.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prorl_lab.log import parse_rows

FILE = "samples.jsonl"
PROMPTS = 6  # of an evaluation, spread over it; the same each time, so that one can follow them through a run
KEPT = 2000  # characters at each end of a longer text: how it begins, and what it comes to


def rows(problems: list[Any], groups: list[list[Any]], texts: Callable) -> list[dict[str, Any]]:
    """What is kept of an evaluation: P problems and their P groups of samples.

    texts(problem, samples) -> the texts of their answers.
    """
    kept = []
    for place in range(0, len(problems), -(-len(problems) // PROMPTS) or 1):
        problem, picked = problems[place], extremes(groups[place])
        answers = {
            name: {"reward": s.reward, "tokens": len(s.answer), "truncated": s.truncated, "text": shortened(text)}
            for (name, s), text in zip(picked.items(), texts(problem, list(picked.values())), strict=True)
        }
        prompt = shortened(as_text(problem.prompt))
        kept.append({"tier": problem.tier, "prompt": prompt, "answers": answers})
    return kept


def extremes(group: list[Any]) -> dict[str, Any]:
    """The best, median and worst of a group of samples, of one or two as many as there are; of those judged.

    Of an even number the median is the worse of the two in the middle.
    """
    judged = sorted((s for s in group if s.reward is not None), key=lambda s: -s.reward)
    named: dict[int, str] = {}
    for name, place in (("best", 0), ("worst", len(judged) - 1), ("median", len(judged) // 2)):
        if judged:
            named.setdefault(place, name)
    return {named[place]: judged[place] for place in sorted(named)}


def as_text(prompt: str | list[dict[str, str]]) -> str:
    """A prompt; of a chat all messages, each with its role."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def shortened(text: str, kept: int = KEPT) -> str:
    """The text, without its middle where it has more than twice `kept` characters.

    >>> shortened("abcdefgh", 2)
    'ab ... 4 characters left out ... gh'
    """
    left = len(text) - 2 * kept
    return text if left <= 0 else f"{text[:kept]} ... {left} characters left out ... {text[-kept:]}"


# ---------------------------------------------------------------- reading them


def last(folder: Path) -> list[dict[str, Any]]:
    """Those of a run's last evaluation; none where there was none, or the run is older than this file."""
    path = folder / FILE
    found = parse_rows(path.read_text(encoding="utf-8"), FILE) if path.exists() else []
    return [row for row in found if (row["step"], row["split"]) == (found[-1]["step"], found[-1]["split"])]


def clean(text: str, most: int) -> str:
    """Model output fit for a page, a cell or a terminal: no control characters, cut to `most` characters."""
    text = "".join(c if c in "\n\t" or c.isprintable() or c.isspace() else "\ufffd" for c in text[:most])
    text = text.replace("\r", "\n").replace("\x0b", "\n").replace("\x0c", "\n")
    return text.translate({i: "\ufffd" for i in (*range(9), *range(14, 32))})


def one_line(text: str, most: int) -> str:
    """The text in one line: its beginning and, since an answer comes at the end, its end.

    >>> one_line("one\\ntwo  three", 20), one_line("0123456789" * 3, 11)
    ('one two three', '012 ... 789')
    """
    words = " ".join(clean(text, len(text)).split())
    half = (most - 5 + 1) // 2
    return words if len(words) <= most else f"{words[:half]} ... {words[-(most - 5 - half) :]}"
