"""Difficulty before a step is paid for: how often a model solves each training prompt.

`prepare --estimate MODEL` writes `pass-rates.jsonl` beside the data: what the rates are of, then a line for each prompt
in its turn, so that a run that was cut off goes on.  `--pass-rate LO HI` in training leaves out prompts beyond them:
where all answers are right, or none is, a group has no contrast, and dynamic sampling would throw it away.

The rates are those of the model that was asked.  Where training makes another of it they grow old: a prompt that was
never solved may be learned from later, and one that is left out never comes back.  So this is off by default, as in
the paper.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from prorl_lab import scoring
from prorl_lab.bars import tqdm
from prorl_lab.errors import UserError

FILE = "pass-rates.jsonl"
CHUNK = 64  # prompts answered together: what a kill can lose

Row = dict[str, Any]
# rows -> of each of their answers (score, was it judged)
Answer = Callable[[list[Row]], list[list[tuple[float, bool]]]]


def estimate(
    folder: Path, about: dict[str, Any], share: float, answer: Answer, fits: Callable[[Row], bool] = lambda row: True
) -> None:
    """Write the pass rates of a share of the training prompts in `folder`, those that are not known yet.

    about: what else the rates depend on (model, answers, temperature, ...).  fits: whether a prompt leaves room for an
    answer; one that does not gets no rate.  Raises UserError where the folder holds other rates.
    """
    path, about = folder / FILE, {**about, "verifiers": scoring.VERSION}
    known = _begin(path, about)
    todo = [row for row in _rows(folder) if row["id"] not in known and _drawn(row["id"]) < share and fits(row)]
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    with path.open("a", encoding="utf-8") as file:
        for rows in tqdm(chunks, desc="estimate", unit=f" chunks of {CHUNK}"):
            for row, verdicts in zip(rows, answer(rows), strict=True):
                judged = [score for score, is_judged in verdicts if is_judged]
                right = sum(score >= 1 for score in judged)
                file.write(json.dumps({"id": row["id"], "right": right, "of": len(judged)}) + "\n")
            file.flush()


def outside(folder: Path, low: float, high: float) -> frozenset[str]:
    """The ids of the prompts whose pass rate is below `low` or above `high`; what has no rate is none of them.

    Raises UserError where there are no rates, or other verifiers gave them.
    """
    path = folder / FILE
    if not path.exists():
        raise UserError(
            f"--pass-rate needs {path}: write it with python -m prorl_scale.data prepare --out {folder} --estimate "
            "MODEL"
        )
    about, *rates = _lines(path) or [{}]
    if about.get("verifiers") != scoring.VERSION:
        raise UserError(
            f"the pass rates in {path} were given by another version of the verifiers: delete it and estimate again"
        )
    found = frozenset(rate["id"] for rate in rates if rate["of"] and not low <= rate["right"] / rate["of"] <= high)
    print(
        f"--pass-rate: of {len(rates):,} prompts that {about['model']} was asked, {len(found):,} are solved less often "
        f"than {low:g} or more often than {high:g}, and are left out; prompts without a rate are kept",
        flush=True,
    )
    return found


def _begin(path: Path, about: dict[str, Any]) -> set[str]:
    """The ids that have a rate; begins the file where there is none, and drops a last line that a kill cut off."""
    lines = _lines(path) if path.exists() else []
    if lines and lines[0] != about:
        other = ", ".join(sorted(key for key in {*about, *lines[0]} if about.get(key) != lines[0].get(key)))
        raise UserError(f"{path} holds pass rates with another {other}: give the same settings again, or delete it")
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text("".join(json.dumps(line) + "\n" for line in lines or [about]), encoding="utf-8")
    unfinished.replace(path)
    return {line["id"] for line in lines[1:]}


def _lines(path: Path) -> list[dict[str, Any]]:
    whole = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in whole if line.endswith("\n")]


def _rows(folder: Path) -> Iterator[Row]:
    files = sorted((folder / "train").glob("*.parquet"))
    for file in files:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=256):
            yield from ({**row, "reference": json.loads(row["reference"])} for row in batch.to_pylist())


def _drawn(name: str) -> float:
    """A number in [0, 1) that depends on the row alone, so that a larger share holds a smaller one."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


# --- vLLM


def with_vllm(config: Any) -> None:
    """`estimate` for `prepare`'s settings, with vLLM as evaluation uses it.  Raises UserError."""
    import torch

    from prorl_lab import tasks
    from prorl_scale.evaluate import prepare, sampler
    from prorl_scale.rewards import Pool

    gpu = torch.cuda.is_available()
    settings = prepare.Config(
        models=[], sets=[], n=config.estimate_answers, temperature=config.estimate_temperature, top_p=1.0,
        max_tokens=config.estimate_tokens, seed=config.seed, device="cuda" if gpu else "cpu",
        dtype="bfloat16" if gpu else "float32",
    )  # fmt: skip
    model = prepare.open_model("model", config.estimate, [])
    about = {
        "model": config.estimate, "files": prepare.fingerprint(config.estimate), "answers": settings.n,
        "temperature": settings.temperature, "max_tokens": settings.max_tokens, "seed": settings.seed,
    }  # fmt: skip

    def problem(row: Row) -> tasks.Problem:
        return tasks.Problem(row["domain"], row["prompt"], row)

    lengths = {row["id"]: len(model.encode(problem(row))) for row in _rows(config.out)}
    limit = model.limit or math.inf
    longest = max((size for size in lengths.values() if size < limit), default=1)
    context = int(min(longest + settings.max_tokens, limit))

    with Pool(config.workers, unsafe=config.unsafe_verifiers) as pool, sampler.Sampler(
        model.folder, settings, model.stop_ids, context
    ) as engine:  # fmt: skip

        def answer(rows: list[Row]) -> list[list[tuple[float, bool]]]:
            some = [problem(row) for row in rows]
            seed = sampler.chunk_seed(config.seed, "estimate", rows[0]["id"], len(rows))
            groups = engine.write([model.encode(one) for one in some], seed)
            return score(pool, rows, [model.texts(p, group) for p, group in zip(some, groups, strict=True)])

        estimate(config.out, about, config.estimate_share, answer, lambda row: lengths[row["id"]] < context)


def score(pool: Any, rows: Iterable[Row], texts: list[list[str]]) -> list[list[tuple[float, bool]]]:
    """Scores of each row's answers, as `Answer` gives them."""
    items = [(row["domain"], text, row["reference"]) for row, group in zip(rows, texts, strict=True) for text in group]
    verdicts = iter(pool.verify(items))
    return [[(v.score, v.status != "unverified") for v in itertools.islice(verdicts, len(group))] for group in texts]
