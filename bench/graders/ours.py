"""Our own verifiers, from the checkout that the first argument names.

Mathematics and STEM are called here, past the sandbox; the other domains through the pool, as training calls them.
"""

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

from lines import serve

HOMES = ("prorl_lab.scoring.math_answers", "prorl_scale.rewards.inside.math_answers")  # since, and until, f98d7c6


def main() -> None:
    checkout = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(checkout))
    home = next(h for h in HOMES if (checkout / (h.replace(".", "/") + ".py")).exists())
    module = importlib.import_module(home)
    if not Path(module.__file__).is_relative_to(checkout):
        sys.exit(f"{home} was loaded from {module.__file__}, not from {checkout}")
    scorers = {"math": module.score_math, "stem": module.score_stem}

    @functools.cache
    def pool() -> Any:
        return importlib.import_module("prorl_scale.rewards").Pool(workers=1)

    def grade(item: dict) -> tuple[float, str]:
        if item["domain"] in scorers:
            verdict = scorers[item["domain"]](item["response"], {"answer": item["gold"]})
        else:
            verdict = pool().verify([(item["domain"], item["response"], item["reference"])])[0]
        if isinstance(verdict, tuple):
            return float(verdict[0]), " ".join(str(part) for part in verdict[1:])
        return float(verdict.score), f"{verdict.status} {getattr(verdict, 'why', '')}".strip()

    serve(grade)


if __name__ == "__main__":
    main()
