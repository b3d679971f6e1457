"""All runs of a comparison; finished ones are skipped, broken ones resumed."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from hf_radam.experiments.config import Comparison, UserError
from hf_radam.experiments.records import Record, write_atomically
from hf_radam.experiments.run import train_and_record, training_arguments
from hf_radam.experiments.tasks.translation import TranslationTask

logger = logging.getLogger(__name__)


def sweep(comparison: Comparison, folder: Path) -> None:
    """Train whatever has no record yet, and write one record a run under `folder/records`.

    Killed at any moment and started again, it goes on where it was.

    Args:
        comparison: what to run.
        folder: results; made if missing. More recipes, learning rates or seeds may be added to it later, but not runs
            of another comparison.

    Raises:
        UserError: bad input, or the folder belongs to another comparison; nothing has been changed then.
    """
    # Where there is no accelerator several processes find each other only if told to use the CPU.
    state = PartialState(cpu=not torch.accelerator.is_available())
    if comparison.threads is not None:
        torch.set_num_threads(comparison.threads)
    _check_folder(comparison, folder)
    for run in comparison.runs():  # all of them now, so that the last recipe's typing error does not cost hours
        training_arguments(run, folder, state.num_processes)
    with state.main_process_first():
        task = TranslationTask(comparison, cache_dir=folder)
        _claim_folder(comparison, folder, task.fingerprint)
    runs = comparison.runs()
    records = {run.id: folder / "records" / f"{run.id}.json" for run in runs}
    finished = {run.id for run in runs if records[run.id].is_file()}
    state.wait_for_everyone()  # all processes have looked before one writes
    bar = tqdm(total=len(runs), initial=len(finished), unit="run", disable=not state.is_main_process)
    for number, run in enumerate(runs, start=1):
        bar.set_description(
            f"run {number} of {len(runs)}: {run.recipe.name}, lr {run.learning_rate:g}, seed {run.seed}"
        )
        if run.id in finished:
            Record.load(records[run.id])  # complain now, not after hours of training
            continue
        run_folder = folder / "runs" / run.id
        record = train_and_record(run, task, run_folder)
        if record is not None:
            record.save(records[run.id])
            for checkpoint in run_folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        bar.update()
    bar.close()
    state.wait_for_everyone()


def _check_folder(comparison: Comparison, folder: Path) -> None:
    """Refuse a folder with results of something else, before any text is read."""
    description = folder / "comparison.json"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give --output_dir a folder")
    if not description.is_file():
        if folder.is_dir() and any(path.name != ".gitignore" for path in folder.iterdir()):
            raise UserError(f"{folder} holds other files and no comparison; give --output_dir an empty or new folder")
        return
    try:
        earlier = json.loads(description.read_text(encoding="utf-8"))["shared"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{description} is damaged ({error!r}); give --output_dir a new folder") from error
    shared = comparison.shared()
    differing = [key for key in {**earlier, **shared} if earlier.get(key) != shared.get(key)]
    if differing:
        key = differing[0]
        raise UserError(
            f"{folder} holds results of another comparison: {key} was {earlier.get(key)!r} and is now "
            f"{shared.get(key)!r}; give --output_dir a new folder"
        )


def _claim_folder(comparison: Comparison, folder: Path, fingerprint: str) -> None:
    """Write down whose results the folder holds; refuse results on another text."""
    description = folder / "comparison.json"
    recipes: list[str] = []
    if description.is_file():
        earlier = json.loads(description.read_text(encoding="utf-8"))
        recipes = earlier["recipes"]
        if earlier["data"] != fingerprint:
            raise UserError(f"{folder} holds results on another text; give --output_dir a new folder")
    content = {
        "name": comparison.name,
        "shared": comparison.shared(),
        "data": fingerprint,
        "target_loss": comparison.target_loss,
        "recipes": list(dict.fromkeys([*recipes, *(recipe.name for recipe in comparison.recipes)])),
    }
    if PartialState().is_main_process:
        write_atomically(description, json.dumps(content, indent=2) + "\n")
