"""`python -m prorl_scale.train` as tests start it: on a toy task, with a stand-in for vLLM where asked, with faults.

torchrun ... tests/scale_run.py vllm|stand-in none|skip|permute|stale ARGS...
"""

import itertools
import sys

import torch
from transformers import AutoModelForCausalLM

import prorl_mini as mini
from prorl_lab import laptop, tasks
from prorl_scale import train
from tests.test_mini import ToyTask


class Toy(ToyTask):
    """Prompts differ from problem to problem, so that a cursor which is off by one shows."""

    def problem(self, split, number, tier=None):
        words = (laptop.WORDS[(number * k) % 32] for k in (1, 5, 7))
        return tasks.Problem("toy", " ".join(words), {"contrast": True})


class StandIn:
    """What `Engine` does, by prorl_mini's sampler: for machines without vLLM."""

    dtype = torch.float32

    def __init__(self, folder, config, stop_ids, context=None):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.limit, self.stop_ids = config.max_new_tokens, stop_ids

    def generate(self, prompts, num_answers, temperature, generator):
        answers = mini.rollout(self.model, prompts, num_answers, self.limit, temperature, self.stop_ids, generator)
        groups = [answers[i : i + num_answers] for i in range(0, len(answers), num_answers)]
        return [
            [(ids, self.logprobs(prompt + ids, temperature)[len(prompt) - 1 :]) for ids in group]
            for prompt, group in zip(prompts, groups, strict=True)
        ]

    @torch.no_grad()
    def logprobs(self, row, temperature):
        ids = torch.tensor([row])
        return mini.token_logprobs(self.model(input_ids=ids).logits[:, :-1], ids[:, 1:], temperature)[0]

    def score(self, rows):
        return torch.cat([self.logprobs(row, 1.0) for row in rows])

    def push(self, weights):
        self.model.load_state_dict({name: weight.clone() for name, weight in weights})

    def sleep(self):
        pass


def faulty(engine_class, fault, at=3):
    """The engine with one push gone wrong: the third is the one after step 2."""

    class Faulty(engine_class):
        count = itertools.count(1)
        before = ()

        def push(self, weights):
            weights = [(name, weight.clone()) for name, weight in weights]  # gathers them, which is a collective
            before, self.before = self.before, weights
            if next(self.count) == at:
                if fault == "skip":
                    return
                weights = before if fault == "stale" else permuted(weights)
            super().push(weights)

    return Faulty


def permuted(weights):
    """Two layers' tensors of the same shape change places."""
    one, other = ("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight")
    by_name = dict(weights)
    return list({**by_name, one: by_name[other], other: by_name[one]}.items())


def main(sampler, fault, args):
    tasks.load_task = lambda config, stop_ids: Toy()
    engine = StandIn if sampler == "stand-in" else train.Engine
    on_one_rank = fault != "none" and train.os.environ["RANK"] == "1"  # the others must stop as well
    train.Engine = faulty(engine, fault) if on_one_rank else engine
    return train.main(args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
