"""Rectified kernels on two processes, under DDP, FSDP2 and ZeRO: what they do in one, bit for bit."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from adamw_kernels import KERNELS, TORCH, kernels
from launching import ROOT, run, torchrun

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
def test_two_processes_equal_one(way: str, library: str, tmp_path: Path) -> None:
    worker = ROOT / "tests" / "workers" / "rectified_parallel.py"
    run([*torchrun(2), str(worker), way, *LIBRARIES[library]], tmp_path, TIMEOUT)
