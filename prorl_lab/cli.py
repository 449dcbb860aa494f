"""The command line: a dataclass of settings becomes flags and help, and each mistake one sentence and an exit code."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from prorl_lab import flags, inputs
from prorl_lab.errors import UserError
from prorl_lab.lock import release_all


def run(config_class: type, train: Any, args: list[str] | None, parser: Any = None, plan: Any = None) -> int:
    """Parse, train, and turn what users can mend into one sentence and an exit code.

    plan: what --dry-run does instead; by default that of one device.
    """
    args = sys.argv[1:] if args is None else args
    try:
        config = (parser or parse)(config_class, args)
        if config.dry_run:
            from prorl_lab.dry_run import dry_run

            train = plan or dry_run
        no_bars_of_transformers()
        train(config)
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


def no_bars_of_transformers() -> None:
    """It draws one for every folder that it reads or writes."""
    from transformers.utils.logging import disable_progress_bar  # only now: `--help` is not to wait for it

    disable_progress_bar()


def parse(config_class: type, args: list[str] | None) -> Any:
    """The command line as a Config.  With --resume, the stored settings are the defaults and may not be changed."""
    about = "ProRL on one device; a run is a folder."
    if "--help" in args or "-h" in args:
        return flags.read(config_class, args, description=about, default=with_defaults(config_class, args))
    given = flags.read(config_class, args, description=about)
    if not given.resume:
        return given
    stored = stored_settings(Path(given.resume))
    names = fields_of(config_class)
    if set(stored) != names:
        raise UserError(
            f"{given.resume} was written by another version ({sorted(set(stored) ^ names)}): start a new run"
        )
    stored["resume"] = given.resume
    again = flags.read(config_class, args, default=config_class(**stored))
    fixed = names - config_class.RESUMABLE - {"resume"}
    changed = [n for n in fixed if inputs.absolute(n, getattr(again, n)) != inputs.absolute(n, stored[n])]
    if changed:
        raise UserError(
            f"--resume continues with the stored settings, but {', '.join(sorted(changed))} was given another value: "
            "leave it out, or start a new run with --out"
        )
    return again


def with_defaults(config_class: type, args: list[str], **settings: Any) -> Any:
    """A config whose open settings are filled as they would be for the --model of these arguments, for --help."""
    from prorl_lab.settings import defaults

    model = args[args.index("--model") + 1] if "--model" in args[:-1] else settings.get("model", "laptop")
    filled = {name: value for name, value in defaults(model).items() if name in fields_of(config_class)}
    return config_class(**{**filled, "model": model, "out": "runs/<date and time>", **settings})


def fields_of(config_class: type) -> set[str]:
    return {f.name for f in dataclasses.fields(config_class)}


def stored_settings(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder} is not a run folder (no readable config.json): give --resume a folder made by --out"
        ) from error
