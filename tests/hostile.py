"""Hostile responses of all domains, and what none of them may do.  `python tests/hostile.py` runs them as this user.

Never run them with `unsafe=True`: some would end every process of the user.

A program's attack prints BREACH if it worked, and BREACH is also its expected output: a score above 0 is a breach.
The other domains' responses must not score above their task's floor, nor leave a trace.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prorl_scale.rewards import Pool

SECONDS = 1.0  # of processor time, for every item here; the real ones are 5 and 10

# --- what programs try.  {folder} is a folder of the host that anyone may read and write, {port} a listening port.

ATTACKS = {
    "read the host's accounts": "return open('/etc/passwd').read()",
    "read root's files": "import os; return any(os.path.isfile('/root/' + name) for name in os.listdir('/root'))",
    "read a file of the host": "return 'secret' in open('{folder}/secret').read()",
    "see a folder of the host": "import os; return os.path.exists('{folder}')",
    "see the repository": "import os; return os.path.exists('{repository}/tests')",
    "write to the host": "open('{folder}/from-inside', 'w').write('x'); return True",
    "write into the system": "open('/usr/x', 'w'); return True",
    "write into the root folder": "open('/x', 'w'); return True",
    "write into Python": "import os; open(os.path.dirname(os.__file__) + '/x.py', 'w'); return True",
    "change our code": "import inside.program as p; open(p.__file__, 'a'); return True",
    "climb out with dots": "return open('/tmp/../../..{folder}/secret').read()",
    "link out": "import os; os.symlink('{folder}/secret', '/tmp/l'); return open('/tmp/l').read()",
    "make a device": "import os; os.mknod('/tmp/d', 0o60666, os.makedev(254, 0)); return True",
    "environment secret": "import os; return any('PRORL' in k for k in os.environ)",
    "see processes": "import os; return os.listdir('/proc')",
    "parent's environment": "return open('/proc/1/environ').read()",
    "kernel log": "return open('/dev/kmsg').read(10)",
    "memory device": "return open('/dev/mem', 'rb').read(1)",
    "terminal": "return open('/dev/tty', 'w').write('x')",
    "TCP to the host": "import socket; socket.create_connection(('127.0.0.1', {port}), 1); return True",
    "UDP": "import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})); return True",
    "name lookup": "import socket; return socket.getaddrinfo('example.org', 80)",
    "abstract unix socket": "import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + '{abstract}'); return True",
    "unix socket": "import socket; socket.socket(socket.AF_UNIX).connect('{folder}/socket'); return True",
    "netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); return True",
    "signal the parent": "import os; os.kill(os.getppid(), 9); return True",
    "signal everyone": "import os; os.kill(-1, 9); return True",
    "signal process 1": "import os; os.kill(1, 9); return True",
    "signal the host's runner": "import os; os.kill({pid}, 10); return True",
    "fork": "import os; pid = os.fork(); pid or os._exit(0); return True",
    "fork bomb": "import os\nfor _ in range(2000): os.fork()\nreturn True",
    "shell": "import subprocess; return subprocess.run(['/bin/sh', '-c', 'echo x'], capture_output=True).stdout",
    "system": "import os; return os.system('true') == 0",
    "spawn": "import os; return os.posix_spawn('/bin/true', ['true'], {{}})",
    "multiprocessing": "import multiprocessing as m; p = m.Process(target=print); p.start(); p.join(); return True",
    "replace the process": "import os; os.execv('/bin/echo', ['echo', 'BREACH'])",
    "become root": "import os; os.setuid(0); return True",
    "signal the runner's thread": "import ctypes; return ctypes.CDLL(None).syscall(234, 1, 1, 9) == 0",
    "see the runner": "import os; os.kill(1, 0); return True",
    "have the kernel signal the runner": "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, 1); return True",
    "limit the runner": "import resource as r; r.prlimit(1, r.RLIMIT_CPU, (0, 0)); return True",
    "read the runner's limits": "import resource as r; return r.prlimit(1, r.RLIMIT_CPU)",
    "slow the runner down": "import os; os.setpriority(os.PRIO_PROCESS, 1, 19); return True",
    "slow everyone down": "import os; os.setpriority(os.PRIO_USER, os.getuid(), 19); return True",
    "move the runner": "import os; os.sched_setaffinity(1, {{0}}); return True",
    "take the privilege back": """
        import ctypes, struct
        header = struct.pack("Ii", 0x20080522, 0)
        return ctypes.CDLL(None).syscall(126, header, struct.pack("6I", *[2**21] * 6)) == 0
    """,
    "double fork and a new session": """
        import os
        if os.fork() == 0:
            os.setsid()
            os.fork() or os.execv("/bin/sleep", ["sleep", "1000"])
        return True
    """,
    "mount over the folder of the tests": """
        import ctypes
        return ctypes.CDLL(None).mount(b"none", b"/prorl/shown", b"tmpfs", 0, None) == 0
    """,
    "write where the input lies": "open('/prorl/shown/x', 'w'); return True",
    "write where the input lay": "open('/prorl/test/x', 'w'); return True",
    "write over the input": "open('/dev/stdin', 'w').write('x'); return True",
    "take the input away": "import os; os.unlink('/prorl/shown/stdin'); return True",
    "lift the limit on time": "import resource as r; r.setrlimit(r.RLIMIT_CPU, (2**30, 2**30)); return True",
    "lift a limit": "import resource as r; r.setrlimit(r.RLIMIT_AS, (2**40, 2**40)); return True",
    "3 GB of memory": "x = bytearray(3 * 2**30); return True",
    "a big file": "open('/tmp/big', 'wb').write(bytes(100 * 2**20)); return True",
    "many files": "for i in range(100): open(f'/tmp/{{i}}', 'wb').write(bytes(2 * 2**20))\nreturn True",
    "many descriptors": "x = [open('/dev/null') for _ in range(1000)]; return True",
    "a library of the tests": "import pool, code_answers; return True",
    "forge a report": """
        import os, json, struct
        data = json.dumps("BREACH").encode(); data = struct.pack("!I", len(data)) + data
        sent = 0
        for fd in range(3, 64):
            try: sent += os.write(fd, data)
            except OSError: pass
        return sent > 0
    """,
}

WRAPPER = """
def attack():
{}
try:
    worked = attack()
except BaseException:
    worked = False
print('BREACH' if worked else 'held')
"""

# System calls by number on x86_64 and their first arguments; each must be refused with EPERM.
SYSTEM_CALLS = {
    "ptrace": (101, 16, 1),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount": (166, 0, 2),
    "chroot": (161, 0),
    "unshare a user namespace": (272, 0x10000000),
    "unshare a mount namespace": (272, 0x00020000),
    "process by descriptor": (434, 1, 0),
    "clone a user namespace": (56, 0x10000000 | 17, 0, 0, 0, 0),
    "setns": (308, 0, 0),
    "bpf": (321, 0, 0, 0),
    "io_uring": (425, 1, 0),
    "keyring": (250, 0, -3, 0),
    "userfaultfd": (323, 0),
    "perf": (298, 0, 0, -1, -1, 0),
    "memfd": (319, 0, 0),
    "shared memory": (29, 0, 4096, 0o1600),
    "open by handle": (304, 0, 0, 0),
    "set the clock": (227, 0, 0),
    "reboot": (169, 0xFEE1DEAD, 0x28121969, 0, 0),
    "personality": (135, 0x0040000),
    "load a kernel module": (313, 0, 0, 0),
}

# Whole programs, which no wrapper could survive.
PROGRAMS = {
    "loop": "while True: pass",
    "sleep": "import time; time.sleep(10**6)",
    "loop deaf to signals": (
        "import signal\nfor s in range(1, 65):\n try: signal.signal(s, signal.SIG_IGN)\n"
        " except (OSError, ValueError): pass\nwhile True: pass"
    ),
    "stop itself": "import signal; signal.raise_signal(signal.SIGSTOP)",
    "close everything and loop": "import os; os.closerange(0, 64)\nwhile True: pass",
    "flood": "import sys\nwhile True: sys.stdout.write('x' * 65536)",
    "power tower": "print(99**98**97)",
    "exit 0 early": "import sys; sys.exit(0)",
    "exit 0 hard": "import os; os._exit(0)",
    "threads that burn": (
        "import hashlib, threading\nblock = bytes(2**24)\n"
        "def burn():\n for _ in range(200): hashlib.sha256(block)\n"
        "burning = [threading.Thread(target=burn) for _ in range(8)]\n"
        "for t in burning: t.start()\nfor t in burning: t.join()\nprint('BREACH')"
    ),
    "catch the signal of the limit": (
        "import signal as s, time\nfor n in (s.SIGXCPU, s.SIGPROF, s.SIGALRM): s.signal(n, lambda *a: 0)\n"
        "while time.process_time() < 8: pass\nprint('BREACH')"
    ),
    "burn, close the output and burn": (
        "import os, time\nprint('BREACH', flush=True)\nos.close(1)\nwhile time.process_time() < 8: pass"
    ),
    "sleep in turns": (
        "import threading, time\ndef nap():\n while True: time.sleep(0.01)\n"
        "for _ in range(50): threading.Thread(target=nap).start()"
    ),
    "crash": "import ctypes; ctypes.string_at(0)",
    "recursion": "import sys; sys.setrecursionlimit(10**9)\nf = lambda: f()\nf()",
    "nested brackets": "[" * 10_000 + "]" * 10_000,
    "nested parentheses never closed": "(" * 200_000,
    "a NUL byte": "print(1)\0",
    "ten thousand threads": (
        "import threading, time\nthreading.stack_size(32768)\n"
        "for i in range(10_000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nprint('BREACH')"
    ),
    "x32 call": "import ctypes; print('BREACH' if ctypes.CDLL(None).syscall(0x40000000 + 39) > 0 else 'held')",
    "print the input": "import sys; print(sys.stdin.read())",
    "lone surrogates": "print('\\ud800')",
    "print twice": "import sys; print('BREACH'); print('BREACH')",
}

# Programs of two tests: what the first leaves behind, the second must not find.  Each prints BREACH where it does.
LEFT_BEHIND = {
    "a file": "import os\nprint('BREACH' if os.path.exists('x') else 'held')\nopen('x', 'w').write('x')",
    "a file in /tmp": (
        "import os\nprint('BREACH' if os.path.exists('/tmp/x') else 'held')\nopen('/tmp/x', 'w').write('x')"
    ),
    "the mode of the folder": (
        "import os\nprint('held' if os.stat('.').st_mode & 0o777 == 0o700 else 'BREACH')\nos.chmod('.', 0o711)"
    ),
    "the mode of the output": (
        "import os\nprint('BREACH' if os.stat(1).st_mode & 0o777 == 0o611 else 'held', flush=True)\nos.fchmod(1, 0o611)"
    ),
    "the age of the input": (
        "import os\nprint('BREACH' if os.stat(0).st_mtime < 10 else 'held', flush=True)\nos.utime(0, (1, 1))"
    ),
    "an attribute": (
        "import os\ntry: found = os.getxattr('.', 'user.x')\nexcept OSError: found = b''\n"
        "print('BREACH' if found else 'held')\ntry: os.setxattr('.', 'user.x', b'1')\nexcept OSError: pass"
    ),
    "more output than is read": "import os\nos.set_blocking(1, False)\nos.write(1, b'held' + b' BREACH' * 9000)",
    "a lower limit": (
        "import resource as r\nprint('BREACH' if r.getrlimit(r.RLIMIT_DATA)[0] == 2**29 else 'held')\n"
        "r.setrlimit(r.RLIMIT_DATA, (2**29, 2**29))"
    ),
    "a state": "import random as r\nprint('BREACH' if r.seed.__doc__ == 'x' else 'held')\nr.seed.__doc__ = 'x'",
    "a patched module": "import json\nprint('BREACH' if hasattr(json, 'x') else 'held')\njson.x = 1",
    "most of the time in each": "import time\nwhile time.process_time() < 0.6: pass\nprint('BREACH')",
}

# Prints what looks like the secret test's expected output, wherever it lies in memory.
SEARCH = """
import gc, re, sys
frame, found = sys._getframe(), []
while frame:
    found.append(repr(frame.f_locals) + repr(frame.f_globals))
    frame = frame.f_back
found += [repr(o) for o in gc.get_objects() if isinstance(o, (dict, list, tuple, bytes, str)) and len(o) < 100]
found.append(open('/dev/stdin').read())
print(*set(re.findall('MARK-[0-9a-f]{32}', ' '.join(found))))
"""

# Functions under test that try to pass `assert f(2) == 4` or a call whose expected result is 4.
FUNCTIONS = {
    "always equal": "class V:\n def __eq__(s, o): return True\n def __ne__(s, o): return False\ndef f(x): return V()",
    "always equal int": "class V(int):\n def __eq__(s, o): return True\n __hash__ = None\ndef f(x): return V(1)",
    "patched assert": "import builtins; builtins.AssertionError = type('E', (BaseException,), {})\ndef f(x): return 0",
    "patched exit": "import sys, os; sys.exit = os._exit = lambda *a: None\ndef f(x): sys.exit(0)",
    "exit 0 in the function": "import os\ndef f(x): os._exit(0)",
    "exit at the top": "import sys\ndef f(x): return 0\nsys.exit(0)",
    "reads the asserts": (
        "import sys, gc, re\ndef f(x):\n"
        " t = ' '.join(repr(o) for o in gc.get_objects() if isinstance(o, (dict, tuple, str)))\n"
        " m = re.search(r'f.2. == (' + chr(92) + 'd)', t)\n return int(m[1]) if m else 0"
    ),
    "walks the stack": (
        "import sys\ndef f(x):\n g = sys._getframe()\n while g:\n"
        "  for k, v in {**g.f_globals, **g.f_locals}.items():\n   if 'nonce' in k or 'expected' in k: return v\n"
        "  g = g.f_back\n return 0"
    ),
    "writes a reply everywhere": (
        "import os\ndef f(x):\n for fd in range(3, 64):\n  try: os.write(fd, b'[\"value\", true]' + bytes([10]))\n"
        "  except OSError: pass\n return 0"
    ),
    "endless iterator": "import itertools\ndef f(x): return itertools.count()",
    "deep list": "def f(x):\n y = []\n for _ in range(100_000): y = [y]\n return y",
    "huge text": "def f(x): return 'x' * 2**28",
    "never returns": "def f(x):\n while True: pass",
    "own builtins": "import builtins; builtins.int.__eq__ = lambda s, o: True\ndef f(x): return 0",
    "raises the wrong thing": "def f(x): raise SystemExit(0)",
}

# Functions under test that try to pass `x = [1]; f(x); assert x == [4]`.
CHANGED_ARGUMENTS = {
    "itself": "def f(x): x[:] = [x]",
    "always equal": "class V:\n def __eq__(s, o): return True\ndef f(x): x[:] = [V()]",
    "endless": "def f(x):\n while True: x.append(4)",
    "huge": "def f(x): x[:] = ['4' * 2**27]",
    "deep": "def f(x):\n for _ in range(100_000): x[:] = [list(x)]",
    "replies at hand": (
        "import os\ndef f(x):\n for fd in range(3, 64):\n"
        '  try: os.write(fd, b\'["value", null, [7, ["list", 4]]]\' + bytes([10]))\n  except OSError: pass'
    ),
}

EVALUATED = {  # an item for each of the nine tasks whose scorers evaluate the answer
    "string_insertion": {"answer": "ABCDA", "metadata": {}},
    "spiral_matrix": {"answer": "1 2 3", "metadata": {}},
    "binary_matrix": {"answer": "0 1\n1 0", "metadata": {}},
    "n_queens": {"answer": "_ Q\nQ _", "metadata": {"valid_answers": ["_ Q\nQ _"]}},
    "simple_integration": {"answer": "x**2 + C", "metadata": {"variable": "x", "integrand": "2*x"}},
    "intermediate_integration": {"answer": "x**2 + C", "metadata": {"variable": "x", "integrand": "2*x"}},
    "polynomial_multiplication": {"answer": "x**2 - 1", "metadata": {"variables": ["x"]}},
    "countdown": {"answer": "1 + 99", "metadata": {"numbers": [1, 99], "target": 100}},
    "puzzle24": {"answer": "4*6*1*1", "metadata": {"numbers": [1, 1, 4, 6]}},
}
EVALUATIONS = ["__import__('os').system('touch /tmp/pwned {folder}/pwned')", "9**9**9**9", "[" * 10_000 + "]" * 10_000]

MATH = {
    "power tower": r"\boxed{99^{98^{97}}}",
    "factorial tower": r"\boxed{((9!)!)!}",
    "long box": "\\boxed{" + "9" * 10_000_000 + "}",
    "many boxes": r"\boxed{1}" * 100_000,
    "hedged": r"\boxed{42, 43, 44}",
    "hedged in words": r"\boxed{42 \text{ or } 43}",
    "nested boxes": "\\boxed{" * 10_000 + "}" * 10_000,
    "open boxes": "\\boxed{" * 100_000,
    "nested brackets": r"\boxed{" + "(" * 200 + ")" * 200 + "}",
    "unicode digits": "\\boxed{\u0664\u0662}",
    "python": r"\boxed{__import__('os').system('touch {folder}/pwned')}",
    "in the thought": r"<think>\boxed{42}</think> I do not know",
    "in an open thought": r"<think> so \boxed{42}",
    "the prompt again": "What is 6 x 7? Put the answer in \\boxed{}.",
    "empty box": r"\boxed{}",
    "huge sum": r"\boxed{\sum_{k=1}^{10^9} k^k}",
    "spaces": "\\boxed{" + " " * 400 + "}",
    "NUL and surrogate": "\\boxed{\0\ud800}",
    "an exponent of many digits": r"\boxed{1e999999999}",
    "exponentials": r"\boxed{e^{e^{e^{e^{10}}}}}",
    "many points of a power": r"\boxed{(x+1)^{10000}}",
    "an angle": r"\boxed{\tan(10^{100})+\sin(2^{2^{30}})}",
    "nested tuples": r"\boxed{" + "(1," * 120 + ")" * 120 + "}",
    "nested roots": r"\boxed{" + r"\sqrt" * 95 + "42}",
    "minus signs": r"\boxed{" + "-" * 490 + "42}",
    "many boxes in boxes": r"\boxed{\boxed{4}" * 50_000,
    "several boxes": r"\boxed{41} \boxed{42} \boxed{43}",
    "two sides": r"\boxed{43=42}",
    "one of two": r"\boxed{42 \pm 1}",
    "a list of all": r"\boxed{" + ",".join(map(str, range(140))) + "}",
    "an interval around": r"\boxed{[0,100]}",
    "the least that it may be": r"\boxed{\text{at least } 42}",
}
INSTRUCTION = {
    "nothing": "",
    "digits only": "1234567890 !!!",
    "brackets": "[" * 100_000,
    "only a thought": "<think>Bonjour, je parle en fran\u00e7ais.</think>",
    "too long": "a" * 10_000_000,
    "surrogates": "\ud800" * 100,
}
FRENCH = {
    "instruction_id_list": ["language:response_language", "detectable_format:json_format"],
    "kwargs": [{"language": "fr"}, {}],
}


def items(place: dict) -> list[tuple[str, tuple[str, str, dict]]]:
    """(name, item) of every hostile response; `place` fills the names in braces."""

    def fenced(code: str) -> str:
        return f"```python\n{code}\n```"

    programs = dict(PROGRAMS)
    for name, body in ATTACKS.items():
        body = textwrap.dedent(body.format(**place) if "{" in body and "json" not in body else body)
        programs[name] = WRAPPER.format(textwrap.indent(body.strip(), "    "))
    for name, call in SYSTEM_CALLS.items():
        body = "    import ctypes, errno; libc = ctypes.CDLL(None, use_errno=True)\n"
        body += f"    return libc.syscall({', '.join(map(str, call))}) >= 0 or ctypes.get_errno() != errno.EPERM"
        programs[name] = WRAPPER.format(body)
    found = []
    tests = {"inputs": ["hello\n"], "outputs": ["BREACH"]}
    for name, code in programs.items():
        found.append((f"program: {name}", ("code", fenced(code), tests)))
    for name, code in LEFT_BEHIND.items():
        found.append(
            (f"left behind: {name}", ("code", fenced(code), {**tests, "inputs": ["", ""], "outputs": ["BREACH"] * 2}))
        )
    for name, code in CHANGED_ARGUMENTS.items():
        changed = {"asserts": ["x = [1]\nf(x)\nassert x == [4]"], "setup": ""}
        found.append((f"argument: {name}", ("code", fenced(code), changed)))
    hidden = {"inputs": ["x", "y"], "outputs": [f"MARK-{secrets.token_hex(16)}" for _ in range(2)]}
    found.append(("program: search memory", ("code", fenced(SEARCH), hidden)))
    for name, code in FUNCTIONS.items():
        found.append((f"assert: {name}", ("code", fenced(code), {"asserts": ["assert f(2) == 4"], "setup": ""})))
        found.append((f"call: {name}", ("code", fenced(code), {"fn_name": "f", "inputs": [[2]], "outputs": [4]})))
    for task, entry in EVALUATED.items():
        for text in EVALUATIONS:
            answer = f"<answer>{text.replace('{folder}', place['folder'])}</answer>"
            found.append((f"{task}: {text[:20]}", ("puzzle", answer, {"task": task, "item": entry})))
    integral = {"task": "simple_integration", "item": EVALUATED["simple_integration"]}
    found.append(("integral of itself", ("puzzle", "<answer>Integral(2*x, x)</answer>", integral)))
    sums = {"task": "chain_sum", "item": {"answer": "42", "metadata": {}}}
    for text in (
        "<think><answer>42</answer></think>",
        "<think><answer>42</answer>",
        "<answer>" * 100_000,
        "42",
        "<answer>\u0664\u0662</answer>",
    ):
        found.append((f"chain_sum: {text[:20]!r}", ("puzzle", text, sums)))
    for name, text in MATH.items():
        found.append((f"math: {name}", ("math", text.replace("{folder}", place["folder"]), {"answer": "42"})))
    for name, text in INSTRUCTION.items():
        found.append((f"instruction: {name}", ("instruction", text, FRENCH)))
    return found


CONTROLS = [
    ("code", "```python\nprint('BREACH')\n```", {"inputs": [""], "outputs": ["BREACH"]}),
    ("code", "```python\nopen('x', 'w').write('4'); print(open('x').read())\n```", {"inputs": [""], "outputs": ["4"]}),
    ("code", "```python\ndef f(x): return x * x\n```", {"asserts": ["assert f(2) == 4"], "setup": ""}),
    ("math", r"\boxed{42}", {"answer": "42"}),
    ("puzzle", "<answer>1 + 99</answer>", {"task": "countdown", "item": EVALUATED["countdown"]}),
    ("instruction", '{"a": "Bonjour, je parle toujours en fran\u00e7ais avec mes amis."}', FRENCH),
]


def run() -> dict:
    """Run all of them; returns what went wrong, which should be nothing, and the figures."""
    signals: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: signals.append(n))
    os.environ["PRORL_SECRET"] = "secret"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp"))
        os.chmod(folder, 0o777)
        Path(folder, "secret").write_text("secret")
        abstract = f"prorl-{os.getpid()}"
        families = (socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX)
        listeners = [stack.enter_context(socket.socket(family)) for family in families]
        for listener, address in zip(listeners, [("127.0.0.1", 0), "\0" + abstract, f"{folder}/socket"], strict=True):
            listener.bind(address)
            listener.listen()
            listener.setblocking(False)
        place = {"folder": folder, "abstract": abstract, "pid": os.getpid(), "port": listeners[0].getsockname()[1]}
        place["repository"] = str(Path(__file__).resolve().parents[1])
        hostile = items(place)
        start = time.monotonic()
        with Pool(workers=4, seconds=2 * SECONDS, code_seconds=SECONDS) as pool:
            before = [v.score for v in pool.verify(CONTROLS)]
            verdicts = pool.verify([item for _, item in hostile])
            after = [v.score for v in pool.verify(CONTROLS)]
        wrong = [f"{name}: {v}" for (name, _), v in zip(hostile, verdicts, strict=True) if v.score > 0.05]
        wrong += [f"controls {scores}" for scores in (before, after) if scores != [1.0] * len(CONTROLS)]
        wrong += [f"signal {number}" for number in signals]
        wrong += [f"file {name}" for name in sorted({*os.listdir(folder)} - {"secret", "socket"})]
        for listener in listeners:
            with contextlib.suppress(BlockingIOError):
                listener.accept()
                wrong.append(f"a connection to {listener.getsockname()}")
    statuses = [v.status for v in verdicts]
    return {
        "wrong": wrong,
        "responses": len(hostile),
        "uid": os.getuid(),
        "seconds": round(time.monotonic() - start, 1),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
    }


if __name__ == "__main__":
    print(json.dumps(run()))
