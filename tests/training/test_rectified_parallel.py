"""Rectified kernels on two processes: what they do in one, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from adamw_kernels import KERNELS, kernels
from launching import ROOT, run, torchrun

WORKER = str(ROOT / "tests" / "workers" / "rectified_parallel.py")
SHARDED = [name for name, kernel in KERNELS.items() if kernel.sharded]


@pytest.mark.parametrize(
    ("way", "kernel"),
    [
        pytest.param(way, kernel.values[0], marks=[*kernel.marks, pytest.mark.slow])
        for way, names in (("ddp", list(KERNELS)), ("fsdp2", SHARDED))
        for kernel in kernels(*names)
    ],
)
def test_two_processes_equal_one(way: str, kernel: str, tmp_path: Path) -> None:
    """Both see the same batch, so that the mean of their gradients is the gradient of one."""
    run([sys.executable, WORKER, "one", "one.pt", kernel], tmp_path)
    run([*torchrun(2), WORKER, way, "two.pt", kernel], tmp_path)
    one, two = (torch.load(tmp_path / name)[kernel] for name in ("one.pt", "two.pt"))
    assert torch.equal(one, two)
