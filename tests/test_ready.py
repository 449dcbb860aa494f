"""What has to hold before the first hour on a GPU, as far as none is needed for it: tolerances, memory, messages."""

import pickle
import subprocess
from types import SimpleNamespace

import pytest
import torch

import prorl_mini as mini
from prorl_lab import models, settings
from prorl_lab.errors import UserError
from prorl_lab.shapes import Shape, answers_that_fit
from prorl_scale import config, start, train
from scripts import gpu_check
from tests.test_scale_parity import build_model


def test_what_a_machine_forces_may_be_changed_on_resume():
    """The canary's message offers its tolerance, and after an out-of-memory the others have to give."""
    asked = {"canary_tolerance", "sleep_level", "rollout_batch", "microbatch_tokens", "gpu_memory"}
    assert asked <= config.Config.RESUMABLE


def test_samples_travel_as_four_bytes_a_token():
    sample = train.Sample([5] * 1000, [151_935] * 9000, reward=0.5, sampler_logp=torch.ones(3), verdict="ok")
    size = len(pickle.dumps(sample))
    assert size < 4.2 * 10_000 + 1000
    again = pickle.loads(pickle.dumps(sample))
    assert (again.prompt, again.answer, again.reward, again.verdict) == (sample.prompt, sample.answer, 0.5, "ok")
    assert torch.equal(again.sampler_logp, sample.sampler_logp)
    assert vars(again).keys() == vars(sample).keys()


def test_memory_that_is_not_free_is_said_before_vllm_looks(monkeypatch):
    asked = SimpleNamespace(device="cuda", gpu_memory=0.5)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (30e9, 80e9))
    with pytest.raises(UserError, match=r"GPU 3 of .* has 30.0 GB free, and --gpu-memory 0.5 asks for 40.0"):
        start.check_memory(asked)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (41e9, 80e9))
    start.check_memory(asked)
    start.check_memory(SimpleNamespace(device="cpu", gpu_memory=0.5))


def test_weights_are_cast_once_while_answers_are_written_and_anew_afterwards():
    """In bfloat16 the copies live as long as one call: what follows an update sees its weights."""
    layer = torch.nn.Linear(4, 4)
    x = torch.ones(1, 4)
    casts = []

    @models.weights_stay
    def write(_):
        casts.append(torch.is_autocast_cache_enabled())
        return layer(x)

    with models.autocast(SimpleNamespace(dtype="bfloat16", device="cpu")):
        before = write(0)
        assert casts == [True]
        assert not torch.is_autocast_cache_enabled()
        with torch.no_grad():
            layer.weight.add_(1.0)
        assert not torch.equal(before, write(0))
        assert not torch.equal(before, layer(x))
        layer(x).sum().backward()  # copies made without a graph would have no gradient
    assert layer.weight.grad is not None
    write(0)
    assert casts[-1] == torch.is_autocast_cache_enabled()  # outside autocast nothing is touched


def test_rollout_batch_is_chosen_by_the_memory_there_is(monkeypatch):
    asked = SimpleNamespace(max_prompt_tokens=64, max_new_tokens=64, dtype="bfloat16")
    model = build_model()
    assert models.rollout_batch(model, asked) == 256
    on_gpu = SimpleNamespace(device=torch.device("cuda"), config=model.config)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2e8, 8e10))
    shape = Shape(32, 2, 4, 2, 8, 64, 211, tied=True)
    assert models.rollout_batch(on_gpu, asked) == answers_that_fit(shape, 2e8, 128, True) > 256
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for device, expected in (("cuda", None), ("cpu", 256)):
        assert settings.resolve(mini.Config(model="some/model", device=device)).rollout_batch == expected


@pytest.mark.parametrize(
    ("printed", "says"),
    [("570.86.10\n", "570.86.10, and CUDA 13 needs 580"), ("580.159.04\n", "uses no GPU"), (None, "no GPU found")],
)
def test_gpu_check_says_why_there_is_nothing_to_check(monkeypatch, printed, says):
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: name if printed else None)
    done = subprocess.CompletedProcess([], 0, printed, "")
    monkeypatch.setattr(gpu_check.subprocess, "run", lambda *args, **how: done)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert says in gpu_check.why_not()


def test_gpu_check_keeps_what_it_has_found(tmp_path):
    table = gpu_check.Table(tmp_path / "out", "one GPU")
    report = SimpleNamespace(
        when="call", passed=True, skipped=False, outcome="passed", duration=1.25, nodeid="a.py::test_one",
        user_properties=[("figure", "error 1e-5")],
    )  # fmt: skip
    table.pytest_runtest_logreport(report)
    text = (tmp_path / "out/table.txt").read_text()
    assert text.splitlines()[0] == "one GPU"
    assert "one    pass         1.2  error 1e-5" in text
    assert "1 checks, 0 failed" in text
    assert gpu_check.pins()["vllm"] == "0.32.0"


def test_every_gpu_check_stands_in_one_of_the_halves():
    """A check that no half runs would never be run."""
    files = {path.relative_to(gpu_check.ROOT).as_posix() for path in (gpu_check.ROOT / "tests").glob("test_gpu*.py")}
    assert files == {name for half in gpu_check.HALVES.values() for name in half}
