"""Verify hostile text in a child process that a wall clock kills.

Model output can hang a scorer (`9**9**9**9`) or eat memory.  The child has a memory limit; the parent kills it after
`seconds` and starts a new one.  An item that was killed or raised scores 0 and is counted (`timeouts`, `errors`), apart
from wrong answers.  Nine Reasoning Gym scorers evaluate the answer as Python: a clock is no defence against those, so
`prorl_lab.tasks` refuses them.
"""

import functools
import multiprocessing
import resource
from collections.abc import Callable
from typing import Any

import reasoning_gym
from math_verify import parse, verify

from prorl_lab.scoring.extract import after_think, last_boxed, last_tagged

SECONDS = 10.0  # per answer
MEMORY = 4 * 2**30  # bytes of address space
MAX_ANSWER = 500  # characters of a final answer; longer ones only serve to slow the parser down

# Scorers that evaluate the answer as Python or through sympy's parser (found by reading reasoning-gym 0.1.25).
EVALUATING_TASKS = {
    *("string_insertion", "spiral_matrix", "binary_matrix", "n_queens"),
    *("simple_integration", "intermediate_integration", "polynomial_multiplication", "countdown", "puzzle24"),
}


def score_puzzle(response: str, reference: dict) -> float:
    """Reasoning Gym's own score of the last <answer> after </think>, 0 for a missing one."""
    answer = last_tagged(after_think(response))
    return 0.0 if answer is None else min(1.0, max(0.0, float(_scorer(reference["task"])(answer, reference["item"]))))


@functools.cache
def _scorer(task: str) -> Callable[[str, dict], float]:
    return reasoning_gym.get_score_answer_fn(task)


def score_math(response: str, reference: dict) -> float:
    r"""1 if math-verify finds the last \boxed answer after </think> equal to the reference, else 0."""
    answer = last_boxed(after_think(response))
    if not answer or len(answer) > MAX_ANSWER:
        return 0.0
    # Unboxed LaTeX loses a fifth of the references to the parser, so both sides are boxed.
    return float(verify(parse(f"\\boxed{{{reference['answer']}}}"), parse(f"\\boxed{{{answer}}}")))


_SCORERS = {"puzzle": score_puzzle, "math": score_math}


def _serve(connection: Any) -> None:
    """The child: score items until the parent hangs up."""
    connection.send("ready")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while True:
        try:
            domain, response, reference = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("ok", _SCORERS[domain](response, reference)))
        except Exception as error:  # noqa: BLE001  whatever a scorer trips over in hostile text is this item's score, not a crash
            connection.send(("error", repr(error)))


class Verifier:
    """One killable worker.  `timeouts` and `errors` count what was not merely wrong."""

    def __init__(self, seconds: float = SECONDS):
        self.seconds, self.timeouts, self.errors = seconds, 0, 0
        self.process: Any = None
        self.connection: Any = None

    def score(self, items: list[tuple[str, str, dict]]) -> list[float]:
        """Scores of (domain, response, reference) in their order; these are two of `prorl_scale.rewards`' domains."""
        return [self._score_one(item) for item in items]

    def _score_one(self, item: tuple[str, str, dict]) -> float:
        if self.process is None or not self.process.is_alive():
            self._start()
        try:
            self.connection.send(item)
            if self.connection.poll(self.seconds):
                status, value = self.connection.recv()
                if status == "ok":
                    return value
                self.errors += 1
                return 0.0
            self.timeouts += 1
        except (EOFError, OSError):  # the worker died, of memory most likely
            self.errors += 1
        self.close()
        return 0.0

    def _start(self) -> None:
        # A fresh interpreter: forking one that holds a model and threads of torch can deadlock.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        if not self.connection.poll(120):  # its imports take seconds, which no answer should pay for
            raise RuntimeError("the verifier process did not start within two minutes")
        self.connection.recv()

    def close(self) -> None:
        """Kill the worker; the next `score` starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
        self.process = None
