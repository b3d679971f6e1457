"""`hf-radam`, or `python -m hf_radam`: every command. Only the standard library is imported until one of them runs."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hf_radam import __version__
from hf_radam.errors import NetworkError, UserError, closest
from hf_radam.experiments import command as compare
from hf_radam.files import is_full_disk
from hf_radam.training import advice
from hf_radam.training.launch import run_script

# Packages of the extra `compare`; without them these commands would train first and fail then.
COMPARE = ("datasets", "pandas", "PIL", "pydantic", "sacrebleu", "scipy", "sklearn", "vl_convert")
# Optimizers of the paper's ablations, and references.
ABLATIONS = ("radam_no_sgd", "radam_torch", "adam_2k", "adam_eps")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Epilogs as they are written, and an option and its help on one line."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32)


class _Parser(argparse.ArgumentParser):
    """No abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": _formatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for the network's fault, 2 for the user's, 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 lacks the sign of plus and minus
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to go on")
        return 130
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a full disk is an Exception or RuntimeError to tokenizers and torch.save
        if not isinstance(error, (UserError, NetworkError, OSError)) and not is_full_disk(error):
            raise  # a bug, which keeps its traceback
        _say(f"error: {error}{_remedy(error)}")
        return 1 if isinstance(error, NetworkError) else 2


def _run(argv: list[str]) -> int:
    if argv[:1] == ["run"]:  # all that follows belongs to the script
        return run_script(argv[1:])
    parser = _parser()
    if not argv:
        parser.print_help()
        return 0
    end = argv.index("--") if argv[0] == "compare" and "--" in argv else len(argv)
    options, unknown = parser.parse_known_args(argv[:end])
    if unknown:
        near = closest(unknown[0].partition("=")[0], options.parser._option_string_actions)
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
    options.arguments = argv[end + 1 :]
    needed = COMPARE if options.command in ("compare", "report", "publish") else ()
    if lacking := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise UserError(f"this command needs {', '.join(lacking)}: pip install 'hf_radam[compare]'")
    if options.command in ("report", "publish") and not (options.runs_dir / "comparison.json").is_file():
        raise UserError(f"no results in {options.runs_dir}/")
    return options.work(options)


def _remedy(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "; name a folder that you may write to"
    return "; make room and run the same command again" if is_full_disk(error) else ""


def _say(line: str) -> None:
    """One line on stderr, however many processes there are."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(line, file=sys.stderr)


def _parser() -> _Parser:
    parser = _Parser(
        prog="hf-radam",
        description="Rectified Adam for Transformers: optimizers, comparisons, reports, cards, checkpoints.",
        epilog="examples:\n  hf-radam compare\n  hf-radam compare grammar_map --seeds 0 1 2\n"
        "  hf-radam report runs/grammar\n  hf-radam run train.py --optim radam\n",
    )
    parser.add_argument("--version", action="version", version=f"hf_radam {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, work: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.set_defaults(work=work, parser=made)
        return made

    compare.add_arguments(command("compare", compare.run, "train every recipe of a comparison and write the report"))
    configs = command("configs", compare.configs, "list the comparisons that come with the package, or print one")
    configs.add_argument("name", nargs="?", help="the one to print")
    report = command("report", compare.report, "write the report of a results folder again")
    report.add_argument("runs_dir", type=Path, help="results folder of a comparison")
    report.add_argument("--output_dir", type=Path, help="where to write; the results folder if not given")
    _publish_arguments(command("publish", _publish, "put a comparison on the Hub"))
    optimizers = command("optimizers", _optimizers, "list the optimizers that --optim and a recipe may name")
    optimizers.add_argument("--all", action="store_true", help="also the paper's ablations, and references")
    advice.add_arguments(command("advise", advice.run, "say what RAdam's start-up costs a training of some length"))
    run = commands.add_parser("run", help="run a training script that then knows every name as --optim")
    run.set_defaults(parser=run)
    checkpoint = command("checkpoint", _checkpoint, "inspect or consolidate the optimizer state of a checkpoint")
    actions = checkpoint.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)
    inspect = actions.add_parser("inspect", help="print format, groups, step and state")
    consolidate = actions.add_parser("consolidate", help="write one optimizer.pt that a single process loads")
    for action in (inspect, consolidate):
        action.add_argument("checkpoint", type=Path, metavar="CKPT", help="folder of a checkpoint, or its optimizer")
    consolidate.add_argument("out", type=Path, metavar="OUT", help="file to write; must not exist")
    return parser


def _optimizers(options: argparse.Namespace) -> int:
    from hf_radam.registry import get_optimizer, list_optimizers

    installed, missing = ["\ninstalled"], ["\nnot installed: pip install what follows the colon"]
    for spec in map(get_optimizer, list_optimizers()):
        line = f"  {spec.name:<21}  {spec.description}"
        if spec.name in ABLATIONS and not options.all:
            continue
        if spec.library and importlib.util.find_spec(spec.library) is None:
            missing.append(f"{line}: '{spec.extra}'")
        else:
            installed.append(line)
    print("Start with `radam`. Every RAdam (arXiv 1908.03265) is meant to run with warmup_steps=0.")
    print("\n".join([*installed, *missing]))
    return 0


def _checkpoint(options: argparse.Namespace) -> int:
    from hf_radam.checkpoints.describe import describe, write

    print(describe(options.checkpoint) if options.action == "inspect" else write(options.checkpoint, options.out))
    return 0


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s RUNS_DIR --repo_id REPO [options]"
    parser.epilog = (
        "examples:\n"
        "  hf-radam publish runs/grammar --repo_id me/radam-vs-adam --dry_run\n"
        "  hf-radam publish runs/grammar --repo_id me/radam-vs-adam --recipe radam --private\n"
        "  hf-radam publish runs/grammar --repo_id me/radam-records --repo_type dataset --yes\n\n"
        "The upload is first written to RUNS_DIR/hub/REPO_TYPE, searched for tokens, names and paths, and listed.\n"
        "An earlier bundle there is replaced. If the upload breaks off, run the same command again."
    )
    add = parser.add_argument
    add("runs_dir", type=Path, metavar="RUNS_DIR", help="results folder of a comparison")
    add("--repo_id", required=True, metavar="REPO", help="namespace/name on the Hub")
    add("--repo_type", choices=("model", "dataset", "space"), default="model", metavar="TYPE",
        help="model (weights; if not given), dataset (records) or space (the page)")  # fmt: skip
    add("--recipe", metavar="R", help="recipe whose best run gives the weights; the best recipe if not given")
    add("--no_weights", action="store_true", help="a model repo without weights")
    add("--private", action="store_true", help="make the repo private")
    add("--dry_run", action="store_true", help="write and list what would be uploaded, without the Hub")
    add("--yes", action="store_true", help="upload without asking; needed where there is no terminal")
    add("--license", default="apache-2.0", metavar="L", help="in the card's metadata; apache-2.0 if not given")
    add("--base_model", metavar="M", help="checkpoint that was fine-tuned, by its name on the Hub")
    add("--create_pr", action="store_true", help="open a pull request instead of committing")
    add("--allow", nargs="+", default=[], metavar="TEXT", help="text that looks private and may be published")


def _publish(options: argparse.Namespace) -> int:
    from hf_radam.publishing import bundle, privacy, upload
    from hf_radam.publishing.card import Choice

    same = ("repo_id", "repo_type", "recipe", "license", "base_model", "private", "create_pr")
    choice = Choice(**{name: getattr(options, name) for name in same}, with_weights=not options.no_weights)
    card = bundle.build(options.runs_dir, options.runs_dir / "hub" / options.repo_type, choice)
    folder = card.parent
    privacy.refuse_leaks(folder, public=[options.repo_id, *options.allow])
    print(f"{bundle.describe(folder)}\n\ncard: {card}\nto:   {options.repo_type} {options.repo_id}")
    if options.dry_run or not (options.yes or sys.stdin.isatty()):
        print("nothing was uploaded" + ("" if options.dry_run else "; give --yes to upload"))
        return 0
    deleted = upload.look(folder, choice)
    if deleted:
        print("\n".join(["to be deleted on the Hub:", *(f"  {path}" for path in deleted)]))
    if not (options.yes or _agreed()):
        print("nothing was uploaded")
        return 0
    address, changed = upload.publish(folder, choice, deleted)
    print(f"{address} {'is up to date' if changed else 'already has all of this'}")
    return 0


def _agreed() -> bool:
    try:
        return input("upload? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        print()
        return False
