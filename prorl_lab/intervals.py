"""95 % intervals of a mean over prompts, of the difference of two models on the same prompts, and of a mean over seeds.

This is the one home of intervals.

Resampling prompts (the bootstrap) gives no width at all where no prompt, or every prompt, is solved, and too little
wherever few prompts are.  So a mean in [0, 1] is treated as a proportion of as many draws as its own scatter says it is
worth, and gets the exact interval of such a proportion: 0 of 6 then reaches to 0.46.  `bench/interval_coverage.py`
measures how often the truth lies inside.
"""

import numpy as np

from prorl_lab.later import Later

beta, norm, t = (Later("scipy.stats", name) for name in ("beta", "norm", "t"))  # half a second to import

CONFIDENCE = 0.95


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the mean over prompts, of values in [0, 1]: (P, ...) -> low, high of the shape that is left.

    The exact interval of a proportion (Clopper and Pearson 1934) with the effective sample size of Korn and Graubard
    (1998, Survey Methodology 24): n = m(1-m) / Var(mean), corrected for the few degrees of freedom of the variance.
    Two safeguards are ours.  The variance counts one imaginary prompt as scattered as a mean of m allows, or six equal
    values would be certainty; and where the values are all 0, or all 1, there are as many draws as prompts.
    One prompt says nothing about others: 0 to 1.  Raises ValueError without prompts, and for values outside [0, 1].

    >>> low, high = mean_interval(np.zeros(6))
    >>> float(low), round(float(high), 3)
    (0.0, 0.459)
    """
    values = np.asarray(values, dtype=float)
    if not len(values) or np.any(~(values >= 0) | ~(values <= 1)):
        raise ValueError("an interval needs at least one prompt, and values between 0 and 1")
    return interval_of(values.mean(0), values.var(0), len(values), confidence)


def interval_of(
    mean: np.ndarray, scatter: np.ndarray, prompts: int, confidence: float = CONFIDENCE
) -> tuple[np.ndarray, np.ndarray]:
    """`mean_interval` where the mean and the variance of the prompts' values are known, and no more."""
    if prompts == 1:
        return np.zeros_like(mean), np.ones_like(mean)
    widest = mean * (1 - mean)  # the largest variance of values in [0, 1] with this mean
    variance = scatter + widest / prompts
    tail = (1 - confidence) / 2
    correction = (norm.ppf(tail) / t.ppf(tail, prompts - 1)) ** 2
    # No scatter is possible at a mean of 0 or 1 (there the quotient is 0 / 0): the prompts themselves are the draws.
    worth = np.where(widest > 1e-12, correction * prompts * widest / np.maximum(variance, 1e-300), prompts)
    solved = np.clip(mean, 0, 1) * worth
    # The quantiles of a beta distribution with a parameter of 0 are its end, which scipy calls NaN.
    low = np.where(mean <= 1e-12, 0.0, beta.ppf(tail, np.maximum(solved, 1e-300), worth - solved + 1))
    high = np.where(mean >= 1 - 1e-12, 1.0, beta.isf(tail, solved + 1, np.maximum(worth - solved, 1e-300)))
    return low, high


def difference_interval(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of mean(after) - mean(before) on the same prompts, values in [0, 1]: (P, ...) twice -> low, high.

    The two means' own intervals, combined with the correlation of the prompts' values (Newcombe 1998, Statistics in
    Medicine 17:2635, method 10, for pairs; Donner and Zou 2012 for any two intervals).  So it has width where neither
    model solves anything, and is narrower where both find the same prompts hard.

    >>> low, high = difference_interval(np.zeros(6), np.zeros(6))
    >>> round(float(low), 3), round(float(high), 3)
    (-0.459, 0.459)
    """
    (low0, high0), (low1, high1) = mean_interval(before), mean_interval(after)
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    mean0, mean1 = before.mean(0), after.mean(0)
    product = ((before - mean0) * (after - mean1)).sum(0)
    scatter = [
        ((values - mean) ** 2).sum(0) + mean * (1 - mean) for values, mean in ((before, mean0), (after, mean1))
    ]  # with the imaginary prompt, which the two do not share: otherwise six equal pairs would be certainty again
    correlation = product / np.sqrt(np.maximum(scatter[0] * scatter[1], 1e-300))

    def margin(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(ours**2 - 2 * correlation * ours * theirs + theirs**2, 0.0))

    difference = mean1 - mean0
    return difference - margin(mean1 - low1, high0 - mean0), difference + margin(high1 - mean1, mean0 - low0)


def seeds_interval(values: np.ndarray, confidence: float = CONFIDENCE, fresh: int = 0) -> tuple[float, float]:
    """Interval of the mean over seeds: (S,) values, or differences of two arms paired by seed -> low, high.

    Student's t: mean -+ t * s * sqrt(1/S), with s of S - 1 degrees of freedom.  fresh: so many seeds that are still to
    be run; then it is where their mean will lie (the prediction interval, sqrt(1/S + 1/fresh)), which is wider.
    One seed, or seeds that all gave the same number, tell nothing about scatter: -inf to inf, not certainty.
    Raises ValueError without values, and for one that is not finite.

    >>> low, high = seeds_interval(np.array([0.1, 0.2, 0.3]))
    >>> round(low, 3), round(high, 3)
    (-0.048, 0.448)
    """
    values = np.asarray(values, dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("an interval over seeds needs at least one value, and finite ones")
    seeds, mean = len(values), float(values.mean())
    if seeds == 1 or np.ptp(values) <= 1e-12 * max(1.0, abs(mean)):
        return -np.inf, np.inf
    spread = values.std(ddof=1) * np.sqrt(1 / seeds + (1 / fresh if fresh else 0))
    margin = float(t.ppf((1 + confidence) / 2, seeds - 1) * spread)
    return mean - margin, mean + margin
