"""A file of JSON lines that grows with a run: whole lines alone, cut back to the checkpoint that a run goes on from."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prorl_lab.errors import UserError, first_line
from prorl_lab.files import cannot_write, replacing


class Log:
    """`count` is the number of its lines, which a checkpoint notes."""

    def __init__(self, path: Path):
        self.path, self.count = path, 0

    def open(self) -> None:
        try:
            self.file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        self.file.close()

    def append(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write a row -> as it was written.  Raises UserError, with nothing written, where it can't be."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        line = json.dumps(finite, allow_nan=False) + "\n"  # NaN is not JSON, other readers would stop there
        before = os.fstat(self.file.fileno()).st_size
        try:
            write_all(self.file, line.encode())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file.fileno(), before)  # no half a row
            raise cannot_write(self.path, error) from error
        self.count += 1
        return finite

    def sync(self) -> None:
        """The log on the disk is at least as long as a checkpoint says, also after a power failure."""
        os.fsync(self.file.fileno())

    def clear(self) -> None:
        """Begin with no line."""
        with replacing(self.path):
            pass

    def cut(self, count: int) -> int:
        """Keep the first `count` lines: what they tell of the steps beyond will be logged again -> how many there are.

        Fewer, as a power failure may leave of a file that was copied, are no reason to stop: training needs none.
        """
        found = self.path.read_bytes() if self.path.exists() else b""
        lines = [line for line in found.splitlines(keepends=True) if line.endswith(b"\n")][:count]
        with replacing(self.path) as file:
            file.writelines(lines)
        self.count = len(lines)
        return self.count


def parse_rows(text: str, name: str) -> list[dict[str, Any]]:
    """The lines of such a file.  The last may be half-written: by a run at work, or by one that died.

    name: of the file, for the UserError about a line that is no JSON.

    >>> parse_rows('{"step": 1}\\n{"step": 2}\\n{"st', "metrics.jsonl")
    [{'step': 1}, {'step': 2}]
    """
    lines = text.splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
            rows.append(row)
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"line {number} of {name} is not JSON ({error}): mend or remove it") from error
    return rows


@contextlib.contextmanager
def as_a_run_wrote(folder: Path | str) -> Iterator[None]:
    """For what reads the rows of a run folder, or several: where they lack what a run writes, that is a UserError."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{folder} holds rows that no run writes ({type(error).__name__}: {first_line(error)}): give a folder made "
            "by --out, or mend its files"
        ) from error


def write_all(file: Any, data: bytes) -> None:
    """To an unbuffered file, which may take a part at a time."""
    while data:
        data = data[file.write(data) :]
