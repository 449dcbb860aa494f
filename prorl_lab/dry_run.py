"""`--dry-run` of `prorl_mini.py` and `prorl_v2.py`: would it run here, or on the GPU that `--gpu` names, and how fast?

All that a run checks before it loads weights is checked by the same functions, so what passes here is accepted there.
Nothing is written or started, and of the model its config is enough.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from prorl_lab import adapters, cost, devices, greeting, hub, laptop, lean, memory, models, probe, settings, tasks
from prorl_lab.devices import Device
from prorl_lab.errors import UserError
from prorl_lab.shapes import FITS, Shape
from prorl_lab.wording import amount, term


def dry_run(config: Any) -> None:
    """Print the plan.  Raises UserError where the run would not start, or not fit."""
    config, gpu = planned(config)
    unchecked = check_prompts(config)
    shape, source = hub.known_shape(config.model)
    if shape is None:
        raise UserError(
            f"{config.model} is not here, and its shape is not known: give --model a folder with its config.json"
        )
    there = gpu.memory if gpu else machine_memory()
    rows = memory.side_by_side(shape, config, there)
    moments = memory.moments(shape, config, rows)
    print("\n".join([
        f"planned for {gpu.name if gpu else 'this CPU'}, {config.dtype}; nothing is started, and nothing written",
        f"  {config.model}: {amount(shape.weights)} weights, shape from {source}",
        *(f"  {line}" for line in unchecked),
        "",
        *memory_lines(moments, there),
        "",
        *time_lines(dataclasses.replace(config, rollout_batch=rows), shape, gpu),
    ]))  # fmt: skip
    most = max(sum(terms.values()) for terms in moments.values())
    if most > FITS * there:
        much = f"{most / 1e9:.1f} GB, more than {FITS:.0%} of {there / 1e9:.3g}"
        raise UserError(f"the run would take {much}: {remedy(shape, config, there)}")


def planned(config: Any) -> tuple[Any, Device | None]:
    """The settings as they would be on the device that the run is planned for, and that device; None: this CPU.

    Raises UserError for settings that can't work.
    """
    gpu = None
    if config.gpu and config.device != "cpu":
        gpu = devices.of(config.gpu)
    elif config.device != "cpu" and config.model != "laptop" and torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        known = devices.named(found.name) or devices.of(f"{found.total_memory / 1e9:.3g}")
        gpu = dataclasses.replace(known, memory=found.total_memory)
    elif config.device == "cuda":
        raise UserError("no GPU found: say which one to plan for with --gpu 24, say, or pass --device cpu")
    return settings.resolve(dataclasses.replace(config, device="cuda" if gpu else "cpu")), gpu


def machine_memory() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def check_prompts(config: Any) -> list[str]:
    """Task, model and each row of a file, as a run checks them -> what could not be.  Raises UserError."""
    task = tasks.load_task(config, [])
    folder = None if config.model == "laptop" else hub.model_folder(config.model)
    if config.model == "laptop":
        tasks.join(config, task, *opened(config, folder))
        return []
    if folder is None:
        return ["not checked: the model and its prompts, for the model is not here"]
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        return [f"not checked: prompts, for {folder} has no tokenizer"]
    tokenizer, model_config = opened(config, folder)
    tasks.join(config, task, tokenizer, model_config)
    if config.bfloat16_reference:
        lean.prove_rounding(config.model, model_config)
    if config.lora_rank:
        adapters.add(probe.copy_of(model_config), config.lora_rank, config.seed)
    return ["not checked: its weights"]


def opened(config: Any, folder: Path | None) -> tuple[Any, Any]:
    """-> (tokenizer, config) of a model, checked as a run checks them before it loads weights; None: the laptop model.

    Raises UserError.
    """
    if folder is None:
        tokenizer = laptop.build_tokenizer()
        return tokenizer, laptop.model_config(laptop.WarmUp(), len(tokenizer))
    tokenizer, model_config = models.open_checked(config.model, str(folder), models.context_asked(config))
    models.set_template_defaults(tokenizer, config.chat_template_kwargs)
    return tokenizer, model_config


def memory_lines(moments: dict[str, dict[str, float]], there: float) -> list[str]:
    """The terms of each moment, its sum, and whether that fits."""
    lines = [f"memory, of which {FITS:.0%} of {there / 1e9:.3g} GB may be planned with"]
    for name, terms in moments.items():
        lines += [f"  {name}", *(term(what, size) for what, size in terms.items() if size)]
        lines += [term("together", sum(terms.values()), FITS * there)]
    return lines


def time_lines(config: Any, shape: Shape, gpu: Device | None) -> list[str]:
    """Seconds of a step by phase."""
    site, guess = cost.site_of(config, shape, gpu), cost.guess_of(config)
    seconds = cost.step_seconds(config, site, guess)
    step = sum(seconds.values())
    return [
        f"seconds of a step on {site.device.name}, estimated (prorl_lab/cost.py)",
        "  " + ", ".join(f"{phase} {value:.3g}" for phase, value in seconds.items() if value),
        f"  together {step:.3g}; {config.steps} steps: {config.steps * step / 3600:.3g} hours, pass@k not counted",
        f"  assuming {guess.keep:.0%} of groups with contrast, answers of {guess.mean_answer:.0%} of the limit on "
        f"average, prompts of {guess.prompt} tokens",
    ]


def remedy(shape: Shape, config: Any, there: float) -> str:
    """The nearest settings that fit, as one would type them."""
    changes = memory.nearest(shape, config, there)
    if not changes:
        return "no three changes are enough; choose a smaller model, or torchrun -m prorl_scale.train on several GPUs"
    flags = " ".join(greeting.as_flag(name, value) for name, value in changes.items())
    return f"the nearest that fits is {flags}"
