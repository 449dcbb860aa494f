"""Our own scorers of mathematics and STEM, from the checkout that the first argument names."""

import importlib
import sys
from pathlib import Path

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

    def grade(item: dict) -> tuple[float, str]:
        verdict = scorers[item["domain"]](item["response"], {"answer": item["gold"]})
        if isinstance(verdict, tuple):
            return float(verdict[0]), " ".join(str(part) for part in verdict[1:])
        return float(verdict.score), f"{verdict.status} {getattr(verdict, 'why', '')}".strip()

    serve(grade)


if __name__ == "__main__":
    main()
