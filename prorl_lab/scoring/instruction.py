"""Instruction following: the fraction of instructions that the response meets, by Google's IFEval rules.

The rules come from the package if-verifiable.  What differs here, so that a verdict is the same on every run and can't
be had for nothing: language detection has a seed and needs letters, a symbol's frequency is counted (the original
draws a random letter instead), sentences are split by Punkt from a package rather than a download, and an instruction
that is unknown or lacks its arguments is an error.
"""

import importlib.util
import sys
import types
from typing import Any

import langdetect
import punkt
from nltk.tokenize import NLTKWordTokenizer

from prorl_lab.scoring.extract import after_think


def _registry() -> tuple[dict[str, type], Any, Any]:
    """The package's checkers by instruction id, and the two modules that hold and serve them."""
    # Its own __init__ imports `datasets`: seconds, and threads.  A bare package in its place lets the parts load alone.
    package = types.ModuleType("if_verifiable")
    package.__path__ = list(importlib.util.find_spec("if_verifiable").submodule_search_locations)
    sys.modules["if_verifiable"] = package
    from if_verifiable.ifeval import instructions, instructions_util
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT

    return INSTRUCTION_DICT, instructions, instructions_util


_CHECKERS, _instructions, _util = _registry()
langdetect.DetectorFactory.seed = 0
_util._get_sentence_tokenizer = lambda: _Sentences


class _Sentences:
    tokenize = staticmethod(punkt.sent_tokenize)


class _Language(_instructions.ResponseLanguageChecker):
    def check_following(self, value: str) -> bool:
        # Text without letters has no language; the original counts "can't tell" as followed.
        return any(map(str.isalpha, value)) and super().check_following(value)


class _Letter(_instructions.LetterFrequencyChecker):
    def build_description(self, *, letter: str, let_frequency: int, let_relation: str) -> str:
        if len(letter.strip()) != 1:
            raise ValueError(f"letter_frequency counts one character, not {letter!r}")
        description = super().build_description(letter="a", let_frequency=let_frequency, let_relation=let_relation)
        self._letter = letter.strip().lower()
        return description


class _CapitalWords(_instructions.CapitalWordFrequencyChecker):
    def check_following(self, value: str) -> bool:
        # nltk.word_tokenize splits sentences first, which takes a download and does not change this count.
        count = sum(word.isupper() for word in NLTKWordTokenizer().tokenize(value))
        return count < self._frequency if self._comparison_relation == "less than" else count >= self._frequency


CHECKERS = {
    **_CHECKERS,
    "language:response_language": _Language,
    "keywords:letter_frequency": _Letter,
    "change_case:capital_word_frequency": _CapitalWords,
}


def score(response: str, reference: dict[str, Any]) -> tuple[float, str]:
    """The fraction of instructions met by what follows </think>, and a status.  Takes `kwargs` or `instruction_kwargs`.

    Raises ValueError for a reference with unknown instructions or missing arguments.
    """
    checkers = build(reference)
    text = after_think(response)
    if not text:
        return 0.0, "format"
    met = [_met(checker, text) for checker in checkers]
    fraction = sum(met) / len(met)
    return fraction, "ok" if fraction == 1.0 else "wrong"


def build(reference: dict[str, Any]) -> list[Any]:
    """The checkers of a reference.  Raises ValueError as `score` does."""
    names = reference["instruction_id_list"]
    arguments = reference["kwargs"] if "kwargs" in reference else reference["instruction_kwargs"]
    if not len(names) or len(names) != len(arguments):
        raise ValueError("there must be at least one instruction, and arguments for each")
    return [_checker(name, dict(given or {})) for name, given in zip(names, arguments, strict=True)]


def _checker(name: str, arguments: dict[str, Any]) -> Any:
    if name not in CHECKERS:
        raise ValueError(f"unknown instruction {name!r}")
    arguments = {key: value for key, value in arguments.items() if value is not None}  # parquet's way to say absent
    checker = CHECKERS[name](name)
    try:
        checker.build_description(**arguments)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
    # A checker draws an argument it is not given at random: the verdict would be noise.
    if missing := set(checker.get_instruction_args_keys()) - set(arguments):
        raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
    return checker


def _met(checker: Any, text: str) -> bool:
    try:
        return bool(checker.check_following(text))
    except Exception:  # noqa: BLE001  JSON nested too deep, for one: an instruction that can't be checked is not met
        return False
