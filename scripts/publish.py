"""Put a comparison on the Hub: its card, figures and records, and the weights of its best run."""

from __future__ import annotations

import argparse
import sys

from hf_radam.experiments.schema import UserError
from hf_radam.publishing.command import add_arguments, run
from hf_radam.publishing.errors import NetworkError


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 1 for the network's fault, 2 for the user's."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NetworkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
