"""Find the program in a model's text, by Markdown's rules for fenced code blocks (CommonMark 0.31, section 4.5).

It runs in the trainer as well as in the sandbox, on text of any length: linear in it, no backtracking pattern.
"""

from dataclasses import dataclass

PYTHON = ("python", "python2", "python3", "py", "py2", "py3", "pypy", "pypy3", "ipython", "ipython3")
NESTED = 10  # lists and quotes around a block, which are looked through


@dataclass
class _Block:
    language: str  # the first word behind the fence, in lower case
    lines: list[str]


def last_code(text: str) -> str | None:
    """The last fenced block in Python; without one the last that names no language, else the last; None without any.

    Blank blocks do not count.  A block that never closes runs to the end of the text: a model that stops after its
    program still answered.

    >>> last_code("1. So:\\n   ```py\\n   print(1)\\n   ```\\nIt prints:\\n```\\n1\\n```")
    'print(1)'
    >>> last_code("~~~Python title='a.py'\\ns = '```'\\nprint(s)\\n~~~")
    "s = '```'\\nprint(s)"
    """
    blocks = _blocks(text)
    written = [block for block in blocks if any(line.strip() for line in block.lines)] or blocks
    for wanted in (PYTHON, ("",)):
        if found := [block for block in written if block.language in wanted]:
            return "\n".join(found[-1].lines)
    return "\n".join(written[-1].lines) if written else None


def _blocks(text: str) -> list[_Block]:
    blocks: list[_Block] = []
    fence, indent, open_block = "", 0, False
    for line in text.replace("\r\n", "\n").split("\n"):
        if open_block:
            if _closes(line, fence, indent):
                open_block = False
            else:
                blocks[-1].lines.append(_unindented(line, indent))
        elif opening := _opening(line):
            fence, indent, language = opening
            blocks.append(_Block(language, []))
            open_block = True
    if open_block:
        _cut_at_a_late_fence(blocks[-1].lines, fence)
    return blocks


def _opening(line: str) -> tuple[str, int, str] | None:
    """The fence that a line opens, what stands before it (spaces, list and quote marks) in characters, its language."""
    rest = line.lstrip(" \t")
    for _ in range(NESTED):
        rest = rest[_list_or_quote_mark(rest) :].lstrip(" \t")
    length = len(rest) - len(rest.lstrip(rest[0])) if rest[:1] in ("`", "~") else 0
    info = rest[length:].strip()
    if length < 3 or (rest[0] == "`" and "`" in info):  # the latter is a piece of code within a sentence
        return None
    word = info.lower().lstrip("{.= \t")
    end = next((i for i, character in enumerate(word) if not character.isalnum() and character not in "+#"), len(word))
    return rest[0] * length, len(line) - len(rest), word[:end]


def _list_or_quote_mark(text: str) -> int:
    """How many characters a mark at the start takes: `- `, `* `, `+ `, `12. `, `3) `, `> `."""
    if text[:1] == ">":
        return 1
    digits = len(text[:10]) - len(text[:10].lstrip("0123456789"))
    if digits < 10 and text[digits : digits + 1] in (("-", "*", "+") if digits == 0 else (".", ")")):
        return digits + 1 if text[digits + 1 : digits + 2] in (" ", "\t") else 0
    return 0


def _closes(line: str, fence: str, indent: int) -> bool:
    """A fence as long, alone on its line, and no deeper than three spaces beyond the one that opened the block."""
    stripped = line.lstrip(" \t>")
    alone = stripped.rstrip()
    return len(alone) >= len(fence) and not alone.strip(fence[0]) and len(line) - len(stripped) <= indent + 3


def _unindented(line: str, indent: int) -> str:
    """Without the spaces (or quote marks) that the block's own indent takes."""
    prefix = line[:indent]
    return prefix.lstrip(" \t>") + line[indent:] if indent else line


def _cut_at_a_late_fence(lines: list[str], fence: str) -> None:
    """A block without a proper end may have one behind its last statement: `print(1)` and the fence in one line."""
    for place, line in enumerate(lines):
        if line.rstrip().endswith(fence):
            lines[place:] = [line.rstrip().removesuffix(fence)]
            return
