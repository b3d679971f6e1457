"""What the processes of test_parallel.py do: a task is FOLDER:NAME."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_radam.experiments.schema import UserError

if TYPE_CHECKING:
    from hf_radam.experiments.comparison import Run
    from hf_radam.experiments.runs.launching import Job, Tell


def do(task: str, tell: Tell) -> None:
    folder, _, what = task.partition(":")
    print("not JSON")
    tell({"step": 7, "loss": 0.5})
    if what == "refuse":
        raise UserError("no\nluck")
    if what == "bug":
        raise RuntimeError("no luck")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "die":
        os._exit(3)
    if what == "wait":
        (Path(folder) / "pid").write_text(str(os.getpid()))
        time.sleep(100)
    (Path(folder) / what).write_text(os.environ["OMP_NUM_THREADS"])


def log(task: str) -> Path:
    folder, _, what = task.partition(":")
    return Path(folder, "logs", what)


def main() -> None:
    """All tasks of the command line, two at a time."""
    from hf_radam.experiments.runs.processes import in_parallel

    list(in_parallel(do, sys.argv[1:], 2, log))


def train_unless_killed(jobs: Mapping[str, Job], command: Sequence[str] | None, run: Run, tell: Tell) -> None:
    """Once both runs are at update 6, radam kills the whole job; in the next job it kills itself after update 11."""
    from hf_radam.experiments.runs.launching import train

    pids = Path(jobs[run.id].folder).parents[2]
    before = (pids / "radam").is_file()
    (pids / run.recipe.name).write_text(str(os.getpid()))

    def watched(message: Mapping[str, Any]) -> None:
        tell(message)
        if message["step"] == 6 and not before:
            (pids / f"{run.recipe.name} has saved").touch()
            while run.recipe.name == "radam":
                if (pids / "adam has saved").is_file():
                    parent = multiprocessing.parent_process()
                    assert parent is not None
                    assert parent.pid
                    os.kill(parent.pid, signal.SIGKILL)
                    break
                time.sleep(0.01)
            time.sleep(100)
        if message["step"] == 11 and run.recipe.name == "radam":
            os.kill(os.getpid(), signal.SIGKILL)

    train(jobs, command, run, watched)


def compare() -> None:
    """`hf-radam compare`, with runs that are killed."""
    from hf_radam.cli import main
    from hf_radam.experiments.runs import launching

    launching.train = train_unless_killed
    sys.exit(main(["compare", *sys.argv[1:]]))
