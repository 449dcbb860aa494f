"""One process per device: start, agree, sum.  The only module that knows how many processes there are."""

import atexit
import contextlib
import datetime
import io
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from prorl_lab import parent
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


def end_with_parent() -> None:
    """A worker of torchrun is killed when its agent is gone, by the kernel, whatever it does at that moment.

    torchrun starts each worker in a session of its own, so a SIGKILL to the agent (of a person, or for want of memory)
    leaves the workers training, unseen, in a folder into which the operator then resumes.  SIGKILL is safe: every file
    is whole or absent at every moment.  An agent that died before this call is told by the parent being process 1,
    unless that is the agent itself, as in a container.  Linux alone; elsewhere nothing happens.
    """
    agent = os.getppid()
    if "TORCHELASTIC_RUN_ID" not in os.environ or not parent.signal_at_its_end(signal.SIGKILL):
        return
    if os.getppid() != agent or (agent == 1 and not _starts_workers(1)):
        os.kill(os.getpid(), signal.SIGKILL)


def _starts_workers(pid: int) -> bool:
    """Might this process be torchrun's agent?  It runs in Python."""
    try:
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def start(kind: str, timeout_minutes: float) -> None:
    """Join the other processes.  kind: "cpu" or "cuda".

    A rank that waits longer than the time-out in a collective ends with an error instead of hanging.  Rollouts of
    different length make ranks wait for each other, so it must be longer than the slowest rollout.
    """
    # Objects and barriers travel over gloo on every machine; only tensors on a GPU go through NCCL.
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    if kind == "cuda":
        torch.cuda.set_device(device(kind))
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))


@contextlib.contextmanager
def joined(kind: str, timeout_minutes: float) -> Iterator[contextlib.ExitStack]:
    """`start`, and at the normal end: wait for all, close what was put on the stack, take the groups apart.

    After an error nobody is waited for, because the others may be in another collective or gone.  Where it is they who
    are gone, the error is a UserError.
    """
    with contextlib.ExitStack() as closing:
        try:
            start(kind, timeout_minutes)
            yield closing
            dist.barrier()  # a process that left earlier would break the last collective of those behind it
        except RuntimeError as error:
            closing.pop_all()
            if _lost(error):
                raise UserError(
                    f"another process ended or was silent for {timeout_minutes:g} minutes: see its message or "
                    "torchrun's report, then --resume (or raise --timeout-minutes if it was only slow)"
                ) from error
            raise
        except BaseException:
            closing.pop_all()
            raise
    if dist.is_initialized():  # vLLM takes it apart as well
        dist.destroy_process_group()


def _lost(error: RuntimeError) -> bool:
    """Whether a collective failed for want of the others; gloo has no error class of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def leave(main: Callable[[], int]) -> NoReturn:
    """Run a whole program and end the process with its exit code, past the interpreter's own way out.

    That way is not safe here: gloo's threads outlive `destroy_process_group` (results/2026-11-27-scale-infra).  Where
    one of them needs Python while the interpreter shuts down, it is ended in the middle of C++ code, and that aborts
    the process ("terminate called without an active exception") after all its work was done.  After an error there may
    also be threads that still wait for a process that is gone.
    """
    end_with_parent()
    try:
        code = main()
        if code == 0:
            atexit._run_exitfuncs()  # after an error they could wait for others
    except SystemExit as stop:  # of the command line's parser
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001  the process ends here, with what the interpreter would have printed
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def background_group(timeout_minutes: float) -> dist.ProcessGroup:
    """Another gloo group of all processes, for collectives of a thread: two threads on one group would mix theirs."""
    return dist.new_group(backend="gloo", timeout=datetime.timedelta(minutes=timeout_minutes))


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


def local_world() -> int:
    """How many processes of this run share the machine, and so its processors."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def total(sums: dict[str, torch.Tensor]) -> dict[str, float]:
    """Sum each number over ranks, in one collective: the same keys in the same order on every rank -> floats."""
    values = torch.stack([value.detach().double() for value in sums.values()])
    dist.all_reduce(values)
    return dict(zip(sums, values.tolist(), strict=True))


def on_all(work: Callable[[], Any]) -> Any:
    """Run `work` on every rank -> each one's own result.  A UserError of any rank is raised on all."""
    done, problem = attempt(work)
    agree((None, problem))
    return done


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
