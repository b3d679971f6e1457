from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# One thread each: the suite runs several processes, and threads that wait for each other cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tests are about the CPU, on every machine; `make test-gpu` runs those of the GPU.
if os.environ.get("TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch
from filelock import FileLock
from launching import FURTHER, MODELS, OPTIONS, torchrun, train
from torch import Tensor


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test or an example writes lands in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Tensor]:
    """The recorded trajectories, all in float32; once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = base if worker_id == "master" else base.parent
    cases: dict[str, Any] = {
        model: {"model": model, "output_dir": "reference", "optim": "radam_torch"}
        for model in (*MODELS, *FURTHER, "llama_even")
    }
    cases["long"] = {**cases["marian"], "arguments": {"max_steps": 30}}
    cases["clipped"] = {**cases["bert"], "arguments": OPTIONS["clipped"][1]}
    cases["bf16"] = cases["llama"]
    cases["loop"] = {"model": "bert", "loop": True, "optim": "radam_torch"}
    with FileLock(folder / "reference.lock"):
        if not (folder / "reference.pt").is_file():
            train([torchrun(1)[0]], cases, folder, "reference")
    return {
        name: found["trajectory"] for name, found in torch.load(folder / "reference.pt", weights_only=False).items()
    }
