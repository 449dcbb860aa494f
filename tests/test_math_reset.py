"""When to reset and what a reset does, pass@k, and what holds of all formulas: no input is written to."""

import copy
import dataclasses
import doctest
import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import prorl_mini as mini
import prorl_v2 as v2
from tests.exact import PAIRS, TEMPERATURE, float64, same, samples_of, tiny_policy

pytestmark = pytest.mark.usefixtures("one_thread")

# ============================================================================ 8. reset


def trained_pair(keep=False):
    """A policy some AdamW steps away from its reference, then reset -> policy before, policy, reference, optimizer."""
    torch.manual_seed(0)
    policy = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))  # batch norm has buffers too
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    for _ in range(3):
        adam_step(policy, optimizer)
    before = copy.deepcopy(policy.state_dict())
    mini.reset_reference(policy, reference, optimizer, keep_optimizer=keep)
    return before, policy, reference, optimizer


def adam_step(policy, optimizer):
    optimizer.zero_grad()
    policy(torch.arange(12.0).view(4, 3)).pow(3).sum().backward()
    optimizer.step()


def test_reset_copies_the_policy_and_leaves_it_alone():
    """Equal to the last bit, buffers included; a step afterwards moves the policy and not the reference."""
    before, policy, reference, optimizer = trained_pair()
    assert same(before, policy.state_dict())
    assert same(before, reference.state_dict())
    assert {p.requires_grad for p in policy.parameters()} == {True}
    assert {p.requires_grad for p in reference.parameters()} == {False}
    adam_step(policy, optimizer)
    assert same(before, reference.state_dict())
    assert not same(before, policy.state_dict())


def test_reset_starts_the_optimizer_afresh():
    """The next step is that of a brand-new AdamW; with keep_optimizer the moments stay and it is another."""
    steps = {}
    for keep in (False, True):
        _, policy, _, optimizer = trained_pair(keep)
        assert len(optimizer.state) == (4 if keep else 0)
        twin = copy.deepcopy(policy)
        adam_step(policy, optimizer)
        adam_step(twin, torch.optim.AdamW(twin.parameters(), lr=0.1))
        steps[keep] = same(policy.state_dict(), twin.state_dict())
    assert steps == {False: True, True: False}


def test_kl_is_exactly_zero_after_a_reset():
    """Not nearly: the two models have the same bits, so each estimate of each token is 0, and was not before."""
    policy, reference = tiny_policy(0), tiny_policy(1)
    batch = mini.make_batch(samples_of(*PAIRS), "cpu")

    def estimates():
        both = [mini.answer_logprobs(model, batch, TEMPERATURE)[0] for model in (policy, reference)]
        return torch.stack([mini.kl_estimate(*both, kind)[batch.mask] for kind in ("k1", "k2", "k3")])

    assert estimates().ne(0).all()
    mini.reset_reference(policy, reference, torch.optim.AdamW(policy.parameters()))
    assert estimates().eq(0).all()


def resets_of(scores, **changes):
    """Play 90 steps of the training loop with an evaluation every 10 -> the steps at which it would reset."""
    config = mini.Config(**{**dict(reset_every=0, reset_on_stall=0, reset_min_spacing=20), **changes})
    history, resets = [], [0]
    for step in range(1, 91):
        if step % 10 == 0 and scores and scores[step // 10 - 1] is not None:
            history.append((step, scores[step // 10 - 1]))
        if mini.should_reset(step, resets[-1], history, config):
            resets.append(step)
    return resets[1:]


SCORES = [0.1, 0.2, 0.3, 0.3, 0.2, 0.4, 0.4, 0.4, 0.5]  # at steps 10, 20, ...
NOISY = [0.1, 0.2, 0.3, 0.4, 0.405, 0.39, 0.395, 0.41, 0.4]


@pytest.mark.parametrize(
    ("scores", "changes", "expected"),
    [
        ([], dict(reset_every=30), [30, 60, 90]),  # the fixed interval
        ([], dict(reset_every=30, reset_min_spacing=40), [40, 80]),  # spacing holds the interval back
        (SCORES, dict(reset_every=0), []),  # both rules off
        (SCORES, dict(reset_on_stall=2), [50, 80]),  # 40 and 50 no better than 30; 70 and 80 no better than 60
        (SCORES, dict(reset_on_stall=3), []),  # never three in a row; equal to the best is no new best
        (SCORES, dict(reset_on_stall=2, reset_min_spacing=60), [80]),  # the stall at 50 comes too early
        (SCORES, dict(reset_on_stall=2, reset_every=60), [50, 80]),  # a stall restarts the interval
        (SCORES, dict(reset_on_stall=2, reset_every=30), [30, 50, 80]),
        ([0.3] * 9, dict(reset_on_stall=3, reset_min_spacing=10), [40, 70]),  # evaluations before a reset are spent
        (SCORES[::-1], dict(reset_on_stall=1), [20, 40, 60, 80]),  # getting worse is a stall
        (SCORES, dict(reset_on_stall=1, reset_every=30, reset=False), []),  # --no-reset wins over everything
        ([], dict(reset_steps=[7, 64], reset_every=0), [7, 64]),  # named steps are obeyed, spacing or not
        ([], dict(reset_steps=[64], reset_every=30), [30, 60, 64]),
        ([], dict(reset_steps=[7], reset=False), []),
        # an improvement below the margin is none: 0.1 at 20, 30, 60 and 90 is no more than the margin
        (SCORES, dict(reset_on_stall=1, reset_margin=0.15), [20, 40, 60, 80]),
        (NOISY, dict(reset_on_stall=4, reset_margin=0.02), [80]),  # noise around a plateau is a stall
        (NOISY, dict(reset_on_stall=4, reset_margin=0.0), []),  # without a margin its lucky draws are progress
        ([None, *SCORES[1:]], dict(reset_on_stall=2), [50, 80]),  # the first evaluation is missing
        ([None] * 7 + [0.3, 0.3], dict(reset_on_stall=2), []),  # nothing to compare the first ones with
        (SCORES, dict(reset_on_drop=0.05), [50]),  # 0.2 after 0.3
        (SCORES, dict(reset_on_drop=0.15), []),
        (SCORES[::-1], dict(reset_on_drop=0.15), [50, 90]),  # counted from where the last reset left it
    ],
)
def test_when_the_reference_is_reset(scores, changes, expected):
    """Schedules worked out by hand."""
    assert resets_of(scores, **changes) == expected


# ============================================================================ 9. eval


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_against_all_subsets(n):
    """Count the k-subsets of n answers that hold a right one, with `itertools.combinations`, for every c and k."""
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert float(mini.pass_at_k(n, c, k)) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_pass_at_k_is_unbiased(k):
    """Over all outcomes of 8 tries that succeed with p = 0.3, its mean is 1 - 0.7^k; that of 1 - (1 - c/n)^k is not."""
    chance = [math.comb(8, c) * 0.3**c * 0.7 ** (8 - c) for c in range(9)]
    ours = mini.pass_at_k(8, np.arange(9), k)
    assert float(np.dot(chance, ours)) == pytest.approx(1 - 0.7**k)
    biased = sum(p * (1 - (1 - c / 8) ** k) for c, p in enumerate(chance))
    assert (abs(biased - (1 - 0.7**k)) > 0.02) == (k > 1)


def test_pass_at_k_takes_arrays():
    """Element by element, with broadcasting, the same as numbers; large n without overflow."""
    c, k = np.array([[0], [2], [5]]), np.array([1, 3, 5])
    truth = [[float(mini.pass_at_k(5, int(ci), int(ki))) for ki in k] for ci in c[:, 0]]
    assert np.allclose(mini.pass_at_k(5, c, k), truth, rtol=0, atol=1e-15)
    assert float(mini.pass_at_k(4096, 1, 2048)) == pytest.approx(0.5)


@pytest.mark.parametrize(("n", "k"), [(3, 4), (3, np.array([1, 4])), (np.array([5, 3]), 4)])
def test_pass_at_k_needs_enough_samples(n, k):
    """k > n has no unbiased estimate: an error, for arrays as well."""
    with pytest.raises(ValueError, match="k <= n"):
        mini.pass_at_k(n, 1, k)


# ============================================================================ all of them


def leaves(value):
    """Every tensor, array and number inside nested lists and dataclasses."""
    if dataclasses.is_dataclass(value):
        value = list(vars(value).values())
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def calls():
    """Each pure function's arguments, such that an edit in place would show."""
    logp, old = float64([[-1.0, -2.0, -30.0], [-0.5, -1.0, -1.0]]), float64([[-1.1, -1.5, -3.0], [-40.0, -1.0, -1.0]])
    mask, advantages = torch.tensor([[True, True, False], [True, False, False]]), float64([[1.0], [-1.0]])
    logits, ids = torch.arange(24.0).view(2, 3, 4), torch.tensor([[0, 1, 2], [3, 0, 1]])
    rewards, samples = float64([[0, 1, 0.5], [1, 1, 1]]), samples_of(*PAIRS)
    return {
        "group_advantages": [rewards],
        "has_contrast": [rewards],
        "token_logprobs": [logits, ids, 1.2],
        "token_entropy": [logits, 1.2],
        "answer_logprobs": [tiny_policy(), mini.make_batch(samples, "cpu"), 1.2, True],
        "make_batch": [samples, "cpu"],
        "split_microbatches": [samples, 12],
        "policy_loss": [logp, old, advantages, mask, torch.tensor(3)],
        "policy_loss: weights": [logp, old, advantages.expand(2, 3).clone(), mask.double(), 3],
        "token_weights": [mask, 3, 2, "sample"],
        "token_weights: float32": [mask.float(), 3, 2, "sample"],
        **{f"kl_estimate: {kind}": [logp, old, kind] for kind in ("k1", "k2", "k3")},
        "pass_at_k": [np.array([4, 5]), np.array([1, 2]), np.array([2, 3])],
        "should_reset": [50, 0, [(10, 0.3), (20, 0.1)], mini.Config(reset_every=0, reset_on_stall=1)],
        "drifted": [50, 0, [(step, 0.2, 0.5) for step in range(46, 51)], v2.Config(reset_kl_above=0.1)],
        "batch_advantages": [[rewards[0], rewards[1]], [torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])]],
        **{f"mismatch_weights: {kind}": [old, logp, kind, 0.5, 5.0] for kind in ("tis", "icepop")},
    }


@pytest.mark.parametrize("name", list(calls()))
def test_inputs_are_unchanged(name):
    """A deep copy taken before the call; and PyTorch's own count of writes to a tensor."""
    called = name.split(":")[0]
    function, args = getattr(mini, called, None) or getattr(v2, called), calls()[name]
    before, versions = copy.deepcopy(args), [getattr(x, "_version", 0) for x in leaves(args)]
    function(*args)
    assert [getattr(x, "_version", 0) for x in leaves(args)] == versions
    for old, new in zip(leaves(before), leaves(args), strict=True):
        if isinstance(old, torch.nn.Module):
            assert same(old.state_dict(), new.state_dict())
        else:
            assert np.array_equal(old, new)


ROOT = Path(mini.__file__).parent
SOURCES = [
    ROOT / "prorl_mini.py",
    ROOT / "prorl_v2.py",
    *ROOT.glob("prorl_lab/**/*.py"),
    *ROOT.glob("prorl_scale/**/*.py"),
]
EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in SOURCES
    if "    >>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", EXAMPLES)
def test_worked_examples_in_docstrings(module):
    """What the docstrings print."""
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert attempted > 0
    assert failed == 0
