"""What becomes of a set under long RL: three regimes, the regression over sets, tasks that come in sizes."""

import re
from typing import NamedTuple

import numpy as np

BOUNDARY_K = 128  # the paper calls pass@128 the reasoning boundary
STEP = 0.01  # a difference in pass@128 that counts
DEFAULT_SIZES = {"graph_color": 10}  # the size that the plain name stands for (the paper trained at 10 nodes)


def regime(base: float, intermediate: float | None, final: float) -> str:
    """The regime from pass@128 of three checkpoints.  The paper names the regimes and gives no rule; this one
    sorts all nine of its examples (Fig. 4) as it does, and any step between 0.000 and 0.023 would.

    diminish:  final - base <= 0.01.  RL did not move the boundary, or moved it back.
    sustained: above that, and final - intermediate > 0.01.  The second half of training still moved it.
    plateau:   above that, and not sustained.  What was won was won by the intermediate checkpoint.
    gain:      above that, with no intermediate checkpoint to tell the last two apart.
    """
    if final - base <= STEP:
        return "diminish"
    if intermediate is None:
        return "gain"
    return "sustained" if final - intermediate > STEP else "plateau"


class Line(NamedTuple):
    slope: float
    intercept: float
    r2: float


def regression(x: np.ndarray, y: np.ndarray) -> Line | None:
    """Least-squares line of y on x and its R^2; None with fewer than 3 points, or with all x or all y equal."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return Line(float(slope), float(intercept), float(np.corrcoef(x, y)[0, 1] ** 2))


def families(names: list[str]) -> dict[str, list[tuple[int, str]]]:
    """Tasks that come in sizes: {stem: [(size, name), ...] by size}, from names like graph_color_15.

    A family has a plain name and at least two sized ones, so that aime beside aime_2025 is none.  The plain name
    joins where its size is known.

    >>> families(["aime", "aime_2025", "graph_color", "graph_color_5", "graph_color_20"])
    {'graph_color': [(5, 'graph_color_5'), (10, 'graph_color'), (20, 'graph_color_20')]}
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = re.fullmatch(r"(.+)_(\d+)", name)
        if match and match[1] in names:
            found.setdefault(match[1], []).append((int(match[2]), name))
    found = {stem: sized for stem, sized in found.items() if len(sized) >= 2}
    for stem, sized in found.items():
        if stem in DEFAULT_SIZES:
            sized.append((DEFAULT_SIZES[stem], stem))
        sized.sort()
    return found


def tasks(names: list[str]) -> list[str]:
    """The names without the sized variants of a family: one point per task in the regression."""
    variants = {name for stem, sized in families(names).items() for _, name in sized if name != stem}
    return [name for name in names if name not in variants]
