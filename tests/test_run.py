"""A run as users meet it: the folder, kill and resume, Ctrl-C, and one sentence for each mistake."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import prorl_mini as mini
from prorl_lab import scoring
from prorl_lab.cli import stored_settings
from prorl_lab.errors import UserError
from tests.launch import rows as logged
from tests.launch import wait_for_line

ROOT = Path(__file__).parents[1]
QUICK = [
    *("--steps", "6", "--save-every", "3", "--prompts-per-step", "4", "--answers-per-prompt", "8"),
    *("--eval-every", "2", "--eval-prompts", "2", "--boundary-prompts", "2", "--boundary-answers", "4"),
    *("--warm-up-steps", "300", "--reset-every", "2", "--reset-min-spacing", "1"),
]


@pytest.fixture(scope="module")
def straight(cache, tmp_path_factory):
    """An uninterrupted run of six steps."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    assert mini.main([*QUICK, "--base-cache", str(cache), "--out", str(out)]) == 0
    return out


def start(cache, out, *more):
    """The same run as `straight`, in a process of its own, with its output readable line by line."""
    command = [sys.executable, "prorl_mini.py", *QUICK, "--base-cache", str(cache), "--out", str(out), *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def assert_same_run(folder, expected):
    assert logged(folder) == logged(expected)
    assert (folder / "samples.jsonl").read_text() == (expected / "samples.jsonl").read_text()
    ours, theirs = (torch.load(f / "state.pt", weights_only=True) for f in (folder, expected))
    assert ours["state"].pop("seconds") > 0
    theirs["state"].pop("seconds")
    assert_equal(ours, theirs)
    assert_equal(load_file(folder / "last/model.safetensors"), load_file(expected / "last/model.safetensors"))


def assert_equal(ours, theirs):
    """Deep equality, tensors bit for bit."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_equal(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b)
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    else:
        assert ours == theirs


def test_folder_holds_what_the_contract_names(straight):
    config = json.loads((straight / "config.json").read_text())
    assert config["settings"]["steps"] == 6
    assert config["versions"]["torch"] == torch.__version__
    rows = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "event" not in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    promised = (
        "step reward reward_unfiltered solved length truncated entropy kl clip_low clip_high grad_norm groups_kept "
        "groups_generated resets skipped_updates tokens seconds seconds_generate seconds_reward seconds_logprobs "
        "seconds_update learning_rate"
    )
    assert set(promised.split()) <= set(steps[0])
    assert {"boundary", "evaluation", "checkpoint", "reset"} == {row["event"] for row in rows if "event" in row}
    summary = json.loads((straight / "summary.json").read_text())
    assert summary["steps"] == 6
    assert summary["resets"] == 3
    for tier in summary["tiers"].values():
        for stage in ("base", "middle", "final"):
            row = tier[stage]
            assert list(row["pass@k"]) == ["1", "2", "4"]
            assert row["pass@1"] == row["pass@k"]["1"]
            assert all(row["low"][k] <= row["pass@k"][k] <= row["high"][k] for k in row["pass@k"])
            assert (row["prompts"], row["samples"]) == (2, 4)
    for name in ("curve.png", "boundary.png"):
        assert (straight / name).stat().st_size > 10_000
    for name in ("base", "last"):
        mini.models.AutoModelForCausalLM.from_pretrained(straight / name)


def test_training_moved_the_weights_and_the_reference(straight):
    base, last = (load_file(straight / name / "model.safetensors") for name in ("base", "last"))
    assert any(not torch.equal(base[name], last[name]) for name in base)
    state = torch.load(straight / "state.pt", weights_only=True)
    assert all(torch.equal(state["reference"][k], state["policy"][k]) for k in state["policy"])  # reset at step 6
    assert state["optimizer"]["state"] == {}


def test_kill_and_resume_equals_an_uninterrupted_run(straight, cache, tmp_path):
    """SIGKILL somewhere in step 5 (the last save was at 3), then --resume: bit for bit the same."""
    out = tmp_path / "killed"
    process = start(cache, out)
    wait_for_line(process, "step     4")
    process.kill()
    process.wait()
    assert not (out / "summary.json").exists()
    assert mini.main(["--resume", str(out)]) == 0
    assert_same_run(out, straight)


def test_ctrl_c_saves_after_the_step_and_can_be_resumed(straight, cache, tmp_path):
    out = tmp_path / "interrupted"
    process = start(cache, out)
    wait_for_line(process, "step     1")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    saved = torch.load(out / "state.pt", weights_only=True)["state"]["step"]
    assert 1 <= saved < 6
    assert mini.main(["--resume", str(out)]) == 0
    steps = [[row for row in logged(f) if "event" not in row] for f in (out, straight)]
    assert steps[0] == steps[1]


def test_a_finished_run_can_go_on(straight, cache, tmp_path):
    """--resume with more --steps continues; the figures of the old end give way to the new one's."""
    out = tmp_path / "longer"
    short = [*QUICK, "--base-cache", str(cache), "--out", str(out)]
    short[1] = "4"
    assert mini.main(short) == 0
    assert mini.main(["--resume", str(out), "--steps", "6"]) == 0
    rows = [[r for r in logged(f) if "event" not in r] for f in (out, straight)]
    assert rows[0] == rows[1]
    assert json.loads((out / "summary.json").read_text())["steps"] == 6
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings == {**stored_settings(straight), "out": str(out)}  # so that another --resume goes on to 6 as well


def test_a_half_written_state_is_never_picked_up(straight, tmp_path, monkeypatch):
    """The disk fills up in the middle of a save: the state before it is still there, whole."""
    run = type("Run", (), {"task": None})()
    config = mini.Config(resume=str(straight))
    folder = mini.RunFolder(config)
    before = (straight / "state.pt").read_bytes()

    def fill_up(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_up)
    run.state, run.policy = mini.State(), torch.nn.Linear(1, 1)
    run.reference, run.optimizer, run.generator = (
        run.policy,
        torch.optim.AdamW(run.policy.parameters()),
        torch.Generator(),
    )
    log = (straight / "metrics.jsonl").read_text()
    with folder, pytest.raises(UserError, match=r"No space left on device.*free some space"):
        folder.save(run)
    (straight / "metrics.jsonl").write_text(log)
    assert (straight / "state.pt").read_bytes() == before


# ------------------------------------------------------------------ one sentence for each mistake


def fails(capsys, *args):
    """Exit code 1 and one sentence on standard error -> the sentence."""
    capsys.readouterr()
    assert mini.main([str(a) for a in args]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_unknown_flag_is_an_error():
    assert mini.main(["--learning-rat", "1"]) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--answers-per-prompt", "1"], "at least 2"),
        (["--steps", "0"], "--steps is 0: give at least 1"),
        (["--temperature", "0"], "above 0"),
        (["--eps-low", "1.5"], "--eps-low"),
        (["--kl-coef", "-1"], "negative"),
        (["--task", "leg_counting"], "--model"),
        (["--eval-every", "0", "--reset-on-stall", "2"], "--eval-every"),
        (["--model", "no/such/folder", "--task", "leg_counting"], "Hugging Face"),
        (["--device", "cuda"], "no GPU found: run `make mini`, or pass --device cpu"),
        (["--max-new-tokens", "120"], "lower --max-new-tokens"),
    ],
)
def test_settings_that_cannot_work(capsys, cache, tmp_path, args, says):
    if "cuda" in args and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    quick = [*QUICK, "--base-cache", cache, "--out", tmp_path / "run"]
    assert says in fails(capsys, *quick, *args)


def test_unwritable_out(capsys, cache, tmp_path):
    (tmp_path / "file").touch()
    assert "choose another --out" in fails(capsys, *QUICK, "--out", tmp_path / "file" / "run")


def test_resume_of_a_folder_that_is_read_only(capsys, straight, tmp_path, monkeypatch):
    """As on a file system that was mounted read-only after a fault; root may write wherever a mode forbids it."""
    out, real = shutil.copytree(straight, tmp_path / "run"), os.open
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def read_only(path, flags, *args, **how):
        if Path(path).is_relative_to(out) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *args, **how)

    monkeypatch.setattr(os, "open", read_only)
    assert "Read-only file system): make it writable" in fails(capsys, "--resume", out, "--steps", "9")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_out_of_another_run_is_left_alone(capsys, straight):
    before = (straight / "metrics.jsonl").read_bytes()
    assert f"--resume {straight}" in fails(capsys, *QUICK, "--out", straight)
    assert (straight / "metrics.jsonl").read_bytes() == before


def test_resume_with_a_changed_setting(capsys, straight):
    assert "learning_rate" in fails(capsys, "--resume", straight, "--learning-rate", "1")


def test_resume_with_fewer_steps_than_were_done(capsys, straight):
    """It would do nothing, and leave a config that its own steps belie."""
    before = (straight / "config.json").read_bytes()
    assert "--steps 5 is less than the 6 steps that the run has done" in fails(
        capsys, "--resume", straight, "--steps", "5"
    )
    assert (straight / "config.json").read_bytes() == before


def test_resume_under_other_verifiers(capsys, straight, monkeypatch):
    """Rewards must not change amid a run: its answers would be compared by two measures."""
    monkeypatch.setattr(scoring, "VERSION", scoring.VERSION + 1)
    said = fails(capsys, "--resume", straight, "--steps", "9")
    assert f"another version of the verifiers ({scoring.VERSION - 1}, and here it is {scoring.VERSION})" in said


def test_a_prompt_that_is_too_long_does_not_lose_the_run(capsys, cache, tmp_path):
    """A list of 16 words is 18 tokens; the advice that comes with the error can be followed."""
    out = tmp_path / "run"
    args = [*QUICK, "--base-cache", cache, "--out", out, "--eval-every", "0", "--boundary-prompts", "0"]
    assert "raise it (a resumed run may)" in fails(capsys, *args, "--max-prompt-tokens", "17")
    assert mini.main(["--resume", str(out), "--max-prompt-tokens", "18"]) == 0
    assert [row["step"] for row in logged(out) if "event" not in row] == [1, 2, 3, 4, 5, 6]


def test_resume_of_what_is_no_run(capsys, tmp_path):
    assert "is not a run folder" in fails(capsys, "--resume", tmp_path)


def test_unknown_and_refused_tasks(capsys, straight, tmp_path):
    args = ["--model", straight / "base", "--out", tmp_path / "run", "--max-new-tokens", "8"]
    assert "unknown task 'leg_counting2'" in fails(capsys, *args, "--task", "leg_counting2")
    assert "sandbox" in fails(capsys, *args, "--task", "leg_counting,n_queens")


def test_broken_line_of_a_file_is_named(capsys, straight, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "1+1?", "answer": "2"}\n{"question": "no answer"}\n')
    args = ["--model", straight / "base", "--out", tmp_path / "run", "--task", questions, "--max-new-tokens", "8"]
    assert "questions.jsonl, line 2" in fails(capsys, *args)


def test_a_run_without_any_contrast_says_so(capsys, cache, tmp_path):
    """A random model solves nothing, so every group is dropped: it gives up, with its state saved."""
    args = [*QUICK, "--base-cache", cache, "--out", tmp_path / "run", "--warm-up-steps", "0"]
    assert "no group ever had contrast" in fails(capsys, *args)
    assert (tmp_path / "run/state.pt").exists()


def test_nan_in_the_loss_is_skipped_counted_and_stops_in_the_end(capsys, cache, tmp_path, monkeypatch):
    sound, step_once = mini.policy_loss, mini.train_step

    def poison_after_the_first_step(run):
        step_once(run)
        monkeypatch.setattr(mini, "policy_loss", lambda *args: (sound(*args)[0] * math.nan, sound(*args)[1]))

    monkeypatch.setattr(mini, "train_step", poison_after_the_first_step)
    args = [*QUICK, "--base-cache", cache, "--out", tmp_path / "run", "--max-bad-steps", "2", "--eval-every", "0"]
    assert "2 steps in a row" in fails(capsys, *args)
    rows = [row for row in logged(tmp_path / "run") if "event" not in row]
    assert [row["skipped_updates"] > 0 for row in rows] == [False, True, True]
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert state["state"]["step"] == 3
    assert all(torch.isfinite(weight).all() for weight in state["policy"].values())


def test_import_has_no_side_effects():
    """Importing prorl_mini prints nothing, and leaves torch's thread count and random state alone."""
    code = "import torch; a = torch.get_num_threads(); import prorl_mini; assert torch.get_num_threads() == a"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stdout) == (0, "")


def test_wall_clock_ends_training(cache, tmp_path):
    began = time.perf_counter()
    args = [*QUICK, "--base-cache", str(cache), "--out", str(tmp_path / "run"), "--max-seconds", "0.01"]
    assert mini.main(args) == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 1
    assert time.perf_counter() - began < 60
