"""The loop of `prorl_mini.py` on many processes: its own `train_step`, with other functions for some of the stages.

    torchrun --nproc-per-node 8 -m prorl_scale.train --recipe NAME [--field value ...]
    torchrun --nproc-per-node 2 -m prorl_scale.train --resume RUN_FOLDER

Every rank generates and scores answers to its share of the prompts; then all ranks exchange what they wrote, so that
each holds the same groups, counters and ledger.  From there on every decision (what to keep, how to cut the batch,
when to reset) is the same pure function on each rank, and only tensors are spread: weights, gradients, log-probs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import resource
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import prorl_mini
import prorl_v2
from prorl_lab import cli, devices, mfu, report, settings, tasks
from prorl_lab.errors import UserError
from prorl_lab.later import Later
from prorl_lab.ledger import Ledger, mean
from prorl_lab.run_folder import GracefulStop, write_json
from prorl_lab.shapes import shape_of
from prorl_lab.tasks import responses
from prorl_mini import (
    collect_groups,  # noqa: F401  called by train_step; named here so that anyone can see it is mini's, as those below
    mini_batches,
    penalized_loss,  # noqa: F401
    policy_loss,  # noqa: F401
    reset_reference,  # noqa: F401
    should_reset,  # noqa: F401
    train_step,
    update_all,  # noqa: F401
)
from prorl_scale import batch, distributed, health
from prorl_scale.config import Config, longest_answer, parse, resolve
from prorl_scale.rewards import STATUSES, Pool, SandboxError, Verdict
from prorl_v2 import best_step, mismatch_weights, set_rate

plan, policy = Later("prorl_scale.plan"), Later("prorl_scale.policy")
start_run = Later("prorl_scale.start", "start_run")

# ============================================================================ 1. prompts


@dataclass
class Sample(prorl_mini.Sample):
    """One answer.  The sampler's own log-probs come with it, and how its verification ended."""

    sampler_logp: Tensor | None = None  # (answer length,) as vLLM reported them
    verdict: str | None = None  # one of prorl_scale.rewards.STATUSES

    # To the other ranks ids travel as 4 bytes each: as a list they are 3 times that, and take 10 times as long to read.
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "prompt": array("i", self.prompt), "answer": array("i", self.answer)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, prompt=state["prompt"].tolist(), answer=state["answer"].tolist())


# ============================================================================ 2. rollout


def write_share(
    run: Run,
    prompts: list,
    num_answers: int,
    temperature: float,
    source: torch.Generator | list[int],
    finished: Callable[[int, list[list[int]]], None],
) -> list[list[Sample]]:
    """This rank's prompts -> groups of samples, not yet scored.

    Their entropy is the mean of minus the sampler's own log-probs: unbiased, and known without another pass.
    source: what their tokens are drawn from, see `Engine.generate`.
    finished: called with the place of a prompt and its answers as soon as all of them are written.
    """
    if not prompts:
        return []
    # Only an evaluation, which has seeds, may cut the tail: training scores the whole distribution.
    run.engine.top_p = run.config.eval_top_p if isinstance(source, list) else 1.0
    written = run.engine.generate(
        prompts, num_answers, temperature, source, lambda place, group: finished(place, [ids for ids, _ in group])
    )
    ends = run.task.stop_ids
    return [
        [
            Sample(prompt, ids, ids[-1] not in ends, sampler_entropy=-logp.sum().item(), sampler_logp=logp)
            for ids, logp in answers
        ]
        for prompt, answers in zip(prompts, written, strict=True)
    ]


# ============================================================================ 3. reward


def begin_scoring(run: Run, problem: Any, answers: list[list[int]]) -> Callable[[], list[Verdict]]:
    """Have a group verified beside the generation that goes on -> a function that waits for its verdicts.

    Raises UserError, when called, where the sandbox has stopped working.
    """
    texts = responses(run.tokenizer, problem, answers, run.task.stop_ids)
    if run.pool is None:
        scores = functools.partial(run.task.score, [(problem, text) for text in texts])
        return lambda: [Verdict(score, "ok" if score >= 1 else "wrong") for score in scores()]
    verdicts = [run.pool.submit(*run.task.item(problem, text)) for text in texts]

    def wait() -> list[Verdict]:
        try:
            done = [verdict.result() for verdict in verdicts]
        except SandboxError as error:
            raise UserError(str(error)) from error
        for verdict in done if hasattr(run.task, "note") else ():
            run.task.note(problem, verdict.status, verdict.why)
        return done

    return wait


def write_answers(
    run: Run, problems: list, prompts: list, num_answers: int, temperature: float, generator: Any, ledger: Ledger
) -> list[list[Sample]]:
    """Rollout and reward over all ranks: P problems, the same on each -> P groups, the same on each.

    Answers are verified while others are still being written, so the clock of "reward" shows what was waited for
    beyond that.  Ranks wait for each other once, after both stages.
    """
    share = slice(distributed.rank(), None, distributed.world())
    mine, waiting, source = problems[share], {}, generator
    if generator is not run.generator:  # of an evaluation, alike on all ranks: how many there are must not show in it
        source = torch.randint(2**31, (len(prompts),), generator=generator, device=generator.device).tolist()[share]

    def finished(place: int, answers: list[list[int]]) -> None:
        waiting[place] = begin_scoring(run, mine[place], answers)

    def scored() -> list[list[Sample]]:
        for place, group in enumerate(groups):
            for sample, verdict in zip(group, waiting[place](), strict=True):
                sample.reward = None if verdict.status == "unverified" else verdict.score
                sample.verdict = verdict.status
        return groups

    with ledger.clock("generate"):
        groups = write_share(run, prompts[share], num_answers, temperature, source, finished)
    with ledger.clock("reward"):
        ours = distributed.attempt(scored)
    with ledger.clock("generate"):  # waiting for the slowest
        shares = distributed.agree(ours)
    return [shares[i % len(shares)][i // len(shares)] for i in range(len(prompts))]


def count_verdicts(samples: list[Sample]) -> dict[str, int]:
    """How the verification of these answers ended: `timeout` and `error` are no wrong answers."""
    counts = Counter(s.verdict for s in samples)
    return {status: counts[status] for status in STATUSES}


# ============================================================================ 4. advantage

# `prorl_v2.add_advantages` as it is: every rank holds whole groups.

# ============================================================================ 5. logprobs


def add_logprobs(run: Run, groups: list[list[Sample]]) -> None:
    """Old and reference log-probs, each forward pass shared by all ranks.

    With one update per rollout the old pass is skipped for what is trained on now: the policy that is updated is the
    one that wrote it, so `update` takes the old log-probs from its own forward pass.
    """
    config = run.config
    waiting = [*run.state.surplus] if config.updates_per_step == 1 else [*groups, *run.state.surplus]
    new = [s for group in waiting for s in group if s.old_logp is None]
    scores = policy.score_samples(run.policy, new, config.microbatch_tokens, config.temperature, with_entropy=True)
    set_old(new, scores)
    # Cut as `update` will cut: then a reference that was just reset scores the very same numbers as the policy does.
    for part in mini_batches(groups, config.updates_per_step) if config.kl_coef > 0 else []:
        scores = policy.score_samples(run.reference, part, config.microbatch_tokens, config.temperature)
        for sample, (logp, _) in zip(part, scores, strict=True):
            sample.ref_logp = logp


def set_old(samples: list[Sample], scores: list[tuple[Tensor, Tensor]]) -> None:
    """Note the log-probs and the entropy of the policy that wrote each sample."""
    for sample, (logp, entropy) in zip(samples, scores, strict=True):
        sample.old_logp, sample.entropy = logp, entropy.sum().item()


def sampler_gap(groups: list[list[Sample]]) -> float | None:
    """Mean |log-prob of the sampler - of the trainer| over the tokens trained on; None of nothing."""
    gaps = [(s.sampler_logp - s.old_logp).abs() for group in groups for s in group]
    return torch.cat(gaps).mean().item() if gaps else None


def outside_bounds(groups: list[list[Sample]], config: Config) -> float | None:
    """Share of the tokens trained on that the mismatch correction cut or dropped; None without it."""
    if config.mismatch == "off" or not groups:
        return None
    samples = [s for group in groups for s in group]
    weights = sampler_weights([s.old_logp for s in samples], [s.sampler_logp for s in samples], config)
    cut = weights >= config.mismatch_bounds[1] if config.mismatch == "tis" else weights == 0
    return cut.float().mean().item()


def sampler_weights(old: list[Tensor], sampler: list[Tensor], config: Config) -> Tensor:
    """`mismatch_weights` of answers, each a row of its own, end to end -> (N,)."""
    bounds = config.mismatch_bounds
    rows = (mismatch_weights(*pair, config.mismatch, *bounds) for pair in zip(old, sampler, strict=True))
    return torch.cat([torch.zeros(0), *rows])


# ============================================================================ 6. loss


def micro_loss(
    run: Run, samples: list[Sample], num_tokens: int, num_answers: int
) -> tuple[Tensor, dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """One micro-batch of this rank -> its part of the loss, detached sums, and (log-probs, entropies) of each sample.

    num_tokens, num_answers: of the whole mini-batch over all ranks.  `run.loss` sees a batch of one packed row.
    """
    config, device = run.config, run.policy.device
    packed = batch.pack(samples, device)
    first = config.updates_per_step == 1  # then entropies were not measured before
    logp, entropy = run.policy(packed, config.temperature, with_entropy=first)
    scores = list(zip(packed.split(logp.detach()), packed.split(entropy), strict=True))
    old = [s.old_logp if s.old_logp is not None else ours for s, (ours, _) in zip(samples, scores, strict=True)]

    def row(values: Tensor) -> Tensor:
        return values.to(logp)[None]  # (1, N)

    old_logp, advantages = row(torch.cat([torch.zeros(0), *old])), row(batch.column(samples, "advantage"))
    if config.mismatch != "off":
        advantages = advantages * row(sampler_weights(old, [s.sampler_logp for s in samples], config))
    loss, sums = run.loss(
        logp[None],
        old_logp,
        row(batch.column(samples, "ref_logp")) if config.kl_coef > 0 else None,
        advantages,
        row(batch.answer_weights(samples, num_tokens, num_answers, config.loss_level)),
        num_tokens,
        config,
    )
    return loss, {**sums, "loss": loss.detach()}, scores


# ============================================================================ 7. step


def update(run: Run, samples: list[Sample]) -> dict[str, float]:
    """One optimizer step on one mini-batch, the same list on every rank -> its figures, the same on every rank.

    Skipped, and counted, where loss or gradient is not finite; both are global, so all ranks skip alike.
    """
    config = run.config
    set_rate(run)
    num_tokens = sum(len(s.answer) for s in samples)
    parts = batch.cut(samples, config.microbatch_tokens, distributed.world())[distributed.rank()]
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=run.policy.device))
    scores: dict[int, tuple[Tensor, Tensor]] = {}
    for part in parts:
        loss, stats, scored = micro_loss(run, [samples[i] for i in part], num_tokens, len(samples))
        (loss * distributed.world()).backward()  # FSDP2 averages gradients over ranks; the loss wants their sum
        for key, value in stats.items():
            sums[key] = sums[key] + value
        scores.update(zip(part, scored, strict=True))
    totals = distributed.total(sums)
    grad_norm = torch.nn.utils.clip_grad_norm_(run.policy.parameters(), config.grad_clip).full_tensor().item()
    finite = math.isfinite(totals["loss"]) and math.isfinite(grad_norm)
    if finite:
        run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    if config.updates_per_step == 1:
        everyone = {i: pair for ranks in distributed.exchange(scores) for i, pair in ranks.items()}
        fresh = [i for i, s in enumerate(samples) if s.old_logp is None]
        set_old([samples[i] for i in fresh], [everyone[i] for i in fresh])
    return {**totals, "grad_norm": grad_norm, "skipped": float(not finite)}


def push(run: Run) -> float:
    """Hand the policy's weights to the sampler and prove that they arrived -> the canary's mean |difference|."""
    run.engine.push(policy.full_weights(run.policy, run.engine.dtype))
    rows = [Sample(row[:1], row[1:]) for row in run.canary.rows]
    ours = policy.score_samples(run.policy, rows, run.config.microbatch_tokens, temperature=1.0)
    return run.canary.check(run.engine.score(run.canary.rows), torch.cat([logp for logp, _ in ours]))


# ============================================================================ 8. reset


# `prorl_v2.reset_if_due` as it is: each rank copies its own shards, so nothing travels.

# ============================================================================ 9. eval

# `prorl_mini.validate` as it is: it writes through `Run.write`, so on all ranks.


def measure_boundary(run: Run, name: str) -> None:
    """`prorl_mini.measure_boundary` with room for the longest answers of any stage, the same for base and final."""
    now = run.config
    run.config = run.engine.config = dataclasses.replace(now, max_new_tokens=longest_answer(run.stages))
    prorl_mini.measure_boundary(run, name)
    run.config = run.engine.config = now


# ============================================================================ the run


@dataclass
class State(prorl_v2.State):
    """What a run changes besides weights."""

    stage: int = 0  # of the recipe
    watched: list = field(default_factory=list)  # what `health` sees: the last rows of metrics
    warned: dict = field(default_factory=dict)  # rule: step of its last warning


@dataclass
class Run(prorl_v2.Run):
    """What the stages work with.  `policy` and `reference` are sharded `Scorer`s; the generator is this rank's own.

    `config` holds the settings of the stage in force.
    """

    state: State = field(default_factory=State)
    recipe: Any = None  # prorl_scale.recipes.Recipe
    stages: list = field(default_factory=list)  # the Config in force at each stage of the recipe
    engine: Any = None  # prorl_scale.rollout.Engine
    canary: Any = None  # prorl_scale.rollout.Canary
    pool: Pool | None = None  # scores this rank's answers; None: the task does, since it never evaluates text
    seen: list = field(default_factory=list)  # rows of metrics since this process began, for `plan.compare`

    write = write_answers
    logprobs = add_logprobs
    update = update
    validate = prorl_mini.validate  # `loop` keeps a new best, as a checkpoint

    def enter_stage(self) -> None:
        """Put the settings of the stage that the state names in force."""
        self.config = self.stages[self.state.stage]
        if self.engine is not None:
            self.engine.config = self.config
        if self.config.domains:
            self.task.set_weights(self.config.domains)

    def advantages(self, groups: list[list[Sample]]) -> None:
        """All is written, so from here on the sampler's share of the memory is the trainer's."""
        self.engine.sleep()
        super().advantages(groups)

    def end_step(self, row: dict, ledger: Ledger, groups: list[list[Sample]]) -> dict:
        """Push the new weights, note what resets and health look at, and measure what this program has besides mini."""
        with ledger.clock("push"):
            canary = push(self)
        took = row["seconds"] + ledger.seconds["push"]
        seconds, memory = map(max, zip(*distributed.exchange((took, peak_memory())), strict=True))
        groups = groups if row["loss"] is not None else []  # nothing was trained on
        counted = tasks.figures(distributed.exchange(tasks.tally(self.task)))
        more = {
            **{"repetition": mean([health.loops(s.answer) for s in ledger.samples]), "stage": self.state.stage},
            **{"seconds": seconds, "seconds_push": ledger.seconds["push"], "canary": canary, "peak_memory": memory},
            "ranks": distributed.world(),
            **{"verdicts": count_verdicts(ledger.samples), "sampler_gap": sampler_gap(groups)},
            "outside_bounds": outside_bounds(groups, self.config),
            **speed(self, groups, ledger, seconds),
            **super().end_step(row, ledger, groups),
            **{name: value for name, value in counted.items() if name == "rewards"},
        }
        seen = {**row, **more}
        self.compare_with_plan(seen)
        self.state.watched = [*self.state.watched, {key: seen[key] for key in health.KEYS}][-health.WINDOW :]
        return more

    def compare_with_plan(self, row: dict) -> None:
        """After the first steps of this process: was the plan right about this machine?  Rank 0 says so."""
        self.seen.append(row)
        if len(self.seen) != plan.COMPARED or distributed.rank():
            return
        name = torch.cuda.get_device_name() if self.config.device == "cuda" else None
        if name and devices.named(name) is None:
            self.folder.say(f"no prediction of a step's time: {name} is not in prorl_lab/devices.py")
            return
        here = dataclasses.replace(self.config, gpu=name or self.config.gpu)
        site = plan.site_of(here, shape_of(self.policy.config), distributed.world())
        table = plan.compare(here, site, self.seen)
        self.folder.say(plan.comparison_text(table))
        write_json(self.folder.path / "prediction.json", table)  # not in metrics.jsonl, which a resume must not change


def check_health(run: Run) -> str | None:
    """Warn about each broken rule once a window -> why the run should stop, or None."""
    state = run.state
    for finding in health.check(state.watched, state.history, run.config):
        if finding.rule in run.config.health_stops:
            return finding.message
        if state.step - state.warned.get(finding.rule, -health.WINDOW) >= health.WINDOW:
            state.warned[finding.rule] = state.step
            run.folder.event("warning", step=state.step, rule=finding.rule, message=finding.message)
    return None


# ---------------------------------------------------------------- stages of the recipe


def advance_stage(run: Run, was_reset: bool) -> None:
    """Go on to the next stage of the recipe where this one has ended."""
    recipe, state = run.recipe, run.state
    following = recipe.next_stage(state.stage, state.step, was_reset)
    if following != state.stage:
        state.stage, blend = following, run.config.eval_sets
        run.enter_stage()
        if run.config.eval_sets != blend:
            state.history.clear()  # scores of another blend are no yardstick; metrics.jsonl keeps them
        stage = recipe.stages[following]
        run.folder.event("stage", step=state.step, stage=following, name=stage.name, changes=stage.changes)


def speed(run: Run, groups: list[list[Sample]], ledger: Ledger, seconds: float) -> dict[str, float | None]:
    """Answer tokens trained on per second of the whole step; `mfu` and `hfu` of its passes through the model."""
    lengths = [(len(group[0].prompt), [len(s.answer) for s in group]) for group in groups]
    name = torch.cuda.get_device_name() if run.policy.device.type == "cuda" else None
    passes = ledger.seconds["logprobs"] + ledger.seconds["update"]
    return {
        "tokens_per_second": sum(sum(answers) for _, answers in lengths) / seconds,
        **mfu.utilization(mfu.size_of(run.policy.model), lengths, run.config, passes, distributed.world(), name),
    }


def peak_memory() -> int:
    """Bytes: torch's peak on this rank's GPU in this step, or of its process so far on a CPU (vLLM included)."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def train(config: Config) -> dict | None:
    """Run, or resume, a whole training run -> what `summary.json` holds, on rank 0.  Raises UserError on bad input."""
    config = resolve(config)
    with distributed.joined(config.device, config.timeout_minutes) as closing, GracefulStop() as stop:
        config = distributed.on_main(lambda: config)  # one name for the run folder, not one per clock
        run = start_run(config, Run, Sample)
        closing.callback(run.engine.close)
        with run.folder, run.pool or contextlib.nullcontext():
            loop(run, stop)
        run.folder.export_sharded(run.policy, run.tokenizer, "last")
        settings.check_contrast(run)
        return distributed.on_main(lambda: run.folder.finish(run.state))


def loop(run: Run, stop: GracefulStop) -> None:
    """Train until the steps or the seconds are used up; the order of things is that of `prorl_mini.train`."""
    state, folder = run.state, run.folder
    push(run)  # also proves at the start that vLLM and the trainer agree about this model
    if not folder.saved:
        measure_boundary(run, "base")
        if run.config.eval_every:
            run.validate()
        folder.save(run)
    folder.say(report.LEGEND)
    while state.step < run.config.steps and state.seconds < (run.config.max_seconds or math.inf):
        config = run.config  # of the stage in force
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        train_step(run)
        best = False
        if config.eval_every and state.step % config.eval_every == 0:
            run.validate()
            best = best_step(state.history) == state.step
        advance_stage(run, run.reset_if_due())
        if state.step == config.steps // 2:
            measure_boundary(run, "middle")
        gave_up, unwell = state.bad_steps >= config.max_bad_steps, check_health(run)
        stopped = any(distributed.exchange(stop.requested))
        leaving = stopped or gave_up or unwell
        if leaving or best or state.step % config.save_every == 0:
            folder.save(run, wait=bool(leaving))  # what is said next has to be true
        if gave_up:
            unwell = settings.explain_bad_steps(run)
        elif unwell:
            unwell += f" (state saved; to go on without such stops: --resume {folder.path} --health-stops)"
        if unwell:
            folder.note_stop(unwell)
            raise UserError(unwell)
        if stopped:
            raise KeyboardInterrupt(str(folder.path))
    measure_boundary(run, "final")
    folder.save(run)


def main(args: list[str] | None = None) -> int:
    """The command line: 0, or one sentence and 1 on bad input, or 130 after Ctrl-C.  Only rank 0 speaks."""
    with contextlib.ExitStack() as quiet:
        if os.environ.get("RANK", "0") != "0":
            silence = quiet.enter_context(open(os.devnull, "w"))
            quiet.enter_context(contextlib.redirect_stdout(silence))
            quiet.enter_context(contextlib.redirect_stderr(silence))
        return cli.run(Config, train, args, parse, lambda config: plan.dry_run(config))  # `plan` only then


if __name__ == "__main__":
    distributed.leave(main)
