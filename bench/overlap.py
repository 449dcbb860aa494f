"""Of each Reasoning Gym task: how many questions it has, and how many held-out ones training sees (there must be none).

    PYTHONPATH=. python bench/overlap.py --out FOLDER [--draws 5000] [--trained 3200] [--seconds 600] [TASK ...]

Appends to overlap.csv, for each task that is not in it: different questions among the first `draws` that training made,
of whatever split; different ones trained on, in `trained` problems of seed 0; how many are held out, of 100 and 100
asked for; and how many of what three seeds hold out are among those trained on.  A task of which a draw takes long is
counted over as many problems as fit into `seconds` of processor time; the file says how many they were.
"""

import argparse
import csv
import time
from pathlib import Path

from tqdm import tqdm

from prorl_lab.errors import UserError
from prorl_lab.puzzles import Puzzles
from prorl_scale.data.sources import TASKS

HELD_OUT_TASKS = ("acre", "boxnet", "game_of_life_halting", "puzzle24")
SPLITS = ("validation", "held-out")


class Noting(Puzzles):
    """Notes every question that is drawn."""

    def draw(self, *names: object) -> dict:
        entry = super().draw(*names)
        self.__dict__.setdefault("drawn", []).append(entry["question"])
        return entry


def held_out(puzzles: Puzzles, split: str, end: float, count: int = 100) -> set[str]:
    found = set()
    for number in range(count):
        try:
            found.add(puzzles.held_out(split, number)["question"])
        except IndexError:
            break
        if time.process_time() > end:
            break
    return found


def measure(task: str, draws: int, trained: int, seconds: float) -> dict[str, object]:
    """A row of the table.  A third of the seconds is for what is held out, and comes first."""
    start = time.process_time()
    lots = [(seed, split) for seed in range(3) for split in SPLITS]
    ends = [start + seconds / 3 * (place + 1) / len(lots) for place in range(len(lots))]
    held = [held_out(Puzzles(task, seed), split, end) for (seed, split), end in zip(lots, ends, strict=True)]
    puzzles, seen = Noting(task, 0), []
    while len(seen) < trained and (not seen or time.process_time() < start + seconds):
        seen.append(puzzles.train(len(seen))["question"])
    counted = puzzles.drawn[:draws]
    return {
        "task": task, "draws": len(counted), "distinct": len(set(counted)), "trained": len(seen),
        "distinct trained": len(set(seen)), **dict(zip(SPLITS, map(len, held), strict=False)),
        "held out by three seeds": len(set().union(*held)),
        "of these trained": len(set(seen) & set().union(*held)), "seconds": round(time.process_time() - start, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=[*TASKS, *HELD_OUT_TASKS])
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--trained", type=int, default=3200)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the processor, for a task")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "overlap.csv"
    done = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    left = [task for task in given.tasks if not any(line.startswith(f"{task},") for line in done)]
    with path.open("a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        for task in tqdm(left, unit=" tasks"):
            try:
                row = measure(task, given.draws, given.trained, given.seconds)
            except UserError as error:
                print(error)
                continue
            if not file.tell():
                rows.writerow(row)
            rows.writerow(row.values())
            file.flush()


if __name__ == "__main__":
    main()
