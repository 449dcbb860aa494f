"""The trainer's arithmetic on a GPU, against float32 on the CPU.  The first of `make gpu-check`.

The same bodies run on the CPU, so that their logic is proven on machines without a GPU; those marked `gpu` need one.
"""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import varlen

import prorl_mini as mini
from prorl_lab import adapters, laptop, lean, models
from prorl_scale import batch, policy, train
from prorl_scale.config import Config
from tests.scale_worker import gradient
from tests.test_scale_parity import CASES, build_model, frozen_samples, through_mini

# What rounding alone may cost, as a share of the exact value's norm.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
both_precisions = pytest.mark.parametrize("dtype", TOLERANCE)


def assert_close(record_property, ours, exact, dtype):
    """Compare tensors of any device and dtype; the error becomes a figure of the table."""
    pairs = [(a.detach().cpu().double(), b.detach().cpu().double()) for a, b in zip(ours, exact, strict=True)]
    error = max(((a - b).norm() / b.norm()).item() for a, b in pairs)
    record_property("figure", f"error {error:.1e}")
    assert error < TOLERANCE[dtype]


# ------------------------------------------------------------------ the trainer's arithmetic


@both_precisions
def test_gradient_of_mini(device, record_property, dtype):
    """One padded update of prorl_mini, recomputed layers included, against the same in float32 on the CPU."""
    settings = CASES["no penalty"] | {"eps_low": 0.99, "eps_high": 1e3}  # a clip turns rounding into jumps
    expected = through_mini(settings)
    config = mini.Config(**settings | {"device": device, "dtype": dtype, "gradient_checkpointing": True})
    model = build_model().to(device)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    run = mini.Run(config, model.train(), None, torch.optim.AdamW(model.parameters()), None, None, None, None)
    kept = {}
    run.optimizer.step = lambda: kept.update({name: p.grad.clone() for name, p in model.named_parameters()})
    with models.autocast(config):
        mini.update(run, frozen_samples())
    names = sorted(kept)
    whole = [torch.cat([gradient[name].flatten().cpu() for name in names]) for gradient in (kept, expected.gradient)]
    assert_close(record_property, whole[:1], whole[1:], dtype)


@both_precisions
def test_loss_and_gradient(device, world, tmp_path, monkeypatch, record_property, dtype):
    """One packed, sharded, chunked update against prorl_mini's padded one in float32 on the CPU."""
    settings = CASES["no penalty"] | {"eps_low": 0.99, "eps_high": 1e3}  # a clip turns rounding into jumps
    expected = through_mini(settings)
    build_model().save_pretrained(tmp_path)
    laptop.build_tokenizer().save_pretrained(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "0")
    config = Config(**settings | {"device": device, "dtype": dtype})
    scorer, reference, _ = policy.load(config, str(tmp_path))
    assert scorer.device.type == device
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=config.learning_rate, fused=True)
    run = train.Run(config, scorer, reference, optimizer, None, None, None, None)
    ours = gradient(run, [train.Sample(**vars(s)) for s in frozen_samples()])
    whole = [torch.cat([g[name].flatten().cpu() for name in sorted(g)]) for g in (ours["gradient"], expected.gradient)]
    loss = [torch.tensor([result["loss"]]) for result in (ours["stats"], expected.stats)]
    assert_close(record_property, [whole[0], loss[0]], [whole[1], loss[1]], dtype)


def packed_inputs(dtype, device):
    """Two prompts with three answers of uneven length each, six query heads on two of keys and values.

    -> query, key and value of the packed row, the arguments of attention, and the row's places of each sample.
    """
    draw = torch.Generator().manual_seed(0)
    prompts, lengths = [[1], [2] * 40], [[8, 33, 2], [70, 1, 9]]
    samples = [mini.Sample(p, [3] * n) for p, each in zip(prompts, lengths, strict=True) for n in each]
    packed = batch.pack(samples, device)
    rows, end = [], 0
    for prompt, each in zip(prompts, lengths, strict=True):
        shared = [*range(end, end := end + len(prompt))]
        rows += [[*shared, *range(end, end := end + n - 1)] for n in each]
    shapes = ((1, 6, end, 64), (1, 2, end, 64), (1, 2, end, 64))
    tensors = [torch.randn(shape, generator=draw) for shape in shapes]
    q, k, v = (t.to(getattr(torch, dtype)).to(device).requires_grad_() for t in tensors)
    return (q, k, v), {"pieces": packed.pieces, "scaling": 0.2}, rows


@both_precisions
def test_packed_attention(device, record_property, dtype):
    """Values and gradients against each sample alone, in float32 on the CPU, softmax written out."""
    inputs, how, rows = packed_inputs(dtype, device)
    out, _ = policy.packed_attention(None, *inputs, None, **how)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(out, inputs, upstream.to(out))
    exact = [t.detach().cpu().float().requires_grad_() for t in inputs]
    q, k, v = exact[0], *(t.repeat_interleave(3, 1) for t in exact[1:])
    expected = torch.zeros(out.shape)
    for row in rows:  # the places of a shared prompt come several times, and are the same each time
        scores = q[:, :, row] @ k[:, :, row].transpose(2, 3) * how["scaling"]
        scores = scores.masked_fill(torch.ones(len(row), len(row)).triu(1).bool(), -torch.inf)
        expected = expected.index_copy(1, torch.tensor(row), (scores.softmax(-1) @ v[:, :, row]).transpose(1, 2))
    assert_close(
        record_property, [out, *ours], [expected, *torch.autograd.grad(expected, exact, upstream)], dtype
    )  # fmt: skip


def as_documented(q, k, v, q_starts, k_starts, longest_q, longest_k, *, scale, window_size, enable_gqa):
    """What `varlen_attn` computes by its documentation, a piece at a time: causal, aligned at the end, in a window."""
    assert max(q_starts.diff().tolist()) <= longest_q
    assert max(k_starts.diff().tolist()) <= longest_k
    left, right = window_size
    out = []
    for a, b, c, d in zip(q_starts, q_starts[1:], k_starts, k_starts[1:], strict=False):
        distance = torch.arange(b - a)[:, None] + (d - c) - (b - a) - torch.arange(d - c)  # of a key behind its query
        mask = (distance >= -right) & ((distance <= left) | torch.tensor(left < 0))
        piece = (x[None].transpose(1, 2) for x in (q[a:b], k[c:d], v[c:d]))
        out.append(F.scaled_dot_product_attention(*piece, attn_mask=mask, scale=scale, enable_gqa=enable_gqa))
    return torch.cat(out, 2)[0].transpose(0, 1)


@pytest.mark.parametrize("window", [None, 5])
def test_what_the_kernel_for_ragged_rows_is_given(monkeypatch, window):
    """The branch of a GPU, with torch's kernel by its documentation: values and gradients of the other branch."""
    (q, k, v), how, _ = packed_inputs("float32", "cpu")
    monkeypatch.setattr(varlen, "varlen_attn", as_documented)
    keys, values = (policy.take(x, 2, how["pieces"].keys) for x in (k, v))
    ragged = policy._ragged(q, keys, values, how["pieces"], window, how["scaling"])
    usual, _ = policy.packed_attention(None, q, k, v, None, sliding_window=window, **how)
    torch.testing.assert_close(ragged, usual)
    upstream = torch.randn(usual.shape, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(*(torch.autograd.grad(x, (q, k, v), upstream) for x in (ragged, usual)), strict=True):
        torch.testing.assert_close(ours, theirs)


@both_precisions
def test_packed_attention_does_not_leak(device, record_property, dtype):
    """Another first group and other last answers: the answer between them comes out bit for bit the same."""
    (q, k, v), how, rows = packed_inputs(dtype, device)
    before, _ = policy.packed_attention(None, q, k, v, None, **how)
    changed = [t.detach().clone() for t in (q, k, v)]
    for t in changed:
        t[:, :, : rows[3][0]] += 1
        t[:, :, rows[3][-1] + 1 :] -= 1
    after, _ = policy.packed_attention(None, *changed, None, **how)
    kept = rows[3]
    record_property("figure", "bit for bit")
    assert torch.equal(before[:, kept], after[:, kept])
    assert not torch.equal(before, after)


@both_precisions
def test_chunked_head(device, monkeypatch, record_property, dtype):
    """Log-probs, entropies and gradients against full logits in float32 on the CPU."""
    monkeypatch.setattr(policy, "LOGITS_AT_ONCE", 4000)  # several chunks, also with LARGER_ON_GPU
    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(200, 64, generator=draw), torch.randn(1000, 64, generator=draw) / 8]
    hidden, weight = (t.to(getattr(torch, dtype)).to(device).requires_grad_() for t in tensors)
    targets = torch.randint(1000, (200,), generator=draw)
    upstream = torch.randn(200, generator=draw)
    logp, entropy = policy.ChunkedLogprobs.apply(hidden, weight, targets.to(device), 1.2, True)
    ours = torch.autograd.grad(logp, (hidden, weight), upstream.to(logp))
    exact = [t.detach().cpu().float().requires_grad_() for t in (hidden, weight)]
    rows = F.log_softmax(exact[0] @ exact[1].T / 1.2, -1)
    expected = rows[torch.arange(200), targets]
    exact_entropy = -(rows.exp() * rows).sum(-1)
    gradients = torch.autograd.grad(expected, exact, upstream)
    assert_close(record_property, [logp, entropy, *ours], [expected, exact_entropy, *gradients], dtype)


# ------------------------------------------------------------------ what one GPU keeps smaller


LEAN = {
    "bfloat16_reference": {"bfloat16_reference": True},
    "offload_reference": {"offload_reference": True},
    "both": {"bfloat16_reference": True, "offload_reference": True},
    "lora_rank": {"lora_rank": 4},
}


@pytest.mark.parametrize("name", LEAN)
def test_a_reference_kept_smaller_scores_the_same_bits(device, record_property, name):
    """Before any update and after a reset each log-prob is the policy's, in bfloat16; an offloaded one went home."""
    config = mini.Config(device=device, dtype="bfloat16", seed=0, learning_rate=1e-2, **LEAN[name])
    policy = build_model()
    if config.lora_rank:
        pytest.importorskip("peft", reason="peft is not installed: pip install -r requirements-options.txt")
        adapters.add(policy, config.lora_rank, config.seed)
    policy = policy.to(device)
    reference, optimizer = lean.reference_of(policy, config), lean.adam_of(policy, config)
    reset = adapters.run_class(mini.Run, config).reset_reference
    batch_ = mini.make_batch(frozen_samples(), device)

    def scored():
        with models.autocast(config), torch.no_grad(), lean.present(reference, policy.device):
            return [mini.answer_logprobs(model, batch_, 1.2)[0] for model in (policy, reference)]

    assert torch.equal(*scored())
    with models.autocast(config):
        mini.answer_logprobs(policy, batch_, 1.2)[0].sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    assert not torch.equal(*scored())
    reset(policy, reference, optimizer)
    assert torch.equal(*scored())
    record_property("figure", "bit for bit")
    assert reference.device.type == ("cpu" if config.offload_reference else device)


def test_adam_in_8_bits(device, record_property):
    """Twenty updates beside those of Adam in float32 on the CPU: the way they went, to a tenth."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install -r requirements-options.txt")
    ways = []
    for place, eight in (("cpu", False), (device, True)):
        torch.manual_seed(0)
        layer = torch.nn.Linear(64, 128)
        before, layer = layer.weight.detach().clone(), layer.to(place)
        config = mini.Config(learning_rate=1e-3, adam_8bit=eight)
        optimizer = lean.adam_of(layer, config)
        for step in range(20):
            inputs = torch.randn(16, 64, generator=torch.Generator().manual_seed(step)).to(place)
            (layer(inputs) ** 2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        ways.append(layer.weight.detach().cpu() - before)
    error = ((ways[1] - ways[0]).norm() / ways[0].norm()).item()
    record_property("figure", f"error {error:.1e}")
    assert 0 < error < 0.1
