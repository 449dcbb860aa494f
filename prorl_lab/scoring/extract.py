r"""Find the answer in a model's text.  All of it is linear in the text's length and evaluates nothing.

It runs in the trainer as well as in the sandbox, on text of any length.  So it imports nothing: `str.find` and slices,
no parser, no backtracking pattern.
"""

MAX_RESPONSE = 1_000_000  # characters; 16k tokens are about 60,000


def after_think(response: str) -> str:
    """What follows the last `</think>`, stripped.  A thought that never closes hides all that follows it.

    >>> after_think("<think>1 or 2?</think> 2")
    '2'
    >>> after_think("<think> is it <answer>42</answer>")
    ''
    """
    return response.rpartition("</think>")[2].partition("<think>")[0].strip()


def last_boxed(text: str) -> str | None:
    r"""What the last \boxed{...} holds, braces matched (escaped ones do not count); None without a closed box.

    >>> last_boxed(r"first \boxed{1}, then \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1  # whatever it escapes
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[start:position].strip()
        position += 1
    return None


def last_tagged(text: str) -> str | None:
    """What the last closed <answer> tags hold, stripped: several scorers take a point off for a stray space.

    >>> last_tagged("<answer>1</answer> no, <answer> 2 </answer>")
    '2'
    """
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return None if start < 0 else text[start + len("<answer>") : end].strip()


def foreign_digits(text: str) -> bool:
    """Whether there are digits beyond 0 to 9: Python reads a dozen scripts as numbers, the task means one.

    >>> foreign_digits("\\u0664\\u0662"), foreign_digits("42")
    (True, False)
    """
    return not text.isascii() and any(c.isdigit() and not c.isascii() for c in text)
