"""vLLM beside the trainer on a GPU: the second half of `make gpu-check`.

MODEL names the Hugging Face model; on a CPU, where these are `slow`, it is a random one.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prorl_lab import devices, laptop

ROOT = Path(__file__).parents[1]
MODEL = os.environ.get("MODEL", "Qwen/Qwen2.5-0.5B-Instruct")
GPU = pytest.param("cuda", marks=pytest.mark.gpu)
NO_VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: requirements.txt or requirements-cpu.txt"
)
WITH_VLLM = pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), GPU], indirect=True)


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
    assert max(gaps) < (0.2 if device == "cuda" else 1e-4)
    assert result["moved"] > max(gaps)  # the push changed the sampler by more than the two differ
    assert "did not arrive" in result["left_out"]
    assert device == "cpu" or result["freed"] > 2**30


@NO_VLLM
@WITH_VLLM
def test_three_steps_with_save_resume_and_export(device, tmp_path, record_property):
    """Two steps, saved; a third after --resume; the export opens in transformers and has changed."""
    out = tmp_path / "run"
    settings = ["--steps", 2, "--save-every", 1, "--answers-per-prompt", 8, "--prompts-per-step", 8, "--eval-every", 0]
    settings += ["--boundary-prompts", 0, "--reset-every", 2, "--reset-min-spacing", 1]
    settings += ["--track", "tensorboard", "--out", out]
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
    return devices.named(torch.cuda.get_device_name()) is not None
