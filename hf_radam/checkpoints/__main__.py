"""`python -m hf_radam.checkpoints`: look into the optimizer state of a checkpoint, or put it together in one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hf_radam.checkpoints.checkpoint import CheckpointError
from hf_radam.checkpoints.describe import describe, write


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for a checkpoint that cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m hf_radam.checkpoints", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    what = "folder of a checkpoint (Trainer, Accelerate, DeepSpeed, save_optimizer), or what in it holds the optimizer"
    inspect = commands.add_parser("inspect", help="print format, groups, step and state")
    inspect.add_argument("checkpoint", type=Path, metavar="CKPT", help=what)
    consolidate = commands.add_parser("consolidate", help="write one optimizer.pt that a single process loads")
    consolidate.add_argument("checkpoint", type=Path, metavar="CKPT", help=what)
    consolidate.add_argument("out", type=Path, metavar="OUT", help="file to write; must not exist")
    options = parser.parse_args(arguments)
    try:
        if options.command == "inspect":
            print(describe(options.checkpoint))
        else:
            print(write(options.checkpoint, options.out))
    except (CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
