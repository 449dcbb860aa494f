"""A small evaluation folder with known solve rates, for the tests of the analysis.  Its figures mean nothing."""

import json
import random
from pathlib import Path

MODELS = ("base", "mid", "final")


def rate(model: str, size: int) -> float:
    """Solve rate by model and size of the problem: falls with the size, later for the later models."""
    reach = {"base": 6, "mid": 12, "final": 15}[model]
    return max(0.0, min(0.97, 1.2 - size / reach * 0.8))


def write_folder(
    folder: Path, n: int = 64, prompts: int = 12, sizes=(4, 8, 12, 16), floor: float = 0.0, originals=(), sets=("toy",),
    models=MODELS,
) -> Path:  # fmt: skip
    """`sets` with a tier per size; wrong answers earn `floor`; sets in `originals` have one tier only, and
    answers that carry original_score too."""
    draw = random.Random(0)
    (folder / "prompts").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"models": {m: f"checkpoints/{m}" for m in models}}))
    for name in sets:
        rows = [
            {"id": f"{name}-{size}-{i}", "set": name, "domain": "puzzle", "tier": f"{size} words", "reference": "",
             "prompt": f"sort <b>{size}</b> words & say {i}"}
            for size in (sizes[:1] if name in originals else sizes) for i in range(prompts)
        ]  # fmt: skip
        write_lines(folder / "prompts" / f"{name}.jsonl", rows)
        for model in models:
            (folder / "answers" / model).mkdir(parents=True, exist_ok=True)
            answers = []
            for row in rows:
                chance = rate(model, int(row["tier"].split()[0])) * draw.random() ** 0.5
                for sample in range(n):
                    right = draw.random() < chance
                    words = " ".join(draw.choice("abcdef") for _ in range(int(row["tier"].split()[0])))
                    answer = {
                        "id": row["id"], "sample": sample, "tokens": 5, "truncated": False, "status": "ok",
                        "text": f"<script>{model}</script> {words}" if right else words,
                        "score": 1.0 if right else floor,
                    }  # fmt: skip
                    if name in originals:
                        answer["original_score"] = 1.0
                    answers.append(answer)
            draw.shuffle(answers)  # a parallel evaluation writes in any order
            write_lines(folder / "answers" / model / f"{name}.jsonl", answers)
    return folder


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
