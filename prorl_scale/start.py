"""Making a run: check, load, shard, start vLLM, each once and in this order.  `train.py` is the loop that uses it."""

import dataclasses
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

import prorl_mini
from prorl_lab import models, probe, settings
from prorl_lab.errors import UserError
from prorl_lab.run_folder import read_json, write_json
from prorl_lab.seeds import derived
from prorl_scale import distributed, policy, tasks
from prorl_scale.checkpoint import Folder
from prorl_scale.config import Config, longest_answer, recipe_of, stages_of
from prorl_scale.recipes import Recipe
from prorl_scale.rewards import Pool, SandboxError
from prorl_scale.rollout import Canary, Engine, refuse_experts


def start_run(config: Config, run_class: type, sample_class: type) -> Any:
    """A fresh run, or the state of the one to resume -> a `run_class`, the same on every rank but for its shards.

    Raises UserError, on all ranks, for a mistake of any; one in model, task or machine leaves no files in a new folder.
    """
    recipe, stages = recipe_of(config), stages_of(config)
    for stage in stages:
        stage.check()
    folder = Folder(config)
    distributed.on_main(lambda: folder.greet(config) and None)
    if folder.saved:
        distributed.on_main(lambda: check_recipe(recipe, config, folder))
    torch.set_num_threads(config.threads)

    parts = open_parts(config, recipe, stages, folder)
    if parts.pool is not None and distributed.rank() == 0:
        print(
            f"verifiers: {parts.pool.workers} workers for each of this machine's {distributed.local_world()} processes"
        )
    rows = canary_rows(config, parts, folder)
    exact = exact_logprobs(parts.model, rows) if config.canary_tolerance is None else None
    scorer, reference = policy.shard_pair(parts.model, config)
    tolerance = config.canary_tolerance if exact is None else measured_tolerance(scorer, rows, exact, config)
    adam = torch.optim.AdamW(scorer.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True)
    generator = torch.Generator(distributed.device(config.device)).manual_seed(
        derived("rollout", config.seed, distributed.rank())
    )
    run = run_class(
        config, scorer, reference, adam, parts.tokenizer, parts.task, generator, folder,
        recipe=recipe, stages=stages, pool=parts.pool,
    )  # fmt: skip
    if folder.saved:
        folder.note_stop(None)
        folder.restore(run, type(run.state), sample_class)
    run.enter_stage()

    context = config.max_prompt_tokens + longest_answer(stages)
    run.canary = Canary(rows, tolerance, probe.last_border(run.policy.config), context)
    distributed.on_all(lambda: check_memory(config))
    run.engine = distributed.on_all(lambda: Engine(str(folder.path / "base"), run.config, run.task.stop_ids, context))
    if folder.saved:  # now that they are known to work
        distributed.on_main(lambda: folder.keep_settings(config))
    return run


@dataclass
class Parts:
    """What a rank opens: the model, whole and on the CPU, and what reads and scores its answers."""

    model: Any
    tokenizer: Any
    task: tasks.tasks.Task
    pool: Pool | None


def open_parts(config: Config, recipe: Recipe, stages: list[Config], folder: Folder) -> Parts:
    """Every rank's parts.  Of a new run rank 0 fetches, or warms up, the model; the others read it from the run folder.

    Rank 0 also writes the first files, once all of its parts are known to work.
    """
    first: list[Parts] = []

    def begin() -> None:
        parts = open_here(config, config.model, recipe, stages)
        folder.begin(prorl_mini.Run(config, parts.model, None, None, parts.tokenizer, parts.task, None, folder))
        write_json(folder.path / "recipe.json", dataclasses.asdict(recipe))
        check_copy(models.stop_ids(parts.model.config, parts.tokenizer), base)
        first.append(parts)

    base = str(folder.path / "base")
    if not folder.saved:
        distributed.on_main(begin)
    return distributed.on_all(lambda: first[0] if first else open_here(config, base, recipe, stages))


def open_here(config: Config, source: str, recipe: Recipe, stages: list[Config]) -> Parts:
    """This rank's parts, the model from `source`.  Raises UserError for one that can't be opened, or won't do."""
    model, tokenizer = models.load_policy(dataclasses.replace(config, model=source, device="cpu"))
    task = open_task(config, tokenizer, model.config, recipe, stages)
    return Parts(model, tokenizer, task, open_pool(config, task))


def open_task(config: Config, tokenizer: Any, model_config: Any, recipe: Recipe, stages: list[Config]) -> Any:
    """The task, for a model that will do.  Raises UserError; `--dry-run` asks it too, for it needs no weights."""
    models.check_rotary(config.model, model_config, config.max_prompt_tokens + longest_answer(stages))
    proofs = None if config.dry_run else Path(config.base_cache)  # a dry run writes nothing
    probe.prove(config.model, model_config, (policy.packing,), proofs)
    if config.device == "cpu":
        refuse_experts(model_config)
    task = tasks.load_task(config, models.stop_ids(model_config, tokenizer), tokenizer)
    longest = dataclasses.replace(config, max_new_tokens=longest_answer(stages))
    tasks.tasks.join(longest, task, tokenizer, model_config)
    check_stages(recipe, stages, task)
    return task


def check_copy(stop_ids: list[int], base: str) -> None:
    """The copy in the run folder, which the other ranks and a resumed run read, ends answers with the same tokens.

    Else each would stop, and score, its answers in its own way without a word.  Raises UserError.
    """
    copied = models.stop_ids(AutoConfig.from_pretrained(base), AutoTokenizer.from_pretrained(base))
    if copied != stop_ids:
        raise UserError(
            f"answers of the model end with the tokens {stop_ids}, those of its copy in {base} with {copied}: write "
            "eos_token_id into the model's config.json, all of them as a list, and start again with another --out"
        )


def check_memory(config: Config) -> None:
    """Is what vLLM may take of this GPU free?  Raises UserError.

    vLLM looks itself, but between two collectives: a rank that fails there leaves the others waiting in another one.
    """
    if config.device != "cuda":
        return
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    if free < config.gpu_memory * total:
        raise UserError(
            f"GPU {torch.cuda.current_device()} of {socket.gethostname()} has {free / 1e9:.1f} GB free, and "
            f"--gpu-memory {config.gpu_memory:g} asks for {config.gpu_memory * total / 1e9:.1f}: end what else runs "
            "there (nvidia-smi), or lower it"
        )


def open_pool(config: Config, task: Any) -> Pool | None:
    """This rank's verifiers; None for a task that scores its answers itself.  Raises UserError without a sandbox."""
    if not hasattr(task, "item"):
        return None
    try:
        return Pool(config.verifier_workers, unsafe=config.unsafe_verifiers, sharers=distributed.local_world())
    except SandboxError as error:
        raise UserError(str(error)) from error


def check_stages(recipe: Recipe, stages: list[Config], task: Any) -> None:
    """What every stage asks of the task must be there before the first begins.  Raises UserError."""
    for stage, now in zip(recipe.stages, stages, strict=True):
        settings.check_eval_sets(now, task.tiers)
        if now.domains and not hasattr(task, "set_weights"):
            raise UserError(
                f"stage {stage.name!r} draws from the domains {', '.join(now.domains)}, and --task {now.task} has "
                "none: give a folder of prepared data, or leave --domains out"
            )
        if now.domains:
            task.set_weights(now.domains)


def check_recipe(recipe: Recipe, config: Config, folder: Folder) -> None:
    """A run goes on with the stages that it began with.  Raises UserError."""
    if read_json(folder.path / "recipe.json") != json.loads(json.dumps(dataclasses.asdict(recipe))):
        raise UserError(
            f"the recipe {config.recipe} has changed since {folder.path} began: go back to the commit named in its "
            "config.json, or start a new run with --out"
        )


# ---------------------------------------------------------------- what the canary may find


# Two engines in bfloat16 differ by about what each differs from float32: a model of 135M parameters 0.058 nats a token,
# and each of the two 0.051 and 0.053.  A fault in one of its 30 layers made that 0.25 to 0.74 in float32 (measured).
TIMES_ROUNDING = 4
MOST_ROUNDING = 0.15


def canary_rows(config: Config, parts: Parts, folder: Folder) -> list[list[int]]:
    """Two held-out prompts of each tier, as ids: the text that both engines score after each push.

    Of a task that holds none out, the first that it trains on.
    """
    run = prorl_mini.Run(config, parts.model, None, None, parts.tokenizer, parts.task, None, folder)
    problems = [p for tier in parts.task.tiers for p in tasks.tasks.available(parts.task, "held-out", tier, 2)]
    return [prorl_mini.encode(run, problem) for problem in problems or [parts.task.problem("train", 0)]]


@torch.no_grad()
def exact_logprobs(model: Any, rows: list[list[int]]) -> list[Tensor]:
    """Log-probs of every token but the first of each row, by the whole model in float32 on the CPU.  A collective."""
    share = rows[distributed.rank() :: distributed.world()]
    mine = [probe.plain(model, prorl_mini.Sample(row[:1], row[1:])) for row in share]
    shares = distributed.exchange(mine)
    return [shares[i % len(shares)][i // len(shares)] for i in range(len(rows))]


def measured_tolerance(scorer: Any, rows: list[list[int]], exact: list[Tensor], config: Config) -> float:
    """Nats per token by which sampler and trainer may differ: some times what rounding costs the trainer on these rows.

    Raises UserError, on every rank, where that is more than rounding: a tolerance must not follow a broken trainer.
    """
    samples = [prorl_mini.Sample(row[:1], row[1:]) for row in rows]
    rounded = policy.score_samples(scorer, samples, config.microbatch_tokens, temperature=1.0)
    rounding = (torch.cat([logp for logp, _ in rounded]) - torch.cat(exact)).abs().mean().item()
    if not rounding <= MOST_ROUNDING:
        raise UserError(
            f"the trainer in {config.dtype} differs from float32 by {rounding:.2g} nats per token on the canary's "
            "rows, which is more than rounding: run `make gpu-check`, or give --canary-tolerance to skip this check"
        )
    return TIMES_ROUNDING * rounding
