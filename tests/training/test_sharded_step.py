"""The optimizer on sharded tensors without Accelerate: what each process checks is in `distributed/sharded_step.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import WORKERS, run, torchrun

CHECKS = ["fsdp", "mixed", "placements", "without_gradients", "scaler", "zero_redundancy", "tensor_parallel"]


@pytest.mark.parametrize(
    ("processes", "checks"),
    [(2, CHECKS), pytest.param(4, [*CHECKS, "two_dimensional"], marks=pytest.mark.slow)],
    ids=["2_processes", "4_processes"],
)
def test_sharded_step(processes: int, checks: list[str], tmp_path: Path) -> None:
    output = run([*torchrun(processes), str(WORKERS / "sharded_step.py"), *checks], cwd=tmp_path)
    for check in checks:
        assert f"{check} holds on {processes} processes" in output
