"""What a run of prorl_mini costs beside an earlier version of it: the start, with and without the probe, and a step.

    git worktree add OLD 5fec207
    python bench/beside_before.py --other OLD [--steps 30] [--starts 5] [--out FILE]

Each version runs in a process of its own, and the two take turns, so that whatever else the machine does hits both.
Processor seconds, one thread.  A start loads the laptop model, which is warmed up before, and proves what training
assumes of it: "first" where no proof is kept, "again" where one is.  Learning rates too small to move a weight keep the
policies alike; the versions draw other problems, so a step's seconds are divided by its tokens.
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
import contextlib, io, json, os, sys, time
from pathlib import Path
tree, folder, cache, warm_up = sys.argv[1:]
sys.path.insert(0, tree)
import torch
import prorl_mini as mini
torch.set_num_threads(1)
made, run = 0, None

def start():
    global made
    made += 1
    config = mini.Config(out=f"{folder}/{made}", base_cache=cache, warm_up_steps=int(warm_up), steps=10**6, threads=1,
                         learning_rate=1e-30, weight_decay=0.0, dynamic_sampling=False)
    before = time.process_time()
    run = mini.start_run(mini.settings.resolve(config))
    taken = time.process_time() - before
    run.folder.say = lambda line: None
    return run, taken

for line in sys.stdin:
    if line.strip() == "forget":
        for proof in Path(cache).glob("*.proved"):
            proof.unlink()
        answer = None
    elif line.strip() == "start":
        run, answer = start()
        if made == 1:
            run.folder.__enter__()
            stepping = run
    else:
        before = time.process_time()
        mini.train_step(stepping)
        taken = time.process_time() - before
        row = json.loads(stepping.folder.metrics_path.read_text().splitlines()[-1])
        answer = [taken, row["tokens"]]
    print(json.dumps(answer), flush=True)
"""


@dataclass
class Settings:
    """Command line."""

    other: str  # a checkout of the earlier version
    steps: int = 30  # of each side
    starts: int = 5
    warm_up_steps: int = 450
    out: str | None = None  # also write the figures there, as JSON


class Side:
    """One version in a process of its own."""

    def __init__(self, tree: str, folder: str, warm_up_steps: int):
        cache = f"{folder}/cache"
        Path(cache).mkdir(parents=True)
        command = [sys.executable, "-c", CHILD, tree, folder, cache, str(warm_up_steps)]
        self.process = subprocess.Popen(command, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: str):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def main(settings: Settings) -> None:
    trees = {"this": str(Path(__file__).resolve().parents[1]), "before": str(Path(settings.other).resolve())}
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: Side(tree, f"{folder}/{name}", settings.warm_up_steps) for name, tree in trees.items()}
        for side in sides.values():
            side.ask("start")  # warms the model up
            side.ask("step")
        times: dict[str, dict[str, list[float]]] = {name: {"first": [], "again": [], "step": []} for name in sides}
        for number in range(max(settings.starts, settings.steps)):
            for name in list(sides)[:: 1 if number % 2 else -1]:
                if number < settings.starts:
                    sides[name].ask("forget")
                    times[name]["first"].append(sides[name].ask("start"))
                    times[name]["again"].append(sides[name].ask("start"))
                if number < settings.steps:
                    seconds, tokens = sides[name].ask("step")
                    times[name]["step"].append(1000 * seconds / tokens)
        for side in sides.values():
            side.process.stdin.close()
            side.process.wait()
    medians = {name: {what: round(statistics.median(v), 4) for what, v in t.items()} for name, t in times.items()}
    ours, theirs = times["this"]["step"], times["before"]["step"]
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    figures = {
        "medians (start: seconds; step: seconds per 1,000 tokens)": medians,
        "step, this over before": round(statistics.median(ours) / statistics.median(theirs), 4),
        "of pairs, quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)],
        "steps": settings.steps,
        "starts": settings.starts,
        "machine": machine(),
    }
    print(json.dumps(figures, indent=1))
    if settings.out:
        Path(settings.out).write_text(json.dumps({**figures, "times": times}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Settings))
