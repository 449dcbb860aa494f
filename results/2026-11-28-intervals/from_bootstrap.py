"""Intervals in place of the bootstrap bands in the summaries of runs whose single answers were not kept.

    PYTHONPATH=. python results/2026-11-28-intervals/from_bootstrap.py results/FOLDER/summary.json ...

The width of such a band tells the variance of a mean over prompts, and so the variance of the prompts' values: all that
`interval_of` asks for beside the mean.  Bands of no width (all prompts solved, or none) become exact ones.  To be run
once on a file, as it was recorded: what it wrote has other widths.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import norm

from prorl_lab.intervals import interval_of

SIDE = norm.ppf(0.975)  # standard errors between a mean and its 95 % bound


def renew(row: dict) -> None:
    """One stage of one tier, in place: `low` and `high` of each pass@k."""
    mean, low, high = (np.array(list(row[key].values())) for key in ("pass@k", "low", "high"))
    scatter = ((high - low) / (2 * SIDE)) ** 2 * row["prompts"]
    for key, values in zip(("low", "high"), interval_of(mean, scatter, row["prompts"]), strict=True):
        row[key] = dict(zip(row["pass@k"], values.tolist(), strict=True))


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        summary = json.loads(path.read_text())
        for stages in summary["tiers"].values():
            for row in stages.values():
                renew(row)
        path.write_text(json.dumps(summary, indent=1) + "\n")
