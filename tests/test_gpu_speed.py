"""What only a GPU can measure: memory of an update beside the plan, speed, and two short learning runs.

The third group of `make gpu-check`.  On the CPU the same bodies run on a model of two narrow layers and prove their
logic alone.  MODEL: a folder with a pretrained model, for the last check.
"""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

import prorl_mini as mini
from prorl_lab import adapters, cost, devices, hub, lean, mfu, models, settings
from prorl_lab import memory as lab_memory
from prorl_lab.shapes import Shape
from prorl_scale import batch, memory, policy, recipes, train
from prorl_scale.config import Config
from tests.test_scale_parity import BASE

SHAPES = {
    "0.5B": Shape(896, 24, 14, 2, 64, 4864, 151_936, tied=True),  # Qwen2.5-0.5B
    "1.5B": hub.SHAPES[recipes.R1_DISTILL],
    "tiny": Shape(64, 2, 4, 2, 16, 128, 300, tied=True),
}
MODEL = Path(os.environ.get("MODEL", "no model"))


def at_size(device, name):
    """The shape to try on this device: the real one needs a GPU."""
    return SHAPES["tiny" if device == "cpu" else name]


def build(shape, device):
    """Random weights, float32, made where they stay."""
    torch.manual_seed(0)
    with torch.device(device):
        return Qwen2ForCausalLM(Qwen2Config(
            vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
            tie_word_embeddings=shape.tied, max_position_embeddings=32768,
        )).eval()  # fmt: skip


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def figures_of(device, seconds, groups, shape, config):
    """Trained tokens a second; and on a known GPU the share of its peak, and what the plan expects."""
    tokens = sum(sum(answers) for _, answers in groups)
    text = f"{tokens / seconds:,.0f} answer tokens/s"
    found = devices.named(torch.cuda.get_device_name()) if device == "cuda" else None
    if found:
        flops = 3 * sum(mfu.forward_flops(shape.size, groups))
        recompute = config.gradient_checkpointing
        planned = cost.pass_seconds(cost.Site(shape, found), groups, 10**9, backward=True, checkpointing=recompute)
        planned += cost.optimizer_seconds(cost.Site(shape, found))
        text += f", MFU {flops / seconds / found.flops:.0%}, {seconds:.2f} s (plan {planned:.2f})"
    return text


@pytest.mark.parametrize("checkpointing", [True, False], ids=["recomputed", "kept"])
@pytest.mark.parametrize("name", ["0.5B", "1.5B"])
def test_an_update_at_size(device, world, monkeypatch, record_property, name, checkpointing):
    """One micro-batch of answers of 2,048 tokens, 4 to a prompt of 256: peak memory and time beside the plan's."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    shape, answer = at_size(device, name), 2048 if device == "cuda" else 16
    config = Config(**BASE | {"device": device, "dtype": "bfloat16", "gradient_checkpointing": checkpointing})
    model = build(shape, device)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    policy.check_packing(model)
    scorer = policy.shard(policy.Scorer(model), config).train(checkpointing)
    adam = torch.optim.AdamW(scorer.parameters(), lr=1e-6, fused=True)
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(shape.vocabulary, (2, 256 + 4 * answer), generator=draw).tolist()
    samples = [train.Sample(row[:256], row[256 + i * answer : 256 + (i + 1) * answer]) for row in ids for i in range(4)]
    if name == "1.5B" and not checkpointing:
        samples = samples[:4]  # as many as fit without recomputation
    packed = batch.pack(samples, scorer.device)

    def update():
        logp, _ = scorer(packed, 1.2)
        (-logp.mean()).backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        wait(device)

    update()  # makes Adam's moments, compiles kernels
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    update()
    seconds = time.perf_counter() - start
    groups = [(256, [answer] * 4)] * (len(samples) // 4)
    text = figures_of(device, seconds, groups, shape, config)
    tokens = packed.ids.shape[1]
    _, planned = memory.update_peak(shape, 1, tokens, True, checkpointing, gpu=device == "cuda")
    stay = memory.shards(shape, 1)
    expected = sum(planned.values()) + sum(stay.values()) - stay["reference, shard"]
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
        text += f", peak {peak / 1e9:.1f} GB (plan {expected / 1e9:.1f})"
    record_property("figure", text)
    if device == "cuda":
        assert peak == pytest.approx(expected, rel=0.2)
    assert all(p.isfinite().all() for p in scorer.parameters())


@pytest.mark.parametrize("changes", [{"adam_8bit": True}, {"lora_rank": 32}], ids=["8-bit Adam", "adapters"])
def test_an_update_of_mini_at_size(device, record_property, changes):
    """Two micro-batches of answers of 1,024 tokens: peak memory beside that of `--dry-run`."""
    pytest.importorskip("peft" if "lora_rank" in changes else "bitsandbytes")
    shape, answer = at_size(device, "1.5B"), 1024 if device == "cuda" else 16
    sizes = dict(max_prompt_tokens=64, max_new_tokens=answer, microbatch_tokens=4 * (64 + answer))
    plain = mini.Config(model="some/model", dtype="bfloat16", gradient_checkpointing=True, **sizes, **changes)
    config = dataclasses.replace(settings.resolve(plain), device=device)
    model = build(shape, device)
    if config.lora_rank:
        adapters.add(model, config.lora_rank, seed=0)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    run = mini.Run(config, model, None, lean.adam_of(model, config), None, None, None, None)
    old = torch.zeros(answer)
    samples = [mini.Sample([5 + i] * 64, [6] * answer, advantage=1.0, old_logp=old, ref_logp=old) for i in range(8)]

    def update():
        model.train()
        with models.autocast(config):
            mini.update(run, samples)
        wait(device)

    update()  # makes Adam's moments
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    update()
    text = f"{time.perf_counter() - start:.2f} s"
    held = {name: size for name, size in lab_memory.stays(shape, config).items() if name != "reference"}
    planned = sum(held.values()) + max(sum(terms.values()) for terms in lab_memory.updating(shape, config).values())
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
        text += f", peak {peak / 1e9:.1f} GB (plan {planned / 1e9:.1f})"
        assert peak == pytest.approx(planned, rel=0.2)
    record_property("figure", text)
    assert all(p.isfinite().all() for p in model.parameters())


def test_chunks_of_the_head(device, monkeypatch, record_property):
    """Time of the chunked head, forward and backward, at several sizes; `policy.LARGER_ON_GPU` should be a good one."""
    shape = at_size(device, "1.5B")
    tokens = 8192 if device == "cuda" else 64
    hidden = torch.randn(tokens, shape.hidden, device=device).bfloat16().requires_grad_()
    weight = (0.02 * torch.randn(shape.vocabulary, shape.hidden, device=device)).bfloat16().requires_grad_()
    targets = torch.randint(shape.vocabulary, (tokens,), device=device)
    took, values = {}, []
    for larger in (1, 4, 8, 32):
        monkeypatch.setattr(policy, "LARGER_ON_GPU", larger)
        for _ in range(2):  # the first warms up
            wait(device)
            start = time.perf_counter()
            logp, _ = policy.ChunkedLogprobs.apply(hidden, weight, targets, 1.2, False)
            logp.sum().backward()
            wait(device)
            took[larger] = time.perf_counter() - start
        values.append(logp.detach())
    for other in values[1:]:
        torch.testing.assert_close(other, values[0], rtol=1e-2, atol=1e-2)
    record_property("figure", ", ".join(f"x{larger} {seconds * 1e3:.0f} ms" for larger, seconds in took.items()))


def test_rollout_of_mini(device, record_property):
    """Tokens a second of prorl_mini's own sampler, and that an answer's weights are cast once."""
    shape, length = at_size(device, "1.5B"), 128 if device == "cuda" else 8
    model = build(shape, device)
    config = Config(**BASE | {"device": device, "dtype": "bfloat16"})
    draw = torch.Generator(device).manual_seed(0)
    prompts = [[5 + i] * 64 for i in range(8)]
    with models.autocast(config):
        mini.rollout(model, prompts, 8, 4, 1.2, [0], draw)  # warms up
        wait(device)
        start = time.perf_counter()
        answers = mini.rollout(model, prompts, 8, length, 1.2, [0], draw)
        wait(device)
    seconds = time.perf_counter() - start
    assert len(answers) == 64
    record_property(
        "figure", f"{sum(map(len, answers)) / seconds:,.0f} tokens/s, {seconds / length * 1e3:.1f} ms a token"
    )


def learns(out, record_property, **settings):
    """A short run of prorl_mini -> share solved in its first and last five steps."""
    start = time.perf_counter()
    mini.train(mini.Config(out=str(out), boundary_prompts=0, eval_every=0, **settings))
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "event" not in row]
    first, last = (sum(row["solved"] for row in part) / len(part) for part in (steps[:5], steps[-5:]))
    record_property(
        "figure", f"solved {first:.2f} to {last:.2f} in {len(steps)} steps, {time.perf_counter() - start:.0f} s"
    )
    assert all(row["skipped_updates"] == 0 for row in steps)
    return first, last


SLOW = pytest.param("cpu", marks=pytest.mark.slow)
GPU = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.mark.parametrize("device", [SLOW, GPU], indirect=True)
def test_the_laptop_model_learns(device, tmp_path, record_property):
    """The task of `make mini`, where the device computes: the share of lists that are sorted rises."""
    first, last = learns(tmp_path / "run", record_property, device=device, steps=40, base_cache=str(tmp_path / "base"))
    assert last > first + 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not MODEL.is_dir(), reason="no pretrained model: MODEL=FOLDER")
def test_a_pretrained_model_learns(tmp_path, record_property):
    """Ten steps of leg_counting, 256 tokens an answer."""
    learns(
        tmp_path / "run", record_property, device="cuda", model=str(MODEL), task="leg_counting", steps=10,
        max_new_tokens=256,
    )  # fmt: skip
