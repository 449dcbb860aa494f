"""Read records from data files: .json (a list), .jsonl, .csv, each also .gz, and .parquet, from a path or the hub.

JSON and CSV are read as text (`prorl_lab.rows` says why).  Nothing is ever unpickled.
"""

import csv
import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prorl_lab import rows
from prorl_lab.errors import UserError, first_line

KINDS = (".json", ".jsonl", ".csv", ".parquet")
csv.field_size_limit(2**31 - 1)  # the default refuses fields of more than 128 kB, and tests of programs are longer

Record = dict[str, Any]


def kind_of(path: Path) -> str | None:
    """Which of KINDS a file is by its name, .gz aside; None for another."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else None


def data_files(path: Path) -> list[Path]:
    """The data file at a path, or those in a folder in order of name.  Raises UserError where there is none."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if kind_of(p) and ".cache" not in p.parts)
    if not found:  # .cache: where `hf download` keeps its notes
        raise UserError(f"no .json, .jsonl, .csv or .parquet file at {path}: give the PATH of some")
    return found


def read(path: Path) -> Iterator[Record]:
    """The records at a path, files in order of name.  Raises UserError for what can't be read, or holds no objects."""
    for file in data_files(path):
        yield from read_file(file, kind_of(file))


def read_file(file: Path, kind: str | None) -> Iterator[Record]:
    """The records of one file of a kind (None: JSON of either form).  Raises UserError."""
    reader = {".parquet": _parquet, ".csv": _csv}.get(kind, _json)
    try:
        for record in reader(file):
            if not isinstance(record, dict):
                raise UserError(
                    f"{file} holds a {type(record).__name__} where an object was expected: give another file"
                )
            yield record
    except (OSError, EOFError, ValueError, csv.Error) as error:  # ValueError: JSON, UTF-8 and pyarrow's own
        raise UserError(
            f"can't read {file} as {(kind or 'json').strip('.')} ({first_line(error)}): fetch it again"
        ) from error


def _open(file: Path, newline: str) -> Any:
    """A text file, unpacked if its first bytes say that it is packed: a downloaded file may have lost its name."""
    with file.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    return (gzip.open if packed else open)(file, "rt", encoding="utf-8-sig", newline=newline)


def _json(file: Path) -> Iterator[Any]:
    with _open(file, "\n") as opened:
        first = next(filter(str.strip, opened), "")
        if first.lstrip().startswith("["):
            yield from rows.loads(first + opened.read())
            return
        if first.strip() == "{":  # one object over several lines is no row: its list of rows is what is wanted
            raise UserError(f"{file} holds one object, not rows: give a list of objects, or one object to a line")
        for _, value in rows.json_lines(itertools.chain([first], opened), file):
            yield value


def _csv(file: Path) -> Iterator[Record]:
    with _open(file, "") as opened:
        yield from csv.DictReader(opened)


def _parquet(file: Path) -> Iterator[Record]:
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(
        batch_size=256
    ):  # the tests of a program may be megabytes
        yield from batch.to_pylist()


def from_hub(name: str, config: str | None, split: str) -> Iterator[Record]:
    """The records of a data set on the Hugging Face hub: the files that its own settings name, read as those on disk.

    `datasets` finds and downloads them; its JSON reader is not used, since it changes texts that look like numbers or
    dates (5.2.0).  Raises what `datasets` and the network raise.
    """
    import datasets

    files = [str(file) for file in datasets.load_dataset_builder(name, config).config.data_files[split]]
    fetched = datasets.DownloadManager().download(files)
    for url, path in zip(files, fetched, strict=True):
        yield from read_file(Path(path), kind_of(Path(url.partition("?")[0])))
