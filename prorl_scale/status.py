"""Where a run stands, while it runs and after it has ended or died; and its figure.

    python -m prorl_scale.status RUN [--figure PATH | --no-figure]

Reads a run folder of `prorl_scale` or `prorl_mini` and changes nothing in it but `status.png`.  Files become `Facts`,
facts become text; only `main` and `read_run` touch the disk.
"""

import argparse
import datetime
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from prorl_lab import flags, report
from prorl_lab.cli import stored_settings
from prorl_lab.errors import UserError
from prorl_lab.files import read_json
from prorl_lab.ledger import PARTS

RECENT = 20  # steps that throughput, shares and verdicts are taken over
MEAN_OF = 5  # steps that "now" and "before" are the mean of: one step is noise
BACK = 50  # steps from "before" to "now"
QUIET = 5  # a run is taken for stopped after so many of its longest recent steps without a new line,
QUIET_AT_LEAST = 120.0  # and at least these seconds: starting, saving and validating write nothing for a while
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
    state: str  # "finished" | "running" | "quiet" | "starting"


# ---------------------------------------------------------------- files


def read_run(folder: Path) -> Source:
    """Raises UserError where `folder` is not a run's."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the run folder that --out named")
    settings = stored_settings(folder)
    metrics = folder / "metrics.jsonl"
    if not metrics.exists():
        raise UserError(f"{folder} has no metrics.jsonl, so nothing of a run was written there yet")
    rows = parse_rows(metrics.read_text(encoding="utf-8"))
    summary, recipe = folder / "summary.json", folder / "recipe.json"
    return Source(
        settings,
        rows,
        read_json(recipe)["stages"] if recipe.exists() else [],
        last_checkpoint(folder, [row["step"] for row in rows if row.get("event") == "checkpoint"]),
        read_json(summary)["steps"] if summary.exists() else None,
        metrics.stat().st_mtime,
    )


def parse_rows(text: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl.  The last may be half-written: by a run at work, or by one that died.

    >>> parse_rows('{"step": 1}\\n{"step": 2}\\n{"st')
    [{'step': 1}, {'step': 2}]
    """
    lines = text.splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"line {number} of metrics.jsonl is not JSON ({error}): mend or remove it") from error
    return rows


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
    """Does it run?  Judged by how long it has been silent, since nothing else tells from another machine."""
    if source.finished_at is not None and source.finished_at >= step:
        return "finished"
    if silent > max(QUIET_AT_LEAST, QUIET * max((row["seconds"] for row in recent), default=QUIET_AT_LEAST)):
        return "quiet"
    return "running" if recent else "starting"


# ---------------------------------------------------------------- text


def describe(run: Facts, folder: Path, now: float) -> str:
    """The facts as lines of text."""
    lines: list[tuple[str, str]] = [("run", f"{folder}" + (f", recipe {run.recipe}" if run.recipe else ""))]
    lines += [("state", state_text(run, folder))]
    beyond = f" (resumed beyond the {run.steps} that it began with)" if run.step > run.steps else ""
    lines += [("step", f"{run.step}{beyond}" if beyond else f"{run.step} of {run.steps}")]
    if run.stage:
        number, count, name, since, until = run.stage
        lines += [("stage", f"{number} of {count}, {name}: since step {since}, until {until}")]
    lines += titled("resets", [f"step {step}: {reason}" for step, reason in run.resets], "none")
    lines += [("validation", validation_text(run))]
    if run.figures:
        lines += [("", f"{'':22}{'now':>10}{'before':>10}   means of {MEAN_OF} steps; before: {before_text(run)}")]
        lines += [("", f"{name:22}{short(now_):>10}{short(then):>10}") for name, (now_, then) in run.figures.items()]
    if run.step_seconds is not None:
        lines += [("speed", f"{run.step_seconds:.3g} s a step, {run.tokens_per_second:,.0f} tokens/s "
                   f"(medians of the last {RECENT} steps)")]  # fmt: skip
        lines += [("time goes to", ", ".join(f"{part} {share:.0%}" for part, share in run.shares.items()))]
    if run.groups:
        wasted = "" if run.tokens_wasted is None else f", {run.tokens_wasted:.0%} of the tokens thrown away"
        lines += [("groups", f"{run.groups[0]} of {run.groups[1]} trained on in the last {RECENT} steps{wasted}")]
    if run.verdicts:
        lines += [("verdicts", ", ".join(f"{name} {count}" for name, count in run.verdicts.items()))]
    lines += [("skipped updates", str(run.skipped))]
    lines += titled("warnings", [f"step {step}: {message}" for step, message in run.warnings[-5:]], "none")
    lines += [("checkpoint", checkpoint_text(run))]
    if run.left is not None and run.state != "finished":
        lines += [("expected end", end_text(run, now))]
    if run.devices:
        number, kind = run.devices
        left = "" if run.left is None else f", {number * run.left / 3600:,.4g} to go (steps alone)"
        lines += [(f"{kind}-hours", f"{number * run.spent / 3600:,.4g} on {number}{left}")]
    return "\n".join(f"{label:17}{text}".rstrip() for label, text in lines)


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
    again = f"continue with --resume {folder}" if run.checkpoint else "nothing was saved: start again with a new --out"
    return f"no new line for {duration(run.silent)}: it may have stopped; {again}"


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
    if run.state == "quiet":
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
    parser = argparse.ArgumentParser("python -m prorl_scale.status", description="Where a run stands, and its figure.")
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--figure", type=Path, help="where to draw; default RUN/status.png")
    parser.add_argument("--no-figure", action="store_true")
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> int:
    """Print and draw: 0, or one sentence and 1."""
    given = parse(args)
    try:
        source, now = read_run(given.run), time.time()
        print(describe(facts(source, now), given.run, now))
        if source.rows and not given.no_figure:
            path = given.figure or given.run / "status.png"
            draw(source, path)
            print(f"{'figure':17}{path}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def draw(source: Source, path: Path) -> None:
    """The run's curves.  Raises UserError where `path` can't be written."""
    try:
        report.draw_curve(source.rows, path, [stage["name"] for stage in source.stages])
    except OSError as error:
        raise UserError(f"can't write {path} ({error.strerror}): give another --figure, or --no-figure") from error


if __name__ == "__main__":
    sys.exit(flags.piped(main))
