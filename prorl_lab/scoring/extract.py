r"""Find the answer in a model's text.  All of it is linear in the text's length and evaluates nothing.

It runs in the trainer as well as in the sandbox, on text of any length: `str.find`, slices and one pattern of fixed
strings, no parser, no backtracking.
"""

import re
from itertools import pairwise

MAX_RESPONSE = 1_000_000  # characters; 16k tokens are about 60,000
MAX_BOX = 10_000  # characters; a longer one is none, so that many open ones are not read to the end each

# How models mark their thoughts: what opens one, and what closes it.  Read in the chat templates and in vLLM 0.32's
# parsers; a new family is a line here.
THOUGHTS = {
    "<think>": "</think>",  # DeepSeek-R1, Qwen3, GLM-4.5, Phi-4-reasoning and most others
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",  # EXAONE Deep
    "<reasoning>": "</reasoning>",  # Reka Flash 3
    "[THINK]": "[/THINK]",  # Magistral
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "<mm:think>": "</mm:think>",  # MiniMax-M3
    "<ifm|think>": "</ifm|think>",  # K2-V2
    "\u25c1think\u25b7": "\u25c1/think\u25b7",  # Kimi-VL, in triangles
    "<|begin_of_thought|>": "<|end_of_thought|>",  # OpenThinker, Sky-T1
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",  # Kimi K3
    "<|plamo:begin_think:plamo|>": "<|plamo:end_think:plamo|>",
    "<|channel>thought": "<channel|>",  # Gemma 4
    "<|channel|>analysis": "<|channel|>final<|message|>",  # gpt-oss: a channel ends where that of the answer begins
    "<|channel|>commentary": "<|channel|>final<|message|>",
}
# What some of them put around the answer, which is no part of it.
FRAMES = re.compile(
    r"<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>|<\|(?:open|close)\|>(?:response|message)<\|sep\|>"
)
_TAGS = re.compile("|".join(map(re.escape, [*THOUGHTS, *dict.fromkeys(THOUGHTS.values())])))


def after_think(response: str) -> str:
    """What the response says outside of its thoughts, at its end; stripped.

    A thought is closed by its own family's tag alone, and a thought that never closes hides all that follows it.  A
    closing tag without an opening one ends a thought as well.  Inside a thought another opening tag has no meaning.

    >>> after_think("<think>1 or 2?</think> 2"), after_think("1 or 2?</think> 2"), after_think("1</think> 2</think> 3")
    ('2', '2', '3')
    >>> after_think("<think> is it <answer>42</answer>"), after_think("<think> 1 </thinking> 2"), after_think("2")
    ('', '', '2')
    """
    start, end, closing = 0, len(response), None  # of the answer; the tag that would close the thought we are in
    for tag in _TAGS.finditer(response):
        if closing is None and tag[0] in THOUGHTS:
            end, closing = tag.start(), THOUGHTS[tag[0]]
        elif closing in (None, tag[0]):
            start, end, closing = tag.end(), len(response), None
    return FRAMES.sub("", response[start:end]).strip()


def open_thought(text: str) -> str:
    """The tag of the thought that is open where the text ends; empty if none is.

    >>> open_thought("<|im_start|>assistant\\n<think>\\n"), open_thought("<think>\\n\\n</think>\\n\\n")
    ('<think>', '')
    """
    opening = ""
    for tag in _TAGS.findall(text):
        if not opening and tag in THOUGHTS:
            opening = tag
        elif THOUGHTS.get(opening) == tag:
            opening = ""
    return opening


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
    return [inside for _, inside, _ in _boxes_of(text, last)]


def joined_boxes(text: str) -> int:
    r"""How many of the last boxes are one answer in parts, with no more than a comma, "or" and the like between.

    >>> joined_boxes(r"\boxed{8} or \boxed{7}"), joined_boxes(r"first \boxed{8}. No: \boxed{7}")
    (2, 1)
    """
    boxes = _boxes_of(text, 20)[::-1]
    gaps = [text[before[2] : box[0]] for box, before in pairwise(boxes)]
    return 1 + next((i for i, gap in enumerate(gaps) if not _joins(gap)), len(gaps))


_JOINERS = frozenset([*"+,;/&", "or", "and", "also", "else", "maybe", "perhaps", "possibly", "either"])
_LAYOUT = re.compile(r"\\(?:text|mathrm|mbox|q?quad|pm)?(?![A-Za-z])|[\s${}()*~]")


def _joins(gap: str) -> bool:
    if len(gap) > 100:
        return False
    words = re.findall(r"[^\W\d_]+|\S", _LAYOUT.sub(" ", gap).lower())
    return _JOINERS.issuperset(words) and (bool(words) or "\n" not in gap)


def _boxes_of(text: str, last: int) -> list[tuple[int, str, int]]:
    """Of the last boxes: where each begins, what it holds, where it ends."""
    starts: list[tuple[int, int]] = []
    end = len(text)
    while len(starts) < 2 * last and (found := max((text.rfind(name, 0, end), name) for name in _BOXES))[0] >= 0:
        starts.append((found[0], found[0] + len(found[1])))
        end = found[0]
    boxes: list[tuple[int, str, int]] = []
    closed = -1
    for begin, start in reversed(starts):
        if start < closed:  # inside the box before it
            continue
        inside, stop = _argument(text, start)
        if inside is None:
            boxes = []
        else:
            boxes.append((begin, inside, stop + 1))
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
        return (one, start) if one.isalnum() else (None, start)
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

    Of tags within tags the inner ones count: Hunyuan puts its own around every answer.

    >>> last_tagged("<answer>1</answer> no, <answer> 2 </answer>")
    '2'
    >>> last_tagged("<answer>so <answer>3</answer></answer>")
    '3'
    """
    start = text.rfind("<answer>", 0, max(text.rfind("</answer>"), 0))
    if start < 0:
        return None
    start += len("<answer>")
    return text[start : text.find("</answer>", start)].strip()


def foreign_digits(text: str) -> bool:
    """Whether there are decimal digits beyond 0 to 9: Python reads a dozen scripts as numbers, the task means one.

    >>> foreign_digits("\\u0664\\u0662"), foreign_digits("x\\u00b2 + 42")
    (True, False)
    """
    return not text.isascii() and any(c.isdecimal() and not c.isascii() for c in text)
