"""Files that are whole or not there.  Imports no torch, so that `status` starts quickly."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from prorl_lab.errors import UserError, first_line


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    with replacing(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write; at the end it is on the disk and has the name `path`, or all is as before.  Raises OSError."""
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """`whole` for a file of a run.  Raises UserError where that fails, as on a full disk."""
    try:
        with whole(path) as file:
            yield file
    except OSError as error:
        raise cannot_write(path, error) from error
    except RuntimeError as error:  # torch's writer, which an error of the disk reaches as a wrong position
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise
        raise cannot_write(path, OSError(0, "it could not be written whole, as on a full disk")) from error


def cannot_write(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or first_line(error)
    return UserError(f"can't write {path} ({reason}): free some space or mend the disk, then --resume {path.parent}")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
