"""What the blocks of several chapters use: recorded runs, and where a figure goes."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

import prorl_mini as mini
from prorl_lab import settings
from prorl_lab.run_folder import read_json, read_metrics

ROOT = Path(__file__).parents[1]
LAPTOP = ROOT / "results/2026-11-23-laptop"
FIGURES = ROOT / "tutorials/figures"  # the tests send figures elsewhere, and compare
BLUE, ORANGE, GREY, RED = "#2f6db3", "#e8a33d", "#8c8c8c", "#c0392b"


def steps(run: str, folder: Path = LAPTOP) -> list[dict[str, Any]]:
    """The recorded training steps of a run; row i is step i + 1."""
    return [row for row in read_metrics(folder / run / "metrics.jsonl") if "event" not in row]


def events(run: str, name: str, folder: Path = LAPTOP) -> list[dict[str, Any]]:
    """The recorded events of a run: "evaluation", "reset", "boundary", ..."""
    return [row for row in read_metrics(folder / run / "metrics.jsonl") if row.get("event") == name]


def summary(run: str, folder: Path = LAPTOP) -> dict[str, Any]:
    """What the run's summary.json holds."""
    return read_json(folder / run / "summary.json")


def axes(columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, in the project's style."""
    figure, grid = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.1 * rows), squeeze=False)
    for axis in grid.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, grid[0, 0] if rows == columns == 1 else grid.flatten()


def save(figure: Any, name: str) -> None:
    """Write a figure to tutorials/figures and close it."""
    figure.tight_layout()
    figure.savefig(FIGURES / name, dpi=110)
    plt.close(figure)


def cli_default(name: str) -> Any:
    """A setting of `make mini`, filled in as the command line does."""
    return getattr(settings.resolve(mini.Config(out="unused")), name)
