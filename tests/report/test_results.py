"""A results folder belongs to one job at a time, and to one comparison."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from published import comparison

from hf_radam.experiments.results import claim
from hf_radam.experiments.schema import UserError

ASKED = comparison(["adam", "radam"], (1e-3,), 1)
# Another job, without the seconds that a comparison takes to import Transformers.
JOB = """
import sys
from pathlib import Path
from types import SimpleNamespace
from hf_radam.experiments.results import claim
empty = SimpleNamespace(name="Other", target_loss=None, recipes=(), shared=lambda: {})
with claim(Path("r"), empty, "0", eval(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def job(part: tuple[int, int] | None) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, repr(part)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


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
    first: tuple[int, int] | None, second: tuple[int, int] | None, together: bool, tmp_path: Path
) -> None:
    other = job(first)
    try:
        if together:
            with claim(Path("r"), ASKED, "0", second):
                pass
        else:
            with (
                pytest.raises(UserError, match=rf"^r belongs to another job, process {other.pid} on \S+; wait"),
                claim(Path("r"), ASKED, "0", second),
            ):
                pass
    finally:
        end(other)
    with claim(Path("r"), ASKED, "0", second):  # nothing of a killed job is left
        assert '"name": "Invented"' in (tmp_path / "r" / "comparison.json").read_text()


def test_a_job_that_ended_leaves_no_name(tmp_path: Path) -> None:
    with claim(tmp_path / "r", ASKED, "0"):
        assert re.fullmatch(r"process \d+ on \S+", (tmp_path / "r" / ".job.holder").read_text())
    assert not list(tmp_path.rglob("*.holder"))
