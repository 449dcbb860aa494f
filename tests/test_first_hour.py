"""What a first hour stumbled over and no other test looks at: a model and a task of one's own, as users start them."""

import shutil

import pytest

import prorl_mini as mini
from prorl_lab import bars, laptop
from tests.launch import steps

TASK = """
def problem(number):
    return {"prompt": f"ascending {' '.join(['apple', 'kite', 'zebra'][:1 + number % 3])} ="}


def score(problem, answer):
    return float(len(answer) % 2)
"""
ARGS = [
    *("--model", "tiny", "--task", "words.py", "--steps", "1", "--prompts-per-step", "2", "--answers-per-prompt", "8"),
    *("--max-new-tokens", "4", "--max-rounds", "1", "--eval-every", "0", "--boundary-prompts", "0", "--threads", "1"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model of one's own, and a task."""
    folder = tmp_path_factory.mktemp("first-hour")
    shutil.move(laptop.base_model_folder(laptop.WarmUp(steps=0), folder / "made"), folder / "tiny")
    (folder / "words.py").write_text(TASK)
    return folder


@pytest.fixture(scope="module")
def begun(place):
    """The folder of a run that was started there, with paths as one types them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert mini.main([*ARGS, "--out", "run"]) == 0
    return place / "run"


def test_the_first_lines_say_what_will_be_made_of_what(place, monkeypatch, capsys):
    """Before anything is loaded; and a log in a file has lines, no bars."""
    monkeypatch.chdir(place)
    assert mini.main([*ARGS, "--seed", "3", "--out", "other"]) == 0
    said = capsys.readouterr()
    first = said.out.splitlines()[:5]
    assert [line.split()[0] for line in first] == ["run", "model", "task", "machine", "settings"]
    for line, part in zip(
        first,
        ("other", "tiny, 0.7M parameters", "words.py, your own", "cpu, float32, 1 thread", "--seed 3"),
        strict=True,
    ):
        assert part in line
    assert "\r" not in said.out + said.err


def test_progress_in_a_log_is_a_line_now_and_then(capsys):
    assert list(bars.lines([1, 2, 3], "work", every=0)) == [1, 2, 3]
    assert capsys.readouterr().err.splitlines() == ["work: 0 of 3", "work: 1 of 3", "work: 2 of 3"]
    assert list(bars.tqdm(range(3), "work")) == [0, 1, 2]  # at once: nothing to say
    assert capsys.readouterr().err == ""


def test_a_run_goes_on_from_another_folder_and_with_other_threads(begun, tmp_path, monkeypatch):
    run = shutil.copytree(begun, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert mini.main(["--resume", "run", "--steps", "2", "--threads", "2"]) == 0
    assert [row["step"] for row in steps(run)] == [1, 2]


def test_a_run_that_has_saved_nothing_starts_again_in_its_folder(begun, place, tmp_path, monkeypatch):
    """Killed before its first checkpoint, it would be neither resumable nor out of the way."""
    monkeypatch.chdir(place)
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(begun / "config.json", run)
    (run / "metrics.jsonl").touch()
    assert mini.main([*ARGS, "--out", str(run)]) == 0
    assert steps(run)[0]["reward"] == steps(begun)[0]["reward"]
