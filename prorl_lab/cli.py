"""The command line: a dataclass of settings becomes flags and help, and each mistake one sentence and an exit code."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import tyro
from transformers.utils.logging import disable_progress_bar

from prorl_lab import inputs
from prorl_lab.errors import UserError
from prorl_lab.lock import release_all


def run(config_class: type, train: Any, args: list[str] | None, parser: Any = None) -> int:
    """Parse, train, and turn what users can mend into one sentence and an exit code."""
    disable_progress_bar()  # transformers draws one for every folder it reads or writes
    try:
        train((parser or parse)(config_class, args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        saved = f"state saved: continue with --resume {stop.args[0]}" if stop.args else "not saved since the last save"
        print(f"stopped; {saved}", file=sys.stderr)
        return 130
    finally:
        release_all()  # whatever ended the run, it writes no more
    return 0


def parse(config_class: type, args: list[str] | None) -> Any:
    """The command line as a Config.  With --resume, the stored settings are the defaults and may not be changed."""
    given = tyro.cli(config_class, args=args, description="ProRL on one device; a run is a folder.")
    if not given.resume:
        return given
    stored = stored_settings(Path(given.resume))
    names = {f.name for f in dataclasses.fields(config_class)}
    if set(stored) != names:
        raise UserError(
            f"{given.resume} was written by another version ({sorted(set(stored) ^ names)}): start a new run"
        )
    stored["resume"] = given.resume
    again = tyro.cli(config_class, args=args, default=config_class(**stored))
    fixed = names - config_class.RESUMABLE - {"resume"}
    changed = [n for n in fixed if inputs.absolute(n, getattr(again, n)) != inputs.absolute(n, stored[n])]
    if changed:
        raise UserError(
            f"--resume continues with the stored settings, but {', '.join(sorted(changed))} was given another value: "
            "leave it out, or start a new run with --out"
        )
    return again


def stored_settings(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder} is not a run folder (no readable config.json): give --resume a folder made by --out"
        ) from error
