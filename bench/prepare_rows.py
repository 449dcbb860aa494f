"""Prepare 20,000 mathematics rows with this tree and with another, in turns: processor and wall seconds, ratios.

    PRORL_TEST_DATA=DIR python bench/prepare_rows.py --other TREE [--rows 20000] [--rounds 3]

TREE is a checkout of another commit.  The rows are those of MATH's training file, again and again under a new first
word until there are enough: so no row is a duplicate, and answers repeat more often than in a set of that size.  Each
run is a process of its own with one verifier.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import os, sys, time
from pathlib import Path
from prorl_scale.data.prepare import Prepare, prepare
from prorl_scale.rewards import Pool

began = time.monotonic()

def spent():  # by this process and all below it; those that a sandbox kills are never waited for, so ask before
    stats = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = entry.joinpath("stat").read_text().rpartition(")")
            except OSError:
                continue
            fields = rest.split()
            stats.append((int(entry.name), int(fields[1]), int(fields[11]) + int(fields[12])))
    family, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent, _ in stats if parent in family} - family
        family |= more
        grown = bool(more)
    return sum(ticks for pid, _, ticks in stats if pid in family) / os.sysconf("SC_CLK_TCK")

close, found = Pool.close, []
def measured(pool):
    found.append((spent(), time.monotonic() - began))
    close(pool)
Pool.close = measured
prepare(Prepare(Path(sys.argv[2]), source=[f"math={sys.argv[1]}"], only=["math"], workers=1))
print(*found[-1])
"""


def seconds(tree: Path, file: Path) -> dict[str, float]:
    """Processor and wall seconds of one preparation by the code of a tree, verifier included; imports in the first."""
    with tempfile.TemporaryDirectory() as out:
        line = [sys.executable, "-c", RUN, str(file), out]
        done = subprocess.run(
            line, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True
        )
    if done.returncode:
        sys.exit(f"{tree}: {done.stderr[-2000:]}")
    processor, wall = map(float, done.stdout.split()[-2:])
    return {"processor": round(processor, 1), "wall": round(wall, 1)}


def rows(count: int) -> list[dict[str, str]]:
    known = json.loads(Path(os.environ["PRORL_TEST_DATA"], "math/train_math.json").read_text(encoding="utf-8"))
    known = [row for row in known if row["answer"]]
    made = [(turn, row) for turn in range(count // len(known) + 1) for row in known][:count]
    return [
        {"problem": f"Variant {turn}. {row['problem']}" if turn else row["problem"], "answer": row["answer"]}
        for turn, row in made
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    trees = {"this": Path(__file__).parents[1], "other": given.other.resolve()}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        file.write_text(json.dumps(rows(given.rows)), encoding="utf-8")
        for _ in range(given.rounds):
            for name, tree in trees.items():
                times[name].append(seconds(tree, file))
                print(name, times[name][-1], flush=True)
    ratios = {}
    for kind in ("processor", "wall"):
        medians = {name: statistics.median(turn[kind] for turn in turns) for name, turns in times.items()}
        ratios[kind] = round(medians["this"] / medians["other"], 2)
    print(json.dumps({"rows": given.rows, "seconds": times, "this / other, ratio of medians": ratios}))


if __name__ == "__main__":
    main()
