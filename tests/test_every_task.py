"""Every puzzle task of the paper, trained on and held out, through `--task`: two steps, or one sentence why not."""

import json
from pathlib import Path

import pytest

import prorl_mini as mini
from prorl_lab import report, tasks
from prorl_lab.puzzles import Puzzles
from prorl_lab.verify import EVALUATING_TASKS, Verifier
from tests.mixture import byte_model

pytestmark = pytest.mark.slow
TRAINED = (Path(mini.__file__).parent / "prorl_scale/data/puzzle_tasks.txt").read_text(encoding="utf-8").split()
ALL = [*TRAINED, "acre", "boxnet", "game_of_life_halting", "puzzle24"]
QUICK = [
    *("--steps", "2", "--prompts-per-step", "1", "--answers-per-prompt", "2", "--max-new-tokens", "2"),
    *(
        "--no-dynamic-sampling",
        "--max-bad-steps",
        "9",
        "--eval-every",
        "2",
        "--eval-prompts",
        "1",
        "--eval-answers",
        "1",
    ),
    *("--boundary-prompts", "1", "--boundary-answers", "1", "--gradient-checkpointing", "False", "--threads", "1"),
]


@pytest.fixture(scope="module")
def verifier():
    """One for all tasks: starting it takes longer than two such steps."""
    verifier = Verifier()
    yield verifier
    verifier.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(model, verifier, tmp_path, monkeypatch, capsys):
    """`prorl_mini.py --task NAME` -> its exit code, its sentence, and the steps that it logged."""

    def start(task):
        monkeypatch.setattr(tasks, "Verifier", lambda: verifier)
        monkeypatch.setattr(report, "draw_curve", lambda rows, path: path.touch())
        monkeypatch.setattr(report, "draw_boundary", lambda tiers, path: path.touch())
        out = tmp_path / "run"
        args = ["--model", model, "--task", task, "--base-cache", model.parent, "--out", out, *QUICK]
        code = mini.main([str(arg) for arg in args])
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        log = out / "metrics.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return code, lines, [row["step"] for row in rows if "event" not in row]

    return start


def test_there_are_a_hundred():
    assert len(set(ALL)) == 100


@pytest.mark.parametrize("task", ALL)
def test_a_task_runs_or_says_why_not(run, task):
    """An untrained model solves nothing, so some runs end with that; a scorer that evaluates answers is refused."""
    code, lines, steps = run(task)
    if task in EVALUATING_TASKS:
        assert (code, len(lines), steps) == (1, 1, [])
        assert "takes a sandbox" in lines[0]
        for split in ("validation", "held-out"):
            assert Puzzles(task, 0).held_out(split, 0)["question"]  # so that prorl_scale has some
        return
    assert steps == [1, 2]
    assert (code, lines) == (0, []) or (code == 1 and "no group ever had contrast" in lines[0])
