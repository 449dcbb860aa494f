"""What the reader looks for among the tokens of one level: separators, brackets, names, thousands, units."""

import re
from itertools import pairwise

from . import units
from .notation import CONNECTIVES, FUNCTIONS, GREEK, words
from .tokens import Token, canonical

_CURRENCIES = {
    **{r"\$": units.DOLLAR, "$": units.DOLLAR, "USD": units.DOLLAR, "€": units.EURO, "¢": units.KNOWN["cent"]},
    **{"£": units.POUND_STERLING, "¥": units.YEN, "₹": units.KNOWN["rupee"], "Rs": units.KNOWN["rupee"]},
}
_ANSWER_IS = r"\s*(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|option|choice)\s*(?:is\b|:|=)\s*"
_LEAD = re.compile(rf"^(?:\\text\{{{_ANSWER_IS}\}}|(\\text\{{)?{_ANSWER_IS})\s*:?\s*", re.IGNORECASE)

# $...$ within a text, by Pandoc's rule, which leaves the dollars of "$5 or $6" alone.
_MATH = re.compile(r"(?<![\\$])(\${1,2})(?=[^\s$])((?:[^$\\]|\\.)+?)(?<=\S)\1(?![\d$])", re.DOTALL)


def lead(text: str) -> str:
    """The text without "The answer is" in front."""
    return _LEAD.sub(r"\1", text.strip())


def bare(text: str) -> str:
    r"""The text without what says that it is mathematics, or the answer.

    >>> bare(r"Answer: $x$ = $75\%$"), bare("$5 or $6")
    ('x = 75\\%', '$5 or $6')
    """
    text = _MATH.sub(r"\2", lead(text))
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(text) > 2 * len(opening) and text.startswith(opening) and text.rstrip(".").endswith(closing):
            inner = text.rstrip(".")[len(opening) : -len(closing)]
            if opening not in inner.replace(r"\$", ""):
                text = inner
    return text


def split(tokens, separators) -> list[list[Token]]:
    """The tokens between separators outside of all brackets."""
    found, depth = [[]], 0
    for token in tokens:
        if token.text in ("(", "[", r"\{"):
            depth += 1
        elif token.text in (")", "]", r"\}"):
            depth -= 1
        if depth == 0 and token.text in separators and token.kind in ("symbol", "command", "word"):
            found.append([])
        else:
            found[-1].append(token)
    return found


def everything(tokens):
    stack = list(tokens)
    while stack:
        token = stack.pop()
        yield token
        for item in token.items:
            if isinstance(item, Token):
                stack.append(item)
            else:
                stack.extend(part for part in item if isinstance(part, Token))
                stack.extend(t for part in item if not isinstance(part, Token) for t in part)


def outside(tokens):
    """The tokens outside of all brackets."""
    depth = 0
    for token in tokens:
        depth += (token.text in ("(", "[", r"\{")) - (token.text in (")", "]", r"\}"))
        if depth == 0:
            yield token


def matched(tokens) -> bool:
    """Whether the first bracket closes with the last token; ( and ] may belong together."""
    depth = 0
    for i, token in enumerate(tokens):
        depth += (token.text in ("(", "[", r"\{")) - (token.text in (")", "]", r"\}"))
        if depth == 0:
            return i == len(tokens) - 1
    return False


def stripped(tokens) -> list[Token]:
    """The tokens without what only leads to the answer or ends it: braces, =, a full stop, "about", "only"."""
    tokens = list(tokens)
    while tokens:
        if len(tokens) == 1 and tokens[0].kind == "group":
            tokens = list(tokens[0].items)
        elif _ends(*tokens[-2:]):
            tokens.pop()
        elif _leads(*tokens[:2]):
            tokens.pop(0)
        else:
            break
    return tokens


def _ends(before: Token, last: Token | None = None) -> bool:
    if last is not None and last.kind == "word":
        return last.text in ("only", "approximately") and _is_number(before)
    last = last or before
    return last.text in (".", ",", ";", ":", "$", "\\\\", "!!") and last.kind in ("symbol", "command")


def _leads(first: Token, after: Token | None = None) -> bool:
    if first.kind == "word":
        return after is not None and first.text.lower() in _ABOUT and _is_number(after)
    return first.text in _LEADING and first.kind in ("symbol", "command")


_LEADING = frozenset(["=", ":", ",", r"\approx", r"\sim", r"\therefore", r"\implies", r"\Rightarrow"])
_ABOUT = frozenset({"about", "approximately", "approx", "roughly", "around", "exactly", "only"})


def _is_number(token: Token) -> bool:
    return token.kind in ("number", "frac", "sqrt") or token.text in _CURRENCIES


def behind_choice(tokens) -> list[Token]:
    r"""The value behind a choice's letter: 12 of \textbf{(C)}\ 12."""
    lettered = len(tokens) > 3 and tokens[1].upright and re.fullmatch(r"\([A-J]\)", canonical(tokens[:3]))
    return tokens[3:] if lettered else tokens


def behind_if(tokens) -> list[Token]:
    return tokens[1:] if tokens and tokens[0].text in ("if", "for", "when", "where") else tokens


def lines(tokens) -> list[Token]:
    r"""Equations set one below the other as a list of them; a line that begins with = goes on with the one above."""
    braced = len(tokens) == 2 and tokens[0].text == r"\{"
    if not (len(tokens) == 1 or braced) or tokens[-1].kind != "matrix":
        return tokens
    rows, name = tokens[-1].items, tokens[-1].text
    if braced and name == "array":
        name = "cases"
    if name not in _LINES or (name == "cases" and any(len(row) > 1 for row in rows)):
        return [tokens[-1]._replace(text=name)] if braced else tokens
    found: list[Token] = []
    for row in rows:
        line = [token for cell in row for token in cell]
        if found and line and line[0].text not in ("=", r"\approx"):
            found = [*stripped(found), Token("symbol", ",")]
        found += line
    return found


_LINES = frozenset({"aligned", "align", "align*", "gathered", "split", "cases"})


def compound(tokens) -> list[list[Token]]:
    r"""The parts of 2 hours and 30 minutes, 5'4'' or 30^\circ 15': each a number and a unit."""
    starts = [
        i
        for i, (before, token) in enumerate(pairwise(tokens), start=1)
        if token.kind == "number" and (before.kind == "word" or before.upright or before.text in ("'", r"\circ"))
    ]
    parts = [list(tokens[i:j]) for i, j in pairwise([0, *starts, len(tokens)])]
    parts = [part[:-1] if part[-1].text == "and" else part for part in parts]
    signs = _ARC if parts[0][-1].text == r"\circ" else _FEET
    for part in parts if len(parts) > 1 else []:
        primes = sum(token.text == "'" for token in part)
        if 0 < primes <= 2 < len(part) + 1:
            part[-primes:] = [Token("word", signs[primes], upright=True)]
    return parts


_ARC, _FEET = {1: "arcminute", 2: "arcsecond"}, {1: "foot", 2: "inch"}


def joined_thousands(tokens) -> list[Token]:
    """1,234 as one number; the tokens as they are if another comma without a blank stands beside (1,234,5)."""
    found, at = [], 0
    while at < len(tokens):
        end = at + 1
        if tokens[at].kind == "number" and re.fullmatch(r"[1-9]\d{0,2}", tokens[at].text):
            while end + 1 < len(tokens) and _thousand(tokens[end], tokens[end + 1]):
                end += 2
        text = "".join(token.text for token in tokens[at:end] if token.text != ",") if end > at + 1 else tokens[at].text
        found.append(tokens[at]._replace(text=text))
        at = end
    tight = any(a.text == "," and not a.blank and not b.blank for a, b in pairwise(found))
    bracketed = any(token.text in ("(", "[", r"\{") for token in tokens)
    return list(tokens) if tight or bracketed else found


def _thousand(comma: Token, number: Token) -> bool:
    whole = number.kind == "number" and re.fullmatch(r"\d{3}(\.\d+)?", number.text)
    return bool(whole) and comma.text == "," and not comma.blank and not number.blank


def name(tokens) -> str:
    r"""What may stand before = as a name: x, x_1, f(x), \theta, AB, \angle ABC, words; "" for an expression."""
    tokens = list(tokens)
    if not tokens:
        return ""
    text = canonical(tokens).strip()
    if len(tokens) > 2 and tokens[0].text == tokens[-1].text == "|" and all(t.text.isupper() for t in tokens[1:-1]):
        return text  # |AB|
    if (
        canonical(tokens[:1]).strip() in _CHANCES
        and len(tokens) > 3
        and tokens[1].text in ("(", "[")
        and matched(tokens[1:])
    ):
        return text  # P(X > 2), E[X]
    body = tokens
    if tokens[-1].text == ")":
        if tokens[0].text == "(" and matched(tokens) and all(name(part) for part in split(tokens[1:-1], {","})):
            return text  # (x, y) = (1, 2)
        start = next((i for i, t in enumerate(tokens) if t.text == "("), 0)
        arguments = tokens[start + 1 : -1]
        if start == 0 or not all(t.kind in ("letter", "command", "number") or t.text == "," for t in arguments):
            return ""
        body = tokens[:start]
        if len(body) == 1 and body[0].kind == "letter" and not arguments:
            return ""
    plain = [t for i, t in enumerate(body) if t.text not in ("_", "'") and not (i and body[i - 1].text == "_")]
    if not plain or not all(
        t.kind in ("letter", "word", "accent")
        or (t.kind == "command" and (t.text[1:] in GREEK or t.text in (r"\angle", r"\triangle")))
        for t in plain
    ):
        return ""
    if text in ("pH", "pOH") or (plain[0].text == r"\Delta" and len(plain) == 2):
        return text
    known = any(t.kind in ("word", "accent") or t.text in (r"\angle", r"\triangle") or t.upright for t in plain)
    capitals = all(t.text[0].isupper() for t in plain)
    return text if len(plain) == 1 or known or capitals else ""


_CHANCES = words(r"P E \Pr \mathbb{P} \mathbb{E}")


def names_in(sides) -> set[str]:
    return {
        canonical([token]).strip()
        for side in sides
        for token in everything(side)
        if token.kind in ("letter", "command", "word")
    }


def without_unit(side) -> list[Token]:
    """A side of a relation without its unit: x > 5 cm."""
    for number, unit, certain in unit_splits(side, gold=True):
        if certain and unit.dimension is not None:
            return number
    return currency(side)[1]


def currency(tokens) -> tuple[units.Unit | None, list[Token]]:
    tokens = list(tokens)
    for at in (0, 1):
        if at < len(tokens) - 1 and tokens[at].text in _CURRENCIES and (at == 0 or tokens[0].text in "+-"):
            after = at + 1 + (tokens[at + 1].text == "." and at + 2 < len(tokens))  # Rs. 5
            return _CURRENCIES[tokens[at].text], tokens[:at] + tokens[after:]
    if len(tokens) > 1 and tokens[-1].text in _CURRENCIES:
        return _CURRENCIES[tokens[-1].text], tokens[:-1]
    return None, tokens


def unit_splits(tokens, gold: bool, stem: bool = False):
    """(number's tokens, unit, whether that is certain) of every place where a unit may begin."""
    depth = 0
    angle = any(token.text in FUNCTIONS for token in tokens)
    for at in range(1, len(tokens)):
        token, before = tokens[at], tokens[at - 1]
        depth += (before.text in ("(", "[", r"\{")) - (before.text in (")", "]", r"\}"))
        if depth or (before.text in ("_", "^", "+", "-", "*", "/") and before.kind == "symbol"):
            continue
        degree = token.text == "^" and canonical(tokens[at + 1 : at + 2]).strip() == r"\circ"
        certain = (
            (token.kind == "word" and token.text not in CONNECTIVES)
            or (token.kind == "letter" and token.upright and token.text not in ("e", "i"))
            or token.text in (r"\%", "%", r"\Omega")
            or (token.text == r"\mu" and at + 1 < len(tokens) and f"mu{tokens[at + 1].text}" in units.KNOWN)
            or ((degree or token.text == r"\circ") and not angle)
            or (token.kind == "command" and token.text.removeprefix("\\") in units.MACROS)
            or (
                token.kind == "frac"
                and all(t.upright or t.kind == "word" for part in token.items for t in part if t.text != "1")
            )
            or (
                token.text == "/" and at + 1 < len(tokens) and (tokens[at + 1].kind == "word" or tokens[at + 1].upright)
            )
        )
        if certain and degree and len(tokens) > at + 2 and tokens[at + 2].text not in ("C", "F", "/", "."):
            continue
        plain = (
            token.kind == "letter" and not token.upright and token.blank and before.kind in ("number", "group", "frac")
        )
        if not certain and not plain:
            continue
        unit = units.read(tokens[at:])
        if unit is None or (not certain and not _plain_unit(tokens, at, gold, stem)):
            continue
        yield tokens[:at], unit, certain or (gold and not {"g", "h"} & {t.text for t in tokens[at:]})


def _plain_unit(tokens, at: int, gold: bool, stem: bool) -> bool:
    """Whether letters in plain mathematics may be a unit: several, or one of the usual ones; never a gold's g or h.

    A gold's letter behind an integer is a symbol (2 m), but in STEM a capital one is a unit (120 V).
    """
    tail = tokens[at:]
    if len(tail) > 1:
        return True
    if not gold:
        return tail[0].text in units.PLAIN_LETTERS | {"g", "h"}
    decimal = not tokens[at - 1].text.isdigit()
    return tail[0].text in units.PLAIN_LETTERS and (decimal or (stem and tail[0].text.isupper()))
