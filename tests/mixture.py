"""A small mixture of the five domains, from real files where there are any, and a tiny model to write answers to it.

torchrun ... tests/mixture.py stand-in ARGS...   `python -m prorl_scale.train ARGS...` with a stand-in for vLLM
python -m tests.mixture DIR                      the mixture, and the files it is made from

Real, where PRORL_TEST_DATA names them: MATH's training file, HumanEval, IFEval's prompts.  STEM rows are always made
up, in SCP-116K's columns; puzzles are generated.
"""

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from prorl_scale import start, train
from prorl_scale.data import prepare
from tests.scale_run import StandIn

PUZZLES = ["propositional_logic", "n_queens", "countdown"]  # two of them evaluate answers as code: prorl_mini refuses
ROWS = {split: dict.fromkeys(("math", "code", "stem", "puzzle", "instruction"), n) for split, n in
        (("train", 24), ("validation", 3))}  # fmt: skip
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LIKELY = "PQ 01,._\n"  # what the tiny model writes most, beside answer tags


def real_file(name: str) -> Path | None:
    folder = os.environ.get("PRORL_TEST_DATA")
    return Path(folder, name) if folder else None


def math_records() -> list[dict[str, Any]]:
    if path := real_file("math/train_math.json"):
        return json.loads(path.read_text(encoding="utf-8"))[:60]
    return [{"problem": f"What is {i} + {i}?", "answer": str(2 * i), "solution": "..."} for i in range(60)]


def code_records() -> list[dict[str, Any]]:
    if path := real_file("code/HumanEval.jsonl.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file][:60]
        asked = [(r["prompt"], ["check(candidate)"], f"{r['test']}\ncandidate = {r['entry_point']}") for r in rows]
        truths = [(text, {"asserts": asserts, "setup": setup}) for text, asserts, setup in asked]
    else:
        truths = [
            (f"Read a number and print {i} more.", {"inputs": ["1\n"], "outputs": [f"{i + 1}"]}) for i in range(60)
        ]
    return [
        {
            "data_source": "a test",
            "ability": "code",
            "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": text}],
            "reward_model": {"style": "rule", "ground_truth": json.dumps(truth)},
        }
        for text, truth in truths
    ]


def stem_records() -> list[dict[str, Any]]:
    return [
        {
            "domain": "Physics",
            "problem": f"A body falls for {i} s at a constant speed of 2 m/s. How many metres does it fall?",
            "matched_solution": f"The distance is\n$s = vt = {2 * i}$ m.",
            "r1_response": f"<think>hm</think> So \\boxed{{{2 * i}}}.",
        }
        for i in range(1, 61)
    ]


def instruction_records() -> list[dict[str, Any]]:
    """Prompts that untrained text can obey or miss by chance: no comma."""
    rows = [
        {"prompt": f"Write about the number {i}, without commas.", "instruction_id_list": ["punctuation:no_comma"]}
        for i in range(60)
    ]
    if path := real_file("instruction_following/ifeval_input_data.jsonl"):
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        {
            "input": [{"role": "user", "content": row["prompt"]}],
            "args": {
                "instruction_id_list": row["instruction_id_list"],
                "instruction_kwargs": row.get("kwargs", [{}]),
            },
            "category": "instruction_following",
        }
        for row in rows
        if "punctuation:no_comma" in row["instruction_id_list"]
    ]


def prepared(folder: Path) -> Path:
    """Write the sources' files and prepare them -> the folder that `--task` takes."""
    made = {"math": math_records, "code": code_records, "stem": stem_records, "instruction": instruction_records}
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in made.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records()), encoding="utf-8")
    prepare.TASKS, prepare.RECIPES["test"] = PUZZLES, ROWS
    sources = [f"{name}={folder / name}.jsonl" for name in made]
    prepare.prepare(prepare.Prepare(folder / "mixture", recipe="test", source=sources))
    return folder / "mixture"


def byte_model(folder: Path) -> Path:
    """An untrained Qwen2 of 60,000 weights that reads bytes, with a chat template.

    It prefers the characters of `LIKELY` and answer tags: every embedding holds a common direction, and so do those
    characters' rows in the head.  Then answers of 16 tokens are of the right form now and then, and some are right.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    core.add_tokens(["<answer>", "</answer>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=False,
            eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    likely = [tokenizer(c)["input_ids"][0] for c in [*LIKELY, "<answer>", "</answer>"]]
    common = torch.nn.functional.normalize(torch.randn(64), dim=0)
    model.model.embed_tokens.weight.data.add_(common)
    model.lm_head.weight.data[likely] += common * 0.9  # hidden states are about 8 long along it
    model.lm_head.weight.data[tokenizer.eos_token_id] += common * 0.6
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main(args: list[str]) -> int:
    if args[0] != "stand-in":
        print(prepared(Path(args[0])))
        return 0
    start.Engine = StandIn
    return train.main(args[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
