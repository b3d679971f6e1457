"""Run a comparison of optimizers and warmup rules, and write its report.

    python scripts/compare.py                                   # the default: grammar.yaml
    python scripts/compare.py my.yaml --seeds 0 1 2 --output_dir runs/mine
    python scripts/compare.py my.yaml --parallel_runs 4                     # four runs at a time, each on its own GPU
    accelerate launch --config_file hf_radam/training/accelerate_configs/ddp.yaml scripts/compare.py my.yaml

Killed and started again, the same command does what is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.utils import logging

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.report.report import write_report
from hf_radam.experiments.runs.sweep import sweep
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import TASKS, task_class
from hf_radam.files import is_full_disk

DEFAULT = Path(__file__).resolve().parents[1] / "hf_radam" / "experiments" / "configs" / "grammar.yaml"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = vars(_parser().parse_args(argv))
    path = options.pop("comparison")
    output_dir = options.pop("output_dir")
    parallel_runs = options.pop("parallel_runs")
    report_to = options.pop("report_to")
    training = {} if report_to is None else {"report_to": report_to}
    overrides: dict[str, Any] = {"data": {}, "model": {}, "training": training}
    data_names = _data_options()
    for name, value in options.items():
        if value is not None:
            part = "data" if name in data_names else "model" if name == "name_or_path" else None
            (overrides[part] if part else overrides)[name] = value
    logging.disable_progress_bar()  # those of writing files; the bars of training are others
    try:
        comparison = load_comparison(path, overrides)
        folder = output_dir or Path("runs") / path.stem
        sweep(comparison, folder, parallel_runs)
        if PartialState().is_main_process:
            print(write_report(folder))
    except (UserError, OSError) as error:
        remedy = "; make room, and the same command goes on from here" if is_full_disk(error) else ""
        if int(os.environ.get("RANK", "0")) == 0:  # once, however many processes there are
            print(f"error: {error}{remedy}", file=sys.stderr)
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
    add("--parallel_runs", type=int, default=1, help="runs at a time, each on its own GPU or cores")
    of_comparison = parser.add_argument_group("override the file").add_argument
    of_comparison("--name", help="title of the report")
    of_comparison("--recipes", nargs="+", help="run only these recipes, of the file or built in")
    of_comparison("--learning_rates", nargs="+", type=float)
    of_comparison("--seeds", nargs="+", type=int)
    for name in ("max_steps", "batch_size", "eval_steps", "save_steps", "threads", "gradient_accumulation_steps"):
        of_comparison(f"--{name}", type=int)
    of_comparison("--target_loss", type=float)
    of_comparison("--report_to", nargs="+", help="trackers: tensorboard, trackio, wandb, ...; none if not given")
    of_comparison("--name_or_path", help="checkpoint that is fine-tuned: a name on the Hub, or a folder")
    of_data = parser.add_argument_group("the data; each task takes some of these").add_argument
    for name, (kind, tasks) in _data_options().items():
        of_data(f"--{name}", type=kind, help=f"of {', '.join(tasks)}")
    return parser


def _data_options() -> dict[str, tuple[Callable[[str], Any], list[str]]]:
    """The options of the data of all tasks: their type, and the tasks that have them."""
    options: dict[str, tuple[Callable[[str], Any], list[str]]] = {}
    for task in TASKS:
        for f in fields(task_class(task).Data):
            kind = int if "int" in str(f.type) else str
            options.setdefault(f.name, (kind, []))[1].append(task)
    return options


if __name__ == "__main__":
    code = main()
    if PartialState._shared_state and PartialState().num_processes > 1:
        PartialState().destroy_process_group()
    sys.exit(code)
