"""Runs that are killed, or fail, at every operation on a file: what tests/test_kills.py and results/ count.

    python -m tests.kills every OUT            mini: SIGKILL before and after every operation in turn, then --resume
    python -m tests.kills full OUT             mini: at every write in turn the disk is full, then --resume
    python -m tests.kills random OUT N SEED    mini: N kills at moments drawn over all of a run's life, then --resume
    python -m tests.kills scale OUT N SEED     the same for a run of two processes, killed as a family

Each prints one JSON line per kill and ends with exit code 1 where a run that went on differs from one in one go.  The
children are forks, so that each starts in milliseconds with everything imported.
"""

import contextlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import prorl_mini as mini
import prorl_v2
from prorl_lab import lock, report, run_folder, tasks
from tests.test_mini import ToyTask

ARGS = [  # resets to the best, evaluations, boundaries, surplus, and a save that is not the last step's
    *("--warm-up-steps", "0", "--steps", "5", "--save-every", "2", "--prompts-per-step", "2", "--max-new-tokens", "3"),
    *("--answers-per-prompt", "4", "--eval-every", "1", "--eval-prompts", "2", "--eval-answers", "2"),
    *("--boundary-prompts", "2", "--boundary-answers", "2", "--learning-rate", "3e-3", "--reset-every", "2"),
    *("--reset-min-spacing", "1", "--reset-to", "best", "--rollout-batch", "64", "--microbatch-tokens", "4096"),
]
OPERATIONS = {  # module or class: names of functions that change the disk
    os: ("fsync", "unlink", "rmdir", "ftruncate", "pwrite"),
    shutil: ("rmtree",),
    pathlib.Path: ("mkdir", "touch", "replace", "rename", "unlink", "open"),
    torch: ("save",),
    run_folder.RunFolder: ("_append", "export", "keep_best", "save", "finish"),
    run_folder: ("write_all",),
}
WRITES = {torch: ("save",), run_folder: ("write_all",), os: ("fsync", "pwrite"), pathlib.Path: ("mkdir", "open")}


class Toy(ToyTask):
    """Prompts differ from problem to problem, and held-out ones from those of training."""

    def problem(self, split: str, number: int, tier: str | None = None) -> tasks.Problem:
        words = tasks.laptop.WORDS
        start = {"train": 0, "validation": 7, "held-out": 13}[split]
        text = " ".join(words[(start + number * k) % 32] for k in (1, 5, 7))
        return tasks.Problem("toy", text, {"contrast": number % 3 != 2})


def patched(names: dict[Any, tuple[str, ...]], around: Callable[[Callable, tuple, dict], Any]) -> None:
    """In this process, put `around(real, args, kwargs)` in place of each of these functions."""

    def wrapped(real: Callable) -> Callable:
        return lambda *args, **kwargs: around(real, args, kwargs)

    for owner, functions in names.items():
        for name in functions:
            setattr(owner, name, wrapped(getattr(owner, name)))


class Counter:
    """Counts moments, and acts at one of them."""

    def __init__(self, at: int, act: Callable[[], None]):
        self.count, self.at, self.act = 0, at, act

    def tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.act()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(moment: int) -> Counter:
    """From here on this process dies at its n-th moment: before or after an operation, or at a step's first draw."""
    counter = Counter(moment, die)

    def around(real: Callable, args: tuple, kwargs: dict) -> Any:
        counter.tick()
        try:
            return real(*args, **kwargs)
        finally:
            counter.tick()

    patched({**OPERATIONS, mini: ("collect_groups", "update_all", "evaluate")}, around)
    return counter


def full_at(moment: int) -> Counter:
    """From here on the disk is full at this process's n-th write, and stays so."""
    full = threading.Event()
    counter = Counter(moment, full.set)

    def around(real: Callable, args: tuple, kwargs: dict) -> Any:
        counter.tick()
        if full.is_set() and not (args and getattr(args[0], "name", None) == "/dev/null"):
            if real.__name__ == "open" and (args[1:] or ("r",))[0][:1] == "r":
                return real(*args, **kwargs)
            if real.__name__ == "save":
                args[1].write(b"half of it")
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    patched(WRITES, around)
    return counter


def in_child(work: Callable[[], int], seconds: float | None = None) -> int:
    """Run `work` in a fork, killed after so many seconds if it still runs -> its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        except BaseException:  # noqa: BLE001  a child must not go on as its parent
            traceback.print_exc()
            os._exit(70)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def plain_figures() -> None:
    """Figures take most of such a run's time, and are drawn from what is compared anyway."""

    def draw(*args: Any) -> None:
        Path(args[-1]).write_bytes(b"a figure")

    report.draw_curve, report.draw_boundary = draw, draw


def command(*args: Any, err: io.StringIO | None = None) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err or io.StringIO()):
        return prorl_v2.main([str(arg) for arg in args])


def go_on(out: Path, base: Path) -> int:
    """What an operator does with what a kill left: --resume a run, or the same again where there is none."""
    args = ["--resume", out] if (out / "config.json").exists() else [*ARGS, "--base-cache", base, "--out", out]
    return command(*args)


def contents(out: Path) -> dict[str, Any]:
    """All that must be equal: weights, optimizer, random state, counters, log, summary, names of files; not times."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(v) for key, v in value.items() if not str(key).startswith("seconds")}
        return value

    rows = [timeless(json.loads(line)) for line in (out / "metrics.jsonl").read_text().splitlines()]
    state = timeless(torch.load(out / "state.pt", weights_only=True))
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    summary = timeless(json.loads((out / "summary.json").read_text()))
    exports = {name: (out / name / "model.safetensors").read_bytes() for name in ("base", "last")}
    return {"rows": rows, "state": state, "names": names, "summary": summary, "exports": exports}


def difference(ours: Any, theirs: Any, where: str = "") -> str | None:
    """The first place in which two such values differ."""
    if type(ours) is not type(theirs):
        return f"{where}: {type(ours).__name__} is not {type(theirs).__name__}"
    if isinstance(ours, dict):
        if ours.keys() != theirs.keys():
            return f"{where}: keys {sorted(map(str, ours.keys() ^ theirs.keys()))}"
        found = (difference(ours[key], theirs[key], f"{where}/{key}") for key in ours)
        return next(filter(None, found), None)
    if isinstance(ours, list | tuple):
        if len(ours) != len(theirs):
            return f"{where}: {len(ours)} and {len(theirs)} entries"
        found = (difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs, strict=True)))
        return next(filter(None, found), None)
    same = torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    return None if same else f"{where}: {ours!r:.80} is not {theirs!r:.80}"


def prepare(out: Path) -> tuple[Path, dict[str, Any], float]:
    """The base model's cache, a run in one go, and how long it took."""
    torch.set_num_threads(1)
    plain_figures()
    tasks.load_task = lambda config, stop_ids: Toy()
    base = out / "base-models"
    begin = [*ARGS, "--base-cache", base, "--out"]
    assert in_child(lambda: command(*begin, out / "warm")) == 0
    start = time.perf_counter()
    assert in_child(lambda: command(*begin, out / "straight")) == 0
    return base, contents(out / "straight"), time.perf_counter() - start


def said(moment: Any, problem: str | None, **more: Any) -> bool:
    print(json.dumps({"moment": moment, "equal": problem is None, **({"problem": problem} if problem else {}), **more}))
    sys.stdout.flush()
    return problem is None


def every(out: Path, step: int = 1, first: int = 1) -> bool:
    """A kill at every `step`-th moment."""
    base, expected, _ = prepare(out)
    good, moment = True, first
    while True:
        here = out / str(moment)

        def until_killed(here: Path = here, moment: int = moment) -> int:
            killed_at(moment)
            return command(*ARGS, "--base-cache", base, "--out", here)

        code = in_child(until_killed)
        if code == 0:
            return good
        again = in_child(lambda here=here: go_on(here, base))
        problem = f"exit codes {code}, {again}" if (code, again) != (-signal.SIGKILL, 0) else None
        good &= said(moment, problem or difference(contents(here), expected))
        shutil.rmtree(here)
        moment += step


def full(out: Path, step: int = 1, first: int = 1) -> bool:
    """A full disk at every `step`-th write: one sentence, nothing half-written, and it goes on once there is space."""
    base, expected, _ = prepare(out)
    good, moment = True, first
    while True:
        here, told = out / str(moment), out / f"{moment}.txt"

        def until_full(here: Path = here, moment: int = moment, told: Path = told) -> int:
            with open(told, "w") as file:
                full_at(moment)
                err = io.StringIO()
                code = command(*ARGS, "--base-cache", base, "--out", here, err=err)
                file.write(err.getvalue())
            return code

        code = in_child(until_full)
        if code == 0:
            return good
        lines = [line for line in told.read_text().splitlines() if line.startswith("error: ")]
        halves = [path.name for path in here.rglob("*.tmp")] if here.exists() else []
        problem = None
        if code != 1 or len(lines) != 1 or halves:
            problem = f"exit code {code}, {told.read_text()[-300:]!r}, left behind: {halves}"
        if not problem and in_child(lambda here=here: go_on(here, base)) != 0:
            problem = "did not go on"
        good &= said(moment, problem or difference(contents(here), expected), sentence=(lines or [""])[0])
        shutil.rmtree(here, ignore_errors=True)
        moment += step


def at_random(out: Path, count: int, seed: int) -> bool:
    """Kills at moments drawn uniformly over a run's life, a second one into half of the runs that go on."""
    base, expected, life = prepare(out)
    draw, good = random.Random(seed), True
    for number in range(count):
        here, moments, codes = out / str(number), [draw.random() * life * 1.05], []
        if draw.random() < 0.5:
            moments.append(draw.random() * life)
        codes.append(in_child(lambda here=here: command(*ARGS, "--base-cache", base, "--out", here), moments[0]))
        for moment in moments[1:]:
            codes.append(in_child(lambda here=here: go_on(here, base), moment))
        code = in_child(lambda here=here: go_on(here, base))
        problem = f"exit code {code}" if code else difference(contents(here), expected)
        good &= said([round(m, 3) for m in moments], problem, codes=codes)
        shutil.rmtree(here)
    print(json.dumps({"kills": count, "seed": seed, "life_seconds": round(life, 2), "all_equal": good}))
    return good


def main(kind: str, out: str, *rest: str) -> int:
    Path(out).mkdir(parents=True, exist_ok=True)
    lock.BEAT = 1000.0  # no thread is to touch the disk of a fork
    work = {"every": every, "full": full, "random": at_random}[kind]
    return 0 if work(Path(out), *map(int, rest)) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
