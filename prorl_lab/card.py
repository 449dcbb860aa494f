"""The model card of an exported folder (`base`, `last`): what it is made of, how, and what it was measured at."""

from pathlib import Path
from typing import Any

import yaml

from prorl_lab import greeting, report, scoring
from prorl_lab.files import read_json
from prorl_lab.log import parse_rows

PAPER = "https://arxiv.org/abs/2505.24864"
NOT_STATED = "not stated"
OWN_BASE = "laptop: this project's own, 0.7M parameters"


def text(config: Any, run: Path, name: str) -> str:
    """README.md of the folder `name` in a run folder.  config: the run's settings, with what was open filled in."""
    base, licence = config.model, licence_of(Path(config.model))
    local = Path(base).exists() or base == "laptop"
    head = {
        "library_name": "transformers",
        "tags": ["prorl"],
        "license": licence,
        "base_model": None if local else base,
    }
    front = yaml.safe_dump({key: value for key, value in head.items() if value not in (None, NOT_STATED)})
    body = of_base(config) if name == "base" else of_trained(config, run)
    return "\n".join(["---", front.rstrip(), "---", "", *body, "", f"Licence of the base model: {licence}.", ""])


def of_base(config: Any) -> list[str]:
    return [
        f"# {shown(config.model)}, as a run began with it",
        "",
        "A copy of the base model, untrained, in float32: what a resumed run reads.",
    ]


def of_trained(config: Any, run: Path) -> list[str]:
    about, log = run / "config.json", run / "metrics.jsonl"  # neither is there where no run has begun, as in tests
    about = read_json(about) if about.exists() else {}
    rows = parse_rows(log.read_text(encoding="utf-8"), log.name) if log.exists() else []
    steps = [row for row in rows if "event" not in row]
    resets = [row["step"] for row in rows if row.get("event") == "reset"]
    recipe = getattr(config, "recipe", None)
    facts = {
        "base model": OWN_BASE if config.model == "laptop" else shown(config.model),
        "recipe": recipe or "none: the settings below",
        "task": shown(config.task or NOT_STATED),
        "steps": f"{steps[-1]['step']} of {config.steps}" if steps else f"0 of {config.steps}",
        "answer tokens generated": f"{sum(row['tokens'] for row in steps):,}",
        "resets of the reference": ", ".join(map(str, resets)) or "none",
        "settings that are not the defaults": f"`{' '.join(greeting.changed(config)) or 'none'}`",
        "verifiers": f"version {about.get('verifiers', scoring.VERSION)} of this project's",
        "made with": ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items()),
        "commit": about.get("commit") or NOT_STATED,
    }
    return [
        f"# {shown(config.model)}, trained with ProRL",
        "",
        f"Prolonged reinforcement learning with resets of the reference ([Liu et al. 2025]({PAPER})).",
        "",
        report.markdown(["", ""], [[name, value] for name, value in facts.items()]),
        "",
        "## Evaluation",
        "",
        *evaluation(rows),
    ]


def evaluation(rows: list[dict[str, Any]]) -> list[str]:
    """What the run measured: pass@k with bands by tier, and the last validation."""
    boundary = {row["name"]: row["tiers"] for row in rows if row.get("event") == "boundary"}
    tiers, at = report.by_tier(boundary), report.measured(rows)
    lines = []
    if tiers:
        stages = [stage for stage in report.STAGES if stage in boundary]
        k = max(next(iter(next(iter(tiers.values())).values()))["pass@k"], key=int)
        head = [f"{report.at_step(stage, at)}: {what}" for stage in stages for what in ("pass@1", f"pass@{k}")]
        body = [
            [tier, *(cell for s in stages for cell in cells(by_stage.get(s), k))] for tier, by_stage in tiers.items()
        ]
        lines = ["Held-out problems, with 95 % intervals over prompts:", "", report.markdown(["tier", *head], body), ""]
    scores = [row for row in rows if row.get("event") == "evaluation"]
    if scores:
        best = max(scores, key=lambda row: row["score"])
        lines += [
            f"Validation (pass@1, problems that resets may look at): {scores[-1]['score']:.3f} at step "
            f"{scores[-1]['step']}, best {best['score']:.3f} at step {best['step']}.",
            "",
        ]
    return lines[:-1] or ["Nothing was measured: the run's settings turned evaluation off."]


def cells(row: dict[str, Any] | None, k: str) -> list[str]:
    if row is None:
        return ["-", "-"]
    return [f"{row['pass@k'][n]:.3f} [{row['low'][n]:.2f}, {row['high'][n]:.2f}]" for n in ("1", k)]


def shown(name: str) -> str:
    """A model or task without the place where this machine keeps it."""
    return Path(name).name if Path(name).exists() else name


def licence_of(base: Path) -> str:
    """As the base model's own card says it, where its folder has one."""
    try:
        _, front, _ = (base / "README.md").read_text(encoding="utf-8").split("---", 2)
        said = yaml.safe_load(front)
        return str(said.get("license_name") or said.get("license") or NOT_STATED)
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return NOT_STATED
