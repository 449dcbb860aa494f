"""What a step costs: counts held to the code that is counted, arithmetic to sums by hand, a run to its plan."""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface, Qwen2Config, Qwen2ForCausalLM

import prorl_mini as mini
from prorl_lab import cost, devices, hub, laptop, settings
from prorl_lab.mfu import forward_flops
from prorl_lab.shapes import Shape, layer_activations
from prorl_scale import plan, policy, recipes, train
from prorl_scale.config import Config, stages_of

R1 = hub.SHAPES[recipes.R1_DISTILL]
H100 = devices.named("H100")
ONE = devices.Device("a device", flops=1e12, bandwidth=1e12, memory=80e9)  # at its peak, with PLAIN
PLAIN = cost.Rates(matmul=1, memory=1, decode=1)


def paper(**changes):
    """The published recipe as the plan sees it."""
    settings = {**recipes.find("prorl-1.5b").settings, "device": "cuda", "dtype": "bfloat16", **changes}
    return Config(**settings, recipe="prorl-1.5b")


# ---------------------------------------------------------------- counted


class Count(TorchDispatchMode):
    """Operations, and the bytes that they read and write; what only looks at a tensor in another way moves none."""

    VIEWS = frozenset(("view", "_unsafe_view", "transpose", "t", "expand", "slice", "select", "detach", "unsqueeze"))

    def __init__(self):
        super().__init__()
        self.bytes = self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.operations += 1
        if function._schema.name.split("::")[1] not in self.VIEWS:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return out


def look(module, query, key, value, mask, **_):
    """Attention without its scores: it reads its inputs and writes its output, as a fused kernel does."""
    first = key.repeat_interleave(query.shape[1] // key.shape[1], 1)[:, :, :1] + value[:, :1]
    return (query + first).transpose(1, 2).contiguous(), None


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (dataclasses.replace(R1, layers=1, vocabulary=100), torch.bfloat16),
        (Shape(128, 1, 4, 4, 32, 384, 202, tied=True), torch.float32),
    ],
    ids=["1.5B", "laptop"],
)
def test_traffic_and_launches_of_a_layer(shape, dtype):
    """On tensors without contents: the layer of transformers, forward and backward."""
    AttentionInterface.register("look", look)
    tokens = 512
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config(
            vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
            num_hidden_layers=1, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        )).to(dtype)  # fmt: skip
        model.set_attn_implementation("look")
        hidden = torch.zeros(1, tokens, shape.hidden, dtype=dtype, requires_grad=True)
        rotary = model.model.rotary_emb(hidden, torch.arange(tokens)[None])
        with Count() as forward:
            out = model.model.layers[0](hidden, position_embeddings=rotary, attention_mask=None)
        with Count() as backward:
            out.sum().backward()
    weights = sum(p.numel() * p.element_size() for p in model.model.layers[0].parameters())
    kept = tokens * layer_activations(shape, half=dtype == torch.bfloat16)
    rates = cost.Rates()
    assert (forward.bytes - weights) / kept == pytest.approx(rates.traffic, rel=0.1)
    assert (backward.bytes - 2 * weights) / kept == pytest.approx(2 * rates.traffic, rel=0.15)
    assert forward.operations == pytest.approx(rates.layer_launches, rel=0.1)
    assert backward.operations == pytest.approx(2 * rates.layer_launches, rel=0.1)


def test_traffic_and_launches_of_the_head():
    tokens, words = 4096, 2000
    hidden, weight = (torch.zeros(n, 64, device="meta").bfloat16().requires_grad_() for n in (tokens, words))
    targets = torch.zeros(tokens, dtype=torch.long, device="meta")
    counts = []
    for entropy in (False, True):
        with Count() as forward:
            logp, _ = policy.ChunkedLogprobs.apply(hidden, weight, targets, 1.2, entropy)
        counts.append(forward)
    with Count() as backward:
        logp.sum().backward()
    plain, with_entropy = (count.bytes / tokens / words for count in counts)
    rates = cost.Rates()
    assert plain == pytest.approx(rates.logit, rel=0.15)
    assert with_entropy - plain == pytest.approx(rates.entropy * rates.logit, rel=0.15)
    assert backward.bytes / tokens / words == pytest.approx(rates.logit_backward * rates.logit, rel=0.15)
    assert counts[0].operations == pytest.approx(rates.head_launches, rel=0.15)


# ---------------------------------------------------------------- by hand


def test_lengths_have_the_mean_that_was_asked_for():
    for mean, limit in ((4096, 8192), (300, 8192), (7000, 8192), (11, 22)):
        lengths = cost.answer_lengths(4096, mean, limit, 0.8)
        assert sum(lengths) / 4096 == pytest.approx(mean, rel=0.03)
        assert 1 <= min(lengths) <= max(lengths) <= limit
    assert cost.answer_lengths(10, 100, 100, 0.8)[-1] == 100


def test_writing_by_hand():
    """A step takes a second for each row and a tenth for each token before them.

    Two slots, answers of 1, 2 and 2 tokens, prompts of 10: however they are dealt out, a row is written at 5 places.
    """
    counted = cost.write_seconds([2, 2], 10, 2, lambda rows, cached: rows)
    assert counted == 4
    assert cost.write_seconds([1, 2, 2], 10, 2, lambda rows, cached: rows) == 5
    assert cost.write_seconds([2, 2], 10, 2, lambda rows, cached: 1) == 2
    assert cost.write_seconds([2, 2], 10, 1, lambda rows, cached: 1) == 4
    # Two rows with prompts of 10, and on average one token of their own each: 22 tokens in each of two steps.
    assert cost.write_seconds([2, 2], 10, 2, lambda rows, cached: cached) == 44


def test_a_decoding_step_by_hand():
    """Few rows: bounded by weights and cache.  Many: by arithmetic.  A slow host shows where nothing hides it."""
    shape = Shape(64, 2, 4, 2, 16, 160, 300, tied=True)
    site = cost.Site(shape, ONE, program=cost.Program(0.0, 0.0), rates=PLAIN)
    strong = dataclasses.replace(site, device=dataclasses.replace(ONE, flops=1e15))
    weights = shape.size.body + shape.size.head
    logits = PLAIN.logit * 300 / 1e12
    cache = 2 * 2 * shape.layers * shape.kv * 1000 / 1e12
    assert cost.decode_step(strong, 1, 1000) == pytest.approx(2 * weights / 1e12 + cache + logits)
    many = 10_000
    assert cost.decode_step(site, many, 0) == pytest.approx(2 * weights * many / 1e12 + many * logits)
    slow = dataclasses.replace(site, program=cost.Program(1.0, 0.5))
    assert cost.decode_step(slow, 2, 0) == 2.0
    turns = dataclasses.replace(slow, device=dataclasses.replace(ONE, asynchronous=False))
    assert cost.decode_step(turns, 2, 0) > 2.0


def test_a_pass_by_hand():
    """At endless bandwidth: the FLOP of three forward passes, four with recomputation, and of the head always four."""
    shape = Shape(64, 2, 4, 2, 16, 160, 300, tied=True)
    endless = dataclasses.replace(ONE, bandwidth=math.inf)
    site = cost.Site(shape, endless, rates=PLAIN)
    groups = [(10, [20, 30]), (5, [7, 7])]
    body, head = forward_flops(shape.size, groups)
    assert cost.pass_seconds(site, groups, 100) == pytest.approx((body + head) / 1e12)
    assert cost.pass_seconds(site, groups, 100, backward=True) == pytest.approx((3 * body + 4 * head) / 1e12)
    again = cost.pass_seconds(site, groups, 100, backward=True, checkpointing=True)
    assert again == pytest.approx((4 * body + 4 * head) / 1e12)
    padded = dataclasses.replace(site, program=dataclasses.replace(cost.VLLM, packed=False))
    tokens = (10 + 5) + (19 + 29 + 6 + 6)
    # Rows of at most 100 tokens, the longest first: 40 and 30; 12 and 12.
    computed = (10 + 2 * 29) + (5 + 2 * 6)
    assert cost.padded_batches(groups, 100, 1, alone=False) == (2, computed)
    assert cost.padded_batches(groups, 100, 1, alone=True) == (2, computed + 10 + 5)
    assert cost.pass_seconds(padded, groups, 100) == pytest.approx((computed / tokens * body + head) / 1e12)


def test_padding_is_that_of_mini_s_own_batches():
    """Prompts of one length: the ids that `make_batch` lays out, without the answers' last column."""
    lengths = cost.answer_lengths(64, 9, 22, 0.6)
    groups = [(13, lengths[i::8]) for i in range(8)]
    samples = [[mini.Sample([i] * prompt, [1] * n) for n in some] for i, (prompt, some) in enumerate(groups)]
    cut = [part for some in mini.mini_batches(samples, 2) for part in mini.split_microbatches(some, 300)]
    made = [mini.make_batch(part, "cpu") for part in cut]
    tokens = sum(b.prompts.numel() + b.answers[:, 1:].numel() for b in made)
    assert cost.padded_batches(groups, 300, 2, alone=False) == (len(made), tokens)


def test_gathers_hide_behind_large_micro_batches_and_show_behind_small_ones():
    groups = [(300, [4096] * 16)] * 256
    alone = cost.Site(R1, H100, 32, rates=cost.Rates(far_link=1e30, collective=0.0))
    real = dataclasses.replace(alone, rates=cost.Rates())
    assert cost.pass_seconds(real, groups, 32768, backward=True) == cost.pass_seconds(
        alone, groups, 32768, backward=True
    )
    assert cost.pass_seconds(real, groups, 1024, backward=True) > cost.pass_seconds(alone, groups, 1024, backward=True)


# ---------------------------------------------------------------- a step and a run


def test_a_push_by_hand():
    """A reload: each tensor's Python, each byte four times; then the canary, by the trainer and by each sampler."""
    device = devices.Device("test", 1e12, 1e10, 0, launch=1e-5, asynchronous=False)
    shape, guess = Shape(64, 2, 2, 2, 32, 192, 40, tied=False), cost.Guess(prompt=12, canary=24)
    site = cost.Site(shape, device, 1, cost.VLLM_CPU, cost.CPU, half=False)
    reload = 4 * 4 * shape.weights / 1e10 + 100 * (12 * 2 + 3) * 1e-5
    assert cost.reload_seconds(site) == pytest.approx(reload)
    trainer = cost.pass_seconds(site, [(1, [12])] * 24, 4096)
    sampler = cost.generate_seconds(site, [1] * 24, 12, 1, 24) + 2 * shape.size.head * 24 * 12 / 1e12
    logits = 24 * 24 * 12 * 40 / 1e10  # bytes of each, tokens, words
    assert cost.push_seconds(site, guess, 4096) == pytest.approx(reload + trainer + sampler + logits)
    assert cost.push_seconds(dataclasses.replace(site, program=cost.MINI_CPU), guess, 4096) == 0
    # On more ranks the trainer's share of the rows is smaller, each sampler scores them all, and weights are gathered.
    two = dataclasses.replace(site, ranks=2)
    assert cost.reload_seconds(two) > reload
    assert cost.push_seconds(two, guess, 4096) > cost.reload_seconds(two) + sampler


def test_twice_the_answers_take_about_twice_the_passes():
    config, site = paper(), cost.Site(R1, H100, 32)
    once = cost.step_seconds(config, site)
    twice = cost.step_seconds(dataclasses.replace(config, answers_per_prompt=32), site)
    for phase in ("logprobs", "update", "rest"):
        assert twice[phase] == pytest.approx(2 * once[phase], rel=0.05)
    assert once["generate"] < twice["generate"] < 2 * once["generate"]  # the longest answer is as long
    assert set(once) == set(cost.PHASES)


def test_drawing_ahead_waits_once():
    config, site = paper(), cost.Site(R1, H100, 32)
    ways = [SimpleNamespace(**{**vars(config), "draw": draw}) for draw in ("rounds", "adaptive")]
    in_rounds, at_once = (cost.step_seconds(way, site)["generate"] for way in ways)
    assert 0.5 < at_once / in_rounds < 0.95
    assert cost.rounds(config, 1.0) == (1.0, 1.0)
    assert cost.rounds(dataclasses.replace(config, dynamic_sampling=False), 0.1) == (1.0, 1.0)


def test_hours_of_the_run_are_the_stages_steps():
    config, site = paper(), cost.Site(R1, H100, 32)
    stages = stages_of(config)
    seconds = [sum(cost.step_seconds(now, site, plan.guess_of(now)).values()) for now in stages]
    steps = [564, 340, 138, 435, 210, 256, 307, 161]
    by_hand = sum(s * n for s, n in zip(seconds, steps, strict=True)) * 32 / 3600
    assert plan.gpu_hours(config, stages, site) == (pytest.approx(by_hand), pytest.approx(by_hand))
    low, high = plan.gpu_hours(paper(), stages_of(paper()), dataclasses.replace(site, ranks=64))
    assert low == high > by_hand  # twice the GPUs wait as long for the longest answer


def test_the_fastest_setting_that_fits(capsys):
    """On 80 GB recomputing is not needed with smaller micro-batches, and without it a larger one does not fit."""
    lines = plan.what_if_lines(paper(), cost.Site(R1, H100, 32))
    (off,) = [line for line in lines if line.startswith("  gradient checkpointing off")]
    assert off.endswith("does not fit")
    (fastest,) = [line for line in lines if "fastest on 32" in line]
    assert "off, micro-batches of 1/2" in fastest
    (planned,) = [line for line in lines if line.startswith("  as planned")]
    hours = [float(line.split()[-2].replace(",", "")) for line in (planned, off.replace("  does not fit", ""))]
    assert hours[0] > hours[1]


def test_a_run_is_compared_with_its_plan():
    """Seen answers take the place of expected ones; the middle of the steps counts, not one that waited."""
    config, site = paper(), cost.Site(R1, H100, 32)
    ledger = {"math": {"generated": 400, "kept": 300}, "code": {"generated": 100, "kept": 0}}
    seconds = {f"seconds_{phase}": 1.0 for phase in ("generate", "reward", "logprobs", "update", "push")}
    rows = [{"ledger": ledger, "length": 2048.0, **seconds} for _ in range(4)]
    rows.append({"ledger": ledger, "length": 2048.0, **dict.fromkeys(seconds, 500.0)})
    guess = plan.seen_guess(config, rows)
    assert (guess.keep, guess.mean_answer) == (0.6, 0.25)
    table = plan.compare(config, site, rows)
    assert set(table["seen"].values()) == {1.0}
    assert table["with these answers"]["update"] < table["predicted"]["update"]
    assert "together" in plan.comparison_text(table)


def test_a_run_says_it_once_after_its_first_steps(tmp_path, monkeypatch):
    """On rank 0 of a CPU run: a table on the screen and in the folder, and nothing in metrics.jsonl."""
    monkeypatch.setattr(train.distributed, "rank", lambda: 0)
    monkeypatch.setattr(train.distributed, "world", lambda: 2)
    monkeypatch.setattr(devices, "cpu", lambda rows, width: dataclasses.replace(ONE, asynchronous=False))
    said = []
    config = settings.resolve(Config(**{**recipes.LAPTOP.settings, **recipes.LAPTOP.stages[0].changes}))
    shape = laptop.model_config(laptop.WarmUp(), 202)
    folder = SimpleNamespace(path=tmp_path, say=said.append)
    run = train.Run(config, SimpleNamespace(config=shape), None, None, None, None, None, folder)
    seconds = {f"seconds_{phase}": 0.5 for phase in ("generate", "reward", "logprobs", "update", "push")}
    row = {"ledger": {"ascending": {"generated": 64, "kept": 32}}, "length": 10.0, **seconds}
    for _ in range(plan.COMPARED + 5):
        run.compare_with_plan(row)
    assert len(said) == 1
    table = json.loads((tmp_path / "prediction.json").read_text())
    assert set(table) == {"predicted", "with these answers", "seen"}
    assert table["seen"] == {key.removeprefix("seconds_"): 0.5 for key in seconds}
    assert all(value >= 0 for value in table["predicted"].values())


# ---------------------------------------------------------------- devices


def test_a_cpu_is_measured():
    found = devices.cpu(rows=64, width=32)
    assert found.flops > 1e6 < found.bandwidth
    assert 0 < found.launch < 0.1
    assert not found.asynchronous
