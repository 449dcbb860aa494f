"""verl's rewards of mathematics: `math_dapo` (AIME and DAPO data) and `prime_math` (NuminaMath).

math_dapo asks for a last line "Answer: ..."; prime_math for a box.  prime_math forks a process for each of its
clocks; here an alarm of the same length does that.
"""

import contextlib
import functools
import importlib
import signal
import sys

from lines import bare_package, hollow, in_form, serve


def timeout_limit(seconds: float, use_signals: bool = False):
    def decorate(function):
        @functools.wraps(function)
        def limited(*args, **kwargs):
            def ring(number, frame):
                raise TimeoutError(f"{function.__name__} took more than {seconds} s")

            before = signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                return function(*args, **kwargs)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

        return limited

    return decorate


for package in ("verl", "verl.utils", "verl.utils.reward_score"):
    bare_package(package)
hollow("verl.utils.py_functional", timeout_limit=timeout_limit)
scorer = importlib.import_module(f"verl.utils.reward_score.{sys.argv[1]}")


def math_dapo(item: dict) -> tuple[float, str]:
    return float(scorer.compute_score(in_form(item, "Answer: {}"), item["gold"])["acc"]), ""


def prime_math(item: dict) -> tuple[float, str]:
    with contextlib.redirect_stdout(sys.stderr):
        return float(scorer.compute_score(item["response"], item["gold"])[0]), ""


if __name__ == "__main__":
    serve({"math_dapo": math_dapo, "prime_math": prime_math}[sys.argv[1]])
