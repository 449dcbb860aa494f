"""What came after ProRL: the pieces of ProRLv2, BroRL and DAPO that the paper of `prorl_mini.py` does not have.

It reads as a difference.  Each piece is one function, off by default, and takes the place of one stage; `prorl_mini`
does not know this file, `prorl_scale` runs both.

    piece                             setting                                 from
    advantage over the batch          --advantage batch                       ProRLv2 (REINFORCE++-baseline)
    right answers alone               --advantage raft                        RAFT, the control: rejection sampling
    bonus for short answers           --length-bonus 0.1, in cycles           ProRLv2
    penalty for overlong answers      --overlong-buffer 256                   DAPO
    correction of the sampler         --mismatch tis | icepop | geometric     ProRLv2, BroRL; prorl_scale alone has it
    KL of updates 2 to 4              --kl-weighted                           DeepSeek-V3.2
    reset on a KL or entropy drift    --reset-kl-above, --reset-entropy-below ProRLv2 ("KL spike"); entropy: ours
    reset to the best validation      --reset-to best                         ours
    warm-up of the learning rate      --learning-rate-warm-up 10              common practice; again after a reset: ours

    python prorl_v2.py --advantage batch --length-bonus 0.1 --eps-high 0.28 --kl-kind k2      as prorl_mini.py otherwise

ProRLv2 is NVIDIA's post of August 2025, BroRL arXiv 2510.01180, DAPO arXiv 2503.14476, DeepSeek-V3.2 arXiv 2512.02556,
RAFT arXiv 2304.06767.  Shapes as in `prorl_mini.py`.
"""

import prorl_lab.openmp  # noqa: F401  before torch, which reads once how its threads are to wait

import functools
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

import prorl_mini
from prorl_lab import cli
from prorl_lab.errors import UserError
from prorl_lab.run_folder import best_step
from prorl_mini import Sample, group_advantages, kl_estimate


@dataclass
class Config(prorl_mini.Config):
    """The settings of `prorl_mini`, and those of the later papers."""

    POSITIVE: ClassVar[frozenset[str]] = prorl_mini.Config.POSITIVE | {"length_bonus_on"}

    advantage: Literal["group", "batch", "raft"] = "group"  # deviation over: GRPO's group, v2's batch; or right answers
    overlong_buffer: int = 0  # tokens before max_new_tokens over which a growing penalty sets in; 0: none
    length_bonus: float = 0.0  # weight of ProRLv2's bonus for short answers; 0: none
    length_bonus_on: int = 100  # steps of each cycle with that bonus,
    length_bonus_off: int = 0  # and without
    kl_weighted: bool = False  # weigh the KL by policy over old policy: the right one after the first update as well
    learning_rate_warm_up: int = 0  # steps over which it rises from 0, at the start and after a reset that clears Adam
    reset_kl_above: float = 0.0  # 0: never for that; as the next, of the median of the last steps
    reset_entropy_below: float = 0.0  # 0: never for that
    reset_to: Literal["policy", "best"] = "policy"  # the reference's new weights: of now, or of the best validation

    def check(self) -> None:
        """Raise UserError for settings that can't work, with what to do instead."""
        super().check()
        if self.reset_to == "best" and not self.eval_every:
            raise UserError("--reset-to best needs validation, which --eval-every 0 turns off: set --eval-every")
        if self.reset_kl_above and not self.kl_coef:
            raise UserError("--reset-kl-above watches the KL, which --kl-coef 0 does not measure: set --kl-coef")
        if self.kl_weighted and self.kl_kind == "k2":
            raise UserError("--kl-weighted makes k1 and k3 exact; k2 has another mean than the KL: give --kl-kind k3")
        if self.advantage == "raft" and (self.overlong_buffer or self.length_bonus):
            raise UserError(
                "--advantage raft asks only whether an answer is right, so --overlong-buffer and --length-bonus would "
                "do nothing: leave them out"
            )
        if self.overlong_buffer >= self.max_new_tokens:
            raise UserError(
                f"--overlong-buffer {self.overlong_buffer} must be less than --max-new-tokens {self.max_new_tokens}"
            )


@dataclass
class State(prorl_mini.State):
    """What a run changes besides weights."""

    dynamics: list = field(default_factory=list)  # (step, KL, entropy) of the last steps


# ============================================================================ 4. advantage


def batch_advantages(rewards: list[Tensor], lengths: list[Tensor]) -> list[Tensor]:
    """REINFORCE++-baseline, the advantage of ProRLv2: P tensors of (G,) rewards and of answer lengths -> P of (G,).

    Each reward minus its group's mean; then all of them minus their mean and over their standard deviation, both over
    the TOKENS of the step (population variance), so a long answer counts for more.  A group with little contrast stays
    small, where GRPO's own deviation would blow it up to the size of the others.

    >>> batch_advantages([torch.tensor([1.0, 0.0])], [torch.tensor([1, 3])])
    [tensor([ 1.7321, -0.5774])]
    """
    centered = torch.cat([group - group.mean() for group in rewards])
    weights = torch.cat(lengths).to(centered)
    weights = weights / weights.sum()
    mean = (weights * centered).sum()
    variance = (weights * (centered - mean) ** 2).sum()
    advantages = (centered - mean) * variance.clamp(min=1e-8).rsqrt()
    return list(advantages.split([len(group) for group in rewards]))


def raft_advantages(rewards: Tensor) -> Tensor:
    """Rejection-sampling fine-tuning (RAFT): rewards of any shape -> 1 for a right answer, 0 for every other.

    The first update then climbs the log-likelihood of the policy's own right answers, as supervised training on them
    would; wrong answers teach nothing.  What GRPO has beyond that is all in the advantage.

    >>> raft_advantages(torch.tensor([[1.0, 0.0, 0.4]]))
    tensor([[1., 0., 0.]])
    """
    return (rewards >= 1).to(rewards)


def brevity(length: int, limit: int) -> float:
    """ProRLv2's cosine: 1 for an empty answer, 0 at the limit of tokens.  Its two ends are choices; v2 prints none.

    >>> [round(brevity(length, 8), 2) for length in (0, 4, 8)]
    [1.0, 0.5, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * min(length, limit) / limit))


def overlong_penalty(length: int, limit: int, buffer: int) -> float:
    """0 up to `buffer` tokens below the limit, from there down to -1 at it (DAPO, eq. 13)."""
    return -max(0.0, min(1.0, (length - (limit - buffer)) / buffer)) if buffer else 0.0


def shaped_reward(sample: Sample, step: int, config: Config) -> float:
    """The reward that advantages are made of: the verifier's, and what the settings say about length.

    An answer cut off under `zero_truncated` earns 0 and no further penalty, as in ProRLv2's code.
    """
    if config.zero_truncated and sample.truncated:
        return 0.0
    reward = sample.reward + overlong_penalty(len(sample.answer), config.max_new_tokens, config.overlong_buffer)
    if step % (config.length_bonus_on + config.length_bonus_off) < config.length_bonus_on:
        reward += config.length_bonus * brevity(len(sample.answer), config.max_new_tokens)
    return reward


def add_advantages(run: "Run", groups: list[list[Sample]]) -> None:
    """Shape the rewards, then compare each answer with its group, or with all.

    Groups may differ in size: one that waited may be older than a change of `answers_per_prompt`.
    """
    rewards = [torch.tensor([shaped_reward(s, run.state.step, run.config) for s in group]) for group in groups]
    if run.config.advantage == "batch":
        advantages = batch_advantages(rewards, [torch.tensor([len(s.answer) for s in group]) for group in groups])
    elif run.config.advantage == "raft":
        advantages = [raft_advantages(group) for group in rewards]
    else:
        advantages = [group_advantages(group[None])[0] for group in rewards]
    for group, row in zip(groups, advantages, strict=True):
        for sample, advantage in zip(group, row.tolist(), strict=True):
            sample.advantage = advantage


# ============================================================================ 6. loss


def mismatch_weights(old_logp: Tensor, sampler_logp: Tensor, kind: str, low: float, high: float) -> Tensor:
    """Correct for a sampler that computes other log-probs than the trainer: (B, T), (B, T) -> (B, T), no gradient.

    The tokens were drawn from the sampler's distribution, the loss is about the trainer's; m = exp(old - sampler) is
    what lies between.
        tis         min(m, high), truncated importance sampling: every token teaches, none by more than `high`
        icepop      m where low <= m <= high, else 0 (ProRLv2): a token on which they disagree grossly teaches nothing
        geometric   m in a row whose geometric mean lies within low and high, else 0 throughout: the whole answer is
                    as if from another model, though no token alone shows it (0.99 to 1.01 in molt, by v2's author)
    For "geometric" a row is one whole answer, without padding; for the others a row may be anything.

    They multiply the advantages: as m >= 0, min(r m A, clip(r) m A) is m times what `policy_loss` takes the minimum of.
    The KL keeps its own weights, since it is about the policy, whoever sampled.

    >>> old, sampler = torch.tensor([0.5, 0.9, 0.1]).log(), torch.tensor([0.5, 0.1, 0.9]).log()
    >>> mismatch_weights(old, sampler, "tis", 0.5, 5.0), mismatch_weights(old, sampler, "icepop", 0.5, 5.0)
    (tensor([1.0000, 5.0000, 0.1111]), tensor([1., 0., 0.]))
    >>> mismatch_weights(old, sampler, "geometric", 0.99, 1.01)
    tensor([1.0000, 9.0000, 0.1111])
    """
    log_weights = (old_logp - sampler_logp).detach().clamp(-20, 20)
    weights = log_weights.exp()
    if kind == "tis":
        return weights.clamp(max=high)
    if kind not in ("icepop", "geometric"):
        raise ValueError(f"mismatch correction is tis, icepop or geometric, not {kind!r}")
    judged = weights if kind == "icepop" else log_weights.mean(-1, keepdim=True).exp()
    return torch.where((judged >= low) & (judged <= high), weights, torch.zeros_like(weights))


def weighted_kl(logp: Tensor, old_logp: Tensor, ref_logp: Tensor, kind: str) -> Tensor:
    """Per-token estimate of KL(policy || reference) from tokens that the OLD policy wrote: (B, T) each -> (B, T).

    ratio * kl_estimate, with the gradient of the ratio: E_old[ratio * k] is E_policy[k] with all its dependence on the
    policy.  So the value is right where that of k is, k1 and k3, and the gradient is that of the KL itself; plain k3
    has another gradient, and after the first update another value.  (DeepSeek-V3.2, arXiv 2512.02556, section 3.1.)
    """
    return (logp - old_logp).clamp(-20, 20).exp() * kl_estimate(logp, ref_logp, kind)


def penalized_loss(
    logp: Tensor, old_logp: Tensor, ref_logp: Tensor | None, advantages: Tensor,
    weights: Tensor, num_tokens: int, config: Config,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """`prorl_mini.penalized_loss`; with `kl_weighted` its KL is `weighted_kl`."""
    if ref_logp is None or not config.kl_weighted:
        return prorl_mini.penalized_loss(logp, old_logp, ref_logp, advantages, weights, num_tokens, config)
    loss, sums = prorl_mini.penalized_loss(logp, old_logp, None, advantages, weights, num_tokens, config)
    inside = (torch.where(weights > 0, x, torch.zeros_like(x)) for x in (logp, old_logp, ref_logp))
    kl = weighted_kl(*inside, config.kl_kind)
    sums["kl"] = kl.detach().sum() / max(1, num_tokens)
    return loss + config.kl_coef * ((kl * weights).sum() / max(1, num_tokens)), sums


# ============================================================================ 7. step


def warmed_up(rate: float, step: int, steps: int) -> float:
    """The learning rate, constant after a linear rise over the first `steps`; `step` counts from 0."""
    return rate * min(1.0, (step + 1) / max(1, steps))


def set_rate(run: Any) -> None:
    """Give the optimizer the learning rate of this step: it rises again wherever Adam's moments begin from nothing."""
    config, state = run.config, run.state
    since = state.step - (0 if config.reset_keeps_optimizer else state.last_reset)
    for weights in run.optimizer.param_groups:
        weights["lr"] = warmed_up(config.learning_rate, since, config.learning_rate_warm_up)


def update(run: "Run", samples: list[Sample]) -> dict[str, float]:
    """`prorl_mini.update` at the learning rate of this step."""
    set_rate(run)
    return prorl_mini.update(run, samples)


# ============================================================================ 8. reset

RECENT = 5  # steps whose median is compared with a threshold: one outlier of a heavy-tailed estimate is no drift


def drifted(
    step: int, last_reset: int, dynamics: list[tuple[int, float | None, float | None]], config: Config
) -> str | None:
    """Why the policy has gone too far, or become too sure, for its reference; None: it has not.

    dynamics: (step, KL, entropy of all answers), oldest first, None where a step had none.  ProRLv2 resets on a "KL
    spike" as well, without a number; that entropy is watched too, and how many steps count, are choices.
    """
    if not config.reset or step - last_reset < max(1, config.reset_min_spacing):
        return None
    here = [row for row in dynamics if row[0] > last_reset]
    kl, entropy = ([row[column] for row in here if row[column] is not None][-RECENT:] for column in (1, 2))
    if config.reset_kl_above and len(kl) == RECENT and np.median(kl) > config.reset_kl_above:
        return f"KL {np.median(kl):.4g} is above {config.reset_kl_above:g}"
    if config.reset_entropy_below and len(entropy) == RECENT and np.median(entropy) < config.reset_entropy_below:
        return f"entropy {np.median(entropy):.4g} is below {config.reset_entropy_below:g}"
    return None


def reset_if_due(run: "Run") -> bool:
    """`prorl_mini.reset_if_due`, also on a drift; where asked, the reference then gets the weights of the best step."""
    state, config = run.state, run.config
    was_reset = prorl_mini.reset_if_due(run, drifted(state.step, state.last_reset, state.dynamics, config))
    if was_reset and config.reset_to == "best" and state.history and (best := best_step(state.history)) < state.step:
        run.folder.load_best(run, best)
    return was_reset


# ============================================================================ 9. eval


def validate(run: "Run") -> None:
    """`prorl_mini.validate`, and keep the weights of a new best, to which a reset may return."""
    prorl_mini.validate(run)
    if run.config.reset_to == "best" and best_step(run.state.history) == run.state.step:
        run.folder.keep_best(run)


# ============================================================================ the run


@dataclass
class Run(prorl_mini.Run):
    """The run of `prorl_mini`, with the stages above in place of its own."""

    state: State = field(default_factory=State)

    advantages = add_advantages
    loss = staticmethod(penalized_loss)
    update = update
    reset_if_due = reset_if_due
    validate = validate

    def end_step(self, row: dict, ledger: Any, groups: list[list[Sample]]) -> dict:
        """Note what `drifted` looks at."""
        self.state.dynamics = [*self.state.dynamics, (row["step"], row["kl"], row["entropy_unfiltered"])][-RECENT:]
        return super().end_step(row, ledger, groups)


def main(args: list[str] | None = None) -> int:
    """The command line of `prorl_mini.py`, with more flags."""
    return cli.run(Config, functools.partial(prorl_mini.train, run_class=Run), args)


if __name__ == "__main__":
    raise SystemExit(main())
