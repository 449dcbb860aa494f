"""What the blocks of several chapters use: recorded runs and studies, one recorded group, how a figure is drawn."""

import inspect
import itertools
import json
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

import prorl_mini as mini
from prorl_lab import laptop, settings, study_report
from prorl_lab.colours import BLUE, DARK, GREY, ORANGE, RED
from prorl_lab.run_folder import read_json, read_metrics
from prorl_lab.studies import STUDIES

ROOT = Path(__file__).parents[1]
LAPTOP = ROOT / "results/2026-11-23-laptop"
FIGURES = ROOT / "tutorials/figures"  # the tests send figures elsewhere, and compare


def steps(run: str, folder: Path = LAPTOP) -> list[dict[str, Any]]:
    """The recorded training steps of a run; row i is step i + 1."""
    return [row for row in read_metrics(folder / run / "metrics.jsonl") if "event" not in row]


def events(run: str, name: str, folder: Path = LAPTOP) -> list[dict[str, Any]]:
    """The recorded events of a run: "evaluation", "reset", "boundary", ..."""
    return [row for row in read_metrics(folder / run / "metrics.jsonl") if row.get("event") == name]


def took(count: int) -> str:
    """How long the first steps of the recorded default runs took, the fastest to the slowest: "1 to 5 minutes"."""
    seconds = [
        sum(row["seconds"] for row in steps(run)[:count]) for run in ("fresh-clone", "prorl-0", "prorl-1", "prorl-2")
    ]
    unit, name = (60, "minutes") if min(seconds) > 30 else (1, "seconds")
    return f"{min(seconds) / unit:.0f} to {max(seconds) / unit:.0f} {name}"


def summary(run: str, folder: Path = LAPTOP) -> dict[str, Any]:
    """What the run's summary.json holds."""
    return read_json(folder / run / "summary.json")


def levels() -> dict[str, str]:
    """What four recorded runs show of clip and truncation, as the tables of README and chapter 6 say it."""
    runs = [steps(name) for name in ("mini-long", "prorl-0", "prorl-1", "prorl-2")]

    def means(key: str, width: int, first: int, last: int) -> list[float]:
        """Per cent, over each stretch of so many steps, of all runs that come so far."""
        starts = range(first - 1, last, width)
        return [
            100 * sum(row[key] for row in run[at : at + width]) / width for run in runs for at in starts if run[at:]
        ]

    high, low, late = means("clip_high", 100, 1, 800), means("clip_low", 100, 1, 200), means("clip_low", 100, 701, 800)
    cut, after = means("truncated", 50, 51, 100), means("truncated", 50, 151, 800)
    return {
        "clip": f"about {sum(high) / len(high):.2f} % above; {min(low):.0f} to {max(low):.1f} % below in the first 200 "
        f"steps, falling to {late[0]:.1f} %",
        "truncated": f"{min(cut):.0f} to {max(cut):.0f} % in steps 51 to 100, below {math.ceil(max(after))} % from "
        "step 151 on",
    }


def study(name: str) -> None:
    """Print a study's claims by the arms they compare: effect (95 % interval) and verdict, or what is predicted."""
    asked = STUDIES[name]
    reports = {report["study"]: report for _, report in study_report.studies_in(ROOT / "results")}
    if report := reports.get(name):
        steps = sorted({settings["steps"] for settings in report["settings"].values()})
        state = f"{len(report['seeds'])} seeds of {' or '.join(map(str, steps))} steps"
        rows = [
            (study_report.who(row), f"{row['verdict']}: {row['claim']}, {study_report.effect(row)}")
            for row in report["findings"]
        ]
    else:
        state = "not run yet"
        rows = [
            (study_report.who(vars(claim)), f"predicted: {claim.text}, by {claim.least:g} {claim.unit} at least")
            for claim in asked.claims
        ]
    print(f"{name}, {state}:\n  {asked.question}")
    for arms, some in itertools.groupby(rows, key=lambda row: row[0]):
        print(f"  {arms}")
        for _, text in some:
            print(f"    {text}")


def group() -> dict[str, Any]:
    """One group of a recorded run, before and after its update: see results/2026-11-28-one-group."""
    return json.loads((ROOT / "results/2026-11-28-one-group/group.json").read_text(encoding="utf-8"))


def body(function: Any) -> str:
    """The lines of a function below its docstring, as they are now."""
    return inspect.getsource(function).split('"""')[2].strip("\n")


CYCLE = ((GREY, "o"), (BLUE, "s"), (ORANGE, "^"), (RED, "D"))


def draw(name: str, *panels: dict[str, Any], rows: int = 1) -> None:
    """A figure of one or more panels, written to tutorials/figures; each panel is the arguments of `draw_panel`."""
    columns = -(-len(panels) // rows)
    figure, grid = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.1 * rows), squeeze=False)
    for axis, panel in zip(grid.flat, panels, strict=False):
        draw_panel(axis, **panel)
    save(figure, name)


def draw_panel(
    axis: Any, title: str, lines: dict[str, tuple], x: str = "", y: str = "", bands: dict[str, tuple] | None = None,
    dotted: Any = (), log: str = "", base: int = 10, ylim: tuple[float, float] | None = None,
    legend: str | None = "best", thin: bool = False, bars: bool = False,
) -> None:  # fmt: skip
    """One panel: label -> (xs, ys).

    bands: label -> (low, high) around the line of that label.  dotted: where a vertical line stands.  log: which axes
    are logarithmic, of "x" and "y".  Few points get markers, so that lines differ in more than their colour.
    """
    look = CYCLE if len(lines) > 1 else CYCLE[1:]
    for i, ((label, (xs, ys)), (colour, marker)) in enumerate(zip(lines.items(), look, strict=False)):
        if bars:
            axis.bar([at + 0.4 * i - 0.2 for at in range(len(xs))], ys, width=0.38, color=colour, label=label)
            axis.set_xticks(range(len(xs)), xs)
            continue
        marked = {"marker": marker, "markersize": 4} if len(xs) <= 24 else {}
        axis.plot(xs, ys, color=colour, linewidth=0.7 if thin else 1.5, label=label, **marked)
        if bands and label in bands:
            axis.fill_between(xs, *bands[label], color=colour, alpha=0.2, linewidth=0)
    for place in dotted:
        axis.axvline(place, color="black", linestyle=":", linewidth=0.6)
    for letter in log:
        getattr(axis, f"set_{letter}scale")("log", base=base)
    axis.set(title=title, xlabel=x, ylabel=y)
    if ylim:
        axis.set_ylim(ylim)
    if legend and len(lines) > 1:
        axis.legend(frameon=False, loc=legend)
    axis.spines[["top", "right"]].set_visible(False)


def draw_stages(name: str, says: dict[str, str]) -> None:
    """The nine stages: seven in a row, which every step runs, and below them the two that come now and then."""
    figure, axis = plt.subplots(figsize=(10, 3.2))
    arrow = {"arrowstyle": "->", "color": GREY, "shrinkA": 0, "shrinkB": 0}
    places = [*((i, 1) for i in range(7)), (2.2, 0), (4.8, 0)]  # reset to the left of eval, which it reads
    for i, ((stage, text), (x, y)) in enumerate(zip(says.items(), places, strict=True)):
        axis.text(x, y, f"{i + 1} {stage}", ha="center", weight="bold", color=BLUE if i < 7 else DARK)
        axis.text(x, y - 0.07, text, ha="center", va="top", fontsize=8)
        if i < 6:
            axis.annotate("", (x + 0.57, y + 0.16), (x + 0.43, y + 0.16), arrowprops=arrow)
    refill = {**arrow, "connectionstyle": "arc3,rad=0.25"}
    axis.annotate("", (0.1, 1.27), (1.95, 1.27), arrowprops=refill)
    axis.text(1.0, 1.58, "too few groups with contrast: draw more", fontsize=8, color=DARK, ha="center")
    axis.annotate("", (5.5, 0.1), (6, 0.55), arrowprops=arrow)
    axis.annotate("", (2.9, 0.05), (4.1, 0.05), arrowprops=arrow)
    axis.annotate("", (0, 0.55), (1.5, 0.1), arrowprops=arrow)
    axis.text(0.5, 0.12, "next\nstep", fontsize=8, color=DARK, ha="right")
    axis.set(xlim=(-0.5, 6.5), ylim=(-0.4, 1.7))
    axis.axis("off")
    save(figure, name)


def save(figure: Any, name: str) -> None:
    """Write a figure to tutorials/figures and close it."""
    figure.tight_layout()
    figure.savefig(FIGURES / name, dpi=110)
    plt.close(figure)


def cli_default(name: str) -> Any:
    """A setting of `make mini`, filled in as the command line does."""
    return getattr(settings.resolve(mini.Config(out="unused")), name)


def laptop_parameters() -> int:
    """How many parameters the laptop model has."""
    return laptop.build_model(laptop.WarmUp(), len(laptop.build_tokenizer())).num_parameters()
