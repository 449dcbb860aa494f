"""How many prompts a step draws: one round where the paper's way takes two or three, and the same groups trained on."""

import copy
import random
import statistics
from types import SimpleNamespace

import pytest

import prorl_mini as mini
from prorl_lab.ledger import prompts_to_draw

P, G = 32, 4


def frozen_run(rate, **settings):
    """A run whose policy stands still.  What is written to a prompt depends on its number alone, as does whether it
    has contrast: more often where answers are long.  rate(step): share of groups with contrast.  No model, no task."""

    def write(problems, prompts, num_answers, temperature, generator, ledger):
        run.rounds.append(len(problems))
        return [answers(problem.number, num_answers) for problem in problems]

    def answers(number, count):
        dice = random.Random(number)
        lengths = [min(60, int(20 * dice.lognormvariate(0, 0.8)) + 1) for _ in range(count)]
        kept = dice.random() < rate(run.state.step) * statistics.mean(lengths) / 27  # 27: their mean
        return [mini.Sample([number], [1] * n, reward=float(kept and i == 0)) for i, n in enumerate(lengths)]

    task = SimpleNamespace(problem=lambda split, number: SimpleNamespace(number=number, tier="t", prompt=str(number)))
    config = mini.Config(**{"prompts_per_step": P, "answers_per_prompt": G, "binary_reward": False, **settings})
    run = SimpleNamespace(
        config=config, state=mini.State(), task=task, write=write, generator=None, rounds=[], tokenizer=None
    )
    return run


@pytest.fixture(autouse=True)
def no_tokenizer(monkeypatch):
    monkeypatch.setattr(mini, "encode", lambda run, problem: [problem.number])


def steps(run, count):
    """-> for each step: prompts of each round, numbers of the problems trained on, and the step's metrics."""
    rows = []
    for _ in range(count):
        run.rounds = []
        groups, ledger = mini.collect_groups(run)
        rows.append((run.rounds, [group[0].prompt[0] for group in groups], ledger.metrics(groups)))
        run.state.step += 1
    return rows


def test_one_round_a_step_where_the_paper_s_way_takes_two_and_the_same_groups_in_the_same_order():
    """At 45 % kept a round of P fills less than half a step.  Nothing is cut short and nobody overtakes, so lengths are
    those of a run that waits for all answers to all prompts."""
    adaptive, rounds = (steps(frozen_run(lambda step: 0.45, draw=draw), 80) for draw in ("adaptive", "rounds"))
    trained, others = ([number for _, numbers, _ in rows for number in numbers] for rows in (adaptive, rounds))
    assert trained == others
    assert len(trained) == 80 * P
    every = frozen_run(lambda step: 0.45, dynamic_sampling=False, prompts_per_step=trained[-1] + 1)
    groups, _ = mini.collect_groups(every)
    with_contrast = [group for group in groups if len({s.reward for s in group}) > 1]
    assert [group[0].prompt[0] for group in with_contrast] == trained
    count, others = (sum(len(drawn) for drawn, _, _ in rows) for rows in (adaptive, rounds))
    assert count < 0.6 * others
    assert others > 2 * 80
    wasted, before = (sum(metrics["tokens_wasted"] for _, _, metrics in rows) for rows in (adaptive, rounds))
    assert wasted < 1.03 * before


@pytest.mark.parametrize("draw", ["adaptive", "rounds"])
@pytest.mark.parametrize("max_rounds", [1, 4, 10])
def test_bounds_hold_whatever_the_share_of_groups_with_contrast_does(draw, max_rounds):
    """Steps with hardly any and steps with all of them: never more than max_rounds * P drawn in as many rounds; nothing
    is trained on later than a step after it was written."""
    phases = [0.02, 2.0, 0.3, 2.0, 0.0, 1.0]
    run = frozen_run(lambda step: phases[step // 5 % len(phases)], draw=draw, max_rounds=max_rounds, prompts_per_step=8)
    written, seen = {}, set()
    for step, (rounds, numbers, metrics) in enumerate(steps(run, 5 * len(phases))):
        assert sum(rounds) <= max_rounds * 8
        assert len(rounds) <= max_rounds
        written |= {number: step for number in range(len(written), len(written) + sum(rounds))}
        assert all(step - written[number] <= 1 for number in numbers)
        assert not seen.intersection(numbers)
        seen |= set(numbers)
        assert metrics["groups_generated"] == sum(rounds)
    assert len(run.state.surplus) <= 8


def test_groups_that_would_wait_too_long_are_counted_as_wasted():
    """From hardly any contrast to all at once: what goes beyond the next step is dropped, and the log says so."""
    run = frozen_run(lambda step: 0.0 if step < 5 else 100.0, max_rounds=10)
    *_, (rounds, numbers, metrics) = steps(run, 6)
    assert rounds == [10 * P]
    assert (len(numbers), len(run.state.surplus)) == (P, P)
    assert metrics["ledger"]["t"]["kept"] == 2 * P
    assert metrics["tokens_wasted"] > 0.7 * metrics["tokens"]


def test_without_dynamic_sampling_the_draw_is_p():
    run = frozen_run(lambda step: 0.45, dynamic_sampling=False)
    assert [rounds for rounds, _, _ in steps(run, 3)] == [[P]] * 3


def test_the_draw_looks_at_the_last_rounds_and_at_nothing_else():
    """So it is the same on every rank, and after a resume: the rounds are part of the state."""
    run, other = frozen_run(lambda step: 0.3), frozen_run(lambda step: 0.3)
    steps(run, 20)
    assert len(run.state.draws) == mini.RECENT_ROUNDS
    other.state = copy.deepcopy(run.state)
    assert [numbers for _, numbers, _ in steps(run, 5)] == [numbers for _, numbers, _ in steps(other, 5)]
    share = sum(kept for _, kept in run.state.draws) / sum(drawn for drawn, _ in run.state.draws)
    assert share == pytest.approx(0.3, abs=0.06)
    assert prompts_to_draw(P, run.state.draws, 0, run.config) == pytest.approx(1.1 * P / share, abs=2)
