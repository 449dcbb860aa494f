"""Killed, or out of disk, at whatever moment, and gone on: equal to a run in one go (tests/kills.py)."""

import json
import os
import random
import shutil
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
    """The first moments of a run, its first save and its end, and some between."""
    assert len(kills("every", tmp_path / "kills", 71)) > 8
    assert len(kills("full", tmp_path / "full", 41, 200)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["every", "full"])
def test_every_moment(tmp_path, kind):
    assert len(kills(kind, tmp_path)) > 200


@pytest.mark.slow
def test_200_random_kills(tmp_path):
    assert kills("random", tmp_path, 200, 14)[-1]["all_equal"]


@pytest.fixture(scope="module")
def two_states(tmp_path_factory):
    """The folder of a whole run of the kills, with its last state and the one before."""
    out = tmp_path_factory.mktemp("damaged")
    kills("random", out, 0, 0)
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
    code = "import sys; from pathlib import Path; from tests import kills; from prorl_lab import tasks; "
    code += "kills.plain_figures(); tasks.load_task = lambda c, s: kills.Toy(); import prorl_v2; "
    code += "sys.exit(prorl_v2.main(['--resume', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, out], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if "is damaged" in line]
    assert "going on from the state before it" in line
    assert (out / "state.damaged").exists()
    assert (out / "state-before.pt").read_bytes() == before
    from tests.kills import contents, difference

    ours, theirs = contents(out), contents(two_states / "straight")
    assert difference({**ours, "names": 0}, {**theirs, "names": 0}) is None
    assert torch.load(out / "state.pt", weights_only=True)["rows"] == len(ours["rows"])
