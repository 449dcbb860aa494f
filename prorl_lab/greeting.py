"""The first lines of a run, printed before anything is loaded: what will be made of what, and where."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from prorl_lab import inputs

TITLE_WIDTH = 9


def lines(config: Any, folder: Path) -> str:
    """Folder, model, task, machine, and what differs from the defaults."""
    said = {
        "run": f"{folder}, resumed" if config.resume else str(folder),
        "model": model(config),
        "task": task(config.task),
        "machine": f"{config.device}, {config.dtype}, {threads(config.threads)}",
        "settings": " ".join(changed(config)) or "the defaults",
    }
    return "\n".join(f"{title:{TITLE_WIDTH}}{text}" for title, text in said.items())


def threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def model(config: Any) -> str:
    """Its name and its size, as far as that is known without loading it."""
    if config.model == "laptop":
        return f"laptop, 0.7M parameters, warmed up for {config.warm_up_steps} steps where {config.base_cache} has none"
    count = parameters(Path(config.model)) if Path(config.model).is_dir() else None
    return f"{config.model}, {amount(count)} parameters" if count else config.model


def parameters(folder: Path) -> int | None:
    """Numbers in the weights of a Hugging Face folder, from the heads of its files; None where there are none."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as opened:
                head = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
            total += sum(math.prod(part["shape"]) for name, part in head.items() if name != "__metadata__")
        except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError):
            return None  # whoever loads it will say what is wrong
    return total or None


def amount(count: int) -> str:
    """
    >>> [amount(count) for count in (734_000, 1_777_088_000)]
    ['0.7M', '1.8B']
    """
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"


def task(name: str) -> str:
    """Where its problems come from, and which are held out."""
    place = inputs.place_of(name)
    if place.is_dir():
        return f"{name}, a prepared folder: its validation files are held out"
    if place.suffix == ".jsonl":
        return f"{name}: an eighth of its rows for validation, an eighth held out"
    if place.suffix == ".py":
        return f"{name}, your own: an eighth of its problems for validation, an eighth held out"
    return f"{name}, problems made as needed: a quarter for validation, a quarter held out"


def changed(config: Any) -> list[str]:
    """The settings that are not the defaults of this model, as one would type them."""
    from prorl_lab.settings import defaults

    usual = defaults(config.model, config.task)
    said = []
    for field in dataclasses.fields(config):
        value, plain = getattr(config, field.name), usual.get(field.name, default_of(field))
        machine = field.name in ("out", "resume", "model", "task", "device", "dtype", "threads", "base_cache")
        if value == plain or machine or (plain is None and field.name in SET_LATER):
            continue
        said.append(as_flag(field.name, value))
    return said


def as_flag(setting: str, value: Any) -> str:
    """
    >>> as_flag("lora_rank", 32), as_flag("reset", False)
    ('--lora-rank 32', '--no-reset')
    """
    name = setting.replace("_", "-")
    return f"--{'' if value else 'no-'}{name}" if isinstance(value, bool) else f"--{name} {shown(value)}"


SET_LATER = ("max_prompt_tokens", "rollout_batch", "canary_tolerance")  # by the program, where nothing was said


def default_of(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {part}" for name, part in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
