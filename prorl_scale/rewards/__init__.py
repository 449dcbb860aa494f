"""Verifiers of the five domains: from a model's text to a score, in processes that a clock can kill.

    verify("math", r"... so \\boxed{42}", {"answer": "42"})     ->  Verdict(score=1.0, status="ok")

`reference` by domain:

    math, stem   {"answer": str}
    code         {"inputs": [...], "outputs": [...]}, the same with "fn_name", or {"asserts": [str, ...], "setup": str}
    puzzle       {"task": Reasoning Gym's name, "item": its entry}; "scorer": "original" for its own score
    instruction  {"instruction_id_list": [...], "kwargs": [...]}; "scorer": "original" for IFEval's published rules

What precedes `</think>` is never scored.
"""

import atexit
import functools
from typing import Any

from .pool import STATUSES, Pool, Verdict
from .sandbox import SandboxError

DOMAINS = ("math", "code", "stem", "puzzle", "instruction")
__all__ = ["DOMAINS", "STATUSES", "Pool", "SandboxError", "Verdict", "verify"]


def verify(domain: str, response: str, reference: dict[str, Any]) -> Verdict:
    """Score one response in a sandboxed worker that later calls use again.  For many, `Pool.verify` is the batch form.

    Raises SandboxError where bubblewrap can't start, ValueError for a domain that does not exist.
    """
    return _worker().verify([(domain, response, reference)])[0]


@functools.cache
def _worker() -> Pool:
    pool = Pool(workers=1)
    atexit.register(pool.close)
    return pool
