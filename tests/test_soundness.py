"""The judge of verifiers: its pairs are what they say, checked by another reader than its own, and made anew alike."""

import gzip
import json
import random
import sys
from pathlib import Path

import pytest
import sympy
from sympy.parsing.latex import parse_latex

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import soundness_domains as domains
import soundness_heldout as heldout
import soundness_pairs as pairs
import verifier_soundness as judge
from soundness_reader import Unread, proven, read

GOLDS = [
    "17", "-4", "2350", "46000", "025", r"\frac{5}{8}", r"-\frac{7}{3}", r"\frac{4}{9}", "0.35", r"4\sqrt{7}",
    r"\frac{\sqrt{5}}{5}", r"\frac{3\pi}{4}", r"6\pi", "x^2 - 5x + 6", "(x+2)(x-3)", "2ab + c", "3 - 4i", "(2, -5)",
    "[1, 4)", r"(-\infty, 2]", r"(-\infty, 3) \cup (3, \infty)", "2, 5", r"\{1, 3, 8\}", r"2 \pm \sqrt{3}", "314_5",
    r"3\frac{1}{4}", r"45\%", r"60^\circ", r"8\text{ cm}", r"9\text{ cm}^2", r"\$7.25", r"\text{Maria}", r"\text{(B)}",
    r"\text{A, C}", "x = 9", "2x + 3y - 7 = 0", "y = 4x - 1", r"\begin{pmatrix} 1 & 2 \\ 0 & 3 \end{pmatrix}",
    r"-3 \text{ or } 8", "5:8", r"\sin x \cos x", r"7:15 \text{ p.m.}", r"\text{DCAB}", "3^{12}", r"0.4\overline{6}",
    "1,250", r"\frac1{6}",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the shape of PRORL_TEST_DATA with rows of our own."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("math", "code"):
        (folder / name).mkdir()
    problem = "How many stamps in all? Find $x$, in degrees, as a number in the interval."
    for name, golds in (("eval_math", GOLDS), ("train_math", GOLDS[:5]), ("eval_aime", ["072"]), ("eval_amc", [11.0])):
        rows = [{"problem": problem, "answer": gold} for gold in golds]
        (folder / "math" / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    row = {"question": "How much does she pay, in $? ", "answer": "6 * 2 = 12\n#### 12"}
    (folder / "math" / "gsm8k_test.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    task = {
        "task_id": "own/0",
        "entry_point": "largest",
        "prompt": 'def largest(xs, limit):\n    """The largest number below the limit, or None."""\n',
        "canonical_solution": (
            "    best = None\n    for x in xs:\n        if x < limit and (best is None or x > best):\n"
            "            best = x\n    return best\n"
        ),
        "test": (
            "def check(candidate):\n    assert candidate([3, 9, 4, 7], 8) == 7\n    assert candidate([5], 5) is None\n"
        ),
    }
    with gzip.open(folder / "code" / "HumanEval.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(task) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(data: Path) -> list[pairs.Pair]:
    return pairs.make(data, seed=3)[0]


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        (r"\frac{3}{4}", "0.75", False),
        (r"\frac{3}{4}", "0.751", True),
        ("R - r", "r - R", True),
        ("xy", "yx", False),
        (r"3\sqrt{5}", r"\sqrt{45}", False),
        (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}", True),
        ("(1, 2)", "(2, 1)", True),
        ("1, 2", "2, 1", False),
        ("[0, 1)", "(0, 1)", True),
        ("(100,101)", "(100, 101)", False),
        ("81, 256", "81256", True),
        ("3x - 2y = 4", "6x - 4y - 8 = 0", False),
        ("3x - 2y = 4", "3x - 2y = 5", True),
        ("25\\%", "0.25", None),  # may be meant as the same: nothing is claimed
        ("25\\%", "2.5", True),
        ("52_8", "42", None),
        ("52_8", "52_9", True),
        (r"5\text{ cm}", r"5\text{ m}", None),
        (r"7\frac{1}{2}", r"\frac{7}{2}", True),
        (r"7\frac{1}{2}", "7.5", False),
        ("4i^2", "-4", False),
        (r"\tan 15^\circ", r"\tan 15", True),
    ],
)
def test_what_the_reader_proves(gold: str, answer: str, verdict: bool | None) -> None:
    assert proven(gold, answer) is verdict


@pytest.mark.parametrize("text", ["", r"\int x dx", "1, 2, \\ldots", "x \\le 3", "e^2", "2 3", "a = b = c"])
def test_what_the_reader_does_not_know_it_does_not_judge(text: str) -> None:
    with pytest.raises(Unread):
        read(text)
    assert proven("5", text) is None


def test_there_are_kinds_enough_and_each_makes_pairs(made: list[pairs.Pair]) -> None:
    for registry, is_right in ((pairs.WRONG, False), (pairs.RIGHT, True)):
        kinds = {pair.kind for pair in made if pair.right is is_right}
        assert len(registry) >= 15
        # Few of the rows above have what the rarest kinds need.
        assert len(kinds & set(registry)) >= 0.85 * len(registry), sorted(set(registry) - kinds)
    assert set(pairs.WRONG) & set(pairs.RIGHT) == set()
    assert set(pairs.WRONG) | set(pairs.RIGHT) >= heldout.FIRST_SEEN


def test_the_same_seed_makes_the_same_pairs(data: Path, made: list[pairs.Pair]) -> None:
    assert pairs.make(data, seed=3)[0] == made
    assert pairs.make(data, seed=4)[0] != made


def test_no_pair_is_there_as_right_and_wrong(made: list[pairs.Pair]) -> None:
    right = {(p.domain, p.gold, p.response) for p in made if p.right}
    assert not right & {(p.domain, p.gold, p.response) for p in made if not p.right}


def _worth(text: str) -> complex | None:
    """The number that sympy's own parser of LaTeX reads, at a point; None where it reads none."""
    text = text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    try:
        found = parse_latex(text, backend="lark")
        points = {symbol: 0.37 + sum(map(ord, symbol.name)) / 100 for symbol in found.free_symbols}
        points.update({symbol: sympy.I for symbol in found.free_symbols if symbol.name == "i"})
        return complex(sympy.N(found.subs(points)))
    except Exception:  # noqa: BLE001  tuples, words, units: not its language, and it says so in many ways
        return None


def test_a_second_reader_agrees(made: list[pairs.Pair]) -> None:
    """sympy's grammar of LaTeX has no part in the proofs; it has no mixed numbers, so these are left out."""
    checked = 0
    for pair in random.Random(0).sample([p for p in made if p.domain == "math"], 120):
        sides = (pair.gold, pair.answer)
        if any(not set(side) <= set("0123456789+-^{}()abcxyi \\frsqtpd") or "mixed" in pair.kind for side in sides):
            continue
        gold, answer = map(_worth, sides)
        if gold is None or answer is None or pair.kind in ("box_taken_back", "thought_cut_off"):
            continue
        checked += 1
        assert (abs(gold - answer) < 1e-9 * max(1, abs(gold))) is pair.right, pair
    assert checked > 12


def test_programs_are_compared_by_what_they_return(data: Path) -> None:
    made, _ = domains.code_pairs(data, seed=0)
    assert {pair.kind for pair in made if not pair.right} >= {"code_comparison", "code_printed_for_returned"}
    assert sum(pair.right for pair in made) == len(domains.respellings(domains.human_eval(data)[0], "pass"))
    row = domains.human_eval(data)[0]
    code = row["prompt"] + row["canonical_solution"]
    programs = [
        code.replace("x < limit", "x <= limit"),
        domains.renamed(code),
        "def largest(xs, limit):\n    while True: pass",
    ]
    assert domains.compared(row, code, programs) == ["differs", "same", "differs"]


HANGS = """
import json, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    item = json.loads(line)
    if item["answer"] == "hang":
        time.sleep(60)
    if item["answer"] == "die":
        sys.exit(1)
    print(json.dumps({"score": 1.0, "status": ""}), flush=True)
"""


def test_one_pair_that_hangs_or_kills_does_not_stop_the_rest(tmp_path: Path) -> None:
    script = tmp_path / "grader.py"
    script.write_text(HANGS)
    grader = judge.Grader("own", [sys.executable, str(script)], clock=1.0, log=tmp_path / "log")
    replies = [grader.grade({"answer": answer}) for answer in ("a", "hang", "b", "die", "c")]
    grader.stop()
    assert [reply["status"] for reply in replies] == ["", "timeout", "", "died", ""]
    assert [reply["score"] for reply in replies] == [1.0, 0.0, 1.0, 0.0, 1.0]


def test_the_table_counts_both_faults() -> None:
    some = [
        pairs.Pair("k", right, "math", "1", answer, "", "")
        for right, answer in ((True, "1"), (False, "2"), (False, "3"))
    ]
    replies = [{"score": 0.0, "status": ""}, {"score": 1.0, "status": ""}, {"score": None, "status": "declined"}]
    text = judge.table(some, {"own": replies})
    assert "| k | 2 | 50.00 |" in text
    assert "| k | 1 | 100.00 |" in text
    elsewhere = [{"score": None, "status": judge.DECLINED}, *replies[1:]]
    assert "| k | 1 | 100.00 |  |" in judge.table(some, {"own": replies, "other": elsewhere})
