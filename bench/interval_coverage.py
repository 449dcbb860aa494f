"""How often a 95 % interval holds the truth: ours beside the bootstrap over prompts, by simulation.

    python bench/interval_coverage.py [--runs 2000] [--out results/DATE-intervals]

A cell draws the solve rates of P prompts from a law, n answers to each, and asks whether the law's mean (or the
difference of two) lies inside; and how wide the interval is in the middle case.
"""

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
import tyro
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prorl_lab.intervals import difference_interval, mean_interval

PROMPTS, ANSWERS = (6, 48, 500), (1, 4, 16, 64, 256)
Rates = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
LAWS: dict[str, tuple[float, Rates]] = {  # name: (mean, solve rates of (P, runs) prompts)
    **{f"all {rate:g}": (rate, lambda _, shape, rate=rate: np.full(shape, rate)) for rate in (0, 0.01, 0.5, 0.99, 1)},
    "half never, half always": (0.5, lambda draw, shape: draw.integers(0, 2, shape).astype(float)),
    "beta(0.5, 0.5)": (0.5, lambda draw, shape: draw.beta(0.5, 0.5, shape)),
    "beta(0.1, 1.9)": (0.05, lambda draw, shape: draw.beta(0.1, 1.9, shape)),
    "one in 50 always, else 0.05": (0.069, lambda draw, shape: np.where(draw.random(shape) < 0.02, 1.0, 0.05)),
}
PAIRS = [(0, 0), (0.01, 0.01), (0.5, 0.5), (0.01, 0.5), (0.5, 0.99), (0, 1), (1, 1)]


@dataclass
class Config:
    runs: int = 2000  # repetitions of each experiment
    seed: int = 0
    out: Path | None = None  # a folder for coverage.json and the tables


def bootstrap(values: np.ndarray, draw: np.random.Generator, rounds: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """What stood here before: the middle 95 % of the means of prompts drawn with replacement."""
    prompts = len(values)
    counts = draw.multinomial(prompts, np.full(prompts, 1 / prompts), rounds)  # (rounds, P)
    means = counts @ values / prompts
    return np.percentile(means, 2.5, axis=0), np.percentile(means, 97.5, axis=0)


def cell(interval: tuple[np.ndarray, np.ndarray], truth: float) -> dict[str, float]:
    low, high = interval
    inside = (low <= truth + 1e-12) & (truth <= high + 1e-12)
    return {"coverage": float(inside.mean()), "width": float(np.median(high - low))}


def measure(config: Config) -> dict[str, list[dict]]:
    draw, means, differences = np.random.default_rng(config.seed), [], []
    for name, (mean, rates) in tqdm(LAWS.items(), "means"):
        for prompts in PROMPTS:
            for n in ANSWERS:
                values = draw.binomial(n, rates(draw, (prompts, config.runs))) / n
                row = {"law": name, "prompts": prompts, "answers": n, "ours": cell(mean_interval(values), mean)}
                means.append({**row, "bootstrap": cell(bootstrap(values, draw), mean)})
    for before, after in tqdm(PAIRS, "differences"):
        for prompts in PROMPTS:
            for n in ANSWERS:
                pair = [draw.binomial(n, rate, (prompts, config.runs)) / n for rate in (before, after)]
                truth = after - before
                row = {"law": f"{before:g} to {after:g}", "prompts": prompts, "answers": n}
                row["ours"] = cell(difference_interval(*pair), truth)
                differences.append({**row, "bootstrap": cell(bootstrap(pair[1] - pair[0], draw), truth)})
    return {"means": means, "differences": differences}


def table(rows: list[dict]) -> str:
    """Markdown: a line a law and number of prompts, coverage (median width) by number of answers; bootstrap below."""
    lines = ["| law | prompts | |" + "".join(f" n = {n} |" for n in ANSWERS), "|---|---|---|" + "---|" * len(ANSWERS)]
    for law in dict.fromkeys(row["law"] for row in rows):
        for prompts in PROMPTS:
            mine = [row for row in rows if (row["law"], row["prompts"]) == (law, prompts)]
            for kind in ("ours", "bootstrap"):
                cells = "".join(f" {row[kind]['coverage']:.3f} ({row[kind]['width']:.3f}) |" for row in mine)
                lines.append(f"| {law} | {prompts} | {kind} |{cells}")
    return "\n".join(lines)


def main(config: Config) -> None:
    rows = measure(config)
    text = "\n\n".join(f"{name}: coverage (median width)\n\n{table(part)}" for name, part in rows.items())
    print(text)
    if config.out:
        config.out.mkdir(parents=True, exist_ok=True)
        versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
        whole = {"runs": config.runs, "seed": config.seed, "versions": versions, **rows}
        (config.out / "coverage.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        (config.out / "coverage.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
