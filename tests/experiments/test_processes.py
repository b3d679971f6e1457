"""Two processes, by each way to start them, make the records of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparisons import ROOT, TINY, compare, write_config
from launching import run, torchrun
from sketches import sketches
from task_files import SMOOTHED, SPLIT, write, write_files

from hf_radam.experiments.records import load_records

# Two processes sum gradients in another order than one: float32 rounding, 6e-8 relative, grows over 12 steps.
TOLERANCE = 1e-5
BOTH = ["adam_untuned_linear", "radam"]


def tiny(folder: Path, label_smoothing: float) -> list[Any]:
    training = {**TINY["training"], "label_smoothing_factor": label_smoothing}
    return [write_config(folder, recipes=BOTH, training=training)]


def task(folder: Path, name: str) -> list[Any]:
    content, flags = SPLIT[name]
    return [write(folder, content, training=SMOOTHED), *flags]


# The loss of Transformers and ours, and each way to make a batch.
CASES: dict[str, Callable[[Path], list[Any]]] = {
    "smoothed": lambda folder: tiny(folder, 0.1),
    "plain": lambda folder: tiny(folder, 0.0),
    "batches by tokens": lambda folder: task(folder, "translation"),
    "classification": lambda folder: task(folder, "classification"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All comparisons by one process, and by two in one launch."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch, sketches():
        patch.chdir(folder)
        write_files()
        arguments = {}
        for name, make in CASES.items():
            (folder / name).mkdir()
            arguments[name] = [str(part) for part in make(folder / name)]
            assert compare(*arguments[name], "--output_dir", f"{name}/one") == 0
    both = json.dumps([[*of, "--output_dir", f"{name}/two"] for name, of in arguments.items()])
    run([*torchrun(2), str(ROOT / "tests" / "workers" / "compare_all.py"), both], folder)
    return folder


def assert_alike(one: Path, two: Path) -> None:
    alone = {record.id: record for record in load_records(one)}
    together = {record.id: record for record in load_records(two)}
    assert alone.keys() == together.keys() != set()
    for id, record in together.items():
        assert record.environment["processes"] == 2
        for name in ("loss", "grad_norm", "learning_rate"):
            assert record.curves[name] == pytest.approx(alone[id].curves[name], rel=TOLERANCE), name
        assert record.evaluations["loss"] == pytest.approx(alone[id].evaluations["loss"], rel=TOLERANCE)
        if "bleu" in record.final:
            assert record.final["bleu"] == pytest.approx(alone[id].final["bleu"], abs=0.1)


@pytest.mark.parametrize("name", CASES)
def test_torchrun(name: str, folder: Path) -> None:
    assert_alike(folder / name / "one", folder / name / "two")


def test_accelerate(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by the command itself, which draws the report as well."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = (ROOT / "hf_radam" / "training" / "accelerate_configs" / "ddp.yaml").read_text()
    Path("free_port.yaml").write_text(f"{config}main_process_port: 0\n")
    path = folder / "smoothed" / "tiny.yaml"
    assert compare(path, "--output_dir", "two", "--accelerate_config", "free_port.yaml") == 0
    assert_alike(folder / "smoothed" / "one", tmp_path / "two")
    assert "| radam |" in (tmp_path / "two" / "table.md").read_text()
