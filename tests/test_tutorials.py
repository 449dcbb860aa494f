"""The chapters against the code, the recorded runs and the command line: see `tutorials/build.py` for the notation."""

import ast
import dataclasses
import functools
import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from matplotlib import image
from torch.distributed.run import get_args_parser

import prorl_mini as mini
import prorl_scale.config
import prorl_scale.evaluate.__main__
import prorl_scale.evaluate.sets
import prorl_scale.recipes
import prorl_scale.rewards.__main__
import prorl_scale.status
from prorl_lab import cli, laptop, models, settings
from prorl_lab.studies import STUDIES
from prorl_scale.analysis.__main__ import Settings
from tutorials import build, page, toolbox

ROOT = Path(__file__).parents[1]
CHAPTERS = build.chapters()
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in [*CHAPTERS, build.HERE / "README.md"]}
SECTIONS = ("question", "idea", "formula", "on paper", "command", "what to look at", "exercise")
IMAGE_TOLERANCE = 0.02  # mean difference of a pixel, 0 to 1: another machine's last digit may move a line by a hair


def each_chapter(function):
    return pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)(function)


def each_text(function):
    return pytest.mark.parametrize("name", TEXTS)(function)


# ---------------------------------------------------------------- blocks, numbers, figures


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A chapter -> its pieces, executed, and its namespace; figures go to a folder of their own."""
    figures = tmp_path_factory.mktemp("figures")
    threads = torch.get_num_threads()
    patch = pytest.MonkeyPatch()
    patch.chdir(ROOT)
    patch.setattr(toolbox, "FIGURES", figures)
    torch.set_num_threads(1)
    yield functools.cache(build.run), figures
    torch.set_num_threads(threads)
    patch.undo()


@each_chapter
def test_blocks_print_what_is_shown(chapter, executed):
    parts, _ = executed[0](chapter)
    for block, shown in build.wrong_outputs(parts):
        assert block.printed == shown, (
            f"{chapter.name}, block after line {block.line}: `python -m tutorials.build outputs`"
        )


@each_chapter
def test_sentences_quote_what_is_computed(chapter, executed):
    parts, _ = executed[0](chapter)
    missing = [f"{chapter.name}:{part.line} computes {value!r}" for part, value in build.unsaid(parts)]
    assert not missing


def decimals(text):
    return set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)", text))


def orphans(parts):
    """Decimal numbers of the prose that no block of the chapter holds or prints, nor the comment below computes.

    A sentence may round: 0.62 is covered by 0.6225.  What an exercise supposes needs no source; its solution does.
    """
    blocks = " ".join(part.text for part in parts if part.kind not in ("prose", "says"))
    known = [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", blocks)]
    table = r"(?s:<!-- verifiers -->.*<!-- /verifiers -->)|"  # which test_docs.py makes anew
    supposed = False
    for part, below in zip(parts, [*parts[1:], None], strict=True):
        if part.kind != "prose":
            continue
        supposed = (supposed or part.text.startswith("## Exercise")) and not part.text.startswith("<details>")
        said = " ".join(below.values) if below and below.kind == "says" else ""
        prose = re.sub(table + r"^#.*|\]\([^)]*\)|`[^`]*`|arXiv\s\d{4}\.\d{5}", " ", part.text)
        for number in [] if supposed else sorted(decimals(prose) - decimals(said)):
            if not any(round(value, len(number.split(".")[1])) == float(number) for value in known):
                yield f"line {part.line}: {number}"


@each_chapter
def test_every_decimal_number_has_a_source(chapter, executed):
    assert not list(orphans(executed[0](chapter)[0]))


@each_chapter
def test_figures_are_those_that_the_blocks_draw(chapter, executed):
    parts, _ = executed[0](chapter)
    drawn = {name for part in parts if part.kind == "python" for name in re.findall(r'"(\d\d-[\w-]+\.png)"', part.text)}
    assert drawn == set(re.findall(r"\]\(figures/([\w-]+\.png)\)", TEXTS[chapter.name]))
    for name in drawn:
        kept, new = (image.imread(folder / name)[..., :3] for folder in (build.HERE / "figures", executed[1]))
        assert kept.shape == new.shape, f"{name}: run `make tutorials`"
        assert np.abs(kept - new).mean() < IMAGE_TOLERANCE, f"{name} is out of date: run `make tutorials`"


def test_no_figure_is_left_over():
    shown = set(re.findall(r"\]\(figures/([\w-]+\.png)\)", " ".join(TEXTS.values())))
    assert shown == {path.name for path in (build.HERE / "figures").iterdir()}


# ---------------------------------------------------------------- links and names


def resolve(path, name):
    """Whether a file defines a dotted name: a test by its syntax tree, anything else by importing the module."""
    relative = path.relative_to(ROOT)
    if relative.parts[0] == "tests":
        tree = ast.parse(path.read_text(encoding="utf-8"))
        return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)
    value = importlib.import_module(".".join(relative.with_suffix("").parts))
    for part in name.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


# What the text names and no module defines: a puzzle of Reasoning Gym, arguments of functions, a package.
OTHER_NAMES = {
    *("group_anagrams", "letter_counting", "num_tokens", "ref_logp", "prorl_scale", "sampler_gap"),
    *("entropy_unfiltered", "sync_ref_model"),
}


@each_text
def test_links_lead_somewhere_and_linked_names_exist(name):
    links = re.findall(r"\[((?:[^\[\]]|`[^`]*`)*)\]\(((?!https?:)[^)]+)\)", TEXTS[name])
    assert links
    for label, target in links:
        file, _, anchor = target.partition("#")
        path = (build.HERE / file).resolve()
        assert path.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in {build.slug(h) for h in re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)}, target
        if path.suffix == ".py" and re.fullmatch(r"`[\w.]+`", label) and label.strip("`") != path.name:
            assert resolve(path, label.strip("`")), f"{name}: {label} is not in {file}"


@functools.cache
def known_names():
    """What a bare `snake_case` word may name: mini, the fields of its classes, metrics, other modules' functions."""
    names = {*dir(mini), *re.findall(r'"(\w+)"', Path(mini.__file__).read_text(encoding="utf-8"))}  # metrics as well
    for holder in (mini.Config, mini.State, mini.Sample, mini.Batch, prorl_scale.config.Config):
        names |= {field.name for field in dataclasses.fields(holder)}
    for run in ("prorl-0", "mini-long"):
        names |= set(toolbox.steps(run)[0])
    names |= set(toolbox.steps("2026-11-23-scale-cpu", ROOT / "results")[0])
    return names


@each_chapter
def test_names_in_the_text_exist(chapter, executed):
    parts, namespace = executed[0](chapter)
    code = " ".join(part.text for part in parts if part.kind == "pdb") + " ".join(map(str, namespace))
    for part in parts:
        prose = re.sub(r"\[`[\w.]+`\]\([^)]*\)", " ", part.text) if part.kind == "prose" else ""
        for name in re.findall(r"`([a-z]\w*_\w+)`", prose):
            known = name in known_names() or re.search(rf"\b{name}\b", code)
            assert known or name in OTHER_NAMES, f"{chapter.name}:{part.line}: {name}"
        for flag in re.findall(r"`--([a-z][a-z-]+)", prose):
            known = (prorl_scale.config.Config, Settings)
            fields = {field.name for settings in known for field in dataclasses.fields(settings)}
            assert flag.removeprefix("no-").replace("-", "_") in fields, f"{chapter.name}:{part.line}: --{flag}"


# ---------------------------------------------------------------- commands


COMMANDS = sorted(
    {
        line[2:]
        for text in TEXTS.values()
        for part in build.pieces(text)
        if part.kind == "console"
        for line in part.text.splitlines()
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    """By the command line that would run them; a `make` target by make itself."""
    program, *args = shlex.split(command, comments=True)
    if program == "make":
        subprocess.run(["make", "--dry-run", *args], cwd=ROOT, check=True, capture_output=True)
    elif program == "torchrun":
        options = get_args_parser().parse_args(args)
        assert (options.module, options.training_script) == (True, "prorl_scale.train")
        prorl_scale.config.parse(prorl_scale.config.Config, options.training_script_args)
    elif args[0] == "prorl_mini.py" or args[:3] == ["-m", "pdb", "prorl_mini.py"]:
        settings.resolve(cli.parse(mini.Config, args[args.index("prorl_mini.py") + 1 :]))
    elif args[:2] == ["-m", "pytest"]:
        check_pytest(args[2:])
    elif args[:2] == ["-m", "prorl_scale.analysis"]:
        tyro.cli(Settings, args=args[2:])
    elif args[:2] == ["-m", "prorl_scale.evaluate"]:
        assert prorl_scale.evaluate.sets.named(prorl_scale.evaluate.__main__.parse(args[2:]).sets)
    elif args[:2] == ["-m", "prorl_scale.status"]:
        prorl_scale.status.parse(args[2:])
    elif args[:2] == ["-m", "prorl_scale.recipes"]:
        assert prorl_scale.recipes.main(args[2:]) == 0
    elif args[:2] == ["-m", "prorl_scale.rewards"]:
        prorl_scale.rewards.__main__.main(args[2:])
    elif args[0].startswith("bench/"):
        bench = importlib.import_module(args[0].removesuffix(".py").replace("/", "."))
        tyro.cli(bench.Args, args=args[1:])
    else:
        assert args[:2] == ["-m", "tutorials.build"], f"no parser is known for {command!r}"
        assert args[2:] in (["figures"], ["outputs"], ["minutes"], ["notebooks"], ["page"])


def check_pytest(args):
    """The file is there, and `-k` selects something of it."""
    path = ROOT / args[0]
    names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert any((args[2] if args[1:2] == ["-k"] else "test_") in name for name in names)


def test_there_are_commands():
    assert len(COMMANDS) >= 11


# ---------------------------------------------------------------- the shape of a chapter


@each_chapter
def test_a_chapter_has_its_parts(chapter):
    text = TEXTS[chapter.name]
    headings = [heading.lower() for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    for section in SECTIONS:
        assert any(section in heading for heading in headings), f"{chapter.name} has no {section!r}"
    assert "<summary>Solution</summary>" in text
    assert "```console\n$ " in text
    assert "$$" in text.split("## The formula")[1].split("\n## ")[0]


def test_chapters_are_numbered_and_linked_to_their_neighbours():
    assert [path.name[:2] for path in CHAPTERS] == [f"{i:02}" for i in range(13)]
    for before, after in itertools.pairwise(CHAPTERS):
        for one, other in ((before, after), (after, before)):
            heading = TEXTS[other.name].splitlines()[0].removeprefix("# ").split(":")[0]
            assert TEXTS[one.name].count(f"[{heading}]({other.name})") >= 2, f"{one.name} -> {other.name}"


def test_contents_list_every_chapter_and_its_minutes():
    """The minutes of the rule, in the chapter, in the contents and in README: `python -m tutorials.build minutes`."""
    rows = re.findall(r"^\| \[\d+\. .*?\]\(([^#)]*)\) \|.*\| (\d+) \|$", TEXTS["README.md"], re.MULTILINE)
    assert rows == [(path.name, str(build.minutes(TEXTS[path.name]))) for path in CHAPTERS]
    for name, minutes in rows:
        assert f"\n*{minutes} minutes." in TEXTS[name], name
    total = sum(int(minutes) for _, minutes in rows)
    assert f"{total} minutes in all" in TEXTS["README.md"]
    assert f"| [`tutorials/`](tutorials/README.md) | {total} |" in (ROOT / "README.md").read_text()


def test_the_rule_of_minutes():
    """150 words of text, of output and of solution, 6 lines of code and two questions: 1 + 1 + 1 + 1 + 7 minutes."""
    code = "".join(f"x = {i}\n" for i in range(6))
    blocks = f"```python\n{code}```\n\n```text\n{'out ' * 150}\n```\n\n```console\n$ {'free ' * 999}\n```"
    text = f"{'word ' * 150}\n\n{blocks}\n\n## Exercise\n\n1. Why?\n2. How?\n\n<details>{'a ' * 150}"
    assert build.minutes(text) == 11
    printed = "".join(f"    y = {i}\n" for i in range(11))
    assert build.minutes(f"```python\nprint(toolbox.body(f))\n```\n\n```text\n{printed}```\n") == 2


@each_text
def test_no_wrapped_line_turns_into_a_list(name):
    """A line of prose that happens to begin with "2. " is a list to every renderer."""
    for part in build.pieces(TEXTS[name]):
        if part.kind == "prose" and not re.match(r"\d+\. |[-+*] ", part.text):
            assert not re.search(r"^ *(\d+\.|[-+*]) ", part.text, re.MULTILINE), f"line {part.line}"


def test_the_short_path_takes_an_hour():
    path = build.short_path(TEXTS["README.md"])
    assert {name[:2] for name, _, _ in path} == {"00", "03", "05", "06"}
    assert 45 <= sum(minutes for _, _, minutes in path) <= 60
    for name, anchor, minutes in path:
        assert re.search(rf"\({name}#{anchor}\) \|.*\| {minutes} \|", TEXTS["README.md"]), anchor


def test_half_of_the_exercises_ask_for_a_prediction():
    questions = [
        question
        for path in CHAPTERS
        for question in re.findall(r"^\d+\. .*(?:\n   .*)*", exercise(TEXTS[path.name]), re.MULTILINE)
    ]
    assert len(questions) >= 45
    assert sum("redict" in question for question in questions) >= len(questions) / 2


def exercise(text):
    """The questions of a chapter, without the solutions."""
    return text.split("\n## Exercise")[1].split("<details>")[0]


# ---------------------------------------------------------------- studies


def test_a_study_is_shown_with_its_claims_before_it_is_run_and_with_its_verdicts_afterwards(
    tmp_path, monkeypatch, capsys
):
    toolbox.study("pass-rate")
    found = json.loads((ROOT / "results/2026-11-28-study-pass-rate/study.json").read_text())
    shown = re.findall(r"^    ([\w ]+): (.*), [+-]", capsys.readouterr().out, re.MULTILINE)
    assert shown == [(row["verdict"], row["claim"]) for row in found["findings"]]
    monkeypatch.setattr(toolbox, "ROOT", tmp_path)
    toolbox.study("pass-rate")
    printed = capsys.readouterr().out
    assert "not run yet" in printed
    assert not any(row["verdict"] in printed for row in found["findings"])
    assert all(claim.text in printed for claim in STUDIES["pass-rate"].claims)


# ---------------------------------------------------------------- letters


def formulas(text):
    """What stands between dollars, outside code."""
    prose = re.sub(r"```.*?```|`[^`]*`", " ", text, flags=re.DOTALL)
    return [display or inline for display, inline in re.findall(r"\$\$(.+?)\$\$|\$([^$]+?)\$", prose, re.DOTALL)]


def letters(formula):
    """The letters of a formula, Greek ones by their command; words (\\text, functions, subscripts) are none."""
    bare = re.sub(r"\\text\{[^}]*\}|_\{\w\w+\}", " ", formula)
    greek = {
        "varepsilon",
        "beta",
        "ell",
        "nabla",
        "rho",
        "tau",
        "theta",
        "pi",
        "sigma",
        "mu",
        "eta",
        "alpha",
        "gamma",
        "lambda",
    }
    commands = set(re.findall(r"\\([a-zA-Z]+)", bare))
    bold = set(re.findall(r"\\mathbb\{(\w)\}", bare))
    plain = set(re.findall(r"[a-zA-Z]", re.sub(r"\\mathbb\{\w\}|\\[a-zA-Z]+", " ", bare)))
    return plain | {rf"\{name}" for name in commands & greek} | {f"bold {name}" for name in bold}


def table_of_letters():
    """The letters of chapter 0's table, row by row."""
    table = build.section(TEXTS["00-map.md"], "letters").split("|---|---|---|\n")[1].split("\n\n")[0]
    return [set().union(*map(letters, formulas(row.split("|")[1]))) for row in table.splitlines()]


def test_a_letter_of_a_formula():
    assert letters(r"\frac{1}{N} \sum_i \text{pass@}k \, p_{old} \, \varepsilon_{low} \mathbb{E}") == {
        *("N", "i", "k", "p", r"\varepsilon", "bold E")
    }


def test_each_letter_stands_once_in_the_table():
    rows = [letter for row in table_of_letters() for letter in row]
    assert len(rows) >= 30
    assert sorted(rows) == sorted(set(rows))


@pytest.mark.parametrize("name", [path.name for path in CHAPTERS] + ["../README.md"])
def test_letters_are_those_of_the_table(name):
    """A formula, and a shape in a comment of a block or of the file, uses no letter that the table lacks."""
    known = set().union(*table_of_letters())
    text = (build.HERE / name).read_text(encoding="utf-8")
    known |= {"e"}  # the number
    unknown = {formula: letters(formula) - known for formula in formulas(text) if letters(formula) - known}
    assert not unknown
    code = text + (ROOT / "prorl_mini.py").read_text(encoding="utf-8")
    shapes = re.findall(r"\(([A-Z](?:, (?:[A-Z]|\d+))*),?\)", code)
    assert {letter for shape in shapes for letter in shape.split(", ") if letter.isalpha()} <= known


# ---------------------------------------------------------------- line tables


def test_line_tables_quote_the_source(executed):
    """A row of a table that explains a function line by line begins with code that stands there; "..." is a gap."""
    tables = {"02-groups.md": 1, "05-reference.md": 2, "06-prolonged.md": 1}
    for name, count in tables.items():
        parts, _ = executed[0](build.HERE / name)
        printed = " ".join(
            " ".join(part.printed.split()) for part in parts if part.kind == "python" and "toolbox.body" in part.text
        )
        rows = [
            row
            for table in re.findall(r"^\| line \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXTS[name], re.MULTILINE)
            for row in table.splitlines()
        ]
        assert len(re.findall(r"^\| line \|", TEXTS[name], re.MULTILINE)) == count
        for row in rows:
            code = re.match(r"\| `([^`]+)` \|", row)[1]
            pieces = [piece.strip() for piece in code.split("...") if piece.strip()]
            assert re.search(".*?".join(map(re.escape, pieces)), printed), f"{name}: {code}"


def test_the_museum_is_full():
    exhibits = re.split(r"^## \d+\. ", TEXTS["09-bug-museum.md"], flags=re.MULTILINE)[1:]
    assert len(exhibits) >= 10
    for exhibit in exhibits:
        source = r"https://github\.com/[\w-]+/[\w-]+/(?:issues|pull)/\d+|\]\(\.\./results/"
        assert re.search(source, exhibit), exhibit[:40]
        assert re.search(r"\]\(\.\./tests/test_\w+\.py\)", exhibit), exhibit[:40]
        for part in ("Symptom", "Caught by", "Fix"):
            assert f"**{part}**" in " ".join(exhibit.split()), exhibit[:40]


# ---------------------------------------------------------------- notebooks, debugger, VS Code


def test_notebooks_hold_the_same_code(tmp_path, capsys):
    made = build.write_notebooks(tmp_path)
    assert len(made) == len(CHAPTERS)
    for path, notebook in zip(CHAPTERS, made, strict=True):
        cells = json.loads(notebook.read_text())["cells"]
        code = ["".join(cell["source"]).strip() for cell in cells if cell["cell_type"] == "code"]
        assert code[1:] == [part.text.strip() for part in build.pieces(TEXTS[path.name]) if part.kind == "python"]


def test_first_cell_of_a_notebook_finds_the_project():
    folder = build.HERE / "figures"  # as deep as that of the notebooks, which may not be there
    lines = build.FIRST_CELL.removeprefix("```python\n").removesuffix("```\n\n")
    program = lines.replace("'../..'", f"{str(folder / '../..')!r}") + "import prorl_mini, tutorials.toolbox\n"
    subprocess.run([sys.executable, "-c", program], cwd="/", check=True, timeout=600)


# ---------------------------------------------------------------- one page


@pytest.fixture(scope="module")
def one_page():
    return page.page(CHAPTERS, build.slug)


def test_the_page_holds_every_chapter(one_page):
    """Headings, formulas, figures, code with its output; nothing is fetched, every link within it leads somewhere."""
    for path in CHAPTERS:
        assert f'<section id="{path.stem}">' in one_page
    fences = sum(len(re.findall(r"^```\w+$", TEXTS[path.name], re.MULTILINE)) for path in CHAPTERS)
    assert one_page.count("<pre") == fences
    assert one_page.count("<math") == sum(len(formulas(TEXTS[path.name])) for path in CHAPTERS)
    assert one_page.count('src="data:image/png;base64,') == sum(TEXTS[p.name].count("](figures/") for p in CHAPTERS)
    assert not re.findall(r"<(?:script|link|iframe)|src=\"(?!data:)", one_page)
    anchors = set(re.findall(r' id="([^"]+)"', one_page))
    assert {target for target in re.findall(r'href="#([^"]+)"', one_page)} <= anchors
    assert "<!-- says" not in one_page
    assert "$$" not in re.sub(
        r"<pre.*?</pre>|<code.*?</code>|<annotation.*?</annotation>", "", one_page, flags=re.DOTALL
    )


@pytest.mark.slow
def test_the_page_in_a_browser(one_page, tmp_path):
    """Headless Chromium opens it without a network and lays out formulas, figures and code."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium found")
    probe = (
        "<script>onload = () => document.body.append(JSON.stringify({"
        "broken: [...document.images].filter(i => !i.naturalWidth).length,"
        "flat: [...document.querySelectorAll('math')]"
        ".filter(m => m.checkVisibility() && !m.getBoundingClientRect().height).length,"
        "wide: document.documentElement.scrollWidth > innerWidth}))</script>"
    )
    (tmp_path / "page.html").write_text(one_page + probe, encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,900", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    assert '{"broken":0,"flat":0,"wide":false}' in done.stdout


def session():
    """The debugger session of chapter 10 -> [(command, what is shown below it)]."""
    text = "".join(part.text for part in build.pieces(TEXTS["10-stepping-through.md"]) if part.kind == "pdb")
    return re.findall(r"^\(Pdb\) (.*)\n((?:(?!\(Pdb\) ).*\n)*)", text, re.MULTILINE)


def test_breakpoints_are_functions_of_mini():
    breakpoints = [command.split()[1] for command, _ in session() if "break" in command]
    assert breakpoints
    assert all(callable(getattr(mini, name)) for name in breakpoints)


def test_debugger_session(tmp_path, monkeypatch):
    """Type the chapter's commands into pdb; what it answers must be what is shown, `...` standing for anything."""
    command = next(c for c in COMMANDS if " pdb " in c)
    args = shlex.split(command)[1:]
    args[args.index("--out") + 1] = str(tmp_path / "run")
    # A base model made in seconds, where the program looks for the real one.  It writes lists of the right length
    # now and then but hardly ever sorts one, so here a list that is partly right counts.
    real = laptop.WarmUp()
    small = dataclasses.replace(real, width=64, layers=2, steps=100, learning_rate=3e-3)
    monkeypatch.setattr(laptop, "warm_up", functools.partial(lambda make, settings: make(small), laptop.warm_up))
    laptop.base_model_folder(real, tmp_path / "cache")
    # The chapter's first command also proves the model; unproved, the session would stop in the proof's own batches.
    models.load_policy(settings.resolve(mini.Config(base_cache=str(tmp_path / "cache"), out="unused")))
    typed = "\n".join(command for command, _ in session()) + "\n"
    done = subprocess.run(
        [sys.executable, *args, "--binary-reward", "False", "--base-cache", str(tmp_path / "cache")],
        input=typed, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    answers = done.stdout.split("(Pdb) ")[1:]
    assert len(answers) >= len(session()), done.stdout[-2000:] + done.stderr[-2000:]
    for (command, shown), answer in zip(session(), answers, strict=False):
        pattern = ".*".join(re.escape(piece) for piece in shown.strip().split("..."))
        assert re.fullmatch(pattern, answer.strip(), re.DOTALL), f"{command}\nshown:\n{shown}\nanswered:\n{answer}"


def test_launch_file_starts_what_exists():
    """Valid JSON; its program or module is there and takes its arguments."""
    launch = json.loads((ROOT / ".vscode/launch.json").read_text())
    assert len(launch["configurations"]) >= 2
    for entry in launch["configurations"]:
        assert entry["type"] == "debugpy"
        assert entry["cwd"] == "${workspaceFolder}"
        if "program" in entry:
            assert Path(entry["program"].replace("${workspaceFolder}", str(ROOT))) == ROOT / "prorl_mini.py"
            settings.resolve(cli.parse(mini.Config, entry["args"]))
        else:
            assert importlib.util.find_spec(entry["module"])
