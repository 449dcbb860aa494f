"""The laptop run's page and table again, from the right answers to each prompt: with today's intervals.

    PYTHONPATH=. python results/2026-11-27-analysis/redraw.py FOLDER

Puts into FOLDER an evaluation as `laptop/prompts.csv` and `laptop/newly_solvable.csv` hold it: which answers were
right, and the texts that the page quotes; the others were not kept.  Then makes the analysis without the creativity
index, which reads all texts, and the table of results/2026-11-27-evaluate.
"""

import csv
import shutil
import sys
from pathlib import Path

from prorl_scale.analysis.__main__ import Settings, analyse
from prorl_scale.evaluate.store import answers_file, prompts_file, write_lines
from prorl_scale.evaluate.table import table

HERE = Path(__file__).parent
MODELS = ("base", "mid", "final")
N = 64


def read(name: str) -> list[dict[str, str]]:
    with (HERE / "laptop" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rebuild(folder: Path) -> None:
    """An evaluation folder with the right answers first; a wrong one has the mean score of the wrong ones."""
    quoted = {row["id"]: row for row in read("newly_solvable.csv")}
    rows = read("prompts.csv")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "laptop" / "evaluation" / "config.json", folder / "config.json")
    prompts = []
    for row in rows:
        text = quoted.get(row["id"], {}).get("prompt", "(not kept)")
        prompts.append(
            {"id": row["id"], "set": "laptop", "domain": "laptop", "prompt": text, "reference": {}, "tier": row["tier"]}
        )
    write_lines(prompts_file(folder, "laptop"), prompts)
    for model in MODELS:
        answers = []
        for row in rows:
            right, mean = int(row[f"{model} right"]), float(row[f"{model} mean score"])
            rest = (mean * N - right) / (N - right) if right < N else 0.0
            text = quoted.get(row["id"], {}).get("right answer", "(not kept)")
            answers += [
                {"id": row["id"], "sample": i, "score": 1.0 if i < right else min(max(rest, 0.0), 0.999), "text": text,
                 "tokens": 0, "truncated": False, "status": "ok"}
                for i in range(N)
            ]  # fmt: skip
        write_lines(answers_file(folder, model, "laptop"), answers)


def main(folder: Path) -> None:
    rebuild(folder)
    made = folder / "page"
    analyse(
        Settings(out=str(made), runs=str(folder), training=str(HERE / "laptop" / "training"), title="The laptop run")
    )
    for path in (HERE / "laptop").glob("*.*"):
        if (made / path.name).exists() and path.name not in ("prompts.csv", "config.json"):
            shutil.copy(made / path.name, path)
    shutil.copy(made / "figures" / "passk.png", HERE / "laptop" / "figures" / "passk.png")
    (HERE.parent / "2026-11-27-evaluate" / "laptop" / "table.md").write_text(table(folder), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
