"""Evaluate checkpoints: n answers to every prompt of some sets, scored by the verifiers of training.

    python -m prorl_scale.evaluate --models base=DIR mid=DIR final=DIR --sets math gpqa_diamond ood --out OUT
    python -m prorl_scale.evaluate --models base=DIR final=DIR --sets tables --n 16 --out OUT   # the result tables
    torchrun --nproc-per-node 8 -m prorl_scale.evaluate --answers 256 ...   # on 8 GPUs, one engine each (*)
    python -m prorl_scale.evaluate table OUT                          # pass@1 beside the paper's numbers
    python -m prorl_scale.evaluate sets                               # the sets, and what the paper reports on them
    python -m prorl_scale.evaluate --models base=runs/x/base final=runs/x/last --sets laptop   # a run of `make mini`

(*) --answers is --n: torchrun takes the latter for an abbreviation of its own options.

The same command continues an interrupted evaluation: killed at any moment and started again, on as many processes as
you like, it writes the files that it would have written in one go, and no answer twice.  On a CPU that is tested byte
by byte, on one process and two; on a GPU it has not been run, and there kernels may round otherwise from run to run.  A
verdict of "timeout" depends on how busy the machine is.

Data of a set is taken from --data SET=PATH, else from --data-dir, else from the hub; a set that can't be had is named
with the command that fetches it, before anything is generated.  Puzzles and the laptop tiers are made here.

OUT holds config.json, `prompts/SET.jsonl` and `answers/MODEL/SET.jsonl` (see store.py):

    {"id", "set", "domain", "tier", "prompt", "reference"}                        a prompt
    {"id", "sample", "text", "tokens", "truncated", "score", "status"}            an answer; score in [0, 1], status as
                                                                                  in prorl_scale.rewards
    the same and "original_score"                                                 of puzzles and instructions: what
                                                                                  their published scorers pay
"""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from prorl_lab import cli, flags
from prorl_lab.errors import UserError
from prorl_scale.distributed import end_with_parent
from prorl_scale.evaluate import sets
from prorl_scale.evaluate.prepare import Config, rank
from prorl_scale.evaluate.run import evaluate
from prorl_scale.evaluate.table import table
from prorl_scale.rewards import SandboxError


@dataclass
class Table:
    """Print the result table of an evaluation."""

    out: tyro.conf.Positional[Path]  # its folder


def parse(args: list[str]) -> Config | Table:
    """The command line.  Only rank 0 speaks."""
    with contextlib.ExitStack() as quiet:
        if rank():
            silence = quiet.enter_context(open(os.devnull, "w"))
            quiet.enter_context(contextlib.redirect_stdout(silence))
            quiet.enter_context(contextlib.redirect_stderr(silence))
        if args[:1] == ["table"]:
            return flags.read(Table, args[1:], prog="python -m prorl_scale.evaluate table")
        return flags.read(Config, args, description=__doc__, prog="python -m prorl_scale.evaluate")


def main(args: list[str] | None = None) -> int:
    """0, or one sentence and 1 on bad input, or 130 after Ctrl-C."""
    args = sys.argv[1:] if args is None else args
    if args == ["sets"]:
        return flags.piped(lambda: print(sets.listing()) or 0)
    config = None
    try:
        config = parse(args)
        if isinstance(config, Config):
            cli.no_bars_of_transformers()
        out = config.out if isinstance(config, Table) else evaluate(config)
        if rank() == 0:
            print(f"{table(out)}\n{out}" if isinstance(config, Config) else table(out))
    except (UserError, SandboxError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; continue with the same command and --out {config.out if config else 'DIR'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main())
