"""The first hour on a GPU: run every check that needs one, and print one table.

make gpu-check                    or, where everything is installed:   python scripts/gpu_check.py
make gpu-check MODEL=FOLDER       the model of the last checks; by default Qwen/Qwen2.5-0.5B-Instruct
"""

import importlib.metadata
import platform
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


class Table:
    """A pytest plugin: one row per check, with the figure that it recorded."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:  # setting up and tearing down
            return
        figure = dict(report.user_properties).get("figure", "")
        if not report.passed:
            last = str(report.longrepr[2] if report.skipped else report.longreprtext).strip().splitlines()[-1]
            figure = f"{figure} {last}".strip()[:200]
        outcome = {"passed": "pass", "failed": "FAIL", "skipped": "not run"}[report.outcome]
        self.rows.append((report.nodeid.split("::")[-1].removeprefix("test_"), outcome, figure))

    def render(self) -> str:
        rows = [("check", "result", "figure"), *self.rows]
        width = max(len(name) for name, _, _ in rows)
        return "\n".join(f"{name:{width}}  {outcome:7}  {figure}" for name, outcome, figure in rows)


def versions() -> str:
    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "missing"

    packages = "  ".join(f"{name} {version(name)}" for name in ("torch", "vllm", "transformers"))
    total = torch.cuda.get_device_properties(0).total_memory / 2**30
    return (
        f"python {platform.python_version()}  {packages}  CUDA {torch.version.cuda}\n"
        f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, {total:.0f} GiB"
    )


def main() -> int:
    if not torch.cuda.is_available():
        print(
            "error: no GPU found, and these checks compare one with the CPU: run them on a machine with an NVIDIA GPU",
            file=sys.stderr,
        )
        return 1
    table = Table()
    code = pytest.main(["-m", "gpu", "-q", "--rootdir", str(ROOT), str(ROOT / "tests")], plugins=[table])
    print(f"\n{versions()}\n\n{table.render()}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
