"""Run a comparison of optimizers and warmup rules, and write its report.

    python scripts/compare.py                                   # the default: scripts/configs/grammar.yaml
    python scripts/compare.py my.yaml --seeds 0 1 2 --output_dir runs/mine
    accelerate launch --config_file scripts/accelerate_configs/ddp.yaml scripts/compare.py my.yaml

Killed and started again, the same command does what is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.utils import logging

from hf_radam.experiments.config import UserError, load_comparison
from hf_radam.experiments.report import write_report
from hf_radam.experiments.sweep import sweep
from hf_radam.experiments.tasks.parallel_text import TranslationData

DEFAULT = Path(__file__).parent / "configs" / "grammar.yaml"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = vars(_parser().parse_args(argv))
    path = options.pop("comparison")
    output_dir = options.pop("output_dir")
    report_to = options.pop("report_to")
    data_names = {f.name for f in fields(TranslationData)}
    given = {name: value for name, value in options.items() if value is not None}
    overrides: dict[str, Any] = {name: value for name, value in given.items() if name not in data_names}
    overrides["data"] = {name: value for name, value in given.items() if name in data_names}
    overrides["training"] = {} if report_to is None else {"report_to": report_to}
    logging.disable_progress_bar()  # those of writing files; the bars of training are others
    try:
        comparison = load_comparison(path, overrides)
        folder = output_dir or Path("runs") / path.stem
        sweep(comparison, folder)
        if PartialState().is_main_process:
            print(write_report(folder))
    except (UserError, OSError) as error:
        if int(os.environ.get("RANK", "0")) == 0:  # once, however many processes there are
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run a comparison and write its report.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("comparison", nargs="?", type=Path, default=DEFAULT, help="YAML file")
    add("--output_dir", type=Path, help="results folder; runs/NAME-OF-THE-FILE if not given")
    of_comparison = parser.add_argument_group("override the file").add_argument
    of_comparison("--name", help="title of the report")
    of_comparison("--recipes", nargs="+", help="run only these recipes, of the file or built in")
    of_comparison("--learning_rates", nargs="+", type=float)
    of_comparison("--seeds", nargs="+", type=int)
    for name in ("max_steps", "batch_size", "eval_steps", "save_steps", "threads"):
        of_comparison(f"--{name}", type=int)
    of_comparison("--target_loss", type=float)
    of_comparison("--report_to", nargs="+", help="trackers: tensorboard, trackio, wandb, ...; none if not given")
    of_data = parser.add_argument_group("the data").add_argument
    for f in fields(TranslationData):
        of_data(f"--{f.name}", type=int if "int" in str(f.type) else str)
    return parser


if __name__ == "__main__":
    code = main()
    if PartialState._shared_state and PartialState().num_processes > 1:
        PartialState().destroy_process_group()
    sys.exit(code)
