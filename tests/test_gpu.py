"""What has to hold on a GPU.  The same bodies run on the CPU, so that their logic is proven on machines without one.

`make gpu-check` runs the variants marked `gpu` and prints one table.  Of the CPU's, those that start vLLM are `slow`.
MODEL names the Hugging Face model of the last checks on a GPU; on a CPU it is a random one.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

import prorl_mini as mini
from prorl_lab import laptop
from prorl_scale import batch, policy, train
from prorl_scale.config import Config
from tests.scale_worker import gradient
from tests.test_scale_parity import CASES, build_model, frozen_samples, through_mini

ROOT = Path(__file__).parents[1]
MODEL = os.environ.get("MODEL", "Qwen/Qwen2.5-0.5B-Instruct")
GPU = pytest.param("cuda", marks=pytest.mark.gpu)
NO_VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: requirements.txt or requirements-cpu.txt"
)
WITH_VLLM = pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), GPU], indirect=True)
# What rounding alone may cost, as a share of the exact value's norm.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
both_precisions = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(params=["cpu", GPU])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU found")
    return request.param


@pytest.fixture(scope="module")
def world():
    """A process group of this process alone, for both kinds of device."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def assert_close(record_property, ours, exact, dtype):
    """Compare tensors of any device and dtype; the error becomes a figure of the table."""
    pairs = [(a.detach().cpu().double(), b.detach().cpu().double()) for a, b in zip(ours, exact, strict=True)]
    error = max(((a - b).norm() / b.norm()).item() for a, b in pairs)
    record_property("figure", f"error {error:.1e}")
    assert error < TOLERANCE[dtype]


# ------------------------------------------------------------------ the trainer's arithmetic


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


# ------------------------------------------------------------------ vLLM beside the trainer


def launch(*command):
    """One process under torchrun, to the end."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if not torch.cuda.is_available():
        environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [*start, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]


@NO_VLLM
@WITH_VLLM
@pytest.mark.parametrize("level", [1, 2])
def test_sleep_push_wake_and_canary(device, tmp_path, record_property, level):
    """The sampler follows the trainer through a push, also after sleep; a push that is left out is noticed."""
    model, dtype = MODEL, "bfloat16"
    if device == "cpu":
        model, dtype = tmp_path / "model", "float32"
        laptop.build_model(laptop.WarmUp(), 202).save_pretrained(model)  # vLLM knows no heads as narrow as the others'
        laptop.build_tokenizer().save_pretrained(model)
    launch("tests/gpu_worker.py", model, device, dtype, level, tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    gaps = result["canary"] + result["answers"]
    freed = f", sleep freed {result['freed'] / 2**30:.1f} GiB" if device == "cuda" else ""
    record_property("figure", f"gap {max(gaps):.1e} nats per token{freed}")
    assert max(gaps) < (0.05 if device == "cuda" else 1e-4)
    assert result["moved"] > max(gaps)  # the push changed the sampler by more than the two differ
    assert "did not arrive" in result["left_out"]
    assert device == "cpu" or result["freed"] > 2**30


@NO_VLLM
@WITH_VLLM
def test_three_steps_with_save_resume_and_export(device, tmp_path, record_property):
    """Two steps, saved; a third after --resume; the export opens in transformers and has changed."""
    out = tmp_path / "run"
    settings = ["--steps", 2, "--save-every", 1, "--answers-per-prompt", 8, "--prompts-per-step", 8, "--eval-every", 0]
    settings += ["--boundary-prompts", 0, "--reset-every", 2, "--reset-min-spacing", 1, "--tensorboard", "--out", out]
    if device == "cuda":
        command = ["-m", "prorl_scale.train"]
        settings += ["--model", MODEL, "--task", "chain_sum,leg_counting", "--max-new-tokens", 256]
    else:
        command = ["tests/scale_run.py", "vllm", "none"]
        settings += ["--model", "laptop", "--warm-up-steps", 0, "--base-cache", tmp_path, "--max-new-tokens", 3]
    launch(*command, *settings)
    launch(*command, "--resume", out, "--steps", 3)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "event" not in row]
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert any(row.get("event") == "reset" for row in rows)
    assert all(row["skipped_updates"] == 0 for row in steps)
    assert all(row["peak_memory"] > 0 for row in steps)
    assert (steps[-1]["mfu"] is None) == (device == "cpu" or not in_the_table())
    base, last = (AutoModelForCausalLM.from_pretrained(out / name).state_dict() for name in ("base", "last"))
    assert any(not torch.equal(base[name], last[name]) for name in base)
    AutoTokenizer.from_pretrained(out / "last")
    mfu = "" if steps[-1]["mfu"] is None else f", mfu {steps[-1]['mfu']:.0%}"
    record_property(
        "figure",
        f"gap {max(row['canary'] for row in steps):.1e}, {steps[-1]['tokens_per_second']:.0f} trained tokens/s{mfu}, "
        f"{max(row['peak_memory'] for row in steps) / 2**30:.1f} GiB",
    )


def in_the_table():
    return train.mfu.peak_flops(torch.cuda.get_device_name()) is not None
