"""The files of a results folder: whose results it holds, and which job trains which run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import TypeAdapter
from typing_extensions import NotRequired, TypedDict

from hf_radam.experiments.comparison import Comparison, Run
from hf_radam.experiments.schema import UserError, why
from hf_radam.files import write_whole

_LOCKS = ".locks"
# In the folder of a run: what is asked, that it has begun, what is told, what was found, and what was printed.
ASKED, BEGUN, MESSAGES, RECORDING, LOG = "request.json", "begun", "messages.jsonl", "recording.json", "log.txt"
# What our scripts write by `save_metrics("data", ...)`: facts about the data, the metric, the unit of the loss.
FACTS = "data_results.json"


class _Description(TypedDict):
    """What comparison.json holds; files of earlier versions do not say which runs were asked for."""

    name: str
    shared: dict[str, Any]
    data: str
    target_loss: int | float | None
    asked: NotRequired[list[str]]
    recipes: dict[str, dict[str, Any]]


_DESCRIPTION = TypeAdapter(_Description)


def run_folder(folder: Path, run: Run) -> Path:
    """Where a run trains."""
    return folder / "runs" / run.id


def log_path(folder: Path, run: Run) -> Path:
    """Where lies what a run prints."""
    return run_folder(folder, run) / LOG


def record_path(folder: Path, run: Run) -> Path:
    """Where the record of a run lies, once there is one."""
    return folder / "records" / f"{run.id}.json"


def in_turn(folder: Path) -> FileLock:
    """For a moment only: what jobs in one folder do one after the other."""
    return FileLock(folder / _LOCKS / "folder")


@contextmanager
def claim(folder: Path, comparison: Comparison, fingerprint: str) -> Iterator[None]:
    """Be one of the jobs that work in a folder, as long as the block lasts, and write down whose results it holds.

    The fingerprint is that of the text. Locks are the operating system's, so that nothing of them is left after
    SIGKILL. Reading takes none.

    Raises:
        UserError: it holds results of something else, or another job works there on something else.
    """
    (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
    with in_turn(folder):
        others = any(_is_held(path) for path in (folder / _LOCKS).glob("job-*"))
        earlier = check_folder(folder, comparison, fingerprint, others)
        recipes = {recipe.name: recipe.definition() for recipe in comparison.recipes}
        content = {
            "name": comparison.name,
            "shared": comparison.shared(),
            "data": fingerprint,
            "target_loss": comparison.target_loss,
            "asked": sorted({*earlier.get("asked", []), *(run.id for run in comparison.runs())}),
            "recipes": {**earlier.get("recipes", {}), **recipes},
        }
        write_whole(folder / "comparison.json", json.dumps(content, indent=2) + "\n")
        ours = FileLock(folder / _LOCKS / f"job-{uuid4().hex}")
        ours.acquire()
    try:
        yield
    finally:
        ours.release()
        Path(ours.lock_file).unlink()


def _is_held(path: Path) -> bool:
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True


def hold(folder: Path, run: Run) -> FileLock | None:
    """Have a run for oneself until the lock is released; None where another job has it, or it has its record."""
    lock = FileLock(folder / _LOCKS / run.id, blocking=False)
    with suppress(Timeout):
        lock.acquire()
        if not record_path(folder, run).is_file():
            return lock
        lock.release()
    return None


def remove_checkpoints(folder: Path, run: Run) -> None:
    """Drop what a run that has its record needs no more; another job may be at it too."""
    model = run_folder(folder, run) / "model"
    for path in (*model.glob("checkpoint-*"), *model.glob("training-*/checkpoint-*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    # A pickle that names folders of this machine, and numbers that the record holds.
    for name in ("training_args.bin", FACTS, "test_results.json"):
        (model / name).unlink(missing_ok=True)


def check_folder(
    folder: Path, comparison: Comparison, fingerprint: str | None = None, others: bool = False
) -> dict[str, Any]:
    """Refuse a folder that is a file, or holds other files, another comparison, or results on another text.

    Without a fingerprint no text is compared. Returns its `comparison.json`, or {} where that binds nobody: a job has
    stopped before its first result, and no others work.
    """
    description = folder / "comparison.json"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give --output_dir a folder")
    if not description.is_file():
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise UserError(f"{folder} holds other files and no comparison; give --output_dir an empty or new folder")
        return {}
    if not others and not any((folder / "records").glob("*.json")):
        return {}
    earlier = read_comparison(folder)
    shared, before = comparison.shared(), earlier["shared"]
    known = [recipe for recipe in comparison.recipes if recipe.name in earlier["recipes"]]
    recipes = [(recipe.name, earlier["recipes"][recipe.name], recipe.definition()) for recipe in known]
    settings = [(key, before.get(key), shared.get(key)) for key in {**before, **shared}]
    for key, was, now in [*settings, *recipes]:
        if was != now:
            raise UserError(
                f"{folder} holds results of another comparison: {key} was {was!r} and is now {now!r}; give "
                "--output_dir a new folder, or a changed recipe a new name"
            )
    of_earlier_version = (fingerprint or "").startswith("files:") and ":" not in earlier["data"]
    if fingerprint not in (None, earlier["data"]) and not of_earlier_version:
        raise UserError(
            f"{folder} holds results on another text or checkpoint, or of another script; give --output_dir a new "
            "folder"
        )
    return earlier


def read_comparison(folder: Path) -> dict[str, Any]:
    """The content of comparison.json; a UserError if it is missing or damaged."""
    path = folder / "comparison.json"
    try:
        return dict(_DESCRIPTION.validate_json(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} is no results folder: {path} is missing or damaged ({why(error)}); name a folder of hf-radam "
            "compare"
        ) from error
