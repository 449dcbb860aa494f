"""Instruction following: the fraction of instructions met, by IFEval's rules with their holes closed.

The rules come from the package if-verifiable 0.1.2, which has Google's.  A policy that trains on them finds what they
pay for nothing (empty quotation marks, `{}`, bullets without a word, every option at once), and they refuse some right
answers: capitals are taken for German, a third blank line or a line end of Windows moves paragraphs, bold italics are
a divider.  Here a part that is asked for has to hold something, language is told from lower case, and a keyword is no
pattern.

`"scorer": "original"` in the reference asks for the published rules, which published numbers are.  Of those only what
made them random or stopped them is mended: language detection has a seed and needs letters, a symbol's frequency is
counted (the original draws a random letter instead), sentences are split by Punkt from a package rather than a
download, and an instruction that is unknown or lacks its arguments is an error.
"""

import importlib.util
import json
import re
import sys
import types
import unicodedata
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


PUBLISHED = {
    **_CHECKERS,
    "language:response_language": _Language,
    "keywords:letter_frequency": _Letter,
    "change_case:capital_word_frequency": _CapitalWords,
}


# --- ours


def _language(text: str) -> str | None:
    """The language of a text; None if that can't be told.  langdetect 1.0.9 passes over words in capitals."""
    try:
        return langdetect.detect(text.lower())
    except langdetect.LangDetectException:
        return None


class _OurLanguage(_instructions.ResponseLanguageChecker):
    def check_following(self, value: str) -> bool:
        return _language(value) == self._language


class _Capitals(_instructions.CapitalLettersEnglishChecker):
    def check_following(self, value: str) -> bool:
        return value.isupper() and _language(value) == "en"


class _Lowercase(_instructions.LowercaseLettersEnglishChecker):
    def check_following(self, value: str) -> bool:
        return value.islower() and _language(value) == "en"


class _Paragraphs(_instructions.ParagraphChecker):
    def check_following(self, value: str) -> bool:
        """A divider stands alone on its line; before the first and behind the last there need be nothing."""
        parts = [part.strip() for part in re.split(r"(?m)^[ \t]*\*\*\*[ \t]*$", value)]
        inner = parts[1 if not parts[0] else 0 : len(parts) - (not parts[-1])]
        return all(map(_says, inner)) and len(inner) == self._num_paragraphs


class _FirstWord(_instructions.ParagraphFirstWordCheck):
    def check_following(self, value: str) -> bool:
        paragraphs = list(filter(_says, re.split(r"\n[ \t]*\n", value)))
        if not len(paragraphs) == self._num_paragraphs >= self._nth_paragraph:
            return False
        word = paragraphs[self._nth_paragraph - 1].split()[0].lstrip("\"'*_#>(\u201c\u2018")
        return re.split(r"[.,?!'\":;)*_\u201d\u2019]", word.lower())[0] == self._first_word


class _Bullets(_instructions.BulletListChecker):
    def check_following(self, value: str) -> bool:
        """A bullet has a blank and then words behind it, which a divider (`---`, `* * *`) has not."""
        return sum(map(_says, re.findall(r"(?m)^[ \t]*[*-][ \t]+(.*)$", value))) == self._num_bullets


class _Placeholders(_instructions.PlaceholderChecker):
    def check_following(self, value: str) -> bool:
        return sum(map(_says, re.findall(r"\[([^\[\]\n]*)\]", value))) >= self._num_placeholders


class _Highlights(_instructions.HighlightSectionChecker):
    def check_following(self, value: str) -> bool:
        """`*so*` or `**so**`: no blank inside the asterisks, as in Markdown, or a list's bullets would pair up."""
        found = re.findall(r"(?<!\*)(\*{1,3})(?![\s*])([^*\n]+)(?<!\s)\1(?!\*)", value)
        return sum(_says(inside) for _, inside in found) >= self._num_highlights


class _Sections(_instructions.SectionChecker):
    def check_following(self, value: str) -> bool:
        """A heading with nothing below it is no section."""
        parts = re.split(rf"{re.escape(self._section_spliter)}\s?\d+", value)[1:]
        return sum(map(_says, parts)) >= self._num_sections


class _Postscript(_instructions.PostscriptChecker):
    def check_following(self, value: str) -> bool:
        letters = [re.escape(c) for c in self._postscript_marker.lower() if not c.isspace()]
        return re.search(rf"(?<!\w){r'[ ]?'.join(letters)}\W*\w", value.lower()) is not None


class _Keywords(_instructions.KeywordChecker):
    def check_following(self, value: str) -> bool:
        return all(keyword.lower() in value.lower() for keyword in self._keywords)


class _KeywordFrequency(_instructions.KeywordFrequencyChecker):
    def check_following(self, value: str) -> bool:
        count = value.lower().count(self._keyword.lower())
        return count < self._frequency if self._comparison_relation == "less than" else count >= self._frequency


class _Forbidden(_instructions.ForbiddenWords):
    def check_following(self, value: str) -> bool:
        """Nor with invisible characters in them, such as a soft hyphen or a space of no width."""
        value = "".join(c for c in value if unicodedata.category(c) != "Cf")
        return not any(re.search(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", value) for word in self._forbidden_words)


class _OneOption(_instructions.ConstrainedResponseChecker):
    def check_following(self, value: str) -> bool:
        """One of the options, not all of them."""
        return sum(option in value for option in self._constrained_responses) == 1


class _Json(_instructions.JsonFormat):
    def check_following(self, value: str) -> bool:
        """An object or a list that holds something, in a fence or not."""
        fenced = re.fullmatch(r"``` ?(?:[jJ][sS][oO][nN])?\s(.*)```", value, re.DOTALL)

        def refuse(word: str) -> None:  # NaN and the like, which are no JSON
            raise ValueError(word)

        found = json.loads(fenced[1] if fenced else value, parse_constant=refuse)
        return isinstance(found, dict | list) and len(found) > 0


class _Title(_instructions.TitleChecker):
    def check_following(self, value: str) -> bool:
        return any(map(_says, re.findall(r"<<([^\n<>]+)>>", value)))


class _RepeatedPrompt(_instructions.RepeatPromptThenAnswer):
    def check_following(self, value: str) -> bool:
        """The request, and then an answer to it."""
        asked = self._prompt_to_repeat.strip()
        return value.lower().startswith(asked.lower()) and _says(value[len(asked) :])


class _TwoResponses(_instructions.TwoResponsesChecker):
    def check_following(self, value: str) -> bool:
        """Two that differ in a letter or a digit, with nothing but six asterisks between."""
        parts = ["".join(filter(str.isalnum, part.casefold())) for part in value.split("******")]
        inner = parts[1 if not parts[0] else 0 : len(parts) - (not parts[-1])]
        return len(inner) == 2 and all(inner) and inner[0] != inner[1]


class _NoComma(_instructions.CommaChecker):
    def check_following(self, value: str) -> bool:
        """Nor those of other scripts."""
        return not set(value) & set(",\uff0c\u3001\u060c\ufe50\ufe51")


class _Quotation(_instructions.QuotationChecker):
    def check_following(self, value: str) -> bool:
        return value[0] in '"\u201c' and value[-1] in '"\u201d' and _says(value[1:-1])


def _says(text: str) -> bool:
    """Whether there is a word or a number in it."""
    return any(map(str.isalnum, text))


CHECKERS = {
    **PUBLISHED,
    "language:response_language": _OurLanguage,
    "change_case:english_capital": _Capitals,
    "change_case:english_lowercase": _Lowercase,
    "length_constraints:number_paragraphs": _Paragraphs,
    "length_constraints:nth_paragraph_first_word": _FirstWord,
    "detectable_format:number_bullet_lists": _Bullets,
    "detectable_format:number_highlighted_sections": _Highlights,
    "detectable_format:multiple_sections": _Sections,
    "detectable_format:constrained_response": _OneOption,
    "detectable_format:json_format": _Json,
    "detectable_format:title": _Title,
    "detectable_content:number_placeholders": _Placeholders,
    "detectable_content:postscript": _Postscript,
    "keywords:existence": _Keywords,
    "keywords:frequency": _KeywordFrequency,
    "keywords:forbidden_words": _Forbidden,
    "combination:repeat_prompt": _RepeatedPrompt,
    "combination:two_responses": _TwoResponses,
    "punctuation:no_comma": _NoComma,
    "startend:quotation": _Quotation,
}


def score(response: str, reference: dict[str, Any]) -> tuple[float, str]:
    """The fraction of instructions met by what follows </think>, and a status.  Takes `kwargs` or `instruction_kwargs`.

    Raises ValueError for a reference with unknown instructions or missing arguments.
    """
    checkers = build(reference)
    text = after_think(response)
    published = reference.get("scorer") == "original"
    symbols = published or any(isinstance(c, _Letter) and not c._letter.isalnum() for c in checkers)
    if not (text if symbols else _says(text)):  # a full stop has no comma and no forbidden word
        return 0.0, "format"
    if not published:
        text = text.replace("\r\n", "\n")
    met = [_met(checker, text) for checker in checkers]
    fraction = sum(met) / len(met)
    return fraction, "ok" if fraction == 1.0 else "wrong"


def build(reference: dict[str, Any]) -> list[Any]:
    """The checkers of a reference.  Raises ValueError as `score` does."""
    names = reference["instruction_id_list"]
    arguments = reference["kwargs"] if "kwargs" in reference else reference["instruction_kwargs"]
    if not len(names) or len(names) != len(arguments):
        raise ValueError("there must be at least one instruction, and arguments for each")
    known = PUBLISHED if reference.get("scorer") == "original" else CHECKERS
    return [_checker(known, name, dict(given or {})) for name, given in zip(names, arguments, strict=True)]


def _checker(known: dict[str, type], name: str, arguments: dict[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"unknown instruction {name!r}")
    arguments = {key: value for key, value in arguments.items() if value is not None}  # parquet's way to say absent
    checker = known[name](name)
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
