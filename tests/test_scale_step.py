"""Single stages of prorl_scale in a world of one process: updates that are skipped, saved or refused."""

import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from prorl_lab import laptop
from prorl_lab.errors import UserError
from prorl_scale import policy, train
from prorl_scale.checkpoint import Folder
from prorl_scale.config import Config
from prorl_scale.rollout import Engine
from tests.test_scale_parity import BASE, build_model, frozen_samples


@pytest.fixture(scope="module")
def world():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def run(world, tmp_path):
    """A sharded policy and everything that `update` and `save` need."""
    build_model().save_pretrained(tmp_path / "model")
    laptop.build_tokenizer().save_pretrained(tmp_path / "model")
    config = Config(**{**BASE, "microbatch_tokens": 300}, steps=10, out=str(tmp_path / "run"), keep_checkpoints=1)
    scorer, reference, tokenizer = policy.load(config, str(tmp_path / "model"))
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=config.learning_rate)
    return train.Run(config, scorer, reference, optimizer, tokenizer, None, torch.Generator(), Folder(config))


def samples():
    return [train.Sample(**vars(s)) for s in frozen_samples()]


def weights(run):
    return torch.cat([p.full_tensor().flatten().clone() for p in run.policy.parameters()])


def test_update_that_is_not_finite_is_skipped_and_counted(run):
    before, batch = weights(run), samples()
    batch[3].ref_logp = batch[3].ref_logp * float("nan")
    assert train.update(run, batch)["skipped"] == 1
    assert torch.equal(weights(run), before)
    assert train.update(run, samples())["skipped"] == 0
    assert not torch.equal(weights(run), before)


def test_one_update_per_rollout_needs_no_pass_for_the_old_logprobs(run):
    """It trains as with that pass, and notes the same log-probs and entropies."""
    with_pass, without = samples(), samples()
    for sample in with_pass + without:
        sample.old_logp = None
    train.add_logprobs(run, [with_pass])  # four updates per rollout
    stats, before = [], {k: v.clone() for k, v in run.policy.state_dict().items()}
    for batch, updates in ((with_pass, 4), (without, 1)):
        run.config.updates_per_step = updates
        run.policy.load_state_dict(before)
        run.optimizer.state.clear()
        if updates == 1:
            train.add_logprobs(run, [batch])
            assert all(s.old_logp is None and s.ref_logp is not None for s in batch)
        stats.append(train.update(run, batch))
    assert stats[0] == pytest.approx(stats[1], rel=1e-5)
    assert stats[1]["clip_low"] == stats[1]["clip_high"] == 0
    for a, b in zip(with_pass, without, strict=True):
        torch.testing.assert_close(a.old_logp, b.old_logp, rtol=1e-5, atol=1e-5)
        assert a.entropy == pytest.approx(b.entropy, rel=1e-5)


def test_surplus_keeps_the_logprobs_of_the_policy_that_wrote_it(run):
    """Also with one update per rollout: what waits for the next step is scored now."""
    run.config.updates_per_step = 1
    now, later = samples()[:2], samples()[2:4]
    for sample in now + later:
        sample.old_logp = None
    run.state.surplus.append(later)
    train.add_logprobs(run, [now])
    assert [s.old_logp is None for s in now + later] == [True, True, False, False]


def saved(run):
    return sorted(path.name for path in run.folder.checkpoints.iterdir())


def test_checkpoints_kept_are_the_last_and_the_best(run):
    run.state.history = [(1, 0.2), (2, 0.9), (3, 0.5)]
    with run.folder:
        for run.state.step in (1, 2, 3, 4):
            run.folder.save(run)
    assert saved(run) == ["step-000002", "step-000004"]


@pytest.mark.parametrize("writer", ["torch.save", "torch.distributed.checkpoint.FileSystemWriter.write_data"])
def test_full_disk_leaves_the_checkpoint_before(run, monkeypatch, writer):
    def fill_up(*args, **how):
        raise OSError(28, "No space left on device")

    with run.folder:
        run.folder.save(run)
        run.state.step = 1
        with monkeypatch.context() as patch:
            patch.setattr(writer, fill_up)
            with pytest.raises(UserError, match="free some space"):
                run.folder.save(run)
        assert run.folder._newest().name == "step-000000"
        run.folder.save(run)
        assert run.folder._newest().name == "step-000001"


def test_restore_brings_back_everything(run):
    train.update(run, samples())
    run.state.step, run.state.surplus = 3, train.prorl_mini.deque([samples()[:2]])
    run.folder.metrics_path.touch()
    with run.folder:
        run.folder.save(run)
    before = {k: v.clone() for k, v in policy_and_optimizer(run).items()}
    train.update(run, samples())
    run.optimizer.state.clear()
    generator = run.generator.get_state()
    run.generator.seed()
    run.state = train.State()
    run.folder.restore(run, train.State, train.Sample)
    after = policy_and_optimizer(run)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert torch.equal(run.generator.get_state(), generator)
    assert run.state.step == 3
    assert torch.equal(run.state.surplus[0][1].old_logp, samples()[1].old_logp)


def policy_and_optimizer(run):
    tensors = {f"policy {k}": v.full_tensor() for k, v in run.policy.state_dict().items()}
    for i, p in enumerate(run.policy.parameters()):
        tensors |= {f"{i} {k}": getattr(v, "full_tensor", lambda v=v: v)() for k, v in run.optimizer.state[p].items()}
    return tensors


def test_restore_without_a_checkpoint(run):
    with pytest.raises(UserError, match="was never saved"):
        run.folder.restore(run, train.State, train.Sample)


def test_restore_of_another_model(run):
    with run.folder:
        run.folder.save(run)
    torch.manual_seed(0)
    other = torch.nn.ModuleDict({"model": torch.nn.Linear(3, 3)})
    run.policy = run.reference = other
    with pytest.raises(UserError, match="does not fit this model"):
        run.folder.restore(run, train.State, train.Sample)


def test_missing_vllm(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="make scale-cpu"):
        Engine("folder", SimpleNamespace(), [1], 8)
