"""Rectified kernels on two processes, under DDP, FSDP2 and ZeRO: what they do in one, bit for bit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from adamw_kernels import KERNELS, TORCH, kernels
from launching import ROOT, run, torchrun
from torch import Tensor

WORKER = str(ROOT / "tests" / "workers" / "rectified_parallel.py")
# Kernels that share a launch, by their library.
LIBRARIES = {
    "torch": TORCH,
    **{
        library: [name for name in KERNELS if name.startswith(library)]
        for library in ("bitsandbytes", "galore", "apollo", "torchao", "deepspeed")
    },
}
SHARDED = [library for library, names in LIBRARIES.items() if all(KERNELS[name].sharded for name in names)]
WAYS = {"ddp": LIBRARIES, "fsdp2": SHARDED, "zero1": LIBRARIES, "zero2": LIBRARIES, "zero3": LIBRARIES}
needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="needs DeepSpeed; make test-slow installs it"
)
TIMEOUT = 900  # seconds: torchao and, the first time, DeepSpeed compile


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Tensor]]:
    """Where the kernels of a library end in one process."""

    @cache
    def ends(library: str) -> dict[str, Tensor]:
        folder = tmp_path_factory.mktemp(library)
        run([sys.executable, WORKER, "one", "one.pt", *LIBRARIES[library]], folder, TIMEOUT)
        return torch.load(folder / "one.pt")

    return ends


@pytest.mark.parametrize(
    ("way", "library"),
    [
        pytest.param(
            way,
            library,
            marks=[
                *kernels(LIBRARIES[library][0])[0].marks,
                pytest.mark.slow,
                *([needs_deepspeed] if way.startswith("zero") else []),
            ],
        )
        for way, libraries in WAYS.items()
        for library in libraries
    ],
)
def test_two_processes_equal_one(
    way: str, library: str, alone: Callable[[str], dict[str, Tensor]], tmp_path: Path
) -> None:
    """Both see the same batch, so that the mean of their gradients is the gradient of one."""
    run([*torchrun(2), WORKER, way, "two.pt", *LIBRARIES[library]], tmp_path, TIMEOUT)
    expected, found = alone(library), torch.load(tmp_path / "two.pt")
    assert {name: torch.equal(found[name], end) for name, end in expected.items()} == dict.fromkeys(expected, True)
