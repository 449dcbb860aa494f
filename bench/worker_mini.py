"""Our sides of step_vs_trl.py: a run of `prorl_mini.train`, or of `prorl_scale.train`, on random rewards."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

from measure import Yardstick, random_rewards, read_settings, write_result

import prorl_mini
from prorl_lab import models, tasks


class RandomTask:
    """The prompts of the settings file in turn; rewards that do not look at the answers."""

    def __init__(self, prompts: list[str], yardstick: Yardstick, per_rollout: int):
        self.prompts, self.stop_ids, self.yardstick = prompts, [], yardstick
        self.per_rollout, self.scored = per_rollout, 0
        self.tiers = ["bench"]
        self.draw = random.Random(0)

    def problem(self, split: str, number: int, tier: str | None = None) -> tasks.Problem:
        return tasks.Problem("bench", self.prompts[number % len(self.prompts)], {})

    def score(self, answers: list[tuple[tasks.Problem, str]]) -> list[float]:
        if self.scored % self.per_rollout == 0:  # prorl_scale asks group by group
            self.yardstick.mark()
        self.scored += len(answers)
        return random_rewards(len(answers), self.draw)


def config(settings: dict[str, Any], out: str) -> dict[str, Any]:
    """The fields of `prorl_mini.Config`, which `prorl_scale` has too."""
    return dict(
        model=settings["model"],
        task="random-reward",
        out=out,
        device="cpu",
        dtype="float32",
        threads=settings["threads"],
        steps=settings["warmup"] + settings["steps"] + 1,  # N + 1 reward calls enclose N steps
        save_every=10**9,
        prompts_per_step=settings["prompts"],
        answers_per_prompt=settings["answers"],
        draw="rounds",  # as many answers in each step: the yardstick counts on it, and all sides do the same work
        temperature=settings["temperature"],
        max_new_tokens=settings["answer_tokens"],
        rollout_batch=settings["prompts"] * settings["answers"],
        updates_per_step=settings["updates"],
        microbatch_tokens=settings["microbatch"] * (settings["prompt_tokens"] + settings["answer_tokens"]),
        kl_coef=settings["kl_coef"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        gradient_checkpointing=False,
        binary_reward=False,
        reset=False,
        eval_every=0,
        boundary_prompts=0,
    )


def with_parts(steps: list[dict], rows: list[dict]) -> list[dict]:
    """The split, from what every run logs.  A step as the yardstick cuts it begins in the middle of one of the run's
    own steps (after its rollout) and ends in the middle of the next."""
    result = []
    for step, row, following in zip(steps, rows, rows[1:], strict=False):
        parts = {
            "generate": following["seconds_generate"],
            "reward": following["seconds_reward"],
            "logprobs": row["seconds_logprobs"],
            "update": row["seconds_update"],
        }
        if "seconds_push" in row:
            parts["push"] = row["seconds_push"]
        parts["rest"] = step["seconds"] - sum(parts.values())
        result.append({**step, "parts": parts, "answer_tokens": row["tokens"]})
    return result


def run(train: Any, config_class: Any, packages: list[str], **more: Any) -> None:
    """Train on random rewards and write what was measured.  more: settings that only one of the trainers has."""
    settings = read_settings()
    yardstick = Yardstick("step")
    # The only thing replaced: tasks that ship with the project grade answers, and this model writes noise.
    # Its end token lies beyond the vocabulary, so that nothing ever stops; vLLM and our own checks refuse such a token.
    tasks.load_task = lambda config, stop_ids, sandboxed=False: RandomTask(
        settings["prompt_texts"], yardstick, settings["prompts"] * settings["answers"]
    )
    models.stop_ids = lambda config, tokenizer: []
    with tempfile.TemporaryDirectory() as folder:
        train(config_class(**config(settings, folder), **more))
        lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "event" not in row]
    if len(rows) != len(yardstick.steps):
        raise SystemExit(f"{len(yardstick.steps)} reward calls in {len(rows)} steps: the yardstick needs one a step")
    steps = with_parts(yardstick.steps[1:], rows)
    write_result(settings, steps, ["torch", "transformers", "tokenizers", *packages])


if __name__ == "__main__":
    run(prorl_mini.train, prorl_mini.Config, [])
