"""The first hour on a GPU: run every check that needs one, and print one table.

    make gpu-check                       install, then both halves
    python scripts/gpu_check.py first    what needs no vLLM, on whatever torch and transformers are there
    python scripts/gpu_check.py second   what needs it

MODEL=FOLDER names a pretrained model for the last check of the first half, and for the second half (there by default
Qwen/Qwen2.5-0.5B-Instruct).  OUT=FOLDER (default runs/gpu-check) gets the table, written anew after each check, and
the figures as JSON: nothing is lost when the machine is taken away.
"""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
HALVES = {  # in the order in which they run
    "first": ("tests/test_gpu.py", "tests/test_gpu_trainer.py", "tests/test_gpu_speed.py"),
    "second": ("tests/test_gpu_vllm.py",),
}
DRIVER = 580  # the oldest that runs CUDA 13, which vLLM 0.32's wheel is built for


class Table:
    """A pytest plugin: one row per check, with its seconds and the figure that it recorded."""

    def __init__(self, out: Path, heading: str) -> None:
        self.out, self.heading, self.rows, self.start = out, heading, [], time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:  # setting up and tearing down
            return
        figure = dict(report.user_properties).get("figure", "")
        if not report.passed:
            last = str(report.longrepr[2] if report.skipped else report.longreprtext).strip().splitlines()[-1]
            figure = f"{figure} {last}".strip()[:200]
        outcome = {"passed": "pass", "failed": "FAIL", "skipped": "not run"}[report.outcome]
        name = report.nodeid.split("::")[-1].removeprefix("test_")
        self.rows.append((name, outcome, f"{report.duration:.1f}", figure))
        self.write()

    def write(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "table.txt").write_text(f"{self.heading}\n\n{self.render()}\n", encoding="utf-8")
        keys = ("check", "result", "seconds", "figure")
        found = [dict(zip(keys, row, strict=True)) for row in self.rows]
        (self.out / "checks.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

    def render(self) -> str:
        rows = [("check", "result", "seconds", "figure"), *self.rows]
        width = max(len(row[0]) for row in rows)
        lines = [f"{name:{width}}  {outcome:7}  {seconds:>7}  {figure}" for name, outcome, seconds, figure in rows]
        failed = sum(row[1] == "FAIL" for row in self.rows)
        took = (time.monotonic() - self.start) / 60
        return "\n".join([*lines, "", f"{len(self.rows)} checks, {failed} failed, {took:.1f} minutes"])


def pins() -> dict[str, str]:
    """What the requirements files ask for, of torch, transformers and vLLM."""
    text = "".join((ROOT / name).read_text() for name in ("requirements-scale.txt", "requirements-mini.txt"))
    return dict(re.findall(r"^([\w-]+)==(\S+)", text, re.M))


def versions() -> str:
    """What is here, and where it is not what the requirements name."""
    parts = []
    for name in ("torch", "transformers", "vllm"):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        wanted = pins()[name]
        parts.append(f"{name} {found}" + ("" if found.split("+")[0] == wanted else f" (pinned: {wanted})"))
    total = torch.cuda.get_device_properties(0).total_memory / 2**30
    return (
        f"python {platform.python_version()}  {'  '.join(parts)}  CUDA {torch.version.cuda}  driver {driver() or '?'}\n"
        f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, {total:.0f} GiB"
    )


def driver() -> str | None:
    """Version of the NVIDIA driver; None where nvidia-smi does not tell."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout.split("\n")[0].strip() or None if done.returncode == 0 else None


def why_not() -> str | None:
    """Why there is nothing to check here; None where a GPU can be used."""
    if torch.cuda.is_available():
        return None
    found = driver()
    if found and int(found.split(".")[0]) < DRIVER:
        return (
            f"the NVIDIA driver is {found}, and CUDA 13 needs {DRIVER} or newer: install it, or the package "
            "cuda-compat of the same CUDA (vLLM then wants VLLM_ENABLE_CUDA_COMPATIBILITY=1)"
        )
    if found:
        return f"there is a driver ({found}), and torch {torch.__version__} uses no GPU: install its CUDA build"
    return "no GPU found, and these checks compare one with the CPU: run them on a machine with an NVIDIA GPU"


def main(args: list[str]) -> int:
    if set(args) & {"--help", "-h"}:
        print(f"usage: python scripts/gpu_check.py [{' | '.join(HALVES)}]; by default both")
        return 0
    halves = args or list(HALVES)
    if unknown := set(halves) - set(HALVES):
        print(f"error: unknown half {', '.join(sorted(unknown))}: give first, second, or nothing", file=sys.stderr)
        return 2
    if reason := why_not():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    out = Path(os.environ.get("OUT", "runs/gpu-check"))
    table = Table(out, versions())
    files = [str(ROOT / name) for half in halves for name in HALVES[half]]
    code = pytest.main(["-m", "gpu", "-q", "--rootdir", str(ROOT), "-p", "no:randomly", *files], plugins=[table])
    print(f"\n{versions()}\n\n{table.render()}\n\nin {out}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
