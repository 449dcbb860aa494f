"""The peer's side of step_vs_trl.py: TRL's GRPOTrainer on the same model, prompts and amount of work."""

import random
import tempfile
from typing import Any

import torch
from datasets import Dataset
from measure import Yardstick, random_rewards, read_settings, write_result
from trl import GRPOConfig, GRPOTrainer


class TimedTrainer(GRPOTrainer):
    """GRPOTrainer that tells the yardstick where it is.  What lies outside `_prepare_inputs` is the updates."""

    yardstick: Yardstick

    def _prepare_inputs(self, *args: Any, **kwargs: Any) -> Any:
        with self.yardstick.part("rest"):
            return super()._prepare_inputs(*args, **kwargs)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with self.yardstick.part("generate"):
            return super()._generate_single_turn(*args, **kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        with self.yardstick.part("reward"):
            return super()._calculate_rewards(*args, **kwargs)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():  # the forward pass of an update
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)
        with self.yardstick.part("logprobs"):
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)


def config(settings: dict[str, Any], out: str) -> GRPOConfig:
    """Its own defaults, but for what must be equal on both sides and what only costs time on a CPU."""
    per_update = settings["prompts"] * settings["answers"] // settings["updates"]
    rollouts = settings["warmup"] + settings["steps"] + 1  # N + 1 reward calls enclose N steps
    return GRPOConfig(
        output_dir=out,
        use_cpu=True,
        bf16=False,  # its default; float32 on both sides
        model_init_kwargs={"dtype": "float32"},
        gradient_checkpointing=False,  # its default is True, and recomputes every forward pass
        max_steps=rollouts * settings["updates"],
        per_device_train_batch_size=settings["microbatch"],
        gradient_accumulation_steps=per_update // settings["microbatch"],
        generation_batch_size=settings["prompts"] * settings["answers"],
        num_generations=settings["answers"],
        max_completion_length=settings["answer_tokens"],
        temperature=settings["temperature"],
        beta=settings["kl_coef"],
        epsilon=0.2,
        epsilon_high=0.4,
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )


def main() -> None:
    settings = read_settings()
    yardstick = Yardstick("update")
    draw = random.Random(0)

    def reward(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        yardstick.mark(sum(map(len, completion_ids)))
        return random_rewards(len(prompts), draw)

    with tempfile.TemporaryDirectory() as folder:
        trainer = TimedTrainer(
            model=settings["model"],
            reward_funcs=reward,
            args=config(settings, folder),
            train_dataset=Dataset.from_dict({"prompt": settings["prompt_texts"]}),
        )
        trainer.yardstick = yardstick
        trainer.train()
    write_result(settings, yardstick.steps[1:], ["torch", "transformers", "tokenizers", "trl", "accelerate"])


if __name__ == "__main__":
    main()
