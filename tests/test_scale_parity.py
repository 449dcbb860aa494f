"""The same frozen rollouts through prorl_mini (padded, one process) and prorl_scale (packed, FSDP2, two processes)."""

import ast
import itertools
import math
import re
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

import prorl_mini as mini
import prorl_scale.train
import prorl_v2 as v2
from prorl_lab import laptop
from prorl_scale import batch, policy
from tests.launch import LIMIT, ROOT, torchrun

BASE = {
    **{"device": "cpu", "dtype": "float32", "gradient_checkpointing": False, "updates_per_step": 4, "kl_coef": 0.1},
    **{"learning_rate": 1e-3, "grad_clip": 1e9},
}
CASES = {
    "one cut": {**BASE, "microbatch_tokens": 10_000},
    "many cuts, k2": {**BASE, "microbatch_tokens": 60, "kl_kind": "k2"},
    "a cut per sample, recomputed": {**BASE, "microbatch_tokens": 1, "gradient_checkpointing": True},
    "clipped gradient, sample level": {**BASE, "microbatch_tokens": 90, "grad_clip": 0.1, "loss_level": "sample"},
    "reference offloaded": {**BASE, "microbatch_tokens": 90, "offload_reference": True},
    "no penalty": {**BASE, "microbatch_tokens": 200, "kl_coef": 0.0},
}


def build_model(noise=0.0):
    """Real rotary positions, grouped heads and a tied head: each is easy to get wrong when packing or sharding."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=211, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    for weight in model.parameters():  # biases too: one that starts at 0 is all rounding after Adam's first step
        weight.data.mul_(2).add_((0.02 + noise) * torch.randn(weight.shape))
    return model


def frozen_samples():
    """Five prompts with three answers each, one of a single token; all of uneven length.

    The old policy and the reference are other models, so that the clip and KL act.
    """
    draw = torch.Generator().manual_seed(1)
    samples = []
    for i in range(15):
        sizes = torch.randint(1, 40, (2,), generator=draw)
        drawn, answer = (torch.randint(0, 211, (n,), generator=draw).tolist() for n in sizes.tolist())
        prompt = samples[-1].prompt if i % 3 else drawn
        answer = answer[:1] if i == 7 else answer
        samples.append(mini.Sample(prompt, answer, advantage=torch.randn(1, generator=draw).item() * (i != 5)))
    config = SimpleNamespace(microbatch_tokens=10_000, temperature=1.2)
    for name, noise in (("old_logp", 0.02), ("ref_logp", 0.05)):
        for sample, logp, _ in mini.score_samples(build_model(noise), samples, config):
            setattr(sample, name, logp)
    return samples


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices this small run slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the model, the frozen samples and what two gloo processes made of them."""
    folder = tmp_path_factory.mktemp("parity")
    build_model().save_pretrained(folder / "model")
    laptop.build_tokenizer().save_pretrained(folder / "model")
    torch.save({"samples": [vars(s) for s in frozen_samples()], "cases": CASES}, folder / "frozen.pt")
    worker = torchrun("tests/scale_worker.py", folder)
    _, err = worker.communicate(timeout=LIMIT)
    assert worker.returncode == 0, err[-5000:]
    return folder


def through_mini(settings):
    """The same update by prorl_mini -> figures, gradient by name, weights after the step, scores."""
    settings = {name: value for name, value in settings.items() if hasattr(mini.Config, name)}
    config, samples, model = mini.Config(**settings), frozen_samples(), build_model()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    run = mini.Run(config, model, None, optimizer, None, None, None, None)
    scores = {id(s): (logp, entropy) for s, logp, entropy in mini.score_samples(model, samples, config, True)}
    kept = {}

    def keep_and_step(step=optimizer.step):
        kept.update({name: p.grad.clone() for name, p in model.named_parameters()})
        step()

    optimizer.step = keep_and_step
    stats = mini.update(run, samples)
    gradient, stepped = dict(kept), {name: weight.clone() for name, weight in model.state_dict().items()}
    further = mini.update_all(run, [samples[i : i + 3] for i in range(0, len(samples), 3)])
    scores = [scores[id(s)] for s in samples]
    return SimpleNamespace(
        stats=stats, gradient=gradient, stepped=stepped, scores=scores, further=further, final=model.state_dict()
    )


def assert_near(ours, theirs, tolerance=1e-5):
    """Relative to the size of each tensor, as a norm."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        error = (ours[name] - theirs[name]).norm() / theirs[name].norm()
        assert error < tolerance, f"{name}: {error:.2g}"


@pytest.mark.parametrize("case", CASES)
def test_same_loss_gradient_and_step_as_mini(folder, case):
    ours = torch.load(folder / "scale.pt", weights_only=True)[case]
    theirs = through_mini(CASES[case])
    for key in ("loss", "kl", "grad_norm", "clip_low", "clip_high", "tokens", "skipped"):
        if key != "kl" or CASES[case]["kl_coef"]:
            assert ours["stats"][key] == pytest.approx(theirs.stats[key], rel=1e-5), key
    assert theirs.stats["clip_low"] > 0 < theirs.stats["clip_high"]
    assert_near(ours["gradient"], theirs.gradient)
    assert_near(ours["stepped"], theirs.stepped)
    for key in ("loss", "kl", "grad_norm", "clip_low", "clip_high"):  # of the mini-batches that follow
        if theirs.further[key] is not None:
            assert ours["further"][key] == pytest.approx(theirs.further[key], rel=1e-4), key
    assert_near(ours["final"], theirs.final, tolerance=1e-4)  # Adam magnifies rounding where a gradient is nearly 0
    for ours_one, theirs_one in zip(ours["scores"], theirs.scores, strict=True):
        for a, b in zip(ours_one, theirs_one, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_cuts_differ(folder):
    results = torch.load(folder / "scale.pt", weights_only=True)
    assert [results[name]["micro_batches"] for name in list(CASES)[:3]] == [1, 4, 8]


def test_reset_copies_every_shard_and_clears_the_optimizer(folder):
    for result in torch.load(folder / "scale.pt", weights_only=True).values():
        assert all(torch.equal(result["reference"][k], result["final"][k]) for k in result["final"])
        assert result["optimizer_entries"] == 0
        assert result["agree"]  # so KL is exactly 0


# ------------------------------------------------------------------ without processes


def groups_of(draw, count, answers=8):
    """Skewed lengths: `count` samples, `answers` to each prompt."""
    lengths = (torch.randn(count, generator=draw).exp() * 50).long().add(1).tolist()
    prompts = [[i] * int(torch.randint(1, 60, (), generator=draw)) for i in range(math.ceil(count / answers))]
    return [mini.Sample(prompts[i // answers], [0] * n) for i, n in enumerate(lengths)]


def tokens_read(samples):
    """Of one micro-batch, counted by packing it."""
    return batch.pack(samples, "cpu").ids.shape[1]


def test_cut_is_balanced_whole_and_equal_on_all_ranks():
    draw = torch.Generator().manual_seed(0)
    for world in (1, 2, 3, 8):
        for count, budget in ((1, 10), (5, 1), (64, 300), (1000, 2000)):
            samples = groups_of(draw, count)
            ranks = batch.cut(samples, budget, world)
            assert len({len(rank) for rank in ranks}) == 1
            assert len(ranks[0]) <= math.ceil(count / world)
            assert len(ranks) == world
            bins = [b for rank in ranks for b in rank]
            assert sorted(i for b in bins for i in b) == list(range(count))
            assert all(len(b) == 1 or tokens_read([samples[i] for i in b]) <= budget for b in bins if b)
            loads = [[tokens_read([samples[i] for i in b]) if b else 0 for b in rank] for rank in ranks]
            rounds = list(
                zip(*loads, strict=True)
            )  # ranks wait for each other after each: those of one are nearly equal
            assert all(min(one) >= max(following) for one, following in itertools.pairwise(rounds))
            per_rank = [sum(rank) for rank in loads]
            assert max(per_rank) - min(per_rank) <= max(loads[0])


def test_cut_of_nothing_is_nothing():
    assert batch.cut([], 10, 2) == [[], []]


def test_cut_needs_few_micro_batches():
    """1,000 skewed lengths: at most a tenth more micro-batches than the tokens of whole groups fill."""
    samples = groups_of(torch.Generator().manual_seed(0), 1000)
    (rank,) = batch.cut(samples, 4096, 1)
    assert len(rank) <= 1.1 * tokens_read(samples) / 4096 + 1


def test_cut_keeps_answers_to_a_prompt_together():
    """Long prompts with short answers: hardly more is read than each prompt once."""
    samples = [mini.Sample([i] * 100, [0] * 11) for i in range(8) for _ in range(16)]
    ranks = batch.cut(samples, 600, 2)
    read = sum(tokens_read([samples[i] for i in part]) for rank in ranks for part in rank)
    assert len(ranks[0]) == 2  # 2,080 tokens in parts of 600, on two ranks
    assert read <= 8 * (100 + 16 * 10) + 3 * 100  # each of the three seams may repeat a prompt


def test_no_larger_limit_than_needed():
    """Two ranks and room for all on one: they share the work evenly, at the price of one prompt."""
    samples = [mini.Sample([1] * 4, [0] * 11) for _ in range(4)]
    assert batch.cut(samples, 1000, 2) == [[[0, 1]], [[2, 3]]]


def test_pack_reads_a_prompt_once_and_no_last_token():
    """Two answers to one prompt, one of a single token; then another prompt."""
    first, second = [1, 2, 3], [6]
    samples = [mini.Sample(first, [4, 5]), mini.Sample(first, [10]), mini.Sample(second, [7, 8, 9])]
    packed = batch.pack([*samples, mini.Sample(first, [11, 12])], "cpu")
    assert packed.ids.tolist() == [[1, 2, 3, 4, 6, 7, 8, 11]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]
    assert packed.pieces.starts.tolist() == [0, 3, 4, 5, 7, 8]
    assert packed.pieces.keys.tolist() == [*(0, 1, 2), *(0, 1, 2, 3), 4, *(4, 5, 6), *(0, 1, 2, 7)]
    assert packed.pieces.key_starts.tolist() == [0, 3, 7, 8, 11, 15]
    assert packed.pieces.longest == 4
    assert packed.lengths == [2, 1, 3, 2]
    assert packed.before.tolist() == [2, 3, 2, 4, 5, 6, 2, 7]
    assert packed.targets.tolist() == [4, 5, 10, 7, 8, 9, 11, 12]


def test_packed_sample_does_not_see_its_neighbours():
    """Changing one sample leaves the log-probs of the others bit for bit, also of those with the same prompt."""
    model = build_model()
    model.set_attn_implementation(policy.ATTENTION)
    scorer = policy.Scorer(model)
    first, second, third = ([1, 2, 3], [4, 5]), ([6, 7], [8, 9, 10]), ([6, 7], [11, 12])
    for changed, other in ((0, ([11, 12, 13], [14, 15])), (1, ([6, 7], [9, 8, 10])), (2, ([6, 7], [13, 14]))):
        before = [mini.Sample(*s) for s in (first, second, third)]
        after = [*before[:changed], mini.Sample(*other), *before[changed + 1 :]]
        scores = [batch.pack(samples, "cpu") for samples in (before, after)]
        scores = [packed.split(scorer(packed, 1.2)[0]) for packed in scores]
        for i, (ours, theirs) in enumerate(zip(*scores, strict=True)):
            assert torch.equal(ours, theirs) == (i != changed)


def test_a_shared_prompt_s_gradient_is_not_lost_in_bfloat16():
    """512 answers add to the gradient of one prompt; summed in bfloat16 they would stop counting at half of it."""
    packed = batch.pack([mini.Sample([1], [2, 3])] * 512, "cpu")
    q, k, v = (torch.zeros(1, 1, 513, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    out, _ = policy.packed_attention(None, q, k, v, None, scaling=1.0, pieces=packed.pieces)
    out.sum().backward()
    # 1 from itself and a half from each answer, to the eight bits of bfloat16
    assert v.grad[0, 0, 0].tolist() == [256.0] * 8
    hidden = torch.zeros(1, 8, dtype=torch.bfloat16, requires_grad=True)
    policy.take(hidden, 0, torch.zeros(512, dtype=torch.long)).sum().backward()  # as where all predict from one place
    assert hidden.grad.tolist() == [[512.0] * 8]


def test_a_model_that_does_not_hand_down_the_boundaries_fails():
    model = build_model()
    model.set_attn_implementation(policy.ATTENTION)
    with pytest.raises(TypeError, match="pieces"):
        model(input_ids=torch.tensor([[1, 2, 3]]))


def test_load_refuses_a_model_that_packing_would_change():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gptj", n_embd=32, n_layer=2, n_head=4, rotary_dim=8))
    with pytest.raises(policy.UserError, match="packed"):  # it does not take its attention from the interface
        policy.check_packing(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunked_head_equals_the_plain_one(monkeypatch, dtype):
    monkeypatch.setattr(policy, "LOGITS_AT_ONCE", 300)  # chunks of 3 tokens
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 8, dtype=dtype), torch.randn(100, 8, dtype=dtype)
    targets, upstream = torch.randint(0, 100, (10,)), torch.randn(10, dtype=dtype)

    def score(function):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        logp, entropy = function(h, w)
        logp.backward(upstream)
        return logp, entropy, h.grad, w.grad

    def plain(h, w):
        logits = h @ w.T
        return mini.token_logprobs(logits[None], targets[None], 1.2)[0], mini.token_entropy(logits, 1.2)

    ours = score(lambda h, w: policy.ChunkedLogprobs.apply(h, w, targets, 1.2, True))
    for a, b in zip(ours, score(plain), strict=True):
        torch.testing.assert_close(a, b)


def test_torchs_own_kernel_equals_the_chunked_head(monkeypatch):
    """Values and gradients, also of the bias; where it would be wrong (bfloat16, caps, entropies) it is not taken."""
    monkeypatch.setattr(policy, "LOGITS_AT_ONCE", 300)
    torch.manual_seed(0)
    inputs = [torch.randn(*shape).requires_grad_() for shape in ((10, 8), (100, 8), (100,))]
    targets, upstream = torch.randint(0, 100, (10,)), torch.randn(10)
    found = []
    for kind in ("own", "torch"):
        h, w, b = inputs
        args = (targets, 1.2)
        logp = (
            policy.ChunkedLogprobs.apply(h, w, *args, False, b)[0]
            if kind == "own"
            else policy.plain_logprobs(h, w, *args, b)
        )
        found.append((logp, *torch.autograd.grad(logp, inputs, upstream)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours)

    used = []
    monkeypatch.setattr(policy, "plain_logprobs", lambda h, *rest: used.append(h.dtype) or h.sum(-1))
    model = build_model()
    model.set_attn_implementation(policy.ATTENTION)
    packed = batch.pack([mini.Sample([1, 2], [3, 4])], "cpu")
    policy.Scorer(model)(packed, 1.2)
    assert used == [torch.float32]
    policy.Scorer(model)(packed, 1.2, with_entropy=True)
    model.config.final_logit_softcapping = 30.0
    policy.Scorer(model)(packed, 1.2)
    model.config.final_logit_softcapping = None
    policy.Scorer(model.bfloat16())(packed, 1.2)
    assert len(used) == 1


def test_chunked_head_of_bfloat16_has_float32_logits():
    """Against the exact product of the same numbers; logits rounded to bfloat16 would be off by up to half a nat."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (4 * torch.randn(n, 16, generator=generator).bfloat16() for n in (6, 50))
    targets = torch.arange(6)
    expected = mini.token_logprobs((hidden.double() @ weight.double().T)[None], targets[None], 1.2)[0]
    logp, entropy = policy.ChunkedLogprobs.apply(hidden, weight, targets, 1.2, True)
    torch.testing.assert_close(logp.double(), expected, rtol=1e-5, atol=1e-4)
    assert entropy.dtype == torch.float32


def test_empty_micro_batch_gives_a_zero_gradient_to_every_weight():
    model = build_model()
    model.set_attn_implementation(policy.ATTENTION)
    logp, _ = policy.Scorer(model)(batch.pack([], "cpu"), 1.2)
    logp.sum().backward()
    assert all(torch.count_nonzero(p.grad) == 0 for p in model.parameters())


# ------------------------------------------------------------------ one home per formula

FORMULAS = {
    *("policy_loss", "penalized_loss", "kl_estimate", "token_logprobs", "token_entropy", "token_weights", "update_all"),
    *("group_advantages", "has_contrast", "reset_reference", "should_reset", "pass_at_k", "add_advantages"),
    *("train_step", "batch_advantages", "brevity", "overlong_penalty", "shaped_reward", "mismatch_weights", "drifted"),
    "weighted_kl",
}
BANNED = {
    *("clamp", "clamp_", "clip", "minimum", "std", "var", "exp", "expm1", "log", "log_softmax", "softmax", "logsumexp"),
}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "train_step",
            "collect_groups",
            "update_all",
            "policy_loss",
            "penalized_loss",
            "reset_reference",
            "should_reset",
        )
    ],
)
def test_the_loop_uses_mini_s_own_functions(name):
    assert getattr(prorl_scale.train, name) is getattr(mini, name)


def test_stages_that_differ_are_named_and_all_others_are_the_same():
    """What a bigger machine does in another way, and what a later paper does: nothing beyond these lists."""
    stages = {name for name in vars(mini.Run) if callable(getattr(mini.Run, name)) and not name.startswith("__")}
    of_mini, of_v2, ours = (
        {name: getattr(kind, name) for name in stages} for kind in (mini.Run, v2.Run, prorl_scale.train.Run)
    )
    assert {name for name in stages if of_v2[name] is not of_mini[name]} == {
        *("advantages", "loss", "update", "reset_if_due", "validate", "end_step")
    }
    assert {name for name in stages if ours[name] is not of_v2[name]} == {
        *("write", "advantages", "logprobs", "update", "validate", "end_step")
    }
    assert ours["validate"] is of_mini["validate"]


@pytest.mark.parametrize("path", sorted((ROOT / "prorl_scale").glob("*.py")), ids=lambda p: p.name)
def test_no_formula_is_restated(path):
    tree = ast.parse(path.read_text())
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in attributes if ast.unparse(node.value) != "self"}  # a folder has a log of its own
    assert used & BANNED == set()
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert defined & FORMULAS == set()


def test_the_nine_stages_stand_in_mini_s_order():
    banner = re.compile(r"^# =+ (\d\. \w+|the run)$", re.MULTILINE)
    mini_s, ours = (banner.findall((ROOT / p).read_text()) for p in ("prorl_mini.py", "prorl_scale/train.py"))
    assert ours == mini_s
    assert len(ours) == 10
