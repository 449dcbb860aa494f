"""A run is a folder: config, metrics, checkpoints, summary.  Nothing here is ever half-written."""

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import shutil
import signal
import subprocess
from collections import deque
from pathlib import Path
from typing import Any

import torch

from prorl_lab import report, scoring
from prorl_lab.errors import UserError
from prorl_lab.tasks import restore_task, task_state
from prorl_lab.tensorboard import Board

PACKAGES = ("torch", "transformers", "tokenizers", "reasoning-gym", "math-verify", "numpy")


class RunFolder:
    """`--out DIR`.  Use as a context manager around the training loop: it owns the open metrics file."""

    tensorboard = False
    board: Board | None = None  # while the metrics file is open, where asked

    def __init__(self, config: Any):
        self.tensorboard = config.tensorboard
        self.path = Path(config.resume or config.out)
        self.metrics_path = self.path / "metrics.jsonl"
        if config.resume:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ".writable").touch()  # found out now, not after the warm-up
            (self.path / ".writable").unlink()
        except OSError as error:
            raise UserError(f"can't write to {self.path} ({error.strerror}): choose another --out") from error
        if any((self.path / name).exists() for name in ("config.json", "state.pt", "metrics.jsonl")):
            raise UserError(
                f"{self.path} holds another run: continue it with --resume {self.path}, or choose another --out"
            )

    def begin(self, run: Any) -> None:
        """The first files of a new run, once its model and task have been loaded: a mistake there leaves none."""
        write_json(self.path / "config.json", {"settings": dataclasses.asdict(run.config), **environment()})
        self.metrics_path.touch()
        self.export(run.policy, run.tokenizer, "base")

    def keep_settings(self, config: Any) -> None:
        """What a resumed run was given anew (more --steps, say) is what the next resume and `status` find."""
        stored = read_json(self.path / "config.json")
        write_json(self.path / "config.json", {**stored, "settings": {**dataclasses.asdict(config), "resume": None}})

    def __enter__(self) -> "RunFolder":
        self.file = self.metrics_path.open("a", encoding="utf-8")
        if self.tensorboard:  # by now a resumed run's metrics have been cut back to the checkpoint
            logged = read_metrics(self.metrics_path)
            last_step = max((row["step"] for row in logged), default=None)
            self.board = Board(self.path / "tensorboard", last_step)
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        if self.board:
            self.board.close()

    def say(self, line: str) -> None:
        print(line, flush=True)

    def metrics(self, row: dict) -> None:
        """One object per training step, and its line on the screen."""
        self._append(row)
        self.say(report.step_line(row))

    def event(self, event: str, **values: Any) -> None:
        """What is not a step: reset, evaluation, boundary, checkpoint.  An object with the key "event"."""
        self._append({"event": event, **values})
        line = report.event_line(event, values)
        if line:
            self.say(line)

    def _append(self, row: dict) -> None:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self.file.write(json.dumps(finite, allow_nan=False) + "\n")  # NaN is not JSON, other readers would stop there
        self.file.flush()
        if self.board:
            self.board.add(finite)

    def save(self, run: Any) -> None:
        """Everything that the next step depends on, in one file that is replaced as a whole.

        Left out, each would change the run after a resume without a word: the reference (KL to the old base), the
        optimizer, the generator (other samples), the cursor (prompts seen twice), the surplus (groups lost).
        """
        self.event("checkpoint", step=run.state.step)
        state = {
            "policy": run.policy.state_dict(),
            "reference": run.reference.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "generator": run.generator.get_state(),
            **plain_state(run),
        }
        unfinished = self.path / "state.pt.tmp"
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path / "state.pt")  # a crash before this line leaves the previous state
        for older in sorted(self.path.glob("best-*.pt"))[:-1]:
            older.unlink()

    def keep_best(self, run: Any) -> None:
        """Save the weights of the best validation so far, for resets to it and for whoever wants that model.

        The best before it stays until `save` has written a state that knows of this one: a resumed run may need it.
        """
        unfinished = self.path / "best.pt.tmp"
        torch.save(run.policy.state_dict(), unfinished)
        unfinished.replace(self.path / f"best-{run.state.step:06d}.pt")

    def load_best(self, run: Any, step: int) -> None:
        """Give the reference the policy's weights of the best validation, which was at `step`."""
        weights = torch.load(self.path / f"best-{step:06d}.pt", map_location="cpu", weights_only=True)
        run.reference.load_state_dict(weights)

    def restore(self, run: Any, state_class: type, sample_class: type) -> None:
        """The inverse of `save`, into a run that was just built; drops what was logged after the save."""
        path = self.path / "state.pt"
        if not path.exists():
            raise UserError(f"{self.path} was never saved (no state.pt): start again with a new --out")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        run.policy.load_state_dict(saved["policy"])
        run.reference.load_state_dict(saved["reference"])
        run.optimizer.load_state_dict(saved["optimizer"])
        run.generator.set_state(saved["generator"])
        restore_plain_state(run, saved, state_class, sample_class)
        self._rewind_metrics(run.state.step)

    def _rewind_metrics(self, step: int) -> None:
        """Cut metrics.jsonl after the checkpoint: the steps beyond it will be run, and logged, again."""
        lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        saved = [i for i, line in enumerate(lines) if line == json.dumps({"event": "checkpoint", "step": step}) + "\n"]
        unfinished = self.path / "metrics.jsonl.tmp"
        unfinished.write_text("".join(lines[: saved[-1] + 1]), encoding="utf-8")
        unfinished.replace(self.metrics_path)

    def export(self, policy: Any, tokenizer: Any, name: str, **how: Any) -> None:
        """Save a Hugging Face folder (`base`, `last`), replaced as a whole.  how: passed on to `save_pretrained`."""
        unfinished = self.path / f"{name}.tmp"
        policy.save_pretrained(unfinished, **how)
        tokenizer.save_pretrained(unfinished)
        shutil.rmtree(self.path / name, ignore_errors=True)
        unfinished.rename(self.path / name)

    def finish(self, state: Any) -> dict:
        """Write summary.json and the figures, print the table; returns the summary."""
        rows = read_metrics(self.metrics_path)
        tiers: dict[str, dict] = {}
        for stage, by_tier in state.boundary.items():
            for tier, values in by_tier.items():
                tiers.setdefault(tier, {})[stage] = values
        summary = {"seconds": state.seconds, "steps": state.step, "resets": state.resets, "tiers": tiers}
        write_json(self.path / "summary.json", summary)
        report.draw_curve(rows, self.path / "curve.png")
        self.say(report.table(tiers))
        made = ["curve.png"]
        if tiers:
            report.draw_boundary(tiers, self.path / "boundary.png")
            made.append("boundary.png")
        self.say("\n".join(f"figure: {self.path / name}" for name in made))
        return summary


class GracefulStop:
    """Ctrl-C (or SIGTERM) asks the loop to save after the step in hand; a second one ends at once."""

    def __enter__(self) -> "GracefulStop":
        self.requested = False
        self.before = {sig: signal.signal(sig, self._ask) for sig in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for sig, handler in self.before.items():
            signal.signal(sig, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\nstopping after this step, with the state saved (again: stop now)", flush=True)


def plain_state(run: Any) -> dict[str, Any]:
    """What a checkpoint keeps besides weights and random state: counters, surplus groups, the task's cursor."""
    surplus = [[vars(sample) for sample in group] for group in run.state.surplus]
    return {"state": {**vars(run.state), "surplus": surplus}, "task": task_state(run.task)}


def restore_plain_state(run: Any, saved: dict[str, Any], state_class: type, sample_class: type) -> None:
    """The inverse of `plain_state`."""
    restore_task(run.task, saved["task"])
    run.state = state_class(**saved["state"])
    run.state.surplus = deque([sample_class(**sample) for sample in group] for group in run.state.surplus)
    if run.state.step < run.config.steps:
        run.state.boundary.pop("final", None)  # a finished run that is to go on measures its end again


def environment() -> dict[str, Any]:
    """Versions, machine and commit: what it takes to run this again."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "verifiers": scoring.VERSION,
        "versions": {"python": platform.python_version(), **versions},
        "commit": git.stdout.strip() or None,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def read_metrics(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
