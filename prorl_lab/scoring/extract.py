r"""Find the answer in a model's text.  All of it is linear in the text's length and evaluates nothing.

It runs in the trainer as well as in the sandbox, on text of any length.  So it imports nothing: `str.find` and slices,
no parser, no backtracking pattern.
"""

MAX_RESPONSE = 1_000_000  # characters; 16k tokens are about 60,000
MAX_BOX = 10_000  # characters; a longer one is none, so that many open ones are not read to the end each


def after_think(response: str) -> str:
    """What follows the last `</think>`, stripped.  A thought that never closes hides all that follows it.

    >>> after_think("<think>1 or 2?</think> 2")
    '2'
    >>> after_think("<think> is it <answer>42</answer>")
    ''
    """
    return response.rpartition("</think>")[2].partition("<think>")[0].strip()


_BOXES = ("\\boxed", "\\fbox")


def last_boxed(text: str) -> str | None:
    r"""What the last \boxed{...} (or \fbox{...}) holds, braces matched; None without a closed box.

    TeX skips blanks before an argument and takes one token without braces, so `\boxed {42}` and `\boxed 7` are boxes.

    >>> last_boxed(r"first \boxed{1}, then \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    start, name = max((text.rfind(name), name) for name in _BOXES)
    return None if start < 0 else _argument(text, start + len(name))[0]


def all_boxed(text: str, last: int = 20) -> list[str]:
    r"""What the last boxes hold, in their order, a box inside another not apart; [] if the last one never closes.

    >>> all_boxed(r"\boxed{2} and \boxed {3}"), all_boxed(r"\boxed{2} and \boxed{3")
    (['2', '3'], [])
    """
    starts: list[int] = []
    end = len(text)
    while len(starts) < 2 * last and (found := max((text.rfind(name, 0, end), name) for name in _BOXES))[0] >= 0:
        starts.append(found[0] + len(found[1]))
        end = found[0]
    boxes: list[str] = []
    closed = -1
    for start in reversed(starts):
        if start < closed:  # inside the box before it
            continue
        inside, stop = _argument(text, start)
        if inside is None:
            boxes = []
        else:
            boxes.append(inside)
            closed = stop
    return boxes[-last:]


def _argument(text: str, start: int) -> tuple[str | None, int]:
    """The argument of a command that ends at `start`, and where it ends; None if there is none or it never closes."""
    if text[start : start + 1].isalpha():  # a longer command's name
        return None, start
    end = min(len(text), start + MAX_BOX)
    while start < end and text[start] in " \t\n\r":
        start += 1
    if start >= end or text[start] != "{":
        one = text[start : start + 1]
        return (one, start + 1) if one.isalnum() else (None, start)
    start += 1
    depth, position = 1, start
    while position < end:
        character = text[position]
        if character == "\\":
            position += 1  # whatever it escapes
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[start:position].strip(), position
        position += 1
    return None, position


def last_tagged(text: str) -> str | None:
    """What the last closed <answer> tags hold, stripped: several scorers take a point off for a stray space.

    >>> last_tagged("<answer>1</answer> no, <answer> 2 </answer>")
    '2'
    """
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return None if start < 0 else text[start + len("<answer>") : end].strip()


def last_code(text: str) -> str | None:
    """The last ```python block (or, without one, the last fenced block); None without a fence.

    A block that never closes runs to the end of the text: a model that stops after its program still answered.
    """
    start = text.rfind("```python")
    if start >= 0:
        start += len("```python")
    else:
        end = text.rfind("```")
        start = text.rfind("```", 0, max(end, 0))
        start = text.find("\n", start) if start >= 0 else -1  # past the language's name
        if start < 0:
            return None
    end = text.find("```", start)
    return text[start : end if end >= 0 else len(text)]


def foreign_digits(text: str) -> bool:
    """Whether there are digits beyond 0 to 9: Python reads a dozen scripts as numbers, the task means one.

    >>> foreign_digits("\\u0664\\u0662"), foreign_digits("42")
    (True, False)
    """
    return not text.isascii() and any(c.isdigit() and not c.isascii() for c in text)
