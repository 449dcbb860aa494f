"""A task of one's own, a file of Python or of questions: what it holds out, what it scores, what is wrong with it."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import prorl_mini as mini
from prorl_lab import inputs, own, questions, tasks
from prorl_lab.errors import UserError
from prorl_lab.scoring.own import verdict
from prorl_lab.verify import Verifier

README = (Path(__file__).parents[1] / "README.md").read_text()
SUMS = """
import random

def problem(number):
    a, b = random.Random(number).sample(range(1000), 2)
    return {"prompt": f"What is {a} + {b}?", "answer": str(a + b), "tier": "even" if (a + b) % 2 == 0 else "odd"}

def score(problem, answer):
    return float(answer.strip() == problem["answer"])
"""


HOSTILE = """
import os

def problem(number):
    return {"prompt": f"{number}?"}

def score(problem, answer):
    while answer == "hang":
        pass
    if answer == "die":
        os._exit(1)
    if answer == "leave":
        raise SystemExit
    if answer == "raise":
        raise RuntimeError(chr(0))
    return {"nan": float("nan"), "none": None, "many": 7, "list": [1.0, 0.0]}.get(answer, 1.0)
"""


def example() -> str:
    """The worked example of the README."""
    return re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]


@pytest.fixture(scope="module")
def verifier():
    verifier = Verifier(seconds=2)
    yield verifier
    verifier.close()


def task_of(folder: Path, source: str, verifier=None, name=None, seed=0) -> own.OwnTask:
    (folder / "my_task.py").write_text(source)
    return own.OwnTask(folder / "my_task.py", name, seed, [1], verifier)


def prompts(task, split, count):
    if split == "train":
        return {task.problem(split, number).prompt for number in range(count)}
    return {p.prompt for tier in task.tiers for p in tasks.held_out(task, split, tier, count)}


def test_an_endless_task_holds_out_by_text_whatever_the_seed(tmp_path):
    ours, theirs = task_of(tmp_path, SUMS), task_of(tmp_path, SUMS, seed=3)
    assert ours.tiers == ["even", "odd"]
    trained = prompts(ours, "train", 300)
    held = {(split, i): prompts(task, split, 24) for split in tasks.PURPOSES for i, task in enumerate((ours, theirs))}
    assert trained != prompts(theirs, "train", 300)
    assert not trained & set.union(*held.values())
    assert not (held["validation", 0] | held["validation", 1]) & (held["held-out", 0] | held["held-out", 1])
    assert ours.problem("train", 7) == task_of(tmp_path, SUMS).problem("train", 7)


def test_a_task_with_a_last_problem_is_read_whole(tmp_path):
    source = SUMS.replace("    a, b", "    if number >= 50: raise IndexError\n    a, b")
    task = task_of(tmp_path, source)
    assert task.size() == 50
    count = len(task.rows["train"])
    epochs = [[task.problem("train", e * count + i).prompt for i in range(count)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]
    assert sum(map(len, task.rows.values())) == 50
    with pytest.raises(IndexError):
        task.problem("held-out", 50, "odd")


def test_the_example_in_the_readme_is_short_and_right(tmp_path, verifier):
    source = example()
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    task = task_of(tmp_path, source, verifier)
    task.prove(binary=False)
    problem = task.problem("train", 0)
    words = sorted(problem.prompt.split()[1:-1])
    texts = [" ".join(words), " ".join([words[0], *words[:0:-1]]), "", "\x00" * 99]
    assert task.score([(problem, text) for text in texts]) == [1.0, 0.3, 0.0, 0.0]
    assert tasks.figures([tasks.tally(task)]) == {
        "verdicts": {"ok": 1, "wrong": 3}, "rewards": {"all": 0.25, "first": 0.5},
    }  # fmt: skip
    assert tasks.figures([tasks.tally(task)]) == {}


def test_what_a_score_does_on_hostile_text_costs_that_answer_alone(tmp_path, verifier):
    task = task_of(tmp_path, HOSTILE, verifier)
    problem = task.problem("train", 0)
    texts = ["hang", "die", "leave", "raise", "nan", "none", "many", "list", "fair"]
    assert task.score([(problem, text) for text in texts]) == [0.0] * 8 + [1.0]
    assert tasks.figures([tasks.tally(task)])["verdicts"] == {"error": 7, "ok": 1, "timeout": 1}


WRONG = {
    "no score": (SUMS.replace("def score", "def scores"), "has no function score"),
    "no problem": (SUMS.replace("def problem", "def problems"), "has no function problem"),
    "not python": ("def problem(:", "can't be run .*SyntaxError.*line 1"),
    "a missing package": ("import no_such_package\n" + SUMS, "No module named 'no_such_package', line 1"),
    "NaN": (SUMS.replace("float(", "float('nan') or float("), "gives nan, where a number from 0 to 1 is wanted"),
    "None": (SUMS.replace("return float(", "float("), "gives None, where a number from 0 to 1 is wanted"),
    "beyond 1": (SUMS.replace("return float(", "return 7 * float("), "gives 7.0, where"),
    "below 0": (SUMS.replace("return float(", "return -3 + float("), "gives -3.0, where"),
    "a list": (SUMS.replace("return float(", "return [1.0] or float("), r"gives \[1.0\], where"),
    "raises": (SUMS.replace("answer.strip()", "int(answer)"), "raises ValueError"),
    "at random": (SUMS.replace("return float(", "return random.random() or float("), "differs from call to call"),
    "another problem": (SUMS.replace("Random(number)", "Random()"), "another problem for the same number"),
    "no dict": (SUMS.replace('return {"prompt"', 'return "x" or {"prompt"'), 'give a dict with a "prompt"'),
    "no JSON": (SUMS.replace("str(a + b)", "{a, b}"), "holds what is no JSON"),
    "problem raises": (SUMS.replace("(range(1000), 2)", "(range(1), 2)"), "fails .*ValueError.*line 5"),
    "one problem": (SUMS.replace("Random(number)", "Random(1)"), "nothing left to train on|too few different"),
    "weights": (SUMS + 'WEIGHTS = {"a": 0.5}', "1 in all"),
    "parts": (SUMS.replace("return float(", 'return {"a": 1} or float('), "gives the parts a, where WEIGHTS has none"),
    "tiers": (SUMS + 'TIERS = ["odd"]', "tier 'even', which its TIERS lack"),
}


def use(make, *args):
    task = make(*args)
    task.prove(binary=False)
    tasks.held_out(task, "validation", task.tiers[0], 2)


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_told_in_one_sentence(tmp_path, verifier, kind):
    source, says = WRONG[kind]
    with pytest.raises(UserError, match=says) as error:
        use(task_of, tmp_path, source, verifier)
    assert "\n" not in str(error.value)


def test_partial_rewards_that_would_be_rounded_away_are_said(tmp_path, verifier, capsys):
    task_of(tmp_path, example(), verifier).prove(binary=True)
    assert "--binary-reward pays nothing for what its score calls partly right" in capsys.readouterr().out
    settings = {"model": "laptop", "task": str(tmp_path / "my_task.py"), "out": str(tmp_path / "x")}
    assert mini.settings.resolve(mini.Config(**settings)).binary_reward is False


def test_a_named_object_is_the_task(tmp_path, verifier):
    body = SUMS.split("import random\n")[1].replace("\n", "\n    ").replace("(number):", "(self, number):")
    body = body.replace("(problem, answer):", "(self, problem, answer):")
    task = task_of(tmp_path, f"import random\nclass Sums:\n    {body}\n", verifier, name="Sums")
    assert str(task).endswith("my_task.py:Sums")
    problem = task.problem("train", 0)
    assert task.score([(problem, problem.entry["problem"]["answer"])]) == [1.0]


PARTS = {"a": 0.7, "b": 0.2, "c": 0.1}


@pytest.mark.parametrize(
    ("given", "weights", "score", "status"),
    [
        (1, None, 1.0, "ok"),
        (True, None, 1.0, "ok"),
        (dict.fromkeys(PARTS, 1), PARTS, 1.0, "ok"),  # 0.7 + 0.2 + 0.1 is not 1 in floats
        ({**PARTS, "b": float("inf")}, PARTS, 0.0, "error"),
        ("1", None, 0.0, "error"),
    ],
)
def test_verdicts_of_own_scores(given, weights, score, status):
    assert verdict(given, weights)[:2] == (score, status)


# ------------------------------------------------------------------ files of questions


def rows_file(path: Path, count: int, *more: str) -> Path:
    lines = [json.dumps({"question": f"{i}+1?", "answer": str(i + 1)}) for i in range(count)]
    path.write_text("\n".join([*lines, *more]) + "\n")
    return path


BAD = {
    "null": ('{"question": "q", "answer": null}', "line 41 has no answer"),
    "empty": ('{"question": " ", "answer": "1"}', "line 41 has no question"),
    "wrong field": ('{"ask": "q", "answer": "1"}', "line 41 is not an object with"),
    "no object": ("[1]", "line 41 is not an object"),
    "no JSON": ("{", "line 41 is not JSON"),
    "split": ('{"question": "q", "answer": "1", "split": "test"}', "line 41 has the split 'test'"),
    "twice": ('{"question": "7+1?", "answer": "9"}', "line 41 asks what line 8 asks, with another answer"),
    "too long": (json.dumps({"question": "word " * 3000, "answer": "1"}), "line 41 can't be asked, since a prompt of"),
}


@pytest.mark.parametrize("kind", BAD)
def test_every_row_is_checked_at_the_start_and_skipped_on_request(tmp_path, capsys, kind):
    row, says = BAD[kind]
    path = rows_file(tmp_path / "rows.jsonl", 40, row)

    def load(skip):
        config = SimpleNamespace(
            task=str(path), seed=0, skip_bad_rows=skip, eval_every=0, boundary_prompts=0, eval_sets=None, model="other",
            max_prompt_tokens=500, max_new_tokens=10, keep=[],
        )  # fmt: skip
        task = tasks.load_task(config, [1], sandboxed=True)
        tokenizer = mini.models.laptop.build_tokenizer()
        tasks.join(config, task, tokenizer, mini.models.laptop.model_config(mini.models.laptop.WarmUp(), 300))
        return task

    with pytest.raises(UserError, match=says) as error:
        load(skip=False)
    assert "--skip-bad-rows" in str(error.value)
    capsys.readouterr()
    assert sum(map(len, load(skip=True).rows.values())) == 40
    assert f"{path}: 1 rows left out (1 " in capsys.readouterr().out


UNFIT = (
    '{"question": "What is the angle in the figure below?", "answer": "7"}',
    '{"question": "Prove that 7 is prime.", "answer": "7"}',
    '{"question": "What is the area of the figure below?", "answer": "8"}',
)


def test_questions_that_differ_in_layout_alone_are_one_where_their_answers_agree(tmp_path, capsys):
    """Else the one may be trained on and the other held out."""
    more = ('{"question": "$7 + 1$ ?", "answer": "8"}', '{"question": "$8 + 1$ ?", "answer": "17"}')
    path = rows_file(tmp_path / "rows.jsonl", 40, *more)
    found = questions.read(path)
    assert [row["line"] for row in found] == [*range(1, 41), 42]  # another answer: perhaps another question
    assert f"{path}: 1 rows ask what an earlier one asks, and are left out" in capsys.readouterr().out


def test_rows_that_no_program_can_judge_are_those_of_prepare(tmp_path, capsys):
    """Refused with their reasons and numbers; left out, or taken all the same, where the user says so."""
    path = rows_file(tmp_path / "rows.jsonl", 40, *UNFIT)

    def load(skip, *keep):
        return sum(map(len, tasks.JsonLinesTask(path, 0, [1], None, skip, keep).rows.values()))

    with pytest.raises(UserError) as error:
        load(False)
    assert str(error.value) == (
        f"{path}, line 41 can't be judged by a program ('refers to a figure'; in all 2 'refers to a figure', 1 'asks "
        "for a proof'; --keep 'refers to a figure' takes such rows): mend or remove it, or leave out all rows that "
        "can't be used with --skip-bad-rows"
    )
    assert load(True) == 40
    assert f"{path}: 3 rows left out (2 'refers to a figure', 1 'asks for a proof')" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"line 42 can't be judged by a program .'asks for a proof'; in all 1 'asks"):
        load(False, "refers to a figure")
    assert load(True, "refers to a figure") == 42
    assert load(False, "refers to a figure", "asks for a proof") == 43
    with pytest.raises(UserError, match="--keep drawings: choose from 'answer missing'"):
        load(False, "drawings")
    path.write_text("\n".join(UNFIT))
    with pytest.raises(UserError, match=r"holds no row that a program can judge \(2 'refers"):
        load(True)


def test_what_is_about_rows_is_refused_beside_a_task_without_any():
    for setting in ({"skip_bad_rows": True}, {"keep": ["asks for a proof"]}):
        with pytest.raises(UserError, match=r"is about the rows of a \.jsonl, and --task laptop is none"):
            mini.settings.resolve(mini.Config(**setting))


def test_a_prompt_says_which_form_of_answer_is_wanted():
    """A letter where the reference is the letter of an option, as `prepare` and `evaluate` say it."""
    options = "Which is even? (A) 3 (B) 4 (C) 5"
    wanted = [(options, "B", "the letter of"), (options, "4", "not its letter"), ("2+2?", "4", "the final answer")]
    for question, answer, form in wanted:
        prompt = questions.prompt_of({"question": question, "answer": answer})
        assert prompt.startswith(f"{question}\nLet's think step by step and output the ")
        assert form in prompt


def test_the_split_of_a_run_is_a_file_that_says_the_same(tmp_path):
    """Rows keep their split when the file is written, read, cut or added to."""
    path = rows_file(tmp_path / "rows.jsonl", 60)
    task = tasks.JsonLinesTask(path, 0, [1], None)
    (tmp_path / "split.jsonl").write_text(task.split_lines())

    def asked(rows):
        return {split: {row["question"] for row in some} for split, some in rows.items()}

    assert asked(tasks.JsonLinesTask(tmp_path / "split.jsonl", 5, [1], None).rows) == asked(task.rows)
    more = asked(tasks.JsonLinesTask(rows_file(path, 90), 0, [1], None).rows)
    assert all(asked(task.rows)[split] <= more[split] for split in more)


def test_a_run_knows_its_file_by_content(tmp_path, monkeypatch):
    """A resume from another folder finds it; one after an edit of the same size is refused."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(rows_file(tmp_path / "rows.jsonl", 40), "other.jsonl")
    stored = inputs.of_run(SimpleNamespace(task="rows.jsonl", model="laptop"))
    task = inputs.absolute("task", "rows.jsonl")
    assert task == str(tmp_path / "rows.jsonl")
    assert inputs.absolute("task", "leg_counting") == "leg_counting"
    monkeypatch.chdir("/")
    inputs.check(stored, SimpleNamespace(task=task))
    (tmp_path / "rows.jsonl").write_text((tmp_path / "rows.jsonl").read_text().replace('"9"', '"8"'))
    with pytest.raises(UserError, match=r"rows.jsonl has changed since the run was begun"):
        inputs.check(stored, SimpleNamespace(task=task))
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(UserError, match=r"rows.jsonl is gone"):
        inputs.check(stored, SimpleNamespace(task=task))


def test_evaluation_asks_what_a_file_holds_out(tmp_path, capsys):
    sets = pytest.importorskip("prorl_scale.evaluate.sets", reason="pip install -r requirements-rewards.txt")
    path = rows_file(tmp_path / "rows.jsonl", 60)
    (of,) = sets.named([str(path)])
    held = questions.by_split(questions.read(path))["held-out"]
    made, _ = sets.prompts(of, None, None, None)
    assert [(p.reference["answer"], p.domain) for p in made] == [(row["answer"], "math") for row in held]
    # What no program can judge is left out, and counted; a run's own file has been asked already, by its --keep.
    unfit = [json.dumps({**json.loads(line), "split": "held-out"}) for line in UNFIT]
    for name, count in (("unfit.jsonl", 1), (questions.FILE, 4)):
        path = rows_file(tmp_path / name, 0, *unfit, '{"question": "7 + 1?", "answer": "8", "split": "held-out"}')
        made, _ = sets.prompts(sets.named([str(path)])[0], None, None, None)
        assert len(made) == count
    assert "unfit.jsonl: 3 rows left out (2 'refers to a figure', 1 'asks for a proof')" in capsys.readouterr().out
    path.write_text("{")  # and evaluate has no --skip-bad-rows
    with pytest.raises(UserError, match=r"line 1 is not JSON .*: mend or remove it$"):
        sets.prompts(sets.named([str(path)])[0], None, None, None)
    (tmp_path / "my_task.py").write_text(example())
    (of,) = sets.named([f"{tmp_path}/my_task.py"])
    made, _ = sets.prompts(of, None, None, 5)
    assert [p.domain for p in made] == ["own"] * 5
    with pytest.raises(UserError, match="no such file"):
        sets.named(["none.jsonl"])
