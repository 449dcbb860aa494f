"""What Reasoning Gym's scorers pay for nonsense: the mean score per task over 20 items, as JSON on stdout.

python results/2026-11-23-verifiers/floors.py > results/2026-11-23-verifiers/floors.json

Frozen with its figures: run it in a checkout of commit 3a250a9, since names of the project have moved on.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from prorl_scale.rewards import Pool
from tests.test_rewards import _items, tagged

NONSENSE = ("banana", "[" * 3000, "\0", "-", '{"a": 1}', "0", "")


def main() -> None:
    items = _items(20)
    table: dict[str, dict[str, float]] = {}
    with Pool() as pool:
        for text in NONSENSE:
            verdicts = pool.verify(("puzzle", tagged(text), {"task": task, "item": item}) for task, item in items)
            for (task, _), verdict in zip(items, verdicts, strict=True):
                row = table.setdefault(task, dict.fromkeys((name[:8] for name in NONSENSE), 0.0))
                row[text[:8]] += verdict.score / 20
    paid = {task: {text: round(mean, 3) for text, mean in row.items() if mean} for task, row in table.items()}
    text = json.dumps({task: row for task, row in paid.items() if row}, indent=1)
    Path(__file__).with_name("floors.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
