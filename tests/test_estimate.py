"""Pass rates of training prompts: how they are written, cut off and continued, and what training leaves out by them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pip install -r requirements-rewards.txt")

import pyarrow
from pyarrow import parquet

from prorl_lab import scoring
from prorl_lab.errors import UserError
from prorl_scale import tasks
from prorl_scale.config import Config
from prorl_scale.data import Mixture, estimate
from prorl_scale.data.prepare import SCHEMA

ABOUT = {"model": "a model", "answers": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """150 prompts, of which number n is answered rightly in n % 5 of 4 answers; and ten to hold out."""
    for split, count in (("train", 150), ("validation", 10)):
        rows = [
            {
                "id": f"math-{split}-{n:06d}",
                "domain": "math",
                "source": "a test",
                "prompt": [{"role": "user", "content": f"{n}"}],
                "reference": json.dumps({"answer": str(n)}),
                "meta": "{}",
            }
            for n in range(count)
        ]
        (tmp_path / split).mkdir()
        parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), tmp_path / split / "math.parquet")
    return tmp_path


def answer(rows: list[dict[str, Any]]) -> list[list[tuple[float, bool]]]:
    numbers = [int(row["reference"]["answer"]) for row in rows]
    return [[(float(k < number % 5), True) for k in range(4)] for number in numbers]


def rates(folder: Path) -> dict[str, tuple[int, int]]:
    _, *lines = map(json.loads, (folder / estimate.FILE).read_text().splitlines())
    return {line["id"]: (line["right"], line["of"]) for line in lines}


def test_rates_are_written_once_and_continued(folder: Path) -> None:
    asked: list[str] = []

    def until_it_breaks(rows: list[dict[str, Any]]) -> list:
        if len(asked) >= estimate.CHUNK:
            raise KeyboardInterrupt
        asked.extend(row["id"] for row in rows)
        return answer(rows)

    with pytest.raises(KeyboardInterrupt):
        estimate.estimate(folder, ABOUT, 1.0, until_it_breaks)
    assert len(rates(folder)) == estimate.CHUNK
    path = folder / estimate.FILE
    path.write_text(path.read_text() + '{"id": "math-tr')  # a kill amid a line
    later: list[str] = []
    estimate.estimate(folder, ABOUT, 1.0, lambda rows: later.extend(row["id"] for row in rows) or answer(rows))
    assert not set(asked) & set(later)
    assert rates(folder) == {f"math-train-{n:06d}": (n % 5, 4) for n in range(150)}
    with pytest.raises(UserError, match="pass rates with another answers, model: give the same settings"):
        estimate.estimate(folder, {"model": "another", "answers": 8}, 1.0, answer)


def test_a_larger_share_holds_a_smaller_one(folder: Path) -> None:
    estimate.estimate(folder, ABOUT, 0.3, answer)
    some = set(rates(folder))
    assert 25 < len(some) < 65
    estimate.estimate(folder, ABOUT, 0.6, answer)
    assert some < set(rates(folder))
    assert 65 < len(rates(folder)) < 115


def test_answers_that_could_not_be_judged_are_no_wrong_ones(folder: Path) -> None:
    pool = SimpleNamespace(
        verify=lambda items: [
            SimpleNamespace(score=0.0, status="unverified") if text == "?" else SimpleNamespace(score=1.0, status="ok")
            for _, text, _ in items
        ]
    )
    texts = ["1", "?", "1"], ["?", "?", "?"]
    estimate.estimate(
        folder, ABOUT, 1.0, lambda rows: estimate.score(pool, rows, [texts[i % 2] for i in range(len(rows))])
    )
    assert set(rates(folder).values()) == {(2, 2), (0, 0)}
    assert estimate.outside(folder, 0.5, 0.9) == {name for name, rate in rates(folder).items() if rate == (2, 2)}


def test_training_leaves_out_what_lies_beyond(folder: Path, capsys: pytest.CaptureFixture) -> None:
    estimate.estimate(folder, ABOUT, 1.0, answer)
    plain = Config(task=str(folder), max_prompt_tokens=None, eval_every=0, boundary_prompts=0)
    tokenizer = type(
        "Words", (), {"chat_template": None, "__call__": lambda s, text, **_: {"input_ids": text.split()}}
    )()
    assert len(tasks.load_task(plain, [1], tokenizer).train.rows["math"]) == 150
    some = Config(task=str(folder), pass_rate=[0.02, 0.98], eval_every=0, boundary_prompts=0)
    task = tasks.load_task(some, [1], tokenizer)
    assert "of 150 prompts that a model was asked, 60 are solved less often than 0.02" in capsys.readouterr().out
    drawn = {int(task.problem("train", n).entry["reference"]["answer"]) % 5 for n in range(90)}
    assert drawn == {1, 2, 3}
    assert len(task.held.rows["math"]) == 10  # what is measured on is not chosen by what is easy
    assert len({row["id"] for row in Mixture(folder, 0).take(150)}) == 150
    with pytest.raises(UserError, match="another seed or to other data"):
        tasks.load_task(plain, [1], tokenizer).load_state_dict(task.state_dict())


def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = Config(task=str(folder), pass_rate=[0.1, 0.9])
    with pytest.raises(UserError, match=r"write it with python -m prorl_scale\.data prepare .* --estimate MODEL"):
        tasks.load_task(some, [1], None)
    with pytest.raises(UserError, match="--task leg_counting is none"):
        tasks.load_task(Config(task="leg_counting", pass_rate=[0.1, 0.9]), [1], None)
    estimate.estimate(folder, ABOUT, 1.0, answer)
    monkeypatch.setattr(scoring, "VERSION", scoring.VERSION + 1)
    with pytest.raises(UserError, match="another version of the verifiers"):
        tasks.load_task(some, [1], None)
