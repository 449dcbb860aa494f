"""Save and resume everything that the next step depends on, from every rank, all or nothing."""

import os
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from prorl_lab.errors import UserError
from prorl_lab.run_folder import RunFolder
from prorl_mini import best_step
from prorl_scale import distributed
from prorl_scale.policy import full_weights


class Folder(RunFolder):
    """A run folder that rank 0 writes, with a sharded checkpoint in `checkpoints/step-N` in place of `state.pt`."""

    def __init__(self, config: Any):
        distributed.on_main(lambda: RunFolder.__init__(self, config))
        self.path, self.keep = Path(config.resume or config.out), config.keep_checkpoints
        self.metrics_path = Path(os.devnull) if distributed.rank() else self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"

    def save(self, run: Any) -> None:
        """Write beside the finished checkpoints, then rename.  Raises UserError (on every rank) where that fails."""
        self.event("checkpoint", step=run.state.step)
        name = f"step-{run.state.step:06d}"
        unfinished = self.checkpoints / f"{name}.tmp"
        generators = distributed.exchange(run.generator.get_state())
        surplus = [[vars(sample) for sample in group] for group in run.state.surplus]
        plain = {"state": {**vars(run.state), "surplus": surplus}, "generators": generators}

        def begin() -> None:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed while saving
            unfinished.mkdir(parents=True)

        def finish() -> None:
            with (unfinished / "plain.pt").open("wb") as file:
                torch.save(plain, file)
                file.flush()
                os.fsync(file.fileno())
            shutil.rmtree(self.checkpoints / name, ignore_errors=True)
            unfinished.rename(self.checkpoints / name)  # only a whole checkpoint ever has this name
            self._prune(run.state.history)

        self._on_disk(begin)
        try:
            dcp.save(_tensors(run), checkpoint_id=unfinished)
        except CheckpointException as error:
            raise UserError(
                f"can't save to {unfinished} ({error}): free some space, then --resume {self.path}"
            ) from error
        self._on_disk(finish)

    def _on_disk(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except OSError as error:
                raise UserError(
                    f"can't save to {self.checkpoints} ({error.strerror}): free some space, then --resume {self.path}"
                ) from error

        distributed.on_main(guarded)

    def _prune(self, history: list[tuple[int, float]]) -> None:
        """Keep the last `keep` checkpoints, and of the others the one with the best validation score."""
        score = {f"step-{step:06d}": value for step, value in history}
        old = self._finished()[: -self.keep]
        best = max(self._finished(), key=lambda path: score.get(path.name, -1.0))
        for path in old:
            if path != best:
                shutil.rmtree(path)

    def _finished(self) -> list[Path]:
        return sorted(path for path in self.checkpoints.glob("step-*") if path.suffix != ".tmp")

    def restore(self, run: Any, state_class: type, sample_class: type) -> None:
        """The inverse of `save`, from the newest whole checkpoint; drops what was logged after it.

        On as many ranks as saved it, the run goes on bit for bit.  On another number the weights and the data do, but
        the sampler's random numbers are new: they belong to a rank.
        """
        path = distributed.on_main(self._newest)
        tensors = _tensors(run, _optimizer_keys(path))
        try:
            dcp.load(tensors, checkpoint_id=path)
        except (CheckpointException, RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} does not fit this model ({error}): resume it with the model it was made from"
            ) from error
        parameters = list(run.policy.parameters())
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/")
                run.optimizer.state[parameters[int(index)]][name] = value
        plain = torch.load(path / "plain.pt", map_location="cpu", weights_only=True)
        if len(plain["generators"]) == distributed.world():
            run.generator.set_state(plain["generators"][distributed.rank()])
        run.state = state_class(**plain["state"])
        run.state.surplus = deque([sample_class(**sample) for sample in group] for group in run.state.surplus)
        if run.state.step < run.config.steps:
            run.state.boundary.pop("final", None)  # a finished run that is to go on measures its end again
        distributed.on_main(lambda: self._rewind_metrics(run.state.step))

    def load_best(self, run: Any) -> None:
        """Give the reference the policy's weights of the best validation: the loop saves then, `_prune` keeps them."""
        weights = {f"policy/{key}": value for key, value in run.reference.state_dict().items()}
        dcp.load(weights, checkpoint_id=self.checkpoints / f"step-{best_step(run.state.history):06d}")

    def _newest(self) -> Path:
        finished = self._finished()
        if not finished:
            raise UserError(f"{self.path} was never saved (no checkpoints/step-*): start again with a new --out")
        return finished[-1]

    def export_sharded(self, policy: Any, tokenizer: Any, name: str) -> None:
        """`export`, gathered from all ranks a tensor at a time; opens in transformers and in vLLM."""
        main = distributed.rank() == 0
        weights = {key: value.cpu() for key, value in full_weights(policy, torch.float32) if main}
        distributed.on_main(lambda: self.export(policy.model, tokenizer, name, state_dict=weights))


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
        named[entry] = torch.tensor(0.0) if key == "step" else torch.zeros_like(parameters[int(index)]).detach()
    return named


def _optimizer_keys(path: Path) -> list[str]:
    saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    return [key for key in saved if key.startswith("optimizer/")]
