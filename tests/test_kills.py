"""Killed, or out of disk, at whatever moment, and gone on: equal to a run in one go (tests/kills.py)."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from tests.launch import ROOT


def kills(*args):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", *map(str, args)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, [row for row in rows if not row.get("equal", True)] or done.stderr[-5000:]
    return rows


def test_some_kills_and_full_disks(tmp_path):
    """Of mini: the first moments of a run, its first save and its end, and some between."""
    assert len(kills("every", "mini", tmp_path / "kills", 71)) > 8
    assert len(kills("full", "mini", tmp_path / "full", 23)) > 3


def test_some_kills_of_two_processes(tmp_path):
    assert kills("random", "scale", tmp_path, 3, 1)[-1]["all_equal"]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["mini", "scale"])
@pytest.mark.parametrize("kind", ["every", "full"])
def test_every_moment(tmp_path, kind, program):
    assert len(kills(kind, program, tmp_path)) > 100


@pytest.mark.slow
@pytest.mark.parametrize(("program", "count"), [("mini", 200), ("scale", 60)])
def test_random_kills(tmp_path, program, count):
    assert kills("random", program, tmp_path, count, 14)[-1]["all_equal"]


def test_sigterm_at_any_time_of_mini(tmp_path):
    """During start-up, evaluation, saving, the last export: stopped and saved, or ended as by a kill."""
    codes = {row["moment"]: row["codes"] for row in kills("term", "mini", tmp_path)}
    stops = {"first evaluation", "evaluation of a step", "first save", "later save"}
    assert codes == {window: [130] if window in stops else [-signal.SIGTERM] for window in codes}


@pytest.mark.slow
def test_sigterm_at_any_time_of_two_processes(tmp_path):
    """To one of the two; it is remembered until the first step is done."""
    codes = {row["moment"]: row["codes"] for row in kills("term", "scale", tmp_path)}
    assert codes == {window: [0, 0] if window in ("export", "summary") else [130, 130] for window in codes}


@pytest.fixture(scope="module")
def two_states(tmp_path_factory):
    """The folder of a whole run of the kills, with its last state and the one before."""
    out = tmp_path_factory.mktemp("damaged")
    kills("random", "mini", out, 0, 0)
    return out


@pytest.mark.parametrize("place", [0.0, 0.001, 0.5, 0.999999, "flip", "list"])
def test_a_damaged_state_is_set_aside_and_the_one_before_goes_on(two_states, tmp_path, place):
    out = shutil.copytree(two_states / "straight", tmp_path / "run")
    victim = out / "state.pt"
    data = bytearray(victim.read_bytes())
    before = (out / "state-before.pt").read_bytes()
    if place == "list":
        (out / "state.json").write_text('["')  # without sums, what can't be read is still told apart
        place = 0.7
    if place == "flip":
        data[random.Random(1).randrange(len(data))] ^= 4
        victim.write_bytes(data)
    else:
        victim.write_bytes(data[: int(place * len(data))])
    code = "import sys; from tests import kills; kills.stand_ins(); "
    code += "sys.exit(kills.PROGRAMS['mini'].main(['--resume', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, out], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if "is damaged" in line]
    assert "going on from the state before it" in line
    assert (out / "state.damaged").exists()
    assert (out / "state-before.pt").read_bytes() == before
    from tests.kills import PROGRAMS, Harness, difference

    harness = Harness(PROGRAMS["mini"], tmp_path, {}, 0.0)
    ours, theirs = ({**harness.contents(folder), "names": 0} for folder in (out, two_states / "straight"))
    assert difference(ours, theirs) is None
    assert torch.load(out / "state.pt", weights_only=True)["rows"] == len(ours["rows"])
