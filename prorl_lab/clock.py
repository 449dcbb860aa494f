"""When to stop waiting for the process that judges an answer: by its processor time, and by the wall clock at last.

How long an answer takes by the wall clock depends on who else uses the machine; how much processor time it needs does
not.  So an answer's limit is in processor seconds.  What sleeps or waits uses none, and is ended when it has slept
`ASLEEP` times that limit: time in which a process was ready to run, but another one had the processor, does not count
as sleep.  Linux keeps both figures for every thread in /proc/PID/task/TID/schedstat, out of a program's reach.

Where neither limit is reached within `BACKSTOP` times the limit by the wall clock, the machine was too busy to tell.
"""

import contextlib
import time
from pathlib import Path

ASLEEP = 4  # times the limit
BACKSTOP = 20
LOOK_SECONDS = 1.0  # between two looks at a process that keeps us waiting


class Starved(Exception):
    """The machine was too busy to tell whether the answer would have come in time."""


class Deadline:
    """A plain wall clock, for what is ours and not an answer's.  `look` raises TimeoutError."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    def patience(self) -> float:
        """Seconds to wait before the next look."""
        return max(0.001, self.end - time.monotonic())

    def look(self) -> None:
        if time.monotonic() >= self.end:
            raise TimeoutError


class AnswerClock:
    """The clock of one answer, from now on.

    Args:
        pid: the process, or the one that its sandbox started as; all that descends from it counts.
        seconds: processor seconds that the answer may use.
        slack: how much more we grant before we end it from here; where the process measures finely and says so itself.
    """

    def __init__(self, pid: int, seconds: float, slack: float = 0.0):
        self.pid, self.seconds, self.slack = pid, seconds, slack
        self.start = self.last = time.monotonic()
        self.used = self.slept = 0.0
        self.seen: dict[int, tuple[float, float]] | None = None  # most answers come before the first look

    def patience(self) -> float:
        """Seconds to wait before the next look."""
        return min(LOOK_SECONDS, max(0.05, self.seconds / 4))

    def look(self) -> None:
        """Raises TimeoutError when the answer is out of time, Starved when that can't be told."""
        now, threads = time.monotonic(), _threads(self.pid)
        if self.seen is not None:
            before = {thread: (0.0, 0.0) for thread in threads} | self.seen
            ready = [ran + waited - sum(before[thread]) for thread, (ran, waited) in threads.items()]
            self.used += sum(ran - before[thread][0] for thread, (ran, _) in threads.items())
            # Several threads may be ready at once, so their sum would let many short waits pass for one long one.
            self.slept += max(0.0, now - self.last - max(ready, default=0.0))
        self.seen, self.last = threads, now
        if self.used > self.seconds + self.slack or (threads and self.slept > ASLEEP * self.seconds):
            raise TimeoutError
        if now - self.start > BACKSTOP * self.seconds:
            raise Starved if threads else TimeoutError


Clock = Deadline | AnswerClock


def _threads(pid: int) -> dict[int, tuple[float, float]]:
    """Of each thread of a process and its descendants: seconds that it ran, and that it was ready but did not run.

    Empty where the kernel does not tell: then what has not ended by the backstop is taken to be asleep.
    """
    found: dict[int, tuple[float, float]] = {}
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):  # it may end while we look
                ran, waited, _ = (task / "schedstat").read_text().split()
                found[int(task.name)] = (int(ran) / 1e9, int(waited) / 1e9)
                waiting += map(int, (task / "children").read_text().split())
    return found
