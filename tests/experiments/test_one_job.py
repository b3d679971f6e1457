"""One job a results folder, or parts of one sweep; a run goes on where its checkpoint was, or ends."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from comparisons import environment, run, write_config

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.records import load_records
from hf_radam.experiments.results import claim
from hf_radam.experiments.runs.history import ResumeGuard
from hf_radam.experiments.runs.sweep import sweep
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import task_class


def small(folder: Path, **changes: Any) -> Any:
    return load_comparison(write_config(folder, max_steps=1, eval_steps=1, recipes=["adam", "radam"], **changes))


def test_a_second_job_is_refused(tmp_path: Path) -> None:
    comparison = small(tmp_path)
    fingerprint = task_class(comparison.task)(comparison).fingerprint
    with (
        claim(tmp_path / "r", comparison, fingerprint),
        pytest.raises(UserError, match=r"r belongs to another job, process \d+ on \S+; wait"),
    ):
        sweep(comparison, tmp_path / "r")
    assert not list((tmp_path / "r").glob("r*/*"))  # neither runs nor records


def test_parts_do_a_sweep_together(tmp_path: Path) -> None:
    comparison = small(tmp_path, seeds=[0, 1])
    assert not sweep(comparison, tmp_path / "r", part=(2, 2))
    assert {record.recipe for record in load_records(tmp_path / "r")} == {"radam"}
    assert sweep(comparison, tmp_path / "r", part=(1, 2))
    assert {record.id for record in load_records(tmp_path / "r")} == {run.id for run in comparison.runs()}


@pytest.mark.parametrize("part", [(0, 2), (3, 2), (1, 0)])
def test_parts_that_are_none(part: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="part must be K/N"):
        sweep(small(tmp_path), tmp_path / "r", part=part)
    assert not (tmp_path / "r").exists()


def test_a_resume_that_begins_anew_ends_the_run() -> None:
    guard = ResumeGuard("runs/x/checkpoint-5")
    guard.on_train_begin(None, SimpleNamespace(global_step=5), None)
    with pytest.raises(UserError, match=r"checkpoint-5 was resumed at update 0"):
        guard.on_train_begin(None, SimpleNamespace(global_step=0), None)


ORDINARY_USER = """
import os, sys
from hf_radam import cli
import hf_radam.experiments.runs.sweep, hf_radam.experiments.tasks.translation  # root's files, to be read as root
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
sys.exit(cli.main(["compare", sys.argv[1], "--output_dir", sys.argv[2]]))
"""


def test_a_folder_that_may_not_be_written_to_is_one_line(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        folder = Path(name)
        config = write_config(folder, recipes=["radam"], max_steps=1, eval_steps=1)
        (folder / "results").mkdir()
        (folder / "results").chmod(0o555)
        folder.chmod(0o555)
        command = [sys.executable, "-c", ORDINARY_USER, str(config), str(folder / "results")]
        done = run(command, check=False, env=environment(HOME=name, HF_HOME=str(tmp_path)), cwd="/")
        folder.chmod(0o755)
        (folder / "results").chmod(0o755)
        assert done.returncode == 2, done.stderr
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert "Permission denied" in line
        assert line.endswith("; name a folder that you may write to")
        assert list((folder / "results").iterdir()) == []
