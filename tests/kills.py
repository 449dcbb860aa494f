"""Runs that are killed, stopped, or out of disk at moments drawn or enumerated: for tests/test_kills.py and results/.

    python -m tests.kills random mini|scale OUT N SEED           N SIGKILLs, at moments drawn over all of a run's life
    python -m tests.kills every mini|scale OUT [STEP [FIRST]]    a SIGKILL before and after every operation on a file
    python -m tests.kills full mini|scale OUT [STEP [FIRST]]     the disk is full from every write on
    python -m tests.kills term mini|scale OUT                    SIGTERM in start-up, evaluation, saving, at the end

Each run is then gone on with, and must end like one in one go; exit code 1 where one does not.  Each prints a line.
SIGTERM ends the whole after the run in hand.

"scale" is a run of two processes with a stand-in for vLLM.  They are killed together; what is counted, and what fails,
is one of them in turn.  Processes are forks of this one, so that each starts in milliseconds with everything imported.
A drawn moment is one of processor time, which the machine's other work does not shift; a kill counts where it hit.
"""

import builtins
import contextlib
import itertools
import json
import math
import os
import pathlib
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from transformers import modeling_utils

import prorl_mini as mini
import prorl_v2
from prorl_lab import files, laptop, later, lock, log, models, report, run_folder, tasks
from prorl_scale import checkpoint, distributed, start, train
from tests.launch import MACHINE
from tests.scale_run import StandIn
from tests.test_mini import ToyTask

ARGS = [  # resets to the best, evaluations, boundaries, surplus, and a save that is not the last step's
    *("--warm-up-steps", "0", "--steps", "5", "--save-every", "2", "--prompts-per-step", "2", "--max-new-tokens", "3"),
    *("--answers-per-prompt", "4", "--eval-every", "1", "--eval-prompts", "2", "--eval-answers", "2"),
    *("--boundary-prompts", "2", "--boundary-answers", "2", "--learning-rate", "3e-3", "--reset-every", "2"),
    *("--reset-min-spacing", "1", "--reset-to", "best", "--rollout-batch", "64", "--microbatch-tokens", "4096"),
]
OPERATIONS = {  # owner: names of functions that change the disk, or lie between those that do
    os: ("fsync", "unlink", "rmdir", "ftruncate", "pwrite"),
    shutil: ("rmtree",),
    pathlib.Path: ("mkdir", "touch", "replace", "rename", "unlink", "open"),
    torch: ("save",),
    log: ("write_all",),
    log.Log: ("append", "cut"),
    run_folder.RunFolder: ("export", "keep_best", "save", "finish"),
    checkpoint.Folder: ("save", "_complete", "_prune"),
    FileSystemWriter: ("write_data", "finish"),
    mini: ("collect_groups", "update_all", "evaluate"),
}
WRITES = {
    **{os: ("fsync", "pwrite"), pathlib.Path: ("mkdir", "open"), builtins: ("open",), torch: ("save",)},
    **{log: ("write_all",), modeling_utils: ("safe_save_file",), FileSystemWriter: ("write_data",)},
}
WINDOWS = {  # what SIGTERM comes during: owners, function, its n-th call
    "start-up": ([models], "load_policy", 1),
    "first evaluation": ([mini], "evaluate", 1),
    "evaluation of a step": ([mini], "evaluate", 4),
    "first save": ([run_folder, checkpoint], "plain_state", 1),
    "later save": ([run_folder, checkpoint], "plain_state", 2),
    "export": ([run_folder.RunFolder], "export", 2),
    "summary": ([run_folder.RunFolder], "finish", 1),
}
SENT = "SIGTERM is sent"
PATIENCE = 300.0  # seconds after which a run hangs
STOP = threading.Event()  # asked for by SIGTERM


class Toy(ToyTask):
    """Prompts differ from problem to problem, and held-out ones from those of training."""

    def problem(self, split: str, number: int, tier: str | None = None) -> tasks.Problem:
        words = laptop.WORDS
        first = {"train": 0, "validation": 7, "held-out": 13}[split]
        text = " ".join(words[(first + number * k) % 32] for k in (1, 5, 7))
        return tasks.Problem("toy", text, {"contrast": number % 3 != 2})


# ---------------------------------------------------------------- what is run


@dataclass(frozen=True)
class Program:
    """A command line, in how many processes it runs, and what its newest checkpoint holds."""

    main: Callable[[list[str]], int]
    ranks: int
    state: Callable[[Path], Any]


def scale_state(out: Path) -> Any:
    """Weights, reference and optimizer of the newest checkpoint, whole, and what else it keeps."""
    newest = max((out / "checkpoints").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        dcp_to_torch_save(newest, Path(folder) / "whole.pt")
        tensors = torch.load(Path(folder) / "whole.pt", weights_only=True)
    return {"tensors": tensors, "plain": torch.load(newest / "plain.pt", weights_only=True)}


PROGRAMS = {
    "mini": Program(prorl_v2.main, 1, lambda out: torch.load(out / "state.pt", weights_only=True)),
    "scale": Program(train.main, 2, scale_state),
}


def stand_ins() -> None:
    """A toy task and model, the stand-in for vLLM, and no figures, which take most of such a run's time."""

    def draw(*args: Any) -> None:
        with files.whole(Path(args[-1])) as file:
            file.write(b"a figure")

    torch.set_num_threads(1)
    later.import_now()
    lock.BEAT = 1000.0  # no thread is to touch the disk of a fork
    report.draw_curve, report.draw_boundary = draw, draw
    tasks.load_task = lambda config, stop_ids, sandboxed=False: Toy()
    laptop.WarmUp = partial(laptop.WarmUp, width=32, layers=1, heads=2)
    start.Engine = StandIn


def family(
    program: Program,
    args: list[Any],
    prepare: Callable[[int], Any] = lambda rank: None,
    seconds: float = math.inf,
    told: Path = Path(os.devnull),
) -> tuple[list[int], float]:
    """The processes of a run, to their end -> exit codes by rank, negative for a signal; processor seconds of rank 0.

    prepare: called in each, with its rank.  seconds: of rank 0's processor time, after which SIGKILL comes to all.
    told: the file to which their errors go.  When one is killed the others are, as by torchrun's agent.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids: list[int] = []
    for rank in range(program.ranks):
        if (pid := os.fork()) == 0:
            become(rank, program.ranks, port, told)
            distributed.leave(lambda rank=rank: prepare(rank) or program.main([str(arg) for arg in args]))
        pids.append(pid)
    codes: dict[int, int] = {}
    used, late = 0.0, time.monotonic() + PATIENCE
    while len(codes) < len(pids):
        with contextlib.suppress(OSError):
            used = max(used, time.clock_gettime(~pids[0] << 3 | 2))  # clock_getcpuclockid(3)
        if used >= seconds or time.monotonic() > late or min(codes.values(), default=0) < 0:
            for pid in {*pids} - {*codes}:
                os.kill(pid, signal.SIGKILL)
        for pid in {*pids} - {*codes}:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    if time.monotonic() > late:
        raise TimeoutError(f"a run of {PATIENCE:.0f} seconds: {args}")
    return [codes[pid] for pid in pids], used


def become(rank: int, ranks: int, port: int, told: Path) -> None:
    """What torchrun tells a worker; its output goes nowhere, its errors where asked."""
    os.setsid()  # what is sent to the harness is not for its runs
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for path, number in ((told, 2), (os.devnull, 1)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if ranks > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}})


@dataclass
class Harness:
    """A program, a folder for its runs, what a run in one go leaves, and rank 0's processor seconds for it."""

    program: Program
    out: Path
    expected: dict[str, Any]
    life: float

    @classmethod
    def made(cls, name: str, out: Path) -> "Harness":
        stand_ins()
        harness = cls(PROGRAMS[name], out, {}, 0.0)
        for here in (out / "warm", out / "straight"):  # the first makes the base model
            codes, harness.life = family(harness.program, harness.begun(here), told=out / "said.txt")
            assert set(codes) == {0}, (codes, (out / "said.txt").read_text())
        harness.expected = harness.contents(out / "straight")
        return harness

    def begun(self, here: Path) -> list[Any]:
        return [*ARGS, "--base-cache", self.out / "base-models", "--out", here]

    def run(self, here: Path, **how: Any) -> list[int]:
        """As an operator would: --resume what is there, or begin where nothing is -> exit codes."""
        args = ["--resume", here] if (here / "config.json").exists() else self.begun(here)
        return family(self.program, args, **how)[0]

    def contents(self, out: Path) -> dict[str, Any]:
        """All that must be equal: weights, optimizer, random state, counters, log, summary, names; not times."""
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        found = {
            "rows": rows,
            "state": self.program.state(out),
            "names": sorted(str(path.relative_to(out)) for path in out.rglob("*")),
            "summary": json.loads((out / "summary.json").read_text()),
            "samples": (out / "samples.jsonl").read_text(),
            "exports": {name: (out / name / "model.safetensors").read_bytes() for name in ("base", "last")},
            "card": [line for line in (out / "last/README.md").read_text().splitlines() if "| commit |" not in line],
        }
        return timeless(found)

    def whole(self, here: Path, moment: Any, problem: str | None = None, **more: Any) -> bool:
        """Go on and compare; say so -> whether all is well.  problem: what went wrong before."""
        codes = [] if problem else self.run(here)
        if any(codes):
            problem = f"went on with exit codes {codes}"
        problem = problem or difference(self.contents(here), self.expected)
        print(json.dumps({"moment": moment, **more, "equal": not problem, **({"problem": problem} if problem else {})}))
        sys.stdout.flush()
        shutil.rmtree(here, ignore_errors=True)
        return problem is None


def timeless(value: Any) -> Any:
    """Without what measures the machine."""
    if isinstance(value, dict):
        return {key: timeless(v) for key, v in value.items() if not str(key).startswith(MACHINE)}
    return [timeless(v) for v in value] if isinstance(value, list) else value


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


# ---------------------------------------------------------------- what happens to it


def patched(names: dict[Any, tuple[str, ...]], around: Callable[[Callable, tuple, dict], Any]) -> None:
    """In this process, put `around(real, args, kwargs)` in place of each of these functions."""

    def wrapped(real: Callable) -> Callable:
        return lambda *args, **kwargs: around(real, args, kwargs)

    for owner, functions in names.items():
        for name in functions:
            setattr(owner, name, wrapped(getattr(owner, name)))


def at(moment: int, act: Callable[[], Any]) -> Callable[[], None]:
    """A function that acts when it is called for the `moment`-th time."""
    count = itertools.count(1)

    def tick() -> None:
        if next(count) == moment:
            act()

    return tick


def dies_at(moment: int) -> None:
    """From here on this process dies at its n-th moment: before or after an operation."""
    tick = at(moment, partial(os.kill, os.getpid(), signal.SIGKILL))

    def around(real: Callable, args: tuple, kwargs: dict) -> Any:
        tick()
        try:
            return real(*args, **kwargs)
        finally:
            tick()

    patched(OPERATIONS, around)


def full_at(moment: int) -> None:
    """From here on the disk is full at this process's n-th write, and stays so."""
    full = threading.Event()
    tick = at(moment, full.set)

    def around(real: Callable, args: tuple, kwargs: dict) -> Any:
        name, target = real.__name__, args[0] if args else ""
        target = str(target if isinstance(target, str | Path) else getattr(target, "name", ""))
        mode = str((*args[1:], kwargs.get("mode", "r"))[0]) if name == "open" else "w"
        if mode.startswith("r") or target == os.devnull:
            return real(*args, **kwargs)
        tick()
        if not full.is_set():
            return real(*args, **kwargs)
        if name == "save":
            args[1].write(b"half of it")
        if name == "safe_save_file":
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        raise OSError(28, "No space left on device")

    patched(WRITES, around)


def told_to_stop_at(window: str) -> None:
    """SIGTERM to this process at the beginning of that call."""
    owners, name, call = WINDOWS[window]

    def act() -> None:
        print(SENT, file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    tick = at(call, act)
    patched({owner: (name,) for owner in owners}, lambda real, args, kwargs: (tick(), real(*args, **kwargs))[1])


# ---------------------------------------------------------------- kinds


def on(rank: int, act: Callable[[], None]) -> Callable[[int], None]:
    """`act` on that rank alone."""
    return lambda here: act() if here == rank else None


def until_stopped(first: int, step: int) -> Iterator[int]:
    return itertools.takewhile(lambda moment: not STOP.is_set(), itertools.count(first, step))


def every(harness: Harness, step: int = 1, first: int = 1) -> bool:
    good = True
    for rank in range(harness.program.ranks):
        for moment in until_stopped(first, step):
            here = harness.out / f"{rank}-{moment}"
            codes = harness.run(here, prepare=on(rank, partial(dies_at, moment)))
            if not any(codes):  # it has no such moment
                break
            problem = None if codes[rank] == -signal.SIGKILL else f"exit codes {codes}"
            good &= harness.whole(here, [rank, moment], problem)
    return good


def full(harness: Harness, step: int = 1, first: int = 1) -> bool:
    """One sentence, nothing half-written, and it goes on once there is space."""
    good = True
    for rank in range(harness.program.ranks):
        for moment in until_stopped(first, step):
            here, told = harness.out / f"{rank}-{moment}", harness.out / f"{rank}-{moment}.txt"
            codes = harness.run(here, prepare=on(rank, partial(full_at, moment)), told=told)
            if not any(codes):
                break
            sentences = [line for line in told.read_text().splitlines() if line.startswith("error: ")]
            halves = [str(path) for path in here.rglob("*.tmp")] if here.exists() else []
            wrong = set(codes) != {1} or len(sentences) != 1 or halves or "Traceback" in told.read_text()
            problem = f"exit codes {codes}, {told.read_text()[-300:]!r}, left behind: {halves}" if wrong else None
            good &= harness.whole(here, [rank, moment], problem, sentence=" ".join(sentences))
    return good


def term(harness: Harness) -> bool:
    """Stopped with its state saved, or ended like any process that SIGTERM ends, or past where it could stop."""
    good, harness.expected = True, without_saves(harness.expected)
    compared, harness.contents = harness.contents, lambda out: without_saves(compared(out))
    for window in WINDOWS:
        here, told = harness.out / window, harness.out / f"{window}.txt"
        codes = harness.run(here, prepare=on(0, partial(told_to_stop_at, window)), told=told)
        saved = "state saved: continue with --resume" in told.read_text()
        right = SENT in told.read_text() and ((set(codes) == {130} and saved) or set(codes) <= {0, -signal.SIGTERM})
        problem = None if right else f"exit codes {codes}, {told.read_text()[-300:]!r}"
        good &= harness.whole(here, window, problem, codes=codes)
    return good


def without_saves(contents: dict[str, Any]) -> dict[str, Any]:
    """A run that was stopped has saved once more."""
    rows = [row for row in contents["rows"] if row.get("event") != "checkpoint"]
    state = contents["state"].get("plain", contents["state"])
    names = [name for name in contents["names"] if not name.startswith("checkpoints/")]
    return {**contents, "rows": rows, "names": names, "state": {**contents["state"], "plain": 0, **state, "rows": 0}}


def at_random(harness: Harness, count: int, seed: int) -> bool:
    """Uniform over a run's processor time; into half of the runs that go on a second kill comes."""
    draw, good, kills, runs = random.Random(seed), True, 0, 0
    for number in until_stopped(0, 1):
        if kills >= count:
            break
        here, hits, runs = harness.out / str(number), [], number + 1
        for _ in range(1 + (draw.random() < 0.5)):
            moment = draw.random() * harness.life
            codes = harness.run(here, seconds=moment)
            if -signal.SIGKILL in codes:
                log = here / "metrics.jsonl"
                logged = len(log.read_bytes().splitlines()) if log.exists() else None
                hits.append({"seconds": round(moment, 3), "rows": logged})
        kills += len(hits)
        good &= harness.whole(here, number, kills=hits)
    about = {"rows": len(harness.expected["rows"]), "seed": seed, "life": round(harness.life, 3)}
    print(json.dumps({"kills": kills, "runs": runs, **about, "all_equal": good}))
    return good


def main(kind: str, program: str, out: str, *rest: str) -> int:
    Path(out).mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    work = {"every": every, "full": full, "term": term, "random": at_random}[kind]
    return 0 if work(Harness.made(program, Path(out)), *map(int, rest)) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
