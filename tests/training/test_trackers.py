"""Comparisons report to trackers, without becoming another comparison."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparisons import compare, write_config

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.runs.words import run_name


def test_reporting_changes_no_run(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    quiet = load_comparison(path)
    reporting = load_comparison(path, {"training": {"report_to": ["tensorboard"], "project": "mine"}})
    assert [r.id for r in reporting.runs()] == [r.id for r in quiet.runs()]
    assert reporting.training["report_to"] == ["tensorboard"]
    assert reporting.training["adam_beta2"] == quiet.training["adam_beta2"]


def test_run_names(tmp_path: Path) -> None:
    one = load_comparison(write_config(tmp_path))
    assert [run_name(r) for r in one.runs()] == ["Tiny/adam/seed-0", "Tiny/adam_warmup/seed-0", "Tiny/radam/seed-0"]
    several = load_comparison(write_config(tmp_path, recipes=["radam"], learning_rates=[1e-3, 1e-2]))
    assert [run_name(r) for r in several.runs()] == ["Tiny/radam/seed-0-lr0.001", "Tiny/radam/seed-0-lr0.01"]


def test_tensorboard(sketched: None, tmp_path: Path) -> None:
    """The runs stand under their names."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    path = write_config(tmp_path, name="Is it: tiny?", recipes=["adam", "radam"], max_steps=4)
    folder = tmp_path / "results"
    assert compare(path, "--output_dir", folder, "--report_to", "tensorboard") == 0
    for recipe in ("adam", "radam"):
        events = reader.EventAccumulator(str(folder / "tensorboard" / "Is it- tiny-" / recipe / "seed-0"))
        events.Reload()
        assert [point.step for point in events.Scalars("train/loss")] == [1, 2, 3, 4]
        assert events.Scalars("eval/loss")
        assert ("train/rectification" in events.Tags()["scalars"]) == (recipe == "radam")
    assert not [*folder.glob("runs/*/runs"), *folder.glob("runs/*/model/runs")], "logs lie elsewhere as well"


def test_an_unknown_tracker_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(write_config(tmp_path), "--output_dir", tmp_path / "results", "--report_to", "papyrus") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "papyrus" in error
