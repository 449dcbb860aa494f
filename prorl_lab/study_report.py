"""What a study's runs say: each claim judged by one rule, and the pages that tell it."""

import csv
import dataclasses
import datetime
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from prorl_lab import compare
from prorl_lab.compare import RunData
from prorl_lab.errors import UserError
from prorl_lab.files import read_json, replacing, write_json
from prorl_lab.intervals import CONFIDENCE, seeds_interval
from prorl_lab.report import markdown
from prorl_lab.studies import STUDIES, Claim, Study

KEPT_CURVES = ("validation", "pass@k", "solved", "entropy", "kl", "length", "clipped")  # of each run, beside the figure
RULE = (
    "A claim names its measure, the direction of the effect and the least effect that would matter, before the run. "
    "The effect is a mean over seeds, of differences between two arms at the same seed where it compares arms. "
    "Supported: the interval lies wholly in the direction predicted, and the effect is at least the least one. "
    "Not supported: the interval lies wholly below the least effect. Inconclusive at this scale: neither. "
    "The interval of the verdict is that of 95 % for all claims of the study together (Bonferroni), so it is wider "
    "than the 95 % interval of each, which is shown."
)
BEFORE = (
    "**The runs are older than the claims** (`{}`): the measures were chosen by someone who had seen the figures, so "
    "these verdicts are weaker than those of a study that was written down first."
)


@dataclasses.dataclass
class Finding:
    """A claim and what the runs say.  values: by seed."""

    claim: Claim
    values: dict[int, float]
    claims: int  # of the whole study

    @property
    def effect(self) -> float:
        return float(np.mean(list(self.values.values())))

    def interval(self, together: bool = False, fresh: int = 0) -> tuple[float, float]:
        """The 95 % interval; together: that which holds for all claims of the study at once."""
        confidence = 1 - (1 - CONFIDENCE) / self.claims if together else CONFIDENCE
        return seeds_interval(np.array(list(self.values.values())), confidence, fresh)

    @property
    def verdict(self) -> str:
        return verdict(self.effect, *self.interval(together=True), self.claim.least, self.claim.sign)


def verdict(effect: float, low: float, high: float, least: float, sign: int) -> str:
    """`RULE` as a function.

    >>> verdict(0.3, 0.1, 0.5, 0.05, 1), verdict(0.0, -0.02, 0.02, 0.05, 1), verdict(-0.1, -0.3, 0.1, 0.05, 1)
    ('supported', 'not supported', 'inconclusive')
    """
    if sign < 0:
        effect, low, high = -effect, -high, -low
    if low > 0 and effect >= least:
        return "supported"
    return "not supported" if high < least else "inconclusive"


def judge(study: Study, seeds: dict[int, dict[str, RunData]]) -> list[Finding]:
    """What each claim comes to."""
    return [
        Finding(claim, {seed: value_of(claim, runs) for seed, runs in seeds.items()}, len(study.claims))
        for claim in study.claims
    ]


def value_of(claim: Claim, runs: dict[str, RunData]) -> float:
    """The claim's value at one seed."""
    tokens = 1e6 * min(list(compare.curve(run, "tokens").values())[-1] for run in runs.values())
    here = claim.read(runs[claim.arm], tokens)
    return here - claim.read(runs[claim.than], tokens) if claim.than else here


# ---------------------------------------------------------------- the report


def report(
    name: str,
    study: Study,
    seeds: dict[int, dict[str, RunData]],
    fresh: dict[int, dict[str, RunData]],
    results: Path,
    recorded: Path | None = None,
) -> Path:
    """Write `results/<date>-study-NAME/` -> that folder.

    seeds, fresh: seed -> arm -> finished run; those of `fresh` are compared with the intervals and count for none.
    recorded: where the runs lie, if they were made before the study was written down; the page says so.
    Raises UserError where there are fewer than two seeds.
    """
    if len(seeds) < 2:
        raise UserError(
            f"of study {name} {len(seeds)} seeds are whole, and a mean needs two: python -m prorl_lab.study run {name}"
        )
    findings, checks = judge(study, seeds), judge(study, fresh)
    arms = {arm: [runs[arm] for runs in seeds.values()] for arm in study.arms}
    folder = results / f"{datetime.date.today():%Y-%m-%d}-study-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    compare.draw(arms, folder / "figure.png")
    one = next(iter(arms.values()))[0]
    values = {
        "study": name,
        "paper": study.paper,
        "setting": setting_of(study, list(seeds), recorded),
        "recorded": str(recorded) if recorded else None,
        **{key: one.about.get(key) for key in ("commit", "versions", "machine")},
        "seeds": list(seeds),
        "fresh_seeds": list(fresh),
        "findings": [as_row(finding, check) for finding, check in zip(findings, checks, strict=True)],
        "settings": {arm: of_the_arm(runs[0].settings) for arm, runs in arms.items()},
    }
    write_json(folder / "study.json", values)
    with replacing(folder / "curves.csv") as file:
        file.write(curves_of(arms).encode())
    with replacing(folder / "README.md") as file:
        file.write(page(name, study, values, arms).encode())
    with replacing(results / "README.md") as file:
        file.write(overview(results).encode())
    return folder


def of_the_arm(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without what differs from run to run of one arm, or says where a machine keeps things.

    >>> of_the_arm({"seed": 3, "base_cache": "/home/me/runs", "task": f"{Path.cwd()}/my_task.py", "steps": 40})
    {'seed': None, 'base_cache': None, 'task': 'my_task.py', 'steps': 40}
    """
    here = f"{Path.cwd()}/"
    return {
        name: None if name in compare.NOT_OF_THE_ARM else value.removeprefix(here) if isinstance(value, str) else value
        for name, value in settings.items()
    }


def setting_of(study: Study, seeds: list[int], recorded: Path | None) -> str:
    flags = f"`{study.common}`" if study.common else "the default run"
    before = ", runs made before the claims were written down" if recorded else ""
    return f"{study.task}, equal {study.equal}, {len(seeds)} seeds, {flags}{before}"


def as_row(finding: Finding, check: Finding) -> dict[str, Any]:
    """A finding as JSON has it; no bound is null."""

    def bounds(pair: tuple[float, float]) -> list[float | None]:
        return [round(x, 6) if math.isfinite(x) else None for x in pair]

    claim, row = finding.claim, {}
    row |= {"claim": claim.text, "arm": claim.arm, "than": claim.than, "unit": claim.unit}
    row |= {"predicted": "rise" if claim.sign > 0 else "fall", "least": claim.least}
    row |= {"effect": round(finding.effect, 6), "interval": bounds(finding.interval())}
    row |= {"interval_together": bounds(finding.interval(together=True)), "verdict": finding.verdict}
    row["by_seed"] = {str(seed): round(value, 6) for seed, value in finding.values.items()}
    if check.values:
        row["fresh"] = {str(seed): round(value, 6) for seed, value in check.values.items()}
        row["fresh_interval"] = bounds(finding.interval(fresh=len(check.values)))
    return row


def number(value: float | None) -> str:
    """Three decimals, more where that would show nothing.

    >>> number(0.1234), number(-0.00012), number(None)
    ('+0.123', '-0.00012', '-')
    """
    if value is None:
        return "-"
    return f"{value:+.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:+.2g}"


def who(row: dict[str, Any]) -> str:
    """The arm that a finding is about, and the one that it is compared with."""
    return f"{row['arm']} less {row['than']}" if row["than"] else row["arm"]


def span(pair: list[float | None]) -> str:
    return "no bounds" if None in pair else f"{number(pair[0])} to {number(pair[1])}"


def effect(row: dict[str, Any]) -> str:
    """
    >>> effect({"effect": 0.0734, "unit": "pass@1", "interval": [0.046, 0.101]})
    '+0.073 pass@1 (+0.046 to +0.101)'
    """
    return f"{number(row['effect'])} {row['unit']} ({span(row['interval'])})"


def page(name: str, study: Study, values: dict[str, Any], arms: dict[str, list[RunData]]) -> str:
    """The report in Markdown."""
    rows = values["findings"]
    seeds = " ".join(map(str, values["seeds"]))
    head = ["claim", "arm", "effect", "95 % interval", "interval for the verdict", "least", "verdict"]
    body = [
        [
            row["claim"], who(row), f"{number(row['effect'])} {row['unit']}", span(row["interval"]),
            span(row["interval_together"]),
            number(row["least"] if row["predicted"] == "rise" else -row["least"]), row["verdict"],
        ]
        for row in rows
    ]  # fmt: skip
    missing = sorted(set(study.seeds) - set(values["seeds"]))
    short = f" Seeds {' '.join(map(str, missing))} of the plan were not run, or not to the end." if missing else ""
    flags = "\n".join(f"    {arm}: {text or '(nothing)'}" for arm, text in study.arms.items())
    parts = [
        f"# Study: {name}",
        study.question,
        f"The paper: {study.paper}.",
        *([f"The model and its task: {study.task}."] if study.base else []),
        f"Equal {study.equal}. Seeds {seeds}.{short} " + several(len(rows)),
        *([BEFORE.format(values["recorded"])] if values["recorded"] else []),
        "## Verdicts",
        markdown(head, body),
        f"The rule. {RULE}",
        *fresh_part(values),
        "## Curves",
        "Mean over seeds and their range; steps are smoothed over the last five.",
        "![curves of the arms](figure.png)",
        compare.last_values(arms),
        "## Settings",
        f"Common to all arms: {f'`{study.common}`' if study.common else 'the default settings'}. Of each arm:",
        flags,
        compare.settings_table(arms),
        f"Commit {values['commit']}, {values['machine']}, "
        + ", ".join(f"{package} {version}" for package, version in (values["versions"] or {}).items())
        + ". All settings, and every claim at every seed: [study.json](study.json); curves of every run: "
        "[curves.csv](curves.csv).",
        "## Commands",
        commands(name, study, seeds, values["recorded"]),
    ]
    return "\n\n".join(parts) + "\n"


def several(claims: int) -> str:
    if claims == 1:
        return "One claim is judged."
    return f"{claims} claims are judged, so the verdicts' intervals are those that hold for all {claims} at once."


def commands(name: str, study: Study, seeds: str, recorded: str | None) -> str:
    """What makes the report again."""
    if recorded:
        return f"    python -m prorl_lab.study report {name} --recorded {recorded}"
    lines = [study.base] if study.base else []
    lines += [f"python -m prorl_lab.study run {name} --seeds {seeds}", f"python -m prorl_lab.study report {name}"]
    return "\n".join(f"    {line}" for line in lines)


def fresh_part(values: dict[str, Any]) -> list[str]:
    """Seeds that were not used for the intervals, beside them."""
    if not values["fresh_seeds"]:
        return []
    head = [
        "claim",
        "arm",
        "fresh seeds, mean",
        "in the 95 % interval of the mean",
        "where a mean of so many should be",
    ]
    body = []
    for row in values["findings"]:
        mean, inside = float(np.mean(list(row["fresh"].values()))), []
        for low, high in (row["interval"], row["fresh_interval"]):
            inside.append("no bounds" if low is None else "yes" if low <= mean <= high else "no")
        body.append([row["claim"], who(row), number(mean), inside[0], f"{span(row['fresh_interval'])}: {inside[1]}"])
    seeds = " ".join(map(str, values["fresh_seeds"]))
    return [
        f"## Fresh seeds\n\nSeeds {seeds}, run by the same command and used for nothing above.",
        markdown(head, body),
    ]


def curves_of(arms: dict[str, list[RunData]]) -> str:
    """What the figure is drawn from, as CSV: a line per run and step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", "step", *KEPT_CURVES])
    for arm, runs in arms.items():
        for run_ in runs:
            curves = {key: compare.curve(run_, key) for key in KEPT_CURVES}
            for step in sorted(set().union(*curves.values())):
                cells = (f"{curves[key][step]:.4g}" if step in curves[key] else "" for key in KEPT_CURVES)
                writer.writerow([arm, run_.settings["seed"], step, *cells])
    return text.getvalue()


def overview(results: Path) -> str:
    """results/README.md: a row per claim of every study that lies there, and the studies that do not."""
    reported = {value["study"]: (path, value) for path, value in studies_in(results)}
    head = ["study", "the paper", "our setting", "claim", "effect (95 % interval)", "verdict"]
    body = []
    for name, study in STUDIES.items():
        if name not in reported:
            how = f"missing: {study.needs}" if study.needs else f"`python -m prorl_lab.study run {name}`"
            body.append([name, study.paper, f"equal {study.equal}", study.question, "", f"not run yet; {how}"])
            continue
        path, value = reported[name]
        link = f"[{name}]({path.name}/README.md)"
        for row in value["findings"]:
            claim = f"{row['claim']} ({who(row)})"
            body.append([link, value["paper"], value["setting"], claim, effect(row), row["verdict"]])
    return "\n\n".join([
        "# Results",
        "Figures that the project's text rests on, a folder each, with the command, settings, versions and seeds that "
        "made them. This page is written by `python -m prorl_lab.study report`; it has a row for each claim of the "
        "laptop study, with the verdict by the rule that each report states, and the studies that were not run. A "
        "verdict asks that all claims of a study hold together, by an interval wider than the one shown: an effect "
        "whose interval here leaves out 0 may still be inconclusive.",
        markdown(head, body),
    ]) + "\n"  # fmt: skip


def studies_in(results: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and study.json of every report, the oldest first."""
    return [(path.parent, read_json(path)) for path in sorted(results.glob("*-study-*/study.json"))]
