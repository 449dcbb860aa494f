"""Held out is held out: by what a question asks, whatever the seed and the program; and no seed meets another."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from prorl_lab import tasks
from prorl_lab.errors import UserError
from prorl_lab.puzzles import Puzzles, split_of
from prorl_lab.seeds import derived
from prorl_lab.tasks import GymTask, JsonLinesTask, LaptopTask, held_out

FEW = ("tower_of_hanoi", "coin_flip", "prime_factorization", "self_reference")


def prompts(task, split, tier, count):
    return [problem.prompt for problem in held_out(task, split, tier, count)]


@pytest.mark.parametrize("name", FEW)
def test_no_seed_trains_on_what_any_seed_holds_out(name):
    """Of tasks with few questions: 1,500 training problems of one seed against 32 and 16 held out by three others."""
    ours = GymTask([name], 0, [1], None)
    trained = {ours.problem("train", number).prompt for number in range(1500)}
    for seed in (0, 1, 7):
        theirs = GymTask([name], seed, [1], None)
        boundary, validation = (prompts(theirs, split, name, n) for split, n in (("held-out", 32), ("validation", 16)))
        assert len({*boundary, *validation}) == len(boundary) + len(validation) > 30
        assert not trained & {*boundary, *validation}


def test_prepared_puzzles_and_those_of_the_evaluation_are_apart_whatever_the_seeds():
    sources = pytest.importorskip("prorl_scale.data.sources", reason="pip install -r requirements-rewards.txt")
    asked = {
        (split, seed): {row.prompt[-1]["content"] for row in sources.puzzles("coin_flip", split, 60, seed)}
        for split in ("train", "validation", "held-out")
        for seed in (0, 5)
    }
    for (split, _), these in asked.items():
        for (other, _), those in asked.items():
            assert split == other or not these & those


def test_neighbouring_seeds_share_no_problem():
    """Item i of one seed used to be item i - 1 of the next."""
    few = [GymTask(["leg_counting"], seed, [1], None) for seed in range(4)]
    laptop = [LaptopTask(seed, [1]) for seed in range(3)]
    for those in (few, laptop):
        seen = [{task.problem("train", number).prompt for number in range(200)} for task in those]
        assert len(set.union(*seen)) == sum(map(len, seen))


def test_seeds_are_names_and_never_meet():
    made = {
        derived(name, seed, rank) for name in ("rollout", "validation") for seed in range(300) for rank in range(30)
    }
    assert len(made) == 2 * 300 * 30
    assert derived("a/b", "c") != derived("a", "b/c")


def test_split_of_is_a_half_a_quarter_and_a_quarter_and_knows_no_layout():
    counts = {"train": 0, "validation": 0, "held-out": 0}
    for number in range(4000):
        counts[split_of(f"What is {number} + 1?")] += 1
    assert [round(20 * counts[split] / 4000) for split in counts] == [10, 5, 5]
    assert split_of("Sort: b a") == split_of(" sort:\n B  a")


@pytest.mark.parametrize(
    "name", ["acre", "gsm_symbolic", "list_functions", "word_ladder", "palindrome", "codeio", "bf"]
)
def test_a_problem_is_a_function_of_its_number(name, capsys):
    """In whatever order, of tasks that took gigabytes or a traceback; and nobody's generator moves."""
    ours, theirs = Puzzles(name, 0), Puzzles(name, 0)
    before = random.getstate(), np.random.get_state()[1].tolist()
    forth = [ours.train(number)["question"] for number in range(5)]
    back = [theirs.train(number)["question"] for number in reversed(range(5))][::-1]
    assert forth == back
    assert len(set(forth)) > 3
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert capsys.readouterr().out == ""


class Broken:
    """A data set that fails for most places, as some of the library's do for a few."""

    def __init__(self, real, good):
        self.real, self.config, self.good = real, real.config, good

    def __getitem__(self, place):
        self.real.seed = self.real.config.seed
        return self.real[place] if place % 4 in self.good else 1 // 0


@pytest.mark.parametrize("good", [(0,), ()])
def test_a_generator_that_fails_costs_its_draw_and_not_the_run(good):
    puzzles = Puzzles("basic_arithmetic", 0)
    puzzles.dataset = Broken(puzzles.dataset, good)
    if good:
        assert len({puzzles.train(number)["question"] for number in range(20)}) > 15
        assert puzzles.held_out("held-out", 5)
        return
    with pytest.raises(UserError, match=r"nothing left to train on .*ZeroDivisionError"):
        puzzles.train(0)
    with pytest.raises(IndexError):
        puzzles.held_out("held-out", 0)


def test_a_problem_that_writes_files_leaves_none_and_finds_none(tmp_path, monkeypatch):
    """Some of codeio's programs write into the folder they run in: `file_50.txt`, `simulation_data.txt`."""

    def item(dataset, place):
        found = len(list(Path().iterdir()))
        Path("file_50.txt").write_text("a line")
        return {"question": f"{found} files were there"}

    monkeypatch.chdir(tmp_path)
    puzzles = Puzzles("codeio", 0)
    monkeypatch.setattr(type(puzzles.dataset), "__getitem__", item)
    assert [puzzles.draw("train", number, 0)["question"] for number in (1, 1)] == 2 * ["0 files were there"]
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.iterdir())


def test_numbers_of_a_sequence_end_somewhere():
    """Some of these draws used to square a number two dozen times, and took minutes and all memory."""
    puzzles = Puzzles("number_sequence", 0)
    assert max(len(puzzles.train(number)["question"]) for number in range(3200)) < 1000


def settings(**more):
    given = {"eval_every": 1, "eval_prompts": 16, "eval_sets": None, "boundary_prompts": 32, "seed": 0}
    given |= {"skip_bad_rows": False, "keep": []}
    return SimpleNamespace(**{**given, **more})


def test_too_few_questions_are_said_at_the_start(capsys):
    tasks.load_task(settings(task="tower_of_hanoi", eval_prompts=200), [1], sandboxed=True)
    (line, *_) = capsys.readouterr().out.splitlines()
    assert line.startswith("tower_of_hanoi: ")
    assert line.endswith("different problems for validation, not 200: it has no more")


def questions(path, count, times=1):
    lines = [json.dumps({"question": f"{i}+1?", "answer": str(i + 1)}) for i in range(count) for _ in range(times)]
    path.write_text("\n".join(lines))
    return path


def test_rows_of_a_file_are_in_one_split_and_counted_once(tmp_path, capsys):
    task = JsonLinesTask(questions(tmp_path / "twice.jsonl", 100, times=2), 0, [1], None)
    assert "100 rows ask what an earlier one asks" in capsys.readouterr().out
    asked = {split: {row["question"] for row in rows} for split, rows in task.rows.items()}
    assert len(set.union(*asked.values())) == sum(map(len, asked.values())) == 100
    assert len(held_out(task, "held-out", "twice", 64)) == len(asked["held-out"]) < 64  # never round again
    assert JsonLinesTask(tmp_path / "twice.jsonl", 7, [1], None).rows == task.rows  # whatever the seed


def test_an_epoch_of_a_file_has_every_row_once_and_an_order_of_its_own(tmp_path):
    task = JsonLinesTask(questions(tmp_path / "rows.jsonl", 30), 0, [1], None)
    rows = len(task.rows["train"])
    epochs = [[task.problem("train", e * rows + i).prompt for i in range(rows)] for e in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert [task.problem("train", rows + i).prompt for i in range(rows)] == epochs[1]  # also from the middle


def test_a_file_with_nothing_to_hold_out_is_refused_where_that_is_asked_for(tmp_path):
    path = questions(tmp_path / "two.jsonl", 2, times=3)
    with pytest.raises(UserError, match="'two' has too few different questions to hold one out for validation"):
        tasks.load_task(settings(task=str(path)), [1], sandboxed=True)
    task = tasks.load_task(settings(task=str(path), eval_every=0, boundary_prompts=0), [1], sandboxed=True)
    assert {split: len(rows) for split, rows in task.rows.items()} == {"train": 2, "validation": 0, "held-out": 0}


@pytest.mark.parametrize("count", [3, 4, 9, 29, 31, 100, 1000])
def test_a_file_is_divided_whole(tmp_path, count):
    task = JsonLinesTask(questions(tmp_path / "rows.jsonl", count), 0, [1], None)
    train, validation, held_out = (len(task.rows[split]) for split in ("train", "validation", "held-out"))
    assert train + validation + held_out == count
    assert train >= validation >= 1
    assert held_out >= max(1, count // 10)
