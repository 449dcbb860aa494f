"""What an evaluation writes.  Every file is whole or absent, so a killed one goes on where it stopped.

OUT/config.json               settings, models, sets, versions: written last of the preparation
OUT/prompts/SET.jsonl         one object per prompt
OUT/parts/MODEL/SET/N.jsonl   answers of chunk N: the unit of work, gone once merged
OUT/answers/MODEL/SET.jsonl   one object per answer, by prompt and then by sample
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from prorl_scale.evaluate.sets import Prompt


def prompts_file(out: Path, of: str) -> Path:
    return out / "prompts" / f"{of}.jsonl"


def answers_file(out: Path, model: str, of: str) -> Path:
    return out / "answers" / model / f"{of}.jsonl"


def part_file(out: Path, model: str, of: str, chunk: int) -> Path:
    return out / "parts" / model / of / f"{chunk:06d}.jsonl"


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    """JSON lines, renamed to `path` once they are on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_lines(path: Path) -> Iterator[dict]:
    """The objects of a JSON-lines file, one at a time: answers to a large set do not fit in memory."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def write_prompts(out: Path, of: str, prompts: list[Prompt]) -> None:
    write_lines(prompts_file(out, of), map(dataclasses.asdict, prompts))


def read_prompts(out: Path, of: str) -> list[Prompt]:
    return [Prompt(**row) for row in read_lines(prompts_file(out, of))]


def is_done(out: Path, model: str, of: str, chunk: int) -> bool:
    """Whether a chunk's answers are written.  In this order: another rank may be merging the set."""
    return part_file(out, model, of, chunk).exists() or answers_file(out, model, of).exists()


def merge(out: Path, model: str, of: str, chunks: int) -> bool:
    """Put a set's parts together -> whether that is done; it is not while parts are missing."""
    merged = answers_file(out, model, of)
    parts = [part_file(out, model, of, chunk) for chunk in range(chunks)]
    if not merged.exists():
        if not all(part.exists() for part in parts):
            return False
        merged.parent.mkdir(parents=True, exist_ok=True)
        unfinished = merged.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(merged)
    shutil.rmtree(parts[0].parent, ignore_errors=True)  # of a merge that was killed here, too
    return True
