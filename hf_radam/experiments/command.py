"""`compare`, `configs` and `report`: nothing heavy is imported before they run."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import Any

from hf_radam.errors import UserError, closest

CONFIGS = Path(__file__).parent / "configs"

# Fields of a comparison that have a flag of their name.
FIELDS = ("recipes", "learning_rates", "seeds", "max_steps", "threads")
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`; those that set a field of the comparison are kept under its name, as `--set` has it."""
    parser.usage = "%(prog)s [COMPARISON] [options] [-- ARGUMENTS OF THE SCRIPT]"
    parser.epilog = (
        "examples:\n  hf-radam compare                                    # grammar, the default\n"
        "  hf-radam compare my.yaml --seeds 0 1 2 --output_dir runs/mine\n"
        "  hf-radam compare --script run_glue.py --learning_rates 1e-5 3e-5 --seeds 0 1 2 -- --do_train ...\n\n"
        "If the job is killed, run the same command again: it does what is missing."
    )
    add = parser.add_argument
    add("comparison", nargs="?", metavar="COMPARISON",
        help="a YAML file, or a name of `hf-radam configs`; grammar if not given")  # fmt: skip
    add("--output_dir", type=Path, metavar="DIR", help="results folder; runs/NAME if not given")
    add("--recipes", nargs="+", metavar="R", help="run only these recipes, of the file or built in")
    add("--learning_rates", nargs="+", type=float, metavar="LR", help="peak learning rates that every recipe tries")
    add("--seeds", nargs="+", type=int, metavar="S", help="seeds of initial weights and data order")
    add("--max_steps", type=int, metavar="N", help="updates of each run")
    add("--threads", type=int, metavar="N", help="CPU threads of each run")
    add("--name_or_path", dest="model.name_or_path", metavar="M",
        help="checkpoint to fine-tune: a name on the Hub, or a folder")  # fmt: skip
    add("--ignore_mismatched_sizes", dest="model.ignore_mismatched_sizes", action="store_true", default=None,
        help="replace a head of other size")  # fmt: skip
    add("--report_to", dest="training.report_to", nargs="+", metavar="T", help="trackers: tensorboard, trackio, wandb")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any field, as training.adam_beta2=0.99")
    add("--parallel_runs", type=int, metavar="N", help="runs at a time; as many as fit if not given")
    add("--accelerate_config", metavar="C", help="in several processes: ddp, fsdp2, deepspeed_zero2, ... or a file")
    data = parser.add_argument_group("data").add_argument
    for name, text in DATA_FLAGS.items():
        data(f"--{name}", dest=f"data.{name}", metavar="X", help=text)
    script = parser.add_argument_group("a script of your own").add_argument
    script("--script", dest="data.script", metavar="X", help="a Python file, or a command such as 'trl sft'")
    script("--module", dest="data.module", metavar="X", help="likewise, in a module")
    script("--trainer", dest="data.trainer", type=int, metavar="K",
           help="which training to compare, if the script has several")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Train what is missing and write the report; returns the exit code."""
    from hf_radam.experiments.comparison import load_comparison

    given = _given(options)
    named = str(given["data"].get("script") or given["data"].get("module") or "")
    if named and not options.comparison:
        path, name = comparison_file("script"), Path(named.split()[0]).stem
        given.setdefault("name", f"Can warmup go in {Path(named).name}?")
    else:
        path = comparison_file(options.comparison or "grammar")
        name = path.stem
    comparison = load_comparison(path, given)
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


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of the comparison that --set and flags give."""
    from hf_radam.experiments.schema import read_yaml

    found: dict[str, Any] = {"data": {}, "model": {}, "training": {}}
    fields: dict[str, Any] = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        part, dot, _ = key.rpartition(".")
        if not equals or (dot and part not in found) or key in found:
            near = closest(part, found) if dot else ""
            raise UserError(f"--set takes KEY=VALUE, KEY a field, data.X, model.X or training.X; got {text!r}{near}")
        fields[key] = read_yaml(value, f"--set {text}")
    flags = {key: value for key, value in vars(options).items() if "." in key or key in FIELDS}
    fields.update({key: value for key, value in flags.items() if value is not None})
    if options.arguments:
        fields["data.arguments"] = shlex.join(options.arguments)
    for key, value in fields.items():
        part, dot, name = key.rpartition(".")
        (found[part] if dot else found)[name] = value
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
