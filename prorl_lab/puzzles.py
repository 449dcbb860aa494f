"""Reasoning Gym's problems, each with a seed of its own, and divided by what they ask.

Reasoning Gym 0.1.25 makes item i of a data set from `Random(seed + i)`, so item i of a seed is item i - 1 of the next,
and two runs with neighbouring seeds see the same problems.  Here the seed of every single problem is a hash of its
task, the run's seed and its number, set on one data set per task.

Which split a problem belongs to follows from its text alone.  Whatever the seed and whichever program draws it (mini,
`prepare`, `evaluate`), a question that is held out is held out everywhere, also of a task that has ninety in all.
"""

import contextlib
import functools
import io
import random
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from prorl_lab.errors import UserError, first_line
from prorl_lab.later import Later
from prorl_lab.seeds import derived
from prorl_lab.split import split_of

reasoning_gym = Later("reasoning_gym")
SIZE = 500  # of a data set, the library's default: where it draws the kind of item i at construction, so many kinds
REBUILT = {"acre": 5}  # makes all its items at construction; of 5, three, one and one are of its three kinds
GLOBAL = {"codeio", "pool_matrix", "bf"}  # draw from the global generators, print, or write files (codeio's programs)
NARROW = {"pool_matrix"}  # hands the seed to numpy's old generator, which takes 32 bits
RENAMED = {"palindrome": "palindrome_generation"}  # the paper's name of a task, and the library's
TRIES = 100  # draws for one training problem; half of all questions are for training
SEARCH = 400  # draws without a new question after which a task is taken to have no more of them


@contextlib.contextmanager
def _quiet_and_seeded(seed: int) -> Iterator[None]:
    """What a task of `GLOBAL` draws from, prints and writes is its own inside, and as it was before afterwards.

    It works in an empty folder: a file that an earlier problem left would make another problem of the same number.
    That moves the whole process there, so what runs beside it in a thread must use absolute paths.
    """
    ours, numpys = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.chdir(folder),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)


LARGEST = 10**1000  # of a number in a sequence


@functools.cache
def bound_sequences() -> None:
    """Some rules of number_sequence square a number at every term, several times: one draw in some thousands would take
    all memory.  The library throws such a sequence away, and takes another rule where this one raises OverflowError."""
    from reasoning_gym.cognition.number_sequences import PatternRule

    unbounded = PatternRule.apply

    def apply(rule: Any, sequence: list[int], position: int) -> int:
        result = unbounded(rule, sequence, position)
        if abs(result) > LARGEST:
            raise OverflowError
        return result

    PatternRule.apply = apply


class NoProblem(Exception):
    """The generator made none from this seed: word_ladder finds no path, basic_arithmetic divides by zero."""


class Puzzles:
    """The problems of one task, each a pure function of (seed, split, number).

    task: a name of Reasoning Gym or of the paper.  question: what an entry asks, as text.  options: of the generator.
    """

    def __init__(
        self, task: str, seed: object, question: Callable[[dict], str] = lambda entry: entry["question"], **options: Any
    ):
        self.task, self.seed, self.question, self.options = RENAMED.get(task, task), seed, question, options
        self.dataset = self._create(0)
        self._held: dict[str, list[dict]] = {}
        self._drawn: dict[str, int] = {}  # how many draws were made for that list

    def _alone(self, seed: int) -> Any:
        return _quiet_and_seeded(seed) if self.task in GLOBAL else contextlib.nullcontext()

    def _create(self, seed: int) -> Any:
        if self.task == "number_sequence":
            bound_sequences()
        with self._alone(seed):
            size = REBUILT.get(self.task, SIZE)
            return reasoning_gym.create_dataset(self.task, seed=seed, size=size, **self.options)

    def draw(self, *names: object) -> dict[str, Any]:
        """The entry that these names fix, of whatever split.  Raises NoProblem where they fix none."""
        seed = derived(self.task, self.seed, *names)
        size = REBUILT.get(self.task, SIZE)
        place = seed % size
        if self.task in REBUILT:
            self.dataset = self._create(seed)
        own = (seed % 2**32 if self.task in NARROW else seed) // size * size  # item i adds i to it
        with self._alone(seed):
            # survo reads the seed from the settings; word_ladder shrinks the data set where a pair has no path.
            self.dataset.seed = self.dataset.config.seed = own
            self.dataset.size = size
            try:
                return self.dataset[place]
            except Exception as error:  # whatever a generator of the library trips over
                raise NoProblem(f"{type(error).__name__}: {first_line(error)}") from error

    def train(self, number: int, fits: Callable[[dict], bool] = lambda entry: True) -> dict[str, Any]:
        """Training problem `number`: the first of its draws that is not held out, and fits.

        Raises UserError where there is none: the task has next to no questions.
        """
        why = "it has too few different questions"
        for attempt in range(TRIES):
            try:
                entry = self.draw("train", number, attempt)
            except NoProblem as miss:
                why = str(miss)
                continue
            if fits(entry) and split_of(self.question(entry)) == "train":
                return entry
        raise UserError(f"{self.task!r} has nothing left to train on beside what is held out ({why}): leave it out")

    def held_out(self, split: str, number: int) -> dict[str, Any]:
        """Problem `number` of "validation" or "held-out", no question twice.

        Raises IndexError past the last: a task may have few.
        """
        found = self._held.setdefault(split, [])
        seen = {self.question(entry) for entry in found} if len(found) <= number else set()
        searched = 0
        while len(found) <= number:
            if searched == SEARCH:
                raise IndexError(f"{self.task} has {len(found)} different questions for {split}")
            searched += 1
            attempt = self._drawn[split] = self._drawn.get(split, -1) + 1
            with contextlib.suppress(NoProblem):
                entry = self.draw(split, attempt)
                question = self.question(entry)
                if question not in seen and split_of(question) == split:
                    seen.add(question)
                    found.append(entry)
                    searched = 0
        return found[number]
