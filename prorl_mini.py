"""ProRL in one file: GRPO that can keep improving for thousands of steps.

GRPO samples G answers per prompt, scores them, and makes the better ones of each group more likely.  Run long enough it
may stall: the policy turns deterministic and stops exploring, or it is held back by its distance to a reference that
never moves.  ProRL (Liu et al. 2025, arXiv 2505.24864) adds what its authors say kept it going: a clip range wider
above than below, dynamic sampling, hot rollouts (temperature 1.2), and a small KL penalty to a reference that is now
and then RESET to the policy.  The paper does not state the level of its loss; the token level is a choice.

    make mini                                             a tiny model on a CPU, in minutes
    python prorl_mini.py --help                           every setting
    python prorl_mini.py --no-reset --kl-coef 0 --eps-high 0.2 --no-dynamic-sampling --loss-level sample
                                                          plain GRPO is ProRL with flags off
    python prorl_mini.py --model DIR --task leg_counting  a Hugging Face model on one GPU

Read from top to bottom, which is the order in which a training step runs its stages,

    prompts -> rollout -> reward -> advantage -> logprobs -> loss -> step -> reset -> eval

but that `train`, at the end, runs eval before reset, which reads its score.  Each is handed the `run`: settings,
models, task, state; `run.NAME` stands in the list of `Run`.  Later papers: `prorl_v2.py`; many GPUs: `prorl_scale/`.
Letters:
    P prompts   G answers per prompt   B answers in a batch   T tokens   N answer tokens   V vocabulary   D hidden width
"""

from __future__ import annotations

import prorl_lab.openmp  # noqa: F401  before torch, which reads once how its threads are to wait

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from prorl_lab import adapters, cli, lean, models, report, settings, tasks
from prorl_lab.bars import tqdm
from prorl_lab.ledger import RECENT_ROUNDS, Ledger, prompts_to_draw, verified
from prorl_lab.models import DynamicCache
from prorl_lab.run_folder import GracefulStop, RunFolder
from prorl_lab.seeds import derived
from prorl_lab.shapes import LOGITS_AT_ONCE


@dataclass
class Config(settings.Common):
    """The algorithm's settings.  Those of model, folder and machine, and what None becomes: `prorl_lab.settings`."""

    steps: int | None = None
    # rollout
    prompts_per_step: int | None = None  # P
    answers_per_prompt: int = 16  # G
    temperature: float = 1.2  # of sampling AND scoring; there is no top-p or top-k, see `rollout`
    max_new_tokens: int | None = None
    max_prompt_tokens: int | None = None  # a longer prompt is an error; None: what leaves room for an answer
    dynamic_sampling: bool = True
    draw: Literal["adaptive", "rounds"] = "adaptive"  # prompts of a round: what should do, or P each time as in ProRL
    max_rounds: int = 4  # cap on a step's generation rounds, and on its prompts: so many times P
    # reward and loss
    binary_reward: bool | None = None  # partly right earns 0; otherwise the task's own score in [0, 1]
    zero_truncated: bool = False  # an answer cut off by max_new_tokens earns 0
    updates_per_step: int = 4
    eps_low: float = 0.2
    eps_high: float = 0.4
    loss_level: Literal["token", "sample"] = "token"
    kl_kind: Literal["k1", "k2", "k3"] = "k3"
    kl_coef: float | None = None
    learning_rate: float | None = None
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    max_bad_steps: int = 5  # give up after so many in a row without contrast, or with a loss that is not finite
    # reset
    reset: bool = True
    reset_steps: list[int] = field(default_factory=list)  # steps after which to reset, whatever else holds
    reset_every: int | None = None  # steps; 0: no fixed interval
    reset_on_stall: int = 0  # evaluations in a row without a new best; 0: never for that
    reset_margin: float = 0.0  # by how much a new best must exceed the one before
    reset_on_drop: float = 0.0  # fall of the validation score below its best since the last reset; 0: never for that
    reset_min_spacing: int = 20  # steps; does not bind reset_steps
    reset_keeps_optimizer: bool = False
    # eval
    eval_every: int | None = None  # 0: never
    eval_sets: dict[str, float] | None = None  # weight of each tier in the validation score; None: all alike
    eval_prompts: int | None = None  # per tier, for the validation score
    eval_answers: int = 4
    eval_temperature: float | None = None
    boundary_prompts: int | None = None  # per tier, for pass@k of base, middle and final; 0: skip
    boundary_answers: int | None = None


@dataclass
class State:
    """What a run changes besides weights; saved with them."""

    step: int = 0
    cursor: int = 0  # number of the next training problem
    surplus: deque = field(default_factory=deque)  # groups generated and not yet trained on
    draws: list = field(default_factory=list)  # (prompts drawn, groups kept) of the last rounds
    last_reset: int = 0
    resets: int = 0
    bad_steps: int = 0  # in a row
    any_contrast: bool = False  # has any group ever been fit to train on
    seconds: float = 0.0
    history: list = field(default_factory=list)  # (step, validation score)
    boundary: dict = field(default_factory=dict)  # "base" | "middle" | "final" -> tier -> pass@k


# ============================================================================ 1. prompts


@dataclass
class Sample:
    """One answer and what each stage adds to it.  Plain lists of ids; `make_batch` alone pads."""

    prompt: list[int]
    answer: list[int]  # ends in EOS unless it was cut off
    truncated: bool = False
    reward: float | None = 0.0  # raw, before shaping; None: it could not be verified
    advantage: float = 0.0
    old_logp: Tensor | None = None  # (answer length,) under the policy that wrote it
    ref_logp: Tensor | None = None  # (answer length,) under the reference
    entropy: float = 0.0  # summed over the answer's tokens, where trained on
    sampler_entropy: float = 0.0  # the same as the rollout saw it, of every answer

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def draw_prompts(run: Run, count: int) -> tuple[list[tasks.Problem], list[list[int]]]:
    """The next `count` training problems, and the ids of their prompts."""
    problems = [run.task.problem("train", run.state.cursor + i) for i in range(count)]
    run.state.cursor += count  # the whole state of the data: a problem is a pure function of its number
    return problems, [encode(run, problem) for problem in problems]


def encode(run: Run, problem: tasks.Problem) -> list[int]:
    """Token ids of a prompt that leaves room for an answer.  Raises UserError where it does not."""
    return settings.that_fits(tasks.prompt_ids(run.tokenizer, problem.prompt), run.policy.config, run.config)


# ============================================================================ 2. rollout


@models.weights_stay
@torch.no_grad()
def rollout(
    policy: Any, prompts: list[list[int]], num_answers: int, max_new_tokens: int, temperature: float,
    stop_ids: list[int], generator: torch.Generator, entropy: Tensor | None = None,
) -> list[list[int]]:  # fmt: skip
    """Sample `num_answers` answers to each prompt -> len(prompts) * num_answers lists of ids, EOS included.

    Tokens come from the whole softmax(logits / temperature).  Cutting its tail (top-p, top-k) would make the
    sampler another distribution than the one `token_logprobs` scores, and bias every ratio that follows.
    entropy: (B,) to which each answer's is added, for the whole distribution is at hand; also of what is dropped later.
    """
    ids, seen = pad_left(prompts, policy.device)
    cache = DynamicCache(config=policy.config)
    hidden = hidden_states(policy, ids, seen, cache)[:, -1].repeat_interleave(num_answers, 0)  # (B, D)
    cache.batch_repeat_interleave(num_answers)  # each prompt is read once, not G times
    seen = seen.repeat_interleave(num_answers, 0)
    answers: list[list[int]] = [[] for _ in range(len(prompts) * num_answers)]
    writing = torch.arange(len(answers), device=policy.device)  # the answers that are not finished yet
    stop = torch.tensor(stop_ids, device=policy.device)
    for length in range(1, max_new_tokens + 1):
        chances = F.softmax(models.logits(policy, hidden).float() / temperature, -1)  # (rows, V)
        token = torch.multinomial(chances, 1, generator=generator)  # (rows, 1)
        if entropy is not None:
            entropy[writing] += torch.special.entr(chances).sum(-1)
        for row, value in zip(writing.tolist(), token[:, 0].tolist(), strict=True):
            answers[row].append(value)
        unfinished = ~torch.isin(token[:, 0], stop)
        if length == max_new_tokens or not unfinished.any():
            break
        if not unfinished.all():  # drop finished rows, or all would pay for the longest answer
            keep = unfinished.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            writing, token, seen = writing[keep], token[keep], seen[keep]
        seen = F.pad(seen, (0, 1), value=True)
        hidden = hidden_states(policy, token, seen, cache)[:, -1]
    return answers


def pad_left(prompts: list[list[int]], device: Any) -> tuple[Tensor, Tensor]:
    """-> ids (P, T), seen (P, T) bool.  All prompts end in the last column, so all answers start in the next."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    seen = torch.tensor([[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts], device=device)
    return ids, seen


def hidden_states(model: Any, ids: Tensor, seen: Tensor, cache: DynamicCache | None = None) -> Tensor:
    """The model's last layer (B, T, D) on the new `ids` (B, T); `seen` (B, cached + T) is False on padding."""
    positions = (seen.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]  # padding takes no position
    inputs = {"input_ids": ids, "attention_mask": seen.long(), "position_ids": positions}
    return model.base_model(**inputs, past_key_values=cache, use_cache=cache is not None).last_hidden_state


def rollout_all(run: Run, prompts: list, num_answers: int, temperature: float, generator) -> Iterator[list]:
    """`rollout`, at most `rollout_batch` answers side by side; yields each prompt's (ids of an answer, its entropy)."""
    per_call = max(1, run.config.rollout_batch // num_answers)
    limit, stop_ids = run.config.max_new_tokens, run.task.stop_ids
    for start in tqdm(range(0, len(prompts), per_call), "rollout", leave=False, disable=len(prompts) <= per_call):
        some = prompts[start : start + per_call]
        entropy = torch.zeros(len(some) * num_answers, device=run.policy.device)
        answers = rollout(run.policy, some, num_answers, limit, temperature, stop_ids, generator, entropy)
        both = list(zip(answers, entropy.tolist(), strict=True))
        yield from (both[i : i + num_answers] for i in range(0, len(both), num_answers))


# ============================================================================ 3. reward


def score_answers(run: Run, problems: list[tasks.Problem], answers: list[list[list[int]]]) -> list[list[float]]:
    """Verify every answer: P problems, P x G answers -> P x G raw rewards in [0, 1]."""
    return [
        run.task.score([(problem, text) for text in tasks.responses(run.tokenizer, problem, group, run.task.stop_ids)])
        for problem, group in zip(problems, answers, strict=True)
    ]


def has_contrast(rewards: Tensor, tol: float = 1e-6) -> Tensor:
    """Which groups can teach anything: (P, G) raw rewards -> (P,) bool.

    Equal rewards give advantages of 0.  By range, not `std() > 0`: sixteen equal floats may miss their rounded mean.

    >>> has_contrast(torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.1, 0.1]]))
    tensor([ True, False, False])
    """
    return rewards.amax(-1) - rewards.amin(-1) > tol


def write_answers(
    run: Run, problems: list, prompts: list, num_answers: int, temperature: float, generator: Any, ledger: Ledger
) -> list[list[Sample]]:
    """Rollout and reward: P problems and their prompts -> P groups of `num_answers` samples with raw rewards."""
    with ledger.clock("generate"):
        written = list(rollout_all(run, prompts, num_answers, temperature, generator))
    with ledger.clock("reward"):
        rewards = score_answers(run, problems, [[ids for ids, _ in group] for group in written])
    ends = run.task.stop_ids
    return [
        [Sample(p, ids, ids[-1] not in ends, r, sampler_entropy=h) for (ids, h), r in zip(group, scores, strict=True)]
        for p, group, scores in zip(prompts, written, rewards, strict=True)
    ]


def collect_groups(run: Run) -> tuple[list[list[Sample]], Ledger]:
    """Dynamic sampling with refill (ProRL 2.3, after DAPO 3.2): up to P groups with contrast for this step.

    Groups without contrast are dropped and replaced from fresh prompts; those beyond P wait for the next step, at most
    P (2 P in all), or some would wait longer; at most `max_rounds`.  Without dynamic sampling none need have contrast.
    """
    config, surplus, ledger = run.config, run.state.surplus, Ledger()
    want = config.prompts_per_step
    for _ in range(config.max_rounds if config.dynamic_sampling else 1):  # what drops nothing is full after one
        if not (count := prompts_to_draw(want - len(surplus), run.state.draws, len(ledger.groups), config)):
            break  # full, or all drawn that a step may draw: see `prompts_to_draw`
        problems, prompts = draw_prompts(run, count)
        groups = run.write(problems, prompts, config.answers_per_prompt, config.temperature, run.generator, ledger)
        for problem, group in zip(problems, groups, strict=True):
            known = verified(group)  # an answer that could not be judged is neither paid nor punished
            for sample in known if config.binary_reward else []:  # the filter then sees right or wrong
                sample.reward = float(sample.reward >= 1)
            fit = not config.dynamic_sampling or has_contrast(torch.tensor([[s.reward for s in known] or [0.0]])).item()
            ledger.add(problem.tier, group, kept := fit and len(known) > 1 and len(surplus) < 2 * want)
            if kept:  # two answers at least, else there is nothing to compare, and room in the queue
                surplus.append(known)
        run.state.draws = [*run.state.draws, (count, ledger.kept(count))][-RECENT_ROUNDS:]
    return [surplus.popleft() for _ in range(min(want, len(surplus)))], ledger


# ============================================================================ 4. advantage


def group_advantages(rewards: Tensor) -> Tensor:
    """How much better than its group an answer is: (P, G) -> (P, G), (r - mean) / (std + 1e-6).

    ProRL eq. 2; std with Bessel's correction (ddof = 1), as in the code base the paper trained with.  A group without
    contrast gives exact zeros, not rounding noise divided by 1e-6.

    >>> group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]])).round(decimals=3)
    tensor([[ 0.8660, -0.8660, -0.8660,  0.8660],
            [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """
    centered = rewards - rewards.mean(-1, keepdim=True)
    advantages = centered / (rewards.std(-1, keepdim=True) + 1e-6)
    return torch.where(has_contrast(rewards)[:, None], advantages, torch.zeros_like(advantages))


def add_advantages(run: Run, groups: list[list[Sample]]) -> None:
    """Compare each answer with its group, cut ones as wrong where asked: AFTER the filter, which sees them all."""
    for group in groups:
        rewards = [0.0 if run.config.zero_truncated and s.truncated else s.reward for s in group]
        for sample, advantage in zip(group, group_advantages(torch.tensor([rewards]))[0].tolist(), strict=True):
            sample.advantage = advantage


# ============================================================================ 5. logprobs


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Log-prob of the given ids under softmax(logits / temperature): (B, T, V), (B, T) -> (B, T).

    The temperature must be the sampler's.  Sampling at 1.2 and scoring at 1.0 makes even the first update off-policy.

    >>> token_logprobs(torch.tensor([[[0.0, 0.0]]]), torch.tensor([[1]]), 1.2).exp()
    tensor([[0.5000]])
    """
    return F.log_softmax(logits / temperature, -1).gather(-1, ids[..., None])[..., 0]


def token_entropy(logits: Tensor, temperature: float) -> Tensor:
    """Entropy in nats of softmax(logits / temperature): (B, T, V) -> (B, T).  A word ruled out (-inf) adds 0."""
    return torch.special.entr(F.softmax(logits / temperature, -1)).sum(-1)  # entr: -p log p, and 0 at p = 0


@dataclass
class Batch:
    """B answers to U distinct prompts: prompts padded on the left, answers on the right."""

    prompts: Tensor  # (U, W) ids
    seen: Tensor  # (U, W) False on padding
    owner: Tensor  # (B,) the row of its prompt
    answers: Tensor  # (B, T) ids
    mask: Tensor  # (B, T) True on answer tokens


def make_batch(samples: list[Sample], device: Any) -> Batch:
    """Pad B samples.  EOS is in the mask: a policy that is not trained on stopping never learns to stop."""
    rows: dict[tuple[int, ...], int] = {}
    owner = [rows.setdefault(tuple(s.prompt), len(rows)) for s in samples]
    prompts, seen = pad_left([list(prompt) for prompt in rows], device)
    answers = pad_sequence([torch.tensor(s.answer) for s in samples], batch_first=True).to(device)
    lengths = torch.tensor([len(s.answer) for s in samples], device=device)
    mask = torch.arange(answers.shape[1], device=device) < lengths[:, None]
    return Batch(prompts, seen, torch.tensor(owner, device=device), answers, mask)


def split_microbatches(samples: list[Sample], max_tokens: int) -> list[list[Sample]]:
    """Cut into micro-batches of at most `max_tokens` padded tokens, or one sample.  `policy_loss`: no cut matters."""
    batches: list[list[Sample]] = []
    for sample in sorted(samples, key=len, reverse=True):  # by length, so that little is padding
        if not batches or len(batches[-1][0]) * (len(batches[-1]) + 1) > max_tokens:
            batches.append([])
        batches[-1].append(sample)
    return batches


def hidden_before_answers(model: Any, batch: Batch) -> Tensor:
    """What the model knows just before each answer token: (B, T, D).

    As in `rollout`, a prompt is read once and its G answers go on from its keys and values, gradient included.  Only
    in training mode, which is that of gradient checkpointing and allows no cache, each answer is read with its prompt.
    """
    seen = torch.cat([batch.seen[batch.owner], batch.mask[:, :-1]], 1)  # an answer's last token predicts nothing
    if model.training:
        ids = torch.cat([batch.prompts[batch.owner], batch.answers[:, :-1]], 1)
        return hidden_states(model, ids, seen)[:, batch.prompts.shape[1] - 1 :]
    cache = DynamicCache(config=model.config)
    first = hidden_states(model, batch.prompts, batch.seen, cache)[batch.owner, -1:]  # (B, 1, D)
    if batch.answers.shape[1] == 1:
        return first
    cache.batch_select_indices(batch.owner)
    return torch.cat([first, hidden_states(model, batch.answers[:, :-1], seen, cache)], 1)


def answer_logprobs(model: Any, batch: Batch, temperature: float, with_entropy: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probs (and entropies) of the answer tokens -> (B, T), (B, T), zero outside the mask.

    The head is the largest matrix of a small model: logits of 8,192 tokens over 151,936 words take 5 GB.  So it is
    applied to the N answer tokens only, in chunks whose logits are recomputed in the backward pass.
    """
    before, target = hidden_before_answers(model, batch)[batch.mask], batch.answers[batch.mask]  # (N, D), (N,)

    def score(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        logits = models.logits(model, h).to(torch.promote_types(h.dtype, torch.float32))  # never a softmax in bfloat16
        entropy = token_entropy(logits.detach(), temperature) if with_entropy else torch.zeros_like(logits[:, 0])
        return token_logprobs(logits[None], t[None], temperature)[0], entropy

    chunk = max(256, LOGITS_AT_ONCE // len(model.get_output_embeddings().weight))
    parts = [
        checkpoint(score, h, t, use_reentrant=False) if torch.is_grad_enabled() and len(target) > chunk else score(h, t)
        for h, t in zip(before.split(chunk), target.split(chunk), strict=True)
    ]
    logp, entropy = (torch.cat(column) for column in zip(*parts, strict=True))
    blank = torch.zeros(batch.mask.shape, dtype=logp.dtype, device=logp.device)
    return blank.masked_scatter(batch.mask, logp), blank.masked_scatter(batch.mask, entropy)


@torch.no_grad()
def score_samples(model: Any, samples: list[Sample], config: Config, with_entropy: bool = False) -> Iterator[tuple]:
    """Log-probs without a gradient: yields (sample, (answer length,) log-probs, (answer length,) entropies)."""
    for part in split_microbatches(samples, config.microbatch_tokens):
        both = answer_logprobs(model, make_batch(part, model.device), config.temperature, with_entropy)
        logp, entropy = (values.cpu() for values in both)
        for row, sample in enumerate(part):
            yield sample, logp[row, : len(sample.answer)], entropy[row, : len(sample.answer)]


def add_logprobs(run: Run, groups: list[list[Sample]]) -> None:
    """Old log-probs of all that was just written, surplus included, and reference log-probs of what is trained on.

    The old ones are recomputed and not taken from the sampler, so that the first update's ratio is 1.  They are
    computed once: a surplus group keeps those of the policy that wrote it.
    """
    new = [s for group in [*groups, *run.state.surplus] for s in group if s.old_logp is None]
    for sample, logp, entropy in score_samples(run.policy, new, run.config, with_entropy=True):
        sample.old_logp, sample.entropy = logp, entropy.sum().item()
    # Cut as `update` will cut: then a reference that was just reset scores the very same numbers as the policy does.
    with lean.present(run.reference if run.config.kl_coef > 0 else None, run.policy.device):
        for part in mini_batches(groups, run.config.updates_per_step) if run.config.kl_coef > 0 else []:
            for sample, logp, _ in score_samples(run.reference, part, run.config):
                sample.ref_logp = logp


def mini_batches(groups: list[list[Sample]], count: int) -> list[list[Sample]]:
    """Whole groups in at most `count` parts, whose sizes differ by one at most: each part is one step, small or not."""
    parts = np.array_split(np.arange(len(groups)), count)
    return [[s for i in part for s in groups[i]] for part in parts if len(part)]


# ============================================================================ 6. loss


def policy_loss(
    logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, num_tokens: int | Tensor,
    eps_low: float = 0.2, eps_high: float = 0.4,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The clipped surrogate, token level: (B, T) log-probs -> scalar to MINIMISE, and detached sums.

        loss = - 1/num_tokens * sum over answer tokens of min(ratio * A, clip(ratio, 1 - eps_low, 1 + eps_high) * A)

    ProRL eq. 1-3 (decoupled clip from DAPO, eq. 10), ratio = exp(logp - old_logp).  The upper bound is the wider one:
    a token of probability 0.01 is pushed until 0.014 and not just 0.012, which is meant for rare tokens.
    `min` makes the bound one-sided: a move in the wrong direction is never clipped, short of a ratio of e^20.

    advantages: (B, 1) or (B, T).  mask: (B, T), bool, or float weights per token (`token_weights`); what lies outside
    it may be garbage.  num_tokens: answer tokens of the WHOLE mini-batch, over all micro-batches (and ranks).  So
    losses of micro-batches add up to the loss of the mini-batch, and the gradient does not depend on the cut.

    >>> loss, sums = policy_loss(torch.tensor([[0.5]]).log(), torch.tensor([[0.25]]).log(),
    ...                          torch.tensor([[1.0]]), torch.tensor([[True]]), 1)
    >>> round(loss.item(), 3), sums["clip_high"].item()   # ratio 2 is cut to 1.4
    (-1.4, 1)
    """
    inside = mask > 0
    # `where` before `exp`: exp of garbage is inf, and the gradient of inf * 0 is NaN.  e^20 is still a number.
    log_ratio = torch.where(inside, logp - old_logp, torch.zeros_like(logp)).clamp(-20, 20)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - eps_low, 1 + eps_high)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    loss = -(torch.where(inside, surrogate, 0.0) * mask).sum() / max(1, num_tokens)  # outside, A may be NaN
    sums = {  # comparisons have no gradient; outside the mask the ratio is 1
        "clip_high": ((ratio > 1 + eps_high) & (advantages > 0)).sum(),
        "clip_low": ((ratio < 1 - eps_low) & (advantages < 0)).sum(),
        "tokens": inside.sum(),
    }
    return loss, sums


def token_weights(mask: Tensor, num_tokens: int, num_answers: int, level: str) -> Tensor:
    """Weights that turn the token-level mean into the asked one: (B, T) bool -> (B, T) float.

    "token": each token of the mini-batch counts the same, so long answers weigh more (DAPO, Dr. GRPO).
    "sample": each answer counts the same (the original GRPO), so a token of a long answer weighs less.
    """
    weights = mask.to(torch.float32)
    if level == "sample":
        weights = weights * num_tokens / (num_answers * weights.sum(-1, keepdim=True).clamp(min=1))
    return weights


def kl_estimate(logp: Tensor, ref_logp: Tensor, kind: str) -> Tensor:
    """Per-token estimate of KL(policy || reference) from the policy's own samples: (B, T), (B, T) -> (B, T).

    With d = ref_logp - logp (Schulman 2020, "Approximating KL divergence"), for one token, on-policy:
        k1 = -d            unbiased value; its gradient is 0 on average, so useless as a loss
        k2 = d^2 / 2       biased value; right gradient of KL(policy || reference)
        k3 = e^d - d - 1   unbiased value, never negative; gradient of KL(reference || policy)
    d is clamped to +-10 before the exp: e^d of one token must not drown the batch.

    >>> kl_estimate(torch.tensor([0.5]).log(), torch.tensor([0.25]).log(), "k3").round(decimals=4)
    tensor([0.1931])
    """
    d = (ref_logp - logp).clamp(-10, 10)
    if kind == "k1":
        return -d
    if kind == "k2":
        return d**2 / 2
    if kind == "k3":
        return d.exp() - d - 1
    raise ValueError(f"kl kind is k1, k2 or k3, not {kind!r}")


def penalized_loss(
    logp: Tensor, old_logp: Tensor, ref_logp: Tensor | None, advantages: Tensor,
    weights: Tensor, num_tokens: int, config: Config,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """What an update minimises, `policy_loss` + kl_coef * KL: (B, T) inputs -> scalar, and detached sums.

    weights: (B, T) from `token_weights`.  ref_logp None: no penalty.  The KL is in the loss, not in the reward; its
    figure, "kl", is the mean over tokens, whatever their weights.
    """
    loss, sums = policy_loss(logp, old_logp, advantages, weights, num_tokens, config.eps_low, config.eps_high)
    if ref_logp is not None:
        logp, ref_logp = (torch.where(weights > 0, x, torch.zeros_like(x)) for x in (logp, ref_logp))
        kl = kl_estimate(logp, ref_logp, config.kl_kind)
        loss = loss + config.kl_coef * ((kl * weights).sum() / max(1, num_tokens))
        sums["kl"] = kl.detach().sum() / max(1, num_tokens)
    return loss, sums


# ============================================================================ 7. step


def update(run: Run, samples: list[Sample]) -> dict[str, float]:
    """One optimizer step on one mini-batch; skipped, and counted, where the loss or gradient is not finite."""
    config, policy = run.config, run.policy
    num_tokens = sum(len(s.answer) for s in samples)  # of the whole mini-batch: see `policy_loss`
    sums = dict.fromkeys(("loss", "kl", "clip_low", "clip_high", "tokens"), 0.0)
    for part in split_microbatches(samples, config.microbatch_tokens):
        batch = make_batch(part, policy.device)
        logp, _ = answer_logprobs(policy, batch, config.temperature)  # (B, T), as all below
        old_logp = pad_sequence([s.old_logp for s in part], batch_first=True).to(logp)
        advantages = torch.tensor([[s.advantage] for s in part]).to(logp)  # (B, 1)
        weights = token_weights(batch.mask, num_tokens, len(samples), config.loss_level).to(logp)
        ref_logp = pad_sequence([s.ref_logp for s in part], batch_first=True).to(logp) if config.kl_coef > 0 else None
        loss, stats = run.loss(logp, old_logp, ref_logp, advantages, weights, num_tokens, config)
        loss.backward()
        for key, value in {**stats, "loss": loss.detach()}.items():
            sums[key] += value.item()
    grad_norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config.grad_clip).item()
    finite = math.isfinite(sums["loss"]) and math.isfinite(grad_norm)
    if finite:
        run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return {**sums, "grad_norm": grad_norm, "skipped": float(not finite)}


def update_all(run: Run, groups: list[list[Sample]]) -> dict[str, float | None]:
    """`updates_per_step` updates over mini-batches of whole groups; the clip acts from the second on."""
    run.policy.train(run.config.gradient_checkpointing)  # transformers checkpoints in training mode only
    results = [run.update(part) for part in mini_batches(groups, run.config.updates_per_step)]
    run.policy.eval()
    tokens = max(1, sum(result["tokens"] for result in results))
    measured = run.config.kl_coef > 0  # costs a reference pass; before the first update since a reset exactly 0
    return {
        **{key: sum(result[key] for result in results) / len(results) for key in ("loss", "grad_norm")},
        "kl": sum(result["kl"] * result["tokens"] for result in results) / tokens if measured else None,
        "kl_first": results[0]["kl"] if measured else None,
        **{key: sum(result[key] for result in results) / tokens for key in ("clip_low", "clip_high")},
        "skipped_updates": int(sum(result["skipped"] for result in results)),
    }


# ============================================================================ 8. reset


def should_reset(step: int, last_reset: int, history: list[tuple[int, float]], config: Config) -> str | None:
    """Why the reference should be reset now, or None.  Each rule has a setting of its own.

    history: (step, validation score), oldest first.  The paper resets "when validation stagnates or degrades" and gives
    no number (2.3.1): the rules' exact form is a choice.
    """
    since = step - last_reset
    if not config.reset or since == 0:  # 0: this step has had its reset, or none was trained yet
        return None
    if step in config.reset_steps:
        return "the settings name this step"
    if since < config.reset_min_spacing:
        return None
    if config.reset_every and since >= config.reset_every:
        return f"{since} steps since the last reset"
    drop, patience = config.reset_on_drop, config.reset_on_stall
    here = [score for at, score in history if at >= last_reset]  # with the one at the reset: where this leg began
    if drop and here and here[-1] < max(here) - drop:
        return f"validation fell from {max(here):.3f} to {here[-1]:.3f}"
    recent = [score for at, score in history if at > last_reset][-patience:]
    if patience and len(recent) == patience:
        before = [score for _, score in history][:-patience]  # of the whole run: winning back is no new best
        if max(recent) <= max(before, default=-math.inf) + config.reset_margin:
            return f"no new best in {patience} evaluations"
    return None


@torch.no_grad()
def reset_reference(policy: Any, reference: Any, optimizer: Any, keep_optimizer: bool = False) -> None:
    """ProRL's reset (2.3.1): the reference becomes a hard copy of the policy, and the optimizer starts afresh.

    Afterwards KL is exactly 0 and the penalty pulls towards the new policy instead of the old base.  ProRL clears
    Adam's moments as well, ProRLv2 keeps them (`keep_optimizer`).
    """
    for ours, theirs in zip(reference.parameters(), policy.parameters(), strict=True):
        ours.copy_(theirs)
    for ours, theirs in zip(reference.buffers(), policy.buffers(), strict=True):
        ours.copy_(theirs)
    if not keep_optimizer:
        optimizer.state.clear()


def reset_if_due(run: Run, reason: str | None = None) -> bool:
    """Reset where `should_reset` has a reason, or a caller, who minds `--no-reset` and spacing -> whether it did."""
    state, config = run.state, run.config
    reason = should_reset(state.step, state.last_reset, state.history, config) or reason
    if reason is None:
        return False
    run.reset_reference(run.policy, run.reference, run.optimizer, config.reset_keeps_optimizer)
    state.last_reset, state.resets = state.step, state.resets + 1
    run.folder.event("reset", step=state.step, resets=state.resets, reason=reason)
    return True


# ============================================================================ 9. eval


def pass_at_k(n: Any, c: Any, k: Any) -> Any:
    """Chance that at least one of k answers is right, from c right ones among n: 1 - C(n-c, k) / C(n, k).

    Unbiased (Chen et al. 2021, arXiv 2107.03374, eq. 1); 1 - (1 - c/n)^k is not.  Numbers or arrays; k <= n.

    >>> float(pass_at_k(4, 1, 2)), pass_at_k(4, np.array([0, 4]), 4).tolist()
    (0.5, [0.0, 1.0])
    """
    if np.any(np.asarray(k) > np.asarray(n)):
        raise ValueError(f"pass@k needs k <= n, got k={k} and n={n}")
    return np.vectorize(lambda n, c, k: 1.0 - math.comb(n - c, k) / math.comb(n, k), otypes=[float])(n, c, k)


def evaluate(run: Run, split: str, prompts: int, answers: int, tiers: list[str]) -> dict[str, np.ndarray]:
    """Answer up to so many prompts of these tiers -> tier: (prompts, answers) bool, is it right (raw score 1)?"""
    generator = torch.Generator(run.policy.device).manual_seed(derived(split, run.config.seed))  # not training's
    asked = {tier: tasks.held_out(run.task, split, tier, prompts) for tier in tiers}  # none that is trained on
    problems = [problem for some in asked.values() for problem in some]
    encoded = [encode(run, problem) for problem in problems]
    # All tiers at once, so that the longest answer is waited for once.
    groups = run.write(problems, encoded, answers, run.config.eval_temperature, generator, Ledger())
    run.folder.samples(run, split, problems, groups)  # a few answers for people to read
    right = iter([[(s.reward or 0.0) >= 1 for s in group] for group in groups])
    return {tier: np.array([next(right) for _ in some]) for tier, some in asked.items()}


def validate(run: Run) -> None:
    """Note and log pass@1 on held-out prompts, averaged over tiers: the score that `should_reset` watches."""
    config, state = run.config, run.state
    weights = config.eval_sets or dict.fromkeys(run.task.tiers, 1.0)
    right = evaluate(run, "validation", config.eval_prompts, config.eval_answers, list(weights))
    scores = report.blend(right, weights, pass_at_k)
    state.history.append((state.step, scores["score"]))
    run.folder.event("evaluation", step=state.step, **scores)


def measure_boundary(run: Run, name: str) -> None:
    """pass@k by tier, once for each of base, middle and final, on the same prompts; nothing is selected on those."""
    if run.config.boundary_prompts == 0 or name in run.state.boundary:
        return
    right = evaluate(run, "held-out", run.config.boundary_prompts, run.config.boundary_answers, list(run.task.tiers))
    run.state.boundary[name] = {tier: report.pass_at_k_table(rows, pass_at_k) for tier, rows in right.items()}
    run.folder.event("boundary", step=run.state.step, name=name, tiers=run.state.boundary[name])


# ============================================================================ the run


@dataclass
class Run:
    """Everything that the stages work with, under one name.

    Where a bigger machine (`prorl_scale`) or a later paper (`prorl_v2`) does a stage in another way, it makes a
    subclass with another function under the same name; all the rest, `train_step` included, stays as it is here.
    """

    config: Config
    policy: Any  # Hugging Face causal LM
    reference: Any  # frozen copy of an earlier policy
    optimizer: torch.optim.Optimizer
    tokenizer: Any
    task: tasks.Task
    generator: torch.Generator  # of training rollouts alone
    folder: RunFolder
    state: State = field(default_factory=State)

    write = write_answers  # rollout and reward
    advantages = add_advantages
    logprobs = add_logprobs
    loss = staticmethod(penalized_loss)
    update = update  # loss and step, of one mini-batch
    reset_reference = staticmethod(reset_reference)
    reset_if_due = reset_if_due
    validate = validate

    def end_step(self, row: dict, ledger: Ledger, groups: list[list[Sample]]) -> dict:
        """What else ends a step, given its row for the log -> what to add to that row: what the task counted."""
        return tasks.figures([tasks.tally(self.task)])


def train_step(run: Run) -> None:
    """Stages 1 to 7 once; one line on the screen and one object in metrics.jsonl."""
    state, start = run.state, time.perf_counter()
    groups, ledger = collect_groups(run)  # prompts, rollout, reward
    usable = any(s.reward != group[0].reward for group in groups for s in group)
    stats = {**dict.fromkeys(("loss", "kl", "kl_first", "clip_low", "clip_high", "grad_norm")), "skipped_updates": 0}
    if usable:  # an empty batch is a logged step without an update
        run.advantages(groups)
        with ledger.clock("logprobs"):
            run.logprobs(groups)
        with ledger.clock("update"):
            stats = update_all(run, groups)
    state.any_contrast |= usable
    state.bad_steps = 0 if usable and not stats["skipped_updates"] else state.bad_steps + 1
    state.step += 1
    row = {"step": state.step, **ledger.metrics(groups), **stats, "groups_surplus": len(state.surplus),
           "resets": state.resets, "seconds": time.perf_counter() - start}  # fmt: skip
    row["learning_rate"] = run.optimizer.param_groups[0]["lr"]
    row |= run.end_step(row, ledger, groups)
    state.seconds += row["seconds"]
    run.folder.metrics(row)


def train(config: Config, run_class: type[Run] = Run) -> dict:
    """Run, or resume, a whole training run -> what `summary.json` holds.  Raises UserError on bad input."""
    run = start_run(settings.resolve(config), run_class)
    config, state, folder = run.config, run.state, run.folder
    with folder, GracefulStop() as stop, models.autocast(config):
        if not folder.saved:
            measure_boundary(run, "base")
            if config.eval_every:
                run.validate()
            folder.save(run)  # from here on, whatever happens can be resumed
        folder.say(report.LEGEND)
        while state.step < config.steps and state.seconds < (config.max_seconds or math.inf):
            train_step(run)
            if config.eval_every and state.step % config.eval_every == 0:
                run.validate()
            run.reset_if_due()
            if state.step == config.steps // 2:
                measure_boundary(run, "middle")
            leaving = settings.reason_to_leave(run, stop.requested)  # an exception, or None
            if leaving or state.step % config.save_every == 0:
                folder.save(run)
            if leaving:
                raise leaving
        measure_boundary(run, "final")
        folder.save(run)
    folder.export(run.policy, run.tokenizer, "last")
    settings.check_contrast(run)
    return folder.finish(state)


def start_run(config: Config, run_class: type[Run] = Run) -> Run:
    """Load the model and the task; a fresh run folder, or the state of the one to resume."""
    folder = RunFolder(config).greet(config)
    torch.set_num_threads(config.threads)
    task = tasks.load_task(config, [])  # first: a mistake in it is not to wait for the model
    policy, tokenizer = models.load_policy(config)
    config.rollout_batch = config.rollout_batch or models.rollout_batch(policy, config)
    reference, adam = lean.reference_of(policy, config), lean.adam_of(policy, config)
    tasks.join(config, task, tokenizer, policy.config)
    generator = torch.Generator(policy.device).manual_seed(config.seed)
    run = adapters.run_class(run_class, config)(config, policy, reference, adam, tokenizer, task, generator, folder)
    if folder.saved:
        folder.restore(run, type(run.state), Sample)
    else:
        folder.begin(run)
    return run


def main(args: list[str] | None = None) -> int:
    """The command line: 0, or one sentence and 1 on bad input, or 130 after Ctrl-C."""
    return cli.run(Config, train, args)


if __name__ == "__main__":
    raise SystemExit(main())
