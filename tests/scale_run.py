"""`python -m prorl_scale.train` as tests start it: on a toy task, with a stand-in for vLLM where asked, with faults.

torchrun ... tests/scale_run.py vllm|stand-in FAULT [--real-task] ARGS...   FAULT: none, or see `break_this_rank`
"""

import itertools
import os
import resource
import signal
import sys
import time

import torch
from torch.distributed.checkpoint import FileSystemWriter
from transformers import AutoModelForCausalLM

import prorl_mini as mini
from prorl_lab import laptop, tasks
from prorl_scale import distributed, rollout, start, train
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

    def generate(self, prompts, num_answers, temperature, source, finished):
        how = num_answers, self.limit, temperature, self.stop_ids
        if isinstance(source, list):
            each = zip(prompts, source, strict=True)
            groups = [mini.rollout(self.model, [p], *how, torch.Generator().manual_seed(seed)) for p, seed in each]
        else:
            answers = mini.rollout(self.model, prompts, *how, source)
            groups = [answers[i : i + num_answers] for i in range(0, len(answers), num_answers)]
        written = [
            [(ids, self.logprobs(prompt + ids, temperature)[len(prompt) - 1 :]) for ids in group]
            for prompt, group in zip(prompts, groups, strict=True)
        ]
        for place in reversed(range(len(written))):  # vLLM, too, finishes in an order of its own
            finished(place, written[place])
        return written

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

    def close(self):
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


def every_loss_is_nan(after, gradient_alone=False):
    """micro_loss that gives NaN on this rank, once `after` steps were trained; or one whose gradient alone is NaN."""
    healthy = train.micro_loss

    def micro_loss(run, *args):
        loss, sums, scores = healthy(run, *args)
        if run.state.step < after:
            return loss, sums, scores
        if gradient_alone:
            loss.register_hook(lambda gradient: gradient * float("nan"))
            return loss, sums, scores
        return loss * float("nan"), {**sums, "loss": sums["loss"] * float("nan")}, scores

    return micro_loss


def after_step(step, act):
    """train_step that does something else on this rank in place of the step after `step`."""
    healthy = train.train_step

    def train_step(run):
        if run.state.step == step:
            act()
        healthy(run)

    return train_step


def slow_writer(saves):
    """A checkpoint writer that takes a minute from the save after `saves` on."""
    healthy, count = FileSystemWriter.write_data, itertools.count()

    def write_data(self, *args):
        if next(count) >= saves:
            time.sleep(60)
        return healthy(self, *args)

    return write_data


def fill_the_disk():
    """No file of this process may grow beyond a kilobyte; a write that would fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def break_this_rank(fault):
    """What happens on one rank alone; the others must notice."""
    if fault in ("skip", "permute", "stale"):
        start.Engine = faulty(start.Engine, fault)
    elif fault in ("nan", "nan-gradient"):
        train.micro_loss = every_loss_is_nan(after=2, gradient_alone=fault == "nan-gradient")
    elif fault == "die":
        train.train_step = after_step(2, lambda: os.kill(os.getpid(), signal.SIGKILL))
    elif fault == "hang":
        train.train_step = after_step(2, lambda: time.sleep(600))
    elif fault == "full-disk":
        train.train_step = after_step(2, fill_the_disk)
    elif fault == "no-vllm":
        sys.modules["vllm"] = None  # `import vllm` then fails
        start.Engine = rollout.Engine
    elif fault != "none":
        raise ValueError(fault)


def main(sampler, fault, args):
    if args[:1] != ["--real-task"]:
        tasks.load_task = lambda config, stop_ids, sandboxed: Toy()
    if sampler == "stand-in":
        start.Engine = StandIn
    if fault == "slow-save":
        FileSystemWriter.write_data = slow_writer(saves=1)
    elif os.environ["RANK"] == "1" or os.environ["WORLD_SIZE"] == "1":
        break_this_rank(fault)
    return train.main([arg for arg in args if arg != "--real-task"])


if __name__ == "__main__":
    distributed.leave(lambda: main(sys.argv[1], sys.argv[2], sys.argv[3:]))
