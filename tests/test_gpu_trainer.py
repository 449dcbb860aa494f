"""What training does besides arithmetic, on a GPU: NCCL, FSDP2 in bfloat16, offloading, saving, generators.

The second group of `make gpu-check`; the same bodies run on the CPU.
"""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from prorl_lab import laptop
from prorl_lab.errors import UserError
from prorl_scale import distributed, policy, start, train
from prorl_scale.checkpoint import Folder
from prorl_scale.config import Config
from tests.test_run import assert_equal
from tests.test_scale_parity import BASE, build_model, frozen_samples


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")


@pytest.fixture
def make(device, world, tmp_path):
    """A run of this process alone, with a model of two layers, on the device."""
    build_model().save_pretrained(tmp_path / "model")
    laptop.build_tokenizer().save_pretrained(tmp_path / "model")

    def make(**changes):
        settings = (
            BASE | {"device": device, "microbatch_tokens": 200, "steps": 3, "out": str(tmp_path / "run")} | changes
        )
        config = Config(**settings)
        scorer, reference, tokenizer = policy.load(config, str(tmp_path / "model"))
        adam = torch.optim.AdamW(scorer.parameters(), lr=config.learning_rate, fused=True)
        generator = torch.Generator(distributed.device(device)).manual_seed(1)
        return train.Run(config, scorer, reference, adam, tokenizer, SimpleNamespace(), generator, None)

    return make


def samples():
    return [train.Sample(**vars(s)) for s in frozen_samples()]


def weights(scorer):
    return {name: tensor.clone() for name, tensor in policy.full_weights(scorer, torch.float32)}


def optimizer_state(run):
    """Adam's moments and counts, whole."""
    states = [run.optimizer.state[p] for p in run.policy.parameters()]
    whole = lambda value: value.full_tensor() if isinstance(value, DTensor) else value  # noqa: E731
    return [{key: whole(value).clone() for key, value in state.items()} for state in states]


def test_collectives(device, world, record_property):
    """Sums of tensors go through NCCL, objects and barriers through gloo, in one group."""
    if device == "cuda":
        torch.cuda.set_device(0)
        torch.set_default_device("cuda")
    try:
        assert distributed.total({"a": torch.tensor(2.0), "b": torch.tensor(3.0)}) == {"a": 2.0, "b": 3.0}
    finally:
        torch.set_default_device(None)
    assert distributed.exchange({"ids": [1, 2]}) == [{"ids": [1, 2]}]
    dist.barrier()
    record_property("figure", dist.get_backend_config())


def test_an_update_in_bfloat16(make, device, record_property):
    """FSDP2 gathers in bfloat16 and steps in float32: weights move, stay float32 and finite, no update is skipped."""
    run = make(dtype="bfloat16", gradient_checkpointing=True)
    run.policy.train()
    before = weights(run.policy)
    figures = train.update(run, samples())
    after = weights(run.policy)
    assert figures["skipped"] == 0
    assert all(p.dtype == torch.float32 for p in run.policy.parameters())
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(weight.isfinite().all() for weight in after.values())
    record_property("figure", f"gradient norm {figures['grad_norm']:.3g}")


def test_an_offloaded_reference(make, device, record_property):
    """It scores as one on the GPU does, and a reset copies the policy's shards down to it."""
    here, offloaded = make(), make(offload_reference=True)
    pairs = [policy.score_samples(r.reference, samples(), 200, 1.2) for r in (here, offloaded)]
    error = max((a - b).abs().max().item() for (a, _), (b, _) in zip(*pairs, strict=True))
    assert error < 1e-5
    train.update(offloaded, samples())
    train.reset_reference(offloaded.policy, offloaded.reference, offloaded.optimizer)
    assert_equal(weights(offloaded.policy), weights(offloaded.reference))
    where = {p.device.type for p in offloaded.reference.parameters()}
    assert where == {"cpu"}
    record_property("figure", f"difference {error:.1e}")


def test_a_background_save_and_what_is_read_back(make, device, record_property):
    """Saved while the next update runs, then read into a new run: weights, moments and generator, bit for bit."""
    run = make()
    run.folder = Folder(run.config)
    run.folder.path.mkdir(parents=True, exist_ok=True)
    train.update(run, samples())
    torch.rand(3, generator=run.generator, device=run.generator.device)
    before, moments = weights(run.policy), optimizer_state(run)
    with run.folder:
        run.folder.save(run)
        follows = torch.rand(3, generator=run.generator, device=run.generator.device)
        train.update(run, samples())  # while it is being written
        run.folder.finish_saving()
    run.folder.lock.release()
    again = make(resume=run.config.out)
    again.folder = Folder(again.config)
    with again.folder:
        again.folder.restore(again, train.State, train.Sample)
    again.folder.lock.release()
    assert_equal(before, weights(again.policy))
    assert_equal(moments, optimizer_state(again))
    assert torch.equal(follows, torch.rand(3, generator=again.generator, device=again.generator.device))
    record_property("figure", "bit for bit")


def test_a_generator_goes_on_where_it_was(device, record_property):
    """Its state is a byte tensor on the CPU, whatever it draws for; `Engine` and checkpoints rest on that."""
    where = torch.device(device)
    generator = torch.Generator(where).manual_seed(3)
    torch.rand(5, generator=generator, device=where)
    state = generator.get_state()
    assert state.device.type == "cpu"
    assert state.dtype == torch.uint8
    follows = torch.randint(2**31, (7,), generator=generator, device=where)
    other = torch.Generator(where)
    other.set_state(state)
    assert torch.equal(follows, torch.randint(2**31, (7,), generator=other, device=where))
    record_property("figure", f"{len(state)} bytes")


def test_the_canary_s_tolerance_is_measured(make, device, record_property):
    """Some times the trainer's rounding; a trainer that differs by more than rounding is refused."""
    run, rows = make(dtype="bfloat16"), [[1, 5, 9, 3, 7] * 4, [2, 8, 30, 40]]
    exact = start.exact_logprobs(build_model(), rows)
    assert [len(logp) for logp in exact] == [19, 3]
    tolerance = start.measured_tolerance(run.policy, rows, exact, run.config)
    assert 0 < tolerance <= start.TIMES_ROUNDING * start.MOST_ROUNDING
    with torch.no_grad():
        next(iter(run.policy.parameters())).mul_(2)
    with pytest.raises(UserError, match="more than rounding"):
        start.measured_tolerance(run.policy, rows, exact, run.config)
    record_property("figure", f"{tolerance:.2g} nats per token")
