"""The benchmark runs, and its table is complete; how fast anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300)


def test_step_compares_all_optimizers_with_the_baseline(tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    # One thread: two that share a busy core wait for each other, for seconds.
    arguments = ["--shapes", "lora", "--device", "cpu", "--threads", "1", "--steps", "1", "--rounds", "1"]
    result = run("step", *arguments, "--json", str(path))
    assert result.returncode == 0, result.stderr

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

    lines = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == list(rows)


def test_a_decoder_is_refused_on_a_cpu() -> None:
    result = run("step", "--shapes", "decoder-1b", "--device", "cpu")
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "decoder-1b" in result.stderr


def test_sharded_compares_the_optimizers_that_take_sharded_parameters(tmp_path: Path) -> None:
    path = tmp_path / "sharded.json"
    result = run("sharded", "--processes", "2", "--steps", "1", "--rounds", "1", "--json", str(path))
    assert result.returncode == 0, result.stderr
    [benchmark] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    assert benchmark["processes"] == 2
    rows = {row["optimizer"]: row for row in benchmark["rows"]}
    assert set(rows) == ALWAYS_THERE
    assert rows[BASELINE]["ratio"] == 1
    assert min(row["seconds"] for row in rows.values()) > 0
    assert [line.split(" | ")[0].removeprefix("| ") for line in result.stdout.splitlines() if line.startswith("| ")][
        1:
    ] == list(rows)
