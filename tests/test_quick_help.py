"""A text is not to wait for what it does not need: which packages `--help` and `status` import."""

import json
import os
import subprocess
import sys

import pytest

from tests.launch import ROOT

SLOW = {"transformers", "reasoning_gym", "vllm", "datasets", "sympy", "matplotlib.pyplot"}  # each takes seconds
NOTHING = {*SLOW, "torch", "scipy"}
RUN = "results/2026-11-23-laptop/mini-long"
COMMANDS = {
    "prorl_mini --help": SLOW,
    "prorl_v2 --help": SLOW,
    "prorl_scale.train --help": SLOW,
    "prorl_scale.evaluate.__main__ --help": SLOW,
    "prorl_scale.evaluate.__main__ sets": SLOW,
    "prorl_scale.data.__main__ prepare --help": SLOW,
    "prorl_scale.analysis.__main__ --help": NOTHING,
    "prorl_scale.recipes list": NOTHING,
    "prorl_scale.status --help": NOTHING,
    f"prorl_scale.status {RUN} --no-figure": NOTHING,
    "prorl_lab.compare --help": NOTHING,
    "prorl_lab.study --help": SLOW,
}
PROGRAM = """
import importlib, json, sys
try:
    code = importlib.import_module(sys.argv[1]).main(sys.argv[2:])  # prorl_scale.train itself leaves past what follows
    assert not code, code
except SystemExit as left:
    assert left.code in (0, None), left.code
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_text_imports(command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RANK", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command.split()],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(json.loads(done.stderr.splitlines()[-1]))
    assert len(done.stdout) > 200
    assert imported & COMMANDS[command] == set()
