"""What a run needs and does not find: model and data, each with the command that fetches or makes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prorl_lab import tasks
from prorl_lab.errors import UserError
from prorl_lab.hub import model_folder
from prorl_lab.run_folder import read_json
from prorl_scale.config import Config, stages_of

DATA_RECIPE = "prorl-1.5b"  # of prorl_scale.data: all five domains


@dataclass(frozen=True)
class Missing:
    """Something that is not there, and the command that fetches or makes it, where `what` does not say it."""

    kind: str  # "model" | "data"
    what: str
    remedy: str | None


def missing_model(name: str) -> Missing | None:
    """None where the model can be loaded without the network."""
    if name == "laptop":
        return None
    looks_local = name.startswith((".", "/", "~")) or name.count("/") != 1
    remedy = "give --model a folder that is there, or a name on the hub" if looks_local else f"hf download {name}"
    folder = model_folder(name)
    if folder is None:
        where = "no such folder" if looks_local else "neither a folder nor in the Hugging Face cache"
        return Missing("model", f"{name}: {where}", remedy)
    lacking = lacking_files(folder)
    return Missing("model", f"{name}: {folder} lacks {', '.join(lacking)}", remedy) if lacking else None


def lacking_files(folder: Path) -> list[str]:
    """What a model folder needs and does not have: configuration, tokenizer, every file of its weights."""
    lacking = [] if (folder / "config.json").exists() else ["config.json"]
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        lacking.append("a tokenizer")
    indices = [folder / name for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json")]
    whole = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    if any(path.exists() for path in whole):
        return lacking
    for index in indices:
        if index.exists():
            parts = set(read_json(index)["weight_map"].values())
            return lacking + sorted(part for part in parts if not (folder / part).exists())
    return [*lacking, "weights (model.safetensors)"]


def missing_data(config: Config) -> Missing | None:
    """None where the task can be had, and every domain that a stage trains on or validates with has prepared rows."""
    folder = Path(config.task)
    if not folder.is_dir() and ("/" not in config.task or folder.suffix == ".jsonl"):
        try:
            tasks.load_task(config, [], sandboxed=True)
        except UserError as error:
            return Missing("data", str(error), None)
        return None
    remedy = f"python -m prorl_scale.data prepare --recipe {DATA_RECIPE} --out {folder}"
    manifest = folder / "manifest.json"
    if not manifest.exists():
        reason = "not wholly prepared (no manifest.json)" if folder.is_dir() else "no such folder"
        return Missing("data", f"{folder}: {reason}", remedy)
    if config.pass_rate and not (folder / "pass-rates.jsonl").exists():
        return Missing("data", f"{folder}: no pass rates, which --pass-rate asks for", f"{remedy} --estimate MODEL")
    lacking = lacking_rows(config, folder, read_json(manifest))
    return Missing("data", f"{folder}: {', '.join(lacking)}", remedy) if lacking else None


def lacking_rows(config: Config, folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Domains without rows, and files without which the manifest promises too much."""
    stages = stages_of(config)
    wanted = {"train": [s.domains for s in stages], "validation": [s.eval_sets for s in stages if s.eval_every]}
    pairs = sorted({(split, domain) for split, sets in wanted.items() for domains in sets for domain in domains or {}})
    rows = manifest["rows"]
    lacking = [f"no {split} rows of {domain}" for split, domain in pairs if not rows.get(domain, {}).get(split)]
    for part in manifest["parts"]:
        files = [Path(split) / f"{part['name']}.parquet" for split, count in part["rows"].items() if count]
        lacking += [f"no {file}" for file in files if not (folder / file).exists()]
    return lacking
