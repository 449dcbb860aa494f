"""Adapters whose reset is a merge, against full fine-tuning of the merged weights; as a run, killed and resumed."""

import contextlib
import copy
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import prorl_mini as mini
from prorl_lab import adapters, lean, models
from prorl_lab.errors import UserError
from tests.exact import PAIRS, TEMPERATURE, close, samples_of, tiny_policy
from tests.launch import rows
from tests.test_lean import BRIEF
from tests.test_mini import make_run  # noqa: F401  a fixture
from tests.test_run import assert_same_run, start, wait_for_line

pytest.importorskip("peft", reason="peft is not installed: pip install -r requirements-options.txt")
pytestmark = pytest.mark.usefixtures("one_thread")
SCALE = adapters.ALPHA / 4


def adapted(trained=True, rank=4):
    """A tiny policy with adapters; trained: as they are some updates later, with both matrices away from 0."""
    policy = tiny_policy()
    adapters.add(policy, rank, seed=0)
    generator = torch.Generator().manual_seed(5)
    for name, weight in policy.named_parameters() if trained else []:
        if "lora_" in name:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return policy


def full(policy):
    """The same policy as a plain model, all of it trained."""
    plain = tiny_policy(seed=1)
    plain.load_state_dict(adapters.merged_weights(policy))
    return plain


def loss_of(policy, reference):
    """A mini-batch's loss with its KL, as `update` has it."""
    samples = samples_of(*PAIRS)
    batch = mini.make_batch(samples, "cpu")
    logp, _ = mini.answer_logprobs(policy, batch, TEMPERATURE)
    with torch.no_grad():
        ref_logp, _ = mini.answer_logprobs(reference, batch, TEMPERATURE)
    tokens = int(batch.mask.sum())
    weights = mini.token_weights(batch.mask, tokens, len(samples), "token").to(logp)
    advantages = torch.tensor([[s.advantage] for s in samples]).to(logp)
    config = mini.Config(kl_coef=0.5)
    return mini.penalized_loss(logp, logp.detach() + 0.05, ref_logp, advantages, weights, tokens, config)


def test_gradient_and_kl_are_those_of_full_fine_tuning_by_the_chain_rule():
    """W' = W + s B A, so dL/dB = s dL/dW' A^T and dL/dA = s B^T dL/dW', with dL/dW' from the plain model of W'."""
    policy = adapted()
    base, plain = tiny_policy(), full(policy)
    loss, sums = loss_of(policy, adapters.Base(policy, seed=0))
    expected, expected_sums = loss_of(plain, base)
    close(loss, expected)
    close(sums["kl"], expected_sums["kl"])
    assert sums["kl"] > 1e-3
    loss.backward()
    expected.backward()
    whole = dict(plain.named_parameters())
    for name, layer in adapters.layers(policy):
        a, b = layer.lora_A[adapters.NAME].weight, layer.lora_B[adapters.NAME].weight
        d_weight = whole[f"{name}.weight"].grad
        close(b.grad, SCALE * d_weight @ a.T)
        close(a.grad, SCALE * b.T @ d_weight)
    trained = {name for name, weight in policy.named_parameters() if weight.grad is not None}
    assert trained == {name for name, _ in policy.named_parameters() if "lora_" in name}


def test_adapters_stand_beside_every_matrix_but_the_output_layer():
    names = {name.rpartition(".")[2] for name, _ in adapters.layers(adapted())}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_a_model_without_a_layer_that_peft_knows_is_told():
    policy = tiny_policy()
    policy.model.layers = torch.nn.ModuleList()
    with pytest.raises(UserError, match=r"peft has no adapters for qwen2 .*: leave out --lora-rank"):
        adapters.add(policy, 4, seed=0)


def test_a_reset_is_a_merge():
    """The base becomes what the policy was, the adapter and the optimizer begin anew, and nothing is held twice."""
    policy = adapted()
    reference, optimizer = adapters.Base(policy, seed=0), torch.optim.AdamW(policy.parameters())
    loss_of(policy, reference)[0].backward()
    optimizer.step()
    optimizer.zero_grad()
    merged, old = adapters.merged_weights(policy), copy.deepcopy(policy.state_dict())
    adapters.merge(policy, reference, optimizer)
    assert optimizer.state == {}
    assert reference.state_dict() == {"merges": 1}  # from which the next adapter is drawn
    for name, weight in policy.state_dict().items():
        if "lora_B" in name:
            assert weight.eq(0).all()
        elif "lora_A" in name:
            assert not torch.equal(weight, old[name])
        else:
            assert torch.equal(weight, merged[name.replace(".base_layer", "")])
    assert all(ours is theirs for ours, theirs in zip(reference.parameters(), policy.parameters(), strict=True))


@pytest.mark.parametrize("half", [False, True], ids=["float64", "bfloat16"])
def test_kl_is_exactly_zero_after_a_merge(half):
    """Not nearly: B is 0, so each token's log-prob has the same bits with the adapter and without, in training too."""
    policy = adapted().float() if half else adapted()
    reference = adapters.Base(policy, seed=0)
    batch = mini.make_batch(samples_of(*PAIRS), "cpu")

    def estimates():
        with models.autocast(SimpleNamespace(dtype="bfloat16" if half else "float64", device="cpu")):
            both = [mini.answer_logprobs(model, batch, TEMPERATURE)[0] for model in (policy, reference)]
        return torch.stack([mini.kl_estimate(*both, kind)[batch.mask] for kind in ("k1", "k2", "k3")])

    assert estimates().ne(0).any()
    adapters.merge(policy, reference, torch.optim.AdamW(policy.parameters()))
    assert estimates().eq(0).all()


def test_turned_off_ends_with_its_block_also_after_an_error():
    policy, base = adapted(), tiny_policy()
    ids = torch.tensor([[1, 2, 3]])
    before = policy(ids).logits
    with contextlib.suppress(RuntimeError), adapters.turned_off(policy):
        close(policy(ids).logits, base(ids).logits)
        raise RuntimeError
    assert torch.equal(policy(ids).logits, before)
    assert any(weight.requires_grad for weight in policy.parameters())


def test_each_merge_draws_another_adapter_and_a_seed_the_same():
    def drawn(seed, merges):
        policy = adapted(trained=False)
        adapters.renew(policy, seed, merges)
        return torch.cat([layer.lora_A[adapters.NAME].weight.flatten() for _, layer in adapters.layers(policy)])

    state = torch.get_rng_state()
    assert torch.equal(drawn(0, 1), drawn(0, 1))
    assert not torch.equal(drawn(0, 1), drawn(0, 2))
    assert not torch.equal(drawn(0, 1), drawn(1, 1))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's draws are moved


def test_of_a_frozen_base_too_each_weight_is_cast_once_while_answers_are_written():
    """Else every token would cast all of it: torch keeps the casts of trained weights alone."""

    class Casts(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            weight = function is torch.ops.aten._to_copy.default and args[0].shape == (16, 16)
            self.count += weight and kwargs.get("dtype") is torch.bfloat16
            return function(*args, **(kwargs or {}))

    policy = adapted().float()
    counts = []
    for tokens in (2, 8):
        with models.autocast(SimpleNamespace(dtype="bfloat16", device="cpu")), Casts() as casts:
            mini.rollout(policy, [[1, 2, 3]], 2, tokens, 1.2, [-1], torch.Generator().manual_seed(0))
        counts.append(casts.count)
    assert counts[0] == counts[1] > 0
    assert {name for name, weight in policy.named_parameters() if weight.requires_grad} == {
        name for name, _ in policy.named_parameters() if "lora_" in name
    }


def test_the_head_s_gradient_is_not_computed_where_nothing_wants_it():
    """Of a frozen head it would be the largest matrix of the backward pass."""

    class Products(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.shapes = set()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if function is torch.ops.aten.mm.default:
                self.shapes.add(tuple(out.shape))
            return out

    made = []
    for trained in (True, False):
        hidden = torch.randn(5, 16, dtype=torch.bfloat16, requires_grad=True)
        head = torch.randn(11, 16, dtype=torch.bfloat16, requires_grad=trained)
        with Products() as products:
            models.AccurateHead.apply(hidden, head).sum().backward()
        made.append((11, 16) in products.shapes)
        assert hidden.grad is not None
    assert made == [True, False]


def test_a_run_trains_the_adapter_and_merges_it(make_run):  # noqa: F811
    run = make_run(lora_rank=4, steps=3, dtype="float32", kl_coef=0.01, reset_every=2, reset_min_spacing=1)
    before = {name: weight.clone() for name, weight in adapters.merged_weights(run.policy).items()}
    base = {name: weight.clone() for name, weight in run.policy.state_dict().items() if "lora_" not in name}
    with run.folder:
        mini.train_step(run)
        now = run.policy.state_dict()
        assert all(torch.equal(weight, now[name]) for name, weight in base.items())  # the reference has not moved
        assert any(
            not torch.equal(weight, adapters.merged_weights(run.policy)[name]) for name, weight in before.items()
        )
        mini.train_step(run)
        assert run.reset_if_due()
        mini.train_step(run)
    steps = [row for row in rows(run.folder.path) if "event" not in row]
    assert steps[0]["kl_first"] == 0
    assert steps[1]["kl_first"] > 0
    assert steps[2]["kl_first"] == 0  # exactly


LORA = ["--lora-rank", "4", "--learning-rate", "5e-4"]


@pytest.fixture(scope="module")
def straight(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "straight"
    assert mini.main([*BRIEF, *LORA, "--base-cache", str(cache), "--out", str(out)]) == 0
    return out


def test_kill_and_resume_equals_an_uninterrupted_run(straight, cache, tmp_path):
    """SIGKILL somewhere in step 4, after one merge; the last save was at 2."""
    out = tmp_path / "killed"
    process = start(cache, out, *BRIEF, *LORA)
    wait_for_line(process, "step     3")
    process.kill()
    process.wait()
    assert mini.main(["--resume", str(out)]) == 0
    assert_same_run(out, straight)


def test_the_exported_folder_is_a_plain_merged_model(straight):
    """transformers opens it without peft, and it scores as the policy of the run's end does."""
    last = mini.models.AutoModelForCausalLM.from_pretrained(straight / "last").eval()
    saved = torch.load(straight / "state.pt", weights_only=True)
    config = mini.Config(**mini.cli.stored_settings(straight))
    policy, _ = models.load_policy(config)
    policy.load_state_dict(saved["policy"])
    assert saved["reference"] == {"merges": 2}
    assert not any("lora" in name or "base_layer" in name for name in last.state_dict())
    ids = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(last(ids).logits, policy(ids).logits, rtol=1e-4, atol=1e-4)
    base = mini.models.AutoModelForCausalLM.from_pretrained(straight / "base").eval()
    assert (base(ids).logits - last(ids).logits).abs().max() > 1e-3


def test_a_tied_head_is_saved_once():
    policy = tiny_policy()
    policy.lm_head.weight = policy.model.embed_tokens.weight
    adapters.add(policy, 4, seed=0)
    weights = adapters.merged_weights(policy)
    assert weights["lm_head.weight"] is weights["model.embed_tokens.weight"]
    assert isinstance(lean.reference_of(policy, SimpleNamespace(lora_rank=4, seed=0)), adapters.Base)
