"""`python -m prorl_scale.data prepare --out DIR`: build the training mixture."""

import sys
from typing import Any

from prorl_lab import flags
from prorl_lab.errors import UserError
from prorl_scale.rewards import SandboxError

from .estimate import FILE, with_vllm
from .prepare import Prepare, prepare


def main(arguments: list[str]) -> None:
    if arguments[:1] != ["prepare"]:
        sys.exit(flags.usage("python -m prorl_scale.data prepare --out DIR [--help]", arguments))
    config = None
    try:
        config = flags.read(Prepare, arguments[1:], prog="python -m prorl_scale.data prepare")
        manifest = prepare(config)
    except (UserError, SandboxError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: can't write to {config.out} ({error.strerror}): choose another --out, or free some space")
    print(closing_table(manifest))
    print(f"three examples of each reason: {config.out / 'dropped'}; the rest: {config.out / 'manifest.json'}")
    if config.estimate:
        try:
            with_vllm(config)
        except (UserError, SandboxError) as error:
            sys.exit(f"error: {error}")
        print(f"how often each is solved: {config.out / FILE}; train with --pass-rate LOW HIGH")


def closing_table(manifest: dict[str, Any]) -> str:
    """Rows by domain, and below each why others were dropped and what was counted in those kept."""
    lines = [f"{'':40} {'train':>9} {'wanted':>9} {'validation':>10} {'dropped':>9}"]
    for domain, rows in manifest["rows"].items():
        dropped = manifest["dropped"].get(domain, {})
        wanted = manifest["wanted"][domain]["train"]
        lines.append(f"{domain:40} {rows['train']:9,} {wanted:9,} {rows['validation']:10,} {sum(dropped.values()):9,}")
        lines += [f"  {reason:69} {count:9,}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1])]
        lines += [f"  kept: {name:63} {count:9,}" for name, count in manifest["noted"].get(domain, {}).items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
