r"""From LaTeX, plain text or Unicode to tokens; nothing is thrown away that could change an answer.

What is dropped: \left, \right, spacing, sizes, colours, fonts.  What is kept: a blank before a token (`1 1/4` is not
`11/4`), the case of letters, and that a letter or word stood upright (in \text, \mathrm, ...), because `\mathrm{g}` may
be a gram where `g` is a symbol.  Blanks never join two numbers; only a thousands mark does (`1{,}000`, `1\,000`).
"""

import re
from typing import NamedTuple

from . import notation

MAX_DEPTH = 40  # of braces


class NotRead(ValueError):
    """The text is outside of what we read."""


class Token(NamedTuple):
    kind: str  # number, letter, word, command, symbol, group, accent, matrix, or one of STRUCTURES
    text: str
    blank: bool = False  # before it
    upright: bool = False
    items: tuple = ()  # of a group: tokens; of a structure or a matrix: its arguments or rows


_VECTORS = (r"\vec", r"\overrightarrow", r"\hat")
STRUCTURES = ("frac", "sqrt", "binom")

_MARK = r"(?:\{,\}|,\\!\s*|\\[,!:;]\s*)"  # a thousands mark that no list has
_THOUSANDS = re.compile(rf"(?<![\d.,])\d{{1,3}}(?:{_MARK}\d{{3}})+(?!\d)")
# 1.234.567 and 1'234'567: elsewhere the marks of thousands, and nothing else that a number can be.
_FOREIGN_THOUSANDS = re.compile(r"(?<![\d.,'])\d{1,3}(?:(?:\.\d{3}){2,}|(?:'\d{3})+)(?![\d.'])")
_POWER = re.compile(r"(?<=[\w)}\]])\s*\*\*\s*(?=[\w({+-])")  # x**2, as Python has it
_PIECE = re.compile(
    r"(?P<blank>\s+)|(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+(?![\d^_]))?)|(?P<command>\\(?:[A-Za-z]+\*?|.))"
    r"|(?P<letters>[A-Za-z]+|(?:(?![A-Za-z_])[^\W\d])+)|(?P<symbol>.)",
    re.DOTALL,
)


def tokenize(text: str) -> list[Token]:
    r"""The tokens of an answer.  Raises NotRead for braces that do not match or lie too deep.

    >>> [t.text for t in tokenize(r"x²+\text{ or }90°")]
    ['x', '^', '', '+', 'or', '90', '^', '\\circ']
    """
    return _rewrite(_nest(_pieces(_plain(text))), upright=False)


def _plain(text: str) -> str:
    """ASCII LaTeX for Unicode's mathematics, thousands marks taken out of numbers."""
    if not text.isascii():
        for table, mark in ((notation.RAISED, "^"), (notation.LOWERED, "_")):
            run = re.compile(f"[{''.join(table)}]+")
            text = run.sub(lambda m, table=table, mark=mark: f"{mark}{{{''.join(table[c] for c in m[0])}}}", text)
        text = text.translate(notation.TRANSLATION)
    text = re.sub(r"\.\.\.+", r"\\ldots ", text)
    text = re.sub(r"(?<![A-Za-z])([ap])\.\s?m(?:\.|\b)", r"\\text{\1m}", text, flags=re.IGNORECASE)
    for plain, command in notation.PLAIN_SIGNS.items():
        text = text.replace(plain, command)
    text = _POWER.sub("^", text)
    text = _FOREIGN_THOUSANDS.sub(lambda m: re.sub("[.']", "", m[0]), text)
    return _THOUSANDS.sub(lambda m: re.sub(_MARK, "", m[0]), text)


def _pieces(text: str) -> list[Token]:
    found, blank = [], False
    for match in _PIECE.finditer(text):
        if match.lastgroup == "blank" or match[0] == "~":
            blank = True
        else:
            found.append(Token(match.lastgroup, match[0], blank))
            blank = False
    return found


def _nest(pieces: list[Token]) -> list[Token]:
    """Braces as groups, made with a stack of our own: hostile nesting must not end in ours."""
    stack: list[list[Token]] = [[]]
    opened: list[Token] = []
    for piece in pieces:
        if piece.text == "{" and piece.kind == "symbol":
            stack.append([])
            opened.append(piece)
            if len(stack) > MAX_DEPTH:
                raise NotRead("braces too deep")
        elif piece.text == "}" and piece.kind == "symbol":
            if not opened:
                raise NotRead("a brace that nothing opened")
            items = stack.pop()
            stack[-1].append(Token("group", "", opened.pop().blank, items=tuple(items)))
        else:
            stack[-1].append(piece)
    if opened:
        raise NotRead("an open brace")
    return stack[0]


class _Items:
    """A list that is read from the left, with what the commands take from it."""

    def __init__(self, items):
        self.items, self.at = list(items), 0

    def next(self) -> Token | None:
        self.at += 1
        return self.items[self.at - 1] if self.at <= len(self.items) else None

    def peek(self) -> Token | None:
        return self.items[self.at] if self.at < len(self.items) else None

    def argument(self, whole_number: bool = False) -> tuple[Token, ...]:
        r"""What a command takes: a group's items or one token; of a number one digit, as TeX does (\frac12)."""
        item = self.next()
        if item is None:
            raise NotRead("a command without its argument")
        if item.kind == "group":
            return item.items
        if len(item.text) > 1 and (item.kind == "letters" or (item.kind == "number" and not whole_number)):
            first, rest = item._replace(text=item.text[0]), item._replace(text=item.text[1:], blank=False)
            self.items[self.at - 1 : self.at] = [first, rest]
            return (first,)
        if item.kind == "command" and item.text in _ARGUMENTS:  # \sqrt\frac12
            start = self.at - 1
            for _ in range(_ARGUMENTS[item.text]):
                self.argument()
            return tuple(self.items[start : self.at])
        return (item,)

    def optional(self) -> tuple[Token, ...] | None:
        """A command's argument in square brackets, if there is one."""
        item = self.peek()
        if item is None or item.text != "[":
            return None
        end = next((i for i in range(self.at, len(self.items)) if self.items[i].text == "]"), None)
        if end is None:
            return None
        inner = self.items[self.at + 1 : end]
        self.at = end + 1
        return tuple(inner)


_ARGUMENTS = {
    r"\frac": 2,
    r"\dfrac": 2,
    r"\tfrac": 2,
    r"\cfrac": 2,
    r"\sqrt": 1,
    r"\binom": 2,
    r"\text": 1,
    r"\mathrm": 1,
}


def _rewrite(pieces, upright: bool) -> list[Token]:
    """Tokens of one level: commands with their arguments, letters apart, fonts and spacing gone."""
    pieces = _infix(pieces)
    items, out, gap = _Items(pieces), [], False
    while (item := items.next()) is not None:
        blank, gap = item.blank or gap, False
        match item.kind:
            case "group":
                inner = _rewrite(item.items, upright)
                style = item.items[:1] and item.items[0].text in notation.STYLES
                if style and not (out and out[-1].text in ("^", "_")):  # {\rm cm}
                    out += _spliced(inner, blank, flat=True)
                elif len(inner) == 1 and inner[0].text == r"\circ":
                    out += inner
                elif inner:
                    out.append(Token("group", "", blank, upright, tuple(inner)))
            case "letters":
                after = items.peek()
                alone = (blank or not out) and (after is None or after.blank or after.text in ",.;:")
                out += _letters(item.text, upright, blank, alone)
            case "command":
                name = notation.ALIASES.get(item.text, item.text)
                if name in notation.BLANKS:
                    gap = True
                elif name in notation.DROPPED:
                    gap = blank
                    if name in (r"\left", r"\right", r"\middle") and (after := items.peek()) and after.text == ".":
                        items.next()
                elif item.text == r"\times" and (after := items.peek()) and after.text in _VECTORS:
                    out.append(Token("command", r"\times", blank))  # a cross product, whose order counts
                elif name in notation.STYLES:
                    upright = upright or name == r"\rm"
                else:
                    out += _command(name, items, upright, blank)
            case "symbol" if item.text in "$" and out and not _starts_number(items.peek()):
                gap = blank  # the other end of $...$
            case _:
                out.append(item._replace(blank=blank, upright=upright))
    return out


def _infix(pieces):
    r"""{a \over b} and {n \choose k} as \frac{a}{b} and \binom{n}{k}."""
    at = next((i for i, piece in enumerate(pieces) if piece.text in notation.INFIX), None)
    if at is None:
        return pieces
    command = pieces[at]._replace(text=notation.INFIX[pieces[at].text], blank=False)
    return [command, Token("group", "", items=tuple(pieces[:at])), Token("group", "", items=tuple(pieces[at + 1 :]))]


def _starts_number(item: Token | None) -> bool:
    return item is not None and (item.kind == "number" or item.text in (r"\frac", r"\dfrac", "-", r"\tfrac"))


def _command(name: str, items: _Items, upright: bool, blank: bool) -> list[Token]:
    """A command (an alias's target already) with what it takes."""
    if name in notation.UPRIGHT or name in notation.FONT:
        inner = _rewrite(items.argument(whole_number=True), upright or name in notation.UPRIGHT)
        if name in notation.BOLD and _axis(inner):  # \mathbf{i} is \hat{i}
            return [Token("accent", r"\hat", blank, items=tuple(inner))]
        if name == r"\ang":
            inner += [Token("symbol", "^"), Token("command", r"\circ")]
        return _spliced(inner, blank, name in notation.UPRIGHT)
    if name in notation.DROPPED_ARGUMENT:
        items.argument()
        return []
    if name == r"\textcolor":
        items.argument()
        return _spliced(_rewrite(items.argument(), upright), blank, False)
    if name in (r"\SI", r"\qty"):
        number = _rewrite(items.argument(), upright)
        return _spliced(number, blank, False) + _spliced(_rewrite(items.argument(), True), True, True)
    if name in (r"\frac", r"\binom"):
        first, second = _rewrite(items.argument(), upright), _rewrite(items.argument(), upright)
        return [Token(name[1:], "", blank, upright, (tuple(first), tuple(second)))]
    if name == r"\sqrt":
        index = items.optional()
        after = items.peek()
        if after is not None and after.text == "(" and index is None:  # sqrt(2), √(2): as a function
            return [Token("command", name, blank)]
        inside = _rewrite(items.argument(whole_number=True), upright)
        return [Token("sqrt", "", blank, upright, (tuple(_rewrite(index or (), upright)), tuple(inside)))]
    if name in notation.ACCENTS:
        if name == r"\overset":
            items.argument()
        inner = _rewrite(items.argument(whole_number=True), upright)
        return [Token("accent", r"\hat" if name == r"\vec" and _axis(inner) else name, blank, upright, tuple(inner))]
    if name == r"\mathbb{R}":
        return [Token("accent", r"\mathbb", blank, items=(Token("letter", "R"),))]
    if name == r"\begin":
        return [_environment(items, upright, blank)]
    if name == r"\end":
        raise NotRead(r"an \end without \begin")
    kind = (
        "letter"
        if name in ("i", "j")
        else "word"
        if name in notation.CONNECTIVES
        else "command"
        if name[0] == "\\"
        else "symbol"
    )
    return [Token(kind, name, blank, upright)]


def _axis(tokens: list[Token]) -> bool:
    """Whether this is the name of a unit vector: i, j, k."""
    return len(tokens) == 1 and tokens[0].text in ("i", "j", "k")


def _spliced(inner: list[Token], blank: bool, flat: bool) -> list[Token]:
    """The inside of a font command in its place: words simply, several tokens of mathematics as a group."""
    if not inner:
        return []
    inner[0] = inner[0]._replace(blank=blank or inner[0].blank)
    return inner if flat or len(inner) == 1 else [Token("group", "", blank, items=tuple(inner))]


def _environment(items: _Items, upright: bool, blank: bool) -> Token:
    name = "".join(token.text for token in items.argument(whole_number=True))
    if name == "array":
        items.argument()
    depth, rows, cell = 1, [[[]]], None
    while (item := items.next()) is not None:
        cell = rows[-1][-1]
        if item.text == r"\begin":
            depth += 1
        elif item.text == r"\end":
            depth -= 1
            if depth == 0:
                items.argument(whole_number=True)
                if rows[-1] == [[]] and len(rows) > 1:  # a \\ behind the last row
                    rows.pop()
                read = tuple(tuple(tuple(_rewrite(c, upright)) for c in row) for row in rows)
                return Token("matrix", name, blank, items=read)
        if depth == 1 and item.text == "&":
            rows[-1].append([])
        elif depth == 1 and item.text == r"\\":
            rows.append([[]])
        else:
            cell.append(item)
    raise NotRead(r"a \begin without \end")


def _letters(run: str, upright: bool, blank: bool, alone: bool) -> list[Token]:
    """A run of letters: a function's name, a Greek letter's, a word, or letters that are symbols, one by one."""
    if f"\\{run}" in notation.FUNCTIONS or run in notation.GREEK - {"mu", "nu", "xi", "ell"}:
        return [Token("command", f"\\{run}", blank, upright)]
    if run.lower() in ("infinity", "inf"):
        return [Token("command", r"\infty", blank, upright)]
    word = (
        len(run) > 1
        if upright
        else run in notation.CONNECTIVES or run in notation.PLAIN_WORDS or (len(run) > 3 and alone)
    )
    if word or not run.isascii():
        return [Token("word", run, blank, upright)]
    return [Token("letter", c, blank and i == 0, upright) for i, c in enumerate(run)]


def canonical(tokens) -> str:
    r"""One text for all spellings of the same tokens: no fonts, no braces around one token, blanks where they count.

    >>> [canonical(tokenize(text)) for text in (r"x^{2}\left(\text{cm}\right)", "1 1/4", "no root")]
    ['x^2(cm)', '1 1/4', 'no root']
    """
    out: list[str] = []
    last = None
    for token in tokens:
        text = _text(token)
        apart = last is not None and (
            (out[-1][-1:].isdigit() and text[:1].isdigit())
            or (
                token.blank
                and "word" in (last.kind, token.kind)
                and {last.kind, token.kind} <= {"word", "letter", "number"}
            )
        )
        out.append(" " * apart + text)
        last = token
    return "".join(out)


def formula(text: str) -> str:
    """A substance's canonical text as one types it: no _, and its charge in one order.

    >>> formula("SO_4^{-2}"), formula("SO4^2-")
    ('SO4^2-', 'SO4^2-')
    """
    return re.sub(r"\^\{?(\d*)([+-])(\d*)\}?", r"^\1\3\2", text.replace("_", ""))


def _text(token: Token) -> str:
    match token.kind:
        case "group":
            inner = canonical(token.items)
            return inner if len(token.items) == 1 else f"{{{inner}}}"
        case "accent":
            return f"{token.text}{{{canonical(token.items)}}}"
        case "matrix":
            name = token.text if token.text in ("vmatrix", "Vmatrix", "cases") else ""
            return name + "[" + ";".join(",".join(canonical(cell) for cell in row) for row in token.items) + "]"
        case "frac" | "binom" | "sqrt":
            return f"\\{token.kind}" + "".join(f"{{{canonical(argument)}}}" for argument in token.items)
        case "command":
            return token.text + " "
    return token.text
