"""`python -m prorl_scale.data prepare --out DIR`: build the training mixture."""

import sys

import tyro

from prorl_lab.errors import UserError
from prorl_scale.rewards import SandboxError

from .prepare import Prepare, prepare


def main(arguments: list[str]) -> None:
    if arguments[:1] != ["prepare"]:
        sys.exit("usage: python -m prorl_scale.data prepare --out DIR [--help]")
    config = tyro.cli(Prepare, args=arguments[1:], prog="python -m prorl_scale.data prepare")
    try:
        manifest = prepare(config)
    except (UserError, SandboxError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: can't write to {config.out} ({error.strerror}): choose another --out, or free some space")
    for domain, rows in manifest["rows"].items():
        dropped = sum(manifest["dropped"].get(domain, {}).values())
        print(f"{domain:12} {rows['train']:7} train {rows['validation']:6} validation {dropped:7} dropped")
    print(f"what was dropped and why: {config.out / 'manifest.json'}")


if __name__ == "__main__":
    main(sys.argv[1:])
