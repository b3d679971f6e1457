"""Simulate the variance of Adam's adaptive learning rate and compare it with the formulas; draw it, and r_t.

    python scripts/variance.py --output_dir model_cards/variance

Figures 8 and 9 of arXiv 1908.03265, and r_t for the betas of the annotated implementation of labml.ai.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hf_radam.experiments.environment import cpu_name
from hf_radam.experiments.report.figures import style, theory
from hf_radam.experiments.variance import FIRST_STEP, study
from hf_radam.files import write_whole

BETAS = (0.9999, 0.999, 0.99, 0.9, 0.8, 0.6, 0.5)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/variance"))
    parser.add_argument("--paths", type=int, default=100_000, help="trajectories; the paper has 5,000")
    parser.add_argument("--steps", type=int, default=6_000)
    options = parser.parse_args(argv)
    if options.paths < 1 or options.steps < FIRST_STEP:
        print(f"error: --paths must be >= 1 and --steps >= {FIRST_STEP}", file=sys.stderr)
        return 2
    started = time.perf_counter()
    found = study(last=options.steps, paths=options.paths)
    found["seconds"] = round(time.perf_counter() - started, 1)
    found["environment"] = {"numpy": np.__version__, "hardware": cpu_name()}
    try:
        write_whole(options.output_dir / "variance.json", json.dumps(found) + "\n")
        draw(found, options.output_dir)
        path = options.output_dir / "table.md"
        write_whole(path, statement(found))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


def draw(found: dict[str, Any], folder: Path) -> None:
    """Both figures."""
    style.save(partial(theory.variance, found), folder / "figures", "variance")
    style.save(partial(theory.rectification_terms, BETAS, 100_000), folder / "figures", "rectification")


def statement(found: dict[str, Any]) -> str:
    """What was found, in Markdown."""
    lines = [
        "| formula | largest error | at step | within 5 % | within 12 % | within 20 % |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for label, name in (("exact", "exact"), ("first order", "first_order")):
        of_formula = found["agreement"][name]
        ranges = ["never" if run is None else "{} to {}".format(*run) for run in of_formula["within"].values()]
        lines.append(f"| {label} | {of_formula['largest']:.0%} | {of_formula['at']} | {' | '.join(ranges)} |")
    less = 1 - found["agreement"]["variance_of_mean_1"]
    return "\n".join(
        [
            "# Variance of the adaptive learning rate",
            "",
            *lines,
            "",
            f"- Error: formula / simulation - 1, gradients from N(0, 1), beta2 = {found['beta2']:g}, "
            f"{found['paths']:,} trajectories, steps {found['step'][0]} to {found['step'][-1]}. "
            "A range is the longest without exception.",
            "- Where the mean of the gradients is as large as their standard deviation, the variance is "
            f"{less:.0%} lower (median over the steps).",
            f"- {found['seconds']} s on {found['environment']['hardware']}, numpy {found['environment']['numpy']}.",
            "",
            "![variance](figures/variance.png)",
            "![rectification](figures/rectification.png)",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
