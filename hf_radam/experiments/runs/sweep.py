"""All runs of a comparison; finished ones are skipped, broken ones resumed, those of other jobs left to them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.utils import logging

from hf_radam.experiments.comparison import Comparison, Run
from hf_radam.experiments.folder import check_folder, claim, hold, in_turn, is_free, record_path, remove_checkpoints
from hf_radam.experiments.records import Record
from hf_radam.experiments.runs import script
from hf_radam.experiments.runs.launching import LOG, launch
from hf_radam.experiments.runs.progress import Progress
from hf_radam.experiments.runs.run import train_and_record, training_arguments
from hf_radam.experiments.runs.workers import Tell, as_many_as_fit, import_ahead, in_parallel
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import Task, task_class
from hf_radam.experiments.tasks.script import ScriptTask

_SHORT = 200
"""Updates of a run that take no longer, in a small model, than the start of a process."""


def sweep(
    comparison: Comparison, folder: Path, parallel_runs: int | None = None, accelerate_config: str | None = None
) -> int:
    """Train whatever has no record yet, and write one record a run under `folder/records`.

    Killed at any moment and started again, it goes on where it was. Started several times on one folder, each job
    takes the next run that no other has.

    Args:
        comparison: what to run.
        folder: results; made if missing. More recipes, learning rates or seeds may be added to it later, but not runs
            of another comparison.
        parallel_runs: how many runs at a time, each in a process of its own, on its own GPU or cores. None for as many
            as GPUs, or cores, and free memory allow; 1 if the runs are short or a launcher gives each several
            processes. Records are those of a sequential job, up to rounding if `comparison.threads` is not set: the
            runs then share the cores.
        accelerate_config: of the processes of each run of a script; other tasks find theirs around them.

    Returns:
        How many runs other jobs are still training; of several jobs the last to end finds 0.

    Raises:
        UserError: bad input, or the folder belongs to another comparison; no result has been changed then. Also for a
            run that failed in a process of its own.
    """
    state = _process_state(comparison)
    if state.num_processes > 1 and parallel_runs is None:
        parallel_runs = 1
    is_script = comparison.task == "script"
    if is_script and state.num_processes > 1:
        raise UserError("a script is not compared under a launcher; give its configuration: --accelerate_config FILE")
    if parallel_runs is not None and (parallel_runs < 1 or (parallel_runs > 1 and state.num_processes > 1)):
        raise UserError(
            f"parallel_runs must be >= 1, and 1 where a launcher gives each run several processes, got {parallel_runs} "
            f"with {state.num_processes} process(es)"
        )
    runs = comparison.runs()
    check_folder(folder, comparison)
    for run in runs:  # all of them now, so that a slip in the last recipe does not cost hours
        if record_path(folder, run).is_file():
            Record.load(record_path(folder, run))
        elif is_script:
            script.arguments(run, folder / "runs" / run.id)
        else:
            training_arguments(run, folder / "runs" / run.id, state.num_processes)
    task = task_class(comparison.task)(comparison)
    check_folder(folder, comparison, task.fingerprint)
    started_by = script.command(task, accelerate_config) if isinstance(task, ScriptTask) else []
    state.wait_for_everyone()  # all processes have looked before one writes
    with claim(folder, comparison, task.fingerprint) if state.is_main_process else nullcontext():
        missing = [run for run in runs if not record_path(folder, run).is_file()]
        if isinstance(task, ScriptTask):
            jobs = script.jobs(missing, task, folder, started_by)
            parallel_runs = min(parallel_runs or 1, max(1, len(missing)))
            work = partial(launch, jobs, task, folder)
        else:
            if parallel_runs is None and sum(run.max_steps for run in missing) <= _SHORT * len(missing):
                parallel_runs = 1
            if parallel_runs != 1 and len(missing) > 1:
                import_ahead([__name__, type(task).__module__])
            with state.main_process_first(), in_turn(folder):
                task.prepare(cache_dir=folder)
            parallel_runs = min(parallel_runs or as_many_as_fit(comparison.threads), max(1, len(missing)))
            work = partial(_finish_alone if parallel_runs > 1 else _finish, task, folder)
        with Progress(missing, silent=not state.is_main_process) as progress:
            progress.say(f"{len(missing)} of {len(runs)} runs to do, {parallel_runs} at a time")
            log = lambda run: folder / "runs" / run.id / LOG  # noqa: E731
            found = True
            while found:  # once more after each round: a job that died has freed its runs
                found = False
                if parallel_runs > 1 or is_script:
                    free = (run for run in runs if is_free(folder, run))
                    done = in_parallel(work, free, parallel_runs, log, progress.update)
                else:
                    done = _one_by_one(work, runs, folder, progress)
                with closing(done):
                    for run in done:
                        found = True
                        if state.is_main_process:
                            progress.finish(run, Record.load(record_path(folder, run)))
        state.wait_for_everyone()
        if state.is_main_process:
            for run in runs:  # killed between its record and the end of its checkpoints
                for place in (folder / "runs" / run.id, folder / "runs" / run.id / "model"):
                    if record_path(folder, run).is_file():
                        remove_checkpoints(place)
    return sum(not record_path(folder, run).is_file() for run in runs)


def _one_by_one(
    work: Callable[[Run, Tell], Any], runs: Sequence[Run], folder: Path, progress: Progress
) -> Generator[Run, None, None]:
    """`in_parallel` in this process, or in those of a launch, of which the main one asks for each run."""
    for run in runs:
        with hold(folder, run) if PartialState().is_main_process else nullcontext(False) as ours:
            (ours,) = broadcast_object_list([ours])
            if ours:
                work(run, partial(progress.update, run))
        if ours:
            yield run


def _process_state(comparison: Comparison) -> PartialState:
    # Where there is no accelerator several processes find each other only if told to use the CPU.
    state = PartialState(cpu=not torch.accelerator.is_available())
    if comparison.threads is not None:
        torch.set_num_threads(comparison.threads)
    return state


def _finish(task: Task, folder: Path, run: Run, tell: Tell) -> None:
    """Train a run, write its record, and drop its checkpoints."""
    record = train_and_record(run, task, folder / "runs" / run.id, tell)
    if record is not None:
        record.save(record_path(folder, run))
        remove_checkpoints(folder / "runs" / run.id)


def _finish_alone(task: Task, folder: Path, run: Run, tell: Tell) -> bool:
    """`_finish` in a process of its own, unless another job has the run; whether it was ours."""
    logging.disable_progress_bar()  # those of writing files; the parent has a bar for all
    _process_state(run.comparison)
    with hold(folder, run) as ours:
        if ours:
            _finish(task, folder, run, tell)
        return ours
