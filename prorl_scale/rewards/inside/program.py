"""Inside the sandbox of programs: run one program after another against tests whose expected outputs it never holds.

Four kinds of process live here, each forked by the one before, so that Python and its modules are loaded once:

- the keeper (`main`) has Python loaded and waits.  It reads nothing that is sent, so nothing of one program's tests is
  in its memory when the next one is forked from it;
- a gate per program makes a process namespace: what is behind it can't name what is before it;
- the runner of a program is that namespace's first process.  It is ours and never executes the program; it measures.
  It compiles a script once for all tests, which runs none of it;
- the program's process has an empty folder, no privileges, a stricter system call filter, and no way to reach the
  runner's memory or its line outside.

The forms of a test:

- stdin/stdout: a fresh process per test; the runner sends each output outside, where it is compared.
- calls: one process holds the program; the runner asks it for f(*args) and sends the result outside.
- asserts: the runner gets the tests only after that process was forked, and runs them with stand-ins for the program's
  names: a call goes there, a plain value comes back.  So a program can't see what is asserted, patch the comparison or
  `assert`, or leave early with success.  The runner proves its report with a nonce it got last.

A clock counts the processor time of all of them behind the gate together.
"""

import atexit
import builtins
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

from . import isolation, names, seccomp
from .line import Line, limit_cpu, write_all
from .values import Remote, change_in_place, decode, encode

MEMORY = 2**30  # bytes of address space per process: one program's process at a time, and it can't fork
THREADS = 64
MAX_OUTPUT = 8 * 2**20  # bytes a test may print
MAX_VALUE = 2**22  # bytes of a call's result, and of results that are sent together
SHORTLY = 0.02  # seconds
REHEARSALS = 20  # Python rewrites code for speed from its eighth run on
TEST_FOLDER, SHOWN_FOLDER = "/prorl/test", "/prorl/shown"  # of a test's input and output: the runner's, the program's
OWN_FOLDER = os.environ["HOME"]  # the program may write to


class OutOfTime(BaseException):
    """The program and its tests have used up their processor time; no `except Exception` of a test may catch it."""


def main(line: Line) -> None:
    line.ready(MEMORY, THREADS)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's handler would let it into the first process of a namespace
    # What every child needs is made once, here: a fork is cheap, what it touches is copied.
    names.load()
    rehearse()
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(fd, mode, closefd=False, errors="replace") for fd, mode in enumerate("rww")
    )
    refuse = None if line.unsafe else seccomp.ProcessFilter()
    gc.freeze()  # or the collector would touch all pages in every child
    outside = socket.socket(fileno=line.fd)
    while outside.recv(1, socket.MSG_PEEK):  # until the other side hangs up
        gate = os.fork()
        if gate == 0:
            _leave(_gate, line, refuse)
        _, status, used = os.wait4(gate, 0)
        if status:  # the runner died: of its clock, or of its memory
            line.send({"died": used.ru_utime + used.ru_stime})


def _leave(work: Any, *args: Any) -> None:
    """Do the work of a forked process and end it; it must never return into its parent's code."""
    status = 1
    try:
        status = work(*args) or 0
    finally:
        os._exit(status)


def _gate(line: Line, refuse: seccomp.ProcessFilter | None) -> int:
    if not line.unsafe:
        isolation.leave()
    runner = os.fork()
    if runner == 0:
        _leave(_run, line, refuse)
    _, status = os.waitpid(runner, 0)
    return int(status != 0)


def _run(line: Line, refuse: seccomp.ProcessFilter | None) -> None:
    request = line.receive()
    runner = Runner(line, request["seconds"], refuse)
    if request["form"] == "stdin":
        limit_cpu(request["seconds"], for_good=True)  # each of its children inherits
        names.provide(names.OF_A_SCRIPT)
        code = compiled(request["code"])
        for number, text in enumerate(request["inputs"], 1):
            printed = runner.run_stdin(code, text) if code else None
            if not runner.report(["printed", printed], last=number == len(request["inputs"])):
                return
        return
    program = Program(runner, request["code"], request["preamble"])
    if not runner.report("forked"):  # only now may the tests come in
        return
    tests = line.receive()
    if request["form"] == "calls":
        for number, arguments in enumerate(tests["calls"], 1):
            returned = call(program, tests["fn_name"], arguments)
            if not runner.report(returned, last=number == len(tests["calls"])):
                return
    else:
        limit_cpu(request["seconds"], for_good=True)  # the tests run in this process
        passed = run_asserts(program, tests["setup"], tests["asserts"])
        runner.report({"nonce": tests["nonce"], "passed": passed})


class Runner:
    """Starts the program's processes one at a time, waits for them and keeps their time."""

    def __init__(self, line: Line, seconds: float, refuse: seccomp.ProcessFilter | None):
        self.line, self.seconds, self.refuse = line, seconds, refuse
        self.ended = 0.0  # processor seconds of the program's processes that are gone
        self.pid = self.pidfd = -1
        self.processors = len(os.sched_getaffinity(0))
        self.folder, self.own_folder = self._make_folders()
        self.null = os.open(os.devnull, os.O_RDWR)

    def _make_folders(self) -> tuple[int, str]:
        """The folder of a test's input and output, open; and where the program gets its own."""
        if self.line.unsafe:
            folder = os.path.abspath(f"test-{os.getpid()}")
            os.mkdir(folder)
            os.mkdir(f"{folder}/own")
            return os.open(folder, os.O_RDONLY), f"{folder}/own"
        # The program can read its input by the name of /dev/stdin.  It must not leave anything there for the next test,
        # so it sees the folder read-only, while the one that can be written to is out of its reach.
        isolation.mount_folder(TEST_FOLDER)
        folder = os.open(TEST_FOLDER, os.O_RDONLY)
        isolation.show_read_only(TEST_FOLDER, SHOWN_FOLDER)
        isolation.unmount(TEST_FOLDER)
        isolation.mount_folder(OWN_FOLDER)
        return folder, OWN_FOLDER

    def _empty_own_folder(self) -> None:
        if self.line.unsafe:
            import shutil

            os.chdir("..")
            shutil.rmtree(self.own_folder)
            os.mkdir(self.own_folder)
        else:
            if os.listdir(self.own_folder):
                isolation.unmount(self.own_folder)  # which waits for other processors, a fifth of a millisecond
            isolation.mount_folder(self.own_folder)  # what is below an empty one can no longer be named

    def report(self, message: Any, last: bool = True) -> bool:
        """Report a test's result if there was time for it -> whether there was."""
        in_time = self.left() >= 0
        if in_time and not last and len(self.line.held) < MAX_VALUE:
            self.line.hold(message)
        else:
            self.line.send(message if in_time else "out of time")
        return in_time

    def left(self) -> float:
        """Processor seconds that are left.  The clock of a process covers its threads, and it can make no processes."""
        running = time.clock_gettime(~self.pid << 3 | 2) if self.pid >= 0 else 0.0  # CLOCK_PROCESS_CPUTIME_ID of a pid
        return self.seconds - self.ended - running - time.process_time()

    def start(self, work: Any, *args: Any, stdin: int, stdout: int, keep: int = 3) -> None:
        """Fork a process that becomes the program's and then does the work.

        It inherits all it needs, for what a forked process does is many times as expensive: it copies what it touches.
        keep: a descriptor beyond the standard streams that it needs.
        """
        os.chdir(self.own_folder)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        self.pid = os.fork()
        if self.pid == 0:
            _leave(self._become_program, keep, work, *args)
        self.pidfd = os.pidfd_open(self.pid)

    def wait_shortly(self) -> None:
        """For a moment, until the process is gone: most soon are, and a pipe holds what they print."""
        waiting = select.poll()
        waiting.register(self.pidfd, select.POLLIN)
        waiting.poll(1000 * SHORTLY)

    def wait(self, fd: int) -> Iterator[bytes]:
        """Pieces of what the process writes to `fd`, until it is gone.

        Raises OutOfTime.  The process can't use more than all processors at once, so there is no need to look sooner.
        """
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        waiting.register(self.pidfd, select.POLLIN)
        while True:
            left = self.left()
            if left < 0:
                raise OutOfTime
            ready = {found for found, _ in waiting.poll(1000 * max(left / self.processors, 0.005))}
            if fd in ready:
                if piece := os.read(fd, 2**16):  # what a pipe holds
                    yield piece
                    continue
                waiting.unregister(fd)  # a socket that it closed, which it may well survive
            if self.pidfd in ready:
                return

    def end(self) -> int:
        """Kill the process if it still runs, and settle its account -> its exit status."""
        if self.pid < 0:
            return -1
        os.kill(self.pid, signal.SIGKILL)
        if self.line.unsafe:
            with contextlib.suppress(ProcessLookupError):  # without a namespace, what it started lives on
                os.killpg(self.pid, signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        self.pid = -1
        self.ended += used.ru_utime + used.ru_stime
        return status

    def run_stdin(self, code: types.CodeType, text: str) -> str | None:
        """What the program prints when it is fed `text`; None if it fails or prints too much."""
        file = os.open("stdin", os.O_WRONLY | os.O_CREAT, dir_fd=self.folder)
        write_all(file, text.encode(errors="replace"))
        os.mkfifo("stdout", dir_fd=self.folder)
        stdin = os.open("stdin", os.O_RDONLY, dir_fd=self.folder)
        output = os.open("stdout", os.O_RDONLY | os.O_NONBLOCK, dir_fd=self.folder)
        stdout = os.open("stdout", os.O_WRONLY, dir_fd=self.folder)
        self.start(_run_as_main, code, stdin=stdin, stdout=stdout)
        for fd in (file, stdin, stdout):
            os.close(fd)
        printed, status = bytearray(), -1
        try:
            self.wait_shortly()
            for piece in self.wait(output):
                printed += piece
                if len(printed) > MAX_OUTPUT:
                    break
            else:
                status = self.end()
        except OutOfTime:
            pass  # which `report` will see as well
        self.end()
        os.close(output)
        for name in ("stdin", "stdout"):  # which the program could mark, through its descriptors, for its next test
            os.unlink(name, dir_fd=self.folder)
        self._empty_own_folder()
        return printed.decode(errors="replace") if status == 0 else None

    def _become_program(self, keep: int, work: Any, *args: Any) -> None:
        """From here on this process is the program's: no line outside, no new processes."""
        os.closerange(3, keep)
        os.closerange(keep + 1, 64)  # the limit on descriptors
        if self.line.unsafe:
            os.setsid()
        else:
            isolation.drop_privileges()
            self.refuse.put_on()
        work(*args)


# --- stdin and stdout


def rehearse() -> None:
    """Run a small script of ours as programs are run, on the empty input that this process was started with.

    Python fills caches the first time it does a thing; done here, no process of a program has to, each for itself.
    """
    script = compiled("try:\n    print(*map(int, input().split()))\nexcept EOFError:\n    print(1 + 1)")
    for _ in range(REHEARSALS):
        exec(script, vars(names.new_module("__main__")))
        sys.stdout.flush()


def compiled(code: str) -> types.CodeType | None:
    """A script's code, for all of its tests; None for one that no Python takes, which fails them all.

    What the compiler may use is the runner's: its memory, its nesting, and the time of all tests together.
    """
    try:
        return compile(code, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return None


def _run_as_main(code: types.CodeType) -> None:
    """Execute a whole program as a script would be, then leave; status 0 only if it ended well."""
    status = 1
    try:
        try:
            exec(code, vars(names.new_module("__main__")))
            status = 0
        except SystemExit as stop:
            status = 0 if stop.code in (None, 0) else 1
        threading = sys.modules.get("threading")  # we do not import it: it makes every fork twice as expensive
        for thread in threading.enumerate() if threading else ():  # a program may work in threads that it does not join
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()  # os._exit below would leave out what the program registered
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001  whatever the program throws, this process must not return into the runner's code
        status = 1
    finally:
        os._exit(status)


# --- function calls


class Program:
    """The runner's end of a process that has executed the program and answers questions about its names."""

    def __init__(self, runner: Runner, code: str, preamble: str):
        self.runner = runner
        self.socket, theirs = socket.socketpair()
        null, fd = runner.null, theirs.fileno()
        runner.start(_serve_calls, code, preamble, runner.seconds, theirs, stdin=null, stdout=null, keep=fd)
        theirs.close()

    def ask(self, *question: Any) -> Any:
        """Ask ("name", n), ("call", value, args, kwargs), ("get", value, attribute) or ("set", value, attribute, v).

        Returns a plain value or a `Remote`; what a call does to its arguments is done to ours.  Raises what the program
        raised, RuntimeError if it is gone, OutOfTime.
        """
        try:
            self.socket.sendall(json.dumps(encode(list(question))).encode() + b"\n")
            kind, value, *changed = json.loads(self._read_line())
        except (OSError, ValueError) as error:
            raise RuntimeError("the program is gone, or its answer is too long") from error
        if kind == "value":
            for place, new in changed:
                args, kwargs = question[2:]
                old = args[place] if isinstance(place, int) else kwargs[place]
                change_in_place(old, decode(new, self._remote))
            return decode(value, self._remote)
        error = getattr(builtins, str(value), RuntimeError)
        raise error() if isinstance(error, type) and issubclass(error, Exception) else RuntimeError()

    def _remote(self, number: int) -> Remote:
        return Remote(self, number)

    def _read_line(self) -> bytes:
        reply = bytearray()
        for piece in self.runner.wait(self.socket.fileno()):
            reply += piece
            if reply.endswith(b"\n"):
                return bytes(reply)
            if len(reply) > MAX_VALUE:
                break
        raise OSError("no whole answer")


def _serve_calls(code: str, preamble: str, seconds: float, line: socket.socket) -> None:
    """The program's process: execute it, then answer questions until the runner hangs up.  Never returns."""
    limit_cpu(seconds, for_good=True)
    names.provide(names.OF_A_SCRIPT)
    names.provide(names.of_leetcode())
    module = vars(names.new_module("solution"))
    objects: dict[int, Any] = {}
    try:
        try:
            exec(compile(preamble, "preamble.py", "exec"), module)
            exec(compile(code, "solution.py", "exec"), module)
        except (Exception, SystemExit):  # noqa: BLE001  names it did define can still be asked for
            pass
        for request in line.makefile("rb"):
            try:
                reply = json.dumps(["value", *_answer(json.loads(request), module, objects)]).encode() + b"\n"
            except BaseException as error:  # noqa: BLE001  SystemExit included: the runner is told what was raised
                reply = json.dumps(["raise", type(error).__name__]).encode() + b"\n"
            line.sendall(reply)
    finally:
        os._exit(0)


def _answer(request: Any, module: dict[str, Any], objects: dict[int, Any]) -> list:
    """The value asked for, encoded, and [place, value] of each argument that a call has changed."""
    kind, target, *rest = decode(request, objects.get)
    if kind == "name":
        return [encode(module[target], objects)]
    if kind == "get":
        return [encode(getattr(target, rest[0]), objects)]
    if kind == "set":
        return [encode(setattr(target, *rest), objects)]
    args, kwargs = rest
    given = [*enumerate(args), *kwargs.items()]
    before = [encode(value, objects) for _, value in given if isinstance(value, (list, dict, set, bytearray, tuple))]
    result = encode(target(*args, **kwargs), objects)
    mutable = [(place, value) for place, value in given if isinstance(value, (list, dict, set, bytearray, tuple))]
    after = [[place, encode(value, objects)] for place, value in mutable]
    return [result, *(new for old, new in zip(before, after, strict=True) if old != new[1])]


def call(program: Program, name: str, arguments: list) -> Any:
    """The result of one call of a function, or of a method of the class `Solution`, as JSON; ["failed"] if it raises.

    Tuples become lists, as the tests' own JSON has it.
    """
    try:
        try:
            function = program.ask("name", name)
        except KeyError:
            function = getattr(program.ask("name", "Solution")(), name)
        return ["returned", encode(function(*arguments))]
    except (Exception, OutOfTime):  # noqa: BLE001  any failure of the program is a failed test; `report` knows the time
        return ["failed"]


# --- asserts


class _Names(dict):
    """The globals of the asserts: a name that the tests do not define is the program's.  Builtins stay ours."""

    def __init__(self, program: Program):
        super().__init__(__name__="tests", __builtins__=builtins)
        sys.modules["tests"] = types.ModuleType("tests")  # a dataclass of the tests looks its module up
        self._program = program

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        try:
            return self._program.ask("name", name)
        except Exception:  # noqa: BLE001
            raise KeyError(name) from None


def run_asserts(program: Program, setup: str, asserts: list[str]) -> list[bool]:
    """Whether each of the tests, a statement or several, holds for the program."""
    passed = [False] * len(asserts)
    tests = _Names(program)
    try:
        exec(setup, tests)
        for place, statements in enumerate(asserts):
            passed[place] = _holds(statements, tests)
    except (Exception, OutOfTime):  # noqa: BLE001  a setup that needs what the program lacks; `report` knows the time
        pass
    return passed


def _holds(statements: str, tests: dict[str, Any]) -> bool:
    try:
        exec(statements, tests)
    except Exception:  # noqa: BLE001  AssertionError, or what the program raised
        return False
    return True
