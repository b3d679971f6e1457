"""What the processes of test_parallel.py do: a task is FOLDER:NAME."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hf_radam.experiments.schema import UserError


def do(task: str, tell: Callable[[int, float], None]) -> None:
    folder, _, what = task.partition(":")
    print("not JSON")
    tell(7, 0.5)
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
    from hf_radam.experiments.runs.workers import in_parallel

    list(in_parallel(do, sys.argv[1:], 2, log))
