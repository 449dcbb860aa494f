"""What computes: GPUs by their data sheets, or this machine's CPU as measured here."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F

from prorl_lab.errors import UserError


@dataclass(frozen=True)
class Device:
    """One device of a rank, by its data sheet or as measured; `cost.Rates` says what of that is reached."""

    name: str
    flops: float  # FLOP/s of dense matrix products in the dtype of the computation: bfloat16 on a GPU, float32 on a CPU
    bandwidth: float  # bytes/s between its memory, or cache, and what computes
    memory: float  # bytes
    launch: float = 0.0  # seconds of the host to start one operation
    asynchronous: bool = True  # the host runs ahead, so that what it takes is hidden unless it is the slower one


# NVIDIA's data sheets: dense bfloat16 FLOP/s (they print twice as much, "with sparsity"), bytes/s, bytes.  The first
# name that stands in the device's name counts, so the slower siblings come first.
SHEETS = {
    "H100 PCIe": (756e12, 2.0e12, 80e9),
    "H100 NVL": (835e12, 3.9e12, 94e9),
    "H200 NVL": (835e12, 4.8e12, 141e9),
    "A100-PCIE-40GB": (312e12, 1.555e12, 40e9),
    "A100-SXM4-40GB": (312e12, 1.555e12, 40e9),
    "A100": (312e12, 2.039e12, 80e9),
    "H20": (148e12, 4.0e12, 96e9),
    "H100": (989e12, 3.35e12, 80e9),
    "H800": (989e12, 3.35e12, 80e9),
    "H200": (989e12, 4.8e12, 141e9),
    "GH200": (989e12, 4.0e12, 96e9),
    "B200": (2250e12, 8.0e12, 180e9),
    "L40S": (362e12, 0.864e12, 48e9),
    "L4": (121e12, 0.3e12, 24e9),
    "A10": (125e12, 0.6e12, 24e9),
}
LAUNCH = 1e-5  # seconds of the host, Python and PyTorch, for an operation of a model on a GPU; assumed


def named(name: str) -> Device | None:
    """The GPU by its name, as `torch.cuda.get_device_name` gives it; None where it is not in the table.

    >>> named("NVIDIA H100 80GB HBM3").flops, named("NVIDIA GeForce RTX 3060")
    (989000000000000.0, None)
    """
    found = next((kind for kind in SHEETS if re.search(rf"\b{kind}\b", name)), None)
    return Device(found, *SHEETS[found], launch=LAUNCH) if found else None


def of(text: str) -> Device:
    """The GPU that `--gpu` means: a name of the table, or GB of memory.  Raises UserError.

    Of memory alone it is not known how fast it is: then it is the slowest of the table that has about as much.

    >>> of("24").name, of("24").memory, of("A100").flops
    ('24 GB, as slow as L4', 24000000000.0, 312000000000000.0)
    """
    if found := named(text):
        return found
    try:
        memory = float(text) * 1e9
    except ValueError:
        memory = 0.0
    if not 0 < memory < math.inf:
        raise UserError(f"--gpu {text} is not known: give GB of memory, such as 24, or one of {', '.join(SHEETS)}")
    kind = min(SHEETS, key=lambda kind: (abs(SHEETS[kind][2] - memory), SHEETS[kind][0]))
    return Device(f"{memory / 1e9:g} GB, as slow as {kind}", *SHEETS[kind][:2], memory, launch=LAUNCH)


# ---------------------------------------------------------------- a CPU, measured


def cpu(rows: int = 2048, width: int = 128, memory: float = 0.0) -> Device:
    """This machine's CPU on matrices of the size that the model has, with the threads that torch uses now.

    rows, width: tokens of a micro-batch and the model's hidden size.  Peak and bandwidth of a CPU depend on them: small
    matrices stay in its caches.
    """
    hidden, weight = torch.randn(rows, width), torch.randn(3 * width, width)
    product = _seconds(lambda: F.linear(hidden, weight))
    others = [torch.randn(rows, width) for _ in range(8)]
    # New tensors of others that were used long ago, as in a model: they are in no cache, and pages have to be found.
    stream = _seconds(lambda: [hidden * other for other in others]) / len(others)
    return Device(
        "this CPU",
        flops=2 * rows * width * 3 * width / product,
        bandwidth=3 * hidden.nbytes / stream,  # two read, one written
        memory=memory,
        launch=_seconds(_few_small_operations) / OPERATIONS,
        asynchronous=False,
    )


OPERATIONS = 19  # of the function below, forward and backward, as the dispatcher counts them


def _few_small_operations() -> None:
    """A prompt's and an answer's worth of attention with its mask, and its gradient: what a small model does most."""
    query, key = torch.zeros(1, 4, 10, 32, requires_grad=True), torch.zeros(1, 4, 20, 32, requires_grad=True)
    mask = torch.ones(10, 20, dtype=torch.bool).tril(10)
    F.scaled_dot_product_attention(query, key, key, attn_mask=mask).sum().backward()


def _seconds(work: Callable[[], object], turns: int = 7, least: float = 0.02) -> float:
    """Median over turns of what one call takes; a turn repeats it for at least so many seconds."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < least or calls < 3:  # also warms up
        work()
        calls += 1
    took = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        took.append((time.perf_counter() - start) / calls)
    return median(took)
