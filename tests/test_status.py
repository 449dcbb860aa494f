"""`python -m prorl_scale.status` on run folders made here: torn, empty, finished, resumed, silent, and real ones."""

import json
import os
from pathlib import Path

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest

from prorl_lab import lock, report
from prorl_lab.errors import UserError
from prorl_lab.log import parse_rows
from prorl_scale import status

RESULTS = Path(__file__).parents[1] / "results"
NOW = 1_800_000_000.0


def row(step, seconds=10.0, **values):
    return {
        **{"step": step, "reward_unfiltered": 0.5, "solved": step / 1000, "length": 100.0, "truncated": 0.1},
        **{"entropy": 1.0, "kl": 0.01, "groups_kept": 8, "groups_generated": 16, "tokens": 5000, "tokens_wasted": 2000},
        **{"seconds_generate": 0.6 * seconds, "seconds_update": 0.3 * seconds, "skipped_updates": 0},
        **{"resets": 0, "seconds": seconds, **values},
    }


def evaluation(step, score, **values):
    return {"event": "evaluation", "step": step, "score": score, "tiers": {"toy": score}, **values}


STAGES = [
    {"name": "short", "end": 30, "ends_at_reset": False, "changes": {}},
    {"name": "wide", "end": None, "ends_at_reset": True, "changes": {"answers_per_prompt": 32}},
    {"name": "long", "end": None, "ends_at_reset": False, "changes": {"max_new_tokens": 64}},
]
ROWS = [
    evaluation(0, 0.2),
    {"event": "checkpoint", "step": 0},
    *(row(step) for step in range(1, 31)),
    evaluation(30, 0.41),
    {"event": "reset", "step": 30, "resets": 1, "reason": "validation stalled"},
    {"event": "stage", "step": 30, "stage": 1, "name": "wide", "changes": {"answers_per_prompt": 32}},
    {"event": "checkpoint", "step": 30},
    {"event": "warning", "step": 40, "rule": "kl", "message": "KL is high"},
    *(row(step, 20.0, verdicts={"ok": 30, "timeout": 2}) for step in range(31, 61)),
    evaluation(60, 0.4),
]


@pytest.fixture
def folder(tmp_path):
    """-> a function that writes a run folder: silent for so many seconds, with what else is given."""

    def make(rows=ROWS, silent=1.0, stages=STAGES, torn="", checkpoint=30, holder="here", **settings):
        settings = {"recipe": "toy", "steps": 100, "max_seconds": None, **settings}
        (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
        if stages:
            (tmp_path / "recipe.json").write_text(json.dumps({"stages": stages}))
        metrics = tmp_path / "metrics.jsonl"
        metrics.write_text("".join(json.dumps(line) + "\n" for line in rows) + torn)
        os.utime(metrics, (NOW - silent, NOW - silent))
        hold(tmp_path / "lock", holder)
        if checkpoint is not None:
            for name in (f"step-{checkpoint:06d}", "step-999999.tmp"):  # the latter of a run killed while saving
                (tmp_path / "checkpoints" / name).mkdir(parents=True, exist_ok=True)
                os.utime(tmp_path / "checkpoints" / name, (NOW - 7200, NOW - 7200))
        return tmp_path

    return make


def hold(path, holder):
    """The lock of a run: held by this process, left by one that was killed, not there, or not to be read."""
    note = json.dumps({**lock.whoami(), **({"born": "another"} if holder == "killed" else {})})
    path.unlink(missing_ok=True)
    if holder != "nobody":
        path.write_text("half" if holder == "unknown" else note)


def stands(folder):
    return status.facts(status.read_run(folder, NOW), NOW)


def text(folder):
    return status.describe(stands(folder), folder, NOW)


def line(shown, label):
    (found,) = [line for line in shown.splitlines() if line.startswith(label)]
    return found.removeprefix(label).strip()


def test_a_run_at_work(folder):
    """Each figure counted by hand from the rows above."""
    run = stands(folder())
    assert (run.step, run.steps, run.state) == (60, 100, "running")
    assert run.stage == (2, 3, "wide", 30, "a reset")
    assert run.resets == [(30, "validation stalled")]
    assert (run.best, run.latest) == ((0.41, 30), (0.4, 60))
    assert run.figures["solved"] == (pytest.approx(0.058), pytest.approx(0.008))  # of 56 to 60, and of 6 to 10
    assert "ends in a loop" not in run.figures  # not measured by this run
    assert run.before == 10
    assert (run.step_seconds, run.tokens_per_second) == (20.0, 250.0)
    assert run.shares == pytest.approx({"generate": 0.6, "update": 0.3, "other": 0.1})
    assert run.groups == (160, 320)
    assert run.tokens_wasted == pytest.approx(0.4)
    assert run.verdicts == {"ok": 600, "timeout": 40}
    assert run.left == 40 * 20.0
    assert run.checkpoint == (30, 7200.0)
    assert run.warnings == [(40, "KL is high")]


def test_text_of_a_run_at_work(folder):
    shown = text(folder())
    assert line(shown, "step") == "60 of 100"
    assert line(shown, "stage") == "2 of 3, wide: since step 30, until a reset"
    assert line(shown, "validation") == "best 0.410 at step 30, latest 0.400 at step 60"
    assert line(shown, "checkpoint") == "step 30, 2 h 0 min old"
    assert line(shown, "warnings") == "step 40: KL is high"
    assert "13 min of steps left" in line(shown, "expected end")
    assert line(shown, "state").startswith("seems to run")


def test_a_half_written_last_line_is_left_out(folder):
    whole = status.describe(stands(folder()), Path("run"), NOW)
    assert parse_rows('{"step": 1}\n{"step": 2}', "metrics.jsonl") == [{"step": 1}, {"step": 2}]
    torn = folder(torn=json.dumps(row(61))[:-20])
    assert status.describe(stands(torn), Path("run"), NOW) == whole


def test_a_broken_line_in_the_middle_is_named():
    for line in ('{"step', "5", "[]"):
        with pytest.raises(UserError, match=r"line 2 of metrics\.jsonl is not JSON"):
            parse_rows(f'{{"step": 1}}\n{line}\n{{"step": 3}}', "metrics.jsonl")


def test_an_empty_run(folder, capsys):
    made = folder(rows=[], checkpoint=None, stages=[])
    shown = text(made)
    assert line(shown, "state").startswith("starting")
    assert line(shown, "step") == "0 of 100"
    assert line(shown, "validation") == "none yet"
    assert line(shown, "checkpoint") == "none"
    assert "speed" not in shown
    assert status.main([str(made)]) == 0
    assert not (made / "status.png").exists()
    gone = folder(rows=[], silent=9999, checkpoint=None, holder="nobody")
    assert line(text(gone), "state").endswith("nothing was saved: start it again with its --out")


def test_a_silent_run_may_have_stopped(folder):
    """A step takes 20 s: 90 s are no sign of anything, 12 minutes are."""
    assert stands(folder(silent=90.0)).state == "running"
    made = folder(silent=720.0, checkpoint=None, holder="unknown")
    shown = text(made)
    assert line(shown, "state") == f"no new line for 12 min: it may have stopped; continue with --resume {made}"
    assert line(shown, "expected end").startswith("13 min of steps left")  # no clock time: its clock stands still
    assert "its process lives, and may hang" in text(folder(silent=720.0, checkpoint=None))
    slow = [row(step, 600.0) for step in range(1, 4)]
    assert stands(folder(rows=slow, silent=720.0, checkpoint=None)).state == "running"


@pytest.mark.parametrize("holder", ["killed", "nobody"])
def test_a_run_whose_process_is_gone_has_ended_at_once(folder, holder):
    """Not after two minutes without a line."""
    made = folder(silent=3.0, holder=holder)
    shown = text(made)
    assert line(shown, "state") == (
        f"ended before its last step, 3 s ago (no process holds the folder); continue with --resume {made}"
    )
    assert line(shown, "expected end").startswith("13 min of steps left")
    (made / "stopped").write_text("KL is too high\n")
    assert line(text(made), "state") == "stopped 3 s ago by its own rules: KL is too high"


def test_a_process_on_another_machine_gives_signs_of_life(folder):
    made = folder(silent=3.0)
    note = json.loads((made / "lock").read_text())
    (made / "lock").write_text(json.dumps({**note, "host": "elsewhere"}))
    for age, state in ((100.0, "running"), (130.0, "ended")):
        os.utime(made / "lock", (NOW - age, NOW - age))
        assert stands(made).state == state


def test_last_answers(folder):
    answers = {"best": {"reward": 1.0, "text": "one\ntwo"}, "worst": {"reward": 0.0, "text": "\x1b[31m" + "w" * 300}}
    rows = [{"step": step, "split": "validation", "tier": f"tier {i}", "prompt": "ask\nme", "answers": answers}
            for step in (30, 60) for i in range(6)]  # fmt: skip
    made = folder()
    (made / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = text(made).split("\nanswers")[1].splitlines()
    assert shown[0].strip() == "to 6 prompts of the validation at step 60; all of them in samples.jsonl"
    assert [line.strip() for line in shown[1:3]] == ["tier 0: ask me", "best    1.00  one two"]
    assert shown[3].strip().startswith("worst   0.00  \ufffd[31mwww")
    assert [len(line) < 140 for line in shown] == [True] * 7
    assert shown[4].strip() == "tier 5: ask me"


def test_a_finished_run_and_one_that_was_resumed_beyond_its_end(folder):
    made = folder(rows=[row(step) for step in range(1, 101)], silent=1e6)
    (made / "summary.json").write_text(json.dumps({"steps": 100}))
    shown = text(made)
    assert line(shown, "state") == "finished"
    assert "expected end" not in shown
    more = folder(rows=[row(step) for step in range(1, 111)], checkpoint=None)  # --resume --steps 200
    assert stands(more).state == "running"  # the summary is of the first end
    assert line(text(more), "step") == "110 (resumed beyond the 100 that it began with)"


def test_without_validation(folder):
    made = folder(rows=[r for r in ROWS if r.get("event") != "evaluation"])
    assert line(text(made), "validation") == "none yet"
    assert status.main([str(made)]) == 0
    assert (made / "status.png").exists()


def test_a_single_step_is_drawn_as_a_point(tmp_path, monkeypatch):
    monkeypatch.setattr(plt, "close", lambda figure: None)
    report.draw_curve([row(1)], tmp_path / "curve.png")
    figure = plt.gcf()
    monkeypatch.undo()
    assert [axis.lines[0].get_marker() for axis in figure.axes] == ["o"] * 4
    plt.close(figure)


def test_a_level_line_is_not_the_edge_of_its_panel(tmp_path, monkeypatch):
    """And steps are counted in whole numbers."""
    monkeypatch.setattr(plt, "close", lambda figure: None)
    report.draw_curve([row(1, entropy=5.3), row(2, entropy=5.3), row(3, entropy=5.3)], tmp_path / "curve.png")
    figure = plt.gcf()
    monkeypatch.undo()
    try:
        assert figure.axes[1].lines[0].get_ydata().tolist() == [5.3] * 3
        assert figure.axes[1].get_ylim()[1] > 5.5
        assert all(tick == round(tick) for tick in figure.axes[1].get_xticks())
    finally:
        plt.close(figure)


def test_a_boundary_of_one_tier_has_its_intervals_and_equal_stages_beside_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(plt, "close", lambda figure: None)
    same = {"pass@k": {"1": 0.0, "16": 0.06}, "low": {"1": 0.0, "16": 0.01}, "high": {"1": 0.02, "16": 0.22}}
    tiers = {"easy": dict.fromkeys(report.STAGES, same)}
    report.draw_boundary(tiers, {"base": 0, "middle": 6, "final": 12}, tmp_path / "boundary.png")
    figure = plt.gcf()
    monkeypatch.undo()
    try:
        for axis, k in zip(figure.axes, ("1", "16"), strict=True):
            bars = [bar.lines for bar in axis.containers]
            assert len({tuple(points.get_xdata()) for points, _, _ in bars}) == 3  # nothing hides another
            for _, _, (interval,) in bars:
                ((_, low), (_, high)) = interval.get_segments()[0]
                assert (low, high) == pytest.approx((same["low"][k], same["high"][k]))
        legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert legend == ["base, step 0", "middle, step 6", "final, step 12"]
    finally:
        plt.close(figure)


def test_steps_with_nothing_to_train_on(folder):
    """They have null for what was not measured; the means are of the others."""
    empty = {"kl": None, "entropy": None, "solved": None, "tokens": 0, "skipped_updates": 2}
    run = stands(folder(rows=[*ROWS, row(61, **empty), row(62)]))
    assert run.figures["KL to the reference"] == (pytest.approx(0.01), pytest.approx(0.01))
    assert run.skipped == 2
    all_empty = folder(rows=[row(step, **empty) for step in (1, 2)], checkpoint=None)
    assert "KL" not in text(all_empty)
    assert status.main([str(all_empty)]) == 0


def test_the_seconds_may_end_a_run_first(folder):
    """30 steps of 10 s and 30 of 20 s have used 900 s."""
    assert stands(folder(max_seconds=1000.0)).left == 100.0


def test_checkpoints_of_prorl_mini(folder):
    made = folder(checkpoint=None, stages=[])
    assert stands(made).checkpoint is None
    (made / "state.pt").touch()
    os.utime(made / "state.pt", (NOW - 60, NOW - 60))
    assert stands(made).checkpoint == (30, 60.0)
    (made / "state.pt.tmp").touch()  # died while saving the one that is noted last
    assert stands(made).checkpoint == (0, 60.0)
    assert stands(made).stage is None


@pytest.mark.parametrize("name", ["2026-11-23-laptop/mini-long", "2026-11-23-scale-cpu"])
def test_real_runs(name, tmp_path, capsys):
    """Folders of both programs, written by older versions; their validation is that of the summary's README."""
    assert status.main([str(RESULTS / name), "--figure", str(tmp_path / "run.png")]) == 0
    shown = capsys.readouterr().out
    assert line(shown, "state") == "finished"
    assert "latest 0.954 at step 800" in shown or "latest 0.379 at step 40" in shown
    assert matplotlib.image.imread(tmp_path / "run.png").std() > 0.05
    assert not list(tmp_path.glob("*.tmp"))


def test_errors_are_one_sentence(tmp_path, folder, capsys):
    assert status.main([str(tmp_path / "nowhere")]) == 1
    assert status.main([str(RESULTS)]) == 1
    made = folder()
    assert status.main([str(made), "--figure", str(tmp_path / "no" / "such.png")]) == 1
    (made / "metrics.jsonl").unlink()
    assert status.main([str(made)]) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 4
    for error, part in zip(errors, ("not a folder", "not a run folder", "--figure", "no metrics.jsonl"), strict=True):
        assert error.startswith("error: ")
        assert part in error


def test_the_figure_shows_resets_stages_and_pass_at_n(tmp_path, monkeypatch):
    """What is drawn, read back from the axes."""
    monkeypatch.setattr(plt, "close", lambda figure: None)
    rows = [*ROWS, evaluation(60, 0.4, **{"pass@k": {"1": 0.4, "2": 0.5, "16": 0.75}})]
    report.draw_curve(rows, tmp_path / "curve.png", [stage["name"] for stage in STAGES])
    figure = plt.gcf()
    monkeypatch.undo()
    try:
        for axis in figure.axes:
            assert [list(drawn.get_xdata()) for drawn in axis.lines if drawn.get_linestyle() == ":"] == [[30, 30]]
            assert [(patch.get_x(), patch.get_width()) for patch in axis.patches] == [(30, 30)]
            assert [text.get_text() for text in axis.texts] == ["1", "2"]
        curves = {drawn.get_label(): drawn.get_ydata() for drawn in figure.axes[0].lines}
        assert list(curves["validation, pass@1"]) == [0.2, 0.41, 0.4, 0.4]
        np.testing.assert_array_equal(curves["validation, pass@16"], [np.nan] * 3 + [0.75])
        assert figure.get_supxlabel() == "stages: 1: short   2: wide"
    finally:
        plt.close(figure)


def test_running_mean_does_not_cross_a_reset(tmp_path, monkeypatch):
    """KL rises to 1 and falls to 0 at the reset: no smoothed value may lie between."""
    monkeypatch.setattr(plt, "close", lambda figure: None)
    steps = [row(step, kl=1.0 if step <= 150 else 0.0) for step in range(1, 301)]
    report.draw_curve([*steps, {"event": "reset", "step": 150, "resets": 1, "reason": ""}], tmp_path / "curve.png")
    figure = plt.gcf()
    monkeypatch.undo()
    try:
        kl = [list(drawn.get_ydata()) for drawn in figure.axes[2].lines if drawn.get_linewidth() == 1.2]
        assert kl == [[1.0] * 150, [0.0] * 150]
    finally:
        plt.close(figure)


def test_hours_of_all_devices(folder):
    """900 s of steps on 32 GPUs, 40 steps of 20 s to go; a folder of before says nothing."""
    here = folder([row_ if "event" in row_ else {**row_, "ranks": 32} for row_ in ROWS], device="cuda")
    assert stands(here).devices == (32, "GPU")
    assert "GPU-hours        8 on 32, 7.111 to go (steps alone)" in text(here)
    assert "-hours" not in text(folder())
