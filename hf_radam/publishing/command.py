"""`publish`: a results folder to the Hub, as one function; nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

TEMPLATE = Path(__file__).with_name("template.md")
EXAMPLES = """\
examples:
  hf-radam publish runs/grammar --repo_id me/radam-vs-adam --dry_run
  hf-radam publish runs/grammar --repo_id me/radam-vs-adam --recipe radam --private
  hf-radam publish runs/grammar --repo_id me/radam-records --repo_type dataset --yes

What is to be uploaded is first written to RUNS_DIR/hub/REPO_TYPE, searched for tokens, names and paths, and listed.
Of this folder an earlier bundle is replaced, and nothing else. If the job is killed, run the same command again.
"""


def add_arguments(parser: argparse.ArgumentParser, rare: Callable[[str], str]) -> None:
    """The options of `run`; `rare` hides the help of those that few need, unless all is asked for."""
    parser.usage = "%(prog)s RUNS_DIR --repo_id REPO [options]"
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("runs_dir", type=Path, metavar="RUNS_DIR", help="results folder of a comparison")
    add("--help_all", action="help", help="show the rarer options as well, and quit")
    add("--repo_id", required=True, metavar="REPO", help="namespace/name on the Hub")
    add("--repo_type", choices=("model", "dataset", "space"), default="model", metavar="TYPE",
        help="model (weights; if not given), dataset (records) or space (the page)")  # fmt: skip
    add("--recipe", metavar="R", help="whose best run gives the weights; the best recipe's if not given")
    add("--no_weights", action="store_true", help="a model repo without weights")
    add("--private", action="store_true", help="make the repo private")
    add("--dry_run", action="store_true", help="write and list what would be uploaded, and ask the Hub nothing")
    add("--yes", action="store_true", help="upload without asking; needed where there is no terminal")
    add("--output_dir", type=Path, metavar="DIR", help="where to write it: new, empty, or an earlier bundle")
    add = parser.add_argument_group("rarer options").add_argument
    add("--license", default="apache-2.0", metavar="L", help=rare("in the card's metadata; apache-2.0 if not given"))
    add("--base_model", metavar="M", help=rare("checkpoint that was fine-tuned, by its name on the Hub"))
    add("--also", nargs="+", default=[], metavar="REPO", help=rare("link these: me/model, datasets/me/records"))
    add("--revision", metavar="R", help=rare("branch to commit to, made if missing; main if not given"))
    add("--create_pr", action="store_true", help=rare("open a pull request instead of committing, or continue it"))
    add("--collection", metavar="C", help=rare("slug, or title of one of yours, to put the repo in; made if missing"))
    add("--allow", nargs="+", default=[], metavar="TEXT", help=rare("no leak, though it looks like a name or a path"))
    add("--timeout", type=float, default=60.0, metavar="S", help=rare("seconds of silence until a request fails; 60"))
    add("--commit_message", default="Publish the comparison", metavar="TEXT", help=rare("of the commit"))
    add("--template", type=Path, default=TEMPLATE, metavar="FILE", help=rare("of the card, in Jinja"))


def run(options: argparse.Namespace) -> int:
    """Write, check, list and upload a publication; returns the exit code.

    Raises:
        UserError: the user's fault.
        NetworkError: the network's or the Hub's fault.
    """
    from hf_radam.publishing.bundle import Choice, build, describe
    from hf_radam.publishing.hub import Target, limit_waiting, look, publish
    from hf_radam.publishing.privacy import refuse_leaks

    target = Target(
        repo_id=options.repo_id,
        repo_type=options.repo_type,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        collection=options.collection,
    )
    choice = Choice(
        repo_id=options.repo_id,
        repo_type=options.repo_type,
        recipe=options.recipe,
        with_weights=not options.no_weights,
        license=options.license,
        base_model=options.base_model,
        also=options.also,
    )
    folder = options.output_dir or options.runs_dir / "hub" / options.repo_type
    card = build(options.runs_dir, folder, choice, options.template.read_text(encoding="utf-8"))
    refuse_leaks(folder, public=[options.repo_id, *options.also, *options.allow])
    print(f"{describe(folder)}\n\ncard: {card}\nto:   {options.repo_type} {options.repo_id}")
    if options.dry_run or not (options.yes or sys.stdin.isatty()):
        print("nothing was uploaded" + ("" if options.dry_run else "; give --yes to upload"))
        return 0
    limit_waiting(options.timeout)
    plan = look(folder, target, options.commit_message)
    if plan.deleted:
        print("\n".join(["to be deleted there:", *(f"  {path}" for path in plan.deleted)]))
    if not (options.yes or _agreed()):
        print("nothing was uploaded")
        return 0
    done = publish(folder, target, options.commit_message, plan)
    print(f"{done.pull_request or done.url} {'is up to date' if done.changed else 'held all of this already'}")
    return 0


def _agreed() -> bool:
    try:
        return input("upload? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        print()
        return False
