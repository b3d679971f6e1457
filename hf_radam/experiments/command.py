"""`compare`, `configs` and `report`: nothing heavy is imported before they run."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_radam.errors import UserError, closest

CONFIGS = Path(__file__).parent / "configs"

# Options of the data that have a flag; `--set data.KEY=VALUE` sets every other.
DATA_FLAGS = {
    "train_file": "training data: text, JSON lines, TSV or CSV",
    "validation_file": "data of the evaluations",
    "test_file": "data of the final test",
    "train_prefix": "parallel text PREFIX.de, PREFIX.en",
    "validation_prefix": "likewise, for the evaluations",
    "test_prefix": "likewise, for the final test",
    "source_lang": "ending of the source's files",
    "target_lang": "ending of the target's files",
    "text_column": "column with the text, of a table",
    "label_column": "column with the label",
    "dataset_name": "dataset on the Hub",
    "dataset_config_name": "its configuration",
    "metric": "what judges the runs, if the task has several metrics",
}


def add_arguments(parser: argparse.ArgumentParser, rare: Callable[[str], str]) -> None:
    """The options of `run`; `rare` hides the help of those that few need, unless all is asked for."""
    parser.usage = "%(prog)s [COMPARISON] [options]"
    parser.epilog = (
        "examples:\n  hf-radam compare                                    # grammar, the default\n"
        "  hf-radam compare my.yaml --seeds 0 1 2 --output_dir runs/mine\n"
        "  hf-radam compare --script run_glue.py --learning_rates 1e-5 3e-5 --seeds 0 1 2 -- --do_train ...\n\n"
        "If the job is killed, run the same command again: it does what is missing."
    )
    add = parser.add_argument
    add("comparison", nargs="?", metavar="COMPARISON",
        help="a YAML file, or a name of `hf-radam configs`; grammar if not given")  # fmt: skip
    add("--help_all", action="help", help="show the options of data as well, and quit")
    add("--output_dir", type=Path, metavar="DIR", help="results folder; runs/NAME if not given")
    add("--script", metavar="X", help="a training script, or a command such as 'trl sft'; its arguments follow --")
    add("--module", metavar="X", help=rare("likewise, in a module"))
    add("--recipes", nargs="+", metavar="R", help="run only these recipes, of the file or built in")
    add("--learning_rates", nargs="+", type=float, metavar="LR", help="peak learning rates that every recipe tries")
    add("--seeds", nargs="+", type=int, metavar="S", help="seeds of initial weights and data order")
    add("--max_steps", type=int, metavar="N", help="updates of each run")
    add("--threads", type=int, metavar="N", help="CPU threads of each run")
    add("--name_or_path", metavar="M", help="checkpoint to fine-tune: a name on the Hub, or a folder")
    add("--ignore_mismatched_sizes", action="store_true", default=None, help=rare("replace a head of other size"))
    add("--report_to", nargs="+", metavar="T", help="trackers: tensorboard, trackio, wandb")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any field, as training.adam_beta2=0.99")
    add("--parallel_runs", type=int, metavar="N", help="runs at a time; as many as fit if not given")
    add("--accelerate_config", metavar="C", help="in several processes: ddp, fsdp2, deepspeed_zero2, ... or a file")
    data = parser.add_argument_group("data").add_argument
    for name, text in DATA_FLAGS.items():
        data(f"--{name}", metavar="X", help=rare(text))
    data("--trainer", type=int, metavar="K", help=rare("which training to compare, if the script has several"))


def run(options: argparse.Namespace) -> int:
    """Train what is missing and write the report; returns the exit code."""
    from hf_radam.experiments.comparison import load_comparison

    named = options.script or options.module
    path = comparison_file(options.comparison or ("script" if named else "grammar"))
    name = path.stem if options.comparison or not named else Path(named.split()[0]).stem
    comparison = load_comparison(path, _overrides(options))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "hf-radam compare starts the processes of its runs by itself; start it without a launcher, with "
            "--accelerate_config NAME or a file"
        )
    from hf_radam.experiments.folder import in_turn
    from hf_radam.experiments.runs.sweep import sweep

    folder = options.output_dir or Path("runs") / name
    others = sweep(comparison, folder, options.parallel_runs, options.accelerate_config)
    if others:
        print(f"other jobs train the last {others} runs; the one that ends last writes the report")
    else:
        with in_turn(folder):
            write_report_of(folder)
    return 0


def comparison_file(given: str) -> Path:
    """A file, or the one in the package that has this name."""
    named = CONFIGS / f"{given}.yaml"
    if Path(given).is_file() or not named.is_file():
        if Path(given).suffix or Path(given).exists():
            return Path(given)
        near = closest(given, [path.stem for path in CONFIGS.glob("*.yaml")])
        raise UserError(f"no comparison {given!r}{near}; give a YAML file, or a name of `hf-radam configs`")
    return named


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What replaces fields of the comparison: flags, and what --set says."""
    from hf_radam.experiments.schema import read_yaml

    found: dict[str, Any] = {"data": {}, "model": {}, "training": {}}
    for text in options.set:
        key, equals, value = text.partition("=")
        part, dot, name = key.rpartition(".")
        if not equals or (dot and part not in found):
            near = closest(part, found) if dot else ""
            raise UserError(f"--set takes KEY=VALUE, KEY a field, data.X, model.X or training.X; got {text!r}{near}")
        (found[part] if dot else found)[name] = read_yaml(value, f"--set {text}")
    given = {name: value for name, value in vars(options).items() if value is not None}
    for name in ("recipes", "learning_rates", "seeds", "max_steps", "threads"):
        if name in given:
            found[name] = given[name]
    found["data"].update({name: given[name] for name in (*DATA_FLAGS, "script", "module", "trainer") if name in given})
    if options.arguments is not None:
        found["data"]["arguments"] = shlex.join(options.arguments)
    if not options.comparison and (script := options.script or options.module):
        found.setdefault("name", f"Can warmup go in {Path(script).name}?")
    found["model"].update({name: given[name] for name in ("name_or_path", "ignore_mismatched_sizes") if name in given})
    found["training"].update({name: given[name] for name in ("report_to",) if name in given})
    return found


def configs(options: argparse.Namespace) -> int:
    """List the comparisons that come with the package, or print one; returns the exit code."""
    if options.name:
        print(comparison_file(options.name).read_text(encoding="utf-8"), end="")
        return 0
    rows = [("name", "task", "a run, on a core", "data")]
    for path in sorted(CONFIGS.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        data, _, time = text.partition("\n")[0].removeprefix("# ").partition(" | a run: ")
        rows.append((path.stem, *re.findall("^task: (.*)", text, re.MULTILINE), time, data))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def report(options: argparse.Namespace) -> int:
    """Write the report of a results folder again; returns the exit code."""
    write_report_of(options.runs_dir, options.output_dir)
    return 0


def write_report_of(folder: Path, output_dir: Path | None = None) -> None:
    """Write the report of a results folder, and print what it found."""
    from hf_radam.experiments.report.report import to_terminal, write_report

    print(to_terminal(write_report(folder, output_dir), folder, output_dir))
