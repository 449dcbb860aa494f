"""Build a training mixture and a validation blend: one parquet file per source, a manifest of what was kept and why.

Each file is written whole or not at all and remembers its settings, so a run that was cut off goes on with the source
it was at.  Sizes are the paper's; the validation blend of the domains other than puzzles is our choice, because the
paper's is drawn from the evaluation sets.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

from prorl_lab import inputs, judge, questions, scoring
from prorl_lab.bars import tqdm
from prorl_lab.errors import UserError
from prorl_lab.later import Later
from prorl_lab.questions import split_order
from prorl_lab.split import plain, split_of
from prorl_scale.rewards import Pool, Verdict

from .contamination import Index, evaluation_texts
from .sources import SOURCES, TASKS, Check, Dropped, Row, puzzles, records, row

own, tasks, common = (Later(f"prorl_lab.{name}") for name in ("own", "tasks", "settings"))  # torch takes a second

FORM = 4  # of rows and of what judges them: higher than that of a part on disk, the part is made again
EXAMPLES = 3  # of each reason, written beside the manifest for a person to look at

RECIPES: dict[str, dict[str, dict[str, int]]] = {  # rows by split and domain
    "prorl-1.5b": {
        "train": {"math": 40_000, "code": 24_000, "stem": 25_000, "puzzle": 37_000, "instruction": 10_000},
        "validation": {"math": 200, "code": 200, "stem": 200, "puzzle": 9_600, "instruction": 200},
    },
    "tiny": {
        "train": {"math": 64, "code": 64, "stem": 64, "puzzle": 192, "instruction": 64},
        "validation": {"math": 8, "code": 8, "stem": 8, "puzzle": 96, "instruction": 8},
    },
}
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("domain", pyarrow.string()),
        ("source", pyarrow.string()),
        ("prompt", pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))),
        ("reference", pyarrow.large_string()),  # the tests of all programs together may pass 2 GB
        ("meta", pyarrow.string()),
    ]
)


@dataclass
class Prepare:
    """What to prepare, and where."""

    out: Path
    recipe: str = "prorl-1.5b"  # or tiny, to try it out
    source: list[str] = field(default_factory=list)  # NAME=PATH of files already on disk, instead of the hub
    own: list[str] = field(default_factory=list)  # files of your own: question and answer in .jsonl, or a task in .py
    evaluation: list[Path] = field(default_factory=list)  # .json or .jsonl; overlapping training prompts are dropped
    only: list[str] = field(default_factory=list)  # domains to prepare; by default all five
    keep: list[str] = field(default_factory=list)  # reasons of prorl_lab/judge.py for which nothing is dropped
    seed: int = 0
    workers: int | None = None  # of the verifiers; by default one per CPU
    unsafe_verifiers: bool = False
    # Then have a model answer the training prompts, and write how often each is solved (estimate.py), with vLLM.
    estimate: str | None = None  # a Hugging Face folder
    estimate_share: float = 1.0  # of the prompts
    estimate_answers: int = 8  # to each
    estimate_temperature: float = 1.2  # as training samples
    estimate_tokens: int = 8192  # of an answer; the model's context may end it earlier


def prepare(config: Prepare) -> dict[str, Any]:
    """Write the files and the manifest, also returned.  Raises UserError, or SandboxError where that can't start."""
    if config.workers is not None and config.workers < 1:
        raise UserError(f"--workers is {config.workers}: give at least 1")
    if config.out.exists() and not config.out.is_dir():
        raise UserError(f"--out {config.out} is a file: give a folder")
    if config.recipe not in RECIPES:
        raise UserError(f"unknown recipe {config.recipe!r}: choose from {', '.join(RECIPES)}")
    sizes = RECIPES[config.recipe]
    if unknown := sorted(set(config.only) - set(sizes["train"])):
        raise UserError(f"unknown domain {', '.join(unknown)}: choose from {', '.join(sizes['train'])}")
    paths = {name: Path(path) for name, _, path in (item.partition("=") for item in config.source) if path}
    if len(paths) < len(config.source) or set(paths) - set(SOURCES):
        raise UserError(f"--source takes NAME=PATH, each NAME once and one of {', '.join(SOURCES)}: {config.source}")
    if not (0 < config.estimate_share <= 1 and config.estimate_answers > 0 and config.estimate_tokens > 0):
        raise UserError("--estimate-share is above 0 and at most 1, and answers and tokens are at least 1: mend them")
    if config.estimate and not common.COOLEST <= config.estimate_temperature < math.inf:
        raise UserError(
            f"--estimate-temperature {config.estimate_temperature} is no temperature: give {common.COOLEST} or more"
        )
    own_files = [own_file(path) for path in config.own]
    judge.check_keep(config.keep)
    # With files of one's own alone, the five domains are not asked for.
    domains = config.only or ([] if own_files and not config.source else list(sizes["train"]))
    index = Index((path.name, text) for path in config.evaluation for text in evaluation_texts(path))
    parts = []
    with Pool(config.workers, unsafe=config.unsafe_verifiers) as pool:
        for domain in domains:
            wanted = {split: sizes[split][domain] for split in sizes}
            if domain == "puzzle":
                parts += [
                    _puzzle_part(config, index, task, wanted) for task in tqdm(TASKS, desc="puzzle", unit=" tasks")
                ]
            else:
                parts.append(_source_part(config, index, pool, domain, paths.get(domain), wanted))
        parts += [_own_part(config, index, pool, *own_file) for own_file in own_files]
    manifest = {
        "recipe": config.recipe,
        "seed": config.seed,
        "evaluation": [path.name for path in config.evaluation],
        "kept in spite of": sorted(config.keep),
        "verifiers": scoring.VERSION,
        "versions": {name: importlib.metadata.version(name) for name in ("reasoning-gym", "datasets")},
        "wanted": _total(parts, "wanted"),
        "rows": _total(parts, "rows"),
        "dropped": _total(parts, "dropped"),
        "noted": _total(parts, "noted"),
        "parts": parts,
    }
    (config.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _total(parts: list[dict], key: str) -> dict[str, dict[str, int]]:
    total: dict[str, Counter] = {}
    for part in parts:
        total.setdefault(part["domain"], Counter()).update(part[key])
    return {domain: dict(counts) for domain, counts in total.items()}


class Tally:
    """Why records were dropped: how many, the first few of each reason, and what is counted in those kept."""

    def __init__(self) -> None:
        self.dropped: Counter = Counter()
        self.noted: Counter = Counter()
        self.examples: list[dict[str, Any]] = []

    def drop(self, reason: str, name: str, question: Any, reference: Any = None) -> None:
        self.dropped[reason] += 1
        if self.dropped[reason] <= EXAMPLES:
            shown = {"question": _short(question), "reference": _short(reference)}
            self.examples.append({"reason": reason, "id": name, **shown})

    def drop_row(self, reason: str, made: Row) -> None:
        self.drop(reason, made.id, made.question, made.reference)


def _short(value: Any, length: int = 1000) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= length else f"{text[:length]} [...]"


def _source_part(
    config: Prepare, index: Index, pool: Pool, domain: str, path: Path | None, wanted: dict[str, int]
) -> dict[str, Any]:
    origin = SOURCES[domain].name if path is None else _fingerprint(path)
    settings = {"origin": origin, "wanted": wanted, "seed": config.seed, "evaluation": _evaluation(config)}
    settings |= {"form": FORM, "keep": sorted(config.keep)}
    if (part := _finished(config.out, domain, settings)) is not None:
        return part
    tally = Tally()
    made = _once(_judged(domain, records(SOURCES[domain], path), config.keep, tally), tally)
    clean, overlaps = _clean(_checked(made, pool, tally), index, tally)
    for kept in clean:
        tally.noted.update(judge.notes(judge.Task(domain, kept.question, kept.reference)))
    # An order that the questions' own text fixes, whatever order the source came in and whatever the seed: of another
    # preparation no training row is held out here.
    clean.sort(key=lambda r: split_order(r.question))
    held = min(wanted["validation"], len(clean) // 10)
    splits = {"validation": clean[:held], "train": clean[held : held + wanted["train"]]}
    tally.dropped["more than wanted"] += max(0, len(clean) - held - wanted["train"])
    return _write(config.out, domain, domain, splits, tally, overlaps, settings)


OWN_ROWS = {"train": 10_000, "validation": 200}  # at most, of a file of one's own


def own_file(task: str) -> tuple[str, Path, str | None]:
    """A file of --own -> the name of its part, its path, the object in it.  Raises UserError."""
    path, name = inputs.file_of_python(task) or (Path(task), None)
    if not path.is_file() or path.suffix not in (".jsonl", ".py"):
        raise UserError(f"--own {task}: give a .jsonl of questions and answers, or a .py with a task")
    return f"own-{'-'.join(filter(None, (path.stem, name)))}", path, name


def _own_part(config: Prepare, index: Index, pool: Pool, part: str, path: Path, name: str | None) -> dict[str, Any]:
    """Rows of a file of one's own.  What it holds out is in no file here: `evaluate --sets FILE` asks that."""
    settings = {"origin": _fingerprint(path), "wanted": OWN_ROWS, "seed": config.seed, "form": FORM, "name": name}
    domain = "own" if path.suffix == ".py" else "math"
    settings |= {"evaluation": _evaluation(config), "keep": sorted(config.keep)}
    if (done := _finished(config.out, part, settings)) is not None:
        return done
    tally, splits, overlaps = Tally(), {}, []
    made = (
        _own_task_rows(part, path, name, config.seed)
        if domain == "own"
        else _own_questions(part, path, config.keep, tally)
    )
    for split, rows in made.items():
        clean, found = _clean(_checked(rows, pool, tally), index, tally)
        splits[split], overlaps = clean[: OWN_ROWS[split]], overlaps + found
        tally.dropped["more than wanted"] += max(0, len(clean) - OWN_ROWS[split])
    return _write(config.out, part, domain, splits, tally, overlaps, settings)


def _own_questions(part: str, path: Path, keep: Collection[str], tally: Tally) -> dict[str, list[Row]]:
    divided = questions.by_split(questions.read(path))
    made: dict[str, list[Row]] = {}
    for split in ("validation", "train"):
        made[split] = []
        for one in divided[split]:
            try:
                new = row("math", one["line"], {"question": one["question"], "answer": one["answer"]}, keep)
            except Dropped as reason:
                tally.drop(str(reason), f"{part}-{one['line']:06d}", one["question"], one["answer"])
                continue
            made[split].append(dataclasses.replace(new, id=f"{part}-{one['line']:06d}", source=path.name))
    return made


def _own_task_rows(part: str, path: Path, name: str | None, seed: int) -> dict[str, list[Row]]:
    task = own.OwnTask(path, name, seed, [], None)
    task.prove(binary=False)
    count = OWN_ROWS["train"] if task.rows is None else len(task.rows["train"])
    found = {"validation": [p for tier in task.tiers for p in tasks.held_out(task, "validation", tier, 200)]}
    found["train"] = [task.problem("train", number) for number in range(count)]
    return {
        split: [
            Row(f"{part}-{split}-{number:06d}", "own", path.name, own.text_of({"prompt": p.prompt}),
                tasks.as_chat(p.prompt), task.item(p, "")[2], {"tier": p.tier})
            for number, p in enumerate(some)
        ]
        for split, some in found.items()
    }  # fmt: skip


def _judged(domain: str, source: Iterable[dict], keep: Collection[str], tally: Tally) -> Iterator[Row]:
    """The rows of those records that a verifier can judge."""
    for number, record in enumerate(tqdm(source, desc=domain, unit=" records")):
        asks = record.get("question")
        if "problem" not in record and isinstance(asks, str) and split_of(asks, questions.PARTS) == "held-out":
            # A file with the columns of one's own, whose held-out rows `evaluate --sets FILE` asks.
            tally.drop("held out, for evaluate --sets", f"{domain}-{number:06d}", asks, record.get("answer"))
            continue
        try:
            yield row(domain, number, record, keep)
        except Dropped as reason:
            asked = next((record[key] for key in ("problem", "prompt", "input") if key in record), None)
            told = next((record[key] for key in ("answer", "reward_model", "args") if key in record), None)
            tally.drop(str(reason), f"{domain}-{number:06d}", asked, told)


def _once(made: Iterable[Row], tally: Tally) -> list[Row]:
    """The first of the rows that ask the same, whatever their layout; none where their integer answers differ."""
    first: dict[str, Row] = {}
    torn = set()
    for new in made:
        text = plain(new.question)
        old = first.setdefault(text, new)
        if old is new:
            continue
        tally.drop_row("duplicate", new)
        answers = [str(r.reference.get("answer", "")) for r in (old, new)]
        if all(answer.lstrip("-").isdecimal() for answer in answers) and int(answers[0]) != int(answers[1]):
            torn.add(text)
    for text in torn:
        tally.drop_row("duplicate with another answer", first.pop(text))
    return list(first.values())


def _checked(made: list[Row], pool: Pool, tally: Tally) -> list[Row]:
    """The rows whose reference the verifier takes, and whose checks it passes.

    Many rows share a short answer, so each pair of an answer and a reference is verified once.
    """
    items = {_item(one, check): (one.domain, check.response, one.reference) for one in made for check in one.checks}
    verdicts = dict(zip(items, pool.verify(items.values()), strict=True))
    kept = []
    for one in made:
        if failed := next(filter(None, (_failure(verdicts[_item(one, check)], check) for check in one.checks)), None):
            tally.drop_row(failed, one)
        else:
            kept.append(one)
    return kept


def _item(one: Row, check: Check) -> tuple:
    """What a verdict depends on; the tests of a program are its row's own."""
    return check.response, str(one.reference["answer"]) if "answer" in one.reference else one.id


def _failure(verdict: Verdict, check: Check) -> str | None:
    """Why a verdict drops the row, if it does."""
    if verdict.status == "unverified":  # a row must not be lost to what else the machine was doing
        raise UserError("the machine is too busy to verify the rows: prepare again, with fewer --workers")
    if verdict.status in ("error", "timeout"):
        return "the verifier does not take the reference"
    return None if check.low <= verdict.score < check.below else check.reason


def _clean(made: list[Row], index: Index, tally: Tally, runs: bool = True) -> tuple[list[Row], list[dict[str, str]]]:
    """The rows without overlap with an evaluation set, and a report of those with one."""
    clean, overlaps = [], []
    for one in made:
        if match := index.match(one.question, runs):
            tally.drop_row(f"overlaps an evaluation set: {match.how}", one)
            overlaps.append({"id": one.id, **match._asdict()})
        else:
            clean.append(one)
    return clean, overlaps


def _puzzle_part(config: Prepare, index: Index, task: str, wanted: dict[str, int]) -> dict[str, Any]:
    share = {split: _share(count, task) for split, count in wanted.items()}
    version = importlib.metadata.version("reasoning-gym")
    settings = {"origin": f"reasoning-gym {version}", "wanted": share, "seed": config.seed, "form": FORM}
    settings["evaluation"] = _evaluation(config)
    name = f"puzzle-{task}"
    if (part := _finished(config.out, name, settings)) is not None:
        return part
    tally = Tally()
    validation = list(puzzles(task, "validation", share["validation"], config.seed))
    held = {made.question for made in validation}
    train = list(puzzles(task, "train", share["train"], config.seed))
    fresh = [made for made in train if made.question not in held]
    tally.dropped["also in validation"] = len(train) - len(fresh)
    clean, overlaps = _clean(fresh, index, tally, runs=False)
    return _write(config.out, name, "puzzle", {"train": clean, "validation": validation}, tally, overlaps, settings)


def _share(count: int, task: str) -> int:
    """How many of `count` rows a task gets: as even as whole numbers allow."""
    base, extra = divmod(count, len(TASKS))
    return base + (TASKS.index(task) < extra)


def _fingerprint(path: Path) -> str:
    """The names and the content of the files at a path: an answer that was edited in place makes other data."""
    return ", ".join(f"{Path(file).name} sha256 {value}" for file, value in inputs.sums([path]).items())


def _evaluation(config: Prepare) -> list[str]:
    return [_fingerprint(path) for path in config.evaluation]


def _finished(out: Path, name: str, settings: dict) -> dict[str, Any] | None:
    """The manifest of a part that is there already and was made with the same settings."""
    note = out / "parts" / f"{name}.json"
    if not note.exists():
        return None
    part = json.loads(note.read_text(encoding="utf-8"))
    return part if part["settings"] == settings else None


def _write(
    out: Path, name: str, domain: str, splits: dict[str, list[Row]], tally: Tally, overlaps: list, settings: dict
) -> dict[str, Any]:
    hashes = {}
    for split, rows in splits.items():
        path = out / split / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = [
            {
                "id": r.id,
                "domain": r.domain,
                "source": r.source,
                "prompt": r.prompt,
                "reference": json.dumps(r.reference),
                "meta": json.dumps(r.meta),
            }
            for r in rows
        ]
        parquet.write_table(pyarrow.Table.from_pylist(columns, SCHEMA), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
        hashes[split] = hashlib.sha256(json.dumps(columns).encode()).hexdigest()
    part = {
        "name": name,
        "domain": domain,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "wanted": settings["wanted"],
        "dropped": {reason: count for reason, count in tally.dropped.items() if count},
        "noted": dict(tally.noted),
        "overlaps": overlaps,
        "sha256 of the rows": hashes,
        "settings": settings,
    }
    shown = out / "dropped" / f"{name}.jsonl"
    shown.parent.mkdir(parents=True, exist_ok=True)
    shown.write_text("".join(json.dumps(example) + "\n" for example in tally.examples), encoding="utf-8")
    note = out / "parts" / f"{name}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.with_suffix(".tmp").write_text(json.dumps(part), encoding="utf-8")
    os.replace(note.with_suffix(".tmp"), note)  # last: a part without its note is made again
    return part
