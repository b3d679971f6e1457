"""Write the report (table.md, summary.json, figures/) of a results folder of `scripts/compare.py`.

python scripts/report.py runs/grammar
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hf_radam.experiments.report.report import write_report
from hf_radam.experiments.schema import UserError


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Write the report of a results folder.")
    parser.add_argument("runs_dir", type=Path, help="results folder of scripts/compare.py")
    parser.add_argument("--output_dir", type=Path, help="where to write; the results folder if not given")
    options = parser.parse_args(argv)
    try:
        print(write_report(options.runs_dir, options.output_dir))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
