"""Inside a sandbox of its own: run one model program against tests whose expected outputs it never holds.

Two kinds of process live here.  The runner (this module's `main`) is ours and never executes the program.  It forks
children that do, under a stricter system call filter, with no way to reach the runner's memory or its line outside.

- stdin/stdout: a fresh child per test; the runner sends each output outside, where it is compared.
- calls: one child holds the program; the runner asks it for f(*args) and sends the result outside.
- asserts: the runner gets the assert statements only after the child was forked, and runs them with stand-ins for the
  program's names: a call goes to the child, a plain value comes back.  So a program can't see what is asserted, patch
  the comparison or `assert`, or leave early with success.  The runner proves its report with a nonce it got last.
"""

import atexit
import builtins
import itertools
import json
import os
import socket
import sys
import threading
from typing import Any

from . import seccomp
from .line import Line, limit_cpu

MEMORY = 2**30  # bytes of address space per process: one child at a time, and it can't fork
THREADS = 64
MAX_OUTPUT = 8 * 2**20  # bytes a test may print
MAX_VALUE = 2**22  # bytes of a call's result
MAX_ITEMS = 1_000_000  # of an iterator that a call returns


def main(line: Line) -> None:
    line.ready(MEMORY, THREADS)
    request = line.receive()
    if request["form"] == "stdin":
        for text in request["inputs"]:
            line.send(run_stdin(request["code"], text, request["seconds"], line))
        return
    program = Program(request["code"], request["preamble"], request["seconds"], line)
    line.send("forked")  # only now may the tests come in
    tests = line.receive()
    if request["form"] == "calls":
        for arguments in tests["calls"]:
            line.send(call(program, tests["fn_name"], arguments))
    else:
        passed = run_asserts(program, tests["setup"], tests["asserts"])
        line.send({"nonce": tests["nonce"], "passed": passed})


# --- stdin and stdout


def run_stdin(code: str, text: str, seconds: float, line: Line) -> str | None:
    """What the program prints when it is fed `text`; None if it fails or prints too much."""
    with open("input", "wb") as file:
        file.write(text.encode(errors="replace"))
    stdin = os.open("input", os.O_RDONLY)
    output, stdout = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(output)
        _become_program(seconds, line, stdin, stdout)
        _run_as_main(code)
    os.close(stdin)
    os.close(stdout)
    printed = bytearray()
    while len(printed) <= MAX_OUTPUT and (piece := os.read(output, 2**20)):
        printed += piece
    os.close(output)  # a flood ends here: its next write fails
    _, status = os.waitpid(child, 0)
    return printed.decode(errors="replace") if status == 0 and len(printed) <= MAX_OUTPUT else None


def _become_program(seconds: float, line: Line, stdin: int, stdout: int) -> None:
    """From here on this process is the program's: no line outside, no new processes, its own standard streams."""
    os.close(line.fd)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null if stdin < 0 else stdin, 0)
    os.dup2(null if stdout < 0 else stdout, 1)
    os.dup2(null, 2)
    for fd in {null, stdin, stdout} - {0, 1, 2, -1}:
        os.close(fd)
    sys.stdin = os.fdopen(0, "r", closefd=False, errors="replace")
    sys.stdout = os.fdopen(1, "w", closefd=False, errors="replace")
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="replace")
    limit_cpu(seconds)
    if not line.unsafe:
        seccomp.forbid_processes()


def _run_as_main(code: str) -> None:
    """Execute a whole program as a script would be, then leave; status 0 only if it ended well."""
    status = 1
    try:
        try:
            exec(compile(code, "solution.py", "exec"), {"__name__": "__main__", "__builtins__": builtins})
            status = 0
        except SystemExit as stop:
            status = 0 if stop.code in (None, 0) else 1
        for thread in threading.enumerate():  # a program may do all its work in a thread that it does not join
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
    """The runner's end of a child that has executed the program and answers questions about its names."""

    def __init__(self, code: str, preamble: str, seconds: float, line: Line):
        self.socket, theirs = socket.socketpair()
        if os.fork() == 0:
            self.socket.close()
            _become_program(seconds, line, -1, -1)
            _serve_calls(code, preamble, theirs)
        theirs.close()
        self.reader = self.socket.makefile("rb")

    def ask(self, *question: Any) -> Any:
        """Ask ("name", n), ("call", value, args, kwargs), ("get", value, attribute) or ("set", value, attribute, v).

        Returns a plain value or a `Remote`.  Raises what the program raised, or RuntimeError if it is gone.
        """
        try:
            self.socket.sendall(json.dumps(encode(list(question))).encode() + b"\n")
            reply = self.reader.readline(MAX_VALUE)
            kind, value = json.loads(reply)
        except (OSError, ValueError) as error:
            raise RuntimeError("the program is gone, or its answer is too long") from error
        if kind == "value":
            return decode(value, lambda number: Remote(self, number))
        error = getattr(builtins, str(value), RuntimeError)
        raise error() if isinstance(error, type) and issubclass(error, Exception) else RuntimeError()


class Remote:
    """A stand-in for an object of the program that is no plain value: it can be called and its attributes used.

    It is equal to nothing and neither true nor false, so no assert passes on an object's own say-so.
    """

    def __init__(self, program: Program, number: int):
        self.__dict__.update(_program=program, _number=number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._program.ask("call", self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._program.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._program.ask("set", self, name, value)

    def __bool__(self) -> bool:
        raise TypeError("the program's object is no plain value")

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        raise TypeError("the program's object is no plain value")

    __hash__ = None


def encode(value: Any, objects: dict[int, Any] | None = None) -> Any:
    """A value as JSON that keeps Python's types; other objects go into `objects` and travel as a number.

    Raises TypeError for an object where `objects` is None: the tests' own objects do not travel.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, Remote):
        return ["remote", value._number]
    if isinstance(value, (int, float, str)):  # a subclass, which JSON would write as its base anyway
        return next(base(value) for base in (int, float, str) if isinstance(value, base))
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, dict):
        return ["dict", *([encode(k, objects), encode(v, objects)] for k, v in value.items())]
    for base in (list, tuple, set, frozenset):
        if isinstance(value, base):
            return [base.__name__, *(encode(item, objects) for item in value)]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return encode(value.tolist(), objects)
    if hasattr(value, "__next__") or isinstance(value, (range, map, filter, zip)):
        return ["list", *(encode(item, objects) for item in itertools.islice(value, MAX_ITEMS))]
    if objects is None:
        raise TypeError(f"only plain values can be passed to the program, not {type(value).__name__}")
    number = len(objects)
    objects[number] = value
    return ["remote", number]


def decode(value: Any, remote: Any) -> Any:
    """The inverse of `encode`; `remote(number)` stands for an object of the other side."""
    if not isinstance(value, list):
        return value
    kind, *rest = value
    if kind == "remote":
        return remote(rest[0])
    if kind == "complex":
        return complex(*rest)
    if kind == "bytes":
        return bytes.fromhex(rest[0])
    if kind == "dict":
        return {decode(k, remote): decode(v, remote) for k, v in rest}
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return kinds[kind](decode(item, remote) for item in rest)


def _serve_calls(code: str, preamble: str, line: socket.socket) -> None:
    """The child: execute the program, then answer questions until the runner hangs up.  Never returns."""
    names: dict[str, Any] = {"__name__": "solution", "__builtins__": builtins}
    objects: dict[int, Any] = {}
    try:
        try:
            exec(compile(preamble, "preamble.py", "exec"), names)
            exec(compile(code, "solution.py", "exec"), names)
        except Exception:  # noqa: BLE001  names it did define can still be asked for
            pass
        for request in line.makefile("rb"):
            try:
                reply = ["value", encode(_answer(decode(json.loads(request), objects.get), names), objects)]
                reply = json.dumps(reply).encode() + b"\n"
            except BaseException as error:  # noqa: BLE001  SystemExit included: the runner is told what was raised
                reply = json.dumps(["raise", type(error).__name__]).encode() + b"\n"
            line.sendall(reply)
    finally:
        os._exit(0)


def _answer(question: list, names: dict[str, Any]) -> Any:
    kind, target, *rest = question
    if kind == "name":
        return names[target]
    if kind == "call":
        args, kwargs = rest
        return target(*args, **kwargs)
    if kind == "get":
        return getattr(target, rest[0])
    return setattr(target, *rest)


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
    except Exception:  # noqa: BLE001  any failure of the program is a failed test
        return ["failed"]


# --- asserts


class _Names(dict):
    """The globals of the asserts: a name that the tests do not define is the program's.  Builtins stay ours."""

    def __init__(self, program: Program):
        super().__init__(__name__="tests", __builtins__=builtins)
        self._program = program

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        try:
            return self._program.ask("name", name)
        except Exception:  # noqa: BLE001
            raise KeyError(name) from None


def run_asserts(program: Program, setup: str, asserts: list[str]) -> list[bool]:
    """Whether each of the assert statements holds for the program."""
    names = _Names(program)
    try:
        exec(setup, names)
    except Exception:  # noqa: BLE001  a setup that needs what the program lacks
        return [False] * len(asserts)
    return [_holds(statement, names) for statement in asserts]


def _holds(statement: str, names: dict[str, Any]) -> bool:
    try:
        exec(statement, names)
    except Exception:  # noqa: BLE001  AssertionError, or what the program raised
        return False
    return True
