"""The laptop experiment: sorting words, in tiers of list length, and a tiny model that has learned the short lists.

The base model sees only lists of 2 to 5 words.  It has no positional encoding, so what it learned carries a little
beyond: less and less with every further word, until nothing is left.  That tail is where RL starts from, and the
tiers beyond it are the boundary that RL has to move.
"""

import hashlib
import json
import os
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from prorl_lab.bars import tqdm
from prorl_lab.later import Later

Qwen2Config, Qwen2ForCausalLM = Later("transformers", "Qwen2Config"), Later("transformers", "Qwen2ForCausalLM")
Qwen2Tokenizer = Later("transformers", "Qwen2Tokenizer")
WORDS = [
    *("amber", "apple", "birch", "bread", "cedar", "cloud", "dance", "delta", "eagle", "ember", "fern", "flame"),
    *("grape", "house", "island", "jungle", "kite", "lemon", "mango", "night", "ocean", "pearl", "queen", "river"),
    *("stone", "tiger", "uncle", "valley", "water", "xenon", "yacht", "zebra"),
]
CONTEXT = 128  # tokens of a prompt and its answer together
ASCENDING, DESCENDING, ANSWER = "ascending", "descending", "="
WARM_UP_LENGTHS = range(2, 6)  # all that the base model was ever shown
TRAIN_LENGTHS = range(4, 17)  # what RL draws from, each length equally often
EVAL_LENGTHS = (4, 6, 8, 10, 11, 12, 13, 14, 15, 16, 18, 20)  # 18 and 20 are in neither


@dataclass(frozen=True)
class WarmUp:
    """Settings of the base model; together with this module's words they name its folder in the cache."""

    seed: int = 0
    width: int = 128
    layers: int = 3
    heads: int = 4
    steps: int = 450
    batch: int = 64
    learning_rate: float = 1e-3


def prompt_text(words: list[str], ascending: bool) -> str:
    """The problem as the tiny model reads it, one token a word."""
    return " ".join([ASCENDING if ascending else DESCENDING, *words, ANSWER])


def build_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's own tokenizer class with merges that make each of our words, with the space before it, one token.

    Its class and not a simpler one, because AutoTokenizer (and so vLLM) opens every Qwen2 folder with it.
    """
    pieces: dict[str, None] = {}  # single characters first, then every prefix of every word; a dict keeps the order
    merges: dict[tuple[str, str], None] = {}
    words = ["\u0120" + word for word in (ASCENDING, DESCENDING, ANSWER, *WORDS)]  # the byte-level spelling of " word"
    for word in words:
        pieces.update(dict.fromkeys(word))
    for word in words:
        for end in range(1, len(word)):
            merges[word[:end], word[end]] = None
            pieces[word[: end + 1]] = None
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "<eos>", *pieces])}
    return Qwen2Tokenizer(
        vocabulary, list(merges), unk_token="<pad>", eos_token="<eos>", pad_token="<pad>",
        add_prefix_space=True, model_max_length=CONTEXT,
    )  # fmt: skip


def build_model(settings: WarmUp, vocabulary: int) -> Qwen2ForCausalLM:
    """The laptop model with random weights."""
    torch.manual_seed(settings.seed)
    return Qwen2ForCausalLM(model_config(settings, vocabulary))


def model_config(settings: WarmUp, vocabulary: int) -> Qwen2Config:
    """A Qwen2 of about 0.7M parameters whose rotary angles are scaled to nothing: no positional encoding.

    The "llama3" rule divides every wavelength above `original_max_position_embeddings` by `factor`; with 1 and 1e9
    that is all of them.  It is the one spelling of "no positions" that both transformers and vLLM read from a config.
    """
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=settings.width,
        intermediate_size=3 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 1e9,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 1,
        },
    )


def warm_up(settings: WarmUp) -> tuple[Qwen2ForCausalLM, Qwen2Tokenizer]:
    """Train the base model: next-token loss on the answers to short lists, EOS included."""
    tokenizer = build_tokenizer()
    model = build_model(settings, len(tokenizer))
    draw = random.Random(settings.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / 100) * (1 - 0.9 * step / max(1, settings.steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for _ in tqdm(range(settings.steps), "warm-up of the base model"):
        ids, labels = _warm_up_batch(tokenizer, draw, settings.batch)
        logits = model(input_ids=ids).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval(), tokenizer


def _warm_up_batch(tokenizer: Any, draw: random.Random, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`size` solved lists -> ids and labels (size, T); prompts and padding carry the label -100."""
    rows = []
    for _ in range(size):
        words = draw.sample(WORDS, draw.choice(WARM_UP_LENGTHS))
        ascending = draw.random() < 0.5
        prompt = tokenizer(prompt_text(words, ascending))["input_ids"]
        answer = tokenizer(" ".join(sorted(words, reverse=not ascending)))["input_ids"] + [tokenizer.eos_token_id]
        rows.append((prompt, answer))
    width = max(len(p) + len(a) for p, a in rows)
    ids = torch.zeros(size, width, dtype=torch.long)
    labels = torch.full((size, width), -100)
    for row, (prompt, answer) in enumerate(rows):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    return ids, labels


def base_model_folder(settings: WarmUp, cache: Path) -> Path:
    """The warmed-up model as a Hugging Face folder, made once per settings and found again by their hash."""
    identity = json.dumps([asdict(settings), WORDS, list(WARM_UP_LENGTHS), torch.__version__])
    folder = cache / f"laptop-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if not folder.exists():
        model, tokenizer = warm_up(settings)
        unfinished = cache / f"{folder.name}.{os.getpid()}"
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        if folder.exists():  # another process was quicker
            shutil.rmtree(unfinished)
        else:
            unfinished.rename(folder)
    return folder
