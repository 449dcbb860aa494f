"""A folder in use is locked: against this process, another one, and another machine that still lives."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from prorl_lab import lock
from prorl_lab.errors import UserError
from prorl_lab.lock import FolderLock, refusal, whoami


@pytest.fixture(autouse=True)
def let_go():
    yield
    lock.release_all()


def hold(folder):
    """Another process that holds the folder, until it is killed."""
    code = "import sys, time; from pathlib import Path; from prorl_lab.lock import FolderLock; "
    code += "FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    process = hold(tmp_path)
    with pytest.raises(UserError, match=rf"is in use by process {process.pid} on "):
        FolderLock(tmp_path)
    with pytest.raises(UserError, match="is in use by"):
        FolderLock(tmp_path, break_it=True)  # what is alive can't be broken
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    FolderLock(tmp_path)
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_the_same_process_is_refused_and_keeps_its_lock(tmp_path):
    ours = FolderLock(tmp_path)
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        FolderLock(tmp_path / ".." / tmp_path.name)
    code = "import sys; from pathlib import Path; from prorl_lab.lock import FolderLock; FolderLock(Path(sys.argv[1]))"
    again = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert f"is in use by process {os.getpid()}" in again.stderr
    ours.release()
    assert list(tmp_path.iterdir()) == []
    FolderLock(tmp_path)


ELSEWHERE = {"host": "node-7", "boot": "another", "pid": 4711, "born": "1"}


@pytest.mark.parametrize(
    ("note", "held", "silent", "break_it", "says"),
    [
        (None, False, 9e9, False, None),
        (None, True, 0, True, "in use by another process"),
        (ELSEWHERE, True, 9e9, True, "in use by process 4711 on node-7"),
        (ELSEWHERE, False, 30, False, "last sign of life is 30 seconds old"),
        (ELSEWHERE, False, 7200, False, "left locked by process 4711 on node-7, silent for 2.0 hours.*--break-lock"),
        (ELSEWHERE, False, 7200, True, None),
        ({**whoami(), "pid": 2**22 + 1}, False, 1, False, None),  # a process of this machine that is gone
        ({**whoami(), "born": "1"}, False, 1, False, None),  # another process had our number
        ({**whoami(), "boot": "before"}, False, 7200, False, None),  # this machine's life before its last start
        ({**whoami(), "boot": "before"}, False, 5, False, "in use by"),  # another machine of this name
    ],
)
def test_who_is_told_apart(tmp_path, note, held, silent, break_it, says):
    sentence = refusal(tmp_path, note, held, silent, break_it)
    assert sentence is None if says is None else pytest.importorskip("re").search(says, sentence)


def test_a_dead_machine_is_told_apart_by_its_silence_and_can_be_broken(tmp_path):
    (tmp_path / "lock").write_text(json.dumps(ELSEWHERE))
    with pytest.raises(UserError, match="sign of life"):
        FolderLock(tmp_path)
    long_ago = time.time() - 3 * 3600
    os.utime(tmp_path / "lock", (long_ago, long_ago))
    with pytest.raises(UserError, match=r"silent for 3\.0 hours.*--break-lock"):
        FolderLock(tmp_path)
    FolderLock(tmp_path, break_it=True)
    assert json.loads((tmp_path / "lock").read_text()) == whoami()


def test_a_file_system_without_locks_is_guarded_by_the_note(tmp_path, monkeypatch):
    process = hold(tmp_path)

    def unsupported(*_):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", unsupported)
    with pytest.raises(UserError, match=f"process {process.pid}"):
        FolderLock(tmp_path)
    process.kill()
    process.wait()
    FolderLock(tmp_path)


def test_the_holder_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    FolderLock(tmp_path)
    os.utime(tmp_path / "lock", (0, 0))
    while (tmp_path / "lock").stat().st_mtime == 0:
        time.sleep(0.01)
