"""Single stages of prorl_scale in a world of one process: updates that are skipped, saved or refused."""

import contextlib
import dataclasses
import sys
import threading
from concurrent.futures import wait
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.fsdp import CPUOffloadPolicy
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaModel

from prorl_lab import laptop, probe
from prorl_lab.errors import UserError
from prorl_scale import policy, rollout, train
from prorl_scale.checkpoint import Folder
from prorl_scale.config import Config
from prorl_scale.rollout import Engine
from tests.test_models import make
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


def test_without_validation_only_the_last_are_kept(run):
    with run.folder:
        for run.state.step in (1, 2, 3):
            run.folder.save(run)
    assert saved(run) == ["step-000003"]


@pytest.mark.parametrize("in_background", [True, False])
@pytest.mark.parametrize("broken", ["pathlib.Path.rename", "torch.distributed.checkpoint.FileSystemWriter.write_data"])
def test_full_disk_leaves_the_checkpoint_before(run, monkeypatch, broken, in_background):
    """It is told at once where one waits for the save, else at the next save; and is not told twice."""

    def fill_up(*args, **how):
        raise OSError(28, "No space left on device")

    run.folder.in_background = in_background
    with run.folder:
        run.folder.save(run, wait=True)
        run.state.step = 1
        with monkeypatch.context() as patch:
            patch.setattr(broken, fill_up)
            with pytest.raises(UserError, match=r"No space left on device.*free some space"):
                run.folder.save(run, wait=True)
            if in_background:
                run.folder.save(run)  # no word of it yet
                wait([run.folder.pending])
        assert run.folder._newest().name == "step-000000"
        if in_background:
            with pytest.raises(UserError, match="free some space"):
                run.folder.save(run)
        run.folder.save(run)
    assert run.folder._newest().name == "step-000001"


def test_failed_save_is_reported_when_leaving(run, monkeypatch):
    run.folder.__enter__()
    monkeypatch.setattr("pathlib.Path.rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
    run.folder.save(run)
    with pytest.raises(UserError, match="free some space"):
        run.folder.__exit__(None, None, None)


def test_save_is_of_the_moment_it_was_asked_for(run, monkeypatch):
    """What is written late, after further updates, is the weights, moments and counters of then."""
    train.update(run, samples())
    run.state.step, run.state.history = 1, [(1, 0.5)]
    before = {k: v.clone() for k, v in policy_and_optimizer(run).items()}
    gate, write = threading.Event(), FileSystemWriter.write_data

    def late(self, *args):
        assert gate.wait(60)
        return write(self, *args)

    monkeypatch.setattr(FileSystemWriter, "write_data", late)
    with run.folder:
        run.folder.save(run)
        train.update(run, samples())
        train.reset_reference(run.policy, run.reference, run.optimizer, keep_optimizer=True)
        run.state.step = 2
        run.state.history.append((2, 0.7))
        assert not run.folder.pending.done()
        assert not torch.equal(policy_and_optimizer(run)["policy model.lm_head.weight"],
                               before["policy model.lm_head.weight"])  # fmt: skip
        gate.set()
    run.folder.restore(run, train.State, train.Sample)
    after = policy_and_optimizer(run)
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert (run.state.step, run.state.history) == (1, [(1, 0.5)])


def test_saving_a_step_again_replaces_it(run, monkeypatch):
    """And a process that ends between the two renames leaves the first one to resume from."""
    with run.folder:
        run.folder.save(run)
        run.state.resets = 1
        run.folder.event("reset", step=0, resets=1, reason="")  # a state that differs is one that logged something
        run.folder.save(run)
        assert plain(run)["state"]["resets"] == 1
        assert saved(run) == ["step-000000"]
        run.state.resets = 2
        run.folder.event("reset", step=0, resets=2, reason="")
        rename = Path.rename
        with monkeypatch.context() as patch:

            def killed(self, target):
                if self.name == "step-000000.tmp":
                    raise OSError(4, "killed")
                return rename(self, target)

            patch.setattr(Path, "rename", killed)
            with pytest.raises(UserError, match="killed"):
                run.folder.save(run, wait=True)
        assert saved(run) == ["step-000000.old"]
        assert plain(run)["state"]["resets"] == 1
        run.folder.save(run)
    assert saved(run) == ["step-000000"]
    assert plain(run)["state"]["resets"] == 2


def plain(run):
    run.folder.finish_saving()
    return torch.load(run.folder._newest() / "plain.pt", weights_only=True)


def test_resume_cuts_the_metrics_where_that_save_was(run):
    """Also where the step was saved twice and only the first is whole."""
    with run.folder:
        run.folder._append({"step": 1})
        run.folder.save(run, wait=True)
        kept = run.folder.metrics_path.read_text()
        run.folder.event("reset", step=0, resets=1, reason="")
        run.folder._append({"event": "checkpoint", "step": 0})  # the second, killed while saving
    run.folder.restore(run, train.State, train.Sample)
    assert run.folder.metrics_path.read_text() == kept


@pytest.mark.parametrize("offload", [True, False])
def test_only_the_reference_is_offloaded(run, monkeypatch, tmp_path, offload):
    used, shard = [], policy.fully_shard

    def spy(module, **how):
        used.append(how["offload_policy"])
        return shard(module, **how)

    monkeypatch.setattr(policy, "fully_shard", spy)
    config = dataclasses.replace(run.config, offload_reference=offload)
    _, reference, _ = policy.load(config, str(tmp_path / "model"))
    kinds = [isinstance(how, CPUOffloadPolicy) for how in used]
    assert kinds == [False] * 3 + [offload] * 3  # two layers and the root, of the policy and of the reference
    train.update(run, samples())
    train.reset_reference(run.policy, reference, run.optimizer)
    pairs = zip(run.policy.parameters(), reference.parameters(), strict=True)
    assert all(torch.equal(a.full_tensor(), b.full_tensor()) for a, b in pairs)


class Counting:
    """A task whose problems follow from what was drawn before."""

    position = 0

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def test_restore_brings_back_everything(run):
    run.task = Counting()
    run.task.position = 12
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
    run.task.position = 15
    run.state = train.State()
    run.folder.restore(run, train.State, train.Sample)
    after = policy_and_optimizer(run)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert torch.equal(run.generator.get_state(), generator)
    assert run.state.step == 3
    assert run.task.position == 12
    assert torch.equal(run.state.surplus[0][1].old_logp, samples()[1].old_logp)


def policy_and_optimizer(run):
    tensors = {f"policy {k}": v.full_tensor() for k, v in run.policy.state_dict().items()}
    for i, p in enumerate(run.policy.parameters()):
        tensors |= {f"{i} {k}": getattr(v, "full_tensor", lambda v=v: v)() for k, v in run.optimizer.state[p].items()}
    return tensors


def test_a_save_in_the_background_does_not_mind_where_the_process_stands(run, tmp_path, monkeypatch):
    """codeio's problems are drawn in an empty folder, to which the whole process moves for that moment."""
    monkeypatch.chdir(tmp_path)
    run.folder = Folder(dataclasses.replace(run.config, out="elsewhere"))
    (tmp_path / "empty").mkdir()
    with run.folder:
        held = threading.Event()
        run.folder.thread.submit(held.wait)
        run.folder.save(run)
        with contextlib.chdir(tmp_path / "empty"):
            held.set()
            run.folder.finish_saving()
    assert list((tmp_path / "elsewhere/checkpoints").glob("step-*/plain.pt"))
    assert not list((tmp_path / "empty").iterdir())


def test_restore_without_a_checkpoint(run):
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole: start again"):
        run.folder.restore(run, train.State, train.Sample)


def test_restore_of_another_model(run):
    with run.folder:
        run.folder.save(run)
    torch.manual_seed(0)
    other = torch.nn.ModuleDict({"model": torch.nn.Linear(3, 3)})
    run.policy = run.reference = other
    with pytest.raises(UserError, match="does not fit this model"):
        run.folder.restore(run, train.State, train.Sample)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "llama", "gemma2"])
def test_a_push_hands_over_what_a_checkpoint_holds(world, tmp_path, kind):
    """Names, shapes and values of the file; transformers keeps experts in memory as one tensor of another name."""
    experts = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    make(tmp_path, kind, tie_word_embeddings=kind == "gemma2", **(experts if kind in ("mixtral", "qwen3_moe") else {}))
    config = Config(**{**BASE, "base_cache": str(tmp_path)}, out=str(tmp_path / "run"))
    scorer, _, tokenizer = policy.load(config, str(tmp_path))
    Folder(config).export_sharded(scorer, tokenizer, "last")
    saved = load_file(tmp_path / "model.safetensors")
    pushed = dict(policy.full_weights(scorer, torch.float32))
    if kind == "gemma2":  # tied: the head's name comes too, for the samplers that keep one
        assert torch.equal(pushed.pop("lm_head.weight"), pushed["model.embed_tokens.weight"])
    for ours in (pushed, load_file(tmp_path / "run" / "last" / "model.safetensors")):
        assert set(ours) == set(saved)
        assert all(torch.equal(ours[name], saved[name]) for name in saved)


def test_a_push_leaves_out_buffers(world, tmp_path):
    """Phi-4-multimodal saves some with its weights; no update changes them, and no rank holds a part of one."""
    make(tmp_path, "llama")
    config = Config(**{**BASE, "base_cache": str(tmp_path)}, out=str(tmp_path / "run"))
    scorer, _, _ = policy.load(config, str(tmp_path))
    before = set(dict(policy.full_weights(scorer, torch.float32)))
    scorer.model.register_buffer("position_ids", torch.arange(4))
    assert set(dict(policy.full_weights(scorer, torch.float32))) == before


def test_what_vllm_does_to_a_class_does_not_reach_the_trainer(world, tmp_path, monkeypatch):
    """vLLM's transformers backend replaces `__call__` of the class that the policy is an instance of."""
    make(tmp_path, "llama")
    scorer, reference, _ = policy.load(Config(**{**BASE, "base_cache": str(tmp_path)}), str(tmp_path))

    def patched(self, *args, **kwargs):
        return self.do_not_compile  # an attribute of vLLM's own instance

    monkeypatch.setattr(LlamaModel, "__call__", patched)
    for model in (scorer, reference):
        assert len(policy.score_samples(model, [train.Sample([4, 5], [6, 7])], 300, 1.0)) == 1
    assert type(scorer.model).__name__ == "LlamaForCausalLM"  # what an export writes as its architecture


def test_a_row_of_the_canary_goes_beyond_the_model_s_windows():
    rows = [[5, 6, 7], [8, 9]]
    canary = rollout.Canary(rows, 1e-4, border=10, context=100)
    assert [len(row) for row in canary.rows] == [3, 2, 15]
    assert canary.rows[2][:6] == [5, 6, 7, 8, 9, 5]
    assert [len(row) for row in rollout.Canary(rows, 1e-4, border=4096, context=12).rows] == [3, 2, 11]
    assert rollout.Canary(rows, 1e-4).rows == rows
    borders = [
        ("mistral", {"sliding_window": 7}, 7),
        ("llama", {}, 0),
        ("gemma3_text", {"sliding_window": 9}, 9),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 9}, 0),
    ]
    for kind, settings, border in borders:
        assert probe.last_border(AutoConfig.for_model(kind, **settings)) == border


def test_experts_are_refused_on_a_cpu_before_vllm_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "import_vllm", lambda: None)
    make(tmp_path, "mixtral", num_local_experts=4)
    with pytest.raises(UserError, match="mixture of experts"):
        Engine(str(tmp_path), SimpleNamespace(device="cpu"), [1], 8)


def test_missing_vllm(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="make scale-cpu"):
        Engine("folder", SimpleNamespace(), [1], 8)
