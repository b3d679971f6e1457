"""`publish`: a results folder to the Hub, as one function; nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
import sys
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("runs_dir", type=Path, help="results folder of a comparison")
    add("--repo_id", required=True, help="namespace/name on the Hub")
    add("--repo_type", choices=("model", "dataset", "space"), default="model", help="weights, records, or the page")
    add("--recipe", help="whose best run gives the weights; the best recipe's if not given")
    add("--no_weights", action="store_true", help="a model repo without weights")
    add("--license", default="apache-2.0", help="in the card's metadata; apache-2.0 if not given")
    add("--base_model", help="checkpoint that was fine-tuned, by its name on the Hub; records do not name local ones")
    add(
        "--also",
        nargs="+",
        default=[],
        metavar="REPO",
        help="link these: me/model, datasets/me/records, spaces/me/page",
    )
    add("--private", action="store_true", help="make the repo private")
    add("--revision", help="branch to commit to, made if missing; main if not given")
    add("--create_pr", action="store_true", help="open a pull request instead of committing, or continue it")
    add("--collection", help="slug, or title of one of yours, to put the repo in; made if missing")
    add("--dry_run", action="store_true", help="write and list what would be uploaded, and ask the Hub nothing")
    add("--yes", action="store_true", help="upload without asking; needed where there is no terminal")
    add("--allow", nargs="+", default=[], metavar="TEXT", help="no leak, though it looks like a name or a path")
    add("--timeout", type=float, default=60.0, help="seconds of silence until a request fails, 60 if not given")
    add("--commit_message", default="Publish the comparison", help="of the commit, or title of the pull request")
    add("--output_dir", type=Path, help="where to write it: new, empty, or an earlier bundle, which is replaced")
    add("--template", type=Path, default=TEMPLATE, help="of the card, in Jinja")


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
