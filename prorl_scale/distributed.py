"""One process per device: start, agree, sum.  The only module that knows how many processes there are."""

import datetime
import io
import os
import pickle
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from prorl_lab.errors import UserError


def rank() -> int:
    """This process's number over all machines."""
    return dist.get_rank()


def world() -> int:
    """Processes over all machines."""
    return dist.get_world_size()


def device(kind: str) -> torch.device:
    """The device of this process: "cpu", or the GPU that torchrun's LOCAL_RANK names."""
    return torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)


def start(kind: str, timeout_minutes: float) -> None:
    """Join the other processes.  kind: "cpu" or "cuda".

    A rank that waits longer than the time-out in a collective ends with an error instead of hanging.  Rollouts of
    different length make ranks wait for each other, so it must be longer than the slowest rollout.  Leaving is up to
    vLLM, which takes its own groups and this one apart when the process ends.
    """
    # Objects travel over gloo on every machine; only tensors on a GPU go through NCCL.
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    if kind == "cuda":
        torch.cuda.set_device(device(kind))
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))


def exchange(mine: Any) -> list:
    """Every rank's object, on every rank, in order of rank."""
    buffer = io.BytesIO()
    _Pickler(buffer).dump(mine)
    everyone: list = [None] * world()
    dist.all_gather_object(everyone, buffer.getvalue())
    return [pickle.loads(theirs) for theirs in everyone]


def attempt(work: Callable[[], Any]) -> tuple[Any, str | None]:
    """What `work` returns, and None; or None, and the sentence of its UserError.  For `agree`."""
    try:
        return work(), None
    except UserError as error:
        return None, str(error)


def agree(mine: tuple[Any, str | None]) -> list:
    """Results of `attempt` from all ranks, in order of rank; a failure of one raises UserError on every rank.

    Without this, the rank that failed would end with its sentence while the others wait for it.
    """
    results, problems = zip(*exchange(mine), strict=True)
    for sentence in filter(None, problems):
        raise UserError(sentence)
    return list(results)


class _Pickler(pickle.Pickler):
    """Tensors as arrays: torch's own way writes a file in memory for each of a step's thousands of short tensors."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, torch.Tensor) else NotImplemented


def cores() -> int:
    """This process's share of the CPU's cores: those it may use, over the processes on this machine."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def total(sums: dict[str, torch.Tensor]) -> dict[str, float]:
    """Sum each number over ranks, in one collective: the same keys in the same order on every rank -> floats."""
    values = torch.stack([value.detach().double() for value in sums.values()])
    dist.all_reduce(values)
    return dict(zip(sums, values.tolist(), strict=True))


def on_main(work: Callable[[], Any]) -> Any:
    """Run `work` on rank 0 alone -> its result on every rank.  Its UserError is raised on every rank.

    Without this, rank 0 would stop with a message and the others wait for it.
    """
    box: list = [None, None]
    if rank() == 0:
        try:
            box[0] = work()
        except UserError as error:
            box[1] = str(error)
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise UserError(box[1])
    return box[0]
