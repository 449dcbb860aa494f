"""The run folder's metrics once more, as TensorBoard reads them: `tensorboard --logdir runs`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Board:
    """Event files in `folder`.  Takes the rows of metrics.jsonl one by one, so the two can't disagree."""

    def __init__(self, folder: Path, last_step: int | None):
        """last_step: of the rows that are already logged; what an interrupted run wrote beyond it is dropped."""
        from torch.utils.tensorboard import SummaryWriter  # seconds to import

        self.step = last_step or 0
        self.writer = SummaryWriter(str(folder), purge_step=0 if last_step is None else last_step + 1)

    def add(self, row: dict[str, Any]) -> None:
        """Every number under its own name, those of an event under the event's; events as text besides."""
        self.step = row.get("step", self.step)
        event = row.get("event")
        for name, value in numbers(row):
            self.writer.add_scalar(f"{event}/{name}" if event else name, value, self.step)
        if event:
            self.writer.add_text(event, json.dumps(row), self.step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def numbers(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Names and values of a row of metrics.jsonl but for its step, those of nested objects with a path.

    >>> dict(numbers({"step": 3, "kl": None, "reward": 0.5, "ledger": {"easy": {"kept": 2}}}))
    {'reward': 0.5, 'ledger/easy/kept': 2}
    """
    for key, value in row.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and prefix + key != "step":
            yield prefix + key, value
