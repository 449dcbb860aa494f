"""The rows of metrics.jsonl once more, where people compare runs: `--track tensorboard`, `wandb` or `trackio`.

Each gets the same numbers under the same names (`named`), row by row as they are logged, so none can disagree with the
file.  The packages are optional, and imported where they are used.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from prorl_lab.errors import UserError, first_line
from prorl_lab.files import replacing

LISTED = {
    "tensorboard": "requirements-options.txt",
    "wandb": "requirements-track.txt",
    "trackio": "requirements-track.txt",
}
PROJECT = "prorl"  # under which wandb and trackio keep runs


class Tracker(Protocol):
    def add(self, row: dict[str, Any]) -> None:
        """Take a row of metrics.jsonl."""
        ...

    def close(self) -> None: ...


def start(kind: str, run: Path, settings: dict[str, Any], last_step: int | None) -> Tracker:
    """The tracker of a run folder.  last_step: of the rows that are already logged; None: of none.

    Raises UserError where it can't start, as wandb without a login.
    """
    try:
        if kind == "tensorboard":
            return TensorBoard(run / "tensorboard", last_step)
        return (Wandb if kind == "wandb" else Trackio)(run, settings, last_step)
    except Exception as error:  # whatever the package raises
        raise UserError(
            f"--track {kind} can't start ({first_line(error)}): mend that (`wandb login`, say, or WANDB_MODE=offline), "
            "or leave --track out; a resumed run may"
        ) from error


class TensorBoard:
    """Event files: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path, last_step: int | None):
        from torch.utils.tensorboard import SummaryWriter  # seconds to import

        self.step = last_step or 0
        # What an interrupted run wrote beyond its checkpoint is dropped.
        self.writer = SummaryWriter(str(folder), purge_step=0 if last_step is None else last_step + 1)

    def add(self, row: dict[str, Any]) -> None:
        self.step = row.get("step", self.step)
        for name, value in named(row):
            self.writer.add_scalar(name, value, self.step)
        if "event" in row:
            self.writer.add_text(row["event"], json.dumps(row), self.step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of wandb, under one id however often it is resumed; online or offline is wandb's own setting.

    It takes no step twice, and need not: one that is run again after a kill comes out the same.
    """

    def __init__(self, run: Path, settings: dict[str, Any], last_step: int | None):
        import wandb

        self.step = last_step or 0
        self.run = wandb.init(
            project=PROJECT, name=run.name, id=identity(run, "wandb"), dir=str(run), config=settings, resume="allow"
        )

    def add(self, row: dict[str, Any]) -> None:
        self.step = row.get("step", self.step)
        self.run.log(dict(named(row)), step=self.step)

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """A run of trackio, which it keeps on this machine: `trackio show`.

    A step that is run again after a kill is told again, with the same figures.
    """

    def __init__(self, run: Path, settings: dict[str, Any], last_step: int | None):
        import trackio

        self.step = last_step or 0
        name = f"{run.name}-{identity(run, 'trackio')}"
        quiet = {"auto_log_cpu": False, "auto_log_gpu": False}  # the machine's figures are not this run's
        self.run = trackio.init(project=PROJECT, name=name, config=settings, resume="allow", **quiet)

    def add(self, row: dict[str, Any]) -> None:
        self.step = row.get("step", self.step)
        self.run.log(dict(named(row)), step=self.step)

    def close(self) -> None:
        self.run.finish()


def identity(run: Path, kind: str) -> str:
    """By what a tracker knows this run again; made once, and kept in the folder."""
    path = run / f"{kind}.id"
    if not path.exists():
        with replacing(path) as file:
            file.write(uuid.uuid4().hex[:8].encode())
    return path.read_text(encoding="utf-8")


def named(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values of a row: every number under its own name, those of an event under the event's.

    >>> dict(named({"event": "reset", "step": 3, "resets": 1}))
    {'reset/resets': 1}
    """
    event = row.get("event")
    yield from numbers(row, f"{event}/" if event else "")


def numbers(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Names and values of a row of metrics.jsonl but for its step, those of nested objects with a path.

    >>> dict(numbers({"step": 3, "kl": None, "reward": 0.5, "ledger": {"easy": {"kept": 2}}}))
    {'reward': 0.5, 'ledger/easy/kept': 2}
    """
    for key, value in row.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and key != "step":
            yield prefix + key, value
