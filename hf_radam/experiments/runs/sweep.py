"""All runs of a comparison; finished ones are skipped, broken ones resumed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from transformers.utils import logging

from hf_radam.experiments.comparison import Comparison, Run
from hf_radam.experiments.records import Record
from hf_radam.experiments.results import check_folder, claim
from hf_radam.experiments.runs import script
from hf_radam.experiments.runs.check import check
from hf_radam.experiments.runs.launching import LOG, Job, launch
from hf_radam.experiments.runs.progress import Progress
from hf_radam.experiments.runs.run import train_and_record, training_arguments
from hf_radam.experiments.runs.workers import Tell, as_many_as_fit, import_ahead, in_parallel
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import Task, task_class
from hf_radam.experiments.tasks.script import ScriptTask

_SHORT = 200
"""Updates of a run that take no longer, in a small model, than the start of a process."""


def sweep(
    comparison: Comparison,
    folder: Path,
    parallel_runs: int | None = None,
    part: tuple[int, int] | None = None,
    accelerate_config: str | None = None,
) -> bool:
    """Train whatever has no record yet, and write one record a run under `folder/records`.

    Killed at any moment and started again, it goes on where it was.

    Args:
        comparison: what to run.
        folder: results; made if missing. More recipes, learning rates or seeds may be added to it later, but not runs
            of another comparison.
        parallel_runs: how many runs at a time, each in a process of its own, on its own GPU or cores. None for as many
            as GPUs, or cores, and free memory allow; 1 if the runs are short or a launcher gives each several
            processes. Records are those of a sequential job, up to rounding if `comparison.threads` is not set: the
            runs then share the cores.
        part: (k, n) for every n-th run from the k-th on, so that n jobs do one sweep together in this folder.
        accelerate_config: of the processes of each run of a script; other tasks find theirs around them.

    Returns:
        Whether every run of the comparison has its record now: of several parts, the last to end makes the report.

    Raises:
        UserError: bad input, another job holds the folder, or it belongs to another comparison; no result has been
            changed then. Also for a run that failed in a process of its own.
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
        elif is_script:
            script.arguments(run, folder / "runs" / run.id)
        else:
            training_arguments(run, folder / "runs" / run.id, state.num_processes)
    task = task_class(comparison.task)(comparison)
    check_folder(folder, comparison, task.fingerprint)
    started_by = script.command(task, accelerate_config) if isinstance(task, ScriptTask) else []
    state.wait_for_everyone()  # all processes have looked before one writes
    with claim(folder, comparison, task.fingerprint, part) if state.is_main_process else nullcontext():
        if isinstance(task, ScriptTask):
            jobs = script.jobs([run for run in runs if run.id not in finished], task, folder, started_by)
            _finish_scripts(runs, task, jobs, folder, parallel_runs or 1)
        else:
            _finish_all(runs, task, folder, parallel_runs)
    return all((folder / "records" / f"{run.id}.json").is_file() for run in comparison.runs())


def _finish_all(runs: Sequence[Run], task: Task, folder: Path, parallel_runs: int | None) -> None:
    """Do what is missing in a folder that this job has claimed."""
    state = PartialState()
    finished = {run.id for run in runs if (folder / "records" / f"{run.id}.json").is_file()}
    missing = [run for run in runs if run.id not in finished]
    if parallel_runs is None and sum(run.max_steps for run in missing) <= _SHORT * len(missing):
        parallel_runs = 1
    if parallel_runs != 1 and len(missing) > 1:
        import_ahead([__name__, type(task).__module__])
    state.wait_for_everyone()  # all processes have looked before one writes
    with state.main_process_first():
        task.prepare(cache_dir=folder)
    for run in {run.recipe.name: run for run in missing}.values():
        check(run, task, folder / "runs" / run.id)

    if state.is_main_process:
        for run in runs:  # killed between its record and the end of its checkpoints
            if run.id in finished:
                _remove_checkpoints(folder / "runs" / run.id)
    if parallel_runs is None:
        parallel_runs = as_many_as_fit(runs[0].comparison.threads)
    parallel_runs = min(parallel_runs, len(missing))
    with Progress(missing, silent=not state.is_main_process) as progress:
        progress.say(f"{len(missing)} of {len(runs)} runs to do, {max(parallel_runs, 1)} at a time")
        if parallel_runs > 1:
            work = partial(_finish_alone, task, folder)
            log = lambda run: folder / "runs" / run.id / "log.txt"  # noqa: E731
            with closing(in_parallel(work, missing, parallel_runs, log, progress.update)) as done:
                for run in done:
                    progress.finish(run, Record.load(folder / "records" / f"{run.id}.json"))
        else:
            for run in missing:
                record = _finish(task, folder, run, partial(progress.update, run))
                if record is not None:
                    progress.finish(run, record)
    state.wait_for_everyone()


def _finish_scripts(
    runs: Sequence[Run], task: ScriptTask, jobs: Mapping[str, Job], folder: Path, parallel_runs: int
) -> None:
    """`_finish_all` for a script, whose runs are processes of their own, one at a time as well."""
    missing = [run for run in runs if run.id in jobs]
    for run in runs:
        if run.id not in jobs:
            _remove_checkpoints(folder / "runs" / run.id / "model")
    with Progress(missing) as progress:
        progress.say(f"{len(missing)} of {len(runs)} runs to do, {parallel_runs} at a time")
        log = lambda run: folder / "runs" / run.id / LOG  # noqa: E731
        with closing(in_parallel(partial(launch, jobs), missing, parallel_runs, log, progress.update)) as done:
            for run in done:
                script.keep(run, task, folder, runs[0].comparison.runs())
                _remove_checkpoints(folder / "runs" / run.id / "model")
                progress.finish(run, Record.load(folder / "records" / f"{run.id}.json"))


def _process_state(comparison: Comparison) -> PartialState:
    # Where there is no accelerator several processes find each other only if told to use the CPU.
    state = PartialState(cpu=not torch.accelerator.is_available())
    if comparison.threads is not None:
        torch.set_num_threads(comparison.threads)
    return state


def _finish(task: Task, folder: Path, run: Run, tell: Tell) -> Record | None:
    """Train a run, write its record, and drop its checkpoints."""
    record = train_and_record(run, task, folder / "runs" / run.id, tell)
    if record is not None:
        record.save(folder / "records" / f"{run.id}.json")
        _remove_checkpoints(folder / "runs" / run.id)
    return record


def _finish_alone(task: Task, folder: Path, run: Run, tell: Tell) -> None:
    """`_finish` in a process of its own."""
    logging.disable_progress_bar()  # those of writing files; the parent has a bar for all
    _process_state(run.comparison)
    _finish(task, folder, run, tell)


def _remove_checkpoints(folder: Path) -> None:
    for pattern in ("checkpoint-*", "training-*/checkpoint-*", "averages"):
        for path in folder.glob(pattern):
            shutil.rmtree(path)
    (folder / "training_args.bin").unlink(missing_ok=True)  # a script's: a pickle that names folders of this machine
