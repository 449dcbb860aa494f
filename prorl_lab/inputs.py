"""What a run reads, known by its content: a file that changed since is refused at a resume, never mixed in."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prorl_lab.errors import UserError

PATHS = ("model", "task", "base_cache")  # settings that may name a place on this machine
OF_PYTHON = re.compile(r"(?P<path>.+\.py)(?::(?P<name>\w+))?")


def sum_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_at(place: Path) -> list[Path]:
    """The file at a place, or all in a folder but what tools keep there in hidden ones."""
    if place.is_file():
        return [place]
    found = (path for path in sorted(place.rglob("*")) if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(place).parts)]


def sums(places: Iterable[Path]) -> dict[str, str]:
    """Content of all files at some places, by their absolute paths."""
    return {str(file.absolute()): sum_of(file) for place in places for file in files_at(place)}


def file_of_python(task: str) -> tuple[Path, str | None] | None:
    """The file, and the object in it, that a --task means; None where it means no file of Python.

    >>> file_of_python("my_task.py:Sums"), file_of_python("leg_counting")
    ((PosixPath('my_task.py'), 'Sums'), None)
    """
    found = OF_PYTHON.fullmatch(task)
    return (Path(found["path"]), found["name"]) if found else None


def place_of(task: str) -> Path:
    """What --task names on the disk, where it does: without the :NAME of an object in a file of Python."""
    return (file_of_python(task) or (Path(task), None))[0]


def of_run(config: Any) -> dict[str, str]:
    """The sums of the files of --task and --model; a name on the hub, or of a task made here, has none."""
    return sums(place for place in (place_of(config.task), Path(config.model)) if place.exists())


def check(stored: dict[str, str], config: Any) -> None:
    """Are the task's files those that the run began with?  Raises UserError.

    The model's are not asked for again: a run goes on from its own copy in `base/` and its checkpoint.
    """
    place = place_of(config.task).absolute()
    then = {path: value for path, value in stored.items() if Path(path) == place or place in Path(path).parents}
    if not then:
        return
    if not place.exists():
        raise UserError(f"{place} is gone, which the run was begun with: put it back, or start a new run with --out")
    now = sums([place])
    changed = sorted(path for path in {*then, *now} if then.get(path) != now.get(path))
    if changed:
        raise UserError(
            f"{changed[0]} has changed since the run was begun: put it back as it was, or start a new run with --out"
        )


def absolute(name: str, value: Any) -> Any:
    """A setting as a resume from another folder can use it: a path that is there, or that we make, in full."""
    if name not in PATHS or not isinstance(value, str):
        return value
    place = place_of(value)
    if name != "base_cache" and not place.exists():
        return value
    return str(place.absolute()) + value[len(str(place)) :] if value.startswith(str(place)) else str(place.absolute())
