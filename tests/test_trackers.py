"""`--track wandb` and `trackio`, offline: what each has of a run's rows, also of a resumed one (TensorBoard elsewhere).

Neither package is installed by `make test`: pip install -r requirements-track.txt
"""

import re

import pytest

from prorl_lab import trackers
from prorl_lab.errors import UserError

ROWS = [
    {"event": "evaluation", "step": 0, "score": 0.125, "tiers": {"easy": 0.375}},
    {"step": 1, "reward": 0.25, "kl": None, "ledger": {"easy": {"kept": 2}}},
    {"step": 2, "reward": 0.5},
    {"event": "reset", "step": 2, "resets": 1, "reason": "stalled"},
]
NAMES = {"evaluation/score", "evaluation/tiers/easy", "reward", "ledger/easy/kept", "reset/resets"}


def track(kind, run, *parts):
    """A run whose rows come from several processes, one after another."""
    run.mkdir(exist_ok=True)
    last_step = None
    for rows in parts:
        tracker = trackers.start(kind, run, {"steps": 4}, last_step)
        for row in rows:
            tracker.add(row)
            last_step = row["step"]
        tracker.close()


def test_every_tracker_gets_the_same_names():
    assert {name for row in ROWS for name, _ in trackers.named(row)} == NAMES


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install -r requirements-track.txt")
    monkeypatch.setenv("WANDB_MODE", "offline")
    track("wandb", tmp_path / "run", ROWS, [{"step": 3, "reward": 0.75}])
    files = sorted(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))
    wandb.teardown()  # wait for the process that writes them
    first, resumed = (path.read_bytes() for path in files)
    assert all(name.encode() in first for name in NAMES)
    assert all(str(value).encode() in first for value in (0.125, 0.375, 0.25, 0.5))
    assert b"0.75" in resumed
    assert len({re.fullmatch(r"run-(\w+)\.wandb", path.name)[1] for path in files}) == 1  # one run, resumed


def test_wandb_without_a_login(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install -r requirements-track.txt")

    def refuse(**how):
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(
        UserError, match=r"^--track wandb can't start \(No API key configured\.\): mend that \(`wandb log"
    ):
        track("wandb", tmp_path / "run", ROWS)


def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio", reason="trackio is not installed: pip install -r requirements-track.txt")
    from trackio.sqlite_storage import SQLiteStorage

    track("trackio", tmp_path / "run", ROWS, [{"step": 3, "reward": 0.75}])
    (name,) = SQLiteStorage.get_runs(trackers.PROJECT)  # one run, resumed
    assert name.startswith("run-")
    logs = SQLiteStorage.get_logs(trackers.PROJECT, name)
    assert [(row["step"], row["reward"]) for row in logs if "reward" in row] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert {key for row in logs for key in row} - {"step", "timestamp"} == NAMES
