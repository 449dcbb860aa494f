"""Is the run in good order?  Rules over its last steps, each with a limit in the settings, a finding and a remedy.

The limits are choices: the paper shows healthy curves and names what went wrong (a sudden jump in length from answers
that repeat themselves, validation that degrades), but no thresholds.
"""

from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Any

WINDOW = 20  # steps that a rule sees
LATE = 5  # of them, the latest, whose mean is compared: one step is noise
RULES = ("entropy", "length", "repetition", "truncated", "kl", "reward", "outside")
KEYS = ("step", "entropy_unfiltered", "length", "repetition", "truncated", "kl", "reward_unfiltered", "outside_bounds")
LOOP = 3  # times that a piece stands at the end of an answer which loops
PERIODS = range(1, 65)  # tokens of that piece


@dataclass(frozen=True)
class Finding:
    """One broken rule: what was seen, and what to do."""

    rule: str
    message: str


def loops(ids: list[int]) -> bool:
    """Does an answer end in one piece of 1 to 64 tokens, three times or more, over at least 12 tokens?

    >>> loops([7, 1, 2, 3, 4] + 3 * [1, 2, 3, 4]), loops(list(range(50))), loops([1, 2, 3, 3, 3])
    (True, False, False)
    """
    for period in PERIODS:
        times = max(LOOP, -(-12 // period))
        if len(ids) < period * times:
            continue
        tail = ids[-period * times :]
        if tail[period:] == tail[:-period]:
            return True
    return False


def check(rows: list[dict[str, Any]], history: list[tuple[int, float]], config: Any) -> list[Finding]:
    """The rules that the last rows of metrics break; nothing until there are `WINDOW` of them.

    rows: of `KEYS`, oldest first, None where a step had nothing to measure.  history: (step, validation score).
    """
    rows = rows[-WINDOW:]
    if len(rows) < WINDOW:
        return []
    now = {key: _mean(rows[-LATE:], key) for key in KEYS}  # NaN where nothing was measured, which breaks no rule
    then = {key: _mean(rows[:LATE], key) for key in KEYS}
    entropy = now["entropy_unfiltered"]
    rise = now["reward_unfiltered"] - then["reward_unfiltered"]
    rules = [
        (
            *("entropy", config.health_entropy_min, entropy < config.health_entropy_min),
            f"entropy is {entropy:.3g} nats per token, below {config.health_entropy_min:g}: the policy "
            "hardly explores any more; raise --eps-high or --temperature, or lower --learning-rate",
        ),
        (
            *("length", config.health_length_growth, now["length"] > config.health_length_growth * then["length"]),
            f"answers grew from {then['length']:.0f} to {now['length']:.0f} tokens within {WINDOW} steps: look for "
            "loops in them, give --zero-truncated, or reset the reference",
        ),
        (
            *("repetition", config.health_repetition_max, now["repetition"] > config.health_repetition_max),
            f"{now['repetition']:.0%} of the answers end in a loop: give --zero-truncated, or go back to a checkpoint "
            "from before",
        ),
        (
            *("truncated", config.health_truncated_max, now["truncated"] > config.health_truncated_max),
            f"{now['truncated']:.0%} of the answers are cut off: raise --max-new-tokens, or teach them to end with "
            "--zero-truncated",
        ),
        (
            *("kl", config.health_kl_max, now["kl"] > config.health_kl_max),
            f"KL to the reference is {now['kl']:.3g} per token, above {config.health_kl_max:g}: reset the reference "
            "(--reset-kl-above), or lower --learning-rate",
        ),
        (
            *("reward", config.health_reward_jump, rise > config.health_reward_jump and _stalled(rows, history)),
            f"the training reward rose by {rise:.2f} in {WINDOW} steps and validation gained nothing: read some "
            "answers that were paid well, the verifier may be paying for something else",
        ),
        (
            *("outside", config.health_outside_max, now["outside_bounds"] > config.health_outside_max),
            f"{now['outside_bounds']:.0%} of the tokens lie outside the bounds of --mismatch, where they teach little "
            "or nothing: the sampler is too far from the trainer; see sampler_gap, or widen --mismatch-low and -high",
        ),
    ]
    return [Finding(name, message) for name, limit, broken, message in rules if limit and broken]


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    values = [row[key] for row in rows if row.get(key) is not None]
    return fmean(values) if values else nan


def _stalled(rows: list[dict[str, Any]], history: list[tuple[int, float]]) -> bool:
    """Validation was measured before and within these rows, and has no new best."""
    within = [score for step, score in history if step >= rows[0]["step"]]
    earlier = [score for step, score in history if step < rows[0]["step"]]
    return bool(within and earlier) and max(within) <= max(earlier)
