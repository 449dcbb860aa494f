"""What the training run logged beside its checkpoints."""

from prorl_lab import report

from .. import figures
from ..load import Training
from ..page import Plot, Section, Table


def training_section(training: Training) -> Section:
    section = Section(
        "training",
        "Training across reference resets",
        [
            "At a reset the reference policy becomes the current one and the optimizer starts afresh, so KL falls to 0 "
            "there. Validation is measured on held-out prompts during training, with fewer prompts and answers than "
            "the sections above.",
            "{steps} steps, {evaluations} evaluations, {resets} resets.",
        ],
        {
            "steps": training.steps[-1]["step"],
            "evaluations": len(training.evaluations),
            "resets": len(training.resets),
            "entropy": report.ENTROPY[report.entropy_key(training.steps)],
        },
    )
    lines = validation_lines(training.evaluations)
    section.facts["validation"] = ", ".join(lines) or "none"
    section.plots.append(
        Plot(
            "training", figures.dynamics(training.steps, lines, [row["step"] for row in training.resets]),
            "By training step: validation ({validation}; share of prompts), entropy and KL (nats per token), answer "
            "length (tokens). Entropy is that of {entropy}. Dotted: resets.",
        )
    )  # fmt: skip
    keys = ["step", *report.ENTROPY, "kl", "length", "solved", "resets"]
    section.tables.append(
        Table(
            "training_steps", "Steps", keys, [[row.get(key) for key in keys] for row in training.steps], on_page=False
        )
    )
    rows = [[x, label, y] for label, (xs, ys) in lines.items() for x, y in zip(xs, ys, strict=True)]
    section.tables.append(Table("training_validation", "Validation", ["step", "what", "value"], rows, on_page=False))
    if training.resets:
        rows = [[row["step"], row.get("reason", ""), *around(training, lines, row["step"])] for row in training.resets]
        columns = ["step", "why", "KL before", "KL after", "entropy", "last validation"]
        section.tables.append(Table("training_resets", "Resets", columns, rows))
    return section


def validation_lines(evaluations: list[dict]) -> dict[str, tuple[list, list]]:
    """{"pass@k": (steps, values)}; an evaluation without "pass@k" has its score, which is pass@1."""
    lines: dict[str, tuple[list, list]] = {}
    for row in evaluations:
        values = row.get("pass@k") or {"1": row["score"]}
        for k, value in values.items():
            xs, ys = lines.setdefault(f"pass@{k}", ([], []))
            xs.append(row["step"])
            ys.append(value)
    return lines


def around(training: Training, lines: dict[str, tuple[list, list]], step: int) -> list[float | None]:
    """KL just before and after a reset, entropy just before, the last validation until then."""
    before = [row for row in training.steps if row["step"] <= step]
    after = [row for row in training.steps if row["step"] > step]
    xs, ys = next(iter(lines.values()), ([], []))
    seen = [y for x, y in zip(xs, ys, strict=True) if x <= step]
    return [
        before[-1].get("kl") if before else None,
        after[0].get("kl") if after else None,
        before[-1].get(report.entropy_key(training.steps)) if before else None,
        seen[-1] if seen else None,
    ]
