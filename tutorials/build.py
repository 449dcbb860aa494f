"""Run the chapters, draw their figures, make notebooks of them.

    python -m tutorials.build figures      run every block and write the plots to tutorials/figures
    python -m tutorials.build outputs      the same, and rewrite the output shown below each block
    python -m tutorials.build minutes      write the minutes that the rule gives into the chapters and the contents
    python -m tutorials.build notebooks    a notebook of each chapter, in tutorials/notebooks (not kept in git)
    python -m tutorials.build page         all chapters as one page for a browser, tutorials/tutorial.html (nor is that)

A chapter is markdown in which four things mean something to a machine, and `tests/test_tutorials.py` holds it to them:

    ```python      a block: runs after the ones before it, in one namespace per chapter
    ```text        right below a block: exactly what that block prints
    ```console     commands, each line that begins with "$ "
    <!-- says      Python expressions, one a line, whose values must stand in the paragraph above: how a sentence
    ... -->        quotes a number from results/ or a default
"""

import contextlib
import io
import itertools
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import matplotlib

from prorl_lab import flags
from tutorials import page

matplotlib.use("Agg")

HERE = Path(__file__).parent
PIECE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$|^<!-- says\n(?P<says>.*?)-->$", re.MULTILINE | re.DOTALL)
# A notebook lives two folders below the root, where the blocks expect to run.
FIRST_CELL = "```python\nimport os, sys\nos.chdir('../..')\nsys.path.insert(0, '.')\n```\n\n"


@dataclass
class Piece:
    """A fenced block ("python", "text", "console", ...), a "says" comment, or a paragraph ("prose")."""

    kind: str
    text: str
    line: int
    start: int  # of `text` in the chapter
    printed: str | None = None  # by a python block
    values: list[str] = field(default_factory=list)  # of a says comment


def chapters() -> list[Path]:
    """The numbered chapters, in order."""
    return sorted(HERE.glob("[0-9][0-9]-*.md"))


def pieces(text: str) -> list[Piece]:
    """A chapter in the order of reading."""
    found, end = [], 0
    for match in [*PIECE.finditer(text), None]:
        prose = text[end : match.start() if match else len(text)]
        for paragraph in re.finditer(r"\S.*?(?=\n\s*\n|\Z)", prose, re.DOTALL):
            start = end + paragraph.start()
            found.append(Piece("prose", paragraph[0], text.count("\n", 0, start) + 1, start))
        if match:
            group = "says" if match["says"] is not None else "code"
            kind = match["language"] or "plain" if group == "code" else "says"
            found.append(Piece(kind, match[group], text.count("\n", 0, match.start()) + 1, match.start(group)))
            end = match.end()
    return found


def run(path: Path) -> tuple[list[Piece], dict[str, Any]]:
    """Execute a chapter -> its pieces, with what was printed and said, and the namespace it ends with."""
    parts, names = pieces(path.read_text(encoding="utf-8")), {"__name__": path.stem}
    for part in parts:
        if part.kind == "python":
            printed = io.StringIO()
            # The line numbers of a traceback are those of the chapter.
            code = compile("\n" * part.line + part.text, str(path), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, names)
            part.printed = printed.getvalue()
        elif part.kind == "says":
            part.values = [str(value) for line in part.text.splitlines() for value in eval(f"({line},)", names)]
    return parts, names


def wrong_outputs(parts: list[Piece]) -> Iterator[tuple[Piece, str]]:
    """Each "text" block whose block above prints something else -> (the block above, what is shown, or "")."""
    for part, below in zip(parts, [*parts[1:], None], strict=True):
        if part.kind == "python":
            shown = below.text if below and below.kind == "text" else ""
            if shown != part.printed:
                yield part, shown


def unsaid(parts: list[Piece]) -> Iterator[tuple[Piece, str]]:
    """Each value of a "says" comment that does not stand in the paragraph above it -> (the comment, the value)."""
    for above, part in itertools.pairwise(parts):
        if part.kind == "says":
            text = " ".join(above.text.split())  # where a line ends means nothing
            for value in part.values:
                if not re.search(rf"(?<![\w.]){re.escape(value)}(?!\w|\.\d)", text):
                    yield part, value


# ---------------------------------------------------------------- minutes

WORDS, LINES, QUESTION = 150, 6, 3.5  # a minute of text, a minute of code, the minutes that a question takes


def minutes(text: str) -> int:
    """How long a chapter, or a section of one, takes: words and lines of code by rate, and the exercise's questions.

    Words are those of the text, of what the blocks print and of the solutions, whose code is skimmed like text.  Code
    includes what is typed into a debugger and the source that `toolbox.body` prints.  Commands are free, and nothing is
    run.
    """
    text, _, exercise = text.partition("\n## Exercise")
    asked, _, solved = exercise.partition("<details>")
    parts = pieces(text)
    for above, part in itertools.pairwise(parts):
        if part.kind == "text" and "toolbox.body(" in above.text:
            part.kind = "source"
    words = sum(count_words(part.text) for part in parts if part.kind in ("prose", "text")) + count_words(solved)
    starts = {"python": r"^ *\S", "source": r"^ *\S", "pdb": r"^\(Pdb\)"}
    code = sum(len(re.findall(starts[part.kind], part.text, re.MULTILINE)) for part in parts if part.kind in starts)
    questions = len(re.findall(r"^\d+\. ", asked, re.MULTILINE))
    return round(words / WORDS + code / LINES + QUESTION * questions)


def count_words(text: str) -> int:
    """Words and numbers."""
    return len(re.findall(r"\w[\w'.-]*", text))


def section(text: str, heading: str) -> str:
    """A "## " section of a chapter, by its heading's anchor on GitHub."""
    return next(
        part for part in re.split(r"^(?=## )", text, flags=re.MULTILINE) if slug(part.splitlines()[0]) == heading
    )


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading, with or without its #s."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()).replace(" ", "-")


def short_path(contents: str) -> list[tuple[str, str, int]]:
    """The sections of the path of an hour: (chapter, anchor, minutes by the rule) of each row that links to one."""
    links = re.findall(r"^\| \[.*?\]\((\d\d-[\w-]+\.md)#(.*?)\) \|", contents, re.MULTILINE)
    return [
        (name, anchor, minutes(section((HERE / name).read_text(encoding="utf-8"), anchor))) for name, anchor in links
    ]


def write_minutes() -> None:
    """Put the minutes of the rule where chapters and contents state them."""
    contents, total = (HERE / "README.md").read_text(encoding="utf-8"), 0
    for path in chapters():
        text = path.read_text(encoding="utf-8")
        needed = minutes(text)
        total += needed
        path.write_text(
            re.sub(r"^\*\d+ minutes\.", f"*{needed} minutes.", text, count=1, flags=re.MULTILINE), encoding="utf-8"
        )
        contents = re.sub(rf"(\({path.name}\) \|.*\| )\d+ \|", rf"\g<1>{needed} |", contents)
    for name, anchor, needed in short_path(contents):
        contents = re.sub(rf"(\({name}#{re.escape(anchor)}\) \|.*\| )\d+ \|", rf"\g<1>{needed} |", contents)
    (HERE / "README.md").write_text(
        re.sub(r"\d+ minutes in all", f"{total} minutes in all", contents), encoding="utf-8"
    )


# ---------------------------------------------------------------- what is made of the chapters


def write_outputs(path: Path, parts: list[Piece]) -> None:
    """Rewrite the chapter so that below each block stands what it printed."""
    text = path.read_text(encoding="utf-8")
    for part, below in reversed(list(zip(parts, [*parts[1:], None], strict=True))):
        if part.kind != "python":
            continue
        if below and below.kind == "text":
            text = text[: below.start] + part.printed + text[below.start + len(below.text) :]
        elif part.printed:
            end = part.start + len(part.text) + len("```")
            text = text[:end] + f"\n\n```text\n{part.printed}```" + text[end:]
    path.write_text(text, encoding="utf-8")


def write_notebooks(folder: Path) -> list[Path]:
    """A notebook of each chapter.  Links to the neighbours lead to their notebooks, others up to the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for path in chapters():
        text = re.sub(r"\]\((\d\d-[\w-]+)\.md", r"](\1.ipynb", path.read_text(encoding="utf-8"))
        text = re.sub(r"\]\((\.\./|figures/|README)", r"](../\1", text)
        heading, _, rest = text.partition("\n\n")
        made.append(folder / f"{path.stem}.ipynb")
        jupytext.write(jupytext.reads(f"{heading}\n\n{FIRST_CELL}{rest}", "md"), made[-1])
    return made


def main(args: list[str] | None = None) -> int:
    """The command line."""
    args = sys.argv[1:] if args is None else args
    if len(args) != 1 or args[0] not in ("figures", "outputs", "minutes", "notebooks", "page"):
        return flags.usage("python -m tutorials.build figures | outputs | minutes | notebooks | page", args)
    if args == ["minutes"]:
        write_minutes()
    elif args == ["notebooks"]:
        for made in write_notebooks(HERE / "notebooks"):
            print(made.relative_to(HERE.parent))
    elif args == ["page"]:
        (HERE / "tutorial.html").write_text(page.page(chapters(), slug), encoding="utf-8")
        print("tutorials/tutorial.html")
    else:
        for path in chapters():
            start = time.perf_counter()
            parts, _ = run(path)
            print(f"{path.name}: {time.perf_counter() - start:.1f} s")
            if args == ["outputs"]:
                write_outputs(path, parts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
