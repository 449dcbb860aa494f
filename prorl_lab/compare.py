"""The curves of several runs over each other, and the settings that differ: what one looks at after every experiment.

    python -m prorl_lab.compare RUN RUN ... [--out FILE]

A run is a folder of `prorl_mini`, `prorl_v2` or `prorl_scale`, finished or at work.  Runs whose settings differ in the
seed alone are one arm: drawn as their mean, with the range from the lowest to the highest seed.
"""

import io
import itertools
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prorl_lab import flags
from prorl_lab.colours import BLUE, BROWN, GREEN, LINE, ORANGE, PURPLE, RED, TEAL
from prorl_lab.errors import UserError
from prorl_lab.files import read_json
from prorl_lab.log import as_a_run_wrote, parse_rows
from prorl_lab.report import markdown, pyplot

# What two runs of one arm may differ in: none of it changes what is computed, but the seed.
NOT_OF_THE_ARM = frozenset(("seed", "out", "resume", "base_cache", "break_lock", "track", "tensorboard", "save_every"))
PANELS = {
    "validation": "validation, pass@1",
    "pass@k": "validation, pass@k",
    "solved": "training, share solved",
    "entropy": "entropy of what is trained on, nats",
    "kl": "KL to the reference, nats per token",
    "length": "answer length, tokens",
    "clipped": "tokens clipped, low and high",
    "tokens": "tokens generated, millions",
}
LINES = tuple(zip((BLUE, ORANGE, GREEN, PURPLE, RED, TEAL, BROWN), "os^Dvx*", strict=True))
SMOOTH_OVER = 5  # steps; evaluations and sums of tokens are drawn as they are

Curve = dict[int, float]  # step -> value


@dataclass
class RunData:
    """What a run folder says of a run.  `summary` is None until it has finished."""

    path: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, Any] | None = None
    about: dict[str, Any] = field(default_factory=dict)  # versions, commit, machine

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if "event" not in row]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row.get("event") == "evaluation"]


def read_run(folder: Path) -> RunData:
    """Raises UserError where `folder` is not a run's."""
    try:
        about = read_json(folder / "config.json")
        settings = about.pop("settings")
        metrics = folder / "metrics.jsonl"
        rows = parse_rows(metrics.read_text(encoding="utf-8"), str(metrics))
        summary = read_json(folder / "summary.json") if (folder / "summary.json").exists() else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{folder} is not a run folder (no readable config.json and metrics.jsonl): give a folder made by --out"
        ) from error
    return RunData(folder, settings, rows, summary, about)


# ---------------------------------------------------------------- curves


def curve(run: RunData, key: str) -> Curve:
    """One of `PANELS` by step; empty where the run has not measured it."""
    if key == "validation":
        return {row["step"]: row["score"] for row in run.evaluations}
    if key == "pass@k":
        tables = {row["step"]: row.get("pass@k", {}) for row in run.evaluations}
        return {step: table[max(table, key=int)] for step, table in tables.items() if table}
    if key == "tokens":
        totals = itertools.accumulate(row["tokens"] for row in run.steps)
        return {row["step"]: total / 1e6 for row, total in zip(run.steps, totals, strict=True)}
    if key == "clipped":
        pairs = {row["step"]: (row["clip_low"], row["clip_high"]) for row in run.steps}
        return {step: sum(pair) for step, pair in pairs.items() if None not in pair}
    return {row["step"]: row[key] for row in run.steps if row.get(key) is not None}


def smooth(values: Curve, over: int = SMOOTH_OVER) -> Curve:
    """The mean of the last `over` steps at each, of as many as there are at the beginning.

    >>> smooth({1: 0.0, 2: 3.0, 4: 6.0}, over=2)
    {1: 0.0, 2: 1.5, 4: 4.5}
    """
    steps, numbers = list(values), list(values.values())
    return {step: float(np.mean(numbers[max(0, i - over + 1) : i + 1])) for i, step in enumerate(steps)}


def over_seeds(curves: list[Curve]) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Steps that every seed has, and there the mean, the lowest and the highest of them."""
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    values = np.array([[one[step] for step in steps] for one in curves]).reshape(len(curves), len(steps))
    return steps, values.mean(0), values.min(0), values.max(0)


def draw(arms: dict[str, list[RunData]], path: Path) -> None:
    """`PANELS`, an arm a colour: the mean of its seeds, and their range behind it."""
    from PIL import Image  # matplotlib brings it

    plt = pyplot()
    figure, axes = plt.subplots(2, 4, figsize=(16, 7))
    for axis, (key, title) in zip(axes.flat, PANELS.items(), strict=True):
        for (name, runs), (colour, marker) in zip(arms.items(), itertools.cycle(LINES), strict=False):
            curves = [curve(run, key) for run in runs]
            if not all(curves):
                continue
            few = key in ("validation", "pass@k")
            curves = curves if few or key == "tokens" else list(map(smooth, curves))
            steps, mean, low, high = over_seeds(curves)
            axis.plot(
                steps, mean, color=colour, marker=marker if few else None, markersize=4, linewidth=1.4, label=name
            )
            axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        if not axis.lines:
            axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=LINE)
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_ylim(bottom=0)
    for axis in axes[1]:
        axis.set_xlabel("step")
    handles, labels = axes[0, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(len(labels), 4) or 1, frameon=False)
    figure.tight_layout(rect=(0, 0.03 + 0.03 * -(-len(labels) // 4), 1, 1))
    unfinished = path.with_name(path.name + ".tmp")  # someone may be looking at the one before
    try:
        figure.savefig(drawn := io.BytesIO(), dpi=80)
        few_colours = Image.open(drawn).convert("RGB").quantize(128)  # a third of the bytes, and results/ keeps them
        few_colours.save(unfinished, "png", optimize=True)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"can't write {path} ({error.strerror}): choose another --out") from error
    finally:
        plt.close(figure)


# ---------------------------------------------------------------- arms and tables


def into_arms(runs: Iterable[RunData]) -> dict[str, list[RunData]]:
    """Runs that differ in their seed alone are one arm, named by the settings in which the arms differ.

    Raises UserError for two runs of one arm with one seed: as two seeds they would count for more than they are.
    """
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        arm = {key: value for key, value in run.settings.items() if key not in NOT_OF_THE_ARM}
        same = groups.setdefault(json.dumps(arm, sort_keys=True), [])
        for other in same:
            if other.settings.get("seed") == run.settings.get("seed"):
                raise UserError(f"{other.path} and {run.path} are one arm with one seed: give one of them")
        same.append(run)
    arms = list(groups.values())
    keys = differing([arm[0].settings for arm in arms])
    names = [", ".join(f"{key} {shown(arm[0].settings.get(key))}" for key in keys[:4]) for arm in arms]
    if len(set(names)) < len(names) or not keys:  # the settings that tell them apart come after the fourth
        names = [arm[0].path.name for arm in arms]
    if len(set(names)) < len(names):
        names = [str(arm[0].path) for arm in arms]
    return dict(zip(names, arms, strict=True))


def differing(settings: list[dict[str, Any]]) -> list[str]:
    """Settings that are not the same in all, in their own order; one that a program does not have counts as None.

    >>> differing([{"seed": 0, "eps_high": 0.4, "steps": 9}, {"seed": 1, "eps_high": 0.2, "steps": 9}])
    ['eps_high']
    """
    keys = dict.fromkeys(key for one in settings for key in one if key not in NOT_OF_THE_ARM)
    return [key for key in keys if any(one.get(key) != settings[0].get(key) for one in settings)]


def shown(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def settings_table(arms: dict[str, list[RunData]]) -> str:
    """The settings that differ between arms, a row each."""
    settings = {name: runs[0].settings for name, runs in arms.items()}
    keys = differing(list(settings.values()))
    if not keys:
        return "No setting differs but the seed."
    return markdown(
        ["setting", *settings], [[key, *(shown(one.get(key)) for one in settings.values())] for key in keys]
    )


def last_values(arms: dict[str, list[RunData]]) -> str:
    """Each arm at the last step that all its seeds have: mean (lowest to highest seed) of each panel."""
    rows = []
    for name, runs in arms.items():
        cells = []
        for key in PANELS:
            steps, mean, low, high = over_seeds([curve(run, key) for run in runs])
            cells.append(f"{mean[-1]:.3g} ({low[-1]:.3g} to {high[-1]:.3g})" if steps else "-")
        reached = min(max((row["step"] for row in run.steps), default=0) for run in runs)
        rows.append([name, str(len(runs)), str(reached), *cells])
    return markdown(["arm", "seeds", "step", *PANELS.values()], rows)


def main(args: list[str] | None = None) -> int:
    parser = flags.Parser(prog="python -m prorl_lab.compare", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=Path("compare.png"), metavar="FILE", help="the figure, a PNG")
    try:
        given = parser.parse_args(args)
        if len({path.resolve() for path in given.runs}) < len(given.runs):
            raise UserError("one run folder is given twice: give each once")
        if given.out.suffix.lower() != ".png":
            raise UserError(f"--out {given.out} is a PNG: give a name that ends in .png")
        arms = into_arms(map(read_run, given.runs))
        with as_a_run_wrote(" ".join(map(str, given.runs))):
            tables = f"{settings_table(arms)}\n\n{last_values(arms)}\n"
            draw(arms, given.out)
        print(tables)
        print(f"figure: {given.out}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(flags.piped(main))
