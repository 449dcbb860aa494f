"""What makes a row unfit: each predicate on rows of its kind, and on good ones that look like them."""

import csv
import doctest
import re
from pathlib import Path
from typing import Any

import pytest

from prorl_lab import judge, split
from prorl_lab.judge import REASONS, Task, notes, reason

ROOT = Path(__file__).parents[1]


def test_doctests() -> None:
    for module in (judge, split):
        assert doctest.testmod(module).failed == 0


def of_math(question: str, answer: str = "7", domain: str = "math") -> str | None:
    return reason(Task(domain, question, {"answer": answer}))


def of_stem(question: str, answer: str = "7") -> str | None:
    return of_math(question, answer, "stem")


def of_code(question: str, **reference: Any) -> str | None:
    return reason(Task("code", question, {"inputs": ["1\n", "2\n"], "outputs": ["3\n", "4\n"], **reference}))


UNFIT = {
    "answer missing": [
        ("math", "Find x.", "See the attached solution."),
        ("math", "Find x.", "The answer is given below"),
        ("math", "Find x.", r"\text{no final answer}"),
        ("math", "Find x.", "Answers may vary."),
        ("math", "Find x.", "Q.E.D."),
        ("math", "Find x.", "???"),
    ],
    "answer is prose": [
        ("math", "Who can force a win?", "Player B wins"),
        ("math", "Which n?", r"{\text{no such integer}}"),
        ("math", "Which n?", r"\text{all primes greater than } 3"),
        ("math", "When?", "12 is never reached by this sequence"),
        ("stem", "What happens?", "The current doubles"),
    ],
    "box in the problem": [
        ("math", r"Find AB. Solution: by similarity AB is 3+4, so \boxed{7}.", "7"),
        ("math", "Find AB.\nSolution: By similarity AB = 3 + 4 = 7.", "7"),
        ("math", r"Find AB. Note that it is \boxed{\frac{7}{2}} at most.", "7"),
    ],
    "refers to a figure": [
        ("math", "Refer to the diagram. What is the angle at B?", "7"),
        ("math", "What is the area of the following figure?", "7"),
        ("stem", "According to the graph, when is the speed largest?", "7"),
        ("math", "In the diagram, AB is parallel to CD. Find angle x.", "7"),
        ("math", "The figure below is made of 5 squares. What is its area?", "7"),
        ("math", "Find the area of the region shaded in the picture shown.", "7"),
        ("math", "How many paths lead from P to Q on the grid shown?", "7"),
        ("math", "What is the angle at C, as indicated in the sketch?", "7"),
        ("math", "What is this? <image>", "7"),
        ("math", "Find $x$. ![](a.png)", "7"),
        ("stem", "For the network of Fig. 3.4, find the current.", "7"),
        ("stem", "The beam in Figure carries 3 kN. Find the reaction at A.", "7"),
        ("stem", "From the accompanying graph, estimate the rate.", "7"),
        ("math", "The graph of $y = f(x)$ is shown. Find $f(2)$.", "7"),
        ("stem", "A rope hangs from a hook as shown above. Find its tension.", "7"),
        ("stem", r"In Figure 2, \begin{tabular}{c}1\end{tabular} find x.", "7"),
        ("stem", "A 4 kg crate is pulled up a plank as shown. How much work is done?", "7"),
        ("stem", "How fast does a cart of 20 kg leave the track shown if it starts from rest?", "7"),
        ("stem", "What is the potential difference between point A and point B?", "7"),
        ("stem", "A charge of 2 C goes from point X to point Y. How much work is done on the 2 C?", "7"),
    ],
    "refers to another exercise": [
        ("stem", "Repeat Exercise 2.3 with nitrogen.", "7"),
        ("stem", "Use the data of Table 3 to find the heat of fusion.", "7"),
        ("stem", "Find the pressure in the previous problem at 300 K.", "7"),
        ("stem", "Evaluate Eq. (4.12) for a hydrogen atom.", "7"),
        ("stem", "For the gas of Problem 12, find the work.", "7"),
        ("math", "In the preceding problems let n = 8. What is the probability?", "7"),
        ("math", "Solve the example above for n = 5.", "7"),
    ],
    "asks for a proof": [
        ("math", "Let n be odd. Prove that n^2 - 1 is divisible by 8.", "8"),
        ("stem", "Show that the group is abelian.", "7"),
        ("math", "Prove that the number of subsets of n things is a power of 2.", "2"),
        ("stem", "A laser is red. Explain why it is so.", "7"),
        ("stem", "(a) Sketch the density of states.", "7"),
    ],
    "several parts": [
        ("stem", "A 2 kg ball falls 5 m. (a) Find its speed. (b) Find its energy.", "7"),
        ("stem", "A ball falls. (i) How fast is it? (ii) How long does it fall?", "7"),
        ("stem", "Calculate (a) the molar mass and (b) the density of the gas at 300 K.", "7"),
        ("stem", "A ball falls.\na) Find its speed.\nb) What is its energy?", "7"),
        ("stem", "A ball falls.\n1. What is its speed?\n2. What is its energy?", "7"),
        ("math", "Let f be a function. (1) Find f(0); (2) If f(1)=2, find f(2).", "7"),
        ("stem", "Calculate (a) the mass, (b) the volume and (c) the density of the ball.", "7"),
        ("stem", "For each function find its maximum. (a) f(x) = 3x (b) f(x) = -x on [0, 1]", "7"),
        ("stem", "A ball rolls 3 m. How long does it roll? Does its speed change?", "7"),
        ("stem", "Part A: Find the speed. Part B: Find the energy.", "7"),
    ],
}
FIT = [  # (domain, question, answer): none of these is unfit, though each looks like one that is
    ("math", "Is there a solution? Answer yes or no.", "no"),
    ("math", "Which curve is it?", r"\text{ellipse}"),
    ("math", "Which are right?", r"\text{A, B, and D}"),
    ("math", "How far?", r"3 \text{ miles per hour}"),
    ("math", "Which roots?", r"x = 2 \text{ or } x = -3"),
    ("math", "Factor it.", "-(ab + bc + ca)"),
    ("math", "Which matrix?", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    ("math", r"Fill in: $3 + \boxed{\phantom{0}} = 10$.", "7"),
    ("math", r"Write your answer as \boxed{}.", "7"),
    ("math", "A solution holds 7 % salt.\nSolution A has 17 g more. How much is that?", "70"),
    ("math", "Sketch the following graph of ideas: what is the sum of 3 and 4?", "7"),
    ("math", r"Which digit is $\boxed{A}$ in $\boxed{A}7 = 97$?", "9"),
    ("math", "In the diagram, find x. [asy] draw((0,0)--(1,1)); [/asy]", "7"),
    ("math", "The graph of $y = x^2$ and that of $y = 3$ meet. Which point is on the graph of $y = f(x)$?", "7"),
    ("math", "A plane figure has area 12. What is twice the area of the figure?", "24"),
    ("math", "A figure skater turns 6 times. How many degrees is that?", "2160"),
    ("math", "The numbers shown on two dice are added. It can be shown that the sum is even. How often?", "7"),
    ("math", "The table shows the sales.\n\\begin{tabular}{c|c} a & 3 \\\\ b & 4 \\end{tabular} What is the sum?", "7"),
    ("stem", "A gas fills two halves of a box (Fig. 5.8). Find the entropy of mixing.", "7"),
    ("math", "Problem 12. What is 3 + 4?", "7"),
    ("math", "For example 313 is a palindrome. How many are there below 100?", "9"),
    ("math", "30 students took the Chapter 4 test, with a mean of 72. What was the sum?", "2160"),
    ("math", "Prove that x is an integer, and find its value.", "7"),
    ("math", "It is known that the census will show that the number falls. In what year is it below 5?", "2009"),
    ("math", "Given that $f(1) = 2$ and $f(2) = 3$, find $f(3)$.", "7"),
    ("math", "Find n such that (i) n is odd; (ii) 2n + 3 is a square.", "11"),
    ("math", "Which n is least under these conditions? a) When divided by 2 it leaves 1. b) It is prime.", "3"),
    ("math", "f has these properties: (1) its maximum is 5. (2) it is even. What is the value of f(0)?", "5"),
    ("math", "(1) Find f(0); (2) find f(2).", "3, 4"),
    ("stem", "Two charges of 2 C are 3 m apart as shown. What is the force between them?", "9"),
    ("stem", "A force of 7 N pulls a sled of 3 kg as shown, 30° above the ground. How fast does it go after 1 s?", "2"),
    ("stem", "A gas takes up 500 J and does 200 J of work, as shown. How much energy does it gain?", "300"),
    ("stem", "The rate is as shown: r = 3 c. What is it at c = 2?", "6"),
    ("stem", "How fast is the pump shown in Table 2?\n| pump | 3 |\n", "3"),
    ("stem", "The potential is 5 V at point A and 3 V at point B. What does 2 C gain from A to B?", "-4"),
    ("stem", "A force does the work $W$ from point A to point B. What does it do on the way back?", "-W"),
    ("math", "How many ways lead from point A to point B?", "7"),
    ("stem", "Which is it? (a) iron (b) gallium (c) lead", "B"),
    ("stem", "The value of x is: (a) 3 (b) 4 (c) 5", "C"),
    ("stem", "What is a gas? That is the question here. How many moles are in 22.4 l?", "1"),
    ("stem", "What is the speed of a ball after 3 s? Give your answer in m/s.", "30"),
]


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in UNFIT.items() for row in rows])
def test_an_unfit_row_is_named(name: str, row: tuple[str, str, str]) -> None:
    domain, question, answer = row
    assert of_math(question, answer, domain) == name


@pytest.mark.parametrize(("domain", "question", "answer"), FIT)
def test_a_good_row_that_looks_unfit_is_kept(domain: str, question: str, answer: str) -> None:
    assert of_math(question, answer, domain) is None


UNFIT_CODE = {
    "several outputs": [
        "Print two primes with sum n. If there are several answers, print any of them.",
        "Print a permutation. If there are multiple such permutations, output any.",
        "Output the edges of the tree in any order.",
        "Construct any string of length n without the letter a.",
        "Print the path. Any valid path will be accepted.\nIf more than one answer exists, any of them is accepted.",
        "Any of the optimal schedules is considered correct.",
        "Any valid answer that needs at most 2n moves will be judged as correct.",
        "If there are many valid orders, return **any** of them.",
        "If more than one triple exists, any one will do.",
        "If there are several paths, print one of them.",
        "If multiple sets exist, you may print an arbitrary one.",
        "Return the indices; you may return the answer in any order.",
        "Print the array you found. If there are many solutions,\nyou can print any\nof them.",
    ],
    "interactive": [
        "This is an interactive problem. Guess the number.",
        "You can ask at most 20 queries. After each, flush the output.",
        "Your program communicates with the judge over standard streams.",
        "Don't forget fflush(stdout) after every line.",
    ],
    "form mismatch": [
        "Your task is to complete the function total() that returns the sum.",
        "You don't need to read input or print anything. Complete the given function.",
        "You only need to implement the function total(a).",
        "class Solution:\n    def total(self, a):\n        ...",
    ],
}
FIT_CODE = [
    "If there are several such strings, print the lexicographically smallest.",
    "Print YES if any of the numbers is odd, otherwise NO.",
    "You can print each letter in any case.",
    "If there are several winners, print the one with the longest name.",
    "If there are many routes, take one of the shortest and print its length.",
    "You may start at any cell and move to any neighbour. Print the number of steps.",
    "Do not print any extra spaces.",
    "The edges are given in any order. Print the length of the longest path.",
    "A museum has an interactive wall with n buttons. Print how many are lit.",
    "The function f(x) is defined as below. Print f(n).",
    "Find all mistakes and print their number; any line may hold some.",
    "Return the empty string if you didn't\n        find any vowel, else the vowel.",
    "There are many different ways to pay. Print their number modulo 7.",
]


@pytest.mark.parametrize(("name", "question"), [(name, text) for name, texts in UNFIT_CODE.items() for text in texts])
def test_an_unfit_program_is_named(name: str, question: str) -> None:
    assert of_code(question) == name


@pytest.mark.parametrize("question", FIT_CODE)
def test_a_good_program_is_kept(question: str) -> None:
    assert of_code(question) is None


def test_a_form_is_held_against_the_tests() -> None:
    asks_for_a_function = "You don't need to read any input. Complete the function f."
    assert of_code(asks_for_a_function, fn_name="f") is None
    assert of_code(asks_for_a_function, asserts=["assert f(1) == 2"]) is None
    assert of_code("Read n from standard input and print n + 1.", fn_name="f") == "form mismatch"
    assert of_code("Read n from standard input and print n + 1.") is None


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("5\n1 2 3 4...", True),
        ("3\nabc\n...", True),
        ("3\nabc\n...\n", True),
        ("5\n1 2 3 4\u2026", True),
        ("5\n1 2 3 4 [truncated]", True),
        ("3 3\n#.#\n...\n", False),
        ("1.5 2.5\n...", True),
        ("3.", False),
        ("1\n....", False),
        ("wait... what", False),
    ],
)
def test_a_test_that_was_cut_off(text: str, cut: bool) -> None:
    assert (of_code("Add.", inputs=["1", text], outputs=["2", "3"]) == "cut off") == cut
    assert (of_code("Add.", inputs=["1", "2"], outputs=["2", text]) == "cut off") == cut


def test_one_test_that_the_statement_shows_is_no_test() -> None:
    statement = "Print n squared.\nInput\n4\n9\nOutput\n16 81"
    shown = {"inputs": ["4\n9\n"], "outputs": ["16\n81\n"]}
    assert of_code(statement, **shown) == "only a shown test"
    assert of_code(statement, inputs=["4\n9\n", "1\n"], outputs=["16\n81\n", "1\n"]) is None
    assert of_code("Print n squared.", **shown) is None
    assert "one test" in notes(Task("code", "Print n squared.", shown))


def test_reasons_can_be_kept_and_stay_in_their_domain() -> None:
    task = Task("stem", "Show that it is so in Fig. 2.", {"answer": "7"})
    assert reason(task) == "refers to a figure"
    assert reason(task, frozenset(["refers to a figure"])) == "asks for a proof"
    assert reason(task, frozenset(REASONS)) is None
    assert reason(Task("instruction", "Show that it is so in Fig. 2.", {})) is None
    assert notes(Task("math", "Find x. [asy] draw(); [/asy]", {"answer": "7"})) == ["drawing in code"]


def test_the_table_of_labels_is_made_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`results/2026-11-28-rows/README.md` = what bench/row_labels.py counts in labels.csv; at most 2 % are lost."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    import row_labels

    labels = list(csv.DictReader(row_labels.LABELS.read_text(encoding="utf-8").splitlines()))
    text = (row_labels.LABELS.parent / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- labels -->\n(.*?)\n<!-- /labels -->", text, re.DOTALL).group(1)
    assert shown == row_labels.table(labels)
    assert all(float(share) <= 2 for share in re.findall(r"\| ([0-9.]+) % \|", shown))
    assert f"{len(labels):,} rows" in text


def test_what_is_hostile_to_a_pattern_ends() -> None:
    """Every predicate is linear, or nearly so, in what a file may hold."""
    for text in ("(a) " * 20_000, "if several " * 20_000, "print " * 40_000, "{" * 50_000, "=" * 50_000, "1," * 50_000):
        assert of_math(text, text[:400]) in (None, *REASONS)
        assert of_code(text) in (None, *REASONS)
