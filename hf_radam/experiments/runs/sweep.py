"""All runs of a comparison; finished ones are skipped, broken ones resumed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm.auto import tqdm
from transformers.utils import logging

from hf_radam.experiments.comparison import Comparison, Run
from hf_radam.experiments.records import Record
from hf_radam.experiments.results import check_folder, claim
from hf_radam.experiments.runs.check import check
from hf_radam.experiments.runs.run import train_and_record, training_arguments
from hf_radam.experiments.runs.workers import in_parallel
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import Task, task_class


def sweep(comparison: Comparison, folder: Path, parallel_runs: int = 1, part: tuple[int, int] | None = None) -> bool:
    """Train whatever has no record yet, and write one record a run under `folder/records`.

    Killed at any moment and started again, it goes on where it was.

    Args:
        comparison: what to run.
        folder: results; made if missing. More recipes, learning rates or seeds may be added to it later, but not runs
            of another comparison.
        parallel_runs: how many runs at a time, each in a process of its own, on its own GPU or cores. Records are those
            of a sequential job, up to rounding if `comparison.threads` is not set: they then have fewer threads.
        part: (k, n) for every n-th run from the k-th on, so that n jobs do one sweep together in this folder.

    Returns:
        Whether every run of the comparison has its record now: of several parts, the last to end makes the report.

    Raises:
        UserError: bad input, another job holds the folder, or it belongs to another comparison; no result has been
            changed then. Also for a run that failed in a process of its own.
    """
    state = _process_state(comparison)
    if parallel_runs < 1 or (parallel_runs > 1 and state.num_processes > 1):
        raise UserError(
            f"parallel_runs must be >= 1, and 1 where a launcher gives each run several processes, got {parallel_runs} "
            f"with {state.num_processes} process(es)"
        )
    first, step = part or (1, 1)
    if not 1 <= first <= step:
        raise UserError(f"part must be K/N with 1 <= K <= N, got {first}/{step}")
    runs = comparison.runs()[first - 1 :: step]
    records = {run.id: folder / "records" / f"{run.id}.json" for run in runs}
    finished = {id for id, path in records.items() if path.is_file()}
    check_folder(folder, comparison)
    for run in runs:  # all of them now, so that a slip in the last recipe does not cost hours
        if run.id in finished:
            Record.load(records[run.id])
        else:
            training_arguments(run, folder / "runs" / run.id, state.num_processes)
    task = task_class(comparison.task)(comparison)
    check_folder(folder, comparison, task.fingerprint)
    state.wait_for_everyone()  # all processes have looked before one writes
    with claim(folder, comparison, task.fingerprint, part) if state.is_main_process else nullcontext():
        _finish_all(runs, task, folder, parallel_runs)
    return all((folder / "records" / f"{run.id}.json").is_file() for run in comparison.runs())


def _finish_all(runs: Sequence[Run], task: Task, folder: Path, parallel_runs: int) -> None:
    """Do what is missing in a folder that this job has claimed."""
    state = PartialState()
    finished = {run.id for run in runs if (folder / "records" / f"{run.id}.json").is_file()}
    state.wait_for_everyone()  # all processes have looked before one writes
    with state.main_process_first():
        task.prepare(cache_dir=folder)
    for run in {run.recipe.name: run for run in runs if run.id not in finished}.values():
        check(run, task, folder / "runs" / run.id)

    if state.is_main_process:
        for run in runs:  # killed between its record and the end of its checkpoints
            if run.id in finished:
                _remove_checkpoints(folder / "runs" / run.id)
    missing = [run for run in runs if run.id not in finished]
    with tqdm(total=len(runs), initial=len(finished), unit="run", disable=not state.is_main_process) as bar:
        if parallel_runs > 1:
            bar.set_description(f"{min(parallel_runs, len(missing))} runs at a time")
            for run in in_parallel(partial(_finish_alone, folder), missing, parallel_runs):
                bar.set_postfix_str(f"done: {run}")
                bar.update()
        else:
            for run in missing:
                bar.set_description(f"run {bar.n + 1} of {len(runs)}: {run}")
                _finish(run, task, folder)
                bar.update()
    state.wait_for_everyone()


def _process_state(comparison: Comparison) -> PartialState:
    # Where there is no accelerator several processes find each other only if told to use the CPU.
    state = PartialState(cpu=not torch.accelerator.is_available())
    if comparison.threads is not None:
        torch.set_num_threads(comparison.threads)
    return state


def _finish(run: Run, task: Task, folder: Path) -> None:
    """Train a run, write its record, and drop its checkpoints."""
    record = train_and_record(run, task, folder / "runs" / run.id)
    if record is not None:
        record.save(folder / "records" / f"{run.id}.json")
        _remove_checkpoints(folder / "runs" / run.id)


_tasks: dict[Path, Task] = {}


def _finish_alone(folder: Path, run: Run) -> None:
    """`_finish` in a process of its own, which reads the data before its first run."""
    if folder not in _tasks:
        logging.disable_progress_bar()  # those of writing files; the parent has a bar for all
        _process_state(run.comparison)
        _tasks[folder] = task_class(run.comparison.task)(run.comparison)
        _tasks[folder].prepare(cache_dir=folder)
    _finish(run, _tasks[folder], folder)


def _remove_checkpoints(folder: Path) -> None:
    for checkpoint in (*folder.glob("checkpoint-*"), *folder.glob("averages")):
        shutil.rmtree(checkpoint)
