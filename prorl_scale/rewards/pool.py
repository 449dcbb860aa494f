"""Score many answers at once, in worker processes that a clock can kill.

A thread per worker waits for its sandboxed process and holds no Python lock while it does, so verification runs beside
generation.  An answer that hangs, kills its worker or eats its memory costs itself and a restart, nothing else.
"""

import math
import os
import queue
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prorl_lab.scoring.extract import MAX_RESPONSE

from . import code_answers
from .inside.worker import SCORERS
from .sandbox import START_SECONDS, Child, ChildDied, SandboxError

STARTS = 3  # tries to start a process before the run stops
STATUSES = ("ok", "wrong", "format", "timeout", "error")


@dataclass(frozen=True)
class Verdict:
    """`ok` full score, `wrong` less, `format` no answer where one was asked for, `timeout` the clock ended it,
    `error` the scorer or its process failed, or the reference is none."""

    score: float  # in [0, 1]
    status: str
    why: str = field(default="", compare=False)  # which rule decided, where the scorer says so; for people


class Pool:
    """Workers for `verify` (a batch, in order) and `submit` (one, a future).

    Args:
        workers: processes at work at once; by default one per CPU we may use.
        seconds: wall clock of one answer.
        code_seconds: wall clock of all tests of one program together; over it the program scores 0.
        unsafe: do without the sandbox.  Model programs then run with your rights.

    Raises SandboxError if the sandbox can't start.
    """

    def __init__(
        self, workers: int | None = None, seconds: float = 10.0, code_seconds: float = 5.0, unsafe: bool = False
    ):
        self.seconds, self.code_seconds, self.unsafe = seconds, code_seconds, unsafe
        count = workers or len(os.sched_getaffinity(0))
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers = [_Worker(unsafe) for _ in range(count)]
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="verify")
        # A bubblewrap process dies with the thread that started it, so even this first start is a pool thread's.
        try:
            self._threads.submit(self._workers[0].start).result()
        except BaseException:
            self.close()
            raise

    def submit(self, domain: str, response: str, reference: dict[str, Any]) -> Future[Verdict]:
        """Score one response in the background.  Raises ValueError for a domain that does not exist."""
        if domain != "code" and domain not in SCORERS:
            raise ValueError(f"unknown domain {domain!r}: choose from code, {', '.join(SCORERS)}")
        return self._threads.submit(self._score, domain, response, reference)

    def verify(self, items: Iterable[tuple[str, str, dict[str, Any]]], progress: bool = False) -> list[Verdict]:
        """Verdicts of (domain, response, reference) triples, in their order, with a progress bar if asked."""
        futures = [self.submit(*item) for item in items]
        if progress:
            from tqdm import tqdm

            futures = tqdm(futures, desc="verify", unit=" answers")
        return [future.result() for future in futures]

    def close(self) -> None:
        """Kill the workers; answers not yet scored are cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.interrupt()
        self._threads.shutdown()
        for worker in self._workers:
            worker.drop()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _score(self, domain: str, response: str, reference: dict[str, Any]) -> Verdict:
        if len(response) > MAX_RESPONSE:
            return Verdict(0.0, "format")
        worker = self._idle.get()
        try:
            if domain == "code":
                return Verdict(*worker.run_program(response, reference, self.code_seconds))
            return worker.score(domain, response, reference, self.seconds)
        except (ValueError, TypeError, SyntaxError):  # the reference is none; preparing the data drops such rows
            return Verdict(0.0, "error")
        finally:
            self._idle.put(worker)


class _Worker:
    """One sandboxed process that scores text, started when first needed and again after each death."""

    def __init__(self, unsafe: bool):
        self.unsafe, self.child, self.closed = unsafe, None, False
        self.programs: list[Child] = []  # sandboxes of model programs that run in this worker's turn

    def start(self) -> Child:
        """The running process, started if there is none.  Raises SandboxError if that fails or the pool is closed."""
        if self.closed:
            raise SandboxError("the pool is closed")
        if self.child is None:
            child = Child("worker", self.unsafe)
            child.wait_ready()
            self.child = child
        return self.child

    def score(self, domain: str, response: str, reference: dict, seconds: float) -> Verdict:
        """One verdict.  A process that dies may have been killed by someone else, so the answer gets a second try.

        Raises SandboxError if the process does not come up, or can't import what the domain needs.
        """
        for _ in range(2):
            child = self._ready_for(domain, response, reference, seconds)
            try:
                return _checked(child.receive(time.monotonic() + seconds))
            except TimeoutError:
                self.drop()
                return Verdict(0.0, "timeout")
            except ChildDied:
                self.drop()
        return Verdict(0.0, "error")

    def _ready_for(self, domain: str, response: str, reference: dict, seconds: float) -> Child:
        """A process that has the item and all imports, so that the item's clock can start.

        A death up to here is not the item's doing: the kernel short of memory, perhaps.
        """
        for _ in range(STARTS):
            try:
                child = self.start()
                deadline = time.monotonic() + START_SECONDS
                child.send((domain, response, reference, seconds), deadline)
                reply = child.receive(deadline)
            except (ChildDied, TimeoutError, SandboxError) as error:
                reason = error
                self.drop()
                continue
            if reply == "started":
                return child
            self.drop()
            reason = f"the {domain} verifier can't be imported: {reply}; pip install -r requirements-rewards.txt"
        raise SandboxError(f"a worker did not start {STARTS} times in a row: {reason}")

    def run_program(self, response: str, reference: dict, seconds: float) -> tuple[float, str]:
        """Score and status of a program, in a sandbox of its own.  Raises SandboxError if that does not start."""
        for _ in range(STARTS):
            try:
                return code_answers.score(response, reference, seconds, self.unsafe, self.programs)
            except SandboxError as error:
                reason = error
        raise reason

    def drop(self) -> None:
        """End the process; the next answer starts another."""
        if self.child is not None:
            self.child.kill()
        self.child = None

    def interrupt(self) -> None:
        """End what runs, from another thread, and start nothing more."""
        self.closed = True
        for child in [self.child, *self.programs]:
            if child is not None:
                child.process.kill()


def _checked(reply: Any) -> Verdict:
    """A verdict from what the inside sent, which we do not trust to be one."""
    match reply:
        case [int() | float() as score, str() as status, *why] if status in STATUSES and math.isfinite(score):
            return Verdict(min(1.0, max(0.0, float(score))), status, "".join(map(str, why)))
    raise ChildDied("a verdict that is none")
