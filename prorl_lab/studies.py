"""The laptop study, as data: questions about the pieces, each with arms, measures and what would count as support.

All of it is written down before the first run; `prorl_lab.study` runs a study and judges it by the rule in `verdict`.
Nothing is tuned per arm: arms differ in what the question names and in nothing else.

Sizes: a step of `SMALL` is 8 prompts of 16 answers, about half a second of a processor core.  It is a quarter of the
batch of `make mini`: what a study finds it finds at this size.  Most runs have 100 steps.  `clip` was first run with
40, which told its arms apart by nothing but how often they clip; no claim was changed for the longer run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prorl_lab.compare import RunData, curve

HARD = ("12 words", "13 words", "14 words", "15 words", "16 words")  # pass@64 of the base at most 0.06 (results/)
UNSEEN = ("18 words", "20 words")  # in neither the warm-up nor RL
SMALL = (
    "--prompts-per-step 8 --eval-every 20 --eval-prompts 8 --boundary-prompts 8 --boundary-answers 16 "
    "--save-every 10 --reset-every 0"
)
LONG = dict(  # studies with one home have the same runs, so the same settings
    equal="updates",
    common=f"--steps 1000 {SMALL} --boundary-answers 256",
    seeds=(0, 1, 2),
    home="long",
)
PLAIN = "--no-reset --kl-coef 0 --eps-high 0.2 --no-dynamic-sampling --loss-level sample"

Read = Callable[[RunData, float], float]  # (a run, tokens that every arm of its seed has generated) -> its value


@dataclass(frozen=True)
class Claim:
    """What a study measures: an arm's value, less that of another arm at the same seed where `than` names one.

    sign: the direction that the statement predicts.  least: the smallest effect in that direction that would matter.
    """

    text: str
    read: Read
    unit: str
    arm: str
    than: str | None
    least: float
    sign: Literal[-1, 1] = 1


@dataclass(frozen=True)
class Study:
    """needs: what is missing before it can be run; None: nothing.

    base: the command that makes the folder of its --model, where that is not the laptop model.

    home: where its run folders are.  Studies with one home share the runs of arms with one name, such as "ProRL", which
    has no flag but the common ones.
    """

    question: str
    paper: str
    arms: dict[str, str]  # name -> flags of the program
    claims: tuple[Claim, ...]
    equal: str
    common: str = f"--steps 100 {SMALL}"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    program: Literal["prorl_mini", "prorl_v2", "bench/worker_pass_rate"] = "prorl_mini"  # a file, without its ".py"
    needs: str | None = None
    home: str = "small"
    task: str = "laptop task"
    base: str | None = None


# ---------------------------------------------------------------- measures, each of one run


def late(key: str, over: int = 10) -> Read:
    """Mean over the last steps of a panel of `prorl_lab.compare`, or of a metric."""
    return lambda run, tokens: float(np.mean(list(curve(run, key).values())[-over:]))


def between(key: str, first: int, last: int) -> Read:
    """Mean over the steps from `first` to `last`."""
    return lambda run, tokens: float(np.mean([v for step, v in curve(run, key).items() if first <= step <= last]))


def rise(key: str, first: int, last: int, over: int = 10) -> Read:
    """How much higher the `over` steps up to `last` are than the `over` steps up to `first`."""
    early, end = between(key, first - over + 1, first), between(key, last - over + 1, last)
    return lambda run, tokens: end(run, tokens) - early(run, tokens)


def pass_at(k: int, tiers: tuple[str, ...] = HARD, stage: str = "final") -> Read:
    """Mean over these tiers of pass@k on held-out prompts."""
    return lambda run, tokens: float(np.mean([run.summary["tiers"][t][stage]["pass@k"][str(k)] for t in tiers]))


def gain(k: int, tiers: tuple[str, ...] = HARD, since: str = "base") -> Read:
    """What training since the base, or the middle, added to that."""
    return lambda run, tokens: pass_at(k, tiers)(run, tokens) - pass_at(k, tiers, since)(run, tokens)


def validation(run: RunData, tokens: float) -> float:
    """The last score."""
    return list(curve(run, "validation").values())[-1]


def at_tokens(run: RunData, scores: dict[int, float], tokens: float) -> float:
    """A score by step, on the line between two, where a run has generated so many tokens."""
    totals = {0: 0.0, **curve(run, "tokens")}
    return float(np.interp(tokens / 1e6, [totals[step] for step in scores], list(scores.values())))


def validation_at_tokens(run: RunData, tokens: float) -> float:
    """The score where a run has generated as many tokens as the others have."""
    return at_tokens(run, curve(run, "validation"), tokens)


def validation_at_cost(run: RunData, tokens: float) -> float:
    """The same, where what an estimate of pass rates took before the first step counts among its tokens."""
    return validation_at_tokens(run, tokens - sum(row["tokens_estimate"] for row in run.steps))


def hard_at_tokens(run: RunData, tokens: float) -> float:
    """pass@1 of validation on the long lists, at as many tokens as the others have generated."""
    scores = {row["step"]: float(np.mean([row["tiers"][tier] for tier in HARD])) for row in run.evaluations}
    return at_tokens(run, scores, tokens)


def share(part: str, whole: str) -> Read:
    """One metric over another, both summed over the run."""
    return lambda run, tokens: sum(row[part] for row in run.steps) / sum(row[whole] for row in run.steps)


late_entropy, late_kl, late_length = late("entropy"), late("kl"), late("length")


# ---------------------------------------------------------------- the studies


def against(arm: str, than: str | None, *measures: tuple[str, Read, str, float]) -> tuple[Claim, ...]:
    """One comparison, several measures.  A negative `least` predicts a fall."""
    return tuple(
        Claim(text, read, unit, arm, than, abs(least), 1 if least > 0 else -1) for text, read, unit, least in measures
    )


STUDIES: dict[str, Study] = {
    "clip": Study(
        question="Does a clip range that is wider above keep entropy, and with it pass@k on the hard tiers?",
        paper="Decoupled clip 0.2/0.4: unlikely tokens may rise, which keeps entropy up (2.3, 3.2)",
        arms={"clip 0.2/0.2": "--eps-high 0.2", "clip 0.2/0.28": "--eps-high 0.28", "ProRL": ""},
        claims=(
            *against(
                "ProRL", "clip 0.2/0.2", ("entropy of the last 10 steps is higher", late_entropy, "nats", 0.02),
                ("the upper bound clips fewer tokens", late("clip_high", 30), "share of tokens", -0.0005),
                ("pass@1 on 12 to 16 words is higher", pass_at(1), "pass@1", 0.02),
                ("pass@16 on 12 to 16 words is higher", pass_at(16), "pass@16", 0.05),
            ),
            *against(
                "clip 0.2/0.28", "clip 0.2/0.2", ("entropy of the last 10 steps is higher", late_entropy, "nats", 0.02),
                ("pass@16 on 12 to 16 words is higher", pass_at(16), "pass@16", 0.05),
            ),
        ),
        equal="updates",
    ),
    "together": Study(
        question="Do ProRL's pieces together beat plain GRPO, all of them off?",
        paper="With all its pieces GRPO keeps improving for thousands of steps (2.3); the paper takes none away",
        arms={"prorl": "--reset-every 40", "plain": PLAIN, "plain-longer": f"{PLAIN} --steps 117"},
        claims=tuple(
            claim
            for than in ("plain", "plain-longer")
            for claim in against(
                "prorl", than, ("pass@1 on 12 to 16 words is higher", pass_at(1), "pass@1", 0.02),
                ("pass@64 on 12 to 16 words is higher", pass_at(64), "pass@64", 0.05),
                ("pass@64 on 18 and 20 words is higher", pass_at(64, UNSEEN), "pass@64", 0.05),
            )
        ),
        equal="updates (plain), and seconds of two runs side by side (plain-longer: 111 to 122 steps, by seed)",
        common="",
        seeds=(0, 1, 2),
        home="together",
    ),
    "loss-level": Study(
        question="Does weighting every token alike, and not every answer, change length, truncation or reward?",
        paper="Not stated there; token-level in the code base it trained with, after DAPO (arXiv 2503.14476)",
        arms={"ProRL": "", "loss by sample": "--loss-level sample"},
        claims=against(
            "ProRL", "loss by sample", ("validation is higher", validation, "pass@1", 0.02),
            ("fewer answers are cut off", late("truncated"), "share of answers", -0.02),
            ("answers are shorter", late_length, "tokens", -0.3),
        ),
        equal="updates",
    ),
    "dynamic-sampling": Study(
        question="Does replacing groups without contrast pay, for what it costs?",
        paper="Dropping prompts that all answers solve, or none, keeps a learning signal (2.3)",
        arms={"ProRL": "", "no dynamic sampling": "--no-dynamic-sampling"},
        claims=against(
            "ProRL", "no dynamic sampling", ("validation is higher at equal updates", validation, "pass@1", 0.02),
            ("validation is higher at equal generated tokens", validation_at_tokens, "pass@1", 0.02),
            ("pass@16 on 12 to 16 words is higher at equal updates", pass_at(16), "pass@16", 0.05),
        ),
        equal="updates, and generated tokens (of the arm that generated fewest, on the line between two evaluations)",
    ),
    "pass-rate": Study(
        question="Does leaving out prompts that the base never or always solves pay, on a set that has an end?",
        paper="No prompt is left out beforehand; groups without contrast are replaced as they come (2.3)",
        program="bench/worker_pass_rate",
        home="pass-rate",
        arms={"all prompts": "--steps 40", "pass rate 0.02 to 0.98": "--steps 120 --pass-rate 0.02 0.98"},
        claims=against(
            "pass rate 0.02 to 0.98", "all prompts",
            ("a larger share of groups has contrast", share("groups_kept", "groups_generated"), "share", 0.1),
            ("fewer tokens are wasted", share("tokens_wasted", "tokens"), "share of tokens", -0.1),
            ("validation is higher at equal generated tokens", validation_at_tokens, "pass@1", 0.02),
            ("validation is higher with the estimate's tokens counted", validation_at_cost, "pass@1", 0.02),
            ("pass@1 on 12 to 16 words, mostly left out, is lower at equal tokens", hard_at_tokens, "pass@1", -0.02),
        ),
        equal="generated tokens (of the arm that generated fewer, on the line between two evaluations)",
        common="--prompts-per-step 8 --pool 512 --eval-every 10 --eval-prompts 32 --boundary-prompts 0 --save-every 10 "
        "--reset-every 0",
    ),
    "temperature": Study(
        question="Do hotter rollouts keep exploring?",
        paper="A high temperature of rollouts (1.2) delays the collapse of entropy (2.3)",
        arms={"temperature 0.6": "--temperature 0.6", "temperature 1.0": "--temperature 1.0", "ProRL": ""},
        claims=(
            *against(
                "ProRL", "temperature 1.0", ("pass@16 on 12 to 16 words is higher", pass_at(16), "pass@16", 0.05),
                ("pass@1 on 12 to 16 words is higher", pass_at(1), "pass@1", 0.02),
            ),
            *against(
                "ProRL", "temperature 0.6", ("pass@16 on 12 to 16 words is higher", pass_at(16), "pass@16", 0.05),
                ("pass@1 on 12 to 16 words is higher", pass_at(1), "pass@1", 0.02),
            ),
        ),
        equal="updates",
    ),
    "kl-reset": Study(
        question="Does the KL penalty come to dominate, and does progress resume after a reset?",
        paper="The KL term may come to dominate the loss; resetting the reference lets it improve again (2.3.1)",
        arms={
            "no KL": "--kl-coef 0 --no-reset",
            **{f"KL {c}": f"--kl-coef {c} --no-reset" for c in ("1e-3", "1e-2", "1e-1")},
            **{f"KL {c}, reset": f"--kl-coef {c} --reset-steps 40 80" for c in ("1e-3", "1e-2", "1e-1")},
            **{
                f"KL {c}, reset, optimizer kept": f"--kl-coef {c} --reset-steps 40 80 --reset-keeps-optimizer"
                for c in ("1e-3", "1e-2", "1e-1")
            },
        },
        claims=(
            *against(
                "KL 1e-1", "no KL", ("a strong penalty holds validation back", validation, "pass@1", -0.05),
            ),
            *against(
                "KL 1e-3", "no KL", ("a penalty of 1e-3 holds validation back", validation, "pass@1", -0.02),
            ),
            *against(
                "KL 1e-1, reset", "KL 1e-1", ("resets lift validation, strong penalty", validation, "pass@1", 0.05),
            ),
            *against(
                "KL 1e-3, reset", "KL 1e-3", ("resets lift validation, penalty of 1e-3", validation, "pass@1", 0.02),
            ),
            *against(
                "KL 1e-3, reset", "KL 1e-3, reset, optimizer kept",
                ("a fresh optimizer is better than the old one", validation, "pass@1", 0.02),
            ),
        ),
        equal="updates",
        common=f"--steps 120 {SMALL}",
        home="kl-reset",
    ),
    "prolonged": Study(
        question="When do ProRL, ProRL without resets and plain GRPO stop improving? Is a stall the better sign?",
        paper="Training improves for over 2,000 steps; the reference is reset when validation stalls (2.3.1, 3.3)",
        arms={
            "ProRL": "--reset-every 100",
            "ProRL, reset on stall": "--reset-on-stall 3",
            "no reset": "--no-reset",
            "plain GRPO": PLAIN,
        },
        claims=(
            *against("ProRL", None, ("it still improves after the middle", gain(1, UNSEEN, "middle"), "pass@1", 0.05)),
            *against("ProRL", "no reset", ("resets help in the end", pass_at(1, UNSEEN), "pass@1", 0.05)),
            *against("ProRL", "plain GRPO", ("ProRL ends higher", pass_at(1, UNSEEN), "pass@1", 0.05)),
            *against("ProRL, reset on stall", "ProRL", ("a stall is better", pass_at(1, UNSEEN), "pass@1", 0.05)),
        ),
        **LONG,
    ),
    "boundary": Study(
        question="Are prompts solved at the end that the base does not solve in 256 tries?",
        paper="pass@k rises up to k = 256 on some tasks, most where the base was weakest (4)",
        arms={"ProRL": "--reset-every 100", "plain GRPO": PLAIN},
        claims=(
            *against("ProRL", None, ("pass@256 rises on 18 and 20 words", gain(256, UNSEEN), "pass@256", 0.1)),
            *against("ProRL", None, ("pass@256 rises on 12 to 16 words", gain(256), "pass@256", 0.1)),
            *against("ProRL", "plain GRPO", ("ProRL's pass@256 ends higher", pass_at(256, UNSEEN), "pass@256", 0.05)),
        ),
        **LONG,
    ),
    "sharpening": Study(
        question="On lists that the base never solves: does RL do what training on right answers alone does not?",
        paper="ProRL finds strategies that the base model does not have in any number of tries (4)",
        program="prorl_v2",
        arms={
            "ProRL": "--steps 200",
            # a longer warm-up is measured by a run that does not move: one step at a rate too small to change a weight
            "supervised": "--steps 1 --learning-rate 1e-30 --weight-decay 0 --warm-up-steps 2800",
            "right answers alone": "--steps 200 --advantage raft",
        },
        claims=(
            *against(
                "ProRL", "supervised",
                ("pass@16 on 12 to 16 words is higher than of more warm-up", pass_at(16), "pass@16", 0.05),
                ("pass@16 on 18 and 20 words is higher than of more warm-up", pass_at(16, UNSEEN), "pass@16", 0.05),
            ),
            *against(
                "ProRL", "right answers alone",
                ("validation is higher at equal updates", validation, "pass@1", 0.02),
                ("pass@16 on 18 and 20 words is higher at equal updates", pass_at(16, UNSEEN), "pass@16", 0.05),
            ),
        ),
        equal="processor seconds (200 steps of RL, 2,350 steps more of the warm-up), and updates (right answers alone)",
        common=SMALL,
        home="sharpening",
    ),
    "kl-kinds": Study(
        question="Which estimator of the KL in the loss holds the policy, and what does it cost in reward?",
        paper="The KL is penalised in the loss (eq. 4); which estimator, the paper does not say",
        program="prorl_v2",
        home="kl-kinds",
        arms={
            **{f"KL by {kind}": f"--kl-kind {kind} --kl-coef 0.1 --no-reset" for kind in ("k1", "k2", "k3")},
            "KL by k3, weighted": "--kl-kind k3 --kl-coef 0.1 --no-reset --kl-weighted",
        },
        claims=(  # the realised KL is that which k1 and k3 log: as values both are unbiased, k2 is not
            *against("KL by k3", "KL by k1", ("k3 holds the policy nearer", late_kl, "nats", -0.002)),
            *against("KL by k3", "KL by k1", ("k3 costs validation", validation, "pass@1", -0.02)),
            *against("KL by k2", "KL by k3", ("k2 earns more", validation, "pass@1", 0.02)),
            *against("KL by k3, weighted", "KL by k3", ("weighting holds it nearer", late_kl, "nats", -0.002)),
        ),
        equal="updates",
    ),
    "successors": Study(
        question="Do the successors' pieces help, and does the recipe without any of them do as well?",
        paper="ProRLv2: batch advantage; BroRL (arXiv 2510.01180): many answers; JustRL (2512.16649): neither",
        program="prorl_v2",
        home="successors",
        arms={
            "ProRL": "--reset-steps 50",
            "batch advantage": "--reset-steps 50 --advantage batch",
            "64 answers": "--reset-steps 50 --answers-per-prompt 64 --prompts-per-step 2 --updates-per-step 2",
            "JustRL": "--no-reset --kl-coef 0 --no-dynamic-sampling",
        },
        claims=(
            *against("batch advantage", "ProRL", ("the batch's deviation is better", validation, "pass@1", 0.02)),
            *against("64 answers", "ProRL", ("more answers are better", validation_at_tokens, "pass@1", 0.02)),
            *against("ProRL", "JustRL", ("the pieces help at equal updates", validation, "pass@1", 0.02)),
            *against("ProRL", "JustRL", ("the pieces help at equal tokens", validation_at_tokens, "pass@1", 0.02)),
        ),
        equal="updates, and generated tokens",
    ),
    "second-task": Study(
        question="Do clip, dynamic sampling, KL and boundary come out the same on a task that is not sorting?",
        paper="The gains hold over mathematics, code, science, logic and instructions (tables 1 to 3)",
        arms={},
        claims=(),
        equal="updates",
        needs="a second task that moves; those tried for the laptop model did not (results/2026-11-23-laptop, trials)",
    ),
    "real-model": Study(
        question="Does a real pretrained model learn, on a core of a CPU, in less than two hours?",
        paper="ProRL was run on a pretrained model of 1.5B parameters (3)",
        task="SmolLM2-135M-Instruct after a warm-up to the form of an answer, the largest of three numbers",
        arms={"SmolLM2": ""},
        claims=against("SmolLM2", None, ("pass@1 on held-out prompts rises", gain(1, ("largest",)), "pass@1", 0.2)),
        equal="updates",
        common="--model runs/smollm2-warm --task bench/largest.py --device cpu --gradient-checkpointing False "
        "--steps 16 --prompts-per-step 8 --answers-per-prompt 8 --max-new-tokens 4 --learning-rate 2e-5 "
        "--updates-per-step 2 --reset-every 0 --eval-every 4 --eval-prompts 24 --eval-temperature 1 "
        "--boundary-prompts 64 --boundary-answers 8 --save-every 8",
        seeds=(0, 1, 2),
        home="real-model",
        base="PYTHONPATH=. python bench/smollm2.py runs/smollm2-warm --warm-up 20",
    ),
}  # fmt: skip
