"""Verify hostile text in a child process that a clock kills.

The verdicts are those of `prorl_lab.scoring`, which `prorl_scale` has in its sandbox.  Model output can hang a scorer
(`9**9**9**9`) or eat memory.  The child has a memory limit; the parent kills it after `seconds` of processor time and
starts a new one.  An item that was killed or raised scores 0 and is counted (`timeouts`, `errors`), apart from wrong
answers; one that a busy machine left no time for, twice, has no score (`unverified`).

Nine Reasoning Gym scorers evaluate the answer as Python.  In the sandbox they see only text that fits a strict grammar,
so that two walls stand between a model and the machine; here a grammar with one hole would be the only one.  So
`prorl_lab.tasks` refuses those tasks.
"""

import math
import multiprocessing
import resource
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from prorl_lab import scoring
from prorl_lab.clock import AnswerClock, Starved
from prorl_lab.errors import UserError
from prorl_lab.scoring import puzzle_rules
from prorl_lab.scoring.extract import MAX_RESPONSE, last_tagged

__all__ = ["EVALUATING_TASKS", "Verifier", "last_tagged"]

SECONDS = 10.0  # of processor time, per answer
MEMORY = 4 * 2**30  # bytes of address space
DOMAINS = ("math", "puzzle", "own")  # that need no package beyond mini's, and no sandbox
EVALUATING_TASKS = frozenset(puzzle_rules.GRAMMARS)


def serve(channel: int, seconds: float) -> None:
    """The child: score the items that come through this file descriptor, until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    connection = Connection(channel)
    scorers = {domain: scoring.scorer(domain) for domain in DOMAINS}
    connection.send("ready")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while True:
        try:
            domain, response, reference = connection.recv()
        except EOFError:
            return
        start = time.process_time()
        # The kernel counts whole seconds, so this is the last wall, and the only one where there is no /proc.
        resource.setrlimit(
            resource.RLIMIT_CPU, (math.ceil(start + seconds) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1])
        )
        try:
            score, status, *why = scorers[domain](response, reference)
        except Exception as error:  # noqa: BLE001  whatever a scorer trips over in hostile text is this item's score
            score, status, *why = 0.0, "error", f"raises {type(error).__name__}"
        late = time.process_time() - start > seconds
        connection.send((0.0, "timeout", "") if late else (score, status, "".join(why)))


Verdict = tuple[float | None, str, str]  # score in [0, 1], status, why


class Verifier:
    """One killable worker.  `timeouts`, `errors` and `unverified` count what was not merely wrong."""

    def __init__(self, seconds: float = SECONDS):
        self.seconds, self.timeouts, self.errors, self.unverified = seconds, 0, 0, 0
        self.process: Any = None
        self.connection: Any = None

    def score(self, items: list[tuple[str, str, dict]]) -> list[float | None]:
        """Scores of (domain, response, reference) in their order; the domains are some of `prorl_scale.rewards`'.

        None for an answer that the machine was too busy to judge.
        """
        return [score for score, *_ in self.judge(items)]

    def judge(self, items: list[tuple[str, str, dict]]) -> list[Verdict]:
        """The same with status and reason; the statuses are those of `prorl_scale.rewards`."""
        return [self._score_one(item) for item in items]

    def _score_one(self, item: tuple[str, str, dict]) -> Verdict:
        if len(item[1]) > MAX_RESPONSE:
            return 0.0, "format", "too long"
        for _ in range(2):
            try:
                return self._try_to_score(item)
            except Starved:
                self.close()
        self.unverified += 1
        return None, "unverified", "the machine was too busy"

    def _try_to_score(self, item: tuple[str, str, dict]) -> Verdict:
        if self.process is None or self.process.poll() is not None:
            self._start()
        try:
            self.connection.send(item)
            clock = AnswerClock(self.process.pid, self.seconds)
            while not self.connection.poll(clock.patience()):
                clock.look()
            score, status, why = self.connection.recv()
            self.errors += status == "error"
            self.timeouts += status == "timeout"
            return min(1.0, max(0.0, float(score))), status, why
        except TimeoutError:
            self.timeouts += 1
            late = True
        except (EOFError, OSError):  # the worker died, of memory most likely
            late = self.process.wait() == -signal.SIGXCPU
            self.timeouts, self.errors = self.timeouts + late, self.errors + (not late)
        self.close()
        return 0.0, "timeout" if late else "error", ""

    def _start(self) -> None:
        # A fresh interpreter, since forking one that holds a model and threads of torch can deadlock; and not that of
        # multiprocessing, which would first run the caller's script once more.
        self.connection, theirs = multiprocessing.Pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}; from prorl_lab import verify; "
        code += f"verify.serve({theirs.fileno()}, {self.seconds!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()
        if not self.connection.poll(120):  # its imports take seconds, which no answer should pay for
            self.close()
            raise UserError(
                "the verifier's process did not start within two minutes: the machine is too busy, or what it imports "
                "lies on a file system that hangs; try again"
            )
        try:
            self.connection.recv()
        except EOFError:
            self.close()
            raise UserError("the verifier's process ended before it was ready, for the reason above: mend it") from None

    def close(self) -> None:
        """Kill the worker; the next `score` starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.connection.close()
        self.process = None
