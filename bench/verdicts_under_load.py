"""Are verdicts the same on an idle machine, on a busy one, and with more workers than processors?

    python bench/verdicts_under_load.py --data /path/to/test-data [--answers 2000] [--loops 12] [--out FOLDER]

Answers of all five domains, right and wrong; among the programs are such that use 0.2 to 0.9 of their limit, in one
test or spread over several, and such that use more.  Three passes: as the machine is, beside `loops` busy loops, and
with four times as many workers as processors.  Every verdict must equal the first pass's; each pass notes its load.
"""

import json
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from measure import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import verifiers

from prorl_lab.processors import usable_processors
from prorl_scale.rewards import Pool, Verdict

Item = tuple[str, str, dict[str, Any]]
SHARES = (0.2, 0.3, 0.5, 0.7, 0.9, 1.6)  # of the limit that a program uses; the last is beyond it


@dataclass
class Config:
    data: Path  # the folder of real test data
    answers: int = 2000
    burning: int = 48  # of those, programs that use a share of their limit; the others take next to nothing
    limit: float = 1.0  # processor seconds of a program; a run has 5, and this shows the same in less time
    loops: int = 12
    passes: tuple[str, ...] = ("as it is", "busy loops", "many workers")
    out: Path | None = None  # a folder


def burning_items(count: int, limit: float) -> list[Item]:
    """Programs that loop for their share of the limit and are then right, or wrong, in one test or in four."""
    items = []
    for i in range(count):
        share, tests, right = SHARES[i % len(SHARES)], (1, 4)[i // len(SHARES) % 2], i // (2 * len(SHARES)) % 2 == 0
        seconds = share * limit / tests
        code = f"import time\nwhile time.process_time() < {seconds}:\n    pass\nprint({7 if right else 8})  # {i}"
        items.append(("code", f"```python\n{code}\n```", {"inputs": [""] * tests, "outputs": ["7"] * tests}))
    return items


def all_items(config: Config) -> list[Item]:
    """Equal parts of the sources, repeated if they are short, and the programs that burn; in random order."""
    items = burning_items(config.burning, config.limit)
    sources = [source(config.data) for source in verifiers.SOURCES.values()]
    draw = random.Random(0)
    for source in sources:
        draw.shuffle(source)
    for i in range(config.answers - len(items)):
        source = sources[i % len(sources)]
        items.append(source[i // len(sources) % len(source)])
    draw.shuffle(items)
    return items


def _loop() -> None:
    while True:
        pass


def judge(config: Config, name: str, items: list[Item]) -> tuple[list[Verdict], dict[str, Any]]:
    """One pass -> its verdicts, and what it was like."""
    workers = usable_processors() * (4 if name == "many workers" else 1)
    with ExitStack() as stack:
        for _ in range(config.loops if name == "busy loops" else 0):
            loop = multiprocessing.Process(target=_loop, daemon=True)
            loop.start()
            stack.callback(loop.kill)
        pool = stack.enter_context(Pool(workers, code_seconds=config.limit))
        start, before = time.monotonic(), os.getloadavg()[0]
        verdicts = pool.verify(items, progress=True)
        seconds = time.monotonic() - start
    statuses = Counter(verdict.status for verdict in verdicts)
    about = {"pass": name, "workers": workers, "seconds": round(seconds), "load before": round(before, 1)}
    return verdicts, {**about, "load after": round(os.getloadavg()[0], 1), "statuses": dict(statuses)}


def main(config: Config) -> None:
    items = all_items(config)
    first, passes, different = None, [], []
    for name in config.passes:
        verdicts, about = judge(config, name, items)
        first = first or verdicts
        about["different"] = sum(a != b for a, b in zip(first, verdicts, strict=True))
        different += [(name, i, a, b) for i, (a, b) in enumerate(zip(first, verdicts, strict=True)) if a != b]
        passes.append(about)
        print(json.dumps(about), flush=True)
    for name, i, before, after in different:
        print(f"{name}: {items[i][0]} {items[i][1][:200]!r}: {before} became {after}")
    wrong = [
        i for i, item in enumerate(items) if (expected := _expected(item, config.limit)) and first[i].status != expected
    ]
    print(f"burning programs judged otherwise than they were made: {len(wrong)}")
    if config.out:
        config.out.mkdir(parents=True, exist_ok=True)
        figures = {
            "answers": len(items),
            "domains": dict(Counter(item[0] for item in items)),
            "mean score": round(statistics.mean(verdict.score for verdict in first), 3),
            "limit": config.limit,
            "shares of the limit": SHARES,
            "burning": config.burning,
            "busy loops": config.loops,
            "burning programs judged otherwise than made": len(wrong),
            "passes": passes,
            "machine": machine(),
        }
        (config.out / "verdicts.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _expected(item: Item, limit: float) -> str | None:
    """The status that a burning program was made for."""
    code, tests = item[1], len(item[2].get("inputs", ()))
    if "time.process_time() < " not in code:
        return None
    seconds = float(code.partition("time.process_time() < ")[2].partition(":")[0]) * tests
    return "timeout" if seconds > limit else "ok" if "print(7)" in code else "wrong"


if __name__ == "__main__":
    main(tyro.cli(Config))
