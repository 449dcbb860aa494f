"""What a right answer is: pure scorers, the one home of the rewards of `prorl_mini` and `prorl_scale`.

Each takes a response and a reference and returns a score and a status.  They run in a killable child of mini
(`prorl_lab.verify`) and inside the sandbox of scale (`prorl_scale.rewards`), where nothing of this package but this
folder is to be had: so a module here imports no other part of the project, and never evaluates a model's text.
"""

import importlib
from typing import Any

VERSION = 5  # of the verdicts: counted up by every change that scores some answer otherwise than before

SCORERS = {  # domain: module of this package, and its function (response, reference) -> (score, status[, why])
    "math": ("math_answers", "score_math"),
    "stem": ("math_answers", "score_stem"),
    "puzzle": ("puzzle", "score"),
    "instruction": ("instruction", "score"),
    "own": ("own", "score"),
}


def scorer(domain: str) -> Any:
    """The function of a domain, imported now.  Raises KeyError for a domain without one, or what the import raises."""
    module, name = SCORERS[domain]
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
