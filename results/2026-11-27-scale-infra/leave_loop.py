"""How do two gloo processes end?  A short run, or the parity worker, again and again -> exit codes, counted by rank.

    OMP_NUM_THREADS=1 python results/2026-11-27-scale-infra/leave_loop.py run|parity new|old COUNT

Processes are forked from one that has imported everything, which is what makes hundreds affordable.
new: `distributed.joined` and `distributed.leave`.  old: no barrier, groups left alone, the interpreter's own way out.

Frozen with its figures: run it in a checkout of commit 1dd221b, since names of the project have moved on.
"""

import collections
import contextlib
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from prorl_lab import laptop  # noqa: E402
from prorl_scale import distributed  # noqa: E402
from tests import scale_run, scale_worker  # noqa: E402
from tests.launch import QUICK  # noqa: E402
from tests.test_scale_parity import BASE, build_model, frozen_samples  # noqa: E402

QUICKER = ["--steps", "2", "--boundary-prompts", "0", "--eval-every", "0", "--save-every", "1"]


@contextlib.contextmanager
def only_joined(kind, minutes):
    distributed.start(kind, minutes)
    with contextlib.ExitStack() as closing:
        yield closing


def work(what, cache, out):
    if what == "parity":
        return scale_worker.main(cache)
    return scale_run.main("stand-in", "none", [*QUICK, *QUICKER, "--base-cache", str(cache), "--out", str(out)])


def child(what, how, rank, port, cache, out):
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in world.items()}, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    os.dup2(os.open(out.with_suffix(f".{rank}"), os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    if how == "old":
        distributed.joined = only_joined
        sys.exit(work(what, cache, out))
    distributed.leave(lambda: work(what, cache, out))


def pair(what, how, cache, out):
    """-> the exit codes of rank 0 and rank 1."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    pids = []
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            child(what, how, rank, port, cache, out)
        pids.append(pid)
    return tuple(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


def main(what, how, count):
    torch.set_num_threads(1)
    codes = collections.Counter()
    cache = Path(tempfile.mkdtemp())  # not one that cleans up after itself: each child would
    if what == "parity":
        build_model().save_pretrained(cache / "model")
        laptop.build_tokenizer().save_pretrained(cache / "model")
        cases = {"many cuts": {**BASE, "microbatch_tokens": 60}}
        torch.save({"samples": [vars(s) for s in frozen_samples()], "cases": cases}, cache / "frozen.pt")
    for i in range(count):
        ended = pair(what, how, cache, cache / f"run-{i}")
        codes[ended] += 1
        if ended != (0, 0):
            said = [cache.joinpath(f"run-{i}.{rank}").read_text()[-2000:] for rank in range(2)]
            print(f"pair {i}: {ended}", *said)
        print(f"{what}, {how}: exit codes (rank 0, rank 1): {dict(codes)}; load {os.getloadavg()[0]:.0f}", flush=True)
    shutil.rmtree(cache)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
