"""The reference in bfloat16 or in host memory, and Adam in 8 bits: what they change, and what they must not."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

import prorl_mini as mini
from prorl_lab import lean, models
from prorl_lab.errors import UserError
from tests.exact import PAIRS, TEMPERATURE, samples_of, tiny_policy
from tests.launch import rows
from tests.test_mini import make_run  # noqa: F401  a fixture
from tests.test_run import assert_same_run

pytestmark = pytest.mark.usefixtures("one_thread")
BFLOAT16 = SimpleNamespace(dtype="bfloat16", device="cpu")


def settings(**changes):
    plain = dict(model="tiny", lora_rank=0, offload_reference=False, bfloat16_reference=False, adam_8bit=False, seed=0)
    return SimpleNamespace(**{**plain, "learning_rate": 1e-3, "weight_decay": 0.01, **changes})


def policy_of(tied=False):
    policy = tiny_policy().float()
    if tied:
        policy.lm_head.weight = policy.model.embed_tokens.weight
    return policy


# ---------------------------------------------------------------- the reference


@pytest.mark.parametrize("tied", [False, True])
def test_a_reference_in_bfloat16_scores_the_same_bits(tied):
    """In a bfloat16 run; where embedding or norms were rounded as well, it would not."""
    policy = policy_of(tied)
    reference = lean.reference_of(policy, settings(bfloat16_reference=True))
    batch = mini.make_batch(samples_of(*PAIRS), "cpu")
    with models.autocast(BFLOAT16), torch.no_grad():
        ours, theirs = (mini.answer_logprobs(model, batch, TEMPERATURE)[0] for model in (reference, policy))
        assert torch.equal(ours, theirs)
        reference.model.embed_tokens.to(torch.bfloat16)
        assert not torch.equal(mini.answer_logprobs(reference, batch, TEMPERATURE)[0], theirs)
    assert not any(weight.requires_grad for weight in reference.parameters())
    assert {weight.dtype for weight in policy.parameters()} == {torch.float32}


def test_a_model_that_takes_a_matrix_past_autocast_is_refused(monkeypatch):
    """Its log-probs would not be those of the policy; a Qwen2 keeps to autocast."""
    config = tiny_policy().config
    lean.prove_rounding("tiny", config)
    plain = torch.nn.functional.linear

    def past_autocast(hidden, weight, bias=None):
        with torch.autocast("cpu", enabled=False):
            return plain(hidden.float(), weight.float(), None if bias is None else bias.float())

    monkeypatch.setattr(torch.nn.functional, "linear", past_autocast)
    with pytest.raises(UserError, match=r"would change the log-probs of tiny \(qwen2\)"):
        lean.prove_rounding("tiny", config)


def test_a_reset_reaches_a_reference_in_bfloat16(make_run):  # noqa: F811
    """KL is exactly 0 before the first update of a step after the reset, and was not before."""
    run = make_run(
        dtype="bfloat16", bfloat16_reference=True, offload_reference=True, kl_coef=0.01, reset_every=2,
        reset_min_spacing=1, warm_up_steps=1,
    )  # fmt: skip
    with run.folder, models.autocast(run.config):
        for _ in range(2):
            mini.train_step(run)
        assert run.reset_if_due()
        mini.train_step(run)
    steps = [row for row in rows(run.folder.path) if "event" not in row]
    assert [row["kl_first"] == 0 for row in steps] == [True, False, True]


def test_a_copy_in_host_memory_is_whole_and_its_own():
    policy = policy_of(tied=True)
    copied = lean.copied_to_host(policy)
    assert copied.lm_head.weight is copied.model.embed_tokens.weight
    for (name, ours), theirs in zip(copied.named_parameters(), policy.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.data_ptr() != theirs.data_ptr()
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(copied(ids).logits, policy(ids).logits)


def test_a_reference_in_host_memory_visits_and_is_back_in_its_place():
    """Also after an error.  On a machine with one device a copy on it stands for the visit."""
    policy = policy_of(tied=True)
    reference = lean.copied_to_host(policy)
    ids = torch.tensor([[1, 2, 3]])

    def places():
        return [tensor.data_ptr() for tensor in (*reference.parameters(), *reference.buffers())]

    home, sent = places(), []
    with contextlib.suppress(RuntimeError), lean.visiting(reference, lambda x: sent.append(x) or x.clone()):
        assert not set(places()) & set(home)
        assert torch.equal(reference(ids).logits, policy(ids).logits)
        raise RuntimeError("amid")
    assert places() == home
    assert len(sent) == len(home)
    with lean.present(reference, torch.device("cpu")):
        assert places() == home


# ---------------------------------------------------------------- the optimizer


def test_adam_in_8_bits_keeps_bytes_and_what_was_asked():
    """How near its steps are to Adam's: `test_gpu.test_adam_in_8_bits`, which runs here as well."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install -r requirements-options.txt")
    layer = torch.nn.Linear(64, 128)  # of fewer numbers, such as its bias, the moments stay float32
    optimizer = lean.adam_of(layer, settings(adam_8bit=True))
    layer(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("state1", "state2")]
    assert sorted((str(m.dtype), m.numel()) for m in moments) == [
        ("torch.float32", 128), ("torch.float32", 128), ("torch.uint8", 8192), ("torch.uint8", 8192)
    ]  # fmt: skip
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (1e-3, 0.01)


# ---------------------------------------------------------------- a run

BRIEF = [
    *("--steps", "4", "--save-every", "2", "--prompts-per-step", "2", "--answers-per-prompt", "8", "--eval-every", "0"),
    *("--boundary-prompts", "0", "--warm-up-steps", "300", "--reset-every", "2", "--reset-min-spacing", "1"),
]
LEAN = {
    "reference": [*BRIEF, "--dtype", "bfloat16", "--bfloat16-reference", "--offload-reference"],
    "adam": [*BRIEF, "--adam-8bit"],
}


@pytest.mark.parametrize("kind", LEAN)
def test_a_run_that_broke_off_goes_on_bit_for_bit(kind, cache, tmp_path, monkeypatch):
    """In step 4, after a reset; the last save was at 2."""
    if kind == "adam":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    args = [*LEAN[kind], "--base-cache", str(cache)]
    assert mini.main([*args, "--out", str(tmp_path / "straight")]) == 0
    plain = mini.train_step

    def breaks(run):
        if run.state.step == 3:
            raise MemoryError("amid the run")
        plain(run)

    with monkeypatch.context() as patched:
        patched.setattr(mini, "train_step", breaks)
        with pytest.raises(MemoryError):
            mini.main([*args, "--out", str(tmp_path / "broken")])
    assert mini.main(["--resume", str(tmp_path / "broken")]) == 0
    assert_same_run(tmp_path / "broken", tmp_path / "straight")
    assert [row["step"] for row in rows(tmp_path / "straight") if row.get("event") == "reset"] == [2, 4]
