"""The command line before tyro reads it: what is mistyped there is one sentence that says what to do."""

import argparse
import contextlib
import dataclasses
import difflib
import io
import os
import re
import sys
import types
from collections.abc import Callable
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import tyro

from prorl_lab.errors import UserError

# What other trainers call our settings.
ELSEWHERE = {
    "lr": "learning_rate", "batch_size": "prompts_per_step", "group_size": "answers_per_prompt", "beta": "kl_coef",
    "num_generations": "answers_per_prompt", "max_tokens": "max_new_tokens", "max_completion_length": "max_new_tokens",
    "max_steps": "steps", "output_dir": "out", "output": "out", "dataset": "task", "data": "task",
    "clip_high": "eps_high", "clip_low": "eps_low", "model_name_or_path": "model", "num_threads": "threads",
    "tensorboard": "track", "wandb": "track", "trackio": "track", "report_to": "track",
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """argparse's, whose mistakes are told as a UserError, as those of `read`."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: see --help")


def read(kind: type, args: list[str], **how: Any) -> Any:
    """`tyro.cli`, whose mistakes are told as a UserError; --help still prints and leaves."""
    args = tidied(kind, args)
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(kind, args=args, **how)
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise SystemExit(piped(lambda: 0)) from None  # its text is out, or nobody wants it
        raise UserError(sentence(told.getvalue())) from leaving
    except BrokenPipeError:
        raise SystemExit(piped(lambda: 0)) from None


def usage(text: str, args: list[str]) -> int:
    """What a program says whose first word is no command of its own -> 0 where help was asked for, else 1."""
    if set(args) & {"--help", "-h"}:
        print(f"usage: {text}")
        return 0
    wrong = f"there is no command {' '.join(args)!r}" if args else "a command is missing"
    print(f"error: {wrong}; usage: {text}", file=sys.stderr)
    return 1


def piped(main: Callable[[], int]) -> int:
    """The exit code of `main`; where its output goes to a `head` that has seen enough, 0 and no traceback."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again as it ends
        return 0
    return code


def sentence(box: str) -> str:
    """What a box of tyro says, as one sentence.

    >>> sentence("╭─ Missing ──╮\\n│ Missing value for │\\n│ '--steps'. │\\n│ ──── │\\n│ see --help │")
    "Missing value for '--steps': see --help"
    >>> sentence(" Missing \\n ------- \\n  Missing x. \\n  ------- \\n  more ")  # where there is ASCII alone
    'Missing x: see --help'
    """
    parts = re.split(r"(?m)^[│ ]*[─-]{3,}.*$", box)
    lines = parts[0].splitlines()[1:] if box.startswith("╭") else parts[min(1, len(parts) - 1)].splitlines()
    return " ".join(filter(None, (line.strip("│ ") for line in lines))).rstrip(".") + ": see --help"


def tidied(kind: type, args: list[str]) -> list[str]:
    """The arguments, with `--x` and `--no-x` spelled out where tyro wants a word.  Raises UserError for a mistake."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    if "--help" in args or "-h" in args:
        return args
    made, place = [], 0
    while place < len(args):
        name, equals, value = args[place].partition("=")
        place += 1
        if not name.startswith("--") or name == "--":
            made.append(args[place - 1])
            continue
        known, positive = setting(name, fields)
        if known is None:
            raise UserError(f"there is no option {name}: {nearest(name, fields)}")
        if open_switch(hints[known]):  # true, false or not said: tyro wants the word
            given = value if equals else args[place] if args[place : place + 1] and args[place] in WORDS else None
            place += not equals and given is not None
            made += [f"--{known.replace('_', '-')}", str(positive if given is None else given.capitalize())]
            continue
        made.append(args[place - 1])
        takes = reader(hints[known])
        if takes is None:
            continue
        if not equals and (place >= len(args) or args[place].startswith("--")):
            raise UserError(f"{name} takes {takes[1]}, and none follows: give it one")
        given = value if equals else args[place]
        with contextlib.suppress(ValueError):
            takes[0](given)
            if not equals:
                made.append(given)
                place += 1
            continue
        raise UserError(f"{name} takes {takes[1]}, not {given!r}: give one")
    return made


WORDS = ("True", "False", "true", "false", "None")


def setting(name: str, fields: dict[str, Any]) -> tuple[str | None, bool]:
    """The field that an option sets, and whether to true; `--no-x` sets x to false."""
    plain = name.removeprefix("--").replace("-", "_")
    if plain in fields:
        return plain, True
    bare = plain.removeprefix("no_")
    if bare in fields and bare != plain and fields[bare].type in (bool, "bool", "bool | None"):
        return bare, False
    aliases = {"answers": "n"}  # `prorl_scale.evaluate`
    return (aliases[plain], True) if aliases.get(plain) in fields else (None, True)


def open_switch(hint: Any) -> bool:
    return set(get_args(hint)) == {bool, type(None)}


def reader(hint: Any) -> tuple[Callable[[str], Any], str] | None:
    """How the one value of a setting is read, and what it is called; None where tyro alone knows."""
    options = [one for one in get_args(hint) if one is not type(None)]
    union = get_origin(hint) in (Union, types.UnionType)
    kind = options[0] if union and len(options) == 1 else hint
    if get_origin(kind) is Literal:
        words = [str(word) for word in get_args(kind)]
        return lambda text: words.index(text), f"one of {', '.join(words)}"
    found = {int: (int, "a whole number"), float: (float, "a number"), str: (str, "a word")}.get(kind)
    if found and kind is not str and union:
        return lambda text: None if text == "None" else found[0](text), found[1]
    return found


def nearest(name: str, fields: dict[str, Any]) -> str:
    """What was meant, most likely.

    >>> nearest("--lr", {"learning_rate": 0, "steps": 0}), nearest("--xyz", {"steps": 0})
    ('did you mean --learning-rate?', 'see --help')
    """
    plain = name.removeprefix("--").replace("-", "_").casefold()
    bare = plain.removeprefix("no_")
    initials = {"".join(word[0] for word in field.split("_")): field for field in fields if "_" in field}
    parts = [field for field in fields if len(bare) > 3 and set(bare.split("_")) <= set(field.split("_"))]
    close = [*difflib.get_close_matches(plain, fields, 2, 0.65), *difflib.get_close_matches(bare, fields, 1, 0.65)]
    sure = [field for field in (ELSEWHERE.get(plain), initials.get(plain)) if field in fields]
    found = sure[:1] or [*close, *parts]
    names = [f"--{field.replace('_', '-')}" for field in dict.fromkeys(found)][:2]
    return f"did you mean {' or '.join(names)}?" if names else "see --help"
