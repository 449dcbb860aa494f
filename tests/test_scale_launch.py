"""Several machines: two agents of torchrun train together, and the scripts start what our command line understands."""

import os
import re
import socket
import subprocess

import pytest

from prorl_scale.config import Config, parse
from tests.launch import LIMIT, QUICK, ROOT, start, steps

SCRIPTS = sorted((ROOT / "scripts").glob("*.s*"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_two_agents_train_together(tmp_path):
    """Two machines of one process each, both this one: one run folder, one voice."""
    nodes = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    nodes += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    args = [*QUICK, "--steps", "3", "--base-cache", tmp_path, "--out", tmp_path / "run"]
    agents = [start("stand-in", *args, nodes=nodes) for _ in range(2)]
    ended = [(*agent.communicate(timeout=LIMIT), agent.returncode) for agent in agents]
    assert [code for _, _, code in ended] == [0, 0], ended
    assert sorted(out.count("step     3") for out, _, _ in ended) == [0, 1]
    assert [row["step"] for row in steps(tmp_path / "run")] == [1, 2, 3]


@pytest.fixture
def cluster(tmp_path):
    """A folder like the repository, with a scheduler that runs one task here and a torchrun that notes its arguments.

    FAIL=N: the first N times torchrun saves another checkpoint and fails.  WAITS=N: the first N times it trains until
    it is told to stop, saves and fails, as our trainer does.
    """
    programs = {
        "bin/scontrol": """
            if [ "$1" = requeue ]; then echo "$2" >>requeued; else echo "node-1\nnode-2"; fi""",
        "bin/srun": """
            while [[ $1 == --* ]]; do echo "$1" >>srun-options; shift; done
            exec "$@"
            """,
        # What SLURM does: read the directives, run the script, warn it or lose the node, run it again where requeued.
        "bin/sbatch": """
            grep '^#SBATCH' "$1" >directives
            for restart in 0 1 2; do
                rm -f requeued
                SLURM_RESTART_COUNT=$restart setsid bash "$@" & job=$!
                if [ -n "${WARN:-}" ]; then
                    until [ -e training ]; do sleep 0.05; done
                    rm training; [ $WARN = KILL ] && kill -KILL -- -$job || kill -$WARN $job
                    WARN=""
                fi
                wait $job; code=$?
                [ -e requeued ] || exit $code
            done""",
        ".venv/bin/torchrun": """
            printf '%s\\n' "$@" >"call-$(ls call-* 2>/dev/null | wc -l)"
            count=$(ls call-* | wc -l)
            save() { mkdir -p "runs/a run/checkpoints/step-00000$count"; exit 1; }
            if [ "$count" -le "${WAITS:-0}" ]; then
                trap save TERM; touch training; while true; do sleep 0.05; done
            fi
            [ "$count" -le "${FAIL:-0}" ] || exit 0
            save""",
    }
    for name, text in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def call(cluster, script, *args, start="bash", **more):
    """-> exit code of the script, and for each torchrun its own options and ours."""
    slurm = {"SLURM_JOB_NODELIST": "node-[1-4]", "SLURM_JOB_NUM_NODES": "4", "SLURM_JOB_ID": "7"}
    environment = {**os.environ, **slurm, "PATH": f"{cluster / 'bin'}:{os.environ['PATH']}", **more}
    done = subprocess.run([start, ROOT / "scripts" / script, *args], cwd=cluster, env=environment, timeout=60)
    calls = [path.read_text().splitlines() for path in sorted(cluster.glob("call-*"))]
    return done.returncode, [(c[: c.index("-m")], c[c.index("prorl_scale.train") + 1 :]) for c in calls]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_bash(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0


@pytest.mark.parametrize(
    ("script", "first"), [("slurm_4x8.sbatch", ["runs/a run"]), ("two_hosts.sh", ["node-1", "runs/a run"])]
)
def test_script_starts_what_the_command_line_understands(cluster, script, first):
    code, [(torchrun, ours)] = call(cluster, script, *first, "--recipe", "laptop", "--steps", "7")
    assert code == 0
    config = parse(Config, ours)
    assert (config.recipe, config.steps, config.out) == ("laptop", 7, "runs/a run")
    assert torchrun[:4] == ["--nnodes", {"s": "4", "t": "2"}[script[0]], "--nproc-per-node", "8"]
    assert torchrun[torchrun.index("--rdzv-endpoint") + 1] == "node-1:29500"
    (cluster / "runs/a run/checkpoints/step-000010").mkdir(parents=True)
    assert call(cluster, script, *first, "--recipe", "laptop")[1][1][1][:2] == ["--resume", "runs/a run"]


def test_slurm_script_goes_on_from_a_checkpoint_and_gives_up_without_a_new_one(cluster):
    code, calls = call(cluster, "slurm_4x8.sbatch", "runs/a run", "--recipe", "laptop", FAIL="2")
    assert code == 0
    assert [ours[0] for _, ours in calls] == ["--recipe", "--resume", "--resume"]
    (
        cluster / "runs/a run/stopped"
    ).touch()  # a run that ended by its own rules is not started again, checkpoint or not
    before = len(list(cluster.glob("call-*")))
    assert call(cluster, "slurm_4x8.sbatch", "runs/a run", "--recipe", "laptop", FAIL=str(before + 5))[0] == 1
    assert len(list(cluster.glob("call-*"))) == before + 1
    (cluster / "runs/a run/stopped").unlink()
    (cluster / ".venv/bin/torchrun").write_text("#!/usr/bin/env bash\nexit 1\n")
    assert call(cluster, "slurm_4x8.sbatch", "runs/a run", "--recipe", "laptop")[0] == 1


def test_slurm_job_saves_before_its_time_limit_and_goes_on_from_the_queue(cluster):
    """Warned as `--signal` asks, it stops the training, which saves; requeued, the same line resumes it."""
    args = ("runs/a run", "--recipe", "laptop")
    code, calls = call(cluster, "slurm_4x8.sbatch", *args, start="sbatch", WAITS="1", WARN="USR1")
    assert code == 0
    assert [ours[:2] for _, ours in calls] == [["--recipe", "laptop"], ["--resume", "runs/a run"]]
    assert "--break-lock" in calls[1][1]
    directives = (cluster / "directives").read_text()
    warned = re.search(r"--signal=B:USR1@(\d+)", directives)[1]
    allowed = [torchrun[torchrun.index("--shutdown-timeout") + 1] for torchrun, _ in calls]
    assert allowed == [warned] * 2  # torchrun kills no worker before SLURM kills the job
    assert "--requeue" in directives  # after the failure of a node SLURM does that itself
    options = (cluster / "srun-options").read_text()
    assert "--cpu-bind=none" in options
    assert "--cpus-per-task=" in options


def test_slurm_job_that_is_told_to_stop_saves_and_is_not_requeued(cluster):
    args = ("runs/a run", "--recipe", "laptop")
    code, calls = call(cluster, "slurm_4x8.sbatch", *args, start="sbatch", WAITS="1", WARN="TERM")
    assert code == 1
    assert len(calls) == 1
    assert (cluster / "runs/a run/checkpoints/step-000001").exists()


def test_slurm_job_goes_on_after_the_failure_of_a_node(cluster):
    """The script is gone in the middle of the training; SLURM starts the same line again."""
    args = ("runs/a run", "--recipe", "laptop")
    assert call(cluster, "slurm_4x8.sbatch", *args, start="sbatch", WAITS="1", WARN="KILL")[0] == 137
    (cluster / "runs/a run/checkpoints/step-000005").mkdir(parents=True)
    code, calls = call(cluster, "slurm_4x8.sbatch", *args, start="sbatch", WAITS="0")
    assert code == 0
    assert calls[-1][1] == ["--resume", "runs/a run", "--break-lock"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_without_arguments_says_how(cluster, script):
    assert call(cluster, script)[0] == 2
