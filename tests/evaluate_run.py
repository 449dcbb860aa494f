"""`python -m prorl_scale.evaluate` with a sampler that needs no model, for tests of what surrounds it.

python tests/evaluate_run.py run ARGS...            to the end, also under torchrun
python tests/evaluate_run.py killed OUT ARGS...     once for every operation on a file: SIGKILL there, then go on
python tests/evaluate_run.py vllm OUT ARGS...       with vLLM: to the end, and again from the last part of it
"""

import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prorl_lab import later, tasks
from prorl_scale.evaluate import __main__ as command
from prorl_scale.evaluate import sampler, store


class StandIn(sampler.Sampler):
    """Answers a laptop prompt with its own words, sorted or not, with or without EOS; no two seeds alike."""

    def __init__(self, folder: str, settings: Any, stop_ids: list[int], context: int):
        self.n, self.stop = settings.n, stop_ids[0]

    def write(self, prompts: list[list[int]], seed: int) -> list[list[tuple[list[int], bool]]]:
        draw = random.Random(seed)
        return [[self.answer(prompt[1:-1], draw) for _ in range(self.n)] for prompt in prompts]

    def answer(self, words: list[int], draw: random.Random) -> tuple[list[int], bool]:
        cut = draw.random() < 0.1
        return draw.sample(words, len(words)) + ([] if cut else [self.stop]), cut

    def __exit__(self, *exception: object) -> None:
        pass


def dies_at(operation: int) -> None:
    """Make this process kill itself just before its n-th chunk, fifth line, flush, rename, copy or removal."""
    count = itertools.count()

    def counted(real: Callable, every: int = 1) -> Callable:
        calls = itertools.count()

        def act(*args: Any, **kwargs: Any) -> Any:
            if next(calls) % every == every - 1 and next(count) == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return act

    pathlib.Path.replace = counted(pathlib.Path.replace)
    pathlib.Path.rmdir = counted(pathlib.Path.rmdir)
    os.fsync = counted(os.fsync)
    os.unlink = counted(os.unlink)  # shutil.rmtree's own
    shutil.copyfileobj = counted(shutil.copyfileobj)
    store.json.dumps = counted(json.dumps, every=5)  # amid the lines of a file
    StandIn.write = counted(StandIn.write)


def in_child(work: Callable[[], int]) -> int:
    """Run `work` in a fork, where vLLM and threads have not started -> its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(out: Path, args: list[str]) -> None:
    """OUT/N holds the evaluation that was killed at operation N and then continued; the last N was not killed."""
    later.import_now()  # once, as this: they take most of the time
    task = tasks.LaptopTask(0, [])
    tasks.LaptopTask = lambda *_: task
    for operation in itertools.count():
        here = [*args, "--out", str(out / str(operation))]

        def until_killed(here: list[str] = here, operation: int = operation) -> int:
            dies_at(operation)
            return command.main(here)

        code = in_child(until_killed)
        if code == 0:
            return
        if code != -signal.SIGKILL or in_child(lambda here=here: command.main(here)) != 0:
            sys.exit(f"operation {operation}: {code}")


def with_vllm(out: Path, args: list[str]) -> None:
    """OUT/whole is written in one go, OUT/resumed by a new engine that finds the second of three chunks on the disk."""
    assert command.main([*args, "--out", str(out / "whole")]) == 0
    shutil.copytree(out / "whole", out / "resumed")
    for path in (out / "resumed/answers").glob("*/*.jsonl"):
        rows = list(store.read_lines(path))
        third = len(rows) // 3
        store.write_lines(store.part_file(out / "resumed", path.parent.name, path.stem, 1), rows[third : 2 * third])
        path.unlink()
    assert command.main([*args, "--out", str(out / "resumed")]) == 0


if __name__ == "__main__":
    if sys.argv[1] == "vllm":
        with_vllm(Path(sys.argv[2]), sys.argv[3:])
        sys.exit()
    sampler.Sampler = StandIn
    if sys.argv[1] == "run":
        sys.exit(command.main(sys.argv[2:]))
    killed(Path(sys.argv[2]), sys.argv[3:])
