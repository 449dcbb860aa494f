"""What has to hold before the first hour on a GPU, as far as none is needed for it: tolerances, memory, messages."""

import pickle
import subprocess
from types import SimpleNamespace

import pytest
import torch

import prorl_mini as mini
from prorl_lab import memory, models, settings
from prorl_lab.errors import UserError
from prorl_lab.shapes import Shape
from prorl_scale import config, rollout, start, train
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
    def write(layer):
        casts.append(torch.is_autocast_cache_enabled())
        return layer(x)

    with models.autocast(SimpleNamespace(dtype="bfloat16", device="cpu")):
        before = write(layer)
        assert casts == [True]
        assert not torch.is_autocast_cache_enabled()
        with torch.no_grad():
            layer.weight.add_(1.0)
        assert not torch.equal(before, write(layer))
        assert not torch.equal(before, layer(x))
        layer(x).sum().backward()  # copies made without a graph would have no gradient
    assert layer.weight.grad is not None
    write(layer)
    assert casts[-1] == torch.is_autocast_cache_enabled()  # outside autocast nothing is touched


def test_rollout_batch_is_chosen_by_the_memory_there_is(monkeypatch):
    asked = mini.Config(model="some/model", max_prompt_tokens=64, max_new_tokens=64, dtype="bfloat16")
    model = build_model()
    assert models.rollout_batch(model, asked) == 256
    on_gpu = SimpleNamespace(device=torch.device("cuda"), config=model.config)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2e8, 8e10))
    shape = Shape(32, 2, 4, 2, 8, 64, 211, tied=True)
    assert models.rollout_batch(on_gpu, asked) == memory.answers_that_fit(shape, asked, 2e8) > 256
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


class RecordedLLM:
    """vLLM as `Engine` sees it, on a machine without one: notes what is asked of it, in order."""

    def __init__(self, folder, **given):
        self.given, self.asked = given, []

    def apply_model(self, look):
        return [look(SimpleNamespace(lm_head=None))]

    def __getattr__(self, name):
        def ask(*args, **given):
            self.asked.append((name, *args, *(given.get(key) for key in ("tags", "level") if key in given)))

        return ask


def test_the_engine_on_a_gpu_sleeps_and_wakes_in_two_stages(monkeypatch):
    """Weights are woken, replaced, and only then the cache: both copies and the cache would not fit."""
    fake = SimpleNamespace(LLM=RecordedLLM, SamplingParams=dict)
    monkeypatch.setattr(rollout, "import_vllm", lambda: fake)
    asked = config.Config(device="cuda", dtype="bfloat16", rollout_batch=8, gpu_memory=0.6, sleep_level=2)
    engine = rollout.Engine("model", asked, [1], 64)
    assert [name for name, *_ in engine.llm.asked] == ["generate"]  # its first token
    engine.llm.asked.clear()
    assert engine.llm.given["enable_sleep_mode"] is True
    assert engine.llm.given["gpu_memory_utilization"] == 0.6
    assert engine.llm.given["enforce_eager"] is False
    assert engine.llm.given["dtype"] == "bfloat16"
    engine.sleep()
    engine.push(iter([("a", torch.ones(1))]))
    names = [(call[0], call[-1]) for call in engine.llm.asked]
    assert names == [
        ("sleep", 2), ("wake_up", ["weights"]), ("collective_rpc", "reload_weights"), ("wake_up", ["kv_cache"])
    ]  # fmt: skip
