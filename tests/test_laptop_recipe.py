"""The `laptop` recipe from end to end with real vLLM, killed twice at random moments: the same end as uninterrupted.

python -m pytest -m slow tests/test_laptop_recipe.py --basetemp FOLDER      keeps both run folders in FOLDER
"""

import json
import random
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from prorl_scale import recipes
from tests.launch import NO_VLLM, kill_everything, torchrun
from tests.test_run import assert_equal, logged

MACHINE = {"peak_memory", "mfu", "tokens_per_second"}  # what measures the machine and not the run


def train(*args):
    return torchrun("-m", "prorl_scale.train", *args)


def finish(process):
    out, err = process.communicate(timeout=3600)
    assert process.returncode == 0, err[-5000:]
    return out


def kill_after(seconds, *args):
    """Start, wait for the first step and then so many seconds, and kill everything, wherever it is by then."""
    process = train(*args)
    threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the run
    for line in process.stdout:
        if line.startswith("step "):
            break
    else:
        pytest.fail("the run ended before its first step")
    reader = threading.Thread(target=process.stdout.read, daemon=True)
    reader.start()
    time.sleep(seconds)
    assert process.poll() is None, "the run ended before it was killed"
    kill_everything(process)


def rows(folder):
    return [{k: v for k, v in row.items() if k not in MACHINE} for row in logged(folder)]


def newest(folder):
    return max(folder.glob("checkpoints/step-*[0-9]"))


@pytest.mark.slow
@NO_VLLM
def test_two_kills_change_nothing(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    cache = ("--base-cache", tmp_path / "base-models", "--save-every", "4")
    finish(train("--recipe", "laptop", "--out", straight, *cache))
    took = json.loads((straight / "summary.json").read_text())["seconds"]  # of its steps alone
    first, second = sorted(random.uniform(0.1, 0.8) * took for _ in range(2))
    print(f"{took:.0f} s of steps; killed {first:.0f} s after step 1, then {second - first:.0f} s after resuming")
    kill_after(first, "--recipe", "laptop", "--out", killed, *cache)
    reached = [newest(killed).name]
    kill_after(second - first, "--resume", killed)
    reached.append(newest(killed).name)
    print("checkpoints that it went on from:", reached)
    finish(train("--resume", killed))

    assert rows(killed) == rows(straight)
    assert_equal(*(load_file(folder / "last/model.safetensors") for folder in (killed, straight)))
    ours, theirs = (torch.load(newest(f) / "plain.pt", weights_only=True) for f in (killed, straight))
    assert_equal({**ours["state"], "seconds": 0, "watched": 0}, {**theirs["state"], "seconds": 0, "watched": 0})
    assert_equal(ours["generators"], theirs["generators"])

    events = [row for row in rows(straight) if "event" in row]
    stages = [row["stage"] for row in events if row["event"] == "stage"]
    assert stages == list(range(1, len(recipes.LAPTOP.stages)))
    assert [row["step"] for row in events if row["event"] == "reset"][:2] == recipes.LAPTOP.settings["reset_steps"]
    after = {row["step"] + 1 for row in events if row["event"] == "reset"}
    first_kl = {row["step"]: row["kl_first"] for row in rows(straight) if "event" not in row}
    assert all(first_kl[step] == 0 for step in after if step in first_kl)
    assert first_kl[min(after) - 1] > 0
