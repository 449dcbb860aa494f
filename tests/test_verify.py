"""Tasks and the verifier: real generators, right and wrong answers, and text that wants to hang or crash the scorer."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prorl_lab import tasks, verify
from prorl_lab.errors import UserError
from prorl_lab.scoring.extract import after_think, last_boxed, last_tagged
from prorl_lab.verify import EVALUATING_TASKS, Verifier


@pytest.fixture(scope="module")
def verifier():
    """Workers take seconds to start, so one serves this file."""
    verifier = Verifier(seconds=5)
    yield verifier
    verifier.close()


@pytest.fixture
def laptop():
    return tasks.LaptopTask(seed=0, stop_ids=[1])


def test_laptop_problems_are_functions_of_their_number(laptop):
    again = tasks.LaptopTask(seed=0, stop_ids=[1])
    for number in (0, 7, 123_456):
        assert laptop.problem("train", number) == again.problem("train", number)
    train = {laptop.problem("train", i, "12 words").prompt for i in range(300)}
    held_out = {laptop.problem("held-out", i, "12 words").prompt for i in range(300)}
    assert len(train) == len(held_out) == 300
    assert not train & held_out


def test_laptop_scores_sorting_and_nothing_else(laptop):
    problem = laptop.problem("held-out", 3, "6 words")
    direction, *words, _ = problem.prompt.split()
    right = sorted(words, reverse=direction == "descending")
    answers = [" ".join(right), " " + "  ".join(right), " ".join(right[:-1]), " ".join([*right, right[-1]]), ""]
    scores = laptop.score([(problem, text) for text in answers])
    assert scores[:2] == [1.0, 1.0]
    assert max(scores[2:]) < 1


def test_gym_scores_the_gold_answer_and_survives_hostile_text(verifier):
    """prime_factorization raises on words, game_of_life on odd JSON: both cost their own item only."""
    names = ["leg_counting", "prime_factorization", "game_of_life"]
    task = tasks.GymTask(names, seed=0, stop_ids=[1], verifier=verifier)
    problems = [task.problem("train", i, name) for i, name in enumerate(names)]
    gold = [(p, f"<think><answer>no</answer></think>so <answer> {p.entry['answer']}\n</answer>") for p in problems]
    assert task.score(gold) == [1.0, 1.0, 1.0]
    hostile = [(problems[1], "<answer>ten x 29 extra</answer>"), (problems[2], '<answer>{"a": 1}</answer>')]
    assert max(task.score([*hostile, (problems[0], "no tags"), (problems[0], "<answer></answer>")])) == 0.0
    assert task.score(gold) == [1.0, 1.0, 1.0]


def test_answers_before_the_end_of_thinking_do_not_count():
    assert last_tagged(after_think("<think><answer>7</answer></think> I do not know")) is None
    assert last_tagged(after_think("<answer>6</answer> no, <answer>7 </answer>")) == "7"


@pytest.mark.parametrize("name", sorted(EVALUATING_TASKS))
def test_tasks_whose_scorer_evaluates_text_are_refused(name):
    with pytest.raises(UserError, match="sandbox"):
        tasks.GymTask([name], 0, [1], Verifier())


def test_math_compares_values(verifier):
    items = [
        ("math", r"so \boxed{\frac{1}{2}}", {"answer": "0.5"}),
        ("math", r"\boxed{1} or rather \boxed{2}", {"answer": "2"}),
        ("math", r"<think>\boxed{2}</think> no idea", {"answer": "2"}),
        ("math", r"\boxed{3}", {"answer": "2"}),
        ("math", "2", {"answer": "2"}),
        ("math", r"\boxed{" + "1+" * 400 + "1}", {"answer": "401"}),
    ]
    assert verifier.score(items) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


class Hangs:
    """A reference that keeps the child busy: what a scorer that never ends does to it."""

    def __reduce__(self) -> tuple:
        return time.sleep, (60,)


def test_a_power_tower_is_read_and_not_computed(verifier):
    """5^5^5^5^5 has more digits than any memory holds; no alarm in Python breaks such an operation."""
    timeouts = verifier.timeouts
    tower = r"\boxed{5^{5^{5^{5^5}}}}"
    assert verifier.score([("math", tower, {"answer": "1"}), ("math", r"\boxed{1}", {"answer": "1"})]) == [0.0, 1.0]
    assert verifier.timeouts == timeouts


def test_what_hangs_costs_its_clock_and_not_the_run(verifier):
    timeouts, verifier.seconds = verifier.timeouts, 0.5
    hung = verifier.score([("math", r"\boxed{1}", Hangs())])
    verifier.seconds = 5
    assert hung + verifier.score([("math", r"\boxed{1}", {"answer": "1"})]) == [0.0, 1.0]
    assert verifier.timeouts == timeouts + 1


class Burns:
    """A reference that takes a minute of processor time to arrive."""

    def __reduce__(self) -> tuple:
        return exec, ("import time\nwhile time.process_time() < 60: pass",)


def test_processor_time_ends_an_answer(verifier):
    timeouts, verifier.seconds = verifier.timeouts, 0.5
    assert verifier.score([("math", r"\boxed{1}", Burns())]) == [0.0]
    verifier.seconds = 5
    assert verifier.timeouts == timeouts + 1


def test_a_starved_answer_is_tried_again_and_then_has_no_score(verifier, monkeypatch):
    left = [3]  # both tries of the first answer, and one of the second

    class NeverSure(verify.AnswerClock):
        def patience(self):
            if left[0]:
                left[0] -= 1
                raise verify.Starved
            return super().patience()

    monkeypatch.setattr(verify, "AnswerClock", NeverSure)
    unverified = verifier.unverified
    assert verifier.score([("math", r"\boxed{1}", {"answer": "1"})] * 2) == [None, 1.0]
    assert verifier.unverified == unverified + 1


@pytest.mark.parametrize("text", ["no box", r"\boxed{never closed", r"\boxed"])
def test_without_a_whole_box_there_is_no_answer(text):
    assert last_boxed(text) is None


def test_questions_file_is_split_and_read(tmp_path, verifier):
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(json.dumps({"question": f"{i}+1?", "answer": i + 1}) for i in range(40)) + "\n\n")
    task = tasks.JsonLinesTask(path, 0, [1], verifier)
    counts = {split: len(rows) for split, rows in task.rows.items()}
    assert sum(counts.values()) == 40
    assert min(counts.values()) > 1
    problem = task.problem("train", 45)
    assert problem == tasks.JsonLinesTask(path, 0, [1], verifier).problem("train", 45)
    assert task.score([(problem, rf"\boxed{{{problem.entry['answer']}}}")]) == [1.0]


def test_a_file_without_questions(tmp_path):
    path = tmp_path / "none.jsonl"
    path.write_text("\n\n")
    with pytest.raises(UserError, match="holds no problems"):
        tasks.JsonLinesTask(path, 0, [1], None)


def test_real_golds_verify_against_themselves_and_not_each_other(verifier):
    """AMC, AIME24 and the first 60 GSM8K answers."""
    if "PRORL_TEST_DATA" not in os.environ:
        pytest.skip("PRORL_TEST_DATA is not set: no public data sets at hand")
    folder = Path(os.environ["PRORL_TEST_DATA"]) / "math"
    golds = [
        str(row["answer"]) for name in ("aime", "amc") for row in json.loads((folder / f"eval_{name}.json").read_text())
    ]
    lines = (folder / "gsm8k_test.jsonl").read_text().splitlines()[:60]
    golds += [json.loads(line)["answer"].split("####")[-1].strip() for line in lines]
    own = verifier.score([("math", rf"\boxed{{{gold}}}", {"answer": gold}) for gold in golds])
    assert min(own) == 1.0
    pairs = [(a, b) for a, b in itertools.pairwise(golds) if a != b]
    assert max(verifier.score([("math", rf"\boxed{{{a}}}", {"answer": b}) for a, b in pairs])) == 0.0


def test_a_script_without_a_main_guard_and_one_from_a_pipe_score_as_well(tmp_path):
    """multiprocessing would run the first once more in its child, and look for the second's file in vain."""
    script = (
        "print('begun'); from prorl_lab.verify import Verifier; v = Verifier(); "
        "print(v.score([('math', '\\\\boxed{2}', {'answer': '2'})])); v.close()"
    )
    (tmp_path / "mine.py").write_text(script)
    for command, given in ((["mine.py"], None), (["-"], script)):
        done = subprocess.run(
            [sys.executable, *command], input=given, cwd=tmp_path, text=True, capture_output=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(verify.__file__).parents[1])},
        )  # fmt: skip
        assert (done.stdout.split("\n"), done.stderr) == (["begun", "[1.0]", ""], "")


def test_a_child_that_cannot_start_is_one_sentence(monkeypatch):
    monkeypatch.setattr(verify.sys, "path", [])
    with pytest.raises(UserError, match="ended before it was ready"):
        Verifier().score([("math", "", {"answer": "2"})])
