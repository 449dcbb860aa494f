"""How the figures look.  Each function draws one matplotlib figure from plain arrays; nothing is computed here."""

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from prorl_lab import report
from prorl_lab.colours import BLUE, BROWN, DARK, LINE, ORANGE, PALE, PALE_BLUE, PURPLE, RED, TEAL
from prorl_lab.report import COLOURS

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "prorl",  # the same figure gives the same file
    "text.parse_math": False,  # names of sets and models are text, whatever they contain
}
MORE_COLOURS = (ORANGE, PURPLE, TEAL, RED, BROWN)
REGIME_COLOURS = {"diminish": RED, "plateau": ORANGE, "sustained": BLUE, "gain": TEAL}
REGIME_MARKERS = {"diminish": "v", "plateau": "s", "sustained": "^", "gain": "o"}
PANELS = 48  # in one figure at most


def colours(models: list[str]) -> dict[str, str]:
    """Grey for the first, blue for the last, others between."""
    between = {m: MORE_COLOURS[i % len(MORE_COLOURS)] for i, m in enumerate(models[1:-1])}
    return {models[0]: COLOURS["base"], **between, models[-1]: COLOURS["final"]}


def save(figure: Figure, stem: Path) -> None:
    """Write STEM.png and STEM.svg and forget the figure."""
    with plt.rc_context(STYLE):
        figure.savefig(stem.with_suffix(".png"), dpi=110)
        figure.set_layout_engine("none")  # keeps the places it found, which cost most of the time
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def grid(count: int, width: float = 2.3, height: float = 1.9, most: int = 6, **share) -> tuple[Figure, list]:
    """A figure of `count` panels, at most `most` side by side, and its axes row by row."""
    columns = min(count, most if count > 8 else 4, most)
    if count > columns and count % columns == 1:  # no row with one panel alone
        columns += 1
    rows = math.ceil(count / columns)
    size = (max(columns * width, 5), rows * height + 0.7)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **share)
    flat = list(axes.flat)
    for axis in flat[count:]:
        axis.remove()
    return figure, flat[:count]


def legend_above(figure: Figure, axis) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 6))


def styled(draw):
    """Draw inside our style."""

    def inside(*args, **kwargs):
        with plt.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inside


def log2_axis(axis, ks: list[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(ks[:: 2 if len(ks) > 5 else 1], [str(k) for k in ks[:: 2 if len(ks) > 5 else 1]])
    axis.minorticks_off()


@styled
def pass_curves(panels: list[dict], models: list[str], ylabel: str = "pass@k") -> Figure:
    """A panel per unit: {"title", "ks", "values": {model: (K,)}, "low", "high": the same or None,
    "dashed": {model: (K,)} or None, with "dashed_label"}."""
    figure, axes = grid(len(panels), sharey=True)
    paint = colours(models)
    for axis, panel in zip(axes, panels, strict=True):
        for model in models:
            axis.plot(panel["ks"], panel["values"][model], "o-", ms=2.5, lw=1.3, color=paint[model], label=model)
            if panel.get("low"):
                band = panel["low"][model], panel["high"][model]
                axis.fill_between(panel["ks"], *band, color=paint[model], alpha=0.18, lw=0)
            if panel.get("dashed"):
                label = f"{model}, {panel['dashed_label']}"
                axis.plot(panel["dashed_ks"], panel["dashed"][model], "--", lw=1.1, color=paint[model], label=label)
        axis.set_title(panel["title"])
        log2_axis(axis, panel["ks"])
        axis.set_ylim(-0.03, 1.03)
    legend_above(figure, axes[0])
    figure.supxlabel("k, answers per prompt (log scale)", fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    return figure


@styled
def regime_map(points: list[dict], k: str, step: float) -> Figure:
    """{"label" or "", "gain", "late", "regime"}: where every unit falls, and the two thresholds."""
    figure, axis = plt.subplots(figsize=(7, 4.6), layout="constrained")
    for name in [name for name in REGIME_COLOURS if name in {p["regime"] for p in points}]:
        chosen = [p for p in points if p["regime"] == name]
        x, y = [p["gain"] for p in chosen], [p["late"] for p in chosen]
        axis.scatter(
            x,
            y,
            s=24,
            marker=REGIME_MARKERS[name],
            color=REGIME_COLOURS[name],
            label=f"{name} ({len(chosen)})",
            zorder=3,
        )
    for scale in (axis.set_xscale, axis.set_yscale):  # many sets move by hundredths, some by everything
        scale("symlog", linthresh=2 * step)
    axis.set_xlim(min(-0.05, 1.3 * min(p["gain"] for p in points)), 1.3)
    axis.set_ylim(min(-0.05, 1.3 * min(p["late"] for p in points)), max(0.05, 2 * max(p["late"] for p in points)))
    ticks = [sign * value for value in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) for sign in (-1, 1)] + [0.0]
    for axis_side, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        axis_side.set_ticks(shown := sorted(t for t in ticks if low <= t <= high), [f"{t:g}" for t in shown])
        axis_side.set_ticks([], minor=True)
    axis.axvline(step, color="black", lw=0.7, ls=":")
    axis.plot([step, 1.3], [step, step], color="black", lw=0.7, ls=":")
    label_points(axis, [(p["gain"], p["late"], p["label"]) for p in points])
    axis.set_xlabel(f"final - base, {k} (difference of shares; logarithmic beyond {2 * step:g})")
    axis.set_ylabel(f"final - intermediate, {k} (likewise)")
    axis.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="none")
    return figure


@styled
def gain_scatter(points: list[dict], line, k: str) -> Figure:
    """{"label" or "", "base", "gain", "regime"} and the regression line through them, where there is one."""
    figure, axis = plt.subplots(figsize=(7, 4.6), layout="constrained")
    for name in [name for name in REGIME_COLOURS if name in {p["regime"] for p in points}]:
        chosen = [p for p in points if p["regime"] == name]
        x, y = [p["base"] for p in chosen], [p["gain"] for p in chosen]
        axis.scatter(x, y, s=24, marker=REGIME_MARKERS[name], color=REGIME_COLOURS[name], label=name, zorder=3)
    if line:
        x = np.array([0.0, 1.0])
        slope = f"{'−' if line.slope < 0 else '+'} {abs(line.slope):.3f}"
        label = f"gain = {line.intercept:.3f} {slope} × base   (R² = {line.r2:.3f}, {len(points)} points)"
        axis.plot(x, line.slope * x + line.intercept, color="black", lw=1, label=label)
    axis.plot([0, 1], [1, 0], color=LINE, lw=0.8, ls="--", label="all that is left to gain: 1 - base")
    axis.axhline(0, color=PALE, lw=0.8, zorder=0)
    label_points(axis, [(p["base"], p["gain"], p["label"]) for p in points])
    axis.set_xlabel(f"base model's {k}")
    axis.set_ylabel(f"gain: final - base, {k}")
    axis.set_xlim(-0.04, 1.04)
    axis.legend(loc="upper right", fontsize=8)
    return figure


def label_points(axis, points: list[tuple[float, float, str]]) -> None:
    """Names beside points, moved up until they are clear of each other, with a thin line back to the point."""
    axis.figure.draw_without_rendering()  # settles the limits, and so where a point is in pixels
    to_axes = axis.transData + axis.transAxes.inverted()
    taken = [(*(to_axes.transform((x, y)) - (0.01, 0)), 0.02) for x, y, _ in points]  # left, height, width
    for x, y, text in sorted((p for p in points if p[2]), key=lambda p: (p[1], p[0])):
        at_x, at_y = to_axes.transform((x, y))
        wide = 0.0115 * len(text)
        left = at_x + 0.02 if at_x + 0.02 + wide < 1 else at_x - 0.02 - wide
        lift = at_y
        while any(abs(lift - b) < 0.035 and left < a + w and a < left + wide for a, b, w in taken):
            lift += 0.01
        taken.append((left, lift, wide))
        line = {"arrowstyle": "-", "lw": 0.5, "color": LINE, "shrinkA": 0, "shrinkB": 3}
        axis.annotate(
            text, (x, y), (left, lift), "data", "axes fraction", fontsize=7, va="center", color=DARK,
            arrowprops=line if lift - at_y > 0.02 else None, path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip


@styled
def distributions(panels: list[dict], models: list[str]) -> Figure:
    """{"title", "rates": {model: (P,)}}: share of prompts by solve rate."""
    figure, axes = grid(len(panels), height=1.8)
    edges = np.linspace(0, 1, 21)
    paint = colours(models)
    for axis, panel in zip(axes, panels, strict=True):
        tallest = 0.0
        for model in models:
            rates = panel["rates"][model]
            share = np.full(len(rates), 1 / len(rates))
            how = {"alpha": 0.3} if model in (models[0], models[-1]) else {"histtype": "step", "alpha": 0.6}
            bars, *_ = axis.hist(rates, edges, weights=share, color=paint[model], label=model, **how)
            tallest = max(tallest, bars.max())
        axis.set_ylim(0, 1.08 * tallest)
        axis.set_title(panel["title"])
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    legend_above(figure, axes[0])
    figure.supxlabel("pass@1 of a prompt: share of its answers that are right", fontsize=9)
    figure.supylabel("share of prompts, per bin of 0.05", fontsize=9)
    return figure


@styled
def solvable(rows: list[dict]) -> Figure:
    """{"label", "both", "new", "lost", "never"}: prompts that base and final solve at least once, stacked."""
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.3 * len(rows)), layout="constrained")
    labels = [row["label"] for row in rows]
    left = np.zeros(len(rows))
    parts = {
        "both": ("solved by both", PALE_BLUE),
        "new": ("newly solvable: final only", BLUE),
        "lost": ("lost: base only", RED),
        "never": ("solved by neither", PALE),
    }
    for key, (label, colour) in parts.items():
        values = np.array([row[key] for row in rows])
        bars = axis.barh(labels, values, left=left, color=colour, label=label, height=0.75)
        texts = [str(v) if v else "" for v in values]
        axis.bar_label(bars, texts, label_type="center", fontsize=7, color="white" if key in ("new", "lost") else DARK)
        left += values
    axis.invert_yaxis()
    axis.set_xlabel("prompts")
    axis.margins(x=0, y=0.01)
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=8)
    return figure


@styled
def creativity(units: list[str], models: list[str], rows: dict[tuple[str, str], dict], lengths: range) -> Figure:
    """rows[unit, model]: {"index", "low", "high", "shares": (lengths,)}.  Left the index, right the mean uniqueness."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, max(3.2, 0.8 + 0.34 * len(units))), layout="constrained")
    paint = colours(models)
    height = 0.8 / len(models)
    for j, model in enumerate(models):
        mine = [rows[unit, model] for unit in units]
        values = np.array([row["index"] for row in mine])
        errors = np.array([[row["index"] - row["low"], row["high"] - row["index"]] for row in mine]).T
        y = np.arange(len(units)) + (j - (len(models) - 1) / 2) * height
        left.barh(y, values, height, xerr=errors, color=paint[model], error_kw={"lw": 0.8}, label=model)
        right.plot(list(lengths), np.mean([r["shares"] for r in mine], axis=0), "o-", ms=3, color=paint[model])
    left.set_yticks(range(len(units)), units)
    left.margins(y=0.01)
    left.invert_yaxis()
    left.set_xlabel(f"creativity index, 0 to {len(lengths)}")
    right.set_xlabel("L, words")
    right.set_ylabel("L-uniqueness, share of words")
    right.set_xticks(list(lengths))
    right.set_ylim(-0.03, 1.03)
    legend_above(figure, left)
    return figure


@styled
def by_size(panels: list[dict], models: list[str]) -> Figure:
    """{"title", "xlabel", "labels", "values": {model: (S,)}, "low", "high" or None}: a task over its sizes."""
    figure, axes = grid(len(panels), 4.2, 3.0, most=2, sharey=True)
    paint = colours(models)
    for axis, panel in zip(axes, panels, strict=True):
        x = range(len(panel["labels"]))
        for model in models:
            axis.plot(x, panel["values"][model], "o-", ms=3.5, color=paint[model], label=model)
            if panel.get("low"):
                axis.fill_between(x, panel["low"][model], panel["high"][model], color=paint[model], alpha=0.18, lw=0)
        axis.set_title(panel["title"])
        turned = (
            {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if max(map(len, panel["labels"])) > 3 else {}
        )
        axis.set_xticks(list(x), panel["labels"], **turned)
        axis.set_xlabel(panel["xlabel"])
        axis.set_ylim(-0.03, 1.03)
    legend_above(figure, axes[0])
    return figure


@styled
def dynamics(steps: list[dict], lines: dict[str, tuple[list, list]], resets: list[int]) -> Figure:
    """Validation by k over the steps ({label: (steps, values)}), then KL, entropy and length; dotted at resets."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, layout="constrained")
    for i, (label, (x, y)) in enumerate(lines.items()):
        axes[0, 0].plot(x, y, "o-", ms=3, color=(COLOURS["final"], *MORE_COLOURS)[i % 6], label=label)
    axes[0, 0].set_title("validation, share of prompts")
    axes[0, 0].set_ylim(0, 1.03)
    axes[0, 0].legend(loc="lower right")
    entropy = report.entropy_key(steps)
    panels = {
        entropy: f"entropy, nats per token, {report.ENTROPY[entropy]}",
        "kl": "KL to the reference, nats per token",
        "length": "answer length, tokens",
    }
    for axis, (key, title) in zip(axes.flat[1:], panels.items(), strict=True):
        known = [row for row in steps if row.get(key) is not None]
        axis.plot([row["step"] for row in known], [row[key] for row in known], lw=1, color=COLOURS["final"])
        axis.set_title(title)
        report.from_zero(axis)
    for axis in axes.flat:
        for step in resets:
            axis.axvline(step, color="black", ls=":", lw=0.8)
    for axis in axes[1]:
        axis.set_xlabel("training step" + (" (dotted: the reference was reset)" if resets else ""))
    return figure
