"""`hf-radam`, or `python -m hf_radam`: every command. Only the standard library is imported until one of them runs."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from hf_radam.errors import NetworkError, UserError
from hf_radam.files import is_full_disk
from hf_radam.publishing.command import add_arguments as add_publish
from hf_radam.publishing.command import run as publish
from hf_radam.training.advice import advise_command
from hf_radam.training.launch import accelerate_launcher, run_script

CONFIGS = Path(str(files("hf_radam"))) / "experiments" / "configs"

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
    "metric": "what runs are judged by, where the task leaves a choice",
}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Epilogs as they are written, and an option and its help on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


class _Parser(argparse.ArgumentParser):
    """No abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": _Help, **kwargs})

    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for the network's fault, 2 for the user's, 130 for Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv[:1] == ["run"]:  # all that follows belongs to the script
            return run_script(argv[1:])
        if argv[:1] == ["advise"]:
            return _advise(argv[1:])
        parser, commands = _parser(everything="--help_all" in argv)
        own = argv[argv.index("--") + 1 :] if argv[:1] == ["compare"] and "--" in argv else None
        argv = argv if own is None else argv[: argv.index("--")]
        if argv and not argv[0].startswith("-") and argv[0] not in commands:
            parser.error(f"unknown command {argv[0]!r}{_closest(argv[0], commands)}")
        options, unknown = parser.parse_known_args(argv)
        if unknown:
            command = commands[options.command]
            near = _closest(unknown[0].partition("=")[0], command._option_string_actions)
            command.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        options.argv, options.arguments = argv, own
        return options.work(options)
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to go on")
        return 130
    except (UserError, NetworkError, OSError) as error:  # any other is a bug, and keeps its traceback
        _say(f"error: {error}{_remedy(error)}")
        return 1 if isinstance(error, NetworkError) else 2


def _remedy(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "; name a folder that you may write to"
    return "; make room and run the same command again" if is_full_disk(error) else ""


def _say(line: str) -> None:
    """One line on stderr, however many processes there are."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(line, file=sys.stderr)


def _closest(given: str, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(valid), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _parser(everything: bool) -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    """The parser and those of its commands; the help of rare options is hidden, unless `everything` is asked for."""
    parser = _Parser(
        prog="hf-radam",
        description="Rectified Adam for Transformers: optimizers, comparisons, reports, cards, checkpoints.",
        epilog="examples:\n  hf-radam compare\n  hf-radam compare grammar_map --seeds 0 1 2\n"
        "  hf-radam report runs/grammar\n  hf-radam run train.py --optim radam\n",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    made: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, work: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        made[name] = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made[name].set_defaults(work=work)
        return made[name]

    def rare(text: str) -> str:
        return text if everything else argparse.SUPPRESS

    _add_compare(command("compare", _compare, "train every recipe of a comparison and write the report"), rare)
    configs = command("configs", _configs, "list the comparisons that come with the package, or print one")
    configs.add_argument("name", nargs="?", help="the one to print")
    report = command("report", _report, "write the report of a results folder again")
    report.add_argument("runs_dir", type=Path, help="results folder of a comparison")
    report.add_argument("--output_dir", type=Path, help="where to write; the results folder if not given")
    add_publish(command("publish", publish, "put a comparison on the Hub"), rare)
    command("optimizers", _optimizers, "list the optimizers that --optim and a recipe may name")
    commands.add_parser("advise", help="say what RAdam's start-up costs a training of some length")
    commands.add_parser("run", help="run a training script in which every name is an --optim")
    checkpoint = command("checkpoint", _inspect, "inspect or consolidate the optimizer state of a checkpoint")
    actions = checkpoint.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)
    inspect = actions.add_parser("inspect", help="print format, groups, step and state")
    consolidate = actions.add_parser("consolidate", help="write one optimizer.pt that a single process loads")
    for action in (inspect, consolidate):
        action.add_argument("checkpoint", type=Path, metavar="CKPT", help="folder of a checkpoint, or its optimizer")
    consolidate.add_argument("out", type=Path, metavar="OUT", help="file to write; must not exist")
    consolidate.set_defaults(work=_consolidate)
    return parser, made


def _add_compare(parser: argparse.ArgumentParser, rare: Callable[[str], str]) -> None:
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
    add(
        "--script",
        metavar="X",
        help="compare in a training script, or a command such as 'trl sft'; its arguments: -- ...",
    )
    add("--module", metavar="X", help=rare("likewise, in a module"))
    add("--recipes", nargs="+", metavar="R", help="run only these recipes, of the file or built in")
    add("--learning_rates", nargs="+", type=float, metavar="LR", help="peak learning rates that every recipe tries")
    add("--seeds", nargs="+", type=int, metavar="S", help="seeds of initial weights and data order")
    add("--max_steps", type=int, metavar="N", help="updates of each run")
    add("--threads", type=int, metavar="N", help="CPU threads of each run")
    add("--name_or_path", metavar="M", help="checkpoint to fine-tune: a name on the Hub, or a folder")
    add("--report_to", nargs="+", metavar="T", help="trackers: tensorboard, trackio, wandb")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any field, as training.adam_beta2=0.99")
    add("--parallel_runs", type=int, metavar="N", help="runs at a time; as many as fit if not given")
    add("--part", type=_part, metavar="K/N", help="every N-th run from the K-th on; parts share --output_dir")
    add("--accelerate_config", metavar="C", help="in several processes: ddp, fsdp2, deepspeed_zero2, ... or a file")
    data = parser.add_argument_group("data").add_argument
    for name, text in DATA_FLAGS.items():
        data(f"--{name}", metavar="X", help=rare(text))
    data("--trainer", type=int, metavar="K", help=rare("which training of a script is compared, where it has several"))


def _part(text: str) -> tuple[int, int]:
    """3/8 as (3, 8)."""
    first, _, count = text.partition("/")
    if not (first.isdigit() and count.isdigit()):
        raise argparse.ArgumentTypeError(f"must be K/N, such as 3/8, got {text!r}")
    return int(first), int(count)


def _compare(options: argparse.Namespace) -> int:
    from hf_radam.experiments.comparison import load_comparison

    named = options.script or options.module
    path = _comparison_file(options.comparison or ("script" if named else "grammar"))
    name = path.stem if options.comparison or not named else Path(named.split()[0]).stem
    comparison = load_comparison(path, _overrides(options))
    if (
        options.accelerate_config and comparison.task != "script"
    ):  # this command in its processes, where the flag is empty
        command = [*accelerate_launcher(options.accelerate_config), "-m", "hf_radam", *options.argv]
        return subprocess.run([*command, "--accelerate_config="]).returncode
    from accelerate import PartialState
    from transformers.utils import logging

    from hf_radam.experiments.runs.sweep import sweep

    logging.disable_progress_bar()  # those of writing files; the bars of training are others
    folder = options.output_dir or Path("runs") / name
    try:
        complete = sweep(comparison, folder, options.parallel_runs, options.part, options.accelerate_config or None)
        if PartialState().is_main_process and (complete or options.part is None):
            _write_report(folder)
    finally:
        if PartialState._shared_state and PartialState().num_processes > 1:
            PartialState().destroy_process_group()
    return 0


def _comparison_file(given: str) -> Path:
    """A file, or the one in the package that has this name."""
    named = CONFIGS / f"{given}.yaml"
    if Path(given).is_file() or not named.is_file():
        if Path(given).suffix or Path(given).exists():
            return Path(given)
        near = _closest(given, [path.stem for path in CONFIGS.glob("*.yaml")])
        raise UserError(f"no comparison {given!r}{near}; give a YAML file, or a name of `hf-radam configs`")
    return named


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What replaces fields of the comparison: flags, and what --set says."""
    from hf_radam.experiments.comparison import read_value

    found: dict[str, Any] = {"data": {}, "model": {}, "training": {}}
    for text in options.set:
        key, equals, value = text.partition("=")
        part, dot, name = key.rpartition(".")
        if not equals or (dot and part not in found):
            near = _closest(part, found) if dot else ""
            raise UserError(f"--set takes KEY=VALUE, KEY a field, data.X, model.X or training.X; got {text!r}{near}")
        (found[part] if dot else found)[name] = read_value(value)
    given = {name: value for name, value in vars(options).items() if value is not None}
    for name in ("recipes", "learning_rates", "seeds", "max_steps", "threads"):
        if name in given:
            found[name] = given[name]
    found["data"].update({name: given[name] for name in (*DATA_FLAGS, "script", "module", "trainer") if name in given})
    if options.arguments is not None:
        found["data"]["arguments"] = shlex.join(options.arguments)
    if not options.comparison and (script := options.script or options.module):
        found.setdefault("name", f"Can warmup go in {Path(script).name}?")
    found["model"].update({name: given[name] for name in ("name_or_path",) if name in given})
    found["training"].update({name: given[name] for name in ("report_to",) if name in given})
    return found


def _configs(options: argparse.Namespace) -> int:
    if options.name:
        path = _comparison_file(options.name)
        print(path.read_text(encoding="utf-8"), end="")
        return 0
    paths = sorted(CONFIGS.glob("*.yaml"))
    width = max(len(path.stem) for path in paths)
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = " ".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line[:1] == "#", lines))
        print(f"{path.stem:<{width}}  {textwrap.shorten(comment.split('. ')[0], 92, placeholder=' ...')}")
    return 0


def _report(options: argparse.Namespace) -> int:
    _write_report(options.runs_dir, options.output_dir)
    return 0


def _write_report(folder: Path, output_dir: Path | None = None) -> None:
    """Write the report of a results folder, and print what it found."""
    from hf_radam.experiments.report.report import make_report, write_report
    from hf_radam.experiments.report.writers import to_terminal
    from hf_radam.experiments.results import Results

    path = write_report(folder, output_dir)
    print(to_terminal(make_report(Results.load(folder)), path.parent))


def _optimizers(options: argparse.Namespace) -> int:
    from hf_radam.registry import get_optimizer, list_optimizers

    rows = [("name", "without warmup", "description", "reference")]
    for name in list_optimizers():
        spec = get_optimizer(name)
        rows.append((name, "yes" if spec.warmup_free else "no", spec.description, spec.reference))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _advise(argv: list[str]) -> int:
    try:
        return advise_command(argv)
    except ValueError as error:
        raise UserError(str(error)) from error


def _inspect(options: argparse.Namespace) -> int:
    from hf_radam.checkpoints.describe import describe

    print(describe(options.checkpoint))
    return 0


def _consolidate(options: argparse.Namespace) -> int:
    from hf_radam.checkpoints.describe import write

    print(write(options.checkpoint, options.out))
    return 0
