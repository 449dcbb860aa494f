"""The laptop study: run a question's arms over seeds, and judge the answer by a rule fixed beforehand.

    python -m prorl_lab.study list
    python -m prorl_lab.study run clip [--seeds 0 1 2 3 4] [--jobs 2] [--minutes 8]   stopped or killed: run it again
    python -m prorl_lab.study report clip [--fresh 5 6]                               -> results/<date>-study-clip/

The questions are data (`prorl_lab.studies`).  An arm at a seed is an ordinary run folder, made by an ordinary command.
Arms of one seed share the base model and the prompts, so their differences are taken seed by seed.
"""

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import math
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from prorl_lab import cli, compare, flags, parent, settings
from prorl_lab.compare import RunData
from prorl_lab.errors import UserError
from prorl_lab.run_folder import GracefulStop, read_json, to_store
from prorl_lab.studies import STUDIES, Study
from prorl_lab.study_report import report

ROOT = Path(__file__).parents[1]
LOOK_SECONDS, SAY_SECONDS = 0.5, 30.0


@dataclasses.dataclass(frozen=True)
class Job:
    """One arm at one seed."""

    study: Study
    arm: str
    seed: int
    folder: Path

    @property
    def flags(self) -> list[str]:
        """A thread each: runs side by side have a processor each, and a rerun elsewhere gives the same last digits."""
        own = f"{self.study.arms[self.arm]} --seed {self.seed} --threads 1"
        return [*shlex.split(f"{self.study.common} {own}"), "--out", str(self.folder)]


# ---------------------------------------------------------------- what is to be run


def find(name: str, studies: dict[str, Study] = STUDIES) -> Study:
    if name not in studies:
        raise UserError(f"there is no study {name!r}: choose one of {', '.join(studies)}")
    return studies[name]


def jobs_of(study: Study, seeds: list[int], out: Path, side_by_side: int = 1) -> list[Job]:
    """Every arm at every seed, seed by seed, so that a study that is cut short has whole seeds.

    With several jobs at a time, as many seeds take turns: two arms of one seed would both warm up its base model.
    Raises UserError for seeds given twice: a pair that counts twice makes an interval too narrow.
    """
    if len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0:
        raise UserError(f"--seeds {' '.join(map(str, seeds))}: give each seed once, and none below 0")
    blocks = [seeds[i : i + side_by_side] for i in range(0, len(seeds), side_by_side)]
    home = out / study.home
    return [
        Job(study, arm, seed, home / f"{slug(arm)}-{seed}") for block in blocks for arm in study.arms for seed in block
    ]


def slug(arm: str) -> str:
    """The name of an arm as part of a folder's.

    >>> slug("KL 1e-3, reset"), slug("0.2/0.28")
    ('KL-1e-3-reset', '0.2_0.28')
    """
    return arm.replace(", ", "-").replace(" ", "-").replace("/", "_")


def resolved(job: Job) -> Any:
    """The settings of a job, every one filled in.  Raises UserError for a flag that the program does not know."""
    program = importlib.import_module(job.study.program.replace("/", "."))
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return settings.resolve(cli.parse(program.Config, job.flags))
    except (SystemExit, UserError) as error:
        told = str(error) if isinstance(error, UserError) else said.getvalue()
        words = " ".join("".join(c if c.isascii() else " " for c in told).split())
        raise UserError(f"{job.study.program}.py does not take the flags of arm {job.arm!r}: {words}") from error


def state_of(job: Job) -> str:
    """ "done", "begun" or "new".  Raises UserError where the folder holds a run of other settings."""
    if not (job.folder / "config.json").exists():
        return "new"
    wanted = json.loads(json.dumps(to_store(resolved(job))))
    stored = cli.stored_settings(job.folder)
    other = compare.differing([wanted, stored])
    if other or stored.get("seed") != job.seed:
        raise UserError(
            f"{job.folder} holds a run of other settings ({', '.join(other or ['seed'])}): move it away, or give "
            "another --out"
        )
    summary = job.folder / "summary.json"
    return "done" if summary.exists() and read_json(summary)["steps"] >= wanted["steps"] else "begun"


def steps_done(job: Job) -> int:
    """Lines of steps in its metrics."""
    with contextlib.suppress(OSError):
        lines = (job.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return sum(line.startswith('{"step": ') for line in lines)  # events begin with their name
    return 0


# ---------------------------------------------------------------- running it


def end_with_parent() -> None:
    """In a child: a runner that is killed takes its runs along, each saved (Linux alone; elsewhere they run on)."""
    parent.signal_at_its_end(signal.SIGTERM)


def start(job: Job) -> subprocess.Popen:
    """The run as an ordinary command, new or resumed, with its output in a file beside the folder.

    In a session of its own: a Ctrl-C of the terminal would reach it beside the one that the runner passes on, and two
    of them mean "stop now, unsaved".
    """
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    how = ["--resume", str(job.folder)] if state_of(job) == "begun" else job.flags
    with job.folder.with_name(f"{job.folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / f"{job.study.program}.py"), *how], stdout=log, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
            preexec_fn=end_with_parent,
        )  # fmt: skip


def run(jobs: list[Job], side_by_side: int, minutes: float | None) -> bool:
    """Start what is not done, so many at a time; stop, with all saved, on a signal or after `minutes` -> is all done?

    Raises UserError where a run fails, after the others have saved.
    """
    waiting = deque(job for job in jobs if state_of(job) != "done")
    running: dict[subprocess.Popen, Job] = {}
    progress, failed, stopped = Progress(jobs), None, False
    end = time.monotonic() + 60 * minutes if minutes else math.inf
    with GracefulStop() as stop:
        while running or (waiting and not stopped):
            if not stopped and (stop.requested or failed or time.monotonic() > end):
                stopped = True
                for process in running:
                    process.terminate()
            while waiting and not stopped and len(running) < side_by_side:
                job = waiting.popleft()
                running[start(job)] = job
            time.sleep(LOOK_SECONDS)
            for process in [process for process in running if process.poll() is not None]:
                job = running.pop(process)
                if process.returncode and not stopped:
                    failed = job
            progress.say(running)
    progress.say({}, now=True)
    if failed:
        log = failed.folder.with_name(f"{failed.folder.name}.log")
        last = (log.read_text(encoding="utf-8", errors="replace").strip() or "no output").splitlines()[-1]
        raise UserError(f"{failed.folder} failed ({last}): see {log}, then run the study again")
    return all(state_of(job) == "done" for job in jobs)


class Progress:
    """A line now and then: how much is done, and an estimate of the rest in processor seconds and in time.

    On a shared machine the time depends on the neighbours, the processor seconds do not.
    """

    def __init__(self, jobs: list[Job]):
        self.jobs, self.began, self.said = jobs, time.monotonic(), -math.inf
        self.total = sum(resolved(job).steps for job in jobs)
        self.before = sum(map(steps_done, jobs))
        self.ended_before = ended_seconds()

    def say(self, running: dict[subprocess.Popen, Job], now: bool = False) -> None:
        if not now and time.monotonic() - self.said < SAY_SECONDS:
            return
        self.said, steps = time.monotonic(), sum(map(steps_done, self.jobs))
        used = ended_seconds() - self.ended_before + sum(processor_seconds(process.pid) for process in running)
        left, fresh, wall = self.total - steps, steps - self.before, self.said - self.began
        finished = sum(state_of(job) == "done" for job in self.jobs)
        line = f"{finished} of {len(self.jobs)} runs, {steps} of {self.total} steps | {used:.0f} processor seconds"
        if fresh > 0 and left > 0:
            line += f", about {used / fresh * left:.0f} to come: {wall / fresh * left / 60:.0f} min at this share"
        print(line, flush=True)


def ended_seconds() -> float:
    """Processor seconds of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def processor_seconds(pid: int) -> float:
    """Those of a child that runs; 0 where the kernel does not tell."""
    with contextlib.suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


# ---------------------------------------------------------------- what came of it


def read_seeds(jobs: list[Job]) -> dict[int, dict[str, RunData]]:
    """Of every seed of which all arms are done: arm -> run.  Raises UserError for runs of several commits."""
    return whole_seeds(jobs, [job for job in jobs if state_of(job) == "done"])


def read_recorded(jobs: list[Job], folder: Path) -> dict[int, dict[str, RunData]]:
    """The same of runs that an earlier version made, `folder`/ARM-SEED, whose settings are their own."""
    moved = [dataclasses.replace(job, folder=folder / job.folder.name) for job in jobs]
    return whole_seeds(moved, [job for job in moved if (job.folder / "summary.json").exists()])


def whole_seeds(jobs: list[Job], done: list[Job]) -> dict[int, dict[str, RunData]]:
    """Seed -> arm -> run, where no arm is missing.  Raises UserError for runs of several commits."""
    seeds: dict[int, dict[str, RunData]] = {}
    for job in done:
        seeds.setdefault(job.seed, {})[job.arm] = compare.read_run(job.folder)
    arms = {job.arm for job in jobs}
    whole = {seed: runs for seed, runs in seeds.items() if len(runs) == len(arms)}
    check_commits(whole)
    return whole


def check_commits(seeds: dict[int, dict[str, RunData]]) -> None:
    """Raise UserError for runs of several commits."""
    commits = sorted({run.about.get("commit", "unknown") for runs in seeds.values() for run in runs.values()})
    if len(commits) > 1:
        raise UserError(
            f"the runs are of several commits ({', '.join(commits)}), which may differ in more than the arms do: run "
            "all of them again from one, with another --out"
        )


# ---------------------------------------------------------------- the command line


def show(studies: dict[str, Study], out: Path) -> str:
    """The list: a question each, and how far it is."""
    lines = []
    for name, study in studies.items():
        jobs = jobs_of(study, list(study.seeds), out)
        done = sum((job.folder / "summary.json").exists() for job in jobs)
        how_far = f"needs {study.needs}" if study.needs else f"{done} of {len(jobs)} runs done"
        lines += [f"{name}: {study.question}", f"    {how_far}"]
    return "\n".join(lines)


def parse(args: list[str] | None) -> argparse.Namespace:
    parser = flags.Parser(prog="python -m prorl_lab.study", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    listed, ran, reported = (commands.add_parser(name) for name in ("list", "run", "report"))
    for command in (listed, ran, reported):
        command.add_argument("--out", type=Path, default=Path("runs/studies"), help="where the run folders are")
    for command in (ran, reported):
        command.add_argument("name")
        command.add_argument("--seeds", type=int, nargs="+", help="default: those of the study")
    ran.add_argument("--jobs", type=int, default=2, help="runs side by side, a processor each")
    ran.add_argument("--minutes", type=float, help="stop after so long, with all saved; run it again to go on")
    reported.add_argument("--fresh", type=int, nargs="+", default=[], help="seeds to compare with the intervals")
    reported.add_argument("--recorded", type=Path, help="judge runs of an earlier version instead, DIR/ARM-SEED")
    reported.add_argument("--results", type=Path, default=Path("results"))
    return parser.parse_args(args)


def obey(given: argparse.Namespace, studies: dict[str, Study]) -> None:
    if given.command == "list":
        flags.piped(lambda: print(show(studies, given.out)) or 0)
        return
    study = find(given.name, studies)
    if study.needs:
        raise UserError(f"study {given.name} can't be run yet: it needs {study.needs}")
    seeds = given.seeds or list(study.seeds)
    if given.command == "report":
        jobs_of(study, seeds + given.fresh, given.out)  # no seed is in both
        jobs, later = (jobs_of(study, some, given.out) for some in (seeds, given.fresh))
        whole = read_recorded(jobs, given.recorded) if given.recorded else read_seeds(jobs)
        fresh = read_seeds(later)
        check_commits({**whole, **fresh})
        if len(fresh) < len(given.fresh):
            raise UserError(
                f"of the {len(given.fresh)} fresh seeds {len(fresh)} are whole: run them with --seeds first"
            )
        print(report(given.name, study, whole, fresh, given.results, given.recorded) / "README.md")
        return
    if given.jobs < 1 or (given.minutes is not None and not given.minutes > 0):
        raise UserError("--jobs must be at least 1, and --minutes above 0: mend them")
    jobs = jobs_of(study, seeds, given.out, given.jobs)
    for job in jobs:
        model = resolved(job).model  # a mistake in the last arm is found out now, not after the first
        if study.base and not Path(model).is_dir():
            raise UserError(f"study {given.name} trains {model}, which is not here yet: {study.base}")
    if run(jobs, given.jobs, given.minutes):
        print(f"all done: python -m prorl_lab.study report {given.name}")
    else:
        print("stopped, all saved: the same command goes on")


def main(args: list[str] | None = None, studies: dict[str, Study] = STUDIES) -> int:
    """0, or one sentence and 1 on bad input."""
    try:
        obey(parse(args), studies)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # the second: the runs have been asked to save, and end by themselves
        print("stopped: the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
