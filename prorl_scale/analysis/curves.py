"""pass@k with bands, its two countings, its bound, and exact bounds on one prompt's solve rate.  Pure functions.

P prompts, n answers to each, c of them right; K values of k.
"""

import math
from functools import cache

import numpy as np

from prorl_mini import pass_at_k

MAX_K = 256  # the paper's
CONFIDENCE = 0.95


def powers_of_two(n: int, most: int = MAX_K) -> list[int]:
    """1, 2, 4, ... up to the smaller of n and `most`.

    >>> powers_of_two(20)
    [1, 2, 4, 8, 16]
    """
    return [2**i for i in range(most.bit_length()) if 2**i <= min(n, most)]


def right_counts(scores: np.ndarray) -> np.ndarray:
    """(P, n) -> (P,) answers that earn the whole reward: the binary counting."""
    return (scores >= 1).sum(1)


def summed_counts(scores: np.ndarray) -> np.ndarray:
    """(P, n) -> (P,) int(sum of the continuous rewards): how the paper's curves count (numeric evidence, not its text).

    256 wrong answers at 0.01 each count as 2 right ones.  The 1e-9 keeps a sum like 100 x 0.01 from falling to 0.
    """
    return np.floor(scores.sum(1) + 1e-9).astype(int)


def pass_curves(counts: np.ndarray, n: int, ks: list[int]) -> np.ndarray:
    """(P,) right answers of n -> (P, K) unbiased pass@k of each prompt; one evaluation per possible count."""
    table = np.stack([pass_at_k(n, np.arange(n + 1), k) for k in ks], axis=1)
    return table[counts]


def moments(counts: np.ndarray, n: int) -> tuple[float, float]:
    """Mean and variance over prompts of the true solve rate rho, from (P,) right answers of n.

    The variance of c/n would contain the sampling noise of the n answers, about rho(1-rho)/n.  E[c(c-1)] is
    n(n-1) rho^2 for a binomial c, so here E[rho^2], and with it the bracket of `pass_bound`, is free of bias.  The
    variance may come out a little below 0.
    """
    mean = counts.mean() / n
    return float(mean), float((counts * (counts - 1)).mean() / (n * (n - 1)) - mean**2)


def pass_bound(mean: float, variance: float, k: np.ndarray | float) -> np.ndarray | float:
    """The paper's bound, E[pass@k] <= 1 - ((1 - E[rho])^2 + Var(rho))^(k/2), from mean and variance of the solve rate.

    (1 - E)^2 + Var is E[(1 - rho)^2] = 1 - pass@2, and pass@k = 1 - E[(1 - rho)^k] for the true rates.  Jensen with
    x^(k/2), which is convex for k >= 2 only: at k = 2 the two are equal, above it holds, and at k = 1 the inequality
    turns round (the formula is then at most E[rho]).
    """
    return 1 - ((1 - mean) ** 2 + variance) ** (np.asarray(k) / 2)


@cache
def rate_bound(right: int, n: int, side: str, confidence: float = CONFIDENCE) -> float:
    """One-sided exact bound on a solve rate (Clopper and Pearson 1934) from `right` of n answers; side: lower | upper.

    The upper bound is the rate p at which `right` or fewer come with chance 1 - confidence; 0 of n gives
    1 - (1 - confidence)^(1/n).  By bisection on the binomial tail, to 1e-12.
    """
    if side == "lower":
        return 0.0 if right == 0 else 1.0 - rate_bound(n - right, n, "upper", confidence)
    if right == n:
        return 1.0
    i = np.arange(right + 1)
    log_choose = math.lgamma(n + 1) - np.array([math.lgamma(j + 1) + math.lgamma(n - j + 1) for j in i])
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        p = (low + high) / 2
        tail = np.exp(log_choose + i * math.log(p) + (n - i) * math.log1p(-p)).sum()
        low, high = (p, high) if tail > 1 - confidence else (low, p)
    return high
