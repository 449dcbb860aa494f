"""What the blocks of several chapters use: recorded runs, and where a figure goes."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

import prorl_mini as mini
from prorl_lab import laptop, settings
from prorl_lab.colours import BLUE, DARK, GREY, ORANGE, RED  # noqa: F401  the chapters draw with them
from prorl_lab.run_folder import read_json, read_metrics

ROOT = Path(__file__).parents[1]
LAPTOP = ROOT / "results/2026-11-23-laptop"
FIGURES = ROOT / "tutorials/figures"  # the tests send figures elsewhere, and compare


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


def draw_stages(says: dict[str, str]) -> Any:
    """The nine stages: seven in a row, which every step runs, and below them the two that come now and then."""
    figure, axis = axes()
    figure.set_size_inches(10, 2.9)
    arrow = {"arrowstyle": "->", "color": GREY, "shrinkA": 0, "shrinkB": 0}
    for i, (stage, text) in enumerate(says.items()):
        x, y = (i, 1) if i < 7 else (4.5 - 3 * (i - 7), 0)
        axis.text(x, y, f"{i + 1} {stage}", ha="center", weight="bold", color=BLUE if i < 7 else DARK)
        axis.text(x, y - 0.07, text, ha="center", va="top", fontsize=8)
        if i < 6:
            axis.annotate("", (x + 0.57, y + 0.16), (x + 0.43, y + 0.16), arrowprops=arrow)
    axis.annotate("", (5.1, 0.1), (6, 0.55), arrowprops=arrow)
    axis.annotate("", (2.1, 0.05), (3.9, 0.05), arrowprops=arrow)
    axis.annotate("", (0, 0.55), (0.9, 0.1), arrowprops=arrow)
    axis.text(0.5, 0.1, "next\nstep", fontsize=8, color=DARK, ha="right")
    axis.set(xlim=(-0.5, 6.5), ylim=(-0.4, 1.25))
    axis.axis("off")
    return figure


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
