"""Runs under torchrun, as the tests of prorl_scale start them."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
NO_VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="vLLM is not installed: `make test` does, or pip install --no-deps -r requirements-cpu.txt",
)
QUICK = [  # without a recipe, whose stages would change what the tests look at
    *("--rollout-batch", "256", "--warm-up-steps", "0", "--steps", "6", "--save-every", "3", "--max-new-tokens", "3"),
    *("--prompts-per-step", "5", "--answers-per-prompt", "8", "--microbatch-tokens", "100", "--eval-every", "2"),
    *("--eval-prompts", "2", "--boundary-prompts", "2", "--boundary-answers", "4", "--learning-rate", "1e-3"),
    *("--reset-every", "2", "--reset-min-spacing", "1", "--timeout-minutes", "5"),
]
SHORT = [  # `make scale-cpu` in short
    *("--recipe", "laptop", "--warm-up-steps", "300", "--steps", "6", "--save-every", "3", "--prompts-per-step", "6"),
    *("--answers-per-prompt", "8", "--eval-every", "2", "--eval-prompts", "2", "--eval-answers", "2"),
    *("--boundary-prompts", "2", "--boundary-answers", "4", "--reset-steps", "2", "4", "--reset-on-stall", "0"),
]
LIMIT = 1800  # seconds; so long only on a machine that is busy with other things
ONE_MACHINE = ("--standalone", "--nproc-per-node")
MACHINE = ("seconds", "peak_memory", "tokens_per_second", "mfu", "hfu")  # how metrics begin that measure it


def torchrun(*command, processes=2, nodes=None):
    """`torchrun ... COMMAND`; its output is readable line by line.  nodes: its options in ONE_MACHINE's place."""
    how = nodes or (*ONE_MACHINE, processes)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, (*how, *command))], cwd=ROOT, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def start(sampler, *args, fault="none", **how):
    """`prorl_scale.train ARGS` as tests/scale_run.py runs it, or, for the sampler "as-it-is", itself."""
    if sampler == "as-it-is":
        return torchrun("-m", "prorl_scale.train", *args, **how)
    return torchrun("tests/scale_run.py", sampler, fault, *args, **how)


def run(sampler, *args, fault="none", **how):
    """To the end -> exit code of torchrun, its output and its errors."""
    process = start(sampler, *args, fault=fault, **how)
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def fails(sampler, *args, fault="none", **how):
    """A run that must end by itself, with exit code 1 and one sentence -> the sentence.  No rank shows a traceback."""
    code, _, err = run(sampler, *args, fault=fault, **how)
    assert code == 1, err[-5000:]
    sentences = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, err[-5000:]
    assert not our_tracebacks(err), err[-5000:]
    return sentences[0]


def our_tracebacks(err):
    """Tracebacks of the ranks; torchrun adds one of its own where a rank failed."""
    traces = err.split("Traceback (most recent call last):")[1:]
    return [trace for trace in traces if "torch/distributed/launcher" not in trace]


def wait_for_line(process, beginning):
    for line in process.stdout:
        if line.startswith(beginning):
            return
    errors = process.stderr.read()[-5000:] if process.stderr else ""
    pytest.fail(f"the run ended before it printed {beginning!r}: {errors}")


def kill_everything(process):
    """SIGKILL to torchrun and to all that it started, so that nobody gets to clean up."""
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    for pid in family:
        with contextlib.suppress(ProcessLookupError):  # a verifier's process may end by itself meanwhile
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()


def rows(folder):
    """metrics.jsonl without what measures the machine."""
    parsed = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(MACHINE)} for row in parsed]


def steps(folder):
    """The rows of steps alone."""
    return [row for row in rows(folder) if "event" not in row]


def saved(folder):
    """Names in the checkpoints' folder."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())
