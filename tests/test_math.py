"""The mathematics of `prorl_mini`, checked against something that is not its own code.

Four kinds of truth: exact sums over a tiny vocabulary (differentiated by autograd), numbers worked out by hand,
plain Python (`statistics`, `itertools`, loops), and `model(ids).logits` of a two-cent Qwen2.  Everything runs in
float64, so that two ways to the same number agree to 1e-9 and a wrong formula can't hide in the tolerance.
"""

import copy
import dataclasses
import doctest
import importlib
import itertools
import math
import statistics
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

import prorl_mini as mini

EOS = 0
TEMPERATURE = 1.2
QUICK = settings(max_examples=25, deadline=None, database=None, derandomize=True)
COUNTS = st.lists(st.integers(1, 5), min_size=4, max_size=4)
LOGITS = st.lists(st.floats(-2, 2), min_size=4, max_size=4)
GARBAGE = [math.inf, -math.inf, math.nan, 1e30, -1e30]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """On tensors this small, threads only wait for each other: five times slower beside another job."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def float64(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(ours, truth, rtol=1e-9, atol=1e-11) -> None:
    ours, truth = (torch.as_tensor(x, dtype=torch.float64) for x in (ours, truth))
    torch.testing.assert_close(ours.detach(), truth.detach(), rtol=rtol, atol=atol)


def gradient(value, leaf) -> torch.Tensor:
    return torch.autograd.grad(value, leaf, retain_graph=True)[0]


def exact_batch(counts):
    """Token v stands counts[v] times, so the mean over this batch IS the expectation under p = counts / sum.

    -> logits (V,) of p, to differentiate; ids (B, 1)
    """
    ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[:, None]
    return float64(counts).log().requires_grad_(), ids


def exact_kl(logp, logq):
    """KL(p || q), summed over the vocabulary."""
    return (logp.exp() * (logp - logq)).sum()


def tiny_policy(seed=0, vocab=11):
    """A Qwen2 of a few thousand random weights, spread wide enough that its distributions are far from uniform."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocab,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.4,
        tie_word_embeddings=False,
        eos_token_id=EOS,
        pad_token_id=None,
        bos_token_id=None,
    )
    policy = Qwen2ForCausalLM(config).double().eval()
    # Qwen2's own norm computes in float32 whatever it is given, which would cap all agreement at 1e-7.
    for part in (policy.model, *policy.model.layers):
        for name, norm in list(part.named_children()):
            if isinstance(norm, Qwen2RMSNorm):
                setattr(part, name, torch.nn.RMSNorm(16, norm.variance_epsilon, dtype=torch.float64))
    return policy


def plain_logprobs(policy, prompt, answer, temperature=TEMPERATURE):
    """Log-probs of one answer's tokens from the full logits, unpadded, one token at a time -> (answer length,)."""
    logits = policy(input_ids=torch.tensor([prompt + answer])).logits[0]
    rows = [logits[len(prompt) - 1 + i] / temperature for i in range(len(answer))]
    return torch.stack([torch.log(row.exp()[token] / row.exp().sum()) for row, token in zip(rows, answer, strict=True)])


def flat_gradient(value, policy):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(policy.parameters()), retain_graph=True)])


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
    mini.add_advantages([group], 0, mini.Config(zero_truncated=zero_truncated, max_new_tokens=8))
    close([s.advantage for s in group], expected, rtol=1e-5, atol=1e-6)
    assert [s.reward for s in group] == [0.0, 0.5, 1.0]


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
    for ours, truth in zip(mini.batch_advantages(rewards, lengths), expected, strict=True):
        close(ours, truth, rtol=1e-6, atol=1e-6)


def test_batch_advantages_keep_small_contrasts_small():
    """A group that differs by 0.01 stays a hundredth of one that differs by 1; GRPO makes both the same."""
    wide, narrow = float64([0, 1]), float64([0.5, 0.51])
    ours = mini.batch_advantages([wide, narrow], [torch.ones(2), torch.ones(2)])
    close(ours[1][1] / ours[0][1], 0.01)
    close(mini.group_advantages(torch.stack([wide, narrow]))[:, 1], [0.7071, 0.7071], rtol=1e-3, atol=1e-4)


def test_shaping_by_length_by_hand():
    """Limit 8: the cosine is 1/2 at 4 tokens; of a buffer of 4, an answer of 6 has used half, one of 8 all."""
    four, six, eight = (mini.Sample([1], [2] * n, reward=1.0) for n in (4, 6, 8))

    def shaped(sample, step=0, **settings):
        return mini.shaped_reward(sample, step, mini.Config(max_new_tokens=8, **settings))

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
    for kind, expected in (("group", [0.707107, 0.866025]), ("batch", [1.0, 1.0])):
        mini.add_advantages(groups, 0, mini.Config(advantage=kind, max_new_tokens=8))
        close([group[-1].advantage for group in groups], expected, rtol=1e-4, atol=1e-4)


# ============================================================================ 5. logprobs


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.2, 3.0])
def test_token_logprobs_against_plain_arithmetic(temperature):
    """`math.exp` and `math.log`, one token at a time; the probabilities of the vocabulary add up to 1."""
    scores = [[0.3, -1.0, 2.0, 0.0], [5.0, 0.0, -5.0, 1.0]]
    truth = [[math.exp(x / temperature) / sum(math.exp(y / temperature) for y in row) for x in row] for row in scores]
    logits = float64(scores)[:, None, :].expand(2, 4, 4)  # position t of answer b asks for token t
    ours = mini.token_logprobs(logits, torch.arange(4).expand(2, 4), temperature)
    close(ours.exp(), truth)
    close(ours.exp().sum(-1), [1, 1])
    entropy = [-sum(p * math.log(p) for p in row) for row in truth]
    close(mini.token_entropy(float64(scores)[None], temperature), [entropy])


@pytest.mark.parametrize("temperature", [1.0, 1.2])
def test_token_logprobs_gradient(temperature):
    """The textbook gradient of a log-softmax: (one-hot - probabilities) / temperature."""
    logits = float64([[[0.3, -1.0, 2.0, 0.0]]]).requires_grad_()
    p = [math.exp(x / temperature) for x in [0.3, -1.0, 2.0, 0.0]]
    truth = [((token == 2) - p[token] / sum(p)) / temperature for token in range(4)]
    close(gradient(mini.token_logprobs(logits, torch.tensor([[2]]), temperature).sum(), logits), [[truth]])


def test_token_logprobs_of_large_logits_stay_finite():
    """exp(1e4) overflows; the log-prob is just the difference of the scaled logits."""
    logits = float64([[[1e4, 0.0]]])
    close(mini.token_logprobs(logits, torch.tensor([[1]]), 2.0), [[-5e3]])
    close(mini.token_entropy(logits, 2.0), [[0.0]])


def samples_of(*pairs):
    """(prompt, answer) pairs -> samples; distinct advantages, so that a mixed-up row shows."""
    advantages = [0.75, -1.125, 0.5, -0.25][: len(pairs)]  # exact in float32 too
    return [mini.Sample(list(p), list(a), advantage=adv) for (p, a), adv in zip(pairs, advantages, strict=True)]


PAIRS = [([3, 4], [5, EOS]), ([1], [2, 9, 7, 7, EOS]), ([8, 2, 6, 1], [EOS]), ([3, 4], [6, 6, 6])]  # two share one


def more_padding(batch, columns):
    """Prompts wider on the left, answers on the right, and in all padding a word that must not matter."""
    left, right = (columns, 0), (0, columns)
    seen, mask = torch.nn.functional.pad(batch.seen, left), torch.nn.functional.pad(batch.mask, right)
    prompts = torch.where(seen, torch.nn.functional.pad(batch.prompts, left), 10)
    answers = torch.where(mask, torch.nn.functional.pad(batch.answers, right), 10)
    return mini.Batch(prompts, seen, batch.owner, answers, mask)


@pytest.mark.parametrize("training", [False, True], ids=["shared prompts", "whole sequences"])
@pytest.mark.parametrize("extra_padding", [0, 3])
@pytest.mark.parametrize("temperature", [1.0, 1.2])
def test_answer_logprobs_against_full_logits(extra_padding, temperature, training):
    """`model(ids).logits` of each answer alone and unpadded: log-probs, entropies, zeros outside, and the gradient."""
    policy, samples = tiny_policy().train(training), samples_of(*PAIRS)
    batch = more_padding(mini.make_batch(samples, policy.device), extra_padding)
    logp, entropy = mini.answer_logprobs(policy, batch, temperature, with_entropy=True)
    mask = batch.mask
    truth = [plain_logprobs(policy, s.prompt, s.answer, temperature) for s in samples]
    for row, sample in enumerate(samples):
        close(logp[row][mask[row]], truth[row])
        vocabulary = torch.stack([plain_step(policy, sample, i, temperature) for i in range(len(sample.answer))])
        close(entropy[row][mask[row]], -(vocabulary.exp() * vocabulary).sum(-1))
    assert logp[~mask].eq(0).all()
    assert entropy[~mask].eq(0).all()
    ours = sum(s.advantage * logp[row].sum() for row, s in enumerate(samples))
    theirs = sum(s.advantage * truth[row].sum() for row, s in enumerate(samples))
    close(flat_gradient(ours, policy), flat_gradient(theirs, policy))


def plain_step(policy, sample, i, temperature):
    """Log-probs of the whole vocabulary before answer token i, from the prefix alone -> (V,)."""
    prefix = torch.tensor([sample.prompt + sample.answer[:i]])
    return (policy(input_ids=prefix).logits[0, -1] / temperature).log_softmax(-1)


class WideHead(torch.nn.Module):
    """A head that claims 2^26 words, so that even a few hundred tokens are cut into chunks."""

    def __init__(self, head):
        super().__init__()
        self.head, self.rows = head, []
        self.weight = torch.empty(1, 1).expand(2**26, 1)  # takes no memory

    def forward(self, hidden):
        self.rows.append(len(hidden))
        return self.head(hidden)


def test_chunked_head_equals_the_whole_head():
    """The same answers through one call of the head, values and gradient; no chunk holds them all."""
    policy = tiny_policy()
    words = torch.randint(1, 11, (2, 200), generator=torch.Generator().manual_seed(0)).tolist()
    batch = mini.make_batch(samples_of(([1, 2], words[0]), ([3], words[1])), policy.device)
    whole, _ = mini.answer_logprobs(policy, batch, TEMPERATURE)
    head = WideHead(policy.get_output_embeddings())
    policy.get_output_embeddings = lambda: head
    chunked, _ = mini.answer_logprobs(policy, batch, TEMPERATURE)
    assert sum(head.rows) == 400
    assert max(head.rows) < 400
    close(chunked, whole)
    slope = torch.linspace(-1, 1, whole.numel(), dtype=torch.float64).view_as(whole)  # another weight for each token
    close(flat_gradient((chunked * slope).sum(), policy), flat_gradient((whole * slope).sum(), policy))


def test_batch_covers_every_answer_token_up_to_eos():
    """By hand: two prompts and answers of different lengths; prompt and padding out, EOS in."""
    batch = mini.make_batch(samples_of(([3, 4], [5, EOS]), ([1], [EOS]), ([3, 4], [EOS])), "cpu")
    assert batch.prompts.tolist() == [[3, 4], [0, 1]]
    assert batch.seen.tolist() == [[True, True], [False, True]]
    assert batch.owner.tolist() == [0, 1, 0]
    assert batch.mask.tolist() == [[True, True], [True, False], [True, False]]
    assert batch.answers[batch.mask].tolist() == [5, EOS, EOS, EOS]


def test_eos_logit_gets_a_gradient():
    """An answer that is EOS alone: d logp / d bias of a word is (one-hot - probability) / temperature, EOS included."""
    policy = tiny_policy()
    policy.lm_head.bias = torch.nn.Parameter(torch.zeros(11, dtype=torch.float64))
    logp, _ = mini.answer_logprobs(policy, mini.make_batch(samples_of(([3, 4], [EOS])), "cpu"), TEMPERATURE)
    p = plain_logprobs(policy, [3, 4], [EOS]).exp().item()
    ours = gradient(logp.sum(), policy.lm_head.bias)
    close(ours[EOS], (1 - p) / TEMPERATURE)
    assert ours[EOS] > 0.1


@QUICK
@given(st.lists(st.integers(1, 12), min_size=1, max_size=10), st.integers(1, 100))
def test_microbatches_hold_each_sample_once_and_fit(lengths, max_tokens):
    """The definition: a partition, each part at most max_tokens padded tokens unless it is one sample alone."""
    samples = [mini.Sample([1], [2] * n, advantage=i) for i, n in enumerate(lengths)]
    parts = mini.split_microbatches(samples, max_tokens)
    assert sorted(s.advantage for part in parts for s in part) == list(range(len(lengths)))
    assert all(len(part) == 1 or len(part) * max(map(len, part)) <= max_tokens for part in parts)


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


def test_corrected_gradient_is_the_trainers_although_another_distribution_sampled():
    """Exact sum over a vocabulary: tokens come from q, yet E_q[w * ratio * A] has the gradient of E_p[A]."""
    theta = float64([0.3, -0.2, 0.9, 0.1]).requires_grad_()
    q, advantages = float64([0.4, 0.3, 0.2, 0.1]), float64([1.0, -0.5, 0.3, 2.0])
    logp = theta.log_softmax(-1)
    truth = torch.autograd.grad((logp.exp() * advantages).sum(), theta, retain_graph=True)[0]
    w = mini.mismatch_weights(logp.detach(), q.log(), "tis", 0.0, 100.0)
    loss, _ = mini.policy_loss(logp[None], logp.detach()[None], advantages[None], (q * w)[None], 1)
    close(torch.autograd.grad(loss, theta)[0], -truth)


@pytest.mark.parametrize(
    ("kind", "expected"), [("tis", [0.1, 0.5, 1.0, 2.0, 2.0]), ("icepop", [0.0, 0.5, 1.0, 2.0, 0.0])]
)
def test_mismatch_weights_by_hand(kind, expected):
    """Trainer over sampler 1/10, 1/2, 1, 2 and 10 with bounds 1/2 and 2, which belong to the range."""
    old = float64([0.05, 0.25, 0.5, 0.5, 0.5]).requires_grad_()
    weights = mini.mismatch_weights(old.log(), float64([0.5, 0.5, 0.5, 0.25, 0.05]).log(), kind, 0.5 - 1e-9, 2.0 + 1e-9)
    close(weights, expected, rtol=1e-6, atol=1e-8)
    assert not weights.requires_grad


def test_mismatch_weighs_the_surrogate_and_not_the_kl():
    logp, old, ref = (float64([row]).log() for row in ([0.5, 0.2], [0.4, 0.3], [0.3, 0.3]))
    config, advantages, weights = mini.Config(kl_coef=0.5), float64([[1.0]]), torch.ones(1, 2, dtype=torch.float64)
    loss, sums = mini.penalized_loss(logp, old, ref, advantages, weights, 2, config, mismatch=float64([[3.0, 0.0]]))
    kl = sum(r / p - math.log(r / p) - 1 for p, r in ((0.5, 0.3), (0.2, 0.3))) / 2
    close(loss, -(3 * 0.5 / 0.4) / 2 + 0.5 * kl)
    close(sums["kl"], kl)


def test_unknown_mismatch_kind_is_an_error():
    with pytest.raises(ValueError, match="tis or icepop"):
        mini.mismatch_weights(torch.zeros(1), torch.zeros(1), "tiss", 0.5, 5.0)


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


# ============================================================================ 7. step


def settings_for(**changes):
    plain = dict(temperature=TEMPERATURE, microbatch_tokens=1000, kl_coef=0.3, kl_kind="k1", grad_clip=1e9)
    return mini.Config(**{**plain, **changes})


def scored_samples(policy, reference):
    """Four answers sampled by an older policy: ratios inside the clip range but not 1, and a moved reference."""
    samples = samples_of(*PAIRS)
    with torch.no_grad():
        for i, s in enumerate(samples):
            s.old_logp = plain_logprobs(policy, s.prompt, s.answer) + 0.03 * (i - 1.5)
            s.ref_logp = plain_logprobs(reference, s.prompt, s.answer)
    return samples


def run_of(policy, config, reference=None, rate=1.0):
    """A run as far as the loss needs one, with plain gradient descent."""
    optimizer = torch.optim.SGD(policy.parameters(), lr=rate)
    return mini.Run(config, policy, reference, optimizer, tokenizer=None, task=None, generator=None, folder=None)


def step_of(policy, samples, config):
    """One `update` of a copy, by gradient descent with rate 1 -> what it subtracted, its statistics."""
    moved = copy.deepcopy(policy)
    stats = mini.update(run_of(moved, config), samples)
    pairs = zip(policy.parameters(), moved.parameters(), strict=True)
    return torch.cat([(before - after).detach().flatten() for before, after in pairs]), stats


@pytest.mark.parametrize("level", ["token", "sample"])
@pytest.mark.parametrize("microbatch_tokens", [1, 12, 1000])
def test_update_against_a_loop_over_answers(level, microbatch_tokens):
    """Autograd of -ratio * A + 0.3 * log(policy / reference), answer by answer from full logits, then averaged."""
    policy, reference = tiny_policy(0), tiny_policy(1)
    samples = scored_samples(policy, reference)
    terms = []
    for s in samples:
        logp = plain_logprobs(policy, s.prompt, s.answer)
        terms.append(-(logp - s.old_logp).exp() * s.advantage + 0.3 * (logp - s.ref_logp))
    truth = torch.cat(terms).mean() if level == "token" else torch.stack([t.mean() for t in terms]).mean()
    config = settings_for(loss_level=level, microbatch_tokens=microbatch_tokens)
    moved, stats = step_of(policy, samples, config)
    close(stats["loss"], truth, rtol=1e-6)
    close(moved, flat_gradient(truth, policy), rtol=1e-6, atol=1e-7)
    close(stats["grad_norm"], flat_gradient(truth, policy).norm(), rtol=1e-6)
    assert stats["tokens"] == 11
    assert stats["skipped"] == 0


@pytest.mark.parametrize("kind", ["k2", "k3"])
def test_update_does_not_depend_on_the_cut(kind):
    """The mini-batch as one piece, against one answer at a time, with the estimators that are not linear."""
    policy, reference = tiny_policy(0), tiny_policy(1)
    samples = scored_samples(policy, reference)
    truth, stats = step_of(policy, samples, settings_for(kl_kind=kind))
    moved, cut_stats = step_of(policy, samples, settings_for(kl_kind=kind, microbatch_tokens=1))
    close(moved, truth)
    assert cut_stats == pytest.approx(stats)


def test_first_update_is_exactly_on_policy():
    """Full logits of both models; from other micro-batches than the update's, the ratio is 1 and the loss minus A."""
    policy, reference = tiny_policy(0), tiny_policy(1)
    samples, waiting = samples_of(*PAIRS[:3]), samples_of(PAIRS[3])
    run = run_of(policy, settings_for(microbatch_tokens=7), reference)
    run.state.surplus.append(waiting)
    mini.add_logprobs(run, [samples])
    for sample in samples + waiting:
        close(sample.old_logp, plain_logprobs(policy, sample.prompt, sample.answer))
    for sample in samples:
        close(sample.ref_logp, plain_logprobs(reference, sample.prompt, sample.answer))
        sample.advantage = 1.5
    close(step_of(policy, samples, settings_for(kl_coef=0.0))[1]["loss"], -1.5)


def test_old_logprobs_are_those_of_the_policy_that_wrote():
    """By definition: scored again after the policy has moved, a surplus answer keeps its first log-probs."""
    policy, samples = tiny_policy(0), samples_of(*PAIRS)
    mini.add_logprobs(run_of(policy, settings_for(kl_coef=0.0)), [samples])
    mini.add_logprobs(run_of(tiny_policy(1), settings_for(kl_coef=0.0)), [samples])
    for sample in samples:
        close(sample.old_logp, plain_logprobs(policy, sample.prompt, sample.answer))


def test_training_on_an_answer_makes_its_end_likelier():
    """Probability of EOS after the answer's last word, from full logits, before and after one small step."""
    policy = tiny_policy()
    sample = mini.Sample([3, 4], [7, EOS], advantage=1.0, old_logp=plain_logprobs(policy, [3, 4], [7, EOS]).detach())
    before = plain_logprobs(policy, [3, 4, 7], [EOS]).item()
    mini.update(run_of(policy, settings_for(kl_coef=0.0), rate=1e-3), [sample])
    assert plain_logprobs(policy, [3, 4, 7], [EOS]).item() > before + 1e-4


def test_update_that_is_not_finite_is_skipped():
    """NaN inside the mask is a broken batch: counted, and no weight moves."""
    policy = tiny_policy()
    samples = scored_samples(policy, tiny_policy(1))
    samples[1].old_logp[2] = math.nan
    moved, stats = step_of(policy, samples, settings_for(microbatch_tokens=12))
    assert stats["skipped"] == 1
    assert moved.eq(0).all()


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


def same(left, right):
    return all(torch.equal(left[key], right[key]) for key in left | right)


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


def resets_of(scores, kl=lambda step: 0.01, entropy=lambda step: 0.5, **changes):
    """Play 90 steps of the training loop with an evaluation every 10 -> the steps at which it would reset."""
    config = mini.Config(**{**dict(reset_every=0, reset_on_stall=0, reset_min_spacing=20), **changes})
    history, resets, dynamics = [], [0], []
    for step in range(1, 91):
        dynamics = [*dynamics, (step, kl(step), entropy(step))][-mini.RECENT :]  # what a resumed run finds, no more
        if step % 10 == 0 and scores and scores[step // 10 - 1] is not None:
            history.append((step, scores[step // 10 - 1]))
        if mini.should_reset(step, resets[-1], history, config, dynamics):
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
        ([], dict(kl=lambda step: 0.5 if step > 41 else 0.01, reset_kl_above=0.1), [44, 64, 84]),  # median of five
        ([], dict(kl=lambda step: 50.0 if step % 3 == 0 else 0.01, reset_kl_above=0.1), []),  # spikes are outliers
        ([], dict(kl=lambda step: None, reset_kl_above=0.1), []),  # steps without an update
        ([], dict(kl=lambda step: 0.5, reset_kl_above=0.1, reset_min_spacing=1), list(range(5, 91, 5))),
        ([], dict(entropy=lambda step: 1 - step / 90, reset_entropy_below=0.5), [48, 68, 88]),
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
        "should_reset: dynamics": [
            *[50, 0, [(10, 0.3)], mini.Config(reset_every=0, reset_on_drop=0.1, reset_kl_above=0.1)],
            [(step, 0.2, 0.5) for step in range(46, 51)],
        ],
        "batch_advantages": [[rewards[0], rewards[1]], [torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])]],
        **{f"mismatch_weights: {kind}": [old, logp, kind, 0.5, 5.0] for kind in ("tis", "icepop")},
    }


@pytest.mark.parametrize("name", list(calls()))
def test_inputs_are_unchanged(name):
    """A deep copy taken before the call; and PyTorch's own count of writes to a tensor."""
    function, args = getattr(mini, name.split(":")[0]), calls()[name]
    before, versions = copy.deepcopy(args), [getattr(x, "_version", 0) for x in leaves(args)]
    function(*args)
    assert [getattr(x, "_version", 0) for x in leaves(args)] == versions
    for old, new in zip(leaves(before), leaves(args), strict=True):
        if isinstance(old, torch.nn.Module):
            assert same(old.state_dict(), new.state_dict())
        else:
            assert np.array_equal(old, new)


EXAMPLES = [
    *(
        "prorl_mini",
        "prorl_lab.board",
        "prorl_lab.errors",
        "prorl_lab.report",
        "prorl_lab.scoring.extract",
        "prorl_scale.batch",
    ),
    *("prorl_scale.health", "prorl_scale.mfu", "prorl_scale.plan", "prorl_scale.status"),
]


@pytest.mark.parametrize("module", EXAMPLES)
def test_worked_examples_in_docstrings(module):
    """What the docstrings print."""
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert attempted > 0
    assert failed == 0
