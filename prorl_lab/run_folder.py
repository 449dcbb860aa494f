"""A run is a folder: config, metrics, checkpoints, summary.  Nothing here is ever half-written."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import pickle
import platform
import shutil
import signal
import subprocess
from collections import deque
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from prorl_lab import adapters, card, greeting, inputs, questions, report, samples, scoring, trackers
from prorl_lab.errors import UserError, first_line
from prorl_lab.files import cannot_write, read_json, replacing, sync, write_json
from prorl_lab.inputs import sum_of
from prorl_lab.lock import FolderLock
from prorl_lab.log import Log
from prorl_lab.tasks import responses, restore_task, task_state

STATE, STATE_BEFORE, SUMS = "state.pt", "state-before.pt", "state.json"
READ_ERRORS = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError)
PACKAGES = ("torch", "transformers", "tokenizers", "reasoning-gym", "mpmath", "numpy")


class RunFolder:
    """`--out DIR`.  Use as a context manager around the training loop: it owns the open logs."""

    track = "off"
    tracker: trackers.Tracker | None = None  # while the logs are open, where asked

    def __init__(self, config: Any):
        self.config, self.track = config, getattr(config, "track", "off")  # a folder needs few settings
        self.path = Path(config.resume or config.out)
        self.name_logs(self.path / "metrics.jsonl", self.path / samples.FILE)
        self.last_save: tuple[int, int] | None = None  # (rows logged, step) of the state on the disk
        new = not self.path.exists()
        try:
            if not config.resume:
                self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't write to {self.path} ({error.strerror}): choose another --out") from error
        if config.resume:
            check_verifiers(self.path / "config.json")
        self.lock = FolderLock(self.path, getattr(config, "break_lock", False))  # found out now, not after the warm-up
        self.lock.made_folder = new
        self.saved = any((self.path / name).exists() for name in (STATE, STATE_BEFORE))
        if not config.resume and not self._may_begin():
            self.lock.release()
            raise UserError(
                f"{self.path} holds another run: continue it with --resume {self.path}, or choose another --out"
            )

    def name_logs(self, metrics: Path, answers: Path) -> None:
        """Where the run's figures go, a row a step or event, and the answers of its evaluations that are kept."""
        self.metrics_path, self.log, self.answers = metrics, Log(metrics), Log(answers)

    def greet(self, config: Any) -> "RunFolder":
        """Say what the run is, before anything is loaded -> self.  Raises UserError where a resumed one's data changed.

        config: with everything that was left open filled in.
        """
        if config.resume:
            inputs.check(read_json(self.path / "config.json").get("inputs", {}), config)
        self.say(greeting.lines(config, self.path))
        return self

    def _may_begin(self) -> bool:
        """Is there no run that a new one would overwrite?  One that ended before its first save holds nothing."""
        if not any((self.path / name).exists() for name in ("config.json", "metrics.jsonl")):
            return True
        kept = ("summary.json", "last", "checkpoints/step-[0-9]*[0-9]")
        if self.saved or any(next(self.path.glob(name), None) for name in kept):
            return False
        try:
            return all("event" in row for row in read_metrics(self.metrics_path))
        except (OSError, ValueError):
            return False

    def begin(self, run: Any) -> None:
        """The first files of a new run, once its model and task have been loaded: a mistake there leaves none.

        Also those of a run that was killed before its first save, which then begins from the start.
        """
        known = {"settings": to_store(run.config), "inputs": inputs.of_run(run.config), **environment()}
        write_json(self.path / "config.json", known)
        if hasattr(run.task, "split_lines"):
            with replacing(self.path / questions.FILE) as file:
                file.write(run.task.split_lines().encode())
        self.log.clear()
        self.answers.clear()
        self.export(run.policy, run.tokenizer, "base")

    def keep_settings(self, config: Any) -> None:
        """What a resumed run was given anew (more --steps, say) is what the next resume and `status` find."""
        stored = read_json(self.path / "config.json")
        write_json(self.path / "config.json", {**stored, "settings": to_store(config)})

    def __enter__(self) -> "RunFolder":
        self.log.open()
        self.answers.open()
        if self.track != "off":  # by now a resumed run's metrics have been cut back to the checkpoint
            last_step = max((row["step"] for row in read_metrics(self.metrics_path)), default=None)
            self.tracker = trackers.start(self.track, self.path, to_store(self.config), last_step)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close_logs()
        if kind:
            self.lock.release()  # otherwise `finish` does

    def close_logs(self) -> None:
        self.log.close()
        self.answers.close()
        if self.tracker:
            self.tracker.close()

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
        row = self.log.append(row)
        if self.tracker:
            self.tracker.add(row)

    def samples(self, run: Any, split: str, problems: list, groups: list[list[Any]]) -> None:
        """Keep a few prompts of an evaluation with their best, median and worst answers: P problems, P groups."""

        def texts(problem: Any, some: list[Any]) -> list[str]:
            return responses(run.tokenizer, problem, [sample.answer for sample in some], run.task.stop_ids)

        for row in samples.rows(problems, groups, texts):
            self.answers.append({"step": run.state.step, "split": split, **row})

    def sync_logs(self) -> None:
        self.log.sync()
        self.answers.sync()

    def counts(self) -> dict[str, int]:
        """How long the logs are, for a checkpoint."""
        return {"rows": self.log.count, "samples": self.answers.count}

    def cut_logs(self, saved: dict[str, Any]) -> None:
        """Cut the logs to `counts` of a checkpoint: the steps beyond it will be run, and logged, again."""
        for log, count in ((self.log, saved["rows"]), (self.answers, saved["samples"])):
            if (found := log.cut(count)) < count:
                self.say(f"{log.path} has {found} of the {count} lines that the checkpoint knows of: going on")

    def is_saved(self, run: Any) -> bool:
        """Is the checkpoint on the disk of just this state?  After a resume from the last one there may be no more."""
        return self.last_save == (self.log.count, run.state.step)

    def save(self, run: Any) -> None:
        """Everything that the next step depends on, in one file that is replaced as a whole.

        Left out, each would change the run after a resume without a word: the reference (KL to the old base), the
        optimizer, the generator (other samples), the cursor (prompts seen twice), the surplus (groups lost).

        The state before it is kept beside it, and the sums of both in `state.json`: a file that was damaged since is
        told from a whole one, and the run goes on from the one before.
        """
        if self.is_saved(run):
            return
        self.event("checkpoint", step=run.state.step)
        state = {
            "policy": run.policy.state_dict(),
            "reference": run.reference.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "generator": run.generator.get_state(),
            **self.counts(),
            **plain_state(run),
        }
        path, before = self.path / STATE, self.path / STATE_BEFORE
        with replacing(path) as file:
            summed = Summed(file)
            torch.save(state, summed)
            sums = [summed.hexdigest(), *(known_sums(self.path) or [])[:7]]  # more than two: a save may have failed
            self.sync_logs()
            write_json(self.path / SUMS, sums)  # of both, so that either is known while they change places
            if path.exists():
                path.replace(before)
        self.last_save = self.log.count, run.state.step
        kept = f"best-{best_step(run.state.history):06d}.pt" if run.state.history else None
        for other in self.path.glob("best-*.pt"):  # older ones, and those of steps that a kill undid
            if other.name != kept:
                other.unlink()

    def keep_best(self, run: Any) -> None:
        """Save the weights of the best validation so far, for resets to it and for whoever wants that model.

        The best before it stays until `save` has written a state that knows of this one: a resumed run may need it.
        """
        with replacing(self.path / f"best-{run.state.step:06d}.pt") as file:
            torch.save(run.policy.state_dict(), file)

    def load_best(self, run: Any, step: int) -> None:
        """Give the reference the policy's weights of the best validation, which was at `step`."""
        path = self.path / f"best-{step:06d}.pt"
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except READ_ERRORS as error:
            raise UserError(
                f"can't read {path} ({first_line(error)}), which --reset-to best needs: put it back, or start a new "
                "run with --reset-to policy"
            ) from error
        run.reference.load_state_dict(weights)

    def restore(self, run: Any, state_class: type, sample_class: type) -> None:
        """The inverse of `save`, into a run that was just built; drops what was logged after the save.

        Raises UserError where no state is whole.
        """
        saved = self._newest_state()
        run.policy.load_state_dict(saved["policy"])
        run.reference.load_state_dict(saved["reference"])
        run.optimizer.load_state_dict(saved["optimizer"])
        run.generator.set_state(saved["generator"])
        restore_plain_state(run, saved, state_class, sample_class)
        self.cut_logs(saved)
        self.last_save = self.log.count, run.state.step
        self.keep_settings(run.config)

    def _newest_state(self) -> dict[str, Any]:
        """The newest state that is whole.  One that is not is set aside, so that no save takes its place for it."""
        sums = known_sums(self.path)
        for path in (self.path / STATE, self.path / STATE_BEFORE):
            if not path.exists():
                continue
            try:
                if sums and sum_of(path) not in sums:
                    raise OSError(0, "it is not as it was written")
                return torch.load(path, map_location="cpu", weights_only=True)
            except READ_ERRORS as error:
                aside = path.with_suffix(".damaged")
                path.replace(aside)  # as it is: nothing is deleted
                self.say(
                    f"{path} is damaged ({getattr(error, 'strerror', None) or first_line(error)}): set aside as "
                    f"{aside.name}, and going on from the state before it if that is whole"
                )
        raise UserError(f"no state in {self.path} is whole: start again with a new --out, or put a copy back")

    def export(self, policy: Any, tokenizer: Any, name: str, **how: Any) -> None:
        """Save a Hugging Face folder (`base`, `last`), replaced as a whole.  how: passed on to `save_pretrained`."""
        unfinished = self.path / f"{name}.tmp"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed here
        try:
            if adapters.layers(policy):
                how = {"state_dict": adapters.merged_weights(policy), **how}
            policy.save_pretrained(unfinished, **how)
            tokenizer.save_pretrained(unfinished)
            (unfinished / "README.md").write_text(card.text(self.config, self.path, name), encoding="utf-8")
            for path in unfinished.iterdir():
                sync(path)
            shutil.rmtree(self.path / name, ignore_errors=True)
            unfinished.rename(self.path / name)
            sync(self.path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise cannot_write(self.path / name, error) from error

    def finish(self, state: Any) -> dict:
        """Write summary.json and the figures, print the table; returns the summary."""
        rows = read_metrics(self.metrics_path)
        tiers, measured = report.by_tier(state.boundary), report.measured(rows)
        summary = {"seconds": state.seconds, "steps": state.step, "resets": state.resets, "measured": measured}
        write_json(self.path / "summary.json", {**summary, "tiers": tiers})
        made = {"curve.png": functools.partial(report.draw_curve, rows)}
        if tiers:
            made["boundary.png"] = functools.partial(report.draw_boundary, tiers, measured)
        for name, draw in made.items():
            try:
                draw(self.path / name)
            except OSError as error:
                raise cannot_write(self.path / name, error) from error
        self.say(report.table(tiers, measured))
        self.say("\n".join(f"figure: {self.path / name}" for name in made))
        self.lock.release()
        return {**summary, "tiers": tiers}


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
    """The inverse of `plain_state`.  Raises UserError where the run has done more steps than it is to have."""
    restore_task(run.task, saved["task"])
    run.state = state_class(**saved["state"])
    if run.config.steps < run.state.step:
        raise UserError(
            f"--steps {run.config.steps} is less than the {run.state.step} steps that the run has done: give at least "
            "that, or leave it out"
        )
    run.state.surplus = deque([sample_class(**sample) for sample in group] for group in run.state.surplus)
    seconds = getattr(run.config, "max_seconds", None) or math.inf
    if run.state.step < run.config.steps and run.state.seconds < seconds:
        run.state.boundary.pop("final", None)  # a finished run that is to go on measures its end again
    if run.state.step < run.config.steps // 2:
        run.state.boundary.pop("middle", None)  # it was that of fewer steps


def environment() -> dict[str, Any]:
    """Versions, machine and commit: what it takes to run this again."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "verifiers": scoring.VERSION,
        "versions": {"python": platform.python_version(), **versions},
        "commit": commit_of(Path(__file__).parents[1]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def commit_of(folder: Path) -> str | None:
    """The commit of a checkout; None of any other folder, as one of installed packages within someone's checkout."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.strip() or None


def check_verifiers(stored: Path) -> None:
    """A run goes on with the verifiers that it began with, or its rewards would change amid it.  Raises UserError."""
    if not stored.exists():
        return
    began = read_json(stored)
    if (version := began.get("verifiers", "an earlier one")) != scoring.VERSION:
        raise UserError(
            f"{stored.parent} was rewarded by another version of the verifiers ({version}, and here it is "
            f"{scoring.VERSION}): resume it with its own commit, {began.get('commit')}, or start a new run from its "
            "weights with --model"
        )


def best_step(history: list[tuple[int, float]]) -> int:
    """The step of the best validation score, the first of equals."""
    return max(history, key=lambda row: row[1])[0]


def to_store(config: Any) -> dict[str, Any]:
    """The settings as the next --resume shall find them."""
    stored = {name: inputs.absolute(name, value) for name, value in dataclasses.asdict(config).items()}
    return {**stored, "resume": None, "break_lock": False}


def read_metrics(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Summed:
    """A file to write to that knows the SHA-256 of what was written."""

    def __init__(self, file: Any):
        self.file, self.sum = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sum.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def hexdigest(self) -> str:
        return self.sum.hexdigest()


def known_sums(folder: Path) -> list[str] | None:
    """Of the states that were written last, the newest first; None where the list is lost, as of a copied file."""
    try:
        return read_json(folder / SUMS)
    except (OSError, ValueError):
        return None
