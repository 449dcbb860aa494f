"""What starting prorl_mini costs beside an earlier version of it, with and without a kept proof of what it assumes.

    git worktree add OLD 5fec207
    python bench/start_up.py --other OLD [--starts 5] [--out FILE]

Each version runs in a process of its own, and the two take turns, so that whatever else the machine does hits both.
Processor seconds, one thread.  A start loads the laptop model, which is warmed up before, and proves what training
assumes of it: "first" where no proof is kept, "again" where one is.  `step_vs_commit.py` times the steps.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from measure import machine

CHILD = """
import json, sys, time
from pathlib import Path
tree, folder, cache, warm_up = sys.argv[1:]
sys.path.insert(0, tree)
import torch
import prorl_mini as mini
torch.set_num_threads(1)
resolve = getattr(mini, "settings", mini.cli).resolve  # where it was before

for number, line in enumerate(sys.stdin):
    if line.strip() == "first":
        for proof in Path(cache).glob("*.proved"):
            proof.unlink()
    config = mini.Config(out=f"{folder}/{number}", base_cache=cache, warm_up_steps=int(warm_up), threads=1)
    before = time.process_time()
    run = mini.start_run(resolve(config))
    taken = time.process_time() - before
    print("took", json.dumps(taken), flush=True)
"""


@dataclass
class Settings:
    """Command line."""

    other: str  # a checkout of the earlier version
    starts: int = 5  # of each kind and version
    warm_up_steps: int = 450
    out: str | None = None  # also write the figures there, as JSON


class Side:
    """One version in a process of its own."""

    def __init__(self, tree: str, folder: str, warm_up_steps: int):
        cache = f"{folder}/cache"
        Path(cache).mkdir(parents=True)
        command = [sys.executable, "-c", CHILD, tree, folder, cache, str(warm_up_steps)]
        self.process = subprocess.Popen(command, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, kind: str) -> float:
        """Processor seconds of a start, "first" or "again"; what the version itself prints is passed over."""
        self.process.stdin.write(kind + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("took "):
                return json.loads(line.removeprefix("took "))
        sys.exit("error: a version ended before it had started a run: see what it printed above")


def main(settings: Settings) -> None:
    trees = {"this": str(Path(__file__).resolve().parents[1]), "before": str(Path(settings.other).resolve())}
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: Side(tree, f"{folder}/{name}", settings.warm_up_steps) for name, tree in trees.items()}
        for side in sides.values():
            side.start("again")  # warms the model up
        times: dict[str, dict[str, list[float]]] = {name: {"first": [], "again": []} for name in sides}
        for number in range(settings.starts):
            for name in list(sides)[:: 1 if number % 2 else -1]:
                for kind, taken in times[name].items():
                    taken.append(sides[name].start(kind))
        for side in sides.values():
            side.process.stdin.close()
            side.process.wait()
    medians = {name: {kind: round(statistics.median(v), 4) for kind, v in t.items()} for name, t in times.items()}
    figures = {"median processor seconds of a start": medians, "starts": settings.starts, "machine": machine()}
    print(json.dumps(figures, indent=1))
    if settings.out:
        Path(settings.out).write_text(json.dumps({**figures, "times": times}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Settings))
