"""A task of your own: a Python file with `problem(number)` and `score(problem, answer)`, given as --task my_task.py.

    def problem(number):            # 0, 1, 2, ...: the same number, the same problem; IndexError past the last, if any
        return {"prompt": "What is 2 + 3?", "answer": "5"}      # "prompt" is text or chat messages; the rest is yours,
                                                                # plain JSON; "tier" names its tier
    def score(problem, answer):     # what `problem` gave, and what the model wrote behind its thought
        return float(answer.strip() == problem["answer"])       # from 0 to 1; 1 counts as solved
        return {"right": 1.0, "form": 0.0}                      # or several, whose weights WEIGHTS gives

    WEIGHTS = {"right": 0.8, "form": 0.2}   # they add up to 1
    TIERS = ["short", "long"]               # the tiers there are; else those of the first problems

`--task my_task.py:NAME` takes both from an object, or an instance of a class, of that name.  The file is complete in
itself: it may import installed packages, not files beside it.  `score` is run on hostile text in a child process that a
clock kills (`prorl_scale`: in its sandbox); what it raises there costs that answer, and is counted.

Which problems are held out follows from their text alone, so no file can train on what it evaluates.
"""

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prorl_lab.errors import UserError, first_line
from prorl_lab.questions import PARTS
from prorl_lab.scoring import own as scoring
from prorl_lab.seeds import derived
from prorl_lab.split import Epochs, asked, split_of
from prorl_lab.tasks import Problem
from prorl_lab.verify import Verifier

ENDLESS = 2**61  # a file that has this problem has no last one, as far as a run can tell
MOST = 1_000_000  # problems of a file that has a last one: all are read at the start
LOOK = 256  # problems that the tiers are read from
SEARCH = 20_000  # problems without a new one after which a tier is taken to have no more
PROBES = ("", "no idea", "\\boxed{1} <answer>1</answer>", "\x00\ud7ff\U0001f642" * 3, "9" * 5000)


class OwnTask:
    """The task of a file.  Without a verifier its `item`s are scored elsewhere.  Raises UserError for a wrong file."""

    def __init__(self, path: Path, name: str | None, seed: int, stop_ids: list[int], verifier: Verifier | None):
        self.file, self.name, self.seed, self.stop_ids, self.verifier = path, name, seed, stop_ids, verifier
        try:
            self.source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"can't read {path} ({first_line(error)}): give --task a file of Python") from error
        try:
            self.own = scoring.load(self.source, str(path), name)
        except AttributeError as error:
            raise UserError(f"{path} has no {name}: name what has its problem and score after the colon") from error
        except Exception as error:  # whatever a file raises
            raise UserError(f"{path} can't be run ({where(error, path)}): mend it") from error
        for function in ("problem", "score"):
            if not callable(getattr(self.own, function, None)):
                raise UserError(
                    f"{self} has no function {function}: it needs problem(number) and score(problem, answer), as "
                    "README.md shows"
                )
        self.weights = self._weights()
        self.tally: Counter = Counter()  # of training answers: statuses, and the sum of each part
        self.rows = self._all() if self.size() is not None else None
        self.tiers = self._tiers()
        self._epochs = Epochs(seed, len(self.rows["train"])) if self.rows else None
        self._held: dict[tuple[str, str], tuple[Iterator[dict], list[dict]]] = {}

    def __str__(self) -> str:
        return f"{self.file}:{self.name}" if self.name else str(self.file)

    # ---------------------------------------------------------------- what the file says

    def _weights(self) -> dict[str, float] | None:
        weights = getattr(self.own, "WEIGHTS", None)
        if weights is None:
            return None
        good = isinstance(weights, dict) and all(isinstance(v, int | float) and v >= 0 for v in weights.values())
        if not good or not math.isclose(math.fsum(weights.values()), 1):
            raise UserError(
                f"the WEIGHTS of {self} are {weights!r:.100}: give a number of at least 0 for each part, 1 in all"
            )
        return weights

    def read(self, number: int) -> dict[str, Any]:
        """Problem `number`, as plain JSON.  Raises IndexError past the last, UserError for what is no problem."""
        try:
            given = self.own.problem(number)
        except IndexError:
            raise
        except Exception as error:
            raise UserError(f"problem({number}) of {self} fails ({where(error, self.file)}): mend it") from error
        prompt = given.get("prompt") if isinstance(given, dict) else None
        chat = isinstance(prompt, list) and prompt and all(isinstance(turn, dict) for turn in prompt)
        if chat and all(isinstance(turn.get(key), str) for turn in prompt for key in ("role", "content")):
            pass
        elif not isinstance(prompt, str) or not prompt.strip():
            raise UserError(
                f'problem({number}) of {self} gives {given!r:.80}: give a dict with a "prompt", a text or a list of '
                "{role, content}"
            )
        try:
            return json.loads(json.dumps(given, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"problem({number}) of {self} holds what is no JSON ({first_line(error)}): keep to text, numbers, "
                "lists and dicts"
            ) from error

    def size(self) -> int | None:
        """How many problems there are; None without end.  They are numbered without a gap, so a bisection finds it."""
        if self._has(ENDLESS):
            return None
        if self._has(MOST):
            raise UserError(f"{self} has more than {MOST:,} problems and an end: give fewer, or problems without end")
        low, high = 0, MOST  # problems below `low` are there, `high` is not
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._has(middle) else (low, middle)
        return low

    def _has(self, number: int) -> bool:
        try:
            self.read(number)
        except IndexError:
            return False
        return True

    def _all(self) -> dict[str, list[dict[str, Any]]]:
        """Every problem of a file that has a last one, by split, each prompt once."""
        found = {asked(text_of(one)): one for one in map(self.read, range(self.size()))}
        divided: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "held-out": []}
        for one in found.values():
            divided[split_of(text_of(one), PARTS)].append(one)
        if not divided["train"]:
            raise UserError(f"{self} has {len(found)} different problems, none of them to train on: give more")
        return divided

    def _tiers(self) -> list[str]:
        some = itertools.chain(*self.rows.values()) if self.rows else (self._drawn("tiers", i) for i in range(LOOK))
        found = sorted({self.tier_of(one) for one in some})
        stated = getattr(self.own, "TIERS", None)
        if stated is None:
            return found
        if not isinstance(stated, list | tuple) or not all(isinstance(tier, str) for tier in stated):
            raise UserError(f"the TIERS of {self} are {stated!r:.80}: give a list of names")
        if beyond := sorted(set(found) - set(stated)):
            raise UserError(f"{self} has problems of the tier {beyond[0]!r}, which its TIERS lack: name all tiers")
        return list(stated)

    def tier_of(self, one: dict[str, Any]) -> str:
        return str(one.get("tier", self.name or self.file.stem))

    # ---------------------------------------------------------------- problems

    def _drawn(self, *what: object) -> dict[str, Any]:
        return self.read(derived("own", self.seed, *what) % ENDLESS)

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        """As `tasks.Task`.  Of a file with a last problem, every training problem comes once an epoch."""
        if split != "train":
            return self._problem(split, self._held_out(split, number, tier))
        if self.rows:
            return self._problem(split, self.rows[split][self._epochs.place(number)])
        for attempt in range(SEARCH):
            one = self._drawn("train", number, attempt)
            if split_of(text_of(one), PARTS) == "train":
                return self._problem(split, one)
        raise UserError(f"{self} has nothing left to train on beside what is held out: give more different problems")

    def _held_out(self, split: str, number: int, tier: str) -> dict[str, Any]:
        if (split, tier) not in self._held:
            self._held[split, tier] = self._different(split, tier), []
        source, found = self._held[split, tier]
        while len(found) <= number:
            one = next(source, None)
            if one is None:
                raise IndexError(f"{self} has {len(found)} different problems of {tier!r} for {split}")
            found.append(one)
        return found[number]

    def _different(self, split: str, tier: str) -> Iterator[dict[str, Any]]:
        """The problems of a tier that are held out for this purpose, none twice, in an order that has no trend."""
        if self.rows:
            some = [one for one in self.rows[split] if self.tier_of(one) == tier]
            yield from random.Random("held out").sample(some, len(some))
            return
        seen: set[str] = set()
        since = number = 0
        while since < SEARCH:
            one = self._drawn(split, number)
            number, since = number + 1, since + 1
            text = asked(text_of(one))
            if self.tier_of(one) == tier and split_of(text, PARTS) == split and text not in seen:
                seen.add(text)
                since = 0
                yield one

    def _problem(self, split: str, one: dict[str, Any]) -> Problem:
        return Problem(self.tier_of(one), one["prompt"], {"split": split, "problem": one})

    # ---------------------------------------------------------------- scores

    def item(self, problem: Problem, text: str) -> tuple[str, str, dict]:
        reference = {"source": self.source, "file": self.file.name, "name": self.name}
        return "own", text, {**reference, "problem": problem.entry["problem"]}

    def score(self, answers: list[tuple[Problem, str]]) -> list[float | None]:
        verdicts = self.verifier.judge([self.item(*answer) for answer in answers])
        for (problem, _), (_, status, why) in zip(answers, verdicts, strict=True):
            self.note(problem, status, why)
        return [score for score, *_ in verdicts]

    def note(self, problem: Problem, status: str, why: str) -> None:
        """Count the verdict of a training answer, and the parts of its score, for `tasks.figures`."""
        if problem.entry["split"] == "train":
            self.tally[f"status {status}"] += 1
            if self.weights and status in ("ok", "wrong"):
                self.tally.update({f"part {name}": value for name, value in json.loads(why).items()})

    def prove(self, binary: bool) -> None:
        """Try the file's two functions before a run relies on them.  Raises UserError.

        binary: whether partly right earns nothing, which is said where the file pays for that.
        """
        some = [self.problem("train", number) for number in range(3)]
        if some != [self.problem("train", number) for number in range(3)]:
            raise UserError(
                f"{self} gives another problem for the same number: draw with random.Random(number), or no resumed "
                "run could go on"
            )
        items = [self.item(one, text) for one in some for text in (*PROBES, *known_answers(one.entry["problem"]))]
        verifier = self.verifier or Verifier()
        try:
            first, again = (verifier.judge(items) for _ in range(2))
        finally:
            verifier.close()
        for (_, text, _), (score, status, why), once_more in zip(items, first, again, strict=True):
            if status == "timeout":
                raise UserError(f"score of {self} takes more than {verifier.seconds:g} s for {text!r:.40}: mend it")
            if status == "error":
                raise UserError(f"score of {self} {why or 'ends its process'} for the answer {text!r:.40}: mend it")
            if (score, status, why) != once_more and "unverified" not in (status, once_more[1]):
                raise UserError(f"score of {self} differs from call to call for {text!r:.40}: take out what is random")
        partly = self.weights or any(score not in (None, 0.0, 1.0) for score, *_ in first)
        if binary and partly:
            print(f"{self}: --binary-reward pays nothing for what its score calls partly right", flush=True)


def text_of(one: dict[str, Any]) -> str:
    """What a problem asks, as one text."""
    prompt = one["prompt"]
    return prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)


def known_answers(one: dict[str, Any]) -> list[str]:
    return [value for key, value in one.items() if key != "prompt" and isinstance(value, str)]


def where(error: BaseException, path: Path) -> str:
    """An exception in one line, with the line of the user's file that it passed through last."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    told = f"{type(error).__name__}: {first_line(error)}"
    return told if line is None else f"{told}, line {line}"
