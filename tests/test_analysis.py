"""The boundary analysis: its formulas against enumeration and the paper's own numbers, its page against its tables."""

import csv
import doctest
import importlib
import itertools
import json
import math
import random
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prorl_lab.errors import UserError
from prorl_scale.analysis import creativity, curves, load, page, regimes, sections, sources
from prorl_scale.analysis.__main__ import main
from tests.evaluation_folder import write_folder, write_lines

PAPER = Path(__file__).with_name("prorl_passk_small.json")  # read off the curves of the paper's Figures 11 to 13
RUN = Path(__file__).parents[1] / "results/2026-11-23-laptop/mini-long"


@pytest.mark.parametrize("name", ["curves", "regimes", "creativity", "page"])
def test_examples_in_the_text(name):
    found = doctest.testmod(importlib.import_module(f"prorl_scale.analysis.{name}"))
    assert found.attempted
    assert not found.failed


# ------------------------------------------------------------------ the paper's own curves


@pytest.fixture(scope="module")
def paper():
    return sources.published(load.load_published(PAPER))


def test_the_paper_s_regression(paper):
    """Figure 1 prints R^2 = 0.879; slope and intercept follow from the same 37 points."""
    rows = sections.regimes.regime_rows(paper, paper.points)
    line = regimes.regression(np.array([r["base"] for r in rows]), np.array([r["gain"] for r in rows]))
    assert len(rows) == 37
    assert [round(v, 3) for v in line] == [-0.978, 0.896, 0.879]


@pytest.mark.parametrize("step", [0.001, regimes.STEP, 0.022])
def test_the_paper_s_regimes(paper, monkeypatch, step):
    """Its nine examples come out as it sorts them, and not only at the threshold that was chosen."""
    monkeypatch.setattr(regimes, "STEP", step)
    found = {row["unit"].set: row["regime"] for row in sections.regimes.regime_rows(paper, paper.units)}
    assert {name: found[name] for name in sections.regimes.PAPER_REGIMES} == sections.regimes.PAPER_REGIMES


def test_without_an_intermediate_model_there_is_no_plateau():
    assert regimes.regime(0.2, None, 0.3) == "gain"
    assert regimes.regime(0.2, None, 0.205) == "diminish"


def test_format_rewards_alone_give_the_printed_curve(paper):
    """group_anagrams as printed: no answer is right, each wrong one earns 0.01."""
    counts = curves.summed_counts(np.full((1, 256), 0.01))
    curve = curves.pass_curves(counts, 256, curves.powers_of_two(256))[0]
    assert np.round(curve, 3).tolist() == [0.008, 0.016, 0.031, 0.062, 0.121, 0.235, 0.438, 0.751, 1.000]
    unit = next(unit for unit in paper.units if unit.set == "group_anagrams")
    assert np.round(curve, 3).tolist() == unit.values["final"].tolist()
    assert curves.summed_counts(np.full((1, 100), 0.01)).tolist() == [1]  # whose float sum is below 1
    assert curves.right_counts(np.full((1, 256), 0.99)).tolist() == [0]


# ------------------------------------------------------------------ pass@k, bands, bounds


@pytest.mark.parametrize("n", [1, 5, 8])
def test_pass_at_k_by_drawing_every_subset(n):
    ks = curves.powers_of_two(n)
    counts = np.arange(n + 1)
    exact = [
        [np.mean([any(i < c for i in chosen) for chosen in itertools.combinations(range(n), k)]) for k in ks]
        for c in counts
    ]
    np.testing.assert_allclose(curves.pass_curves(counts, n, ks), exact, atol=1e-12)


def test_what_nobody_solved_is_not_clear():
    """0 of 6 prompts before and after: six prompts can't tell whether the boundary moved."""
    nothing = np.zeros((6, 1))
    unit = sources.Unit("six", None, [1], {"base": np.zeros(1), "final": np.zeros(1)}, 1, np.arange(6),
                        per_prompt={"base": nothing, "final": nothing})  # fmt: skip
    (row,) = sections.regimes.regime_rows(sources.Source("", ["base", "final"], [unit]), [unit])
    assert row["regime"] == "diminish"
    assert not sections.regimes.is_clear(row)


def simplex(parts: int, total: int):
    return (w for w in itertools.product(range(total + 1), repeat=parts) if sum(w) == total)


def test_the_bound_by_enumeration():
    """Every law of rho on five values with weights in sixths: equal at k = 2, above it from then on, turned at 1."""
    rates = np.array([0, 0.25, 0.5, 0.75, 1])
    for weights in simplex(5, 6):
        w = np.array(weights) / 6
        mean = w @ rates
        variance = w @ (rates - mean) ** 2
        bound = {k: curves.pass_bound(mean, variance, k) for k in (1, 2, 3, 4, 16, 256)}
        truth = {k: 1 - w @ (1 - rates) ** k for k in bound}
        assert bound[2] == pytest.approx(truth[2], abs=1e-12)
        assert all(bound[k] >= truth[k] - 1e-12 for k in bound if k > 2)
        assert bound[1] <= truth[1] + 1e-12
        assert (bound[1] < truth[1] - 1e-9) == (variance > 1e-12)


def test_moments_are_free_of_sampling_noise():
    """Over all outcomes of two prompts of 4 answers, E[rho] and E[(1 - rho)^2] come out exactly."""
    n, rates = 4, (0.2, 0.7)
    chance = [[math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)] for p in rates]
    means, brackets = 0.0, 0.0
    for a, b in itertools.product(range(n + 1), repeat=2):
        mean, variance = curves.moments(np.array([a, b]), n)
        means += chance[0][a] * chance[1][b] * mean
        brackets += chance[0][a] * chance[1][b] * ((1 - mean) ** 2 + variance)
    assert means == pytest.approx(np.mean(rates))
    assert brackets == pytest.approx(np.mean([(1 - p) ** 2 for p in rates]))


def binomial_tail(right: int, n: int, p: Fraction) -> Fraction:
    """Chance of `right` or fewer, in whole fractions."""
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(right + 1))


def test_exact_bounds_on_a_solve_rate():
    assert curves.rate_bound(0, 64, "upper") == pytest.approx(1 - 0.05 ** (1 / 64))
    assert curves.rate_bound(64, 64, "lower") == pytest.approx(0.05 ** (1 / 64))
    assert (curves.rate_bound(0, 9, "lower"), curves.rate_bound(9, 9, "upper")) == (0, 1)
    for right, n in ((0, 5), (1, 5), (3, 20), (200, 256)):
        upper = Fraction(curves.rate_bound(right, n, "upper"))
        lower = Fraction(curves.rate_bound(right + 1, n, "lower"))
        assert float(binomial_tail(right, n, upper)) == pytest.approx(0.05)
        assert float(1 - binomial_tail(right, n, lower)) == pytest.approx(0.05)
    for p in np.linspace(0.01, 0.99, 25):  # the promise itself: the rate is below its upper bound 95 times in 100
        mass = [math.comb(12, c) * p**c * (1 - p) ** (12 - c) for c in range(13)]
        assert sum(m for c, m in enumerate(mass) if curves.rate_bound(c, 12, "upper") >= p) >= 0.95


# ------------------------------------------------------------------ creativity


def index_of(text: str, *documents: str, lengths=range(2, 5)) -> creativity.Uniqueness:
    return creativity.uniqueness([text], [[document] for document in documents], lengths)


def test_creativity_by_hand():
    """the cat sat on a mat | the cat sat. on a log: 2-grams cover all but mat, 3-grams the first three words."""
    result = index_of("the cat sat on a mat", "we saw the cat sat . on a log")
    np.testing.assert_allclose(result.shares[0], [1 / 6, 3 / 6, 1])
    assert result.index[0] == pytest.approx(1 / 6 + 3 / 6 + 1)
    assert result.words.tolist() == [6]


def test_creativity_at_the_ends():
    assert index_of("a b c d e", "x a b c d e x").index[0] == 0
    assert index_of("a b c d e", "e d c b a").index[0] == 3
    assert index_of("a b c", "x a b c x").shares[0].tolist() == [0, 0, 1]  # too short for a span of 4
    assert index_of("a b c d", "a b", "c d").shares[0].tolist() == [0, 1, 1]  # no span runs across documents
    assert np.isnan(index_of(" \n", "a").index[0])
    assert index_of("a b", "").index[0] == 3


def dj_search(text: list[str], documents: list[list[str]], lengths: range) -> list[float]:
    """Two pointers: the longest span from each word that some document contains, then what spans of L or more cover."""

    def contains(span: list[str]) -> bool:
        return any(d[i : i + len(span)] == span for d in documents for i in range(len(d) - len(span) + 1))

    spans, end = [], 0
    for start in range(len(text)):
        end = max(end, start)
        while end < len(text) and contains(text[start : end + 1]):
            end += 1
        spans.append((start, end))
    covered = [{i for a, b in spans if b - a >= length for i in range(a, b)} for length in lengths]
    return [1 - len(c) / len(text) for c in covered]


words = st.lists(st.sampled_from("abc"), max_size=14)


@settings(max_examples=150, deadline=None)
@given(st.lists(words, min_size=1, max_size=3), st.lists(words, max_size=4), st.integers(1, 3), st.integers(0, 3))
def test_creativity_is_what_dj_search_finds(texts, documents, shortest, more):
    lengths = range(shortest, shortest + more + 1)
    result = creativity.uniqueness([" ".join(t) for t in texts], [[" ".join(d)] for d in documents], lengths)
    for text, shares in zip(texts, result.shares, strict=True):
        if text:
            np.testing.assert_allclose(shares, dj_search(text, documents, lengths), atol=1e-12)
        else:
            assert np.isnan(shares).all()


def test_creativity_is_the_same_in_small_pieces(tmp_path, monkeypatch):
    """Read in blocks of 16 characters and searched in chunks of 4 words, a corpus gives what it gives whole."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcd", k=30)) for _ in range(5)]
    (tmp_path / "a.txt").write_text("\n".join(" ".join(draw.choices("abcd", k=9)) for _ in range(40)))
    write_lines(tmp_path / "b.jsonl", [{"text": " ".join(draw.choices("abcd", k=50))} for _ in range(3)])
    files = creativity.corpus_files([tmp_path])
    whole = creativity.uniqueness(texts, creativity.read_corpus(files), range(3, 8)).shares
    assert 0 < whole.min() < whole.max() <= 1 or whole.std() > 0
    monkeypatch.setattr(creativity, "BLOCK", 16)
    pieces = creativity.uniqueness(texts, creativity.read_corpus(files), range(3, 8)).shares
    np.testing.assert_array_equal(whole, pieces)


@pytest.mark.parametrize("line", ["{", '{"txt": "a"}', "[]", '{"text": 3}'])
def test_creativity_says_what_is_wrong_with_a_corpus(tmp_path, line):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + line + "\n")
    with pytest.raises(UserError, match="in line 2"):
        creativity.uniqueness(["a"], creativity.read_corpus([tmp_path / "a.jsonl"]), range(1, 2))
    with pytest.raises(UserError, match="there is no"):
        creativity.corpus_files([tmp_path / "nothing"])


# ------------------------------------------------------------------ reading


def rewrite(path: Path, change) -> None:
    write_lines(path, change([json.loads(line) for line in path.read_text().splitlines()]))


def without(rows, **where):
    return [row for row in rows if any(row[key] != value for key, value in where.items())]


ANSWERS = "answers/final/toy.jsonl"
DAMAGE = {
    "no folder": ("there is no folder", lambda f: f.rename(f.with_name("moved"))),
    "no config": ("can't be read", lambda f: (f / "config.json").unlink()),
    "one model": ("fewer than two models", lambda f: (f / "config.json").write_text('{"models": {"base": "x"}}')),
    "no prompts": ("holds no prompts", lambda f: (f / "prompts/toy.jsonl").unlink()),
    "no answers": ("lacks final/toy", lambda f: (f / ANSWERS).unlink()),
    "one too few": (
        "has 3 answers to prompt 'toy-4-1' and 4",
        lambda f: rewrite(f / ANSWERS, lambda rows: without(rows, id="toy-4-1", sample=2)),
    ),
    "cut off": ("no JSON object in line", lambda f: (f / ANSWERS).write_text((f / ANSWERS).read_text()[:-9])),
    "twice": (
        "the same sample",
        lambda f: rewrite(f / ANSWERS, lambda r: without(r, id="toy-4-1", sample=2) + [{**x, "sample": 1} for x in r
                                                         if (x["id"], x["sample"]) == ("toy-4-1", 2)]),
    ),
    "foreign": ("does not fit", lambda f: rewrite(f / ANSWERS, lambda rows: [*rows, {**rows[0], "id": "else"}])),
    "score": ("outside 0 to 1", lambda f: rewrite(f / ANSWERS, lambda rows: [{**rows[0], "score": 2.0}, *rows[1:]])),
    "half": (
        "original_score in some",
        lambda f: rewrite(f / ANSWERS, lambda rows: [{**rows[0], "original_score": 1.0}, *rows[1:]]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_input_is_named_in_one_sentence(tmp_path, capsys, name):
    message, damage = DAMAGE[name]
    folder = write_folder(tmp_path / "evaluation", n=4, prompts=2, sizes=(4, 8))
    damage(folder)
    assert main(["--runs", str(folder), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_answers_come_back_in_the_order_of_prompts_and_samples(tmp_path):
    """The file is shuffled; scores, and texts found by their offsets, are not."""
    folder = write_folder(tmp_path / "evaluation", n=4, prompts=2, sizes=(4, 8))
    evaluation = load.load_evaluation(folder)
    rows = {(r["id"], r["sample"]): r for r in map(json.loads, (folder / ANSWERS).read_text().splitlines())}
    answers = evaluation.answers["final", "toy"]
    assert list(evaluation.models) == ["base", "mid", "final"]
    for i, prompt in enumerate(evaluation.prompts["toy"]):
        for sample in range(4):
            assert answers.scores[i, sample] == rows[prompt["id"], sample]["score"]
            assert list(answers.texts([(i, sample)])) == [rows[prompt["id"], sample]["text"]]


@pytest.mark.parametrize(
    "args",
    [["--out", "x"], ["--corpus", "a", "--curves", str(PAPER), "--out", "x"],
     ["--curves", "none.json", "--out", "x"], ["--training", ".", "--out", "x"],
     ["--curves", str(PAPER), "--lengths", "5", "4", "--out", "x"]],
)  # fmt: skip
def test_bad_arguments_are_one_sentence(args, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(args) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not any(tmp_path.iterdir())


# ------------------------------------------------------------------ newly solvable


def test_newly_solvable_and_lost(tmp_path):
    """Right answers of 64 by prompt, base to final: 0 to 1, 0 to 9, 3 to 0, 0 to 0, 5 to 5."""
    counts = {"base": [0, 0, 3, 0, 5], "final": [1, 9, 0, 0, 5]}
    (tmp_path / "prompts").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"models": dict.fromkeys(counts, "x")}))
    prompts = [{"id": i, "set": "s", "domain": "d", "tier": None, "prompt": f"p{i}", "reference": ""} for i in range(5)]
    write_lines(tmp_path / "prompts/s.jsonl", prompts)
    for model, right in counts.items():
        (tmp_path / "answers" / model).mkdir(parents=True)
        rows = [
            {"id": i, "sample": s, "text": f"{model} {i} {'right' if s >= 64 - c else 'wrong'}", "tokens": 1,
             "truncated": False, "score": float(s >= 64 - c), "status": "ok"}
            for i, c in enumerate(right) for s in range(64)
        ]  # fmt: skip
        write_lines(tmp_path / "answers" / model / "s.jsonl", rows)
    evaluation = load.load_evaluation(tmp_path)
    section = sections.solvable_section(evaluation, sources.measured(evaluation), examples=5)
    tables = {table.name: table for table in section.tables}
    newly = [dict(zip(tables["newly_solvable"].columns, row, strict=True)) for row in tables["newly_solvable"].rows]
    lost = [dict(zip(tables["lost"].columns, row, strict=True)) for row in tables["lost"].rows]
    assert [(row["id"], row["final right"], row["strict"]) for row in newly] == [(1, 9, True), (0, 1, False)]
    assert [(row["id"], row["base right"], row["strict"]) for row in lost] == [(2, 3, False)]
    assert newly[0]["base upper bound"] == pytest.approx(1 - 0.05 ** (1 / 64))
    assert [row["right answer"] for row in newly + lost] == ["final 1 right", "final 0 right", "base 2 right"]
    assert tables["solvable"].rows == [["s", "all", 5, 1, 2, 1, 1]]
    facts = {key: section.facts[key] for key in ("newly", "newly_strict", "lost", "lost_strict")}
    assert facts == {"newly": 2, "newly_strict": 1, "lost": 1, "lost_strict": 0}


# ------------------------------------------------------------------ training


def test_validation_has_the_ks_that_are_there():
    rows = [{"step": 0, "score": 0.1}, {"step": 5, "score": 0.2, "pass@k": {"1": 0.2, "16": 0.6}}]
    lines = sections.training.validation_lines(rows)
    assert lines == {"pass@1": ([0, 5], [0.1, 0.2]), "pass@16": ([5], [0.6])}


# ------------------------------------------------------------------ the page


class Page(HTMLParser):
    """Checks nesting while it reads; keeps the cells by table, the facts, links, sources, and the text."""

    VOID = frozenset({"meta", "img", "hr", "br", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.tables, self.facts, self.links, self.text = [], {}, [], [], []
        self.rows = None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [value for key, value in attrs.items() if key in ("src", "href", "srcset", "action", "data")]
        if tag not in self.VOID:
            self.open.append((tag, attrs))
        if tag == "table":
            self.rows = self.tables.setdefault(attrs["data-csv"], [])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if "data-fact" in attrs:
            self.facts.append([attrs["data-fact"], ""])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.text.append(data)
        tags = [tag for tag, _ in self.open]
        if tags and tags[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and "data-fact" in self.open[-1][1]:
            self.facts[-1][1] += data


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """Everything at once: two sets with tiers, partial rewards, two scorers, published curves, corpus, training."""
    folder = tmp_path_factory.mktemp("analysis")
    write_folder(
        folder / "evaluation", n=20, prompts=6, sizes=(4, 16), floor=0.06, sets=("toy", "game_of_life_halting"),
        originals=("game_of_life_halting",),
    )  # fmt: skip
    few = {name: json.loads(PAPER.read_text())[name] for name in ("math", "maze", "dice", "group_anagrams", "boxnet")}
    (folder / "curves.json").write_text(json.dumps(few))
    (folder / "corpus.txt").write_text("a b c d e f " * 50)
    out = folder / "out"
    args = ["--runs", folder / "evaluation", "--curves", folder / "curves.json", "--corpus", folder / "corpus.txt"]
    args += ["--lengths", "2", "4", "--training", RUN, "--examples", "2", "--title", "A <title> & more", "--out", out]
    assert main([str(arg) for arg in args]) == 0
    return out


@pytest.fixture(scope="module")
def html(analysed):
    found = Page()
    found.feed((analysed / "index.html").read_text(encoding="utf-8"))
    found.close()
    assert found.open == []  # every element is closed, and none across another
    return found


def test_the_page_needs_nothing_else(html):
    assert html.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in html.links)
    assert "A <title> & more" in "".join(html.text)


def test_model_output_stays_text(analysed, html):
    """An answer holds a script element; on the page it is seen, not run."""
    raw = (analysed / "index.html").read_text(encoding="utf-8")
    assert "<script" not in raw
    assert "<script>final</script>" in "".join(html.text)
    assert page.cell("=cmd|' /C calc'!A0").startswith("'")
    assert page.clean("a\x00\x1b[31mb\r\n\u202e", 99) == "a\ufffd\ufffd[31mb\n\n\ufffd"


def shown(value: str, how=page.number) -> str:
    """A CSV cell as the page shows it."""
    try:
        return how(float(value)) if "." in value or "e" in value else value
    except ValueError:
        return value


def test_every_number_in_a_table_is_in_its_csv(analysed, html):
    assert len(html.tables) >= 14
    for name, (header, *rows) in html.tables.items():
        columns, *stored = read_csv(analysed / name)
        kept = [columns.index(column) for column in header]
        assert set(columns) - set(header) <= {"prompt", "right answer"}
        assert rows == [[shown(row[i]) for i in kept] for row in stored[: page.SHOWN]], name


def test_every_number_in_a_sentence_is_in_the_facts(analysed, html):
    facts = {f"{section}.{key}": value for section, key, value in read_csv(analysed / "facts.csv")[1:]}
    assert len(html.facts) >= 30
    assert all(text == shown(facts[name], page.spoken) for name, text in html.facts)


def test_the_tables_say_what_was_simulated(analysed):
    """Against the answers file itself: pass@1, int(sum) lifted by the floor, the hollow scorer, k cut at n."""
    header, *rows = read_csv(analysed / "passk.csv")
    assert header[-1] == "pass@16"
    text = (analysed.parent / "evaluation/answers/final/toy.jsonl").read_text()
    scores = [json.loads(line)["score"] for line in text.splitlines()]
    whole = next(row for row in rows if row[:3] == ["toy", "all", "final"])
    assert float(whole[header.index("pass@1")]) == pytest.approx(np.mean([score >= 1 for score in scores]))
    assert whole[3:5] == ["12", "20"]
    lifted = next(row for row in read_csv(analysed / "passk_int_sum.csv") if row[:3] == ["toy", "16 words", "base"])
    assert float(lifted[header.index("pass@1")]) == pytest.approx(1 / 20)  # int(20 x 0.06) = 1 of 20
    scorers = read_csv(analysed / "scorers.csv")[1:]
    assert {row[3] for row in scorers if row[2] == "original"} == {"1.0"}
    assert all(float(row[3]) < 1 for row in scorers if row[2] == "corrected")
    assert [row[0] for row in read_csv(analysed / "ood.csv")[1:]] == ["game_of_life_halting"]


def test_all_figures_are_there_twice(analysed):
    names = {path.name for path in (analysed / "figures").iterdir()}
    stems = {
        "passk", "passk_int_sum", "published_passk", "regimes", "published_regimes", "gain", "published_gain",
        "distribution", "bound", "solvable", "creativity", "difficulty", "training",
    }  # fmt: skip
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}


def test_less_input_gives_a_shorter_page_that_says_so(tmp_path):
    assert main(["--training", str(RUN), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "Left out, for want of input: pass@k, regimes and gain (need --runs or --curves);" in text
    assert sorted(p.name for p in (tmp_path / "out/figures").iterdir()) == ["training.png", "training.svg"]


def test_an_analysis_is_replaced_as_a_whole(tmp_path):
    for name in ("first", "second"):
        section = page.Section("a", "A", tables=[page.Table(name, name, ["x"], [[1.0]])])
        page.write(tmp_path / "out", "t", [section], [], {})
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"second.csv", "facts.csv", "config.json", "index.html", "figures"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        page.write(tmp_path, "t", [], [], {})
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_two_models_and_a_single_answer(tmp_path):
    """The least that can be evaluated: no intermediate model, no tiers to compare, n = 1."""
    folder = write_folder(tmp_path / "e", n=1, prompts=3, sizes=(4,), models=("base", "final"))
    assert main(["--runs", str(folder), "--out", str(tmp_path / "out")]) == 0
    header, row = read_csv(tmp_path / "out/regimes.csv")
    assert "late" not in header
    assert row[header.index("k")] == "1"
