"""Peak memory of the log-probs of a batch, forward and backward: prorl_scale's chunked head against the plain one.

    PYTHONPATH=. python bench/logprob_memory.py --out results/<date-name>

See bench/README.md for what is counted.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from measure import machine, versions
from torch import Tensor

from prorl_lab.colours import BLUE, GREY, LINE
from prorl_scale.policy import ChunkedLogprobs

GIB = 2**30
KINDS = ("plain", "chunked")


@dataclass
class Args:
    """Measure both heads in fresh processes, float32 on the CPU, at one or more numbers of tokens."""

    tokens: tuple[int, ...] = (512, 1024, 2048, 4096)
    vocabulary: int = 151_936
    hidden: int = 1536
    threads: int = 1
    out: Path | None = None  # a folder for logprob_memory.json and .png; not given: only printed
    one: Literal["plain", "chunked"] | None = None  # measure this one, in this process (the script calls itself so)


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """All logits at once, as most trainers write it: (N, D), (V, D), (N,) -> (N,)."""
    logits = hidden @ weight.T / temperature
    return F.log_softmax(logits, -1).gather(-1, targets[:, None])[:, 0]


def chunked(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The trainer's, with the entropy that it takes along."""
    return ChunkedLogprobs.apply(hidden, weight, targets, temperature, True)[0]


def resident(field: Literal["VmRSS", "VmHWM"]) -> int:
    """Bytes of this process in memory: now, or at most since the last `forget_peak`.  Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit("error: /proc/self/status does not give the resident memory: run this on Linux")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # see proc(5)


def measure_here(args: Args) -> dict[str, float]:
    """Peak above the inputs, which are made and touched before; the gradients of both inputs are part of it."""
    torch.set_num_threads(args.threads)
    draw = torch.Generator().manual_seed(0)
    (tokens,) = args.tokens
    hidden = torch.randn(tokens, args.hidden, generator=draw).requires_grad_()
    weight = torch.empty(args.vocabulary, args.hidden).normal_(0, 0.02, generator=draw).requires_grad_()
    targets = torch.randint(args.vocabulary, (tokens,), generator=draw)
    torch.ones(8, 8, requires_grad=True).matmul(torch.ones(8, 8)).sum().backward()  # libraries allocate at first use
    forget_peak()
    before = resident("VmRSS")
    logp = {"plain": plain, "chunked": chunked}[args.one](hidden, weight, targets, 1.2)
    logp.mean().backward()
    peak = resident("VmHWM") - before
    return {
        "peak_bytes": peak,
        "logp": logp.mean().item(),
        "hidden_grad": hidden.grad.norm().item(),
        "weight_grad": weight.grad.norm().item(),
    }


def measure(args: Args, kind: str, tokens: int) -> dict[str, float]:
    """`measure_here` in a process of its own, so that nothing freed before is used again."""
    command = [sys.executable, __file__, "--one", kind, "--tokens", str(tokens), "--threads", str(args.threads)]
    command += ["--vocabulary", str(args.vocabulary), "--hidden", str(args.hidden)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {kind} with {tokens} tokens failed (killed for memory?):\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def check_equal(plain_result: dict[str, float], chunked_result: dict[str, float]) -> None:
    for key in ("logp", "hidden_grad", "weight_grad"):
        if abs(plain_result[key] - chunked_result[key]) > 1e-4 * abs(plain_result[key]):
            sys.exit(f"error: the two heads differ in {key}: {plain_result[key]} and {chunked_result[key]}")


def draw(rows: list[dict], args: Args, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), constrained_layout=True)
    axes.spines[["top", "right"]].set_visible(False)
    for kind, marker, colour in zip(KINDS, "os", (GREY, BLUE), strict=True):
        peaks = [row[kind]["peak_bytes"] / GIB for row in rows]
        axes.plot([row["tokens"] for row in rows], peaks, marker=marker, color=colour, label=kind)
    for row in rows:
        at = (row["tokens"], row["chunked"]["peak_bytes"] / GIB)
        axes.annotate(f"× {row['ratio']:.2f}", at, xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    floor = args.vocabulary * args.hidden * 4 / GIB
    axes.axhline(floor, color=LINE, linewidth=0.8, linestyle=":", label="gradient of the head, which both hold")
    axes.set(
        xlabel="answer tokens in one micro-batch",
        ylabel="peak above the inputs, GiB",
        title=f"Log-probs forward and backward: {args.vocabulary:,} words, width {args.hidden:,}, float32",
        ylim=(0, None),
    )
    axes.title.set_size(10)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(args: Args) -> None:
    if args.one:
        print(json.dumps(measure_here(args)))
        return
    rows = []
    for tokens in args.tokens:
        row = {"tokens": tokens, **{kind: measure(args, kind, tokens) for kind in KINDS}}
        check_equal(row["plain"], row["chunked"])
        row["ratio"] = row["chunked"]["peak_bytes"] / row["plain"]["peak_bytes"]
        rows.append(row)
        sizes = "  ".join(f"{kind} {row[kind]['peak_bytes'] / GIB:6.2f} GiB" for kind in KINDS)
        print(f"{tokens:6} tokens  {sizes}  ratio {row['ratio']:.3f}", flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        settings = asdict(replace(args, out=None))
        result = {"settings": settings, "versions": versions("torch"), "machine": machine(), "rows": rows}
        (args.out / "logprob_memory.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        draw(rows, args, args.out / "logprob_memory.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
