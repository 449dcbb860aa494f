r"""`python -m prorl_scale.rewards check --domain math --gold '1/2' --answer '\frac{2}{4}'`: what a verdict rests on."""

import sys
from dataclasses import dataclass
from typing import Literal

from prorl_lab import flags
from prorl_lab.errors import UserError
from prorl_lab.scoring.math_answers import explain


@dataclass
class Check:
    """Print the value read from a reference and from an answer, the rule that compared them, and the verdict."""

    gold: str  # the reference, as the data has it
    answer: str  # what the box holds, or a whole response with its \boxed{...}
    domain: Literal["math", "stem"] = "math"


def main(arguments: list[str]) -> int:
    if arguments[:1] != ["check"]:
        usage = "python -m prorl_scale.rewards check --domain math --gold GOLD --answer ANSWER [--help]"
        sys.exit(flags.usage(usage, arguments))
    arguments = [_joined(arguments[i - 1], text) for i, text in enumerate(arguments)][1:]
    try:
        config = flags.read(Check, [a for a in arguments if a], prog="python -m prorl_scale.rewards check")
    except UserError as error:
        sys.exit(f"error: {error}")
    for part, shown in explain(config.gold, config.answer, config.domain == "stem").items():
        print(f"{part:10} {shown}")
    return 0


def _joined(before: str, text: str) -> str:
    """--gold -3 as --gold=-3: an answer may begin with a sign, and must not be taken for an option."""
    if before in ("--gold", "--answer"):
        return f"{before}={text}"
    return "" if text in ("--gold", "--answer") else text


if __name__ == "__main__":
    sys.exit(flags.piped(lambda: main(sys.argv[1:])))
