"""The tasks of a run on many processes: those of `prorl_lab.tasks`, and a mixture of domains from prepared files.

Their answers are scored in the sandbox of `prorl_scale.rewards`: a task says with `item` what to score, and how.
"""

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from prorl_lab import tasks
from prorl_lab.errors import UserError
from prorl_lab.tasks import Problem, prompt_ids


def load_task(config: Any, stop_ids: list[int], tokenizer: Any) -> tasks.Task:
    """The task that --task names; a folder is one that `python -m prorl_scale.data prepare` wrote."""
    if Path(config.task).is_dir():
        limit = config.max_prompt_tokens or math.inf
        folder, fits = Path(config.task), lambda prompt: len(prompt_ids(tokenizer, prompt)) <= limit
        task = MixtureTask(folder, config.seed, stop_ids, fits, left_out(folder, config.pass_rate))
        tasks.say_what_is_held_out(config, task)
        return task
    if config.pass_rate:
        raise UserError(
            f"--pass-rate needs prepared data with pass rates, and --task {config.task} is none: leave it out"
        )
    if "/" in config.task and not Path(config.task).exists():
        raise UserError(
            f"there is nothing at {config.task}: write a mixture there with python -m prorl_scale.data prepare --out "
            f"{config.task}, or give another --task"
        )
    return tasks.load_task(config, stop_ids, sandboxed=True)


def left_out(folder: Path, pass_rate: list[float]) -> frozenset[str]:
    """The ids of training rows that --pass-rate leaves out; none without it.  Raises UserError without rates."""
    if not pass_rate:
        return frozenset()
    from prorl_scale.data.estimate import outside

    return outside(folder, *pass_rate)


class MixtureTask:
    """Prompts of several domains, drawn by weight; a tier is a domain.

    Unlike the tasks of `prorl_lab` it has a state: which prompt comes next depends on how many of each domain came
    before, since the weights may change during a run.  So training problems are to be had in their order alone.

    fits: whether a prompt is short enough; one that is not is left out, since among a hundred thousand there are some.
    left_out: ids of training rows that are not drawn either.

    Raises UserError where the folder holds no such files, or none to hold out.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        stop_ids: list[int],
        fits: Callable[[list], bool] | None = None,
        left_out: Collection[str] = (),
    ):
        try:
            from prorl_scale.data import Mixture

            self.train = Mixture(folder, seed, keep=fits, left_out=left_out)
            self.held = Mixture(folder, seed, split="validation", keep=fits)
        except (ImportError, OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder} does not open as prepared data ({error}): write it with python -m prorl_scale.data prepare, "
                "after pip install -r requirements-rewards.txt"
            ) from error
        self.stop_ids = stop_ids
        self.tiers = sorted(self.held.rows)  # of whatever weight: what is not trained on may be forgotten

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        """The next training problem, whose number must be its turn, or a problem of a domain's validation file.

        Of that every other row is for "validation" and the rest "held-out".  Raises IndexError past the last.
        """
        if split != "train":
            place = 2 * number + (split == "validation")
            if place >= len(self.held.rows[tier]):
                raise IndexError(f"{tier} has {len(self.held.rows[tier])} rows in its validation file")
            return self._problem(self.held.row(tier, place))
        if number != self.train.position:
            raise ValueError(f"problem {number} of a mixture that has drawn {self.train.position}")
        return self._problem(self.train.take(1)[0])

    def _problem(self, row: dict[str, Any]) -> Problem:
        return Problem(row["domain"], row["prompt"], row)

    def item(self, problem: Problem, text: str) -> tuple[str, str, dict]:
        return problem.tier, text, problem.entry["reference"]

    def set_weights(self, weights: dict[str, float] | None) -> None:
        """Shares of the domains among the problems drawn from now on; one left out is not drawn.

        None: in proportion to their rows.  Raises UserError for a domain without rows, or if no share is above 0.
        """
        try:
            self.train.set_weights(weights)
        except ValueError as error:
            raise UserError(f"the weights {weights} do not fit the data: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        return self.train.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw on where `state_dict` was taken.  Raises UserError if the data are others."""
        try:
            self.train.load_state_dict(state)
        except ValueError as error:
            raise UserError(f"can't resume: {error}; put the data that the run began with back in place") from error
