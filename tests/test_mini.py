"""The loop of prorl_mini on a toy task that a random model learns in seconds: refill, surplus, shaping, golden run."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import prorl_mini as mini
from prorl_lab import models, tasks
from prorl_lab.errors import UserError
from prorl_lab.ledger import Ledger

GOLDEN = Path(__file__).parent / "golden.json"


class ToyTask:
    """Right is an answer of fewer than 8 characters; where `contrast(number)` is False nothing is right."""

    tiers = ("toy",)
    stop_ids = (1,)

    def __init__(self, contrast=lambda number: True):
        self.contrast = contrast

    def problem(self, split, number, tier=None):
        return tasks.Problem("toy", "apple" if self.contrast(number) else "bread", {"contrast": self.contrast(number)})

    def score(self, answers):
        return [float(problem.entry["contrast"] and len(text) < 8) for problem, text in answers]


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """A run on a toy task and a random model, small enough for a step in 50 ms.  kind: the program, mini or v2."""

    def make(task=None, kind=mini, **settings):
        monkeypatch.setattr(tasks, "load_task", lambda config, stop_ids: task or ToyTask())
        defaults = dict(
            out=str(tmp_path / "run"), base_cache=str(tmp_path / "base"), warm_up_steps=0, boundary_prompts=0,
            eval_every=0, prompts_per_step=4, answers_per_prompt=8, max_new_tokens=3, dtype="float64", steps=3,
            learning_rate=3e-3,
        )  # fmt: skip
        return mini.start_run(mini.settings.resolve(kind.Config(**{**defaults, **settings})), kind.Run)

    return make


def gradients(run, samples):
    """The gradient of one update, before the optimizer takes it."""
    run.optimizer.step = lambda: None
    kept = {}
    run.optimizer.zero_grad = lambda set_to_none: kept.update(
        {name: p.grad.clone() for name, p in run.policy.named_parameters()}
    )
    mini.update(run, samples)
    run.policy.zero_grad()
    return kept


def scored_groups(run):
    groups, _ = mini.collect_groups(run)
    mini.add_advantages(run, groups)
    mini.add_logprobs(run, groups)
    return groups


def test_sampler_reads_padded_prompts_as_a_plain_forward_pass_does(make_run, monkeypatch):
    """Greedy answers from the left-padded, cached, shrinking batch equal those of one uncached forward per token."""
    run = make_run(dtype="float32", warm_up_steps=1)
    monkeypatch.setattr(torch, "multinomial", lambda probs, n, generator: probs.argmax(-1, keepdim=True))
    prompts = [run.tokenizer(text)["input_ids"] for text in ("apple", "bread kite =", "descending zebra water lemon =")]
    answers = mini.rollout(run.policy, prompts, 2, 6, 1.2, [1], run.generator)
    for i, answer in enumerate(answers):
        ids = list(prompts[i // 2])
        for token in answer:
            assert run.policy(torch.tensor([ids])).logits[0, -1].argmax() == token
            ids.append(token)


def test_entropy_of_the_rollout_is_that_of_the_scorer(make_run):
    """Of every answer, from the cached, shrinking batch, against the log-probs pass over whole rows."""
    run = make_run(max_new_tokens=6, answers_per_prompt=16)
    groups = mini.write_answers(run, *mini.draw_prompts(run, 3), 16, 1.2, run.generator, Ledger())
    samples = [sample for group in groups for sample in group]
    assert len({len(sample.answer) for sample in samples}) > 2
    for sample, _, entropy in mini.score_samples(run.policy, samples, run.config, with_entropy=True):
        assert sample.sampler_entropy == pytest.approx(entropy.sum().item(), rel=1e-5)


def test_entropy_is_logged_over_all_answers_too(make_run):
    """What is dropped is in the one and not in the other."""
    run = make_run(ToyTask(contrast=lambda number: number % 3 == 0), answers_per_prompt=32, max_rounds=10)
    groups, ledger = mini.collect_groups(run)
    mini.add_logprobs(run, groups)
    row = ledger.metrics(groups)
    every = list(mini.score_samples(run.policy, ledger.samples, run.config, with_entropy=True))
    want = sum(entropy.sum().item() for _, _, entropy in every) / sum(len(s.answer) for s in ledger.samples)
    assert row["tokens_wasted"] > 0
    assert row["entropy_unfiltered"] == pytest.approx(want, rel=1e-5)
    assert row["entropy"] != pytest.approx(want, rel=1e-5)


def test_sampler_draws_from_the_tempered_softmax(make_run):
    """Frequencies of the first token over 20,000 draws against softmax(logits / 1.2), computed by hand."""
    run = make_run()
    prompt = run.tokenizer("apple")["input_ids"]
    drawn = mini.rollout(run.policy, [prompt], 20_000, 1, 1.2, [1], run.generator)
    counts = torch.bincount(torch.tensor([a[0] for a in drawn]), minlength=run.policy.config.vocab_size)
    logits = run.policy(torch.tensor([prompt])).logits[0, -1].double()
    expected = (logits / 1.2).exp() / (logits / 1.2).exp().sum() * 20_000
    deviations = (counts - expected) / expected.sqrt()
    assert deviations.abs().max() < 5
    assert deviations.square().mean() < 1.5


def test_first_update_has_ratio_one(make_run):
    run = make_run()
    groups = scored_groups(run)
    stats = mini.update(run, groups[0] + groups[1])
    assert stats["clip_low"] == stats["clip_high"] == 0
    assert stats["kl"] == 0  # the reference is the policy


@pytest.mark.parametrize("level", ["token", "sample"])
def test_gradient_does_not_depend_on_the_micro_batches(make_run, level):
    run = make_run(max_new_tokens=9, loss_level=level, kl_coef=0.1)
    samples = [sample for group in scored_groups(run) for sample in group]
    for p in run.reference.parameters():
        p.data.mul_(1.01)  # so that KL takes part
    mini.add_logprobs(run, [samples])
    whole = gradients(run, samples)
    assert max(g.abs().max() for g in whole.values()) > 1e-3
    for tokens in (1, 30, 77):
        run.config.microbatch_tokens = tokens
        cut = gradients(run, samples)
        for name, gradient in whole.items():
            torch.testing.assert_close(cut[name], gradient, rtol=1e-5, atol=1e-7)  # Qwen2's norm is float32 inside


def test_old_logprobs_are_those_of_the_tempered_policy(make_run):
    run = make_run()
    sample = scored_groups(run)[0][0]
    ids = torch.tensor([sample.prompt + sample.answer])
    logp = torch.log_softmax(run.policy(ids).logits / 1.2, -1)[0]
    start = len(sample.prompt)
    expected = [logp[start + i - 1, token] for i, token in enumerate(sample.answer)]
    torch.testing.assert_close(sample.old_logp, torch.stack(expected).detach())


def test_refill_drops_groups_without_contrast_and_keeps_the_surplus(make_run):
    """Two of three problems have no contrast: rounds go on until 4 groups are full, the rest waits its turn."""
    run = make_run(ToyTask(contrast=lambda number: number % 3 == 0), answers_per_prompt=64, max_rounds=10)
    groups, ledger = mini.collect_groups(run)
    metrics = ledger.metrics(groups)
    row = metrics["ledger"]["toy"]
    assert len(groups) == 4
    assert row["generated"] == run.state.cursor
    assert row["kept"] == 4 + len(run.state.surplus) == sum(i % 3 == 0 for i in range(run.state.cursor))
    assert row["solved_none"] == row["generated"] - row["kept"]
    assert metrics["reward_unfiltered"] < metrics["reward"]
    assert metrics["tokens_wasted"] > 0


def test_surplus_is_used_before_anything_is_generated_and_keeps_its_old_logprobs(make_run):
    run = make_run(prompts_per_step=2, draw="rounds")  # so that nothing waits yet
    first, _ = mini.collect_groups(run)
    run.state.surplus.extend([first[0], first[1]])
    mini.add_logprobs(run, [])
    before = [s.old_logp.clone() for s in first[0]]
    for p in run.policy.parameters():
        p.data.mul_(1.1)
    cursor = run.state.cursor
    groups, ledger = mini.collect_groups(run)
    mini.add_logprobs(run, groups)
    assert groups == [first[0], first[1]]
    assert run.state.cursor == cursor
    assert ledger.metrics(groups)["reward_unfiltered"] is None
    for sample, old in zip(first[0], before, strict=True):
        assert torch.equal(sample.old_logp, old)


def test_at_the_cap_it_trains_on_what_there_is(make_run):
    run = make_run(ToyTask(contrast=lambda number: number == 0), answers_per_prompt=32, max_rounds=3)
    groups, _ = mini.collect_groups(run)
    assert len(groups) == 1
    assert run.state.cursor == 12


def test_without_dynamic_sampling_one_round_is_kept_whole(make_run):
    run = make_run(ToyTask(contrast=lambda number: number == 0), answers_per_prompt=32, dynamic_sampling=False)
    groups, ledger = mini.collect_groups(run)
    assert len(groups) == run.state.cursor == 4
    assert ledger.metrics(groups)["tokens_wasted"] == 0


def test_truncation_penalty_comes_after_the_filter(make_run):
    """A group whose right answers were all cut off passes the filter on raw rewards, then earns zeros alone."""
    group = [
        mini.Sample([5], [6, 7], truncated=True, reward=1.0),
        mini.Sample([5], [6, 1], truncated=False, reward=0.0),
    ]
    mini.add_advantages(SimpleNamespace(config=mini.Config(zero_truncated=True)), [group])
    assert [s.advantage for s in group] == [0, 0]
    mini.add_advantages(SimpleNamespace(config=mini.Config()), [group])
    assert group[0].advantage > 0 > group[1].advantage
    assert group[0].reward == 1.0


def test_evaluating_does_not_change_the_training_run(make_run, tmp_path):
    def weights(name, **settings):
        run = make_run(out=str(tmp_path / name), eval_prompts=2, **settings)
        with run.folder:
            for _ in range(2):
                mini.train_step(run)
                if settings.get("eval_every"):
                    mini.validate(run)
        return torch.cat([p.flatten() for p in run.policy.parameters()])

    assert torch.equal(weights("quiet"), weights("watched", eval_every=1))


def test_golden_run(make_run):
    """Twenty steps of the whole loop in float64 against recorded figures; the reward rises from chance.

    A change that means to alter training deletes golden.json and runs this test once: it records, and fails.
    """
    rows = golden_rows(make_run)
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(rows, indent=1) + "\n")
        pytest.fail("recorded a new golden run: look at it, then run again")
    recorded = json.loads(GOLDEN.read_text())
    assert len(rows) == len(recorded) == 20
    for row, expected in zip(rows, recorded, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert recorded[0]["reward_unfiltered"] < 0.3
    assert recorded[-1]["reward_unfiltered"] > 0.7


def test_first_mini_batch_after_a_reset_has_a_kl_of_exactly_zero(make_run):
    """Seen in the loop itself: the log-probs of policy and reference come from batches that were cut alike."""
    run = make_run(reset_every=2, reset_min_spacing=1, max_rounds=20, microbatch_tokens=20, dtype="float32")
    firsts = []
    with run.folder:
        for _ in range(6):
            mini.train_step(run)
            firsts.append(json.loads(run.folder.metrics_path.read_text().splitlines()[-1])["kl_first"])
            mini.reset_if_due(run)
    rows = [json.loads(line) for line in run.folder.metrics_path.read_text().splitlines()]
    assert [row["step"] for row in rows if row.get("event") == "reset"] == [2, 4, 6]
    assert [kl == 0 for kl in firsts] == [True, False] * 3
    assert all(row["kl"] > 0 for row in rows if "event" not in row)  # the later three updates have moved


def test_validation_weighs_its_sets(make_run, monkeypatch):
    """Three quarters of one set's 0.5 and a quarter of the other's 1; the third is not even asked."""
    run = make_run(eval_every=1)
    run.config.eval_sets, asked = {"a": 3.0, "b": 1.0}, []

    def evaluate(run, split, prompts, answers, tiers):
        asked.extend(tiers)
        return {"a": np.array([[True, False], [True, False]]), "b": np.array([[True, True]])}

    monkeypatch.setattr(mini, "evaluate", evaluate)
    with run.folder:
        mini.validate(run)
    event = json.loads(run.folder.metrics_path.read_text().splitlines()[0])
    assert asked[:2] == ["a", "b"]
    assert event["score"] == pytest.approx(0.625)
    assert event["pass@k"] == pytest.approx({"1": 0.625, "2": 1.0})


@pytest.mark.parametrize(("sets", "says"), [({"toys": 1.0}, "names toys"), ({"toy": 0.0}, "at least 0, one of them")])
def test_validation_sets_that_cannot_be(make_run, sets, says):
    with pytest.raises(UserError, match=says):
        make_run(eval_sets=sets)


def test_bfloat16_computes_with_the_weights_of_now():
    """One context spans the run; what it computes after an update equals what a new one does."""
    config, layer, x = SimpleNamespace(dtype="bfloat16", device="cpu"), torch.nn.Linear(8, 8), torch.ones(1, 8)
    with models.autocast(config):
        before = layer(x)
        layer.weight.data.mul_(3)
        after = layer(x)
    with models.autocast(config):
        fresh = layer(x)
    assert before.dtype == torch.bfloat16
    assert torch.equal(after, fresh)
    assert not torch.equal(after, before)


def golden_rows(make_run):
    settings = dict(prompts_per_step=8, answers_per_prompt=16, learning_rate=1.5e-3, kl_coef=0.01)
    run = make_run(steps=20, reset_every=8, reset_min_spacing=1, **settings)
    with run.folder:
        for _ in range(run.config.steps):
            mini.train_step(run)
            mini.reset_if_due(run)
    keys = ("step", "loss", "reward_unfiltered", "length", "entropy", "kl", "clip_high", "clip_low", "grad_norm")
    rows = map(json.loads, run.folder.metrics_path.read_text().splitlines())
    return [{key: -1.0 if row[key] is None else row[key] for key in keys} for row in rows if "event" not in row]
