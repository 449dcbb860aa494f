"""Save and resume everything that the next step depends on, from every rank, all or nothing, while training goes on."""

import functools
import io
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from prorl_lab.errors import UserError, first_line
from prorl_lab.files import read_json, replacing, sync, write_json
from prorl_lab.inputs import sum_of
from prorl_lab.run_folder import RunFolder, plain_state, restore_plain_state
from prorl_scale import distributed
from prorl_scale.policy import full_weights

MANIFEST = "manifest.json"  # SHA-256 of each file of a checkpoint


class Folder(RunFolder):
    """A run folder that rank 0 writes, with a sharded checkpoint in `checkpoints/step-N` in place of `state.pt`.

    `step-N.tmp` is being written, or its run was killed then; `step-N.old` was about to be replaced by a later save of
    the same step; `step-N.damaged` was found not to be as it was written.
    """

    def __init__(self, config: Any):
        distributed.on_main(lambda: RunFolder.__init__(self, config))
        self.path, self.keep = Path(config.resume or config.out), config.keep_checkpoints
        if distributed.rank():
            self.name_logs(Path(os.devnull), Path(os.devnull))
        # Absolute, since a save in the background must not mind where the process stands: `puzzles` moves it at times.
        self.checkpoints = self.path.absolute() / "checkpoints"
        self.last_save = None
        self.saved = distributed.on_main(lambda: bool(self._finished()))
        self.in_background = config.async_save
        self.group = distributed.background_group(config.timeout_minutes)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self.pending: Future | None = None

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """A save under way is finished first, unless the user asked to stop now."""
        if kind is None:
            self.finish_saving()
        elif kind is not KeyboardInterrupt and (reason := self._outcome()):  # alone: the others may be gone
            self.say(f"the last checkpoint was not saved ({reason})")
            self._drop_unfinished()
        self.close_logs()

    def sync_logs(self) -> None:
        if distributed.rank() == 0:  # the others' are a device
            super().sync_logs()

    def save(self, run: Any, wait: bool = False) -> None:
        """Save the run as it is now.  Training may go on at once: what is written is a copy.

        wait: return only when the checkpoint is whole.  Raises UserError, on every rank, where this save can't begin or
        the one before it failed.
        """
        self.finish_saving()
        if self.is_saved(run):
            return
        self.event("checkpoint", step=run.state.step)
        name = f"step-{run.state.step:06d}"
        self.unfinished = unfinished = self.checkpoints / f"{name}.tmp"
        plain = self._plain(run)

        def begin() -> None:
            try:
                shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed while saving
                unfinished.mkdir(parents=True)
            except OSError as error:
                raise UserError(self._cannot_save(_reason(error))) from error

        distributed.on_main(begin)
        where = {"checkpoint_id": unfinished, "process_group": self.group}
        if self.in_background:
            write = dcp.async_save(_tensors(run), **where).result  # returns when the copy is made
        else:
            write = functools.partial(dcp.save, _tensors(run), **where)
        self.last_save = self.log.count, run.state.step
        scores = {f"step-{step:06d}": value for step, value in run.state.history}
        self.pending = self.thread.submit(self._complete, name, write, plain, scores)
        if wait or not self.in_background:
            self.finish_saving()

    def finish_saving(self) -> None:
        """Wait until no save is under way.  Raises UserError, on every rank, where it failed.  A collective."""
        reasons = [reason for reason in distributed.exchange(self._outcome()) if reason]
        if reasons:
            self.last_save = None
            self._drop_unfinished()
            raise UserError(self._cannot_save(reasons[0]))

    def _drop_unfinished(self) -> None:
        """Take away what a failed save wrote: it may be what fills the disk."""
        if distributed.rank() == 0:
            shutil.rmtree(self.unfinished, ignore_errors=True)

    def _outcome(self) -> str | None:
        """Wait for this rank's part of the save -> why it failed, if it did."""
        pending, self.pending = self.pending, None
        try:
            if pending:
                pending.result()
        except (CheckpointException, OSError, UserError) as error:
            return _reason(error)
        return None

    def _cannot_save(self, reason: str) -> str:
        return f"can't save to {self.checkpoints} ({reason}): free some space, then --resume {self.path}"

    def _plain(self, run: Any) -> bytes:
        """What is not a sharded tensor, from every rank, serialized now because the run goes on changing it."""
        generators = distributed.exchange(run.generator.get_state())
        if distributed.rank():
            return b""  # rank 0 alone writes it; half a batch that waits takes seconds to serialize
        buffer = io.BytesIO()
        torch.save({**plain_state(run), "generators": generators, **self.counts()}, buffer)
        return buffer.getvalue()

    def _complete(self, name: str, write: Callable[[], Any], plain: bytes, scores: dict[str, float]) -> None:
        """In the background: let all ranks write their shards; then rank 0 adds the rest and gives it its name."""
        write()
        unfinished, whole, replaced = (self.checkpoints / f"{name}{suffix}" for suffix in (".tmp", "", ".old"))
        everyone: list = [None] * distributed.world()
        dist.all_gather_object(everyone, self._sums(unfinished), group=self.group)
        for reason in (sums for sums in everyone if isinstance(sums, str)):
            raise OSError(0, reason)
        if distributed.rank():
            return
        with replacing(unfinished / "plain.pt") as file:
            file.write(plain)
        rest = sums_of([unfinished / "plain.pt", unfinished / ".metadata"])
        write_json(unfinished / MANIFEST, {key: value for sums in (*everyone, rest) for key, value in sums.items()})
        self.sync_logs()
        if whole.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            whole.rename(replaced)
        unfinished.rename(whole)  # only a whole checkpoint ever has this name
        sync(self.checkpoints)
        shutil.rmtree(replaced, ignore_errors=True)
        self._prune(scores)

    def _sums(self, unfinished: Path) -> dict[str, str] | str:
        """Of the files that this rank wrote; or why they can't be read, which the others must not wait for."""
        try:
            return sums_of(unfinished.glob(f"__{distributed.rank()}_*"))
        except OSError as error:
            return _reason(error)

    def _prune(self, scores: dict[str, float]) -> None:
        """Keep the last `keep` checkpoints, and of all the one with the best validation score, if there are any."""
        finished = self._finished()
        best = max((path for path in finished if path.name in scores), key=lambda p: scores[p.name], default=None)
        for path in finished[: -self.keep]:
            if path != best:
                shutil.rmtree(path)

    def _finished(self) -> list[Path]:
        """Whole checkpoints, the oldest first; of one step, the replaced before the one in its place."""
        whole = (path for path in self.checkpoints.glob("step-*") if path.suffix in ("", ".old"))
        return sorted(whole, key=lambda path: (path.stem, path.suffix == ""))

    def restore(self, run: Any, state_class: type, sample_class: type) -> None:
        """The inverse of `save`, from the newest checkpoint that is as it was written; drops what was logged after it.

        On as many ranks as saved it, the run goes on bit for bit.  On another number the weights and the data do, but
        the sampler's random numbers are new: they belong to a rank.
        """
        self.finish_saving()
        path = self._newest()
        tensors = _tensors(run, _optimizer_keys(path))
        try:
            dcp.load(tensors, checkpoint_id=path)
        except (CheckpointException, RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} does not fit this model ({_reason(error)}): resume it with the model it was made from"
            ) from error
        parameters = list(run.policy.parameters())
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/")
                run.optimizer.state[parameters[int(index)]][name] = value
        plain = torch.load(path / "plain.pt", map_location="cpu", weights_only=True)
        if len(plain["generators"]) == distributed.world():
            run.generator.set_state(plain["generators"][distributed.rank()])
        restore_plain_state(run, plain, state_class, sample_class)
        distributed.on_main(lambda: self.cut_logs(plain))
        counts = distributed.on_main(self.counts)  # a log that lost lines has fewer, on every rank alike
        self.log.count, self.answers.count = counts["rows"], counts["samples"]
        self.last_save = self.log.count, run.state.step

    def load_best(self, run: Any, step: int) -> None:
        """Give the reference the policy's weights of the best validation: the loop saves then, `_prune` keeps them."""
        self.finish_saving()  # it may be the save under way
        weights = {f"policy/{key}": value for key, value in run.reference.state_dict().items()}
        path = self.checkpoints / f"step-{step:06d}"
        try:
            dcp.load(weights, checkpoint_id=path)
        except (CheckpointException, OSError, RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"can't read {path} ({_reason(error)}), which --reset-to best needs: put it back, or start a new run "
                "with --reset-to policy"
            ) from error

    def note_stop(self, reason: str | None) -> None:
        """Leave, or take away, the word that this run ended by its own rules, so that no script starts it again."""
        note = self.path / "stopped"

        def change() -> None:
            if reason:
                with replacing(note) as file:
                    file.write(f"{reason}\n".encode())
            else:
                note.unlink(missing_ok=True)

        distributed.on_main(change)

    def _newest(self) -> Path:
        """The newest checkpoint that is whole.  One that is not is set aside, so that no other is deleted for it."""
        for path in reversed(distributed.on_main(self._finished)):
            faults = [fault for fault in distributed.exchange(self._fault(path)) if fault]
            if not faults:
                return path
            aside = path.with_name(f"{path.name}.damaged")
            self.say(f"{path} is damaged ({faults[0]}): set aside as {aside.name}, and going on from the one before it")
            distributed.on_main(lambda path=path, aside=aside: _set_aside(path, aside))
        raise UserError(f"no checkpoint in {self.path} is whole: start again with a new --out, or put a copy back")

    def _fault(self, path: Path) -> str | None:
        """What is wrong with this rank's share of a checkpoint's files."""
        try:
            sums = sorted(read_json(path / MANIFEST).items())
            for name, expected in sums[distributed.rank() :: distributed.world()]:
                if not (path / name).exists():
                    return f"{name} is missing"
                if sum_of(path / name) != expected:
                    return f"{name} is not as it was written"
        except (OSError, ValueError, AttributeError) as error:
            return f"{MANIFEST} can't be read: {_reason(error)}"
        return None

    def export_sharded(self, policy: Any, tokenizer: Any, name: str) -> None:
        """`export`, gathered from all ranks a tensor at a time; opens in transformers and in vLLM."""
        main = distributed.rank() == 0
        weights = {key: value.cpu() for key, value in full_weights(policy, torch.float32) if main}
        how = {"state_dict": weights, "save_original_format": False}  # `full_weights` has turned them back already
        distributed.on_main(lambda: self.export(policy.model, tokenizer, name, **how))


def sums_of(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: sum_of(path) for path in sorted(paths)}


def _set_aside(path: Path, aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def _reason(error: BaseException) -> str:
    """In one line.  A CheckpointException holds what went wrong on each rank, with traces."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    cause: BaseException | None = error
    while cause and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if cause and cause.strerror:
        return cause.strerror
    if "inline_container" in str(error):  # torch's writer, which an error of the disk reaches as a wrong position
        return "a file could not be written whole, as on a full disk"
    return first_line(error)


def _tensors(run: Any, optimizer_keys: list[str] | None = None) -> dict[str, Any]:
    """Weights, reference and optimizer by name, sharing memory with the run: loading into them restores it.

    optimizer_keys: what a checkpoint holds; missing entries are made for it.  Just after a reset there are none.
    """
    named = {f"policy/{k}": v for k, v in run.policy.state_dict().items()}
    named |= {f"reference/{k}": v for k, v in run.reference.state_dict().items()}
    parameters = list(run.policy.parameters())
    if optimizer_keys is None:
        state = {(i, key): v for i, p in enumerate(parameters) for key, v in run.optimizer.state.get(p, {}).items()}
        return named | {f"optimizer/{i}/{key}": value for (i, key), value in state.items()}
    for entry in optimizer_keys:
        _, index, key = entry.split("/")
        parameter = parameters[int(index)]
        # A fused optimizer's count of steps lies where the weights do, as its kernel reads it there.
        named[entry] = (
            torch.tensor(0.0, device=parameter.device) if key == "step" else torch.zeros_like(parameter).detach()
        )
    return named


def _optimizer_keys(path: Path) -> list[str]:
    saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    return [key for key in saved if key.startswith("optimizer/")]
