"""Recipes against a table of the paper's values, the passage from stage to stage, and the health rules."""

import dataclasses
import json
import math
import random

import pytest

from prorl_lab import tasks
from prorl_lab.errors import UserError
from prorl_scale import health, recipes
from prorl_scale.config import Config, longest_answer, parse, stages_of

# ProRL (arXiv 2505.24864), section 3.2 and appendix E; the steps are read off Fig. 2.  KL's 1e-4: arXiv 2507.12507.
PAPER = {
    "model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "learning_rate": 2e-6,
    "temperature": 1.2,
    "eps_low": 0.2,
    "eps_high": 0.4,
    "kl_coef": 1e-4,
    "prompts_per_step": 256,
    "updates_per_step": 4,  # mini-batches of 64 prompts
    "dynamic_sampling": True,
    "eval_temperature": 0.6,
    "eval_top_p": 0.95,
    "reset_keeps_optimizer": False,
    "zero_truncated": None,  # by run
    "answers_per_prompt": None,
    "max_new_tokens": None,
}
RUNS = [  # last step, answers to a prompt, context, termination penalty, instruction following
    (564, 16, 8192, False, False),
    (904, 16, 8192, False, False),
    (1042, 16, 8192, False, True),
    (1477, 16, 8192, True, True),
    (1687, 16, 8192, True, True),
    (1943, 32, 8192, True, True),
    (2250, 32, 8192, True, True),
    (2411, 16, 16384, True, True),
]


def start(name):
    return Config(**recipes.RECIPES[name].settings, recipe=name)


@pytest.mark.parametrize("run", range(8))
def test_published_recipe_against_the_paper(run):
    """What is in force in each of the eight runs, by walking through all 2,411 steps."""
    config = start("prorl-1.5b")
    stage, stages = 0, []
    for step in range(1, config.steps + 1):
        stages.append(stage)  # the stage that this step is run in
        stage = config_stage(config, stage, step)
    last, answers, context, penalty, instruction = RUNS[run]
    first = RUNS[run - 1][0] + 1 if run else 1
    assert {stages[step - 1] for step in range(first, last + 1)} == {run}
    now = stages_of(config)[run]
    assert {key: getattr(now, key) for key, value in PAPER.items() if value is not None} == {
        key: value for key, value in PAPER.items() if value is not None
    }
    assert (now.answers_per_prompt, now.max_new_tokens, now.zero_truncated) == (answers, context, penalty)
    assert ("instruction" in now.domains) == instruction
    assert {"math", "code", "stem", "puzzle"} <= set(now.domains)
    assert config.steps == RUNS[-1][0]
    assert config.reset_steps == [run[0] for run in RUNS[:-1]]


def config_stage(config, stage, step):
    return recipes.find(config.recipe).next_stage(stage, step, step in config.reset_steps)


def test_show_prints_the_paper_s_values(capsys):
    """Every value of the table stands in what a user sees, and the unstated ones carry a star."""
    assert recipes.main(["show", "prorl-1.5b"]) == 0
    shown = capsys.readouterr().out.split("\nchoices\n")[0]
    lines = {
        line.split()[1 if line.strip().startswith("*") else 0]: line for line in shown.splitlines() if line.strip()
    }
    for key, value in PAPER.items():
        if value is not None:
            assert str(value) in lines[key], key
    for key in ("max_rounds", "weight_decay", "grad_clip", "eval_prompts", "health_kl_max"):
        assert lines[key].strip().startswith("*"), key
    assert not lines["learning_rate"].strip().startswith("*")
    for number, run in enumerate(RUNS[:-1], 1):
        assert f"to {run[0]}:" in next(line for line in shown.splitlines() if line.strip().startswith(f"run {number} "))


def test_v2_and_brorl_against_their_papers():
    """ProRLv2's post, sections 7.1 to 7.7 of it; BroRL: 512 x 128, and the root of the batch ratio."""
    v2, bro = start("prorl-v2-1.5b"), start("brorl-1.5b")
    assert (v2.advantage, v2.eps_low, v2.eps_high, v2.kl_kind, v2.kl_coef) == ("batch", 0.2, 0.28, "k2", 1e-4)
    assert (v2.mismatch, v2.mismatch_low, v2.mismatch_high) == ("icepop", 0.5, 5.0)
    assert v2.zero_truncated
    assert v2.reset_keeps_optimizer
    assert (v2.length_bonus_on, v2.length_bonus_off) == (100, 500)
    assert 200 <= v2.reset_every <= 500
    assert v2.steps == 3000
    assert (bro.answers_per_prompt, bro.prompts_per_step, bro.max_new_tokens) == (512, 128, 16384)
    # BR's comparison: 512 x 16 on the ProRL side, whose learning rate is scaled by the root of 65,536 / 8,192
    assert (v2.prompts_per_step, v2.answers_per_prompt) == (512, 16)
    assert bro.learning_rate == pytest.approx(v2.learning_rate * math.sqrt(65536 / 8192))
    assert bro.updates_per_step == v2.updates_per_step
    assert "prompts_per_step" not in recipes.BRO.choices  # BR states it
    assert {"eps_high", "updates_per_step", "reset_to", "eval_top_p"} <= set(recipes.V2.choices)


def test_justrl_against_its_script():
    """arXiv 2512.16649 and train/examples/justrl/run_scaling_ssh_distill.sh of thunlp/JustRL at 66b1f9c."""
    just = start("justrl-1.5b")
    script = {
        "prompts_per_step": 256, "answers_per_prompt": 8, "updates_per_step": 256 // 64, "learning_rate": 1e-6,
        "learning_rate_warm_up": 10, "weight_decay": 0.1, "grad_clip": 1.0, "temperature": 1.0, "eps_low": 0.2,
        "eps_high": 0.28, "kl_coef": 0.0, "max_prompt_tokens": 1024, "max_new_tokens": 15360, "eval_every": 50,
        "save_every": 50, "eval_answers": 32, "eval_temperature": 0.7, "eval_top_p": 0.9, "steps": 4380,
        "dynamic_sampling": False, "reset": False, "advantage": "group", "loss_level": "token",
    }  # fmt: skip
    assert {key: getattr(just, key) for key in script} == script
    assert just.max_prompt_tokens + just.max_new_tokens == 16384
    assert len(recipes.find("justrl-1.5b").stages) == 1


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_every_key_of_a_recipe_is_a_setting(name):
    """A misspelt one would do nothing; and no choice is explained that the recipe does not make."""
    recipe, fields = recipes.RECIPES[name], {f.name for f in dataclasses.fields(Config)}
    used = {*recipe.settings, *(key for stage in recipe.stages for key in stage.changes)}
    assert used <= fields
    assert {key for key in recipe.choices if key not in ("all", "health_*")} <= used
    assert len(stages_of(start(name))) == len(recipe.stages)
    ends = [stage.end for stage in recipe.stages if stage.end is not None]
    assert ends == sorted(ends)
    assert all(end < recipe.settings["steps"] for end in ends)


def test_a_stage_may_end_at_a_reset():
    recipe = recipes.RECIPES["prorl-1.5b-auto"]
    assert recipe.next_stage(0, 700, was_reset=False) == 0
    assert recipe.next_stage(0, 700, was_reset=True) == 1
    assert recipe.next_stage(7, 2900, was_reset=True) == 7  # the last one stays
    both = recipes.Recipe("", {}, [recipes.Stage("a", 10, ends_at_reset=True), recipes.Stage("b")])
    assert [both.next_stage(0, step, reset) for step, reset in ((9, False), (9, True), (10, False))] == [0, 1, 1]


def test_the_engine_is_started_for_the_longest_stage():
    assert longest_answer(stages_of(start("prorl-1.5b"))) == 16384
    assert longest_answer(stages_of(start("laptop"))) == 22


def test_unknown_recipe(capsys):
    with pytest.raises(UserError, match=r"unknown recipe 'laptob'.*laptop"):
        recipes.find("laptob")
    assert recipes.main(["show", "laptob"]) == 1
    assert recipes.main([]) == 1
    assert capsys.readouterr().err.count("error: ") == 2


def test_laptop_domains_are_drawn_in_their_shares():
    task = tasks.LaptopTask(seed=0, stop_ids=[1])

    def ascending(count=400):
        return sum(task.problem("train", i).prompt.startswith("ascending") for i in range(count)) / count

    mixed = [task.problem("train", i).prompt for i in range(5)]
    task.set_weights({"ascending": 1.0})
    assert ascending() == 1.0
    assert [task.problem("held-out", i, "8 words").prompt for i in range(9)] == [
        tasks.LaptopTask(0, [1]).problem("held-out", i, "8 words").prompt for i in range(9)
    ]
    task.set_weights({"ascending": 1.0, "descending": 3.0})
    assert ascending() == pytest.approx(0.25, abs=0.07)
    answer = task.problem("train", 3)
    assert task.score([(answer, answer.entry["answer"].replace(",", ""))]) == [1.0]
    task.weights = None
    assert [task.problem("train", i).prompt for i in range(5)] == mixed
    for wrong in ({"ascendin": 1.0}, {"ascending": 0.0}):
        with pytest.raises(UserError, match="ascending and descending"):
            task.set_weights(wrong)


def test_a_run_that_health_stopped_can_be_resumed_without_that_rule(tmp_path):
    """Limits may change on resume, and so may what the machine gives; what a step computes may not."""
    settings = dataclasses.asdict(dataclasses.replace(start("laptop"), health_stops=["kl"], health_kl_max=0.1))
    (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
    again = parse(
        Config, ["--resume", str(tmp_path), "--health-stops", "--health-kl-max", "0.5", "--gpu-memory", "0.4"]
    )
    assert (again.health_stops, again.health_kl_max, again.gpu_memory) == ([], 0.5, 0.4)
    with pytest.raises(UserError, match="learning_rate"):
        parse(Config, ["--resume", str(tmp_path), "--learning-rate", "1e-9"])


# ------------------------------------------------------------------ health


LIMITS = Config(
    health_entropy_min=0.1, health_length_growth=1.5, health_repetition_max=0.2, health_truncated_max=0.5,
    health_kl_max=1.0, health_reward_jump=0.15,
)  # fmt: skip


def window(**late):
    """Twenty healthy steps, the last five as given."""
    healthy = dict(entropy_unfiltered=0.5, length=100.0, repetition=0.0, truncated=0.1, kl=0.02, reward_unfiltered=0.4)
    return [{"step": i, **healthy, **(late if i >= 15 else {})} for i in range(20)]


@pytest.mark.parametrize(
    ("late", "rule"),
    [
        (dict(entropy_unfiltered=0.05), "entropy"),
        (dict(length=160.0), "length"),
        (dict(repetition=0.3), "repetition"),
        (dict(truncated=0.6), "truncated"),
        (dict(kl=1.5), "kl"),
        (dict(reward_unfiltered=0.6), "reward"),
    ],
)
def test_each_rule_breaks_alone(late, rule):
    history = [(-5, 0.3), (5, 0.3), (15, 0.29)]
    assert health.check(window(), history, LIMITS) == []
    (finding,) = health.check(window(**late), history, LIMITS)
    assert finding.rule == rule
    assert health.check(window(**late), history, Config()) == []  # no limit, no rule
    assert health.check(window(**late)[1:], history, LIMITS) == []  # too few steps to judge


@pytest.mark.parametrize("history", [[], [(5, 0.3)], [(-5, 0.3), (5, 0.35)]])
def test_a_rising_reward_is_fine_where_validation_gains_or_is_unknown(history):
    assert health.check(window(reward_unfiltered=0.6), history, LIMITS) == []


def test_steps_without_figures_break_no_rule():
    empty = dict.fromkeys(("entropy_unfiltered", "length", "repetition", "truncated", "kl", "reward_unfiltered"))
    assert health.check([{"step": i, **empty} for i in range(20)], [], LIMITS) == []


def test_loops_against_a_search_over_all_tails():
    """By definition, over random short strings: some tail is one piece repeated, 3 times at least and 12 tokens."""
    draw = random.Random(0)
    found = 0
    for _ in range(2000):
        ids = [draw.randint(0, 1) for _ in range(draw.randint(0, 30))]
        truth = any(
            ids[-period * times :] == ids[-period:] * times
            for period in range(1, len(ids) + 1)
            for times in range(max(3, math.ceil(12 / period)), len(ids) // period + 1)
        )
        assert health.loops(ids) == truth
        found += truth
    assert 5 < found < 1000
