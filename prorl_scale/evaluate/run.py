"""The evaluation itself, once `prepare` has checked everything: answer and score chunk after chunk.

Under torchrun every process has an engine of its own and takes every so-manieth chunk; they meet on the file system
alone.  What a chunk's answers are depends on its place and not on who writes it, or when.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tqdm import tqdm

from prorl_lab import tasks
from prorl_lab.errors import UserError
from prorl_lab.lock import FolderLock
from prorl_scale.evaluate import sampler, sets, store
from prorl_scale.evaluate.prepare import Config, Job, Model, prepare, rank, resolve, wait_for, world
from prorl_scale.evaluate.sets import Prompt
from prorl_scale.rewards import Pool, Verdict

# --- scores


def _judged(verdict: Future[Verdict]) -> Verdict:
    """Raises UserError where the machine was too busy to judge: a table must not depend on that."""
    if verdict.result().status == "unverified":
        raise UserError("the machine is too busy to verify answers: give the same command again, with fewer --workers")
    return verdict.result()


class Scorer:
    """Scores answers beside generation: the verifiers of training, and the laptop task's own."""

    def __init__(self, domains: set[str], config: Config):
        """Start the verifiers' sandbox now, so that a machine without one is found out before generation."""
        self.laptop = tasks.LaptopTask(0, []) if "laptop" in domains else None
        self.pool = Pool(config.workers, unsafe=config.unsafe_verifiers) if domains - {"laptop"} else None

    def submit(self, prompt: Prompt, text: str) -> Callable[[], dict[str, Any]]:
        """Begin to score one answer -> a function that waits for its fields of the answers file."""
        if prompt.domain == "laptop":
            problem = tasks.Problem(prompt.reference["tier"], prompt.prompt, prompt.reference["entry"])
            (score,) = self.laptop.score([(problem, text)])
            return lambda: {"score": float(score), "status": "ok" if score >= 1 else "wrong"}
        verdict = self.pool.submit(prompt.domain, text, prompt.reference)
        if prompt.domain not in sets.HOLLOW:
            return lambda: {"score": _judged(verdict).score, "status": _judged(verdict).status}
        original = self.pool.submit(prompt.domain, text, {**prompt.reference, "scorer": "original"})
        return lambda: {
            "score": _judged(verdict).score,
            "status": _judged(verdict).status,
            "original_score": _judged(original).score,
        }

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.pool is not None:
            self.pool.close()


# --- the loop


def evaluate(config: Config) -> Path:
    """Answer and score everything that is not yet on the disk -> the folder.  Raises UserError on bad input."""
    sampler.take_gpu()
    resolve(config)
    new = not config.out.exists()
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't write to {config.out} ({error.strerror}): choose another --out") from error
    lock = FolderLock(config.out, config.break_lock, f"lock-{rank()}" if rank() else "lock")
    lock.made_folder = new  # of a mistake nothing is left
    try:
        return _evaluate(config)
    finally:
        lock.release()


def _evaluate(config: Config) -> Path:
    job = prepare(config)
    todo = {model.name: share(job, model.name) for model in job.models}
    answers = sum(len(prompts) * config.n for chunks in todo.values() for _, _, prompts in chunks)
    with (
        Scorer({p.domain for prompts in job.prompts.values() for p in prompts}, config) as scorer,
        tqdm(total=answers, unit=" answers", disable=(rank() > 0 or not answers) or None) as bar,
    ):
        for model in job.models:
            write_model(job, model, todo[model.name], scorer, bar)
            if rank() == 0:
                merge_finished(job)
    if rank() == 0:
        wait_for(lambda: merge_finished(job))  # for the other ranks
        clean(job.out)
    return job.out


def share(job: Job, model: str) -> list[tuple[str, int, list[Prompt]]]:
    """This rank's chunks that are not on the disk yet."""
    mine = [chunk for i, chunk in enumerate(job.chunks()) if i % world() == rank()]
    return [(of, number, prompts) for of, number, prompts in mine if not store.is_done(job.out, model, of, number)]


def write_model(job: Job, model: Model, todo: list, scorer: Scorer, bar: Any) -> None:
    """Answer this rank's chunks with one model.  While one is written, the one before is scored."""
    if not todo:
        return
    context = model.context([p for prompts in job.prompts.values() for p in prompts], job.config.max_tokens)
    tokens, unsaved = 0, None
    bar.set_description(f"{model.name}: vLLM starts")
    with sampler.Sampler(model.folder, job.config, model.stop_ids, context) as engine:
        start = time.perf_counter()
        for of, number, prompts in todo:
            bar.set_description(f"{model.name} {of}")
            seed = sampler.chunk_seed(job.config.seed, model.name, of, number)
            groups = engine.write([model.encode(prompt) for prompt in prompts], seed)
            rows = [
                (prompt, i, ids, cut, text, scorer.submit(prompt, text))
                for prompt, group in zip(prompts, groups, strict=True)
                for i, ((ids, cut), text) in enumerate(zip(group, model.texts(prompt, group), strict=True))
            ]
            if unsaved:
                save(*unsaved)
            unsaved = (store.part_file(job.out, model.name, of, number), rows)
            tokens += sum(len(ids) for _, _, ids, *_ in rows)
            bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):.0f} tokens/s")
            bar.update(len(rows))
        save(*unsaved)


def save(path: Path, rows: list[tuple]) -> None:
    """Wait for the scores of a chunk and write it."""
    store.write_lines(
        path,
        (
            {"id": prompt.id, "sample": i, "text": text, "tokens": len(ids), "truncated": cut, **scores()}
            for prompt, i, ids, cut, text, scores in rows
        ),
    )


def merge_finished(job: Job) -> bool:
    """Merge the sets that are complete -> whether all are."""
    count = {of: number + 1 for of, number, _ in job.chunks()}
    return all([store.merge(job.out, model.name, of, n) for model in job.models for of, n in count.items()])


def clean(out: Path) -> None:
    """Remove the empty folders that parts were in."""
    for folder in sorted(out.glob("parts/*"), reverse=True) + [out / "parts"]:
        if folder.exists():
            folder.rmdir()
