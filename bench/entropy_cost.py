"""What the entropy of every sampled token costs prorl_mini's rollout.

    PYTHONPATH=. python bench/entropy_cost.py

Two untrained models: the laptop's (202 words) and one of SmolLM2-135M's shape (49,152 words).  Processor seconds, one
thread: rollouts with and without it in turns, and its two lines alone, as a share of a rollout without it.
"""

import json
import statistics
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import prorl_mini as mini
from prorl_lab import laptop

SMOLLM = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip


def measure(config: Any, prompts: int, answers: int, tokens: int, turns: int) -> dict[str, float]:
    """prompts x answers of so many tokens each, written side by side."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(turns + 1):
        for measured in (False, True) if turn % 2 else (True, False):
            entropy = torch.zeros(prompts * answers) if measured else None
            generator = torch.Generator().manual_seed(turn)
            start = time.process_time()
            mini.rollout(model, [[5] * 9] * prompts, answers, tokens, 1.2, [-1], generator, entropy)
            if turn:  # the first of each is warm-up
                seconds[measured].append(time.process_time() - start)
    chances = torch.randn(prompts * answers, config.vocab_size).softmax(-1)
    entropy, rows = torch.zeros(len(chances)), torch.arange(len(chances))
    start = time.process_time()
    for _ in range(50):
        entropy[rows] += torch.special.entr(chances).sum(-1)
    alone = (time.process_time() - start) / 50 * tokens
    without, with_it = (statistics.median(seconds[measured]) for measured in (False, True))
    return {"rollout": without, "rollout with it": with_it, "alone": alone, "share": alone / without}


if __name__ == "__main__":
    torch.set_num_threads(1)
    words = len(laptop.build_tokenizer())
    print("laptop", json.dumps(measure(laptop.model_config(laptop.WarmUp(), words), 32, 16, 22, turns=7)))
    print("135M", json.dumps(measure(SMOLLM, 2, 16, 8, turns=3)))
