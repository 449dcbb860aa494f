"""Nobody trains on when torchrun's agent is gone, and no half a file stays."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests import launch
from tests.launch import LIMIT, QUICK, torchrun
from tests.test_scale_launch import free_port


def until(true):
    """Wait, as long as a busy machine takes."""
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def pids(folder, count):
    files = [folder / f"pid-{rank}" for rank in range(count)]
    until(lambda: all(file.exists() for file in files))
    return [int(file.read_text()) for file in files]


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def start(folder, when="soon", **how):
    return torchrun("tests/orphan.py", folder, when, **how)


def whole(folder):
    return all(len(set(f.read_text().split())) == 1 and f.read_text().endswith("\n") for f in folder.glob("written-?"))


def test_killed_agent_takes_its_workers_along(tmp_path):
    agent = start(tmp_path)
    workers = pids(tmp_path, 2)
    agent.kill()
    until(lambda: all(map(gone, workers)))
    assert whole(tmp_path)


def test_agent_that_died_before_its_worker_could_ask(tmp_path):
    """Between the worker's start and its prctl."""
    if Path("/proc/1/cmdline").read_bytes().find(b"python") >= 0:
        pytest.skip("process 1 is a Python program here, as an agent in a container is")
    agent = start(tmp_path, "late", processes=1)
    (worker,) = pids(tmp_path, 1)
    agent.kill()
    until(lambda: gone(worker))
    assert not list(tmp_path.glob("written-*"))


def test_killed_rank_0_ends_the_others(tmp_path):
    agent = start(tmp_path)
    workers = pids(tmp_path, 2)
    os.kill(workers[0], signal.SIGKILL)
    agent.communicate(timeout=LIMIT)
    assert agent.returncode == 1
    assert all(map(gone, workers))
    assert whole(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_agent_of_one_of_two_nodes(tmp_path, rank):
    """Of a run that trains: its worker ends with it, the other node's agent notices by itself, and the run goes on."""
    nodes = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    nodes += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    out = tmp_path / "run"
    args = [*QUICK, "--steps", "9999", "--max-bad-steps", "9999", "--base-cache", tmp_path, "--out", out]
    agents = [launch.start("stand-in", *args, nodes=nodes) for _ in range(2)]
    until(lambda: (out / "metrics.jsonl").exists() and '"step": 4' in (out / "metrics.jsonl").read_text())
    workers = {agent: psutil.Process(agent.pid).children()[0] for agent in agents}
    victim = next(agent for agent, worker in workers.items() if worker.environ()["RANK"] == str(rank))
    (other,) = {*agents} - {victim}
    victim.kill()
    _, err = other.communicate(timeout=LIMIT)
    assert other.returncode == 1
    assert ("another process ended" in err) == (rank == 1)  # rank 0 alone speaks
    assert all(gone(worker.pid) for worker in workers.values())
    code, _, err = launch.run("stand-in", "--resume", out, "--steps", "5", processes=1)
    assert code == 0, err[-5000:]
