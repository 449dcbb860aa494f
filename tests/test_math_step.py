"""From logits to an optimizer step, against `model(ids).logits` of a two-cent Qwen2, one answer at a time."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import prorl_mini as mini
from prorl_lab import models
from tests.exact import (
    EOS,
    PAIRS,
    QUICK,
    TEMPERATURE,
    close,
    flat_gradient,
    float64,
    gradient,
    plain_logprobs,
    samples_of,
    tiny_policy,
)

pytestmark = pytest.mark.usefixtures("one_thread")

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


@pytest.mark.parametrize("ruled_out", [0, 1, 3])
def test_entropy_where_words_are_ruled_out(ruled_out):
    """Logits of -inf: by plain sums over the words that are left, whose number may be one."""
    left = [0.3, -1.0, 2.0, 0.0][ruled_out:]
    p = [math.exp(x / TEMPERATURE) / sum(math.exp(y / TEMPERATURE) for y in left) for x in left]
    logits = float64([[left + [-math.inf] * ruled_out]])
    close(mini.token_entropy(logits, TEMPERATURE), [[-sum(x * math.log(x) for x in p)]])


def test_token_logprobs_of_large_logits_stay_finite():
    """exp(1e4) overflows; the log-prob is just the difference of the scaled logits."""
    logits = float64([[[1e4, 0.0]]])
    close(mini.token_logprobs(logits, torch.tensor([[1]]), 2.0), [[-5e3]])
    close(mini.token_entropy(logits, 2.0), [[0.0]])


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


# ============================================================================ 7. step


@pytest.mark.parametrize("count", [1, 3, 4, 7])
@pytest.mark.parametrize("groups", [0, 1, 2, 4, 5, 9, 13, 32])
def test_mini_batches_differ_by_one_group_at_most(groups, count):
    """By definition: whole groups, each once and in their order, in as many parts as there can be, sizes within one."""
    parts = mini.mini_batches([[(group, answer) for answer in range(2)] for group in range(groups)], count)
    assert [sample for part in parts for sample in part] == [(group, i) for group in range(groups) for i in range(2)]
    assert len(parts) == min(groups, count)
    sizes = {len(part) for part in parts}
    assert not sizes or max(sizes) - min(sizes) <= 2
    assert all(size % 2 == 0 for size in sizes)


def test_the_kl_of_a_step_is_a_mean_over_its_tokens():
    """Mini-batches of 30 and of 10 tokens with 0.1 and 0.5 a token: (30 * 0.1 + 10 * 0.5) / 40; the first is 0.1."""
    figures = iter([(0.1, 30.0, 3.0), (0.5, 10.0, 1.0)])

    class Run(mini.Run):
        def update(self, samples):
            kl, tokens, clipped = next(figures)
            clips = {"clip_low": clipped, "clip_high": 0.0}
            return {"loss": 1.0, "kl": kl, **clips, "tokens": tokens, "grad_norm": 2.0, "skipped": 0.0}

    config = settings_for(updates_per_step=2, gradient_checkpointing=False)
    stats = mini.update_all(Run(config, tiny_policy(), *[None] * 6), [[1], [2]])
    close(stats["kl"], 8 / 40)
    close(stats["kl_first"], 0.1)
    close(stats["clip_low"], 4 / 40)


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


# ------------------------------------------------------------------ bfloat16


def halves(*shape, seed=0):
    return (4 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


def test_the_head_of_a_bfloat16_run_does_not_round_its_logits():
    """Products of bfloat16 are exact in float32; rounded to 8 bits, logits of this size are off by up to half a nat."""
    hidden, weight = halves(5, 16), halves(50, 16, seed=1)
    exact = hidden.double() @ weight.double().T
    logits = models.accurate_product(hidden, weight.T)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), exact, rtol=1e-6, atol=1e-4)
    assert (hidden @ weight.T - exact).abs().max() > 0.1
    wide = hidden.double()
    assert torch.equal(models.accurate_product(wide, weight.double().T), exact)  # other dtypes keep theirs


def test_gradient_of_the_accurate_head_is_that_of_the_plain_one():
    """To the precision of bfloat16, in which both are computed; also through rows of rows."""
    upstream = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(2))
    found = []
    for product in (models.AccurateHead.apply, lambda h, w: h.float() @ w.float().T):
        hidden, weight = halves(2, 3, 16).requires_grad_(), halves(50, 16, seed=1).requires_grad_()
        made = product(hidden, weight)
        found.append((made, *torch.autograd.grad(made, (hidden, weight), upstream)))
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=0.2)


def test_a_bfloat16_run_scores_with_float32_logits():
    """In autocast, where the head module itself would answer in bfloat16; with a bias, too."""
    policy = tiny_policy().float()
    policy.lm_head.bias = torch.nn.Parameter(torch.full((11,), 0.123456))
    hidden = torch.randn(3, policy.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), models.autocast(SimpleNamespace(dtype="bfloat16", device="cpu")):
        rounded, logits = policy.lm_head(hidden), models.logits(policy, hidden)
    assert rounded.dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    weight = policy.lm_head.weight.bfloat16().double()
    torch.testing.assert_close(logits.double(), hidden.bfloat16().double() @ weight.T + 0.123456, rtol=1e-5, atol=1e-5)
