"""Intervals of a mean and of a difference: how often the truth lies inside, and closed forms at the edges."""

import doctest

import numpy as np
import pytest
from scipy.stats import binomtest

from prorl_lab import intervals

RUNS = 1000
FAIR = 0.93  # of a nominal 0.95: below it a band claims more than it knows


def answers(draw: np.random.Generator, rates: np.ndarray, n: int) -> np.ndarray:
    """(P, RUNS) shares right of n answers to each prompt, in RUNS repetitions of the experiment."""
    return draw.binomial(n, np.broadcast_to(rates.reshape(len(rates), -1), (len(rates), RUNS))) / n


def covered(interval: tuple[np.ndarray, np.ndarray], truth: float) -> float:
    low, high = interval
    assert (low < high).all()  # no band without width
    return float(((low <= truth + 1e-12) & (truth <= high + 1e-12)).mean())


def test_examples():
    assert doctest.testmod(intervals).attempted > 0
    assert doctest.testmod(intervals).failed == 0


@pytest.mark.parametrize("n", [1, 4, 64, 256])
@pytest.mark.parametrize("prompts", [6, 48, 500])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_a_mean_is_covered_where_all_prompts_are_alike(rate: float, prompts: int, n: int):
    values = answers(np.random.default_rng(0), np.full(prompts, rate), n)
    assert covered(intervals.mean_interval(values), rate) >= FAIR


@pytest.mark.parametrize("prompts", [6, 48, 500])
def test_a_mean_is_covered_where_prompts_differ(prompts: int):
    draw = np.random.default_rng(1)
    values = answers(draw, draw.beta(0.5, 0.5, (prompts, RUNS)), 16)
    assert covered(intervals.mean_interval(values), 0.5) >= FAIR


def test_not_wider_than_it_must_be():
    """Many alike prompts: as wide as the normal interval of all the answers together."""
    values = answers(np.random.default_rng(2), np.full(500, 0.3), 16)
    low, high = intervals.mean_interval(values)
    assert np.median(high - low) == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 8000), rel=0.1)


@pytest.mark.parametrize(
    ("before", "after"), [(0, 0), (0.01, 0.01), (0.5, 0.5), (0.01, 0.5), (0.5, 0.99), (1, 1), (0, 1)]
)
@pytest.mark.parametrize("prompts", [6, 48, 500])
def test_a_difference_is_covered(before: float, after: float, prompts: int):
    draw = np.random.default_rng(3)
    for n in (1, 64):
        pair = [answers(draw, np.full(prompts, rate), n) for rate in (before, after)]
        assert covered(intervals.difference_interval(*pair), after - before) >= FAIR


def test_a_difference_on_the_same_hard_and_easy_prompts_is_narrower():
    draw = np.random.default_rng(4)
    rates = draw.beta(0.5, 0.5, (48, RUNS))
    before, after = answers(draw, rates, 16), answers(draw, 0.9 * rates, 16)
    paired = intervals.difference_interval(before, after)
    assert covered(paired, -0.05) >= FAIR
    (low0, high0), (low1, high1) = intervals.mean_interval(before), intervals.mean_interval(after)
    assert np.median(paired[1] - paired[0]) < 0.6 * np.median(np.hypot(high0 - low0, high1 - low1))


@pytest.mark.parametrize("prompts", [2, 6, 48])
def test_nothing_solved_is_the_exact_interval_of_a_proportion(prompts: int):
    exact = binomtest(0, prompts).proportion_ci(0.95, "exact")
    assert np.allclose(intervals.mean_interval(np.zeros(prompts)), exact)
    assert np.allclose(intervals.mean_interval(np.ones(prompts)), (1 - exact.high, 1 - exact.low))


def test_the_edges():
    low, high = intervals.mean_interval(np.array([0.3]))
    assert (low, high) == (0, 1)  # one prompt says nothing about others
    shaped = intervals.mean_interval(np.zeros((6, 3, 2)))
    assert shaped[0].shape == shaped[1].shape == (3, 2)
    for wrong in (np.zeros(0), np.array([0.2, 1.1]), np.array([0.2, np.nan])):
        with pytest.raises(ValueError, match="between 0 and 1"):
            intervals.mean_interval(wrong)
