"""What each puzzle task pays for the right answer, and for texts that are not it: our scorer, and Reasoning Gym's own.

    python bench/puzzles.py --items 20 --out results/<date>-puzzle-soundness
    python bench/puzzles.py --items 5 --tasks word_sorting gsm_symbolic

Every text is made from the right one of the item or of another, or is a constant; a constant that happens to be the
right answer of an item is left out there.  Answers are scored in this process: they are ours, none is a model's.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import reasoning_gym

from prorl_lab.scoring import VERSION, puzzle
from prorl_scale.data.sources import TASKS

ALL_TASKS = [*TASKS, "acre", "boxnet", "game_of_life_halting", "puzzle24"]  # the last four are held out
UNSOLVED = {"rush_hour", "boxnet"}  # Reasoning Gym has no solution for these
CONSTANTS = ("", "0", "1", "-1", "True", "False", "Yes", "No", "[]", "{}", "[[]]", "nan", "A", "infeasible", "banana")
KINDS = ("gold", "tail", "prefix", "twice", "sign", "more numbers", "another's", "constant", "NaN")


def items_of(tasks: list[str], count: int, seed: int = 42) -> dict[str, list[dict[str, Any]]]:
    made = {}
    for task in tasks:
        data = reasoning_gym.create_dataset(puzzle.ALIASES.get(task, task), seed=seed, size=count)
        made[task] = [data[i] for i in range(count)]
    return made


def solution(item: dict[str, Any]) -> str:
    """The gold answer; three tasks keep theirs in the metadata."""
    metadata, answer = item["metadata"], item["answer"]
    if answer is not None and "Integral(" in answer:
        # One item in eight of intermediate_integration has the question as its answer, which we do not accept.
        import sympy

        return str(sympy.parse_expr(answer).doit())
    if answer is not None:
        return answer
    if "possible_answer" in metadata:
        return json.dumps(metadata["possible_answer"])
    return str(metadata.get("example_correct_answer") or metadata.get("example_answer"))


def texts(item: dict[str, Any], other: dict[str, Any]) -> dict[str, list[str]]:
    """What is tried on an item, by kind; none but `gold` is the right answer."""
    gold, theirs = solution(item).strip(), solution(other).strip()
    made = {
        "gold": [gold],
        "tail": [f"{gold} banana", f"{gold}\nbanana", f"{gold}, banana", f"{gold}\n\n# banana"],
        "prefix": [f"The answer is {gold}", f"banana\n{gold}"],
        "twice": [f"{gold}, {gold}", f"{gold}\nor {gold}"],
        "sign": [gold[1:] if gold[0] == "-" else f"-{gold}"] if re.match(r"-?[0-9.]*[1-9]", gold) else [],
        "more numbers": [f"{gold} 1 2 3", f"{gold}, 7"] if re.match(r"-?[0-9]", gold) else [],
        "another's": [theirs] if theirs.casefold() != gold.casefold() else [],
        "constant": [c for c in CONSTANTS if c.casefold() != gold.casefold() and f"{c}.0" != gold],
        "NaN": [json.dumps([float("nan")] * (gold.count(",") + 1)), ", ".join(["nan"] * (gold.count(",") + 1))],
    }
    if item["metadata"].get("source_dataset") in UNSOLVED:
        made = {kind: made[kind] for kind in ("constant", "NaN")}
    return made


def paid(made: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, tuple[float, float, float, float]]]:
    """task -> kind -> means and largest of what Reasoning Gym and ours pay: (theirs, ours, their most, our most)."""
    table: dict[str, dict[str, Any]] = {}
    for task, items in made.items():
        points = defaultdict(list)
        for item, other in zip(items, items[1:] + items[:1], strict=True):
            for kind, answers in texts(item, other).items():
                for answer in answers:
                    points[kind].append([_score(task, item, answer, **how) for how in ({"scorer": "original"}, {})])
        table[task] = {k: (*np.mean(points[k], 0), *np.max(points[k], 0)) for k in KINDS if points[k]}
    return table


def commonest(items: list[dict[str, Any]]) -> float:
    """The share of items that one constant solves: what no scorer can help."""
    return Counter(solution(item) for item in items).most_common(1)[0][1] / len(items)


def _score(task: str, item: dict[str, Any], answer: str, **how: str) -> float:
    reference = {"task": task, "item": json.loads(json.dumps(item, default=str)), **how}
    return puzzle.score(f"<answer>{answer}</answer>", reference)[0]


def markdown(table: dict[str, dict[str, Any]], constants: dict[str, float]) -> str:
    """One row for each task: mean paid, Reasoning Gym's / ours; last, the share of items with the commonest gold."""
    lines = [["task", *KINDS, "commonest gold"], ["---"] * (len(KINDS) + 2)]
    for task, kinds in table.items():
        cells = [f"{kinds[k][0]:.2f} / {kinds[k][1]:.2f}" if k in kinds else "" for k in KINDS]
        lines.append([task, *cells, "" if task in UNSOLVED else f"{constants[task]:.2f}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20, help="of each task")
    parser.add_argument("--tasks", nargs="*", default=ALL_TASKS)
    parser.add_argument("--out", type=Path, help="a folder for table.md and paid.json")
    args = parser.parse_args()
    made = items_of(args.tasks, args.items)
    table, constants = paid(made), {task: commonest(items) for task, items in made.items()}
    text = markdown(table, constants)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "table.md").write_text(text, encoding="utf-8")
        facts = {"items": args.items, "seed": 42, "verifiers": VERSION, "commonest_gold": constants, "paid": table}
        (args.out / "paid.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
