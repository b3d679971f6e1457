"""A results folder belongs to one job at a time, and to one comparison."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest
from made_up import comparison

from hf_radam.experiments.results import claim
from hf_radam.experiments.schema import UserError

ASKED = comparison(["adam", "radam"], (1e-3,), 1)
# Other jobs, one after the other, each in a process of its own, all from one that has imported what takes long.
JOBS = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from hf_radam.experiments.results import claim
empty = SimpleNamespace(name="Other", target_loss=None, recipes=(), shared=lambda: {}, runs=lambda: [])
for line in sys.stdin:
    folder, part = eval(line)
    if not os.fork():
        with claim(Path(folder), empty, "0", part):
            print(os.getpid(), flush=True)
            time.sleep(600)
    print(os.WTERMSIG(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope="module")
def jobs() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", JOBS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield process


@contextmanager
def job(jobs: subprocess.Popen[str], part: tuple[int, int] | None) -> Iterator[int]:
    """Another job that holds the folder r until it is killed; its process."""
    assert jobs.stdin is not None
    assert jobs.stdout is not None
    print((str(Path("r").resolve()), part), file=jobs.stdin)
    process = int(jobs.stdout.readline())
    assert process, "the job ended before it held the folder, and process 0 would be all of ours"
    try:
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        assert jobs.stdout.readline() == f"{signal.SIGKILL.value}\n"


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (None, None, False),
        (None, (1, 2), False),
        ((1, 2), None, False),
        ((1, 2), (1, 2), False),
        ((1, 2), (2, 2), True),
        ((1, 2), (2, 3), False),
    ],
)
def test_who_may_share_a_folder(
    first: tuple[int, int] | None, second: tuple[int, int] | None, together: bool, tmp_path: Path,
    jobs: subprocess.Popen[str],
) -> None:  # fmt: skip
    with job(jobs, first) as other:
        if together:
            with claim(Path("r"), ASKED, "0", second):
                pass
        else:
            with (
                pytest.raises(UserError, match=rf"^r belongs to another job, process {other} on \S+; wait"),
                claim(Path("r"), ASKED, "0", second),
            ):
                pass
    with claim(Path("r"), ASKED, "0", second):  # nothing of a killed job is left
        assert '"name": "Invented"' in (tmp_path / "r" / "comparison.json").read_text()


def test_a_job_that_ended_leaves_no_name(tmp_path: Path) -> None:
    with claim(tmp_path / "r", ASKED, "0"):
        assert re.fullmatch(r"process \d+ on \S+", (tmp_path / "r" / ".job.holder").read_text())
    assert not list(tmp_path.rglob("*.holder"))


def test_of_jobs_that_start_at_once_one_holds_the_folder(tmp_path: Path) -> None:
    """Locks are of open files, not of processes: threads are refused as jobs are."""
    count = 4
    for attempt in range(5):
        start, end = Barrier(count), Barrier(count)

        def ask(attempt: int = attempt, start: Barrier = start, end: Barrier = end) -> str:
            start.wait()
            try:
                with claim(tmp_path / str(attempt), ASKED, "0"):
                    end.wait()
                    return "held"
            except UserError as error:
                end.wait()
                return str(error)

        with ThreadPoolExecutor(count) as threads:
            said = sorted(job.result() for job in [threads.submit(ask) for _ in range(count)])
        assert [line.partition(" belongs to another job, ")[0] for line in said] == [
            *[str(tmp_path / str(attempt))] * (count - 1),
            "held",
        ]
