"""Of each Reasoning Gym task: how many questions it has, and how many held-out ones training sees (there must be none).

    python bench/overlap.py --out FOLDER [--draws 5000] [--trained 3200] [TASK ...]

Writes overlap.csv: different questions among `draws` of whatever split; different ones held out, of 100 and 100 asked
for, by three seeds; and how many of those are among `trained` training problems of seed 0.
"""

import argparse
import csv
import itertools
from pathlib import Path

from tqdm import tqdm

from prorl_lab.puzzles import SEARCH, Puzzles
from prorl_scale.data.sources import TASKS

HELD_OUT_TASKS = ("acre", "boxnet", "game_of_life_halting", "puzzle24")


def held_out(puzzles: Puzzles, split: str, count: int = 100) -> set[str]:
    found = set()
    for number in range(count):
        try:
            found.add(puzzles.held_out(split, number)["question"])
        except IndexError:
            break
    return found


def measure(task: str, draws: int, trained: int) -> dict[str, object]:
    puzzles = Puzzles(task, 0)
    distinct, misses = set(), 0
    for number in itertools.count():
        try:
            distinct.add(puzzles.draw("count", number)["question"])
        except IndexError:  # word_ladder has no path between some words
            misses += 1
        if number - misses == draws - 1 or misses > SEARCH:
            break
    seen = {puzzles.train(number)["question"] for number in range(trained)}
    held = [held_out(Puzzles(task, seed), split) for seed in range(3) for split in ("validation", "held-out")]
    return {
        "task": task, "draws": draws, "distinct": len(distinct), "trained": trained, "distinct trained": len(seen),
        "validation": len(held[0]), "held-out": len(held[1]), "held out and trained": len(seen & set().union(*held)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=[*TASKS, *HELD_OUT_TASKS])
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--trained", type=int, default=3200)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "overlap.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        for number, task in enumerate(tqdm(given.tasks, unit=" tasks")):
            row = measure(task, given.draws, given.trained)
            if number == 0:
                rows.writerow(row)
            rows.writerow(row.values())
            file.flush()


if __name__ == "__main__":
    main()
