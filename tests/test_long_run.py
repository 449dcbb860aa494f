"""A run of weeks must not grow: memory and open files over many steps with resets, evaluations and saves."""

import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest

from tests.launch import ROOT, start

pytestmark = pytest.mark.slow
EVENTFUL = [  # much of everything that allocates or opens, and little arithmetic
    *("--steps", "300", "--warm-up-steps", "200", "--prompts-per-step", "4", "--answers-per-prompt", "8"),
    *("--eval-every", "10", "--eval-prompts", "2", "--boundary-prompts", "2"),
    *("--boundary-answers", "4", "--reset-every", "20", "--reset-min-spacing", "1", "--save-every", "10"),
    *("--max-bad-steps", "1000"),
]
WARM = 0.25  # of the run: allocators and caches fill
GROWTH = 0.03  # of its memory that the rest of a run may add, by the line through all samples


def watched(process: subprocess.Popen) -> tuple[np.ndarray, np.ndarray]:
    """Resident bytes, and open files, of a process and its children, at each step's line of its output."""
    memory, files = [], []
    threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the run
    for line in process.stdout:
        if line.startswith("step "):
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            memory.append(sum(member.memory_info().rss for member in family))
            files.append(sum(member.num_fds() for member in family))
    assert process.wait() == 0
    warm = int(WARM * len(memory))
    return np.array(memory[warm:], dtype=float), np.array(files[warm:], dtype=float)


def assert_flat(memory: np.ndarray, files: np.ndarray) -> None:
    steps = np.arange(len(memory))
    slope, start = np.polyfit(steps, memory, 1)
    print(
        f"{len(memory)} steps: {memory.mean() / 2**20:.0f} MiB, {slope / 2**10:+.1f} KiB a step, {files[-1]:.0f} files"
    )
    assert slope * len(memory) < GROWTH * start
    assert files[len(files) // 2 :].max() <= files[: len(files) // 2].max()


def test_mini_does_not_grow(tmp_path):
    command = [sys.executable, "prorl_mini.py", *EVENTFUL]
    out = ["--out", str(tmp_path / "run"), "--base-cache", str(tmp_path / "base")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    assert_flat(*watched(subprocess.Popen([*command, *out], cwd=ROOT, text=True, **pipes)))


def test_two_processes_do_not_grow(tmp_path):
    out = ("--out", tmp_path / "run", "--base-cache", tmp_path / "base")
    assert_flat(*watched(start("as-it-is", *EVENTFUL, "--rollout-batch", "256", *out)))
