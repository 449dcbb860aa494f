"""Build a training mixture and a validation blend: one parquet file per source, a manifest of what was kept and why.

Each file is written whole or not at all and remembers its settings, so a run that was cut off goes on with the source
it was at.  Sizes are the paper's; the validation blend of the domains other than puzzles is our choice, because the
paper's is drawn from the evaluation sets.
"""

import hashlib
import importlib.metadata
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
from tqdm import tqdm

from prorl_lab.errors import UserError
from prorl_scale.rewards import Pool

from .contamination import Index, evaluation_texts
from .sources import SOURCES, TASKS, Dropped, Row, puzzles, question, records, row

RECIPES: dict[str, dict[str, dict[str, int]]] = {  # rows by split and domain
    "prorl-1.5b": {
        "train": {"math": 40_000, "code": 24_000, "stem": 25_000, "puzzle": 37_000, "instruction": 10_000},
        "validation": {"math": 200, "code": 200, "stem": 200, "puzzle": 9_600, "instruction": 200},
    },
    "tiny": {
        "train": {"math": 64, "code": 64, "stem": 64, "puzzle": 192, "instruction": 64},
        "validation": {"math": 8, "code": 8, "stem": 8, "puzzle": 96, "instruction": 8},
    },
}
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("domain", pyarrow.string()),
        ("source", pyarrow.string()),
        ("prompt", pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))),
        ("reference", pyarrow.large_string()),  # the tests of all programs together may pass 2 GB
        ("meta", pyarrow.string()),
    ]
)


@dataclass
class Prepare:
    """What to prepare, and where."""

    out: Path
    recipe: str = "prorl-1.5b"  # or tiny, to try it out
    source: list[str] = field(default_factory=list)  # NAME=PATH of files already on disk, instead of the hub
    evaluation: list[Path] = field(default_factory=list)  # .json or .jsonl; overlapping training prompts are dropped
    only: list[str] = field(default_factory=list)  # domains to prepare; by default all five
    seed: int = 0
    workers: int | None = None  # of the verifiers; by default one per CPU
    unsafe_verifiers: bool = False


def prepare(config: Prepare) -> dict[str, Any]:
    """Write the files and the manifest, also returned.  Raises UserError, or SandboxError where that can't start."""
    if config.recipe not in RECIPES:
        raise UserError(f"unknown recipe {config.recipe!r}: choose from {', '.join(RECIPES)}")
    sizes = RECIPES[config.recipe]
    if unknown := sorted(set(config.only) - set(sizes["train"])):
        raise UserError(f"unknown domain {', '.join(unknown)}: choose from {', '.join(sizes['train'])}")
    paths = {name: Path(path) for name, _, path in (item.partition("=") for item in config.source) if path}
    if len(paths) < len(config.source) or set(paths) - set(SOURCES):
        raise UserError(f"--source takes NAME=PATH, each NAME once and one of {', '.join(SOURCES)}: {config.source}")
    index = Index((path.name, text) for path in config.evaluation for text in evaluation_texts(path))
    parts = []
    with Pool(config.workers, unsafe=config.unsafe_verifiers) as pool:
        for domain in config.only or sizes["train"]:
            wanted = {split: sizes[split][domain] for split in sizes}
            if domain == "puzzle":
                parts += [
                    _puzzle_part(config, index, task, wanted) for task in tqdm(TASKS, desc="puzzle", unit=" tasks")
                ]
            else:
                parts.append(_source_part(config, index, pool, domain, paths.get(domain), wanted))
    manifest = {
        "recipe": config.recipe,
        "seed": config.seed,
        "evaluation": [path.name for path in config.evaluation],
        "versions": {name: importlib.metadata.version(name) for name in ("reasoning-gym", "datasets", "math-verify")},
        "rows": _total(parts, "rows"),
        "dropped": _total(parts, "dropped"),
        "parts": parts,
    }
    (config.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _total(parts: list[dict], key: str) -> dict[str, dict[str, int]]:
    total: dict[str, Counter] = {}
    for part in parts:
        total.setdefault(part["domain"], Counter()).update(part[key])
    return {domain: dict(counts) for domain, counts in total.items()}


def _source_part(
    config: Prepare, index: Index, pool: Pool, domain: str, path: Path | None, wanted: dict[str, int]
) -> dict[str, Any]:
    origin = SOURCES[domain].name if path is None else _fingerprint(path)
    settings = {"origin": origin, "wanted": wanted, "seed": config.seed, "evaluation": _evaluation(config)}
    if (part := _finished(config.out, domain, settings)) is not None:
        return part
    dropped: Counter = Counter()
    rows = _checked(_rows(domain, records(SOURCES[domain], path), dropped), pool, dropped)
    clean, overlaps = _clean(rows, index, dropped)
    # An order that the seed and the rows' names fix, whatever order the source came in.
    clean.sort(key=lambda r: hashlib.sha256(f"{config.seed}/{r.id}".encode()).digest())
    held = min(wanted["validation"], len(clean) // 10)
    splits = {"validation": clean[:held], "train": clean[held : held + wanted["train"]]}
    dropped["more than wanted"] += max(0, len(clean) - held - wanted["train"])
    return _write(config.out, domain, domain, splits, dropped, overlaps, settings)


def _rows(domain: str, source: Iterable[dict], dropped: Counter) -> Iterator[Row]:
    seen = set()
    for number, record in enumerate(tqdm(source, desc=domain, unit=" records")):
        try:
            made = row(domain, number, record)
        except Dropped as reason:
            dropped[str(reason)] += 1
            continue
        text = made.prompt[-1]["content"]
        if text in seen:
            dropped["the same prompt twice"] += 1
            continue
        seen.add(text)
        yield made


def _checked(rows: Iterable[Row], pool: Pool, dropped: Counter) -> list[Row]:
    """The rows whose reference the verifier takes, and whose check it passes."""
    rows = list(rows)
    kept = []
    for made, verdict in zip(rows, pool.verify((r.domain, r.check[0], r.reference) for r in rows), strict=True):
        if verdict.status in ("error", "timeout"):
            dropped["the verifier does not take the reference"] += 1
        elif verdict.score < made.check[1]:
            dropped["the known answer does not verify"] += 1
        else:
            kept.append(made)
    return kept


def _clean(rows: list[Row], index: Index, dropped: Counter) -> tuple[list[Row], list[dict[str, str]]]:
    """The rows without overlap with an evaluation set, and a report of those with one."""
    clean, overlaps = [], []
    for made in rows:
        if match := index.match(question(made)):
            dropped["overlaps an evaluation set"] += 1
            overlaps.append({"id": made.id, "evaluation": match[0], "words": match[1]})
        else:
            clean.append(made)
    return clean, overlaps


def _puzzle_part(config: Prepare, index: Index, task: str, wanted: dict[str, int]) -> dict[str, Any]:
    share = {split: _share(count, task) for split, count in wanted.items()}
    version = importlib.metadata.version("reasoning-gym")
    settings = {"origin": f"reasoning-gym {version}", "wanted": share, "seed": config.seed}
    name = f"puzzle-{task}"
    if (part := _finished(config.out, name, settings)) is not None:
        return part
    validation = list(puzzles(task, "validation", share["validation"], config.seed))
    held = {made.prompt[-1]["content"] for made in validation}
    train = list(puzzles(task, "train", share["train"], config.seed))
    fresh = [made for made in train if made.prompt[-1]["content"] not in held]
    dropped = Counter({"also in validation": len(train) - len(fresh)})
    return _write(config.out, name, "puzzle", {"train": fresh, "validation": validation}, dropped, [], settings)


def _share(count: int, task: str) -> int:
    """How many of `count` rows a task gets: as even as whole numbers allow."""
    base, extra = divmod(count, len(TASKS))
    return base + (TASKS.index(task) < extra)


def _fingerprint(path: Path) -> str:
    """The file names and sizes at a path: enough to notice another file, without reading gigabytes."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return ", ".join(f"{file.name} {file.stat().st_size}" for file in files)


def _evaluation(config: Prepare) -> list[str]:
    return [_fingerprint(path) for path in config.evaluation]


def _finished(out: Path, name: str, settings: dict) -> dict[str, Any] | None:
    """The manifest of a part that is there already and was made with the same settings."""
    note = out / "parts" / f"{name}.json"
    if not note.exists():
        return None
    part = json.loads(note.read_text(encoding="utf-8"))
    return part if part["settings"] == settings else None


def _write(
    out: Path, name: str, domain: str, splits: dict[str, list[Row]], dropped: Counter, overlaps: list, settings: dict
) -> dict[str, Any]:
    hashes = {}
    for split, rows in splits.items():
        path = out / split / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = [
            {
                "id": r.id,
                "domain": r.domain,
                "source": r.source,
                "prompt": r.prompt,
                "reference": json.dumps(r.reference),
                "meta": json.dumps(r.meta),
            }
            for r in rows
        ]
        parquet.write_table(pyarrow.Table.from_pylist(columns, SCHEMA), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
        hashes[split] = hashlib.sha256(json.dumps(columns).encode()).hexdigest()
    part = {
        "name": name,
        "domain": domain,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "overlaps": overlaps,
        "sha256 of the rows": hashes,
        "settings": settings,
    }
    note = out / "parts" / f"{name}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.with_suffix(".tmp").write_text(json.dumps(part), encoding="utf-8")
    os.replace(note.with_suffix(".tmp"), note)  # last: a part without its note is made again
    return part
