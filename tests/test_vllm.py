"""vLLM itself: the laptop's base model, whose rotary encoding does nothing, opens and scores the same."""

import pytest
import torch
import torch.distributed as dist

from prorl_lab import laptop
from prorl_scale.config import Config
from prorl_scale.rollout import Engine, _draws_from

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def process_group():
    """vLLM in this process uses the group that is there, or makes one; an engine that is shut down takes it apart.

    So each test has its own and shuts its engine down, which a garbage collector would do in the middle of the next.
    """
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture
def alone(monkeypatch):
    """What torchrun sets, for one process."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_ADDR", "localhost")


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
    engine.llm_engine.engine_core.shutdown()


def test_groups_are_handed_over_as_they_finish_and_are_those_of_a_plain_call(tmp_path, monkeypatch, alone):
    """`Engine.generate` steps the engine itself: the same samples as `LLM.generate`, but not all of them at the end."""
    pytest.importorskip("vllm", reason="vLLM is not installed: pip install --no-deps -r requirements-cpu.txt")
    folder = laptop.base_model_folder(laptop.WarmUp(steps=30), tmp_path)
    config = Config(device="cpu", dtype="float32", max_new_tokens=12, rollout_batch=6)
    engine = Engine(str(folder), config, stop_ids=[1], context=64)
    prompts = [laptop.build_tokenizer()(text)["input_ids"] for text in ("ascending tiger apple =", "descending kite =")]
    prompts *= 6  # 12 prompts x 3 answers, six side by side: most wait
    events, step = [], engine.llm.llm_engine.step
    monkeypatch.setattr(engine.llm.llm_engine, "step", lambda: events.append("step") or step())
    ours = engine.generate(prompts, 3, 1.2, torch.Generator().manual_seed(5), lambda place, group: events.append(place))
    places = [event for event in events if event != "step"]
    assert sorted(places) == list(range(12))
    assert "step" in events[events.index(places[0]) : events.index(places[-1])]

    engine.llm.reset_prefix_cache()
    how = engine.sampling(n=3, temperature=1.2, max_tokens=12, logprobs=0, stop_token_ids=[1], detokenize=False)
    with _draws_from(torch.Generator().manual_seed(5)):
        plain = engine.llm.generate([{"prompt_token_ids": p} for p in prompts], how, use_tqdm=False)
    assert [[ids for ids, _ in group] for group in ours] == [[list(a.token_ids) for a in r.outputs] for r in plain]
    for group, request in zip(ours, plain, strict=True):
        for (ids, logp), answer in zip(group, request.outputs, strict=True):
            assert logp.tolist() == pytest.approx(
                [e[t].logprob for t, e in zip(ids, answer.logprobs, strict=True)], abs=0
            )
    engine.close()


def test_the_first_token_draws_nothing(tmp_path, monkeypatch, alone):
    """An engine starts in the middle of a resumed run; who draws from torch's generator would go on elsewhere."""
    vllm = pytest.importorskip("vllm", reason="vLLM is not installed: pip install --no-deps -r requirements-cpu.txt")
    folder, write, states = laptop.base_model_folder(laptop.WarmUp(steps=0), tmp_path), vllm.LLM.generate, []

    def watched(llm, *args, **kwargs):
        states.append(torch.get_rng_state())
        done = write(llm, *args, **kwargs)
        states.append(torch.get_rng_state())
        return done

    monkeypatch.setattr(vllm.LLM, "generate", watched)
    config = Config(device="cpu", dtype="float32", rollout_batch=2)
    Engine(str(folder), config, stop_ids=[1], context=64).close()
    assert len(states) == 2
    assert torch.equal(*states)
