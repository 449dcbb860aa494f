"""The formulas of `prorl_mini` (advantages, loss, KL), checked against something that is not its own code.

Four kinds of truth: exact sums over a tiny vocabulary (differentiated by autograd), numbers worked out by hand,
plain Python (`statistics`, `itertools`, loops), and `model(ids).logits` of a two-cent Qwen2.  Everything runs in
float64, so that two ways to the same number agree to 1e-9 and a wrong formula can't hide in the tolerance.
From logits to a step: `test_math_step.py`; reset and pass@k: `test_math_reset.py`; later papers: `test_v2.py`.
"""

import math
import statistics
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import prorl_mini as mini
from tests.exact import (
    COUNTS,
    EOS,
    GARBAGE,
    LOGITS,
    QUICK,
    TEMPERATURE,
    close,
    exact_batch,
    exact_kl,
    flat_gradient,
    float64,
    gradient,
    plain_logprobs,
    tiny_policy,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# ============================================================================ 4. advantage


def test_advantages_by_hand():
    """Worked by hand: mean 1/4 and standard deviation 1/2 (ddof = 1) of one right answer among four."""
    close(mini.group_advantages(float64([[1, 0, 0, 0]])), [[1.5, -0.5, -0.5, -0.5]], rtol=1e-5)


@QUICK
@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=5, max_size=5), min_size=1, max_size=3))
def test_advantages_against_the_statistics_module(groups):
    """Python's `statistics.stdev`, group by group; zeros where all rewards are the same."""
    truth = [
        [(r - statistics.mean(g)) / (statistics.stdev(g) + 1e-6) if len(set(g)) > 1 else 0.0 for r in g] for g in groups
    ]
    close(mini.group_advantages(float64(groups)), truth)


@pytest.mark.parametrize(("value", "size"), [(0.1, 16), (0.1, 3), (0.7, 11), (1 / 3, 7), (0.0, 8), (1.0, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_contrast_gives_exact_zeros(value, size, dtype):
    """Equal rewards teach nothing: zeros to the last bit, not rounding noise of the mean divided by 1e-6."""
    rewards = torch.full((2, size), value, dtype=dtype)
    assert mini.group_advantages(rewards).eq(0).all()
    assert not mini.has_contrast(rewards).any()


def test_rounding_noise_is_real():
    """The test above can fail: the plain formula makes at least one of its groups non-zero."""
    rewards = [torch.full((16,), 0.1), torch.full((3,), 0.1), torch.full((11,), 0.7)]
    assert any(((r - r.mean()) / (r.std() + 1e-6)).abs().max() > 0 for r in rewards)


def test_contrast_is_found_group_by_group():
    """A group next to one without contrast keeps its own answer; a small difference counts, one below tol does not."""
    rewards = float64([[0, 1, 0], [1, 1, 1], [0.5, 0.5, 0.51], [0.5, 0.5, 0.5 + 1e-9]])
    assert mini.has_contrast(rewards).tolist() == [True, False, True, False]
    assert mini.has_contrast(rewards, tol=0.1).tolist() == [True, False, False, False]
    assert mini.group_advantages(rewards).ne(0).any(-1).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("zero_truncated", "expected"), [(False, [-1, 0, 1]), (True, [-0.577350, -0.577350, 1.154701])]
)
def test_shaping_zeroes_cut_answers_only_where_asked(zero_truncated, expected):
    """By hand: rewards 0, 1/2, 1 with the second answer cut off; the raw rewards stay as they are."""
    group = [mini.Sample([1], [2], cut, reward) for cut, reward in [(False, 0.0), (True, 0.5), (False, 1.0)]]
    mini.add_advantages(SimpleNamespace(config=mini.Config(zero_truncated=zero_truncated)), [group])
    close([s.advantage for s in group], expected, rtol=1e-5, atol=1e-6)
    assert [s.reward for s in group] == [0.0, 0.5, 1.0]


# ============================================================================ 6. loss: the surrogate

CLIP_CASES = [  # ratio, advantage, loss, its gradient in logp, clipped low, clipped high; range 0.8 to 1.4
    (0.5, 1.0, -0.5, -0.5, 0, 0),  # below, wrong direction for A > 0: pull back, not clipped
    (0.5, -1.0, 0.8, 0.0, 1, 0),  # below, already pushed down far enough
    (0.9, 1.0, -0.9, -0.9, 0, 0),
    (0.9, -1.0, 0.9, 0.9, 0, 0),
    (1.0, 2.0, -2.0, -2.0, 0, 0),
    (1.0, -2.0, 2.0, 2.0, 0, 0),
    (1.3, 1.0, -1.3, -1.3, 0, 0),  # a symmetric range of 0.2 would clip here
    (1.3, -1.0, 1.3, 1.3, 0, 0),
    (2.0, 1.0, -1.4, 0.0, 0, 1),  # above, already pushed up far enough
    (2.0, -1.0, 2.0, 2.0, 0, 0),  # above, wrong direction for A < 0: pull back, not clipped
    (2.0, 3.0, -4.2, 0.0, 0, 1),
    (0.5, -3.0, 2.4, 0.0, 1, 0),
    (0.5, 0.0, 0.0, 0.0, 0, 0),  # no advantage: nothing moves and nothing counts as clipped
    (2.0, 0.0, 0.0, 0.0, 0, 0),
]


@pytest.mark.parametrize(("ratio", "advantage", "loss", "slope", "low", "high"), CLIP_CASES)
def test_every_clip_case_by_hand(ratio, advantage, loss, slope, low, high):
    """Below, inside and above the range, with each sign: loss, gradient and counts worked out by hand."""
    logp = float64([[0.25 * ratio]]).log().requires_grad_()
    args = float64([[0.25]]).log(), float64([[advantage]]), torch.tensor([[True]]), 1
    ours, sums = mini.policy_loss(logp, *args)
    close(ours, loss)
    close(gradient(ours, logp), [[slope]])
    assert (sums["clip_low"].item(), sums["clip_high"].item(), sums["tokens"].item()) == (low, high, 1)
    assert not any(value.requires_grad for value in sums.values())


@QUICK
@given(
    ratio=st.floats(0.05, 5), advantage=st.floats(-3, 3), eps_low=st.floats(0.05, 0.5), eps_high=st.floats(0.05, 0.9)
)
def test_surrogate_against_the_form_without_a_min_of_products(ratio, advantage, eps_low, eps_high):
    """OpenAI Spinning Up's way to say it: the sign of the advantage decides which of the two bounds exists."""
    truth = min(ratio, 1 + eps_high) if advantage >= 0 else max(ratio, 1 - eps_low)
    logp, old = float64([[math.log(0.1 * ratio)]]), float64([[math.log(0.1)]])
    loss, _ = mini.policy_loss(logp, old, float64([[advantage]]), torch.tensor([[True]]), 1, eps_low, eps_high)
    close(loss, -truth * advantage)


@pytest.mark.parametrize("log_ratio", [1000.0, -1000.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_surrogate_of_a_huge_log_ratio_is_finite(log_ratio, advantage):
    """exp(1000) is inf; loss and gradient must stay finite, with either sign."""
    logp = float64([[log_ratio]]).requires_grad_()
    loss, _ = mini.policy_loss(logp, float64([[0.0]]), float64([[advantage]]), torch.tensor([[True]]), 1)
    assert loss.isfinite()
    assert gradient(loss, logp).isfinite().all()


@QUICK
@given(COUNTS, LOGITS)
def test_on_policy_gradient_is_the_exact_policy_gradient(counts, advantages):
    """Autograd of sum_a pi(a) A(a), on a batch where each token stands as often as its probability says."""
    logits, ids = exact_batch(counts)
    logits = (logits.detach() * TEMPERATURE).requires_grad_()  # so that softmax(logits / temperature) = counts / sum
    truth = gradient(((logits / TEMPERATURE).softmax(0) * float64(advantages)).sum(), logits)
    logp = mini.token_logprobs(logits.expand(len(ids), 1, 4), ids, TEMPERATURE)
    loss, _ = mini.policy_loss(logp, logp.detach(), float64(advantages)[ids], torch.ones_like(ids).bool(), len(ids))
    close(gradient(loss, logits), -truth)


def every_answer(vocab):
    """All answers of at most two tokens: EOS at once, or any other word followed by any word."""
    return [[EOS]] + [[first, second] for first in range(1, vocab) for second in range(vocab)]


def test_expected_update_of_a_model_is_its_exact_policy_gradient():
    """Autograd of the expected reward over ALL answers of a Qwen2, in every weight; needs EOS, mask and temperature."""
    policy, answers, prompt = tiny_policy(vocab=5), every_answer(5), [2, 4, 1]
    rewards = torch.randn(len(answers), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    probability = torch.stack([plain_logprobs(policy, prompt, answer).sum().exp() for answer in answers])
    close(probability.sum(), 1)  # the enumeration is complete
    batch = mini.make_batch([mini.Sample(prompt, answer) for answer in answers], "cpu")
    logp, _ = mini.answer_logprobs(policy, batch, TEMPERATURE)
    weights = batch.mask * probability.detach()[:, None]  # each answer as often as it would be sampled
    loss, _ = mini.policy_loss(logp, logp.detach(), rewards, weights, 1)
    close(flat_gradient(loss, policy), -flat_gradient((probability * rewards[:, 0]).sum(), policy))


def test_rollout_draws_from_the_distribution_that_is_scored():
    """Exact probabilities of all answers against 4,000 samples for each of two prompts of different length."""
    policy, answers, prompts = tiny_policy(vocab=5), every_answer(5), [[2, 4, 1], [3]]
    drawn = mini.rollout(policy, prompts, 4000, 2, TEMPERATURE, [EOS], torch.Generator().manual_seed(0))
    for row, prompt in enumerate(prompts):
        seen = Counter(map(tuple, drawn[row * 4000 : (row + 1) * 4000]))
        assert set(seen) <= set(map(tuple, answers))
        for answer in answers:
            p = plain_logprobs(policy, prompt, answer).sum().exp().item()
            assert abs(seen[tuple(answer)] - 4000 * p) < 4.5 * math.sqrt(4000 * p * (1 - p)) + 1


# ============================================================================ 6. loss: aggregation

LENGTHS = [1, 2, 3, 5]
ADVANTAGES = [0.5, -1.5, 2.0, -0.25]


def partitions(items):
    """Every way to cut a list into unordered parts."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for cut in partitions(rest):
        yield [[first], *cut]
        for i in range(len(cut)):
            yield [*cut[:i], [first, *cut[i]], *cut[i + 1 :]]


def answers_as_rows(flat, rows, width):
    """Pad the answers `rows` of the flat (11,) vector to (len(rows), width), with NaN -> padded, mask."""
    starts = np.cumsum([0, *LENGTHS])
    answers = [flat[starts[r] : starts[r + 1]] for r in rows]
    padded = [torch.nn.functional.pad(a, (0, width - len(a)), value=math.nan) for a in answers]
    mask = torch.tensor([[column < LENGTHS[r] for column in range(width)] for r in rows])
    return torch.stack(padded), mask


def loss_of_cut(flat, old, cut, extra, level):
    """The sum of the losses of the micro-batches `cut`, each padded to its own width + extra."""
    total, sums = 0.0, Counter()
    for rows in cut:
        width = max(LENGTHS[r] for r in rows) + extra
        (logp, mask), (old_logp, _) = answers_as_rows(flat, rows, width), answers_as_rows(old, rows, width)
        weights = mini.token_weights(mask, sum(LENGTHS), len(LENGTHS), level)
        advantages = float64([[ADVANTAGES[r]] for r in rows])
        loss, stats = mini.policy_loss(logp, old_logp, advantages, weights, sum(LENGTHS))
        total = total + loss
        sums.update({key: value.item() for key, value in stats.items()})
    return total, sums


def log_ratios():
    """Eleven ratios on both sides of the clip range, over an old policy of random log-probs -> logp, old_logp."""
    generator = torch.Generator().manual_seed(2)
    old = -torch.rand(11, dtype=torch.float64, generator=generator) - 1
    ratios = float64([0.5, 1.9, 0.7, 1.0, 1.3, 1.7, 0.6, 2.5, 0.95, 0.75, 1.1])
    return (old + ratios.log()).requires_grad_(), old, ratios.tolist()


def plain_loss(ratios, level):
    """The two aggregations as loops over answers, in plain floats; each answer's terms by the two-bounds form."""
    ratios, terms = iter(ratios), []
    for length, a in zip(LENGTHS, ADVANTAGES, strict=True):
        terms.append([a * (min(next(ratios), 1.4) if a > 0 else max(next(ratios), 0.8)) for _ in range(length)])
    if level == "token":
        return -sum(x for answer in terms for x in answer) / sum(LENGTHS)
    return -statistics.mean(statistics.mean(answer) for answer in terms)


@pytest.mark.parametrize("level", ["token", "sample"])
def test_aggregation_against_a_loop_over_answers(level):
    """Plain Python: the mean over all tokens, or the mean over answers of each answer's mean."""
    logp, old, ratios = log_ratios()
    loss, _ = loss_of_cut(logp, old, [[0, 1, 2, 3]], 0, level)
    close(loss, plain_loss(ratios, level), rtol=1e-6)  # weights are float32
    assert abs(plain_loss(ratios, "token") - plain_loss(ratios, "sample")) > 0.05  # the two are told apart


@pytest.mark.parametrize("level", ["token", "sample"])
@pytest.mark.parametrize("extra", [0, 3])
def test_no_cut_into_microbatches_changes_loss_or_gradient(level, extra):
    """All 15 partitions of four answers, with another padding, against the batch as one piece."""
    logp, old, _ = log_ratios()
    truth, counts = loss_of_cut(logp, old, [[0, 1, 2, 3]], 0, level)
    cuts = list(partitions([0, 1, 2, 3]))
    assert len(cuts) == 15
    for cut in cuts:
        loss, sums = loss_of_cut(logp, old, cut, extra, level)
        close(loss, truth)
        close(gradient(loss, logp), gradient(truth, logp))
        assert sums == counts
        assert counts["tokens"] == 11
        assert counts["clip_low"] > 0
        assert counts["clip_high"] > 0


def test_bool_mask_ones_and_spread_advantages_are_the_same():
    """Ways to say one thing: bool mask or float ones, advantages (B, 1) or (B, T), the count an int or a tensor."""
    logp, old = float64([[-1.0, -2.0, -0.5]]), float64([[-1.3, -1.9, -0.6]])
    mask, advantages = torch.tensor([[True, True, False]]), float64([[0.7]])
    truth, _ = mini.policy_loss(logp, old, advantages, mask, 2)
    for other in [
        (advantages, mask.double(), 2),
        (advantages.expand(1, 3), mask, 2),
        (advantages, mask, torch.tensor(2)),
    ]:
        close(mini.policy_loss(logp, old, *other)[0], truth)
    close(truth, -0.7 * (1.3498588 + 0.9048374) / 2, rtol=1e-7)


def test_an_answer_without_tokens_weighs_nothing():
    """No division by zero where a row of a micro-batch is all padding."""
    weights = mini.token_weights(torch.tensor([[True, True], [False, False]]), 2, 2, "sample")
    assert weights.tolist() == [[0.5, 0.5], [0.0, 0.0]]


@pytest.mark.parametrize(("now", "then"), [pair for g in GARBAGE for pair in [(g, None), (None, g), (g, g)]])
@pytest.mark.parametrize("level", ["token", "sample"])
def test_garbage_outside_the_mask_changes_nothing(now, then, level):
    """The clean batch: the same loss and gradient to the last bit, and exact zeros at the garbage."""
    mask = torch.tensor([[True, True, False], [True, False, False]])
    clean, old = float64([[-1.0, -2.0, -3.0], [-0.5, -1.0, -1.0]]), float64([[-1.1, -1.5, -3.0], [-1.5, -1.0, -1.0]])
    weights, advantages = mini.token_weights(mask, 3, 2, level), float64([[1.0], [-1.0]])

    def loss_and_gradient(logp, old_logp):
        logp = logp.clone().requires_grad_()
        loss, _ = mini.policy_loss(logp, old_logp, advantages, weights, 3)
        return loss.detach(), gradient(loss, logp)

    truth = loss_and_gradient(clean, old)
    dirty = clean if now is None else clean.masked_fill(~mask, now)
    dirty_old = old if then is None else old.masked_fill(~mask, then)
    loss, slope = loss_and_gradient(dirty, dirty_old)
    assert loss.isfinite()
    assert slope.isfinite().all()
    assert loss == truth[0]
    assert torch.equal(slope, truth[1])
    assert slope[~mask].eq(0).all()


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_garbage_advantages_outside_the_mask_change_nothing(value):
    """Advantages per token, (B, T): the docstring says that what lies outside the mask may be garbage."""
    logp, mask = float64([[-1.0, -2.0]]).requires_grad_(), torch.tensor([[True, False]])
    loss, _ = mini.policy_loss(logp, float64([[-1.1, -2.0]]), float64([[1.0, value]]), mask, 1)
    close(loss, -math.exp(0.1))
    close(gradient(loss, logp), [[-math.exp(0.1), 0.0]])


# ============================================================================ 6. loss: KL


@pytest.mark.parametrize(
    ("p", "q", "k1", "k2", "k3"),
    [(0.5, 0.25, 0.6931472, 0.2402265, 0.1931472), (0.25, 0.5, -0.6931472, 0.2402265, 0.3068528), (0.3, 0.3, 0, 0, 0)],
)
def test_kl_estimates_by_hand(p, q, k1, k2, k3):
    """Policy p and reference q of one token: log 2, its square halved, and q/p - 1 - log(q/p)."""
    logp, ref_logp = float64([[math.log(p)]]), float64([[math.log(q)]])
    for kind, truth in (("k1", k1), ("k2", k2), ("k3", k3)):
        close(mini.kl_estimate(logp, ref_logp, kind), [[truth]], rtol=1e-6)


@QUICK
@given(COUNTS, LOGITS)
def test_k1_and_k3_have_the_value_of_the_kl(counts, reference):
    """KL(policy || reference) as a sum over the vocabulary; k3 is never negative, token by token."""
    logits, ids = exact_batch(counts)
    logp, ref_logp = logits.log_softmax(0), float64(reference).log_softmax(0)
    for kind in ("k1", "k3"):
        close(mini.kl_estimate(logp[ids], ref_logp[ids], kind).mean(), exact_kl(logp, ref_logp))
    assert mini.kl_estimate(logp[ids], ref_logp[ids], "k3").min() >= -1e-12


def test_k2_is_biased():
    """The exact KL and the exact mean of k2, by plain sums over four tokens, are not the same."""
    counts, q = [1, 1, 1, 5], 0.25
    logits, ids = exact_batch(counts)
    ours = mini.kl_estimate(logits.log_softmax(0)[ids], float64([[math.log(q)]] * 8), "k2").mean()
    kl = sum(n / 8 * math.log(n / 8 / q) for n in counts)
    close(ours, sum(n / 8 * math.log(n / 8 / q) ** 2 / 2 for n in counts))
    assert abs(ours.item() - kl) > 0.03


@QUICK
@given(COUNTS, LOGITS)
def test_expected_gradient_of_each_kl_estimate(counts, reference):
    """k1: zero.  k2: autograd of the exact KL(policy || reference).  k3: of KL(reference || policy)."""
    logits, ids = exact_batch(counts)
    logp, ref_logp = logits.log_softmax(0), float64(reference).log_softmax(0)
    truth = {
        "k1": torch.zeros(4),
        "k2": gradient(exact_kl(logp, ref_logp), logits),
        "k3": gradient(exact_kl(ref_logp, logp), logits),
    }
    for kind, expected in truth.items():
        close(gradient(mini.kl_estimate(logp[ids], ref_logp[ids], kind).mean(), logits), expected)


def test_kl_of_sequences_is_the_sum_over_their_tokens():
    """KL between the joint distributions of all 16 two-token answers: k1 and k3 add up to it, in expectation."""
    generator = torch.Generator().manual_seed(3)
    joint, per_token = [], []
    for _ in ("policy", "reference"):
        scores = torch.randn(5, 4, dtype=torch.float64, generator=generator).log_softmax(-1)
        first, second = scores[0][:, None].expand(4, 4), scores[1:]  # of a; of b after a
        joint.append((first + second).flatten())  # (16,)
        per_token.append(torch.stack([first.flatten(), second.flatten()], -1))  # (16, 2)
    for kind in ("k1", "k3"):
        estimate = mini.kl_estimate(*per_token, kind).sum(-1)
        close((joint[0].exp() * estimate).sum(), exact_kl(*joint))


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
@pytest.mark.parametrize("gap", [1000.0, -1000.0, math.inf, -math.inf])
def test_kl_of_a_huge_log_ratio_is_finite(kind, gap):
    """One token that the reference finds impossible (or the policy) must not turn the batch into inf."""
    logp = float64([[-1.0]]).requires_grad_()
    ours = mini.kl_estimate(logp, logp.detach() + gap, kind)
    assert ours.abs().max() < 1e6
    assert gradient(ours.sum(), logp).isfinite().all()


def test_unknown_kl_kind_is_an_error():
    """A typing mistake must not choose an estimator."""
    with pytest.raises(ValueError, match="k4"):
        mini.kl_estimate(torch.zeros(1, 1), torch.zeros(1, 1), "k4")


# ============================================================================ 6. loss: both


def penalized(logp, ref_logp, weights, num_tokens, **settings):
    """`penalized_loss` on-policy with advantages of 1 -> loss, sums, gradient in logp."""
    logp = logp.clone().requires_grad_()
    config = mini.Config(**{"kl_coef": 0.5, **settings})
    ones = torch.ones(len(logp), 1, dtype=torch.float64)
    loss, sums = mini.penalized_loss(logp, logp.detach(), ref_logp, ones, weights, num_tokens, config)
    return loss.detach(), sums, gradient(loss, logp)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
@pytest.mark.parametrize(("now", "then"), [pair for g in GARBAGE for pair in [(g, None), (None, g), (g, g)]])
def test_garbage_outside_the_mask_changes_no_penalty(now, then, kind):
    """As for the surrogate alone: loss, gradient and the KL's figure of the clean batch, to the last bit."""
    mask = torch.tensor([[True, True, False], [True, False, False]])
    clean, ref = float64([[-1.0, -2.0, -3.0], [-0.5, -1.0, -1.0]]), float64([[-1.2, -1.7, -3.0], [-0.4, -1.0, -1.0]])
    truth = penalized(clean, ref, mask.double(), 3, kl_kind=kind)
    dirty = clean if now is None else clean.masked_fill(~mask, now)
    dirty_ref = ref if then is None else ref.masked_fill(~mask, then)
    loss, sums, slope = penalized(dirty, dirty_ref, mask.double(), 3, kl_kind=kind)
    assert loss == truth[0]
    assert sums["kl"] == truth[1]["kl"] != 0
    assert torch.equal(slope, truth[2])
    assert slope[~mask].eq(0).all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 0)])
def test_a_mini_batch_without_tokens_has_a_loss_of_zero(shape):
    """Nothing to learn from is no reason for 0 / 0: loss, KL and gradient are 0."""
    logp = torch.full(shape, -1.0, dtype=torch.float64)
    for num_tokens in (0, torch.tensor(0)):
        loss, sums, slope = penalized(logp, logp - 1, torch.zeros(shape, dtype=torch.float64), num_tokens)
        assert loss == sums["kl"] == sums["tokens"] == 0
        assert slope.eq(0).all()


@pytest.mark.parametrize("level", ["token", "sample"])
def test_the_figure_of_the_kl_is_a_mean_over_tokens(level):
    """Answers of one token and of three, k1 of 1 and 2: 7/4 a token at either level; the penalty weighs as asked."""
    mask = torch.tensor([[True, False, False], [True, True, True]])
    logp = float64([[-1.0] * 3, [-1.0] * 3])
    ref = logp - float64([[1.0], [2.0]])
    loss, sums, _ = penalized(logp, ref, mini.token_weights(mask, 4, 2, level).double(), 4, kl_kind="k1")
    close(sums["kl"], 7 / 4)
    close(loss, -1 + 0.5 * (7 / 4 if level == "token" else (1 + 2) / 2), rtol=1e-6)
