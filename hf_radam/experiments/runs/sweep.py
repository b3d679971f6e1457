"""All runs of a comparison, and what a user sees of them: finished ones are skipped, broken ones resumed."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from hf_radam.experiments.comparison import Comparison, Run
from hf_radam.experiments.folder import check_folder, claim, hold, log_path, record_path, remove_checkpoints
from hf_radam.experiments.metrics import metric_named
from hf_radam.experiments.records import Record
from hf_radam.experiments.runs import launching
from hf_radam.experiments.runs.processes import as_many_as_fit, gpus_here, import_ahead, in_parallel, method
from hf_radam.experiments.schema import UserError
from hf_radam.training.launch import script_command


def sweep(
    comparison: Comparison, folder: Path, parallel_runs: int | None = None, accelerate_config: str | None = None
) -> int:
    """Train whatever has no record yet, and write one record a run under `folder/records`.

    Killed at any moment and started again, it goes on where it was. Started several times on one folder, each job
    takes the next run that no other has.

    Args:
        comparison: what to run.
        folder: results; made if missing. Recipes, learning rates or seeds may be added later, not another comparison.
        parallel_runs: how many runs at a time, each in a process of its own, on its own GPU or cores. None for as many
            as these and free memory allow, or for 1 where nobody knows what a run needs: the script is the user's, or
            has several processes. Records are those of a sequential job; up to rounding, where the runs share the cores
            because `comparison.threads` is not set.
        accelerate_config: of the processes of each run.

    Returns:
        How many runs other jobs are still training; of several jobs the last to end finds 0.

    Raises:
        UserError: bad input, or the folder belongs to another comparison; no result has been changed then. Also for a
            run that failed.
    """
    if parallel_runs is not None and parallel_runs < 1:
        raise UserError(f"parallel_runs must be >= 1, got {parallel_runs}")
    runs, script = comparison.runs(), comparison.script
    check_folder(folder, comparison)
    # A fork of a process that has imported everything starts six times as fast as a new one.
    forks = comparison.is_ours and accelerate_config is None and method() == "forkserver"
    if forks and not all(record_path(folder, run).is_file() for run in runs):
        import_ahead([launching.__name__, launching.RECORDER, script.command[0]])
    from hf_radam.experiments.runs import words  # imports Transformers, while the server above does the same

    fingerprint, jobs = words.fingerprint_of(comparison), dict[str, launching.Job]()
    for run in runs:  # all of them now, so that a slip in the last recipe does not cost hours
        if record_path(folder, run).is_file():
            Record.load(record_path(folder, run))
            remove_checkpoints(folder, run)  # of a job that was killed just after its record
        else:
            jobs[run.id] = words.job_of(run, folder, fingerprint)
    first, *rest = script.command
    command = None if forks else [*script_command(first, script.module is not None, accelerate_config), *rest]
    missing = [run for run in runs if run.id in jobs]
    if parallel_runs is None:
        of_unknown_size = not comparison.is_ours or accelerate_config is not None
        parallel_runs = 1 if of_unknown_size else as_many_as_fit(comparison.threads)
    parallel_runs = min(parallel_runs, max(1, len(missing)))
    train = partial(launching.train, jobs, command)
    gpus = gpus_here() if accelerate_config is None else []
    progress, locks = Progress(missing), dict[str, FileLock]()
    with claim(folder, comparison, fingerprint), progress.bar, ExitStack() as held:
        tqdm.write(f"{len(missing)} of {len(runs)} runs to do, {parallel_runs} at a time", file=sys.stderr)
        found = True
        while found:  # once more after each round: a job that died has freed its runs
            found = False
            free, log = _free(missing, folder, locks, held), partial(log_path, folder)
            with closing(in_parallel(train, free, parallel_runs, log, progress.update, gpus)) as done:
                for run in done:
                    found = True
                    progress.finish(run, launching.keep(run, folder))
                    remove_checkpoints(folder, run)
                    locks[run.id].release()
    return sum(not record_path(folder, run).is_file() for run in runs)


def _free(runs: Sequence[Run], folder: Path, locks: dict[str, FileLock], held: ExitStack) -> Iterator[Run]:
    """The runs that have neither a record nor a job that trains them; each is ours until its lock is released."""
    for run in runs:
        if lock := hold(folder, run):
            locks[run.id] = lock
            held.callback(lock.release)
            yield run


class Progress:
    """Lines on stderr about the runs to do; in a terminal also a bar, with the latest loss."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.steps: dict[str, int] = {}
        """Where each run is."""
        updates = sum(run.max_steps for run in runs)
        disable = not sys.stderr.isatty()
        self.bar = tqdm(total=updates or None, unit="update", file=sys.stderr, dynamic_ncols=True, disable=disable)

    def update(self, run: Run, step: int, loss: float | None = None) -> None:
        """Move the bar to a run's step."""
        if loss is not None:
            self.bar.set_postfix_str(f"{run}: {loss:.3f}", refresh=False)
        self.bar.update(step - self.steps.get(run.id, 0))
        self.steps[run.id] = step

    def finish(self, run: Run, record: Record) -> None:
        """Print what a run ended with."""
        metric, value = metric_named(record.metric), record.final[record.metric]
        result = f"{metric.label} {math.nan if value is None else value:.{metric.digits}f}"
        diverged = " (diverged)" if record.diverged else ""
        seconds = record.seconds_per_step * record.updates
        tqdm.write(f"{run}: {result}{diverged}, {seconds:.0f} s", file=sys.stderr)
        self.update(run, record.updates)
