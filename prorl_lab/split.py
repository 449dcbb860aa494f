"""Which questions are for training and which are held out: decided by their text alone, the same in every program."""

import hashlib
import random
import re

_COMMANDS = r"left|right|displaystyle|limits|nolimits|quad|qquad|text\w*|mathrm|mathbf|mathit|mbox|emph|bf|rm|it"
_LAYOUT = re.compile(rf"\\(?:(?:{_COMMANDS})(?![a-z])|[,;:!()\[\] ])|\*\*|[$~`_]|</?[a-z]+>|[\s\u200b\ufeff]")


def asked(question: str) -> str:
    """A question without case and layout: two that agree in this are the same question."""
    return " ".join(question.split()).casefold()


def plain(text: str) -> str:
    r"""A text without what only lays it out: white space, case, dollars, bold, spacing commands, the last full stop.

    Signs, brackets and decimal points stay, since problems differ by them.

    >>> plain(r"How many of  40 tiles are $\textbf{red}$?") == plain("how many of 40 tiles are red?"), plain("1.5")
    (True, '1.5')
    """
    if "\\" in text:
        text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
        text = re.sub(r"\\(?:text\w*|mathrm|mathbf|mathit|mbox|emph)\s*\{([^{}]*)\}", r"\1", text)
    text = _LAYOUT.sub("", text).casefold()
    return re.sub(r"\{([^{}\\])\}", r"\1", text).rstrip(".")


def split_of(question: str, parts: int = 4) -> str:
    """ "train", "validation" or "held-out", by the text alone: one part of so many each for the last two.

    Puzzles come without end, so a quarter each is held out; of a file an eighth is, since its rows are few.

    >>> split_of("How many legs?") == split_of("how  many\\nlegs? ")
    True
    """
    digest = hashlib.sha256(asked(question).encode()).digest()
    return {parts - 2: "validation", parts - 1: "held-out"}.get(digest[0] % parts, "train")


class Epochs:
    """The order in which `count` rows are drawn: each once an epoch, each epoch in another order and other company."""

    def __init__(self, seed: int, count: int):
        self.seed, self.count = seed, count
        self._order: tuple[int, list[int]] = (-1, [])  # of the last epoch asked for

    def place(self, number: int) -> int:
        """The row of draw `number`."""
        epoch, place = divmod(number, self.count)
        if self._order[0] != epoch:
            order = list(range(self.count))
            random.Random(f"{self.seed}/order/{epoch}").shuffle(order)
            self._order = epoch, order
        return self._order[1][place]
