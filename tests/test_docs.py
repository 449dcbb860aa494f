"""What the text says against what the code and results/ say."""

import ast
import dataclasses
import importlib.util
import inspect
import json
import re
import shlex
from pathlib import Path

import pytest

import prorl_mini as mini
import prorl_v2 as v2
from prorl_lab import study_report
from prorl_lab.ledger import Ledger
from tutorials import build, toolbox

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LAPTOP = ROOT / "results/2026-11-23-laptop"
STAGES = ["prompts", "rollout", "reward", "advantage", "logprobs", "loss", "step", "reset", "eval"]


def test_readme_table_is_made_from_the_recorded_runs():
    """README = table-short.md = what collect.py computes from the summaries that lie there."""
    spec = importlib.util.spec_from_file_location("collect", LAPTOP / "collect.py")
    collect = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(collect)
    shown = re.search(r"<!-- table -->\n(.*?)<!-- /table -->", README, re.DOTALL).group(1)
    assert shown == (LAPTOP / "table-short.md").read_text() == collect.table(collect.SHORT, collect.SHOWN)
    assert (LAPTOP / "table.md").read_text() == collect.table(list(collect.COLUMNS))


@pytest.mark.parametrize("run", sorted(path.name for path in LAPTOP.iterdir() if (path / "summary.json").exists()))
def test_recorded_runs_are_whole(run):
    """Settings that this version still knows, a step for every line, and no step lost over resumes."""
    settings = json.loads((LAPTOP / run / "config.json").read_text())["settings"]
    mini.Config(**settings)
    rows = map(json.loads, (LAPTOP / run / "metrics.jsonl").read_text().splitlines())
    steps = [row["step"] for row in rows if "event" not in row]
    assert steps == list(range(1, json.loads((LAPTOP / run / "summary.json").read_text())["steps"] + 1))


def test_the_table_of_verifiers_is_made_from_the_recorded_verdicts(monkeypatch):
    """README and chapter 11 = what bench/verifier_soundness.py makes of the figures that lie there."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    import verifier_soundness

    figures = json.loads((ROOT / "results/2026-11-28-verifier-soundness/graders/figures.json").read_text())
    chapter = (ROOT / "tutorials/11-what-the-reward-pays.md").read_text()
    for text in (README, chapter):
        shown = re.search(r"<!-- verifiers -->\n(.*?)<!-- /verifiers -->", text, re.DOTALL).group(1)
        assert shown == verifier_soundness.summary(figures)
        for side, count in figures["pairs"].items():
            assert re.search(rf"{count:,}\s+{side}", text)


def test_the_writers_of_answers_are_as_measured():
    """README and the folder's own page = the figures that lie there."""
    folder = ROOT / "results/2026-11-28-rollout-writers"
    found = json.loads((folder / "rollout_writers.json").read_text())
    rates = {name: f"{rate:,.0f}" for name, rate in found["tokens_per_processor_second"].items()}
    words = {"mini": "mini", "static": "a static cache", "compiled": "compiled", "continuous": "continuous batching"}
    assert ", ".join(f"{words[name]} {rate}" for name, rate in rates.items()) in README.replace("\n", " ")
    shown = re.findall(r"\| ([\d,]+) \| (\d+) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert shown == [(rates[name], f"{seconds:.0f}") for name, seconds in found["first_call"].items()]
    assert found["a_thread_inherits_autocast"] is False


@pytest.mark.parametrize(
    ("said", "page", "found"),
    [
        ("takes (0.64) of the time", "2026-11-23-bench", r"ratio \| \*\*(0\.64)\*\*"),
        ("on a tiny model (0.87), with", "2026-11-27-scale-bench", r"one process, vLLM .* \*\*(0\.87)\*\*"),
        ("prompts and answers (0.67);", "2026-11-27-scale-bench", r"one process, vLLM .* \*\*(0\.67)\*\*"),
        ("packed rows train (3.3) times", "2026-11-27-scale-bench", r"padded, in the order .* \*\*(3\.3)4\*\*"),
        ("chunked head takes (0.18) of", "2026-11-27-scale-bench", r"4,096 .* \*\*(0\.18)\*\*"),
        ("it finds (392) of 576 prompts", "2026-11-27-analysis", r"(392) prompts that the base solved in none"),
        ("refused (43) of 1,818 right", "2026-11-28-verifier-soundness", r"refused (43)\s+of 1,818 right ones"),
    ],
)
def test_figures_in_the_readme_are_those_of_the_page_it_links_to(said, page, found):
    assert f"results/{page}/README.md" in README
    ours = re.search(said, " ".join(README.split()))
    theirs = re.search(found, (ROOT / f"results/{page}/README.md").read_text())
    assert ours.group(1) == theirs.group(1)


def commands(text):
    """Every `python prorl_mini.py ...` in a text, as arguments."""
    lines = re.findall(r"^ +python prorl_mini\.py (.*?)(?:  +#.*|  +[a-z].*)?$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("args", [a for text in (README, mini.__doc__) for a in commands(text)], ids=" ".join)
def test_commands_in_the_text_parse(args, monkeypatch):
    if "--help" in args or "--resume" in args:
        monkeypatch.setattr(mini.cli, "stored_settings", lambda folder: vars(mini.Config()))
    if "--help" in args:
        with pytest.raises(SystemExit) as stopped:
            mini.cli.parse(mini.Config, args)
        assert stopped.value.code == 0
    else:
        mini.cli.parse(mini.Config, args)


def test_verdicts_in_the_readme_are_those_of_the_studies():
    told = {
        f"| [{report['study']}](results/{folder.name}/README.md) | {row['claim']} ({study_report.who(row)}) | "
        f"{study_report.effect(row)} | {row['verdict']} |"
        for folder, report in study_report.studies_in(ROOT / "results")
        for row in report["findings"]
    }
    rows = README.split("<!-- studies -->")[1].split("<!-- /studies -->")[0].strip().splitlines()[2:]
    assert rows
    assert told.issuperset(rows)


def test_there_are_commands_in_the_text():
    assert len(commands(README)) >= 6
    assert len(commands(mini.__doc__)) >= 3


def test_files_and_functions_named_in_the_readme_exist():
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:prorl_lab|tests)/\w+\.py)`", README):
        assert (ROOT / path).exists(), path
    pieces = README.split("| piece |")[1].split("\n\n")[0]
    for row in pieces.splitlines()[2:]:
        for name in re.findall(r"`(\w+)`", row.split("|")[4]):
            assert callable(getattr(mini, name)), name


def test_links_of_contributing_lead_somewhere_and_its_figures_are_theirs():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    links = re.findall(r"\]\(((?!http)[^)#]+)", text)
    assert len(links) >= 6
    assert all((ROOT / link).exists() for link in links)
    model = json.loads((ROOT / "results/2026-11-28-rollout-rounds/model.json").read_text())
    assert f"waited for {model['sides']['rounds']['rounds']:.1f} rounds" in text


def test_metrics_named_in_the_readme_are_written():
    table = README.split("| metric |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines()[1:] if "|" in row)))
    rows = map(json.loads, (LAPTOP / "prorl-0/metrics.jsonl").read_text().splitlines())
    written = set(next(row for row in rows if "event" not in row)) | set(Ledger().metrics([]))
    assert named - {"seconds_"} <= written
    assert written - named - {"step", "loss"} == {key for key in written if key.startswith("seconds_")}


def test_levels_named_in_the_readme_are_those_of_the_recorded_runs():
    """Clip and truncation over four runs, and where the entropy of the long run ends."""

    def column(run, key):
        rows = map(json.loads, (LAPTOP / run / "metrics.jsonl").read_text().splitlines())
        return [row[key] for row in rows if "event" not in row]

    chapter = (ROOT / "tutorials/06-prolonged.md").read_text()
    for text in (README, chapter):
        assert all(level in text for level in toolbox.levels().values())
    both = "one update per step and no groups kept over"
    assert (README.count(both), chapter.lower().count(both)) == (1, 2)  # in the chapter a solution says it as well
    runs = ("mini-long", "prorl-0", "prorl-1", "prorl-2")
    assert max(column(run, "truncated")[0] for run in runs) == pytest.approx(1 / 3, abs=0.01)
    assert f"down to {column('mini-long', 'entropy')[-1]:.2f} as the task is solved" in README


def test_settings_counted_in_the_readme_are_those_of_mini():
    own = sum(isinstance(node, ast.AnnAssign) for node in ast.parse(inspect.getsource(mini.Config)).body[0].body)
    others = len(dataclasses.fields(mini.Config)) - own
    assert f"{own} of the algorithm and {others} of model, folder and machine" in README


def test_the_nine_stages_stand_in_order():
    source = (ROOT / "prorl_mini.py").read_text()
    assert re.findall(r"^# =+ \d\. (\w+)$", source, re.MULTILINE) == STAGES
    assert " -> ".join(STAGES) in source


def test_make_help_lists_the_targets():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"mini", "mini-long", "tutorials", "test", "slow", "bench", "help"} <= targets
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


# ------------------------------------------------------------------ one sitting


def measure(path):
    """Lines, lines of code (without blank, comment and docstring lines), words of those, longest function, settings."""
    source = path.read_text()
    tree, talk = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            talk |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = list(enumerate(source.splitlines(), 1))
    code = [line for number, line in lines if number not in talk and line.strip() and not line.strip().startswith("#")]
    talked = " ".join(line for number, line in lines if number in talk or line.strip().startswith("#"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    settings = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    return {
        "lines": len(lines),
        "code": len(code),
        "words": len(re.findall(r"\w[\w'.-]*", talked)),
        "longest": max(node.end_lineno - node.lineno + 1 for node in functions),
        "settings": sum(isinstance(node, ast.AnnAssign) for config in settings for node in config.body),
    }


def test_minutes_of_the_reading_order_are_those_of_the_rule():
    """Lines of code and words of docstrings and comments by the rates of the tutorials, to about a tenth."""
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (\d+) \|", README, re.MULTILINE)
    assert len(rows) >= 6
    for path, minutes in rows:
        found = measure(ROOT / path)
        assert int(minutes) == pytest.approx(found["code"] / build.LINES + found["words"] / build.WORDS, rel=0.1, abs=3)


def test_the_file_is_one_sitting():
    """What grows beyond it belongs to the command line, the folder, or a later paper's file (CONTRIBUTING.md)."""
    limits = {"lines": 780, "code": 480, "longest": 40, "settings": 40}
    found = measure(ROOT / "prorl_mini.py")
    assert {key: found[key] for key, limit in limits.items() if found[key] > limit} == {}


def test_mini_knows_no_later_file():
    tree = ast.parse((ROOT / "prorl_mini.py").read_text())
    imports = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imports += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert not [name for name in imports if name.startswith(("prorl_v2", "prorl_scale"))]


def test_a_name_is_a_setting_or_a_function_and_not_both():
    functions = {name for module in (mini, v2) for name, _ in inspect.getmembers(module, inspect.isfunction)}
    assert not functions & {field.name for field in dataclasses.fields(v2.Config)}
