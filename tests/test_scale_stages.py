"""Stages of a recipe in prorl_scale, the mismatch correction, resets and warnings, in a world of one process."""

import dataclasses
import json
import math
from collections import deque
from types import SimpleNamespace

import pytest
import torch

from prorl_lab.errors import UserError
from prorl_scale import config, health, policy, recipes, start, train
from prorl_scale.config import stages_of
from prorl_scale.rollout import Engine
from tests.test_scale_step import run, samples, weights, world  # noqa: F401  fixtures

TWO = recipes.Recipe(
    "two stages",
    {},
    [
        recipes.Stage("short", 2, changes={"max_new_tokens": 5, "domains": {"a": 1.0}}),
        recipes.Stage("long", ends_at_reset=True, changes={"max_new_tokens": 9, "eval_sets": {"x": 1.0}}),
    ],
)


class Task:
    """Remembers the shares it was given."""

    weights = None

    def set_weights(self, weights):
        self.weights = weights


@pytest.fixture
def staged(run, monkeypatch):  # noqa: F811
    monkeypatch.setitem(recipes.RECIPES, "two", TWO)
    run.config.recipe, run.task = "two", Task()
    run.recipe, run.stages = TWO, stages_of(run.config)
    run.engine = type("Engine", (), {"config": run.config})()
    with run.folder:
        yield run


def events(run):  # noqa: F811
    return [json.loads(line) for line in run.folder.metrics_path.read_text().splitlines()]


def test_a_stage_changes_what_it_names_and_nothing_else(staged):
    staged.enter_stage()
    assert (staged.config.max_new_tokens, staged.task.weights) == (5, {"a": 1.0})
    assert staged.engine.config is staged.config  # the sampler's limit is the stage's
    staged.state.history = [(0, 0.5)]
    staged.state.step = 1
    train.advance_stage(staged, was_reset=False)
    assert (staged.state.stage, staged.config.max_new_tokens) == (0, 5)
    staged.state.step = 2
    train.advance_stage(staged, was_reset=False)
    assert (staged.state.stage, staged.config.max_new_tokens, staged.task.weights) == (1, 9, {"a": 1.0})
    assert staged.state.history == []  # measured on another blend
    (event,) = events(staged)
    assert event == {"event": "stage", "step": 2, "stage": 1, "name": "long", "changes": TWO.stages[1].changes}
    assert staged.config.learning_rate == staged.stages[0].learning_rate
    assert staged.stages[0].max_new_tokens == 5  # untouched: a resumed run may be in it


def test_entering_a_stage_again_keeps_the_history(staged):
    """As on resume: the stage is put in force, and nothing that the state holds is touched."""
    staged.state.stage, staged.state.history = 1, [(3, 0.4)]
    staged.enter_stage()
    assert (staged.config.max_new_tokens, staged.state.history) == (9, [(3, 0.4)])


def test_a_changed_recipe_is_not_resumed(staged):
    start.write_json(staged.folder.path / "recipe.json", json.loads(json.dumps(dataclasses.asdict(TWO))))
    start.check_recipe(TWO, staged.config, staged.folder)
    with pytest.raises(UserError, match="has changed since"):
        start.check_recipe(recipes.Recipe("two stages", {}, TWO.stages[:1]), staged.config, staged.folder)


@pytest.mark.parametrize("kind", ["off", "tis", "icepop", "geometric"])
def test_mismatch_correction_by_a_loop_over_tokens(run, kind):  # noqa: F811
    """First update, no penalty: the ratio is 1, so the loss is minus the mean of weight times advantage."""
    run.config.kl_coef, run.config.mismatch = 0.0, kind
    run.config.mismatch_low, run.config.mismatch_high = 0.7, 1.4
    batch = samples()
    for sample, (logp, _) in zip(batch, policy.score_samples(run.policy, batch, 300, 1.2), strict=True):
        sample.old_logp = logp
        sample.sampler_logp = logp + torch.linspace(-1, 1, len(logp))
    batch[0].sampler_logp = batch[0].old_logp + 0.5  # its geometric mean lies outside
    terms, outside = [], []
    for s in batch:
        mean = math.exp((s.old_logp - s.sampler_logp).mean().item())
        for old, sampler in zip(s.old_logp.tolist(), s.sampler_logp.tolist(), strict=True):
            w = math.exp(old - sampler)
            within, whole = 0.7 <= w <= 1.4, 0.7 <= mean <= 1.4
            outside.append({"off": False, "tis": w > 1.4, "icepop": not within, "geometric": not whole}[kind])
            terms.append(
                -s.advantage * {"off": 1.0, "tis": min(w, 1.4), "icepop": w * within, "geometric": w * whole}[kind]
            )
    assert train.update(run, batch)["loss"] == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    share = None if kind == "off" else pytest.approx(sum(outside) / len(outside))
    assert train.outside_bounds([batch[:2], batch[2:]], run.config) == share


def test_tokens_outside_the_bounds_are_not_dropped_unseen():
    """By default a warning names their share."""
    row = {**dict.fromkeys(health.KEYS), "reward_unfiltered": 0.5, "length": 5.0}
    rows = [{**row, "step": step, "outside_bounds": 0.4} for step in range(health.WINDOW)]
    (finding,) = health.check(rows, [], config.Config())
    assert finding.rule == "outside"
    assert "40%" in finding.message
    assert health.check([{**r, "outside_bounds": 0.01} for r in rows], [], config.Config()) == []


def test_mismatch_with_one_update_uses_the_update_s_own_pass(run):  # noqa: F811
    """No old log-probs yet: those of the forward pass stand in, and the sampler's agree with them, so weights are 1."""
    run.config.updates_per_step, run.config.kl_coef, run.config.mismatch = 1, 0.0, "icepop"
    batch = samples()
    for sample, (logp, _) in zip(batch, policy.score_samples(run.policy, batch, 300, 1.2), strict=True):
        sample.old_logp, sample.sampler_logp = None, logp
    tokens = [s.advantage for s in batch for _ in s.answer]
    assert train.update(run, batch)["loss"] == pytest.approx(-sum(tokens) / len(tokens), rel=1e-5)


def test_first_mini_batch_after_a_reset_has_a_kl_of_exactly_zero(run):  # noqa: F811
    """By the loop's own functions, with several micro-batches: policy and reference score the same numbers."""
    groups = [samples()[i : i + 3] for i in range(0, 15, 3)]
    run.config.microbatch_tokens, run.config.updates_per_step = 60, 3
    for weight in run.reference.parameters():
        weight.data.mul_(1.1)
    for reset in (False, True):
        if reset:
            train.reset_reference(run.policy, run.reference, run.optimizer)
        for sample in (s for group in groups for s in group):
            sample.old_logp = None
        train.add_logprobs(run, groups)
        stats = train.update_all(run, groups)
        assert (stats["kl_first"] == 0) == reset  # before it, the reference is another model
        assert stats["kl"] > 0


def test_reset_to_the_best_checkpoint(run):  # noqa: F811
    """Reference: the policy of the best validation, read from its checkpoint; policy and steps go on."""
    run.config.reset_to, run.config.reset_steps = "best", [3]
    with run.folder:
        for run.state.step, score in ((1, 0.9), (2, 0.3), (3, 0.2)):
            train.update(run, samples())
            run.state.history.append((run.state.step, score))
            if score == 0.9:
                best = weights(run)
            run.folder.save(run)
            assert run.reset_if_due() == (run.state.step == 3)
    now = torch.cat([p.full_tensor().flatten() for p in run.reference.parameters()])
    assert torch.equal(now, best)
    assert not torch.equal(weights(run), best)
    assert len(run.optimizer.state) == 0


def test_warnings_come_once_a_window_and_a_stop_says_why(run, monkeypatch):  # noqa: F811
    broken = [health.Finding("kl", "too far"), health.Finding("length", "too long")]
    monkeypatch.setattr(health, "check", lambda *args: broken)
    run.folder.metrics_path.touch()
    with run.folder:
        for run.state.step in range(1, 2 * health.WINDOW + 1):
            assert train.check_health(run) is None
        assert [(e["step"], e["rule"]) for e in events(run)] == [(1, "kl"), (1, "length"), (21, "kl"), (21, "length")]
        run.config.health_stops = ["length"]
        assert train.check_health(run) == "too long"


def test_state_of_a_run_survives_a_checkpoint(run):  # noqa: F811
    run.state.step, run.state.stage, run.state.warned = 4, 1, {"kl": 3}
    run.state.dynamics, run.state.watched = [(4, 0.1, 0.5)], [{"step": 4, "kl": 0.1}]
    kept = dict(vars(run.state))
    run.folder.metrics_path.touch()
    with run.folder:
        run.folder.save(run)
    run.state = train.State()
    run.folder.restore(run, train.State, train.Sample)
    assert {**vars(run.state), "surplus": deque()} == {**kept, "surplus": deque()}


def test_a_stage_that_cannot_be_is_found_out_at_the_start(staged):
    """Also one that comes a thousand steps later."""
    staged.task.tiers = ["x", "y"]
    start.check_stages(TWO, staged.stages, staged.task)
    staged.task.tiers = ["y"]
    with pytest.raises(UserError, match="--eval-sets names x"):
        start.check_stages(TWO, staged.stages, staged.task)
    without = type("Task", (), {"tiers": ["x"]})()
    with pytest.raises(UserError, match="domains a, and --task"):
        start.check_stages(TWO, staged.stages, without)


def test_a_copy_that_ends_answers_otherwise_is_refused(run):  # noqa: F811
    """A token that only the original's files named would be lost to the other ranks."""
    folder = str(run.folder.path.parent / "model")
    ids = start.models.stop_ids(run.policy.config, run.tokenizer)
    start.check_copy(ids, folder)
    with pytest.raises(UserError, match="eos_token_id"):
        start.check_copy([*ids, 7], folder)


def test_a_run_that_ended_by_its_own_rules_says_so_until_it_is_resumed(run):  # noqa: F811
    run.folder.note_stop("KL is too high")
    assert (run.folder.path / "stopped").read_text() == "KL is too high\n"
    run.folder.note_stop(None)
    run.folder.note_stop(None)
    assert not (run.folder.path / "stopped").exists()


@pytest.mark.parametrize("gpu", [False, True])
def test_only_on_a_gpu_requests_have_seeds_and_these_come_from_the_generator(gpu):
    """A sampler that notes what it is asked for, and answers at once."""
    asked = []

    class Llm:
        def __init__(self):
            self.llm_engine = self

        def reset_prefix_cache(self):
            return True

        def enqueue(self, prompts, params, use_tqdm):
            asked.append(params)
            return ["0-x"]

        def has_unfinished_requests(self):
            return False

    engine = Engine.__new__(Engine)
    engine.config, engine.stop_ids, engine.gpu, engine.llm = SimpleNamespace(max_new_tokens=3), [1], gpu, Llm()
    engine.sampling = lambda **how: how
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        with pytest.raises(KeyError):  # nothing was written
            engine.generate([[5], [6]], 2, 1.2, generator)
    if not gpu:
        assert all("seed" not in params for params in asked)
        return
    seeds = [[one["seed"] for one in params] for params in asked]
    assert seeds[0] == seeds[1] != seeds[2]
    assert len(set(seeds[0])) == 2
