"""Time and memory of the creativity index against the size of the corpus, on synthetic text.

    python results/2026-11-27-analysis/creativity_speed.py            # runs each size in a process of its own

The corpus has words drawn by Zipf's law (exponent 1.1, 200,000 different ones), in documents of 1,000 words, one JSON
line each; the 2,000 texts have 300 words, half of them copied from the corpus in spans of 30.  Writes
creativity_speed.csv and creativity_speed.png.
"""

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
SIZES = (10, 30, 100)  # MB, 10^6 bytes
LENGTHS = range(5, 13)


def write_corpus(path: Path, megabytes: int, seed: int = 0) -> int:
    """Synthetic documents up to a size; returns the number of words."""
    draw = np.random.default_rng(seed)
    words = np.array([f"w{i:x}" for i in range(200_000)])
    chance = np.arange(1, len(words) + 1) ** -1.1
    chance /= chance.sum()
    count = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 10**6:
            for document in draw.choice(words, (100, 1000), p=chance):
                file.write(json.dumps({"text": " ".join(document)}) + "\n")
            count += 100_000
    return count


def make_texts(path: Path, seed: int = 1) -> list[str]:
    draw = np.random.default_rng(seed)
    with path.open(encoding="utf-8") as file:
        documents = [json.loads(next(file))["text"].split() for _ in range(1000)]
    texts = []
    for _ in range(2000):
        spans = []
        for i in range(10):
            document = documents[draw.integers(len(documents))]
            at = draw.integers(len(document) - 30)
            span = document[at : at + 30]
            spans += span if i % 2 else list(draw.permutation(span))
        texts.append(" ".join(spans))
    return texts


def one(megabytes: int) -> None:
    """Print the row of one size."""
    from prorl_scale.analysis.creativity import read_corpus, uniqueness

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        words = write_corpus(path, megabytes)
        texts = make_texts(path)
        wall, cpu = time.perf_counter(), time.process_time()
        result = uniqueness(texts, read_corpus([path]), LENGTHS)
        row = {
            "megabytes": path.stat().st_size / 1e6,
            "corpus_words": words,
            "text_words": int(result.words.sum()),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "wall_seconds": round(time.perf_counter() - wall, 2),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "mean_index": round(float(result.index.mean()), 4),
        }
    print(json.dumps(row))


def draw(rows: list[dict]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x, y = (np.array([row[key] for row in rows]) for key in ("megabytes", "cpu_seconds"))
    slope, intercept = np.polyfit(x, y, 1)
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axis.plot(x, y, "o", color="#2f6db3", label="measured")
    line = np.array([0, x.max()])
    label = f"least squares: {intercept:.1f} s + {slope:.3f} s per MB"
    axis.plot(line, intercept + slope * line, color="black", lw=0.8, label=label)
    axis.set_xlabel("corpus, MB (10^6 bytes)")
    axis.set_ylabel("CPU seconds, one core")
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(HERE / "creativity_speed.png", dpi=110)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one(int(sys.argv[1]))
        sys.exit()
    found = []
    for size in SIZES:
        ran = subprocess.run([sys.executable, __file__, str(size)], capture_output=True, text=True, check=True)
        found.append(json.loads(ran.stdout))
        print(ran.stdout, end="", flush=True)
    with (HERE / "creativity_speed.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    draw(found)
