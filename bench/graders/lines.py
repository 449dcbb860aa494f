"""What every grader's script shares: JSON lines in, JSON lines out.  Standard library only; runs in any environment.

A line in has `domain`, `gold`, `answer` (what is in the box), `response` (the whole text).  A line out has `score`
(null where the grader declines to judge) and `status`.  The parent keeps the clock and kills what does not reply.
"""

import json
import os
import sys
from collections.abc import Callable

Grade = Callable[[dict], tuple[float | None, str]]


def serve(grade: Grade) -> None:
    """Answer until the input ends.  What the grader prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        try:
            score, status = grade(json.loads(line))
        except Exception as error:  # noqa: BLE001  what a grader raises, a trainer would see too: no reward
            score, status = 0.0, f"raised {type(error).__name__}"
        print(json.dumps({"score": score, "status": status}), file=out, flush=True)
