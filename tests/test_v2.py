"""The pieces of later papers (`prorl_v2`) against exact sums and lists by hand, and as a run on the laptop."""

import json
import math
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import prorl_mini as mini
import prorl_v2 as v2
from prorl_lab.errors import UserError
from tests.exact import QUICK, close, float64
from tests.test_mini import make_run  # noqa: F401  a fixture

pytestmark = pytest.mark.usefixtures("one_thread")

# ============================================================================ advantage, loss


@QUICK
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.integers(1, 9)), min_size=2, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_batch_advantages_against_a_list_of_tokens(groups):
    """By definition: write each answer's centred reward once for every token of it, then z-score that long list."""
    rewards, lengths = ([float64([pair[i] for pair in group]) for group in groups] for i in (0, 1))
    centred = [[r - statistics.fmean(row) for r in row] for row in (group.tolist() for group in rewards)]
    tokens = [
        c
        for row, group in zip(centred, groups, strict=True)
        for c, (_, n) in zip(row, group, strict=True)
        for _ in range(n)
    ]
    spread = max(statistics.pvariance(tokens), 1e-8) ** 0.5
    expected = [[(c - statistics.fmean(tokens)) / spread for c in row] for row in centred]
    for ours, truth in zip(v2.batch_advantages(rewards, lengths), expected, strict=True):
        close(ours, truth, rtol=1e-6, atol=1e-6)


def test_batch_advantages_keep_small_contrasts_small():
    """A group that differs by 0.01 stays a hundredth of one that differs by 1; GRPO makes both the same."""
    wide, narrow = float64([0, 1]), float64([0.5, 0.51])
    ours = v2.batch_advantages([wide, narrow], [torch.ones(2), torch.ones(2)])
    close(ours[1][1] / ours[0][1], 0.01)
    close(mini.group_advantages(torch.stack([wide, narrow]))[:, 1], [0.7071, 0.7071], rtol=1e-3, atol=1e-4)


def test_shaping_by_length_by_hand():
    """Limit 8: the cosine is 1/2 at 4 tokens; of a buffer of 4, an answer of 6 has used half, one of 8 all."""
    four, six, eight = (mini.Sample([1], [2] * n, reward=1.0) for n in (4, 6, 8))

    def shaped(sample, step=0, **settings):
        return v2.shaped_reward(sample, step, v2.Config(max_new_tokens=8, **settings))

    close(shaped(four), 1.0)
    close(shaped(four, length_bonus=0.2), 1.1)
    close(shaped(eight, length_bonus=0.2), 1.0)
    close(shaped(mini.Sample([1], [2] * 2), length_bonus=1.0), 0.5 + math.sqrt(2) / 4)  # cos(pi / 4)
    close([shaped(s, overlong_buffer=4) for s in (four, six, eight)], [1.0, 0.5, 0.0])
    cycle = dict(length_bonus=0.2, length_bonus_on=2, length_bonus_off=3)
    close([shaped(four, step, **cycle) for step in range(7)], [1.1, 1.1, 1, 1, 1, 1.1, 1.1])
    cut = mini.Sample([1], [2] * 8, truncated=True, reward=1.0)
    close(shaped(cut, zero_truncated=True, overlong_buffer=4, length_bonus=0.2), 0.0)  # one penalty, not three


def test_shaped_groups_of_different_size_keep_their_own_advantages():
    """A group that waited while `answers_per_prompt` grew."""
    groups = [[mini.Sample([1], [2], reward=r) for r in row] for row in ([0.0, 1.0], [0.0, 0.0, 1.0, 1.0])]
    for kind, expected in (("group", [0.707107, 0.866025]), ("batch", [1.0, 1.0]), ("raft", [1.0, 1.0])):
        config = v2.Config(advantage=kind, max_new_tokens=8)
        v2.add_advantages(SimpleNamespace(config=config, state=v2.State()), groups)
        close([group[-1].advantage for group in groups], expected, rtol=1e-4, atol=1e-4)


def test_raft_climbs_the_likelihood_of_right_answers_alone():
    """By definition: supervised training on the answers that are right, each token counting for one of all tokens."""
    theta = float64([[0.3, -0.2, 0.9], [0.1, 0.5, -0.4]]).requires_grad_()  # (T, V): a policy of two tokens
    answers, rewards = torch.tensor([[0, 1], [2, 2], [1, 0]]), float64([1.0, 0.0, 0.9])
    logp = theta.log_softmax(-1)[torch.arange(2), answers]
    advantages = v2.raft_advantages(rewards)[:, None].expand(3, 2)
    loss, _ = mini.policy_loss(logp, logp.detach(), advantages, torch.ones(3, 2), 6)
    supervised = -logp[0].sum() / 6
    expected = torch.autograd.grad(supervised, theta, retain_graph=True)[0]
    close(torch.autograd.grad(loss, theta)[0], expected)


def test_corrected_gradient_is_the_trainers_although_another_distribution_sampled():
    """Exact sum over a vocabulary: tokens come from q, yet E_q[w * ratio * A] has the gradient of E_p[A]."""
    theta = float64([0.3, -0.2, 0.9, 0.1]).requires_grad_()
    q, advantages = float64([0.4, 0.3, 0.2, 0.1]), float64([1.0, -0.5, 0.3, 2.0])
    logp = theta.log_softmax(-1)
    truth = torch.autograd.grad((logp.exp() * advantages).sum(), theta, retain_graph=True)[0]
    w = v2.mismatch_weights(logp.detach(), q.log(), "tis", 0.0, 100.0)
    loss, _ = mini.policy_loss(logp[None], logp.detach()[None], advantages[None], (q * w)[None], 1)
    close(torch.autograd.grad(loss, theta)[0], -truth)


@pytest.mark.parametrize(
    ("kind", "expected"), [("tis", [0.1, 0.5, 1.0, 2.0, 2.0]), ("icepop", [0.0, 0.5, 1.0, 2.0, 0.0])]
)
def test_mismatch_weights_by_hand(kind, expected):
    """Trainer over sampler 1/10, 1/2, 1, 2 and 10 with bounds 1/2 and 2, which belong to the range."""
    old = float64([0.05, 0.25, 0.5, 0.5, 0.5]).requires_grad_()
    weights = v2.mismatch_weights(old.log(), float64([0.5, 0.5, 0.5, 0.25, 0.05]).log(), kind, 0.5 - 1e-9, 2.0 + 1e-9)
    close(weights, expected, rtol=1e-6, atol=1e-8)
    assert not weights.requires_grad


@pytest.mark.parametrize("kind", ["tis", "icepop"])
def test_weighting_the_advantages_weighs_the_surrogate_and_not_the_kl(kind):
    """A loop over tokens: w times each clipped term, and the KL as it is."""
    rows = ([0.5, 0.2, 0.3], [0.4, 0.3, 0.3], [0.3, 0.3, 0.3], [0.2, 0.9, 0.1])
    logp, old, ref, sampler = (float64([row]).log() for row in rows)
    w = v2.mismatch_weights(old, sampler, kind, 0.5, 2.5)
    config, ones = v2.Config(kl_coef=0.5), torch.ones(1, 3, dtype=torch.float64)
    loss, sums = mini.penalized_loss(logp, old, ref, -1.5 * w, ones, 3, config)
    surrogate = kl = 0.0
    for p, q, r, s in zip(*rows, strict=True):
        ratio = q / s
        weight = min(ratio, 2.5) if kind == "tis" else ratio * (0.5 <= ratio <= 2.5)
        surrogate += weight * min(p / q * -1.5, min(max(p / q, 0.8), 1.4) * -1.5)
        kl += r / p - math.log(r / p) - 1
    close(loss, -surrogate / 3 + 0.5 * kl / 3)
    close(sums["kl"], kl / 3)


def test_the_geometric_filter_drops_whole_answers():
    """By hand: ratios 2 and 1/2 have the geometric mean 1, and stay; 1.1 throughout lies outside 0.99 to 1.01, though
    each token alone is harmless; a long answer counts no more than a short one."""
    sampler = float64([[0.2, 0.4], [0.5, 0.5], [0.5, 0.5]]).log()
    old = float64([[0.4, 0.2], [0.55, 0.55], [0.502, 0.502]]).log()
    close(v2.mismatch_weights(old, sampler, "geometric", 0.99, 1.01), [[2.0, 0.5], [0, 0], [1.004, 1.004]])
    long = float64([1.004] * 1000).log()
    assert v2.mismatch_weights(long, torch.zeros_like(long), "geometric", 0.99, 1.01).min() > 1  # not 1.004 ** 1000
    assert v2.mismatch_weights(old, sampler, "geometric", 1.05, 1.2).count_nonzero() == 2


@QUICK
@given(st.sampled_from(["k1", "k3"]), st.integers(0, 10**6))
def test_weighted_kl_off_policy_by_enumeration(kind, seed):
    """Exact sum over a vocabulary from which the OLD policy draws: value and gradient are those of KL(policy || ref).

    Plain k3, in the same sum, has neither; on-policy it has the value and another gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    theta, ref = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    old = (theta + 0.5 * torch.randn(5, generator=generator, dtype=torch.float64)).log_softmax(-1)
    theta, ref = theta.requires_grad_(), ref.log_softmax(-1)
    logp = theta.log_softmax(-1)
    truth = (logp.exp() * (logp - ref)).sum()

    def drawn_from(writer, k):
        value = (writer.exp() * k).sum()
        return value, torch.autograd.grad(value, theta, retain_graph=True)[0]

    gradient = torch.autograd.grad(truth, theta, retain_graph=True)[0]
    for writer in (old, logp.detach()):
        value, slope = drawn_from(writer, v2.weighted_kl(logp, writer, ref, kind))
        close(value, truth)
        close(slope, gradient)
    value, slope = drawn_from(old, mini.kl_estimate(logp, ref, "k3"))
    assert abs(value - truth) > 1e-4
    assert (slope - gradient).abs().max() > 1e-4


def test_weighted_kl_in_the_loss_by_a_loop_over_tokens():
    """The KL's weights and its denominator are those of mini; garbage outside the mask has no gradient."""
    rows = ([0.5, 0.2, 0.3], [0.4, 0.3, 0.3], [0.3, 0.3, 0.3])
    logp, old, ref = (float64([[math.log(p) for p in row] + [math.inf]]) for row in rows)
    logp = logp.requires_grad_()
    weights = float64([[1.0, 2.0, 1.0, 0.0]])
    config = v2.Config(kl_coef=0.5, kl_weighted=True)
    loss, sums = v2.penalized_loss(logp, old, ref, float64([[0.0]]), weights, 3, config)
    each = [p / q * (r / p - math.log(r / p) - 1) for p, q, r in zip(*rows, strict=True)]
    close(loss, 0.5 * (each[0] + 2 * each[1] + each[2]) / 3)
    close(sums["kl"], sum(each) / 3)
    slope = torch.autograd.grad(loss, logp)[0]
    close(slope[0, 3], 0.0)
    assert torch.isfinite(slope).all()
    config.kl_weighted = False
    for ours, theirs in zip(
        v2.penalized_loss(logp, old, ref, float64([[1.0]]), weights, 3, config),
        mini.penalized_loss(logp, old, ref, float64([[1.0]]), weights, 3, config),
        strict=True,
    ):
        assert ours == theirs


def test_unknown_mismatch_kind_is_an_error():
    with pytest.raises(ValueError, match="tis, icepop or geometric"):
        v2.mismatch_weights(torch.zeros(1), torch.zeros(1), "tiss", 0.5, 5.0)


# ============================================================================ step, reset


@pytest.mark.parametrize(("kept", "after"), [(False, [1e-3, 2e-3, 3e-3]), (True, [4e-3, 4e-3, 4e-3])])
def test_learning_rate_rises_and_stays_and_rises_again_where_a_reset_clears_adam(make_run, kept, after):  # noqa: F811
    """To 0.4 over four steps; and what `update` gives the optimizer is that of the step."""
    assert [v2.warmed_up(0.4, step, 4) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert v2.warmed_up(0.4, 0, 0) == 0.4
    run = make_run(kind=v2, learning_rate=4e-3, learning_rate_warm_up=4, reset_steps=[5], reset_keeps_optimizer=kept)
    rates = []
    with run.folder:
        for _ in range(8):
            mini.train_step(run)
            rates.append(run.optimizer.param_groups[0]["lr"])
            run.reset_if_due()
    assert run.state.resets == 1
    assert rates == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 4e-3, *after])


def drifts_of(kl=lambda step: 0.01, entropy=lambda step: 0.5, **changes):
    """Play 90 steps of a run that resets on a drift alone -> the steps at which it would."""
    config = v2.Config(**{**dict(reset_every=0, reset_min_spacing=20), **changes})
    resets, dynamics = [0], []
    for step in range(1, 91):
        dynamics = [*dynamics, (step, kl(step), entropy(step))][-v2.RECENT :]  # what a resumed run finds, no more
        if v2.drifted(step, resets[-1], dynamics, config):
            resets.append(step)
    return resets[1:]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(kl=lambda step: 0.5 if step > 41 else 0.01, reset_kl_above=0.1), [44, 64, 84]),  # median of five
        (dict(kl=lambda step: 50.0 if step % 3 == 0 else 0.01, reset_kl_above=0.1), []),  # spikes are outliers
        (dict(kl=lambda step: None, reset_kl_above=0.1), []),  # steps without an update
        (dict(kl=lambda step: 0.5, reset_kl_above=0.1, reset_min_spacing=1), list(range(5, 91, 5))),
        (dict(kl=lambda step: 0.5, reset_kl_above=0.1, reset_min_spacing=0), list(range(5, 91, 5))),
        (dict(kl=lambda step: 0.5), []),  # not asked
        (dict(kl=lambda step: 0.5, reset_kl_above=0.1, reset=False), []),  # --no-reset wins over everything
        (dict(entropy=lambda step: 1 - step / 90, reset_entropy_below=0.5), [48, 68, 88]),
    ],
)
def test_when_the_policy_has_drifted(changes, expected):
    """Schedules worked out by hand."""
    assert drifts_of(**changes) == expected


def test_a_drift_resets_the_run(make_run):  # noqa: F811
    """Five steps of a KL above the limit; the reason is logged, and what was before the reset counts no more."""
    run = make_run(kind=v2, reset_every=0, reset_kl_above=1e-9, reset_min_spacing=1, steps=12)
    with run.folder:
        for _ in range(11):
            mini.train_step(run)
            run.reset_if_due()
    rows = [json.loads(line) for line in run.folder.metrics_path.read_text().splitlines()]
    resets = [row for row in rows if row.get("event") == "reset"]
    assert [row["step"] for row in resets] == [5, 10]
    assert all("is above 1e-09" in row["reason"] for row in resets)


@pytest.mark.parametrize("keep", [False, True])
def test_reset_to_the_best_validation(make_run, monkeypatch, keep):  # noqa: F811
    """The reference gets the weights of the best score, the policy goes on; Adam's moments as the flag says."""
    run = make_run(kind=v2, eval_every=1, reset_to="best", reset_steps=[3], reset_keeps_optimizer=keep, reset_every=0)
    right, kept = iter([5, 2, 1]), {}  # of ten answers
    monkeypatch.setattr(mini, "evaluate", lambda *args: {"toy": np.arange(10)[None] < next(right)})
    with run.folder:
        for step in (1, 2, 3):
            mini.train_step(run)
            run.validate()
            kept[step] = [p.clone() for p in run.policy.parameters()]
            assert run.reset_if_due() == (step == 3)
    for reference, best, policy, now in zip(
        run.reference.parameters(), kept[1], run.policy.parameters(), kept[3], strict=True
    ):
        assert torch.equal(reference, best)
        assert torch.equal(policy, now)
    assert bool(run.optimizer.state) == keep
    assert any(not torch.equal(a, b) for a, b in zip(kept[1], kept[3], strict=True))


def test_the_best_weights_of_a_resumed_run_are_those_of_its_history(make_run):  # noqa: F811
    """A better one that was noted after the last save, and then lost to a crash, leaves the one before it in place."""
    run = make_run(kind=v2, eval_every=1)
    with run.folder:
        for run.state.step, score in ((1, 0.3), (2, 0.9)):
            run.state.history.append((run.state.step, score))
            run.folder.keep_best(run)
            if run.state.step == 1:
                first = [p.clone() for p in run.policy.parameters()]
                run.folder.save(run)
            for p in run.policy.parameters():
                p.data.add_(1.0)
        run.state.history.pop()  # as in the state that was saved
        run.folder.load_best(run, v2.best_step(run.state.history))
        assert all(map(torch.equal, run.reference.parameters(), first))
        run.state.history.append((2, 0.9))
        run.folder.save(run)
    assert [path.name for path in run.folder.path.glob("best-*.pt")] == ["best-000002.pt"]


# ============================================================================ the run


def test_with_all_off_it_is_mini(make_run, tmp_path):  # noqa: F811
    """The same weights, bit for bit, after three steps."""

    def weights(kind):
        run = make_run(kind=kind, out=str(tmp_path / kind.__name__), reset_every=2, reset_min_spacing=1)
        with run.folder:
            for _ in range(3):
                mini.train_step(run)
                run.reset_if_due()
        return torch.cat([p.flatten() for p in run.policy.parameters()])

    assert torch.equal(weights(v2), weights(mini))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(reset_to="best", eval_every=0), "--reset-to best needs validation"),
        (dict(reset_kl_above=0.1, kl_coef=0.0), "--kl-coef 0 does not measure"),
        (dict(kl_weighted=True, kl_kind="k2"), "give --kl-kind k3"),
        (dict(overlong_buffer=22), "--overlong-buffer 22 must be less"),
        (dict(length_bonus_on=0), "--length-bonus-on is 0: give at least 1"),
        (dict(length_bonus=math.nan), "--length-bonus must be a finite number"),
        (dict(advantage="bach"), "--advantage is one of group, batch, raft"),
        (dict(advantage="raft", length_bonus=0.1), "--length-bonus would do nothing: leave them out"),
    ],
)
def test_settings_that_cannot_work(changes, says):
    with pytest.raises(UserError, match=says):
        mini.settings.resolve(v2.Config(**changes))
