"""The benchmark runs, and its table is complete; how fast anything is, is not tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import benchmark
import pytest
import torch

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
COMMANDS = {
    "step": "step --shapes lora --device cpu --steps 1 --rounds 1",
    "host": "host --tensors 3 --rounds 1",
    "sharded": "sharded --processes 2 --tensors 4 --steps 1 --rounds 1",
}


@pytest.fixture(autouse=True)
def _few_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(benchmark.SHAPES, "lora", 10 * [(8, 768), (768, 8)])


@pytest.mark.parametrize("command", COMMANDS)
def test_all_optimizers_are_compared_with_the_baseline(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [*COMMANDS[command].split(), "--json", "found.json"]
    monkeypatch.setattr(sys, "argv", [benchmark.__file__, *arguments])  # what each process is started with
    assert benchmark.main(arguments) == 0

    [found] = json.loads(Path("found.json").read_text(encoding="utf-8"))["benchmarks"]
    rows = {row["optimizer"]: row for row in found["rows"]}
    assert rows[BASELINE]["ratio"] == 1
    assert min(min(row["seconds"], row["ratio"]) for row in rows.values()) > 0
    out = capfd.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[1:]] == list(rows)
    if command == "step":
        assert next(iter(rows)) == BASELINE
        assert rows.keys() >= ALWAYS_THERE
        # Memory can be derived: foreach holds all denominators at once, the fused kernel none.
        assert rows["hf_radam.RAdam (foreach)"]["extra_ratio"] == pytest.approx(1, rel=0.01)
        assert rows["hf_radam.RAdam (fused)"]["extra_ratio"] < 0.01
        assert rows[BASELINE]["state_bytes"] == pytest.approx(8, rel=0.01)
    elif command == "host":
        assert "3 parameters of one element" in out
    else:
        assert found["processes"] == 2
        assert set(rows) == ALWAYS_THERE


def test_a_rectified_class_is_measured_by_its_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = [contender for contender in benchmark.KERNELS if contender.package == "torch"]
    times = [1.0, 2.0, 3.0], [1.5, 2.0, 9.0], [4.0, 4.0, 4.0], [4.0, 4.0, 4.0]
    monkeypatch.setattr(benchmark, "race", lambda calls, *_: dict(zip(calls, times, strict=True)))
    rows = benchmark.measure("lora", kernels, torch.device("cpu"), torch.float32, 1, 3)["rows"]
    assert [row.get("of_plain") for row in rows] == [None, 1.5, None, None]


@pytest.mark.parametrize(
    "arguments", ["step --steps 0", "sharded --processes 0", "host --rounds 0", "host --tensors 3 0"]
)
def test_nothing_is_measured_no_times(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(arguments.split())
    assert f"error: argument {arguments.split()[1]}: must be >= 1, got 0; leave it out" in capsys.readouterr().err
