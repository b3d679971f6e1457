"""Several jobs on one results folder; a folder that may not be written to."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from comparisons import COMPARE, compare, environment, run, write_config

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.folder import claim, hold, remove_checkpoints, run_folder
from hf_radam.experiments.records import load_records
from hf_radam.experiments.runs.history import resume_point
from hf_radam.experiments.schema import UserError

HOLDING = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from hf_radam.experiments.folder import claim, hold
run, asked = SimpleNamespace(id=sys.argv[2]), SimpleNamespace(
    name="Other", target_loss=None, recipes=(), shared=lambda: {"max_steps": 7}, runs=lambda: []
)
with claim(Path(sys.argv[1]), asked, "0"):
    ours = hold(Path(sys.argv[1]), run)
    print(ours is not None, flush=True)
    time.sleep(600)
"""


def test_three_jobs_at_once_train_each_run_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each exits with 0; the last to end writes the report, from four records."""
    config = write_config(tmp_path, recipes=["adam", "radam"], seeds=[0, 1])
    arguments = [str(config), "--output_dir", str(tmp_path / "r"), "--parallel_runs", "1"]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    others = [subprocess.Popen([*COMPARE, *arguments], **options) for _ in range(2)]
    while not list(tmp_path.glob("r/runs/*/begun")) and others[0].poll() is None:
        time.sleep(0.1)
    assert compare(*arguments) == 0  # the third, at once, since all is imported here
    said = [capfd.readouterr(), *(other.communicate(timeout=600) for other in others)]
    assert [other.returncode for other in others] == [0, 0], said
    trained = [line.partition(": ")[0] for _, err in said for line in err.splitlines() if ": BLEU" in line]
    assert sorted(trained) == [f"{recipe}, lr 0.003, seed {seed}" for recipe in ("adam", "radam") for seed in (0, 1)]
    assert len(load_records(tmp_path / "r")) == 4
    assert "| radam |" in (tmp_path / "r" / "table.md").read_text()
    for out, _ in said:
        assert ("open:" in out) != ("other jobs train the last" in out)
    assert not list(tmp_path.glob("r/.locks/job-*"))


def test_a_job_that_dies_frees_its_run_and_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, recipes=["adam", "radam"], max_steps=1, eval_steps=1)
    comparison, folder = load_comparison(config), tmp_path / "r"
    adam, radam = comparison.runs()
    command = [sys.executable, "-c", HOLDING, str(folder), adam.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert hold(folder, adam) is None
        assert hold(folder, radam)
        with pytest.raises(UserError, match="r holds results of another comparison"), claim(folder, comparison, "1"):
            pass
        other.kill()
    with claim(folder, comparison, "1"):
        ours = hold(folder, adam)
        assert ours
        assert hold(folder, adam) is None
        ours.release()
    assert compare(config, "--output_dir", folder) == 0
    assert "open:" in capsys.readouterr().out


ORDINARY_USER = """
import os, sys
from hf_radam import cli
import hf_radam.experiments.runs.sweep, hf_radam.examples.translation  # root's files, to be read as root
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


def test_what_scripts_leave_beside_their_checkpoints_is_no_checkpoint(tmp_path: Path) -> None:
    run, *_ = load_comparison(write_config(tmp_path)).runs()
    model = run_folder(tmp_path, run) / "model"
    for name in ("checkpoint-best", "checkpoint-4"):
        (model / name).mkdir(parents=True)
        (model / name / "trainer_state.json").write_text("{}")
    (model / "checkpoint-info.json").write_text("{}")
    (model / "checkpoint-last").symlink_to(".")
    assert resume_point(model) == str(model / "checkpoint-4")
    remove_checkpoints(tmp_path, run)
    assert {path.name for path in model.iterdir()} == {"checkpoint-info.json", "checkpoint-last"}
