"""One rank of rollout_rounds.py: `prorl_scale.train` of whatever tree is on PYTHONPATH, on a model made for it.

torchrun ... bench/worker_rounds.py FOLDER   reads FOLDER/settings.json, writes FOLDER/run and FOLDER/rank-N.json

The model is a chain of words: its layers add nothing, and its head names the word after the last one.  An answer picks
one of SPEEDS ways to go and passes through PHASES words of it, each repeated a geometric number of times: its length
is close to log-normal.  Training moves no weight.  Of 47 % of the prompts long answers are right; the others have no
right one.  So the groups kept, and what they hold, are the same question of chance in both trees.
"""

import json
import math
import os
import random
import sys
import time
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from prorl_lab import laptop, tasks
from prorl_scale import distributed, rollout, train

SPEEDS, PHASES, SPREAD = 7, 4, 0.65
EOS, FIRST = 1, 3  # ids: the end, and the first word of the chain
MAIN = int(os.environ["RANK"]) == 0


def chain(median: float) -> torch.Tensor:
    """(V, V) log-probs of the word in the column after the word in the row; the row of word 0 begins an answer."""
    table = torch.full((FIRST + SPEEDS * PHASES,) * 2, -30.0)
    for k in range(SPEEDS):
        z = (k - (SPEEDS - 1) / 2) * 4 / SPEEDS  # standard deviations from the median; so far apart that 7 cover most
        leave = PHASES / (median * math.exp(SPREAD * z))
        table[0, FIRST + k * PHASES] = -(z**2) / 2
        for phase in range(PHASES):
            word = FIRST + k * PHASES + phase
            table[word, word] = math.log1p(-leave)
            table[word, word + 1 if phase < PHASES - 1 else EOS] = math.log(leave)
    return table.log_softmax(-1)


def make_model(folder: Path, median: float) -> None:
    """Write the model and the laptop model's tokenizer."""
    tokenizer = laptop.build_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=False, eos_token_id=EOS,
        pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    model, table = Qwen2ForCausalLM(config), chain(median)
    words = len(table)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_()
        model.model.embed_tokens.weight[:, 0] = 1  # any other word begins an answer
        for word in range(FIRST, words):
            model.model.embed_tokens.weight[word] = torch.eye(64)[word]
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, :words] = -30 / 8  # the norm makes a unit vector 8 long
        model.lm_head.weight[:words, :words] = table.T / 8
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class Task:
    """Prompts of three words.  An answer is right if it is long, where the prompt has right answers at all."""

    tiers = ("chain",)
    stop_ids = (EOS,)

    def __init__(self, kept: float, median: float):
        self.kept, self.median = kept, median

    def problem(self, split: str, number: int, tier: str | None = None) -> tasks.Problem:
        dice = random.Random(number)
        words = " ".join(dice.choices(laptop.WORDS, k=3))
        return tasks.Problem("chain", words, {"solvable": dice.random() < self.kept / 0.96})

    def score(self, answers: list[tuple[tasks.Problem, str]]) -> list[float]:
        return [float(p.entry["solvable"] and len(text) > self.median) for p, text in answers]


def watch(seen: dict[str, list]) -> None:
    """Count what this rank decodes: a row for each round of training, and the time of each decode step."""
    start, write = rollout.Engine.__init__, train.Run.write

    def __init__(self, *args):
        start(self, *args)
        engine = self.llm.llm_engine
        step = engine.step

        def timed():
            writing, begun = len(engine.output_processor.request_states), time.perf_counter()
            outputs = step()
            seen["decode"].append((writing, time.perf_counter() - begun))
            return outputs

        engine.step = timed

    def counted(self, *args):
        before = len(seen["decode"])
        groups = write(self, *args)
        seen["rounds"].append({"step": self.state.step, "iterations": len(seen["decode"]) - before})
        return groups

    rollout.Engine.__init__, train.Run.write = __init__, counted


def main() -> int:
    folder = Path(sys.argv[1])
    given = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    median = given["limit"] * 3000 / 8192
    if MAIN:
        make_model(folder / "model", median)
    tasks.load_task = lambda *args, **named: Task(given["kept"], median)
    seen: dict[str, list] = {"decode": [], "rounds": []}
    watch(seen)
    arguments = {
        "model": folder / "model", "out": folder / "run", "base-cache": folder / "base", "seed": given["seed"],
        "steps": given["warmup"] + given["steps"], "prompts-per-step": given["prompts_per_step"],
        "answers-per-prompt": given["answers"], "max-new-tokens": given["limit"], "max-prompt-tokens": 8,
        "temperature": 1.0, "max-rounds": 10, "rollout-batch": 4096, "microbatch-tokens": 16384, "eval-every": 0,
        "boundary-prompts": 0, "learning-rate": 1e-20, "weight-decay": 0, "kl-coef": 0, "save-every": 10**6,
        "threads": 1, "updates-per-step": 4, "canary-tolerance": 1e-2,
    }  # fmt: skip
    flags = [word for key, value in arguments.items() for word in (f"--{key}", str(value))]
    code = train.main([*flags, "--no-reset", "--gradient-checkpointing", "False"])
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(seen), encoding="utf-8")
    return code


if __name__ == "__main__":
    distributed.leave(main)
