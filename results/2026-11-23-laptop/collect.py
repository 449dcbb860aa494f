"""Gather finished runs into this folder, and draw the table and the figure that the README shows.

    python results/2026-11-23-laptop/collect.py RUNS_DIR     copy prorl-*, plain-*, long from RUNS_DIR, then summarise
    python results/2026-11-23-laptop/collect.py              summarise what is here

Each run keeps config.json, metrics.jsonl, summary.json; the figure is of the mean over seeds with the seeds' range.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
# column -> (run folder, stage of its summary.json)
COLUMNS = {
    "base": ("prorl-{}", "base"),
    "ProRL, 100 steps": ("prorl-{}", "final"),
    "plain GRPO, 100 steps": ("plain-{}", "final"),
    "plain GRPO, equal seconds": ("plain-longer-{}", "final"),
}
SHORT = ["base", "ProRL, 100 steps", "plain GRPO, equal seconds"]  # what the project's README shows,
SHOWN = ("4 words", "8 words", "14 words", "20 words")  # of these tiers: the figure has the others
KEPT = ("config.json", "metrics.jsonl", "summary.json")


def copy_runs(source: Path) -> None:
    for run in sorted(source.iterdir()):
        if (run / "summary.json").exists():
            (HERE / run.name).mkdir(exist_ok=True)
            for name in KEPT:
                shutil.copy(run / name, HERE / run.name / name)


def summary(run: str) -> dict:
    return json.loads((HERE / run / "summary.json").read_text())


def over_seeds(column: str, tier: str, k: str) -> list[float]:
    run, stage = COLUMNS[column]
    return [summary(run.format(seed))["tiers"][tier][stage]["pass@k"][k] for seed in SEEDS]


def cell(values: list[float]) -> str:
    """Mean, and the lowest and highest seed."""
    return f"{sum(values) / len(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def table(columns: list[str], tiers: Sequence[str] = ()) -> str:
    """A row a tier (all where none is named), pass@1 and pass@64 of each column: mean (lowest-highest seed)."""
    heads = [f"{column}: {k}" for column in columns for k in ("pass@1", "pass@64")]
    lines = ["| words | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for tier in tiers or summary("prorl-0")["tiers"]:
        cells = [cell(over_seeds(column, tier, k)) for column in columns for k in ("1", "64")]
        lines.append(f"| {tier.split()[0]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw() -> None:
    tiers = list(summary("prorl-0")["tiers"])
    lengths = [int(tier.split()[0]) for tier in tiers]
    colours = dict(zip(COLUMNS, ("#8c8c8c", "#2f6db3", "#e8a33d", "#c0392b"), strict=True))
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 4.4), sharey=True)
    for axis, k in zip(axes, ("1", "64"), strict=True):
        axis.axvspan(min(lengths) - 0.5, 5.5, color="#dddddd", alpha=0.5, linewidth=0)
        axis.axvspan(16.5, max(lengths) + 0.5, color="#dceadf", alpha=0.7, linewidth=0)
        for (column, colour), marker in zip(colours.items(), "o^sv", strict=True):
            rows = [over_seeds(column, tier, k) for tier in tiers]
            means, style = [sum(r) / len(r) for r in rows], "--" if column == "plain GRPO, 100 steps" else "-"
            axis.plot(lengths, means, marker + style, color=colour, markersize=4, label=column)
            if style == "-":  # a fourth band over the others made mud of all
                low, high = [min(r) for r in rows], [max(r) for r in rows]
                axis.fill_between(lengths, low, high, color=colour, alpha=0.2, lw=0)
        axis.set_title(f"pass@{k}: mean of three seeds, shaded from lowest to highest seed", fontsize=10)
        axis.set_xlabel("words in the list")
        axis.set_xlim(min(lengths) - 0.5, max(lengths) + 0.5)
        axis.set_ylim(-0.02, 1.02)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of prompts solved")
    axes[0].legend(frameon=False, fontsize=9, loc="upper right")
    axes[0].text(4.1, 0.04, "seen in the warm-up", fontsize=8, color="#444444", rotation=90)
    axes[0].text(16.65, 0.5, "never seen,\nnot even in RL", fontsize=8, color="#444444")
    figure.tight_layout()
    figure.savefig(HERE / "boundary.png", dpi=120)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        copy_runs(Path(sys.argv[1]))
    (HERE / "table.md").write_text(table(list(COLUMNS)))
    (HERE / "table-short.md").write_text(table(SHORT, SHOWN))
    draw()
