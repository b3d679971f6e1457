"""The benchmark runs, and its table is complete; how fast anything is, is not tested."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"
BASELINE = "torch.optim.AdamW (fused)"
ALWAYS_THERE = {
    BASELINE,
    "torch.optim.AdamW (foreach)",
    "torch.optim.RAdam (foreach)",
    "torch.optim.RAdam (for-loop)",
    "hf_radam.RAdam (fused)",
    "hf_radam.RAdam (foreach)",
    "hf_radam.RAdam (for-loop)",
}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark", module)
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec.loader.exec_module(module)
    return module


def test_step_compares_all_optimizers_with_the_baseline(
    script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "step.json"
    # One thread: two that share a busy core wait for each other, for seconds.
    arguments = ["--shapes", "lora", "--device", "cpu", "--threads", "1", "--steps", "1", "--rounds", "1"]
    assert script.main(["step", *arguments, "--json", str(path)]) == 0

    [benchmark] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    rows = {row["optimizer"]: row for row in benchmark["rows"]}
    assert next(iter(rows)) == BASELINE
    assert rows[BASELINE]["ratio"] == 1
    assert rows.keys() >= ALWAYS_THERE
    for row in rows.values():
        assert min(row["seconds"], row["ratio"], row["share_of_copy"]) > 0
    # Memory can be derived: foreach holds all denominators at once, the fused kernel none.
    assert rows["hf_radam.RAdam (foreach)"]["extra_ratio"] == pytest.approx(1, rel=0.01)
    assert rows["hf_radam.RAdam (fused)"]["extra_ratio"] < 0.01
    assert rows[BASELINE]["state_bytes"] == pytest.approx(8, rel=0.01)

    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == list(rows)


def test_host_compares_within_the_rounds(script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "host.json"
    assert script.main(["host", "--tensors", "3", "--rounds", "1", "--json", str(path)]) == 0
    [benchmark] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    ratios = {row["optimizer"]: row["ratio"] for row in benchmark["rows"]}
    assert ratios["torch.optim.AdamW (fused)"] == 1
    assert min(ratios.values()) > 0
    assert "3 parameters of one element" in capfd.readouterr().out


def test_a_rectified_class_is_measured_by_its_plain_one(script: ModuleType) -> None:
    times = {"AdamW": [1.0, 2.0, 3.0], "rectified AdamW": [1.5, 2.0, 9.0], "RAdam": [4.0, 4.0, 4.0]}
    assert [script.of_plain(name, times) for name in times] == [{}, {"of_plain": 1.5}, {}]


def test_a_decoder_is_refused_on_a_cpu(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["step", "--shapes", "decoder-1b", "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "decoder-1b" in err


def test_sharded_compares_the_optimizers_that_take_sharded_parameters(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sharded.json"
    arguments = ["sharded", "--processes", "2", "--tensors", "4", "--steps", "1", "--rounds", "1", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])  # what each process is started with
    assert script.main(arguments) == 0
    [benchmark] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    assert benchmark["processes"] == 2
    rows = {row["optimizer"]: row for row in benchmark["rows"]}
    assert set(rows) == ALWAYS_THERE
    assert rows[BASELINE]["ratio"] == 1
    assert min(row["seconds"] for row in rows.values()) > 0
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[1:]] == list(rows)
