"""What a reset does to the steps after it, with the optimizer cleared, kept, or cleared and the rate warmed up.

    python bench/reset_disturbance.py --seeds 0 1 2 3 4 --at 60 --out results/DATE-reset-disturbance

A run without resets is trained for `at` steps.  Then each arm goes on from a copy of its folder for `after` steps: from
the same weights, on the same prompts, with the same random numbers.  So the arms differ in what was done at the copying
and in nothing else:

    none      nothing: what these steps look like without a reset
    cleared   the paper's reset
    kept      the reference moves, Adam's moments stay (ProRLv2)
    warmed    cleared, and the learning rate rises over the first steps

A trunk or an arm that is there already is not run again, so the work may be cut into pieces.  `after-AT.json` holds the
rows of all arms and seeds given.
"""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prorl_mini as mini
import prorl_v2 as v2
from prorl_lab import settings
from prorl_lab.files import read_json, write_json
from prorl_lab.study_report import of_the_arm

KEPT = ("step", "grad_norm", "kl", "truncated", "clip_low", "clip_high", "solved", "reward_unfiltered", "entropy")


@dataclass
class Args:
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = ("none", "cleared", "kept", "warmed")
    at: int = 60
    after: int = 5
    warm_up: int = 5  # steps, of the arm "warmed"
    prompts_per_step: int = 16  # half of the default, for time
    runs: Path = Path("runs/reset-disturbance")  # one folder for each `at`
    out: Path = Path("runs/reset-disturbance")


@dataclass
class LoggedRun(mini.Run):
    rows: list[dict] = field(default_factory=list)

    def end_step(self, row: dict, *args: Any) -> dict:
        self.rows.append({key: row[key] for key in KEPT})
        return {}


def trunk(args: Args, seed: int) -> Path:
    """The folder of the run that the arms go on from, trained as far as it has not been."""
    folder = args.runs / f"trunk-{seed}"
    if not (folder / "summary.json").exists():
        place = {"resume": str(folder)} if (folder / "state.pt").exists() else {"out": str(folder)}
        mini.train(mini.Config(seed=seed, steps=args.at, prompts_per_step=args.prompts_per_step, reset=False,
                               eval_every=0, boundary_prompts=0, save_every=10, **place))  # fmt: skip
    return folder


def go_on(folder: Path, arm: str, args: Args, seed: int) -> list[dict]:
    """The rows of `after` steps behind the reset that this arm makes, if any."""
    copy = args.runs / f"{arm}-{seed}"
    shutil.rmtree(copy, ignore_errors=True)  # left by an arm that was interrupted
    shutil.copytree(folder, copy)
    stored = {**read_json(copy / "config.json")["settings"], "resume": str(copy), "steps": args.at + args.after}
    run = mini.start_run(settings.resolve(mini.Config(**stored)), LoggedRun)
    if arm != "none":
        mini.reset_reference(run.policy, run.reference, run.optimizer, keep_optimizer=arm == "kept")
    with run.folder:
        for step in range(args.after):
            rate = v2.warmed_up(run.config.learning_rate, step, args.warm_up if arm == "warmed" else 0)
            for weights in run.optimizer.param_groups:
                weights["lr"] = rate
            mini.train_step(run)
    return run.rows


def main(args: Args) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, list[dict]]] = {arm: {} for arm in args.arms}
    for seed in args.seeds:
        folder = trunk(args, seed)
        for arm in args.arms:
            kept = args.runs / f"{arm}-{seed}.json"
            if not kept.exists():
                write_json(kept, go_on(folder, arm, args, seed))
            rows[arm][str(seed)] = read_json(kept)
    config = read_json(folder / "config.json")
    made = {key: config[key] for key in ("commit", "versions", "machine")}
    sizes = {"at": args.at, "after": args.after, "warm_up": args.warm_up}
    whole = {**sizes, **made, "settings": of_the_arm(config["settings"]), "rows": rows}
    write_json(args.out / f"after-{args.at}.json", whole)


if __name__ == "__main__":
    main(tyro.cli(Args))
