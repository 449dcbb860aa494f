"""What the tests of the mathematics share: exact sums over a tiny vocabulary, a two-cent Qwen2, ways to compare.

Everything is float64, so that two ways to one number agree to 1e-9 and a wrong formula can't hide in the tolerance.
"""

import math

import torch
from hypothesis import settings
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


def samples_of(*pairs):
    """(prompt, answer) pairs -> samples; distinct advantages, so that a mixed-up row shows."""
    advantages = [0.75, -1.125, 0.5, -0.25][: len(pairs)]  # exact in float32 too
    return [mini.Sample(list(p), list(a), advantage=adv) for (p, a), adv in zip(pairs, advantages, strict=True)]


PAIRS = [([3, 4], [5, EOS]), ([1], [2, 9, 7, 7, EOS]), ([8, 2, 6, 1], [EOS]), ([3, 4], [6, 6, 6])]  # two share one


def same(left, right):
    return all(torch.equal(left[key], right[key]) for key in left | right)
