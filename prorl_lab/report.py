"""What people look at: the line per step, the table, the two figures, and the bands around pass@k."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prorl_lab.colours import BLUE, DARK, GREEN, GREY, ORANGE, RED
from prorl_lab.files import whole
from prorl_lab.intervals import mean_interval

STAGES = ("base", "middle", "final")
COLOURS = {"base": GREY, "middle": ORANGE, "final": BLUE}
MARKERS = {"base": "o", "middle": "s", "final": "^"}
ENTROPY = {"entropy_unfiltered": "all answers", "entropy": "answers trained on"}  # what each is over
SMOOTH_OVER = 20  # steps of the running mean in the figures
LEGEND = (
    "reward, solved, len (tokens), entropy (nats per token): of all answers generated, before any filter | "
    "kl: to the reference\nclipped: share of tokens whose gradient the clip removed | "
    "groups: trained on / generated | last: seconds"
)


def pyplot() -> Any:
    """matplotlib's, drawing to files alone; imported when something is drawn, since it takes a second."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def pass_at_k_table(right: np.ndarray, pass_at_k: Callable) -> dict[str, Any]:
    """(prompts, n) bool -> pass@k for k = 1, 2, 4, ... n, each with its 95 % interval over prompts."""
    prompts, n = right.shape
    ks = [2**i for i in range(n.bit_length()) if 2**i <= n]
    per_prompt = np.stack([pass_at_k(n, right.sum(1), k) for k in ks], axis=1)  # (prompts, len(ks))
    low, high = mean_interval(per_prompt)
    columns = {"pass@k": per_prompt.mean(0), "low": low, "high": high}
    table = {key: {str(k): float(v) for k, v in zip(ks, values, strict=True)} for key, values in columns.items()}
    return {"pass@1": table["pass@k"]["1"], **table, "prompts": prompts, "samples": n}


def blend(right: dict[str, np.ndarray], weights: dict[str, float], pass_at_k: Callable) -> dict[str, Any]:
    """Right answers by tier, each (prompts, n) bool -> pass@1 of each, and their weighted means: score and pass@k."""
    tiers = {tier: float(rows.mean()) for tier, rows in right.items()}
    shares = list(weights.values())
    tables = [pass_at_k_table(rows, pass_at_k)["pass@k"] for rows in right.values()]
    pass_at = {k: float(np.average([table[k] for table in tables], weights=shares)) for k in tables[0]}
    return {"score": float(np.average(list(tiers.values()), weights=shares)), "tiers": tiers, "pass@k": pass_at}


def step_line(row: dict[str, Any]) -> str:
    """One fixed-width line per step; a dash where nothing was generated, or nothing was trained on."""

    def number(value: float | None, width: int, digits: int) -> str:
        return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"

    solved = None if row["solved"] is None else 100 * row["solved"]
    entropy = row[entropy_key([row])]
    clipped = None if row["clip_low"] is None else 100 * (row["clip_low"] + row["clip_high"])
    return (
        f"step {row['step']:5d} | reward {number(row['reward_unfiltered'], 5, 3)} | solved {number(solved, 3, 0)}% "
        f"| len {number(row['length'], 5, 1)} | kl {number(row['kl'], 7, 4)} | entropy {number(entropy, 5, 3)} "
        f"| clipped {number(clipped, 4, 1)}% | groups {row['groups_kept']:3d}/{row['groups_generated']:3d} "
        f"| reset {row['resets']} | {row['seconds']:5.1f}s"
    )


def event_line(event: str, values: dict[str, Any]) -> str | None:
    """The line of an event, or None for those that only the metrics file needs."""
    if event == "evaluation":
        tiers = "  ".join(f"{tier.strip()} {score:.2f}" for tier, score in values["tiers"].items())
        return f"      validation {values['score']:.3f} | {tiers}"
    if event == "reset":
        return f"      reset {values['resets']}: reference := policy, {values['reason']}"
    if event == "boundary":
        name = values["name"]
        return table({tier: {name: row} for tier, row in values["tiers"].items()}, {name: values["step"]})
    return None


def by_tier(boundary: dict[str, dict[str, dict]]) -> dict[str, dict[str, dict]]:
    """pass@k by stage and tier -> by tier and stage, as the table and the figure take it."""
    tiers: dict[str, dict[str, dict]] = {}
    for stage, values in boundary.items():
        for tier, row in values.items():
            tiers.setdefault(tier, {})[stage] = row
    return tiers


def measured(rows: list[dict]) -> dict[str, int]:
    """The step of each measurement of pass@k, from metrics.jsonl; of one measured twice, after a resume, the last."""
    return {row["name"]: row["step"] for row in rows if row.get("event") == "boundary"}


def at_step(stage: str, measured: dict[str, int]) -> str:
    """A stage, and where it was measured if that is known: "middle" says little."""
    return f"{stage}, step {measured[stage]}" if stage in measured else stage


def table(tiers: dict[str, dict[str, dict]], measured: dict[str, int]) -> str:
    """pass@1 and pass@max with bands, a line per tier, for those of base, middle and final that are there.

    measured: the step of each.
    """
    if not tiers:
        return "no pass@k was measured (--boundary-prompts 0)"
    stages = [stage for stage in STAGES if stage in next(iter(tiers.values()))]
    k = max(next(iter(next(iter(tiers.values())).values()))["pass@k"], key=int)
    width = max(map(len, tiers))
    lines = [
        " " * width
        + "".join(f" | {at_step(s, measured) + ': pass@1':>24}  {'pass@' + k + ' [95 % band]':>22}" for s in stages)
    ]
    for tier, by_stage in tiers.items():
        line = f"{tier:>{width}}"
        for stage in stages:
            row = by_stage[stage]
            band = f"{row['pass@k'][k]:.2f} [{row['low'][k]:.2f}, {row['high'][k]:.2f}]"
            line += f" | {row['pass@1']:24.3f}  {band:>22}"
        lines.append(line)
    return "\n".join(lines)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; a bar within a cell does not end it.

    >>> print(markdown(["a", "b"], [["1", "2|3"]]))
    | a | b |
    |---|---|
    | 1 | 2&#124;3 |
    """
    texts = [f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in (head, *rows)]
    return "\n".join([texts[0], f"|{'---|' * len(head)}", *texts[1:]])


def draw_curve(rows: list[dict], path: Path, stages: Sequence[str] = ()) -> None:
    """Validation, entropy, KL and length over the steps (ProRL, Fig. 1 left and Fig. 2), a line at each reset.

    rows: of metrics.jsonl.  stages: names of the recipe's stages; where there are several, they are shaded in turn.
    """
    figure, axes = pyplot().subplots(2, 2, figsize=(10, 6), sharex=True)
    for axis, (key, title) in zip(axes.flat, panels(rows).items(), strict=True):
        draw_panel(axis, key, title, rows)
    for axis in axes[1]:
        axis.set_xlabel(step_label(rows))
    if caption := stages_caption(rows, stages):
        figure.supxlabel(caption, fontsize=8)
    figure.tight_layout()
    _save(figure, path)


def panels(rows: list[dict]) -> dict[str, str]:
    """What is drawn of every run: a metric and the title of its panel."""
    entropy = entropy_key([row for row in rows if "event" not in row])
    return {
        "solved": "share solved",
        entropy: f"entropy, nats per token, {ENTROPY[entropy]}",
        "kl": "KL to the reference, nats per token",
        "length": "answer length, tokens",
    }


def draw_panel(axis: Any, key: str, title: str, rows: list[dict]) -> None:
    """One metric of metrics.jsonl over the steps; "solved" beside validation.  Resets dotted, stages shaded."""
    steps = [row for row in rows if "event" not in row]
    resets = [row["step"] for row in rows if row.get("event") == "reset"]
    _draw_steps(axis, steps, key, resets, "training, all generated" if key == "solved" else None)
    if key == "solved":
        _draw_validation(axis, [row for row in rows if row.get("event") == "evaluation"])
    for reset in resets:
        axis.axvline(reset, color="black", linestyle=":", linewidth=0.8)
    _shade_stages(axis, stages_entered(rows), max((row["step"] for row in rows if "step" in row), default=0))
    axis.set_title(title, fontsize=10, pad=12)
    axis.spines[["top", "right"]].set_visible(False)
    from_zero(axis)


def from_zero(axis: Any) -> None:
    """Show whole steps, and values from 0 to a little above the highest: a level line would lie on the panel's edge."""
    axis.xaxis.get_major_locator().set_params(integer=True)
    top = axis.dataLim.ymax
    axis.set_ylim(0, 1.08 * top if 0 < top < math.inf else None)


def stages_entered(rows: list[dict]) -> list[tuple[int, int, str]]:
    """(step, number from 0, name) of each stage of a recipe but the first."""
    return [(row["step"], row["stage"], row["name"]) for row in rows if row.get("event") == "stage"]


def stages_caption(rows: list[dict], stages: Sequence[str]) -> str | None:
    """What the numbers above the shading stand for; None where there is none.  stages: names, of which the first."""
    entered = stages_entered(rows)
    names = [stages[0] if stages else "start", *(name for _, _, name in entered)]
    numbers = [1, *(number + 1 for _, number, _ in entered)]
    named = "   ".join(f"{number}: {name}" for number, name in zip(numbers, names, strict=True))
    return f"stages: {named}" if entered else None


def step_label(rows: list[dict]) -> str:
    return "step (dotted: the reference is reset)" if any(row.get("event") == "reset" for row in rows) else "step"


def entropy_key(steps: list[dict]) -> str:
    """Which entropy to show of a run: of all answers, or, of runs that did not log that, of those trained on."""
    return next((key for key in ENTROPY if any(key in row for row in steps)), "entropy")


def _draw_steps(axis: Any, steps: list[dict], key: str, resets: list[int], label: str | None = None) -> None:
    """One value per step, thin; where there are many, their running mean over it, taken between resets."""
    points = [(row["step"], row[key]) for row in steps if row.get(key) is not None]
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    many = len(x) >= 10 * SMOOTH_OVER
    point = "o" if len(x) == 1 else None  # a line needs two
    axis.plot(x, y, color=BLUE, linewidth=1, marker=point, alpha=0.3 if many else 0.7, label=None if many else label)
    if many:
        cuts = np.searchsorted(x, resets, side="right")
        parts = zip(np.split(x, cuts), np.split(y, cuts), strict=True)
        for number, (part_x, part_y) in enumerate(parts):
            smooth = running_mean(part_y, SMOOTH_OVER)
            axis.plot(part_x, smooth, color=BLUE, linewidth=1.2, label=None if number else label)


def running_mean(values: np.ndarray, over: int) -> np.ndarray:
    """Mean of the `over` values around each, at the ends of as many as there are: (N,) -> (N,).

    >>> running_mean(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist()
    [1.5, 3.0, 3.0, 3.0]
    """
    before = over // 2
    windows = (values[max(0, i - before) : i - before + over] for i in range(len(values)))
    return np.array([window.mean() for window in windows])


def _draw_validation(axis: Any, evaluations: list[dict]) -> None:
    """pass@1 and pass@n of the validation sets."""
    x = [row["step"] for row in evaluations]
    curves = {"pass@1": ([row["score"] for row in evaluations], RED)}
    ks = [k for row in evaluations for k in row.get("pass@k", {})]  # older runs measured pass@1 alone
    if ks:
        k = max(ks, key=int)
        curves[f"pass@{k}"] = ([row.get("pass@k", {}).get(k) for row in evaluations], GREEN)
    for (name, (y, colour)), marker, size in zip(curves.items(), "os", (5, 3), strict=False):  # equal ones are seen
        axis.plot(x, np.array(y, dtype=float), marker + "-", color=colour, markersize=size, label=f"validation, {name}")
    # A plain white ground, or the dotted lines of the resets run through the words.
    axis.legend(frameon=True, framealpha=1, edgecolor="none", fontsize=8)


def _shade_stages(axis: Any, entered: list[tuple[int, int, str]], end: int) -> None:
    """Every second stage grey, each with its number above it.  entered: (step, stage from 0, name)."""
    starts = [(0, 0), *((step, number) for step, number, _ in entered)] if entered else []
    for (start, number), (stop, _) in itertools.pairwise([*starts, (end, None)]) if starts else ():
        if number % 2:
            axis.axvspan(start, stop, color="black", alpha=0.05, linewidth=0)
        axis.annotate(
            str(number + 1), ((start + stop) / 2, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom",
            fontsize=8, color=DARK,
        )  # fmt: skip


def _save(figure: Any, path: Path) -> None:
    """Replaced as a whole: someone may be looking at the one before.  Raises OSError."""
    try:
        with whole(path) as file:
            figure.savefig(file, dpi=120, format="png")
    finally:
        pyplot().close(figure)


def draw_boundary(tiers: dict[str, dict[str, dict]], measured: dict[str, int], path: Path) -> None:
    """pass@1 and pass@max by tier for base, middle and final, with intervals.  measured: the step of each."""
    names = list(tiers)
    places = np.arange(len(names))
    k = max(tiers[names[0]]["base"]["pass@k"], key=int)
    figure, axes = pyplot().subplots(1, 2, figsize=(11, 4), sharey=True)
    for axis, key in zip(axes, ("1", k), strict=True):
        for number, stage in enumerate(stage for stage in STAGES if stage in tiers[names[0]]):
            rows = [tiers[name][stage] for name in names]
            low, middle, high = (np.array([r[what][key] for r in rows]) for what in ("low", "pass@k", "high"))
            # Bars, for one tier has no area, and beside each other, or equal ones would hide all but the last.
            axis.errorbar(
                places + 0.12 * (number - 1), middle, np.stack([middle - low, high - middle]), color=COLOURS[stage],
                marker=MARKERS[stage], markersize=4, capsize=2, elinewidth=0.8, label=at_step(stage, measured),
            )  # fmt: skip
        axis.set_xticks(places, names)
        axis.set_xlim(-0.5, len(names) - 0.5)
        axis.set_title(f"pass@{key} by tier, 95 % intervals over prompts", fontsize=10)
        axis.set_ylim(-0.02, 1.02)
        axis.tick_params(axis="x", rotation=60, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of prompts solved")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    _save(figure, path)
