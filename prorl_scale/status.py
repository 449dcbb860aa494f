"""Where a run stands, while it runs and after it has ended or died; its figure, and a page to watch it by.

    python -m prorl_scale.status RUN [--figure PATH | --no-figure]
    python -m prorl_scale.status RUN --html [FILE] [--every SECONDS]      one file; again and again until the run ends
    python -m prorl_scale.status RUN --serve [PORT]                       the same page, made when a browser asks

Reads a run folder of `prorl_scale` or `prorl_mini` and changes nothing in it but `status.png` or `status.html`.  Files
become `Facts`, facts become text; only `main`, `read_run` and `live.py`, which has the page, touch the disk.
"""

import argparse
import datetime
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from prorl_lab import flags, lock, report, samples
from prorl_lab.cli import stored_settings
from prorl_lab.errors import UserError
from prorl_lab.files import read_json
from prorl_lab.ledger import PARTS
from prorl_lab.log import as_a_run_wrote, parse_rows

RECENT = 20  # steps that throughput, shares and verdicts are taken over
MEAN_OF = 5  # steps that "now" and "before" are the mean of: one step is noise
BACK = 50  # steps from "before" to "now"
QUIET = 5  # a run is taken for stopped after so many of its longest recent steps without a new line,
QUIET_AT_LEAST = 120.0  # and at least these seconds: starting, saving and validating write nothing for a while
PROMPTS = 2  # of the last evaluation whose answers are printed,
WIDTH = 100  # in so many characters each
PORT = 8321
EVERY = 10  # seconds after which a page is loaded again
FIGURES = {
    "reward_unfiltered": "reward",
    "solved": "solved",
    "length": "length, tokens",
    "truncated": "truncated",
    "repetition": "ends in a loop",
    "kl": "KL to the reference",
    "entropy_unfiltered": "entropy, nats",
    "entropy": "entropy, trained on",
}


@dataclass
class Source:
    """What the files of a run folder hold."""

    settings: dict[str, Any]
    rows: list[dict[str, Any]]  # of metrics.jsonl
    stages: list[dict[str, Any]]  # of recipe.json; empty where the run has none
    checkpoint: tuple[int | None, float] | None  # step (None: not known), time it was written
    finished_at: int | None  # step in summary.json
    written: float  # when the run last wrote a line, seconds since 1970
    answers: list[dict[str, Any]]  # of samples.jsonl, those of the last evaluation
    stopped: str | None  # why it stopped by its own rules
    at_work: bool | None  # whether a process holds the folder; None: that can't be told


@dataclass
class Facts:
    """Where a run stands.  Times are seconds; None is what the run has not measured."""

    recipe: str | None
    step: int
    steps: int
    stage: tuple[int, int, str, int, str] | None  # number from 1, of how many, name, since step, until
    resets: list[tuple[int, str]]
    best: tuple[float, int] | None  # validation score and step, the first of equals
    latest: tuple[float, int] | None
    figures: dict[str, tuple[float | None, float | None]]  # name: now, before
    before: int | None  # last step of "before"
    tokens_per_second: float | None
    step_seconds: float | None
    shares: dict[str, float]
    checkpoint: tuple[int | None, float] | None  # step, age
    warnings: list[tuple[int, str]]
    skipped: int
    groups: tuple[int, int] | None  # trained on, generated
    tokens_wasted: float | None  # share
    verdicts: dict[str, int]
    left: float | None  # seconds of steps; validation and saving come on top
    devices: tuple[int, str] | None  # how many, and what they are; None: the run does not say
    spent: float  # seconds of all steps
    silent: float  # seconds since the last line
    answers: list[dict[str, Any]]  # as in `Source`
    stopped: str | None
    at_work: bool | None
    state: str  # "finished" | "running" | "quiet" | "starting" | "ended"

    @property
    def alive(self) -> bool:
        """May there be more to see later?"""
        return self.state not in ("finished", "ended")


# ---------------------------------------------------------------- files


def read_run(folder: Path, now: float) -> Source:
    """now: seconds since 1970.  Raises UserError where `folder` is not a run's."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the run folder that --out named")
    settings = stored_settings(folder)
    metrics = folder / "metrics.jsonl"
    if not metrics.exists():
        raise UserError(f"{folder} has no metrics.jsonl, so nothing of a run was written there yet")
    rows = parse_rows(metrics.read_text(encoding="utf-8"), metrics.name)
    summary, recipe, stopped = folder / "summary.json", folder / "recipe.json", folder / "stopped"
    return Source(
        settings,
        rows,
        read_json(recipe)["stages"] if recipe.exists() else [],
        last_checkpoint(folder, [row["step"] for row in rows if row.get("event") == "checkpoint"]),
        read_json(summary)["steps"] if summary.exists() else None,
        metrics.stat().st_mtime,
        samples.last(folder),
        stopped.read_text(encoding="utf-8").strip() if stopped.exists() else None,
        lock.at_work(folder, now),
    )


def last_checkpoint(folder: Path, logged: list[int]) -> tuple[int | None, float] | None:
    """Step and time of the newest whole checkpoint.  logged: steps of the checkpoint events, noted before saving."""
    whole = sorted(path for path in (folder / "checkpoints").glob("step-*") if path.suffix != ".tmp")
    if whole:  # `step-N.old` is one that a later save of the same step was about to replace
        return int(whole[-1].stem.removeprefix("step-")), whole[-1].stat().st_mtime
    state = folder / "state.pt"  # of prorl_mini
    if not state.exists():
        return None
    if (folder / "state.pt.tmp").exists():  # the last one noted is not saved, or not yet
        logged = logged[:-1]
    return logged[-1] if logged else None, state.stat().st_mtime


# ---------------------------------------------------------------- facts


def facts(source: Source, now: float) -> Facts:
    """now: seconds since 1970."""
    events = [row for row in source.rows if "event" in row]
    rows = [row for row in source.rows if "event" not in row]
    recent, settings = rows[-RECENT:], source.settings
    step = rows[-1]["step"] if rows else 0
    scores = [(event["score"], event["step"]) for event in of_kind(events, "evaluation")]
    seconds = median(row["seconds"] for row in recent) if recent else None
    earlier = [row for row in rows if row["step"] <= step - BACK][-MEAN_OF:]
    silent = max(0.0, now - source.written)
    kept, generated = (sum(row.get(key, 0) for row in recent) for key in ("groups_kept", "groups_generated"))
    return Facts(
        recipe=settings.get("recipe"),
        step=step,
        steps=settings["steps"],
        stage=stage_of(source.stages, of_kind(events, "stage")),
        resets=[(event["step"], event["reason"]) for event in of_kind(events, "reset")],
        best=max(scores, key=lambda pair: pair[0], default=None),
        latest=scores[-1] if scores else None,
        figures={
            name: (mean_of(rows[-MEAN_OF:], key), mean_of(earlier, key))
            for key, name in FIGURES.items()
            if mean_of(rows[-MEAN_OF:], key) is not None
        },
        before=earlier[-1]["step"] if earlier else None,
        tokens_per_second=median(row["tokens"] / row["seconds"] for row in recent) if recent else None,
        step_seconds=seconds,
        shares=shares_of(recent),
        checkpoint=source.checkpoint and (source.checkpoint[0], max(0.0, now - source.checkpoint[1])),
        warnings=[(event["step"], event["message"]) for event in of_kind(events, "warning")],
        skipped=round(sum(row.get("skipped_updates") or 0 for row in rows)),
        groups=(kept, generated) if generated else None,
        tokens_wasted=ratio(recent, "tokens_wasted", "tokens"),
        verdicts=verdicts_of(recent),
        left=time_left(settings, rows, seconds),
        devices=devices_of(settings, recent),
        spent=sum(row["seconds"] for row in rows),
        silent=silent,
        answers=source.answers,
        stopped=source.stopped,
        at_work=source.at_work,
        state=state_of(source, step, recent, silent),
    )


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def mean_of(rows: list[dict[str, Any]], key: str) -> float | None:
    """Mean over the rows that have a value; None of none."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return fmean(values) if values else None


def ratio(rows: list[dict[str, Any]], part: str, whole: str) -> float | None:
    total = sum(row.get(whole, 0) for row in rows)
    return sum(row.get(part, 0) for row in rows) / total if total else None


def shares_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Share of the steps' time in each part; "other" is what no clock ran for."""
    shares = {part: ratio(rows, f"seconds_{part}", "seconds") for part in (*PARTS, "push")}
    measured = {part: share for part, share in shares.items() if share}
    return {**measured, "other": max(0.0, 1 - sum(measured.values()))} if measured else {}


def verdicts_of(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many answers were verified with which outcome; empty where the run does not count them."""
    outcomes = {name for row in rows for name in row.get("verdicts", {})}
    return {name: sum(row.get("verdicts", {}).get(name, 0) for row in rows) for name in sorted(outcomes)}


def stage_of(stages: list[dict[str, Any]], entered: list[dict[str, Any]]) -> tuple[int, int, str, int, str] | None:
    """The stage in force; None where the recipe has only one."""
    if len(stages) < 2:
        return None
    number, since = (entered[-1]["stage"], entered[-1]["step"]) if entered else (0, 0)
    stage = stages[number]
    ends = [f"step {stage['end']}"] * (stage["end"] is not None) + ["a reset"] * stage["ends_at_reset"]
    return number + 1, len(stages), stage["name"], since, " or ".join(ends) or "the end of the run"


def time_left(settings: dict[str, Any], rows: list[dict[str, Any]], step_seconds: float | None) -> float | None:
    """Seconds of steps until the last one, or until --max-seconds."""
    if step_seconds is None:
        return None
    left = max(0, settings["steps"] - rows[-1]["step"]) * step_seconds
    limit = settings.get("max_seconds")
    return min(left, max(0.0, limit - sum(row["seconds"] for row in rows))) if limit else left


def devices_of(settings: dict[str, Any], recent: list[dict[str, Any]]) -> tuple[int, str] | None:
    """How many devices the last step ran on, and their kind; runs of before 28 November 2026 do not say how many."""
    kind = "GPU" if settings.get("device") == "cuda" else "processor"
    return (recent[-1]["ranks"], kind) if recent and "ranks" in recent[-1] else None


def state_of(source: Source, step: int, recent: list[dict[str, Any]], silent: float) -> str:
    """Does it run?  A folder that no process holds does not; else judged by how long it has been silent."""
    if source.finished_at is not None and source.finished_at >= step:
        return "finished"
    if source.at_work is False:
        return "ended"
    if silent > max(QUIET_AT_LEAST, QUIET * max((row["seconds"] for row in recent), default=QUIET_AT_LEAST)):
        return "quiet"
    return "running" if recent else "starting"


# ---------------------------------------------------------------- text


def describe(run: Facts, folder: Path, now: float) -> str:
    """The facts as lines of text."""
    before, after = lines(run, folder, now)
    figures = [f"{'':22}{'now':>10}{'before':>10}   {figures_title(run)}"] if run.figures else []
    figures += [f"{name:22}{short(now_):>10}{short(then):>10}" for name, (now_, then) in run.figures.items()]
    answers = [line for row in spread(run.answers) for line in answer_lines(row)]
    titles = titled("answers", [answers_title(run), *answers], "") if answers else []
    return "\n".join(
        f"{label:17}{text}".rstrip() for label, text in [*before, *(("", line) for line in figures), *after, *titles]
    )


def lines(run: Facts, folder: Path, now: float) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(label, text) of what comes before the table of figures, and after it."""
    before = [("run", f"{folder}" + (f", recipe {run.recipe}" if run.recipe else ""))]
    before += [("state", state_text(run, folder))]
    beyond = f" (resumed beyond the {run.steps} that it began with)" if run.step > run.steps else ""
    before += [("step", f"{run.step}{beyond}" if beyond else f"{run.step} of {run.steps}")]
    if run.stage:
        number, count, name, since, until = run.stage
        before += [("stage", f"{number} of {count}, {name}: since step {since}, until {until}")]
    before += titled("resets", [f"step {step}: {reason}" for step, reason in run.resets], "none")
    before += [("validation", validation_text(run))]
    after: list[tuple[str, str]] = []
    if run.step_seconds is not None:
        after += [("speed", f"{run.step_seconds:.3g} s a step, {run.tokens_per_second:,.0f} tokens/s "
                   f"(medians of the last {RECENT} steps)")]  # fmt: skip
        after += [("time goes to", ", ".join(f"{part} {share:.0%}" for part, share in run.shares.items()))]
    if run.groups:
        wasted = "" if run.tokens_wasted is None else f", {run.tokens_wasted:.0%} of the tokens thrown away"
        after += [("groups", f"{run.groups[0]} of {run.groups[1]} trained on in the last {RECENT} steps{wasted}")]
    if run.verdicts:
        after += [("verdicts", ", ".join(f"{name} {count}" for name, count in run.verdicts.items()))]
    after += [("skipped updates", str(run.skipped))]
    after += titled("warnings", [f"step {step}: {message}" for step, message in run.warnings[-5:]], "none")
    after += [("checkpoint", checkpoint_text(run))]
    if run.left is not None and run.state != "finished":
        after += [("expected end", end_text(run, now))]
    if run.devices:
        number, kind = run.devices
        left = "" if run.left is None else f", {number * run.left / 3600:,.4g} to go (steps alone)"
        after += [(f"{kind}-hours", f"{number * run.spent / 3600:,.4g} on {number}{left}")]
    return before, after


def figures_title(run: Facts) -> str:
    return f"means of {MEAN_OF} steps; before: {before_text(run)}"


def answers_title(run: Facts) -> str:
    """What the answers are of, and where there are more."""
    of = {"validation": "the validation", "held-out": "the boundary"}[run.answers[0]["split"]]
    return f"to {len(run.answers)} prompts of {of} at step {run.answers[0]['step']}; all of them in {samples.FILE}"


def spread(rows: list[Any], count: int = PROMPTS) -> list[Any]:
    """The first, the last and some between.

    >>> spread([1, 2, 3, 4, 5]), spread([1])
    ([1, 5], [1])
    """
    places = {round(i * (len(rows) - 1) / (count - 1)) for i in range(count)} if rows else set()
    return [rows[place] for place in sorted(places)]


def answer_lines(row: dict[str, Any]) -> list[str]:
    """A prompt and its answers, a line each."""
    return [
        f"{samples.one_line(row['tier'], 30)}: {samples.one_line(row['prompt'], WIDTH)}",
        *(
            f"  {name:7}{answer['reward']:5.2f}  {samples.one_line(answer['text'], WIDTH)}"
            for name, answer in row["answers"].items()
        ),
    ]


def titled(label: str, items: list[str], nothing: str) -> list[tuple[str, str]]:
    """A label before the first of several lines."""
    return [(label if i == 0 else "", item) for i, item in enumerate(items or [nothing])]


def state_text(run: Facts, folder: Path) -> str:
    if run.state == "finished":
        return "finished"
    if run.state == "starting":
        return f"starting: no step yet, last sign of life {duration(run.silent)} ago"
    if run.state == "running":
        return f"seems to run: last line {duration(run.silent)} ago"
    again = f"continue with --resume {folder}" if run.checkpoint else "nothing was saved: start it again with its --out"
    if run.state == "quiet":
        may = "its process lives, and may hang" if run.at_work else f"it may have stopped; {again}"
        return f"no new line for {duration(run.silent)}: {may}"
    if run.stopped:
        return f"stopped {duration(run.silent)} ago by its own rules: {run.stopped}"
    return f"ended before its last step, {duration(run.silent)} ago (no process holds the folder); {again}"


def before_text(run: Facts) -> str:
    return f"up to step {run.before}" if run.before is not None else f"fewer than {BACK} steps yet"


def validation_text(run: Facts) -> str:
    if run.best is None or run.latest is None:
        return "none yet"
    return f"best {run.best[0]:.3f} at step {run.best[1]}, latest {run.latest[0]:.3f} at step {run.latest[1]}"


def checkpoint_text(run: Facts) -> str:
    if run.checkpoint is None:
        return "none"
    step, age = run.checkpoint
    return f"{'step not known' if step is None else f'step {step}'}, {duration(age)} old"


def end_text(run: Facts, now: float) -> str:
    """Clock time only where the run is at work: the clock of a stopped one stands still."""
    text = f"{duration(run.left)} of steps left, validation and saving not counted"
    if run.state in ("quiet", "ended"):
        return text
    end = datetime.datetime.fromtimestamp(now + max(0.0, run.left - run.silent))
    return f"{end:%Y-%m-%d %H:%M}: {text}"


def short(value: float | None) -> str:
    """Three digits, or a dash.

    >>> [short(x) for x in (None, 0.01234, 0.5, 8190.4)]
    ['-', '0.0123', '0.5', '8190']
    """
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """The two largest units.

    >>> [duration(s) for s in (3.2, 59.8, 720, 4000, 200_000)]
    ['3 s', '1 min', '12 min', '1 h 6 min', '2 d 7 h']
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


# ---------------------------------------------------------------- command


def parse(args: list[str] | None) -> argparse.Namespace:
    parser = flags.Parser("python -m prorl_scale.status", description="Where a run stands; its figure, or a page.")
    parser.add_argument("run", type=Path, help="the run folder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--figure", type=Path, metavar="PNG", help="where to draw; default RUN/status.png")
    what.add_argument("--no-figure", action="store_true")
    what.add_argument(
        "--html", type=Path, nargs="?", const=Path(), metavar="FILE", help="write a page; default RUN/status.html"
    )
    what.add_argument(
        "--serve", type=int, nargs="?", const=PORT, metavar="PORT",
        help=f"show the page to browsers on this machine; default port {PORT}",
    )  # fmt: skip
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="with --html: write it again so often, until the run ends"
    )
    given = parser.parse_args(args)
    if given.every is not None and (given.html is None or not given.every > 0):
        parser.error("--every takes seconds above 0, and goes with --html")
    return given


def main(args: list[str] | None = None) -> int:
    """Print and draw: 0, or one sentence and 1."""
    try:
        given = parse(args)
        with as_a_run_wrote(given.run):
            source, now = look(given.run)
            text = describe(facts(source, now), given.run, now)
        print(text)
        if given.html is not None or given.serve is not None:
            from prorl_scale import live  # only now: a page takes a template engine

            return live.show(given)
        if source.rows and not given.no_figure:
            path = given.figure or given.run / "status.png"
            with as_a_run_wrote(given.run):
                draw(source, path)
            print(f"{'figure':17}{path}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def look(folder: Path) -> tuple[Source, float]:
    """A run folder as it is now, and when that is."""
    now = time.time()
    return read_run(folder, now), now


def draw(source: Source, path: Path) -> None:
    """The run's curves.  Raises UserError where `path` can't be written."""
    try:
        report.draw_curve(source.rows, path, [stage["name"] for stage in source.stages])
    except OSError as error:
        raise UserError(f"can't write {path} ({error.strerror}): give another --figure, or --no-figure") from error


if __name__ == "__main__":
    sys.exit(flags.piped(main))
