"""Pairs for the other domains: programs, puzzles and instructions, each wrong or right by a proof said beside it.

Programs are HumanEval's canonical solutions, changed at one place of their syntax tree; a mutant is wrong where, on an
argument of the problem's own tests, it returns something else than the original or raises.  Both run in a process of
their own with limits, not in our verifier.  Puzzles are items that Reasoning Gym makes, instructions are IFEval's.
"""

import ast
import copy
import gzip
import json
import random
import re
import resource
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from soundness_pairs import Pair

# --- code: one change in the syntax tree


def _sites(tree: ast.AST, fits: Callable[[ast.AST], bool]) -> int:
    return sum(fits(node) for node in ast.walk(tree))


def _changed(source: str, fits: Callable[[ast.AST], bool], change: Callable[[ast.AST], ast.AST], site: int) -> str:
    """The source with its site-th fitting node changed."""
    count = -1

    class Change(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            nonlocal count
            if fits(node):
                count += 1
                if count == site:
                    return change(copy.deepcopy(node))
            return self.generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Change().visit(ast.parse(source))))


OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
}  # fmt: skip


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


# kind -> which nodes, and what becomes of one
MUTATIONS: dict[str, tuple[Callable[[ast.AST], bool], Callable[[ast.AST], ast.AST]]] = {
    "operator": (
        lambda n: isinstance(n, ast.BinOp) and type(n.op) in OPERATORS,
        lambda n: _with(n, op=OPERATORS[type(n.op)]()),
    ),
    "comparison": (
        lambda n: isinstance(n, ast.Compare) and type(n.ops[0]) in COMPARISONS,
        lambda n: _with(n, ops=[COMPARISONS[type(n.ops[0])](), *n.ops[1:]]),
    ),
    "number_off_by_one": (
        lambda n: isinstance(n, ast.Constant) and type(n.value) is int,
        lambda n: _with(n, value=n.value + 1),
    ),
    "condition_negated": (lambda n: isinstance(n, ast.If), lambda n: _with(n, test=ast.UnaryOp(ast.Not(), n.test))),
    "and_for_or": (
        lambda n: isinstance(n, ast.BoolOp),
        lambda n: _with(n, op=ast.And() if isinstance(n.op, ast.Or) else ast.Or()),
    ),
    "printed_for_returned": (
        lambda n: isinstance(n, ast.Return) and n.value is not None,
        lambda n: ast.Expr(ast.Call(ast.Name("print", ast.Load()), [n.value], [])),
    ),
    "returned_in_a_list": (
        lambda n: isinstance(n, ast.Return) and n.value is not None,
        lambda n: _with(n, value=ast.List([n.value], ast.Load())),
    ),
    "text_changed": (
        lambda n: isinstance(n, ast.Constant) and isinstance(n.value, str) and 0 < len(n.value) < 20,
        lambda n: _with(n, value=n.value + "x"),
    ),
}

# Runs in a process of its own: the original on the arguments of the tests, then each program on the same.
HARNESS = r"""
import copy, json, math, random, resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
task = json.load(sys.stdin)
answers = sys.stdout
sys.stdout = open("/dev/null", "w")
def function(source):
    space = {"__name__": "program"}
    exec(source, space)
    return space[task["name"]]
def ring(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, ring)
def outcome(f, arguments):
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        return ("value", f(*copy.deepcopy(arguments)))
    except BaseException as error:
        return ("raised", type(error).__name__)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
def same(a, b):
    if isinstance(a, float) or isinstance(b, float):
        try:
            return abs(a - b) <= 1e-3 * max(1, abs(b))
        except Exception:
            return False
    if type(a) is not type(b) or (isinstance(a, (list, tuple)) and len(a) != len(b)):
        return a == b
    return all(map(same, a, b)) if isinstance(a, (list, tuple)) else a == b
original = function(task["original"])
seen = []
def recorder(*arguments):
    seen.append(copy.deepcopy(arguments))
    return original(*arguments)
space = {}
exec(task["test"], space)
random.seed(0)
space["check"](recorder)
expected = [outcome(original, arguments) for arguments in seen[:200]]
verdicts = []
for source in task["programs"]:
    try:
        f = function(source)
    except BaseException:
        verdicts.append("differs")
        continue
    verdict = "same"
    for arguments, (kind, value) in zip(seen, expected):
        got, result = outcome(f, arguments)
        if got == "raised" and kind == "value" or got == kind == "value" and not same(result, value):
            verdict = "differs"
            break
    verdicts.append(verdict)
answers.write(json.dumps(verdicts))
"""
# Their tests accept several outputs, or make up arguments that no recorded run has.
UNPROVABLE = {"find_zero", "encode_shift", "decode_shift", "encode_cyclic", "decode_cyclic"}


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (100, 100))


def compared(row: dict, original: str, programs: list[str]) -> list[str]:
    """For each program "same" or "differs" on the arguments of the problem's tests; "unknown" if nothing came back."""
    task = {"name": row["entry_point"], "original": original, "test": row["test"], "programs": programs}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", HARNESS],
            input=json.dumps(task).encode(),
            capture_output=True,
            timeout=120,
            preexec_fn=_limits,
            check=False,
        )
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return ["unknown"] * len(programs)


def human_eval(data: Path) -> list[dict]:
    with gzip.open(data / "code" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def code_reference(row: dict) -> dict:
    return {"asserts": ["check(candidate)"], "setup": f"{row['test']}\ncandidate = {row['entry_point']}"}


def fenced(code: str) -> str:
    return f"Here it is:\n\n```python\n{code}\n```\n\nIt passes the tests."


def renamed(source: str) -> str:
    """Local variables and comprehension variables under other names; arguments and functions keep theirs."""
    tree = ast.parse(source)
    for function in [n for n in tree.body if isinstance(n, ast.FunctionDef)]:
        inner = {n.name for n in ast.walk(function) if isinstance(n, ast.FunctionDef)}
        arguments = {
            a.arg for n in ast.walk(function) if isinstance(n, ast.arguments) for a in [*n.args, *n.kwonlyargs]
        }
        stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and node.id in stored - inner - arguments:
                node.id = f"my_{node.id}"
    return ast.unparse(tree)


def respellings(row: dict, code: str) -> dict[str, tuple[str, str | None]]:
    """kind -> the response, and the program in it where it is no longer the original, to be run against it."""
    indented = textwrap.indent(f"```python\n{code}\n```", "   ")
    plain = ast.unparse(ast.parse(code))
    return {
        "as_it_is": (fenced(code), None),
        "renamed_locals": (fenced(renamed(code)), renamed(code)),
        "comments_stripped": (fenced(plain), plain),
        "imports_added": (fenced(f"import os, sys\nfrom typing import *\nimport numpy as np\n{code}"), None),
        "main_guard": (fenced(f"{code}\n\nif __name__ == '__main__':\n    print({row['entry_point']})"), None),
        "fence_py": (f"```py\n{code}\n```", None),
        "fence_capital": (f"```Python\n{code}\n```", None),
        "fence_bare": (f"The program:\n```\n{code}\n```", None),
        "fence_in_a_list": (f"1. The program:\n\n{indented}\n\n2. It is linear.", None),
        "fence_unclosed": (f"```python\n{code}\n", None),
        "windows_line_ends": (fenced(code).replace("\n", "\r\n"), None),
        "after_a_draft": (f"First try:\n```python\nraise ValueError\n```\nBetter:\n```python\n{code}\n```", None),
        "output_shown_after": (f"{fenced(code)}\nIt prints nothing.", None),
    }


def code_pairs(data: Path, seed: int, problems: int | None = None) -> tuple[list[Pair], dict[str, Counter]]:
    left_out: dict[str, Counter] = {}
    with ThreadPoolExecutor(2) as threads:
        rows = human_eval(data)[:problems]
        made = list(threads.map(lambda row: _problem(row, seed), rows))
    pairs = []
    for some, dropped in made:
        pairs += some
        for kind, reason in dropped:
            left_out.setdefault(f"code_{kind}", Counter())[reason] += 1
    return pairs, left_out


def _problem(row: dict, seed: int) -> tuple[list[Pair], list[tuple[str, str]]]:
    """One problem's mutants and respellings, and what was left out."""
    rng = random.Random(f"{seed} {row['task_id']}")
    code = row["prompt"] + row["canonical_solution"]
    programs: list[tuple[str, bool, str, str]] = []  # kind, right, response, the program to run
    if row["entry_point"] not in UNPROVABLE:
        for kind, (fits, change) in MUTATIONS.items():
            count = _sites(ast.parse(code), fits)
            for site in rng.sample(range(count), min(2, count)):
                mutant = _changed(code, fits, change, site)
                programs.append((kind, False, fenced(mutant), mutant))
    for kind, (response, program) in respellings(row, code).items():
        programs.append((kind, True, response, program or code))
    verdicts = compared(row, code, [program for *_, program in programs])
    reference = code_reference(row)
    pairs, dropped = [], []
    for (kind, right, response, program), verdict in zip(programs, verdicts, strict=True):
        if verdict == ("same" if right else "differs"):
            pairs.append(
                Pair(f"code_{kind}", right, "code", row["entry_point"], program, response, "HumanEval", reference)
            )
        else:
            dropped.append((kind, verdict))
    return pairs, dropped


# --- puzzles


def puzzle_pairs(seed: int, items: int = 4) -> list[Pair]:
    """Answers that Reasoning Gym made, and what is none: a tail, a constant, another sign or number.

    A task takes part whose own answer is one number or a list of words, for there the answer is the only one: what
    differs from it in value, or in number or order of words, is wrong.
    """
    import reasoning_gym

    pairs = []
    for task in PUZZLES:
        for i, item in enumerate(reasoning_gym.create_dataset(task, seed=seed + 1, size=items)):
            item = json.loads(json.dumps(item, default=str))
            rng = random.Random(f"{seed} {task} {i}")
            reference = {"task": task, "item": item}
            for right, makers in ((False, puzzle_wrong), (True, puzzle_right)):
                for kind, text in makers(item["answer"], rng):
                    answer = text if kind in PUZZLE_RESPONSES else f"<think>Let me see.</think><answer>{text}</answer>"
                    gold = str(item["answer"])[:200]
                    pairs.append(
                        Pair(f"puzzle_{kind}", right, "puzzle", f"{task}: {gold}", text[:200], answer, task, reference)
                    )
    return pairs


NUMBERS = [
    "basic_arithmetic",
    "chain_sum",
    "decimal_chain_sum",
    "gcd",
    "lcm",
    "leg_counting",
    "products",
    "power_function",
    "prime_factorization",
    "fraction_simplification",
    "gsm_symbolic",
    "count_bits",
    "count_primes",
    "letter_counting",
    "number_sequence",
    "simple_equations",
    "bitwise_arithmetic",
    "complex_arithmetic",
    "calendar_arithmetic",
    "time_intervals",
    "circuit_logic",
    "largest_island",
    "rectangle_count",
    "simple_geometry",
    "polynomial_equations",
    "base_conversion",
    "dice",
    "family_relationships",
    "number_filtering",
]
WORDS = [
    "word_sorting",
    "word_sequence_reversal",
    "letter_jumble",
    "spell_backward",
    "caesar_cipher",
    "sentence_reordering",
    "number_sorting",
    "isomorphic_strings",
    "palindrome_generation",
    "ransom_note",
    "string_manipulation",
    "game_of_life_halting",
    "syllogism",
    "knights_knaves",
    "pool_matrix",
    "rotate_matrix",
    "spiral_matrix",
]
PUZZLES = [*NUMBERS, *WORDS]
PUZZLE_RESPONSES = {"answer_in_the_thought", "untagged", "cut_off"}


def puzzle_wrong(answer: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    number = re.fullmatch(r"-?\d+(\.\d+)?", answer)
    yield "tail_of_words", f"{answer} banana banana"
    yield "tail_of_numbers", f"{answer} 1 2 3"
    yield "head_of_words", f"banana {answer}"
    yield "nonsense", "banana"
    yield "empty", ""
    yield "answer_in_the_thought", f"<think><answer>{answer}</answer>"
    yield "untagged", f"The answer is {answer}."
    if number:
        value = float(answer)
        if len(answer.partition(".")[2]) < 5:  # a float's last digit says nothing
            yield "next_number", f"{answer[:-1]}{(int(answer[-1]) + 1) % 10}"
        if value:
            yield "sign", answer[1:] if answer.startswith("-") else f"-{answer}"
            yield "constant_0", "0"
        if value != 1:
            yield "constant_1", "1"
        yield "two_numbers", f"{answer} or {answer[:-1]}{(int(answer[-1]) + 3) % 10}"
    words = answer.split(", ") if ", " in answer else answer.split()
    joint = ", " if ", " in answer else " "
    if len(words) > 2 and not number:
        yield "word_dropped", joint.join(words[:-1])
        yield "word_twice", joint.join([*words, words[-1]])
        roots = all(re.fullmatch(r"-?\d+(\.\d+)?", word) for word in words) and ", " in answer  # in any order
        i = None if roots else next((i for i in range(len(words) - 1) if words[i] != words[i + 1]), None)
        if i is not None:
            yield "words_exchanged", joint.join([*words[:i], words[i + 1], words[i], *words[i + 2 :]])


def puzzle_right(answer: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    yield "as_it_is", answer
    yield "blanks_around", f"\n {answer} \n"
    yield "untagged_thought", answer
    yield "second_thoughts", f"banana</answer> No: <answer>{answer}"


# --- instructions


FILLER = "rain falls on the old town and the river is quiet today"


def instruction_texts(name: str, a: dict[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """kind, right, text: for one IFEval instruction what just meets it, and what just misses it, by construction."""

    def counted(unit: str, joint: str, n: int, relation: str) -> Iterator[tuple[str, bool, str]]:
        least = relation == "at least"
        for kind, count, right in (
            ("at_the_bound", n, least), ("one_less", n - 1, not least),
            ("one_more", n + 1, least), ("far_off", 0 if least else 3 * n + 2, False),
        ):  # fmt: skip
            if count > 0 or kind == "far_off":
                yield kind, right, joint.join([unit] * count) or "zzz"

    match name.partition(":")[2]:
        case "no_comma":
            yield from (("none", True, FILLER), ("one", False, f"{FILLER}, it seems"), ("last", False, f"{FILLER},"))
        case "number_words":
            yield from counted("word", " ", a["num_words"], a["relation"])
        case "number_sentences" if a["num_sentences"] > 1:  # one sentence is what any text has
            yield from counted("It rains today.", " ", a["num_sentences"], a["relation"])
        case "frequency":
            yield from counted(a["keyword"], " and ", a["frequency"], a["relation"])
        case "letter_frequency":
            if a["letter"].isalpha():
                yield from counted(a["letter"], " 1 ", a["let_frequency"], a["let_relation"])
        case "forbidden_words":
            yield "none", True, "zzz"
            yield "one", False, f"zzz {a['forbidden_words'][-1]} zzz"
            yield "capitals", False, f"zzz {a['forbidden_words'][0].upper()} zzz"
        case "existence":
            yield "all", True, f"zzz {' '.join(a['keywords'])} zzz"
            yield "all_but_one", False, f"zzz {' '.join(a['keywords'][:-1])} zzz"
        case "number_highlighted_sections":
            n = a["num_highlights"]
            yield "enough", True, " ".join(f"*part {i}* zzz" for i in range(n))
            yield "one_less", False, " ".join(f"*part {i}* zzz" for i in range(n - 1)) or "zzz"
            yield "empty_ones", False, " ".join(["* *"] * n)
        case "number_bullet_lists":
            n = a["num_bullets"]
            for kind, count in (("exact", n), ("one_less", n - 1), ("one_more", n + 1)):
                yield kind, count == n, "Points:\n" + "".join(f"* point {i}\n" for i in range(count))
        case "number_placeholders":
            n = a["num_placeholders"]
            yield "enough", True, " ".join(f"[name {i}]" for i in range(n))
            yield "one_less", False, " ".join(f"[name {i}]" for i in range(n - 1)) or "zzz"
        case "number_paragraphs":
            for kind, count in (("exact", a["num_paragraphs"]), ("one_more", a["num_paragraphs"] + 1)):
                yield kind, kind == "exact", "\n***\n".join([FILLER] * count)
        case "quotation":
            yield from (("both", True, f'"{FILLER}"'), ("first_only", False, f'"{FILLER}'), ("none", False, FILLER))
        case "english_lowercase":
            yield from (("lower", True, f"{FILLER}."), ("one_capital", False, f"R{FILLER[1:]}."))
        case "english_capital":
            yield from (("capitals", True, FILLER.upper()), ("one_small", False, FILLER.upper()[:-1] + "y"))
        case "title":
            yield from (("title", True, f"<<Rain>>\n{FILLER}"), ("single", False, f"<Rain>\n{FILLER}"))
            yield "empty_title", False, f"<<>>\n{FILLER}"
        case "postscript":
            mark = a["postscript_marker"]
            yield from (("mark", True, f"{FILLER}\n\n{mark} More rain."), ("no_mark", False, f"{FILLER}\n\nMore rain."))
        case "json_format":
            yield from (("json", True, '{"rain": [1, 2]}'), ("tail", False, '{"rain": 1} and more'))
            yield "single_quotes", False, "{'rain': 1}"
        case "end_checker":
            yield "end", True, f"{FILLER}. {a['end_phrase']}"
            yield "more_after", False, f"{FILLER}. {a['end_phrase']} And more rain."
            yield "missing", False, f"{FILLER}."
        case "two_responses":
            yield from (("two", True, "one ****** two"), ("one", False, "one"), ("the_same", False, "one ****** one"))
        case "repeat_prompt":
            prompt = a["prompt_to_repeat"]
            yield "repeated", True, f"{prompt} {FILLER}"
            yield "not_first", False, f"Sure. {prompt} {FILLER}"
        case "constrained_response":
            yield from (("said", True, "My answer is yes."), ("other", False, "My answer is perhaps."))
        case "multiple_sections":
            head, n = a["section_spliter"], a["num_sections"]
            yield "enough", True, "".join(f"{head} {i + 1}\n{FILLER}\n" for i in range(n))
            yield "one_less", False, "".join(f"{head} {i + 1}\n{FILLER}\n" for i in range(n - 1)) or "zzz"
        case "capital_word_frequency":
            yield from counted("RAIN", " and ", a["capital_frequency"], a["capital_relation"])


def instruction_pairs(data: Path) -> list[Pair]:
    lines = (data / "instruction_following" / "ifeval_input_data.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = []
    for row in map(json.loads, lines):
        for name, arguments in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            reference = {"instruction_id_list": [name], "kwargs": [arguments]}
            short = name.partition(":")[2]
            for kind, right, text in instruction_texts(name, arguments):
                label = f"{short}: {kind}"
                pairs.append(
                    Pair(
                        f"instruction_{short}",
                        right,
                        "instruction",
                        f"{short} {json.dumps(arguments)}",
                        label,
                        text,
                        name,
                        reference,
                    )
                )
    return pairs
