"""What test_gpu.py runs under torchrun: trainer and vLLM in one process, through sleep, push, wake and a lost push.

torchrun ... tests/gpu_worker.py MODEL cpu|cuda float32|bfloat16 SLEEP_LEVEL RESULT.json
"""

import json
import sys
from pathlib import Path

import torch

from prorl_lab import models
from prorl_lab.errors import UserError
from prorl_mini import Sample
from prorl_scale import distributed, policy
from prorl_scale.config import Config
from prorl_scale.rollout import Canary, Engine

CONTEXT, ANSWER = 64, 24


@torch.no_grad()
def move(scorer):
    """Other weights, by more than bfloat16 rounds away."""
    for weight in scorer.parameters():
        weight.mul_(1.05)


def scores(scorer, rows, temperature):
    """The trainer's log-probs of all samples, end to end."""
    return torch.cat([logp for logp, _ in policy.score_samples(scorer, rows, 4096, temperature)])


def gap_of_answers(engine, scorer, prompts, generator):
    """Mean |log-prob of the sampler - of the trainer| over fresh answers, at the rollout's temperature."""
    groups = engine.generate(prompts, 4, 1.2, generator)
    pairs = [(Sample(p, ids), logp) for p, group in zip(prompts, groups, strict=True) for ids, logp in group]
    ours = scores(scorer, [sample for sample, _ in pairs], 1.2)
    return (torch.cat([logp for _, logp in pairs]) - ours).abs().mean().item()


def free_memory():
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0


def main(model, device, dtype, level, result):
    config = Config(
        model=model, device=device, dtype=dtype, sleep_level=int(level), max_new_tokens=ANSWER, rollout_batch=16,
        gradient_checkpointing=False, canary_tolerance=0.2,
    )  # fmt: skip
    with distributed.joined(device, 10) as closing:
        scorer, _, tokenizer = policy.load(config, model)
        engine = Engine(model, config, models.stop_ids(scorer.config, tokenizer), CONTEXT)
        closing.callback(engine.close)
        found = check(engine, scorer, torch.Generator(distributed.device(device)).manual_seed(0), config)
    Path(result).write_text(json.dumps(found), encoding="utf-8")
    return 0


def check(engine, scorer, generator, config):
    """Two pushes, the second to a sleeping engine, and one that is left out -> what was seen."""
    prompts = [[3 + (7 * i + k * k) % 30 for k in range(5 + i)] for i in range(4)]
    canary = Canary([[*prompt, *prompt] for prompt in prompts], config.canary_tolerance)
    rows = [Sample(row[:1], row[1:]) for row in canary.rows]
    found = {"canary": [], "answers": [], "freed": 0}
    before = None
    for asleep in (False, True):
        if asleep:
            free = free_memory()
            engine.sleep()
            found["freed"] = free_memory() - free
            before = canary.sampler
            move(scorer)
        engine.push(policy.full_weights(scorer, engine.dtype))
        found["canary"].append(canary.check(engine.score(canary.rows), scores(scorer, rows, 1.0)))
        found["answers"].append(gap_of_answers(engine, scorer, prompts, generator))
    found["moved"] = (canary.sampler - before).abs().mean().item()
    move(scorer)
    try:
        canary.check(engine.score(canary.rows), scores(scorer, rows, 1.0))
        found["left_out"] = "nothing was noticed"
    except UserError as error:
        found["left_out"] = str(error)
    return found


if __name__ == "__main__":
    distributed.leave(lambda: main(*sys.argv[1:]))
