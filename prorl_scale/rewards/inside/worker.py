"""Inside the sandbox: score answers of the text domains, one after another, until the pool hangs up."""

import time
from typing import Any

from prorl_lab import scoring

from . import seccomp
from .line import Line, limit_cpu

MEMORY = 4 * 2**30  # bytes of address space
THREADS = 32


def main(line: Line) -> None:
    line.ready(MEMORY, THREADS)
    seccomp.forbid_processes()
    while True:
        try:
            domain, response, reference, seconds = line.receive()
        except EOFError:
            return
        try:
            scorer = scoring.scorer(domain)
        except Exception as error:  # noqa: BLE001  a package is missing, or broken: the pool stops the run
            line.send(f"{type(error).__name__}: {error}")
            return
        line.send("started")  # from here on the item's clock runs; imports are nobody's fault
        limit_cpu(2 * seconds, for_good=False)  # the next item gets as much again
        start = time.process_time()
        verdict = _verdict(scorer, response, reference)
        line.send({"verdict": verdict, "seconds": time.process_time() - start})


def _verdict(scorer: Any, response: str, reference: dict) -> tuple:
    try:
        return scorer(response, reference)
    except Exception:  # noqa: BLE001  whatever a scorer trips over is this item's verdict
        return 0.0, "error"
