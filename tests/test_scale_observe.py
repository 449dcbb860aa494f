"""What prorl_scale reports about itself: utilisation, TensorBoard, and the memory that its head needs."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

import prorl_mini as mini
from prorl_lab import devices, mfu, settings, trackers
from prorl_lab.errors import UserError
from prorl_lab.lock import release_all
from prorl_lab.run_folder import RunFolder
from prorl_scale import policy, train

# ------------------------------------------------------------------ utilisation


def tiny(tied):
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=7, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, tie_word_embeddings=tied,
        )
    )  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
def test_size_by_hand(tied):
    """Per layer: q and o 8 x 8, k and v 8 x 4, three matrices 8 x 12, two norms of 8; a last norm; head 7 x 8."""
    assert mfu.size_of(tiny(tied)) == mfu.Size(body=2 * (2 * 64 + 2 * 32 + 3 * 96 + 16) + 8, head=56, attention=16)


def test_forward_flops_by_hand():
    """Prompts of 3 and 1 tokens with answers of 2, 5 and 1: of those, 1, 4 and 0 are read, and all are predicted."""
    body, head = mfu.forward_flops(mfu.Size(body=100, head=10, attention=5), [(3, [2, 5]), (1, [1])])
    seen = (9 + 1 + 16 + 1) / 2 + (1 + 4) * 3  # half of each piece by itself, and the prompt of 3 by five tokens
    assert body == 2 * 100 * (3 + 1 + 4 + 1) + 4 * 5 * seen
    assert head == 2 * 10 * 8


def test_forward_flops_as_torch_counts_them():
    """Eager attention computes all pairs, seen or not; the norms' weights are no matrix."""
    model = tiny(tied=True)
    model.set_attn_implementation("eager")
    size = mfu.size_of(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros(1, 11, dtype=torch.long))
    norms = 5 * 8
    body, _ = mfu.forward_flops(mfu.Size(size.body - norms, size.head, 2 * size.attention), [(11, [])])
    assert counter.get_total_flops() == pytest.approx(body + 2 * size.head * 11)


@pytest.mark.parametrize(
    ("updates", "kl", "checkpointing", "passes", "again"),
    [(1, 0.0, False, 3, (0, 1)), (4, 0.0, False, 4, (0, 1)), (1, 0.1, True, 4, (1, 1)), (4, 0.1, True, 5, (1, 1))],
)
def test_passes_of_a_step(updates, kl, checkpointing, passes, again):
    config = SimpleNamespace(updates_per_step=updates, kl_coef=kl, gradient_checkpointing=checkpointing)
    size, groups = mfu.Size(100, 10, 5), [(3, [2]), (1, [1])]
    body, head = mfu.forward_flops(size, groups)
    assert mfu.step_flops(size, groups, config, recomputed=False) == passes * (body + head)
    assert mfu.step_flops(size, groups, config, recomputed=True) == pytest.approx(
        passes * (body + head) + again[0] * body + again[1] * head
    )


def test_utilization_by_hand():
    """1e9 weights, 1,000 tokens read, five passes: 1e13 FLOP; two A100 in a tenth of a second could do 6.24e13."""
    config = SimpleNamespace(updates_per_step=4, kl_coef=0.1, gradient_checkpointing=False)
    size = mfu.Size(body=10**9, head=0, attention=0)
    ours = mfu.utilization(size, [(900, [101])], config, 0.1, 2, "NVIDIA A100-SXM4-80GB")
    assert ours["mfu"] == pytest.approx(1e13 / 6.24e13)
    nothing = {"mfu": None, "hfu": None}
    assert mfu.utilization(size, [(900, [101])], config, 0.1, 2, None) == nothing
    assert mfu.utilization(size, [], config, 0.1, 2, "NVIDIA A100-SXM4-80GB") == nothing


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10G", None),
        ("NVIDIA L40", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_peak_by_the_names_that_drivers_give(name, peak):
    found = devices.named(name)
    assert (found and found.flops) == peak


def test_speed_of_a_step(monkeypatch):
    """Ten answer tokens in a step of 4 s, of which 2 s were passes through the model, on two GPUs."""
    monkeypatch.setattr(train.distributed, "world", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA L4")
    config = SimpleNamespace(updates_per_step=1, kl_coef=0.0, gradient_checkpointing=False)
    groups = [[mini.Sample([1] * 3, [2] * 3), mini.Sample([1] * 3, [2])], [mini.Sample([1], [2] * 6)]]
    ledger = SimpleNamespace(seconds={"logprobs": 0.5, "update": 1.5, "generate": 1.0})
    model = tiny(tied=True)
    for device in ("cpu", "cuda"):
        run = SimpleNamespace(config=config, policy=SimpleNamespace(device=torch.device(device), model=model))
        speed = train.speed(run, groups, ledger, 4.0)
        assert speed["tokens_per_second"] == 2.5
        if device == "cpu":
            assert speed["mfu"] is speed["hfu"] is None
    body, head = mfu.forward_flops(mfu.size_of(model), [(3, [3, 1]), (1, [6])])
    assert speed["mfu"] == pytest.approx(3 * (body + head) / (2 * 121e12 * 2))
    assert speed["hfu"] == pytest.approx((3 * (body + head) + head) / (2 * 121e12 * 2))


# ------------------------------------------------------------------ trackers


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A run folder with a board; made again, it is the folder of the resumed run.  Only rank 0 ever makes one."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install -r requirements-rewards.txt")

    def make(resume):
        out = str(tmp_path / "run")
        release_all()  # the process before is gone
        folder = RunFolder(mini.Config(**{"resume" if resume else "out": out}, track="tensorboard"))
        folder.metrics_path.touch()
        monkeypatch.setattr(folder, "say", lambda line: None)
        return folder

    return make


def read_back(path):
    """-> scalars {tag: [(step, value)]} and texts {tag: [(step, text)]}, as TensorBoard's own reader has them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    scalars = {t: [(e.step, e.value) for e in events.Scalars(t)] for t in events.Tags()["scalars"]}
    texts = {
        t.removesuffix("/text_summary"): [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(t)]
        for t in events.Tags()["tensors"]
    }
    return scalars, texts


def row(step):
    nested = {"ledger": {"easy": {"kept": step, "generated": 5}}, "kl": None if step == 1 else 0.25}
    line = dict.fromkeys(("solved", "length", "clip_low", "entropy", "grad_norm"), 0.5) | {"clip_high": 0.0}
    counts = {"groups_kept": 1, "groups_generated": 2, "resets": 0, "seconds": 1.0}
    return {"step": step, "reward_unfiltered": step / 8, **line, **counts, **nested}


def test_board_holds_every_number_and_every_event(folder, tmp_path):
    folder = folder(resume=False)
    with folder:
        folder.event("evaluation", step=0, score=0.5, tiers={"easy": 0.5})
        for step in (1, 2):
            folder.metrics(row(step))
        folder.event("reset", step=2, resets=1, reason="200 steps since the last reset")
    scalars, texts = read_back(tmp_path / "run/tensorboard")
    assert scalars["reward_unfiltered"] == [(1, 0.125), (2, 0.25)]
    assert scalars["ledger/easy/kept"] == [(1, 1.0), (2, 2.0)]
    assert scalars["kl"] == [(2, 0.25)]
    assert scalars["evaluation/tiers/easy"] == [(0, 0.5)]
    assert scalars["reset/resets"] == [(2, 1.0)]
    assert json.loads(texts["reset"][0][1])["reason"] == "200 steps since the last reset"
    written = sum(len(re.findall(r": -?\d", line)) - 1 for line in (tmp_path / "run/metrics.jsonl").open())
    assert sum(map(len, scalars.values())) == written  # each number but the step's own


def test_resumed_board_continues_without_duplicate_steps(folder, tmp_path):
    """Killed after step 4, the last save at 2: steps 3 and 4 are run, and shown, once."""
    first = folder(resume=False)
    with first:
        for step in (1, 2):
            first.metrics(row(step))
        first.event("checkpoint", step=2)
        first.metrics(row(3) | {"reward_unfiltered": 99.0})
        first.event("evaluation", step=3, score=99.0, tiers={})
        first.metrics(row(4))
    again = folder(resume=True)
    again.cut_logs({"rows": 2, "samples": 0})
    with again:
        again.metrics(row(3))
    scalars, texts = read_back(tmp_path / "run/tensorboard")
    assert scalars["reward_unfiltered"] == [(1, 0.125), (2, 0.25), (3, 0.375)]
    assert scalars["groups_kept"] == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert [step for step, _ in texts["checkpoint"]] == [2]
    assert "evaluation/score" not in scalars or scalars["evaluation/score"] == []


def test_run_killed_before_its_first_step_starts_the_board_again(folder, tmp_path):
    first = folder(resume=False)
    with first:
        first.event("checkpoint", step=0)
        first.metrics(row(1) | {"reward_unfiltered": 99.0})
    again = folder(resume=True)
    again.cut_logs({"rows": 0, "samples": 0})
    with again:
        again.metrics(row(1))
    assert read_back(tmp_path / "run/tensorboard")[0]["reward_unfiltered"] == [(1, 0.125)]


def test_no_board_unless_asked(tmp_path):
    folder = RunFolder(mini.Config(out=str(tmp_path / "run")))
    folder.metrics_path.touch()
    with folder:
        folder.event("checkpoint", step=0)
    assert not (tmp_path / "run/tensorboard").exists()


@pytest.mark.parametrize("kind", trackers.LISTED)
def test_a_tracker_that_is_not_installed(monkeypatch, kind):
    monkeypatch.setattr(settings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"{kind} is not installed: install the version in .*, or leave out --track"):
        settings.resolve(mini.Config(device="cpu", track=kind))


# ------------------------------------------------------------------ memory of the head


def peak_bytes(work):
    """The most that torch's CPU allocator held above what it held before, while `work` ran."""
    with torch.profiler.profile(profile_memory=True) as profile:
        kept = work()
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert kept is not None
    return peak


def test_chunked_head_needs_at_most_a_fifth_of_the_memory(monkeypatch):
    """The proportions of 4,096 tokens, 151,936 words and width 1,536, each an eighth (bench/logprob_memory.py)."""
    tokens, vocabulary, width = 4096 // 8, 151_936 // 8, 1536 // 8
    monkeypatch.setattr(policy, "LOGITS_AT_ONCE", policy.LOGITS_AT_ONCE // 64)
    torch.manual_seed(0)
    hidden, weight = torch.randn(tokens, width, requires_grad=True), torch.randn(vocabulary, width, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,))

    def plain():
        logp = F.log_softmax(hidden @ weight.T / 1.2, -1).gather(-1, targets[:, None])
        return torch.autograd.grad(logp.mean(), (hidden, weight))

    def chunked():
        logp, _ = policy.ChunkedLogprobs.apply(hidden, weight, targets, 1.2, True)
        return torch.autograd.grad(logp.mean(), (hidden, weight))

    whole = tokens * vocabulary * 4
    assert peak_bytes(plain) > 2 * whole  # the yardstick sees the logits
    assert peak_bytes(chunked) <= peak_bytes(plain) / 5
