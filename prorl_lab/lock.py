"""One run per folder: a lock that dies with its process, and a note that says who holds it.

The lock is a POSIX record lock (`fcntl.lockf`): the kernel drops it when the process ends, however it ends, no child
inherits it, and NFS, Lustre (mounted with `flock`) and GPFS carry it from machine to machine.  Where a file system
keeps such locks to one machine, or has none, the note decides: it names host and process, and its time stamp is
renewed while the process lives.
"""

import atexit
import contextlib
import errno
import fcntl
import json
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from prorl_lab.errors import UserError

BEAT = 20.0  # seconds between two signs of life
SILENT = 120.0  # seconds without one after which the holder's machine is dead, or cut off
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


HELD: dict[Path, "FolderLock"] = {}  # a record lock belongs to the process, so this list of its own does, too


class FolderLock:
    """`folder/lock`, held until `release` or the end of the process.

    break_it: take over what another machine holds, which the user says is dead; never what is known to be alive.

    Raises UserError where the folder is in use, saying by whom, or where a lock can't be written.
    """

    def __init__(self, folder: Path, break_it: bool = False, name: str = "lock"):
        self.path = Path(os.path.realpath(folder)) / name
        if self.path in HELD:  # to open and close the file would drop the lock
            raise UserError(refusal(folder, whoami(), True, 0, False))
        try:
            self._take(folder, break_it)
        except OSError as error:
            raise UserError(
                f"can't write to {folder} ({error.strerror}): make it writable, or choose another --out"
            ) from error
        HELD[self.path] = self
        self.made_folder = False  # whether the folder was made for what holds this lock
        self.stopped = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="lock").start()

    def _take(self, folder: Path, break_it: bool) -> None:
        while True:
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                held = self._held_elsewhere()
                if sentence := refusal(folder, self.note(), held, self._silent_for(), break_it):
                    raise UserError(sentence)
                os.ftruncate(self.file, 0)
                os.pwrite(self.file, json.dumps(whoami()).encode(), 0)
                os.fsync(self.file)
                if os.path.exists(self.path) and os.path.samestat(os.fstat(self.file), os.stat(self.path)):
                    return  # else its holder took the file away between our opening it and locking it
            except BaseException:
                os.close(self.file)
                raise
            os.close(self.file)

    def note(self) -> dict[str, Any] | None:
        """Who holds, or held, it; None where nobody wrote, or only half.  Never opened anew: see `HELD`."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(os.pread(self.file, 10_000, 0))
        return None

    def _held_elsewhere(self) -> bool:
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return True
            if error.errno not in NO_LOCKS:
                raise
        return False

    def _silent_for(self) -> float:
        """Seconds since the holder's last sign of life, both ends by the file system's own clock."""
        before = os.fstat(self.file).st_mtime
        with tempfile.TemporaryFile(dir=self.path.parent) as probe:  # without a name, so a kill leaves nothing
            return os.fstat(probe.fileno()).st_mtime - before

    def _beat(self) -> None:
        while not self.stopped.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Let go, and take the note away unless it is that of whoever broke ours."""
        if HELD.pop(self.path, None):
            self.stopped.set()
            with contextlib.suppress(OSError):
                if self.note() == whoami():
                    self.path.unlink()
                os.close(self.file)
            if self.made_folder:
                with contextlib.suppress(OSError):
                    self.path.parent.rmdir()  # of a start that failed nothing is left; one that holds a file stays


@atexit.register
def release_all() -> None:
    """Let go of every folder that this process holds."""
    for lock in list(HELD.values()):
        lock.release()


def whoami() -> dict[str, Any]:
    """This process, so that no later one with its number is taken for it."""
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "born": _born(os.getpid())}


def _boot() -> str | None:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def _born(pid: int) -> str | None:
    """When a process began, in ticks since its machine did; None where there is no such process, or no /proc."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def _alive(note: dict[str, Any]) -> bool:
    """Does the process of a note, which is of this machine, still live?"""
    return note["boot"] == _boot() and _born(note["pid"]) == note["born"] is not None


def at_work(folder: Path, now: float, name: str = "lock") -> bool | None:
    """Does a process hold this folder?  None where that can't be told.  For whoever only looks: nothing is locked.

    now: seconds since 1970.  Of a process on another machine its sign of life decides.
    """
    path = Path(os.path.realpath(folder)) / name
    if path in HELD:  # to open and close the file would drop the lock
        return True
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return _alive(note) if note["host"] == socket.gethostname() else now - path.stat().st_mtime < SILENT
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return None


def refusal(folder: Path, note: dict[str, Any] | None, held: bool, silent: float, break_it: bool) -> str | None:
    """Why a lock can't be taken, in one sentence; None where it can.

    held: whether the kernel says that another process has it.  silent: seconds since the last sign of life.
    """
    if note is None:
        return f"{folder} is in use by another process: wait for its end, or choose another --out" if held else None
    who = f"process {note['pid']} on {note['host']}"
    here = note["host"] == socket.gethostname()
    if held or (here and _alive(note)):
        return f"{folder} is in use by {who}: wait for its end or stop it there, or choose another --out"
    if here and (note["boot"] == _boot() or silent >= SILENT):
        return None  # that process, or this machine's life before its last start, is over
    if break_it:
        return None
    if silent < SILENT:
        return (
            f"{folder} is in use by {who}, whose last sign of life is {max(0, silent):.0f} seconds old: stop it there "
            f"first, or try again in two minutes"
        )
    return (
        f"{folder} was left locked by {who}, silent for {_long(silent)}, so that process or its machine is dead or cut "
        "off from this file system: make sure of that, then give --break-lock"
    )


def _long(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
