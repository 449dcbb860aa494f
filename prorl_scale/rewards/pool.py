"""Score many answers at once, in worker processes that a clock can kill.

A thread per worker waits for its sandboxed processes and holds no Python lock while it does, so verification runs
beside generation.  An answer that hangs, kills its worker or eats its memory costs itself and a restart, nothing else.

A verdict depends on the answer and not on the machine: its clock counts processor seconds (`clock.py`).
"""

import logging
import math
import queue
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prorl_lab.clock import AnswerClock, Deadline, Starved
from prorl_lab.processors import usable_processors
from prorl_lab.scoring import SCORERS
from prorl_lab.scoring.extract import MAX_RESPONSE

from . import code_answers
from .sandbox import START_SECONDS, Child, ChildDied, SandboxError

STARTS = 3  # tries to start a process before the run stops
SLACK = 2.0  # processor seconds that a program's own runner, which measures finely, gets to say that time is up
STATUSES = ("ok", "wrong", "format", "timeout", "error", "unverified")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """`ok` full score, `wrong` less, `format` no answer where one was asked for, `timeout` the clock ended it,
    `error` the scorer or its process failed, or the reference is none, `unverified` the machine was too busy to tell:
    its score means nothing, and it must be neither paid nor punished."""

    score: float  # in [0, 1]
    status: str
    why: str = field(default="", compare=False)  # which rule decided, where the scorer says so; for people


class Pool:
    """Workers for `verify` (a batch, in order) and `submit` (one, a future).

    Args:
        workers: processes at work at once; by default one per processor that we may use, over `sharers`.
        seconds: processor time of one answer.
        code_seconds: processor time of all tests of one program together; over it the program scores 0.
        unsafe: do without the sandbox.  Model programs then run with your rights.
        sharers: processes on this machine that open a pool each.

    Raises SandboxError if the sandbox can't start.
    """

    def __init__(
        self,
        workers: int | None = None,
        seconds: float = 10.0,
        code_seconds: float = 5.0,
        unsafe: bool = False,
        sharers: int = 1,
    ):
        self.seconds, self.code_seconds, self.unsafe = seconds, code_seconds, unsafe
        self.workers = workers or max(1, usable_processors() // sharers)
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._alone = threading.Lock()
        self._workers = [_Worker(unsafe) for _ in range(self.workers)]
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="verify")
        # A bubblewrap process dies with the thread that started it, so even this first start is a pool thread's.
        try:
            self._threads.submit(self._workers[0].start, "worker").result()
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
            from prorl_lab.bars import tqdm

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
        seconds = self.code_seconds if domain == "code" else self.seconds
        try:
            worker = self._idle.get()
            try:
                return worker.score(domain, response, reference, seconds)
            except Starved:
                pass
            finally:
                self._idle.put(worker)
            return self._score_alone(domain, response, reference, seconds)
        except (ValueError, TypeError, SyntaxError):  # the reference is none; preparing the data drops such rows
            return Verdict(0.0, "error")

    def _score_alone(self, domain: str, response: str, reference: dict[str, Any], seconds: float) -> Verdict:
        """Once more, while no other worker of this pool is at work."""
        with self._alone:
            held = [self._idle.get() for _ in self._workers]
            try:
                return held[0].score(domain, response, reference, seconds)
            except Starved:
                log.warning("an answer is left unverified: the machine is too busy to tell whether it is in time")
                return Verdict(0.0, "unverified")
            finally:
                for worker in held:
                    self._idle.put(worker)


class _Worker:
    """Sandboxed processes, one that scores text and one that runs programs, started when first needed and again after
    each death."""

    def __init__(self, unsafe: bool):
        self.unsafe, self.closed = unsafe, False
        self.children: dict[str, Child] = {}  # by the module that runs inside

    def start(self, module: str) -> Child:
        """The running process, started if there is none.  Raises SandboxError if that fails or the pool is closed."""
        if self.closed:
            raise SandboxError("the pool is closed")
        if module not in self.children:
            # Either `interrupt` finds the child here, or we find that it has been.
            child = self.children[module] = Child(module, self.unsafe)
            try:
                child.wait_ready()
                if self.closed:
                    raise SandboxError("the pool is closed")
            except SandboxError:
                self.drop()
                raise
        return self.children[module]

    def score(self, domain: str, response: str, reference: dict, seconds: float) -> Verdict:
        """One verdict.  A process that dies may have been killed by someone else, so the answer gets a second try.

        Raises ValueError for a reference that is none, Starved where the machine is too busy to tell, SandboxError if
        the process does not come up or can't import what the domain needs.
        """
        for _ in range(2):
            try:
                if domain == "code":
                    return self._score_program(response, reference, seconds)
                return self._score_text(domain, response, reference, seconds)
            except TimeoutError:
                self.drop()
                return Verdict(0.0, "timeout")
            except Starved:
                self.drop()
                raise
            except ChildDied:
                self.drop()
        return Verdict(0.0, "error")

    def _score_text(self, domain: str, response: str, reference: dict, seconds: float) -> Verdict:
        child = self._ready_for(domain, response, reference, seconds)
        reply = child.receive(AnswerClock(child.process.pid, seconds))
        match reply:
            case {"verdict": verdict, "seconds": float() as used}:
                return _checked(verdict) if used <= seconds else Verdict(0.0, "timeout")
        raise ChildDied("a reply that is none")

    def _ready_for(self, domain: str, response: str, reference: dict, seconds: float) -> Child:
        """A process that has the item and all imports, so that the item's clock can start.

        A death up to here is not the item's doing: the kernel short of memory, perhaps.
        """
        for _ in range(STARTS):
            try:
                child = self.start("worker")
                deadline = Deadline(START_SECONDS)
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

    def _score_program(self, response: str, reference: dict, seconds: float) -> Verdict:
        asked = code_answers.question(response, reference, seconds)
        if asked is None:
            return Verdict(0.0, "format")
        for _ in range(STARTS):
            try:
                child = self.start("program")
                break
            except SandboxError as error:
                reason = error
        else:
            raise reason
        return Verdict(*code_answers.judge(child, asked, AnswerClock(child.process.pid, seconds, SLACK)))

    def drop(self) -> None:
        """End the processes; the next answer starts others."""
        while self.children:
            self.children.popitem()[1].kill()

    def interrupt(self) -> None:
        """End what runs, from another thread, and start nothing more."""
        self.closed = True
        for child in list(self.children.values()):
            child.process.kill()


def _checked(reply: Any) -> Verdict:
    """A verdict from what the inside sent, which we do not trust to be one; `unverified` is not for it to say."""
    match reply:
        case [int() | float() as score, str() as status, *why] if status in STATUSES[:-1] and math.isfinite(score):
            return Verdict(min(1.0, max(0.0, float(score))), status, "".join(map(str, why)))
    raise ChildDied("a verdict that is none")
