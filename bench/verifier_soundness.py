"""The judge of verifiers: how many provably wrong answers a grader pays, and how many right ones it refuses, by kind.

    python bench/verifier_soundness.py --data DIR                                # ours, a table by kind
    python bench/verifier_soundness.py --data DIR --limit 40 --ours ../other     # 40 pairs a kind, another checkout
    python bench/verifier_soundness.py --data DIR --show digit_changed           # each pair of a kind that went wrong
    python bench/verifier_soundness.py --data DIR --graders ours yesterday math-verify trl --out results/...

`DIR` is the folder of PRORL_TEST_DATA.  Every grader runs in a process of its own that reads JSON lines, with a clock
for each pair; a pair that runs out of it is refused.  Pairs and their proofs: soundness_pairs.py, soundness_reader.py.
"""

import json
import os
import platform
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import soundness_heldout  # it registers its kinds
import tyro
from graders import environments
from soundness_domains import code_pairs, instruction_pairs, puzzle_pairs
from soundness_pairs import CAPS, PLAIN_RESPONSE, Pair, make
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
GRADERS = ROOT / "bench" / "graders"
YESTERDAY = "5fec207"  # the last commit before the verifier became typed
START_SECONDS = 300.0  # for a grader's imports
DECLINED = "not its domain or form"


@dataclass
class Config:
    data: Path  # the folder of real test data
    graders: list[str] = field(default_factory=lambda: ["ours"])
    ours: Path = ROOT  # the checkout whose scorers are "ours"
    domains: list[str] = field(default_factory=lambda: ["math", "stem"])  # also code, puzzle, instruction
    seed: int = 0
    limit: int | None = None  # pairs of a kind; None for all
    kinds: list[str] = field(default_factory=list)  # only these
    show: str | None = None  # print what went wrong in this kind ("all" for every kind)
    clock: float = 10.0  # seconds a grader has for one pair
    environments: Path | None = None  # where other graders' environments are kept; None: made anew and thrown away
    cache: Path | None = None  # verdicts of earlier runs, a file per grader; ours are never taken from it
    out: Path | None = None  # where JSON and table go


class Grader:
    """A grader's process: one pair at a time, killed and started anew where it does not reply in time."""

    def __init__(self, name: str, command: list[str], clock: float, log: Path):
        self.name, self.command, self.clock, self.log = name, command, clock, log
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(GRADERS), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        if self._line(START_SECONDS) is None:
            sys.exit(
                f"the grader {self.name} does not start; the last of what it said:\n{self.log.read_text()[-2000:]}"
            )

    def grade(self, item: dict) -> dict:
        """Score, status and seconds of a pair."""
        if self.process is None:
            self.start()
        begin = time.monotonic()
        try:
            self.process.stdin.write(json.dumps(item).encode() + b"\n")
            self.process.stdin.flush()
            line = self._line(self.clock)
        except BrokenPipeError:
            line = None
        seconds = time.monotonic() - begin
        if line is None:
            status = "timeout" if seconds >= self.clock else "died"
            self.stop()
            return {"score": 0.0, "status": status, "seconds": seconds}
        return {**line, "seconds": seconds}

    def _line(self, seconds: float) -> dict | None:
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        text = self.process.stdout.readline() if ready else b""
        return json.loads(text) if text else None

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None


def command(name: str, config: Config, scratch: Path) -> list[str]:
    """How a grader is started.  Those of other projects need their environment (graders/environments.py)."""
    if name == "ours":
        return [sys.executable, str(GRADERS / "ours.py"), str(config.ours)]
    if name == "yesterday":
        return [sys.executable, str(GRADERS / "ours.py"), str(exported(YESTERDAY, scratch))]
    if name == "their-own":
        return [sys.executable, str(GRADERS / "their_own.py")]
    if name in environments.GRADERS:
        return environments.command(name, config.environments or scratch)
    sys.exit(f"no grader is called {name}: ours, yesterday, their-own, {', '.join(environments.GRADERS)}")


def exported(commit: str, scratch: Path) -> Path:
    """The files of a commit in a folder."""
    folder = scratch / commit
    folder.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def made(config: Config) -> tuple[list[Pair], dict[str, Counter]]:
    """The pairs of the domains asked for, and what was left out."""
    pairs, left_out = make(config.data, config.seed) if {"math", "stem"} & set(config.domains) else ([], {})
    pairs = [pair for pair in pairs if pair.domain in config.domains]
    if "code" in config.domains:
        programs, unproven = code_pairs(config.data, config.seed)
        pairs, left_out = pairs + programs, left_out | unproven
    if "puzzle" in config.domains:
        pairs += puzzle_pairs(config.seed)
    if "instruction" in config.domains:
        pairs += instruction_pairs(config.data)
    return pairs, left_out


def revision(checkout: Path) -> str:
    """The commit that a checkout is at; what is not committed is said."""
    git = ["git", "-C", str(checkout)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return (head.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


def chosen(pairs: Iterable[Pair], config: Config) -> list[Pair]:
    """The pairs asked for.  A lower limit takes some of what a higher one takes, so that their verdicts can be kept."""
    by_kind = defaultdict(list)
    for pair in pairs:
        if not config.kinds or pair.kind in config.kinds:
            by_kind[pair.kind].append(pair)
    for kind, group in by_kind.items():
        if config.limit is not None:
            random.Random(f"{config.seed} {kind}").shuffle(group)
    return [pair for group in by_kind.values() for pair in group[: config.limit]]


def judge(name: str, pairs: list[Pair], config: Config, scratch: Path) -> list[dict]:
    """The grader's replies, in the order of the pairs."""
    grader = Grader(name, command(name, config, scratch), config.clock, scratch / f"{name}.log")
    kept = config.cache / f"{name}.jsonl" if config.cache and name != "ours" else None
    known = {}
    if kept and kept.exists():
        known = {tuple(line["pair"]): line["reply"] for line in map(json.loads, kept.read_text().splitlines())}
    replies = []
    for pair in tqdm(pairs, desc=name, mininterval=10, disable=None):
        plain = pair.response == PLAIN_RESPONSE.format(pair.answer) and "\\boxed" not in pair.answer
        if not plain and name in environments.NO_BOX:
            replies.append({"score": None, "status": DECLINED, "seconds": 0.0})
            continue
        key = (pair.domain, pair.gold, pair.response)  # a puzzle's or program's gold names it
        if key not in known:
            known[key] = grader.grade({**asdict(pair), "plain": plain})
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"pair": key, "reply": known[key]}) + "\n")
        replies.append(known[key])
    grader.stop()
    return replies


def went_wrong(pair: Pair, reply: dict) -> bool:
    """A wrong answer that is paid in full, a right one that is not.  A grader that declines to judge pays nothing."""
    return ((reply["score"] or 0.0) >= 1.0) is not pair.right


def table(pairs: list[Pair], verdicts: dict[str, list[dict]]) -> str:
    """Markdown: wrong answers paid and right ones refused, in per cent, a line per kind and a column per grader."""
    lines = []
    for is_right, title in ((False, "wrong answers paid, %"), (True, "right answers refused, %")):
        rows = [i for i, pair in enumerate(pairs) if pair.right is is_right]
        kinds = sorted({(pairs[i].domain, pairs[i].kind) for i in rows})
        lines += [f"| {title} | pairs | {' | '.join(verdicts)} |", "|---|---:|" + "---:|" * len(verdicts)]
        groups = [(kind, [i for i in rows if pairs[i].kind == kind]) for _, kind in kinds]
        for label, members in [*groups, ("**all**", rows)] if rows else []:
            cells = [_cell([(pairs[i], replies[i]) for i in members]) for replies in verdicts.values()]
            lines.append(f"| {label} | {len(members):,} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


NAMES = {"ours": "this project", "yesterday": f"this project at {YESTERDAY}", "trl": "TRL", "lighteval": "lighteval"}
NAMES |= {"verl-dapo": "verl, math_dapo", "verl-prime": "verl, prime_math"}
NAMES |= {"lm-eval-hendrycks": "lm-eval, hendrycks", "lm-eval-minerva": "lm-eval, minerva"}


def summary(figures: dict) -> str:
    """Markdown: of all pairs of a `figures.json` the share that each grader gets wrong, a line per grader."""
    lines = ["| grader | wrong answers paid | right answers refused |", "|---|---:|---:|"]
    for name, found in figures["graders"].items():
        cells = []
        for side in ("wrong", "right"):
            kinds = [counts for kind, counts in found["kinds"].items() if kind.startswith(f"{side} ")]
            cells.append(100 * sum(k["failures"] for k in kinds) / sum(k["pairs"] for k in kinds))
        lines.append(f"| {NAMES.get(name, name)} | {' | '.join(f'{cell:.1f} %' for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _cell(judged: list[tuple[Pair, dict]]) -> str:
    """The share that went wrong, in per cent; nothing for a grader that has another domain or form of response."""
    judged = [(pair, reply) for pair, reply in judged if reply["status"] != DECLINED]
    if not judged:
        return ""
    share = sum(went_wrong(pair, reply) for pair, reply in judged) / len(judged)
    return f"{100 * share:.2f}" if share else "0"


def main(config: Config) -> None:
    pairs, left_out = made(config)
    pairs = chosen(pairs, config)
    verdicts: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in config.graders:
            begin = time.monotonic()
            verdicts[name] = judge(name, pairs, config, Path(folder))
            slow = [reply["seconds"] for reply in verdicts[name]]
            statuses = Counter(r["status"].split(" ")[0] for r in verdicts[name])
            print(f"{name}: {time.monotonic() - begin:.0f} s, the slowest pair {max(slow):.2f} s, {dict(statuses)}")
            if config.show:
                show(pairs, verdicts[name], config.show)
    print(table(pairs, verdicts))
    if config.out:
        write(config, pairs, verdicts, left_out)


def show(pairs: list[Pair], replies: list[dict], kind: str) -> None:
    for pair, reply in zip(pairs, replies, strict=True):
        if went_wrong(pair, reply) and kind in (pair.kind, "all"):
            what = "REFUSED" if pair.right else "PAID"
            extra = "" if pair.response.count("boxed") == 1 else f"   response {pair.response!r}"
            print(
                f"{what} {pair.domain} {pair.kind}: gold {pair.gold!r} answer {pair.answer!r} {reply['status']}{extra}"
            )


def write(config: Config, pairs: list[Pair], verdicts: dict[str, list[dict]], left_out: dict[str, Counter]) -> None:
    """The table, the figures, and each pair that ours got wrong."""
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "table.md").write_text(table(pairs, verdicts), encoding="utf-8")
    figures = {
        "seed": config.seed,
        "domains": config.domains,
        "pairs of a kind at most": config.limit or CAPS,
        "clock": config.clock,
        "commit of ours": revision(config.ours),
        "commit of yesterday": YESTERDAY,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("sympy", "mpmath")},
        "environments": {
            name: environments.PACKAGES[environments.GRADERS[name][2]]
            for name in verdicts
            if name in environments.GRADERS
        },
        "kinds written after the verifier": sorted({pair.kind for pair in pairs} & soundness_heldout.FIRST_SEEN),
        "pairs": dict(Counter("right" if pair.right else "wrong" for pair in pairs)),
        "left out": {kind: dict(counts) for kind, counts in left_out.items() if counts},
        "graders": {},
    }
    for name, replies in verdicts.items():
        by_kind: dict[str, dict] = {}
        for pair, reply in zip(pairs, replies, strict=True):
            if reply["status"] == DECLINED:
                continue
            line = by_kind.setdefault(
                f"{'right' if pair.right else 'wrong'} {pair.kind}", {"pairs": 0, "failures": 0, "timeouts": 0}
            )
            line["pairs"] += 1
            line["failures"] += went_wrong(pair, reply)
            line["timeouts"] += reply["status"] == "timeout"
        seconds = sorted(reply["seconds"] for reply in replies)
        figures["graders"][name] = {
            "kinds": by_kind,
            "seconds a pair": {"median": seconds[len(seconds) // 2], "slowest": seconds[-1]},
        }
    (config.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    failures = [
        {
            "kind": p.kind,
            "right": p.right,
            "domain": p.domain,
            "gold": p.gold,
            "answer": p.answer,
            "status": r["status"],
        }
        for p, r in zip(pairs, verdicts.get("ours", []), strict=False)
        if went_wrong(p, r)
    ]
    lines = "".join(json.dumps(failure, ensure_ascii=False) + "\n" for failure in failures)
    (config.out / "ours_failures.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
