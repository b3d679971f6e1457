from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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
from launching import FURTHER, LONG, MODELS, OPTIONS, PLAIN, torchrun, train
from sketches import sketches
from torch import Tensor


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test or an example writes lands in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sketched() -> Iterator[None]:
    """Nothing is drawn during the test."""
    with sketches():
        yield


@pytest.fixture(scope="session")
def launched(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., dict[str, Any]]:
    """What a launch found, made once for all workers of pytest-xdist; see `launching.train`."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def results(name: str, launcher: list[str], cases: dict[str, Any], folder: str) -> dict[str, Any]:
        (base / folder).mkdir(exist_ok=True)
        failed = base / folder / f"{name}.failed"
        with FileLock(base / folder / f"{name}.lock"):
            if not (base / folder / f"{name}.pt").is_file() and not failed.is_file():
                try:
                    train(launcher, cases, base / folder, name)
                except AssertionError as error:
                    failed.write_text(str(error))
                    raise
        if failed.is_file():
            raise AssertionError(failed.read_text())
        found = torch.load(base / folder / f"{name}.pt", weights_only=False)
        return {**found, "folder": base / folder}

    return results


@pytest.fixture(scope="session")
def alone(launched: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Every training of one process; those that others are compared with have `torch.optim.RAdam`."""
    cases: dict[str, Any] = {
        model: {"model": model, "output_dir": "out", "optim": "radam_torch"}
        for model in (*MODELS, *FURTHER, "llama_even")
    }
    cases["long"] = {**LONG, "output_dir": "out", "optim": "radam_torch"}
    cases["clipped"] = {**cases["bert"], "arguments": OPTIONS["clipped"][1]}
    cases["bf16"] = cases["llama"]
    cases["loop"] = {"model": "bert", "loop": True, "optim": "radam_torch"}
    cases |= {f"{model}/accumulated": {"model": model, "output_dir": "out", "accumulation": 4} for model in MODELS}
    cases |= {f"{model}/plain": {"model": model, "output_dir": "out", **PLAIN} for model in MODELS}
    return launched("alone", [torchrun(1)[0]], cases, "one_process")


@pytest.fixture(scope="session")
def reference(alone: dict[str, Any]) -> dict[str, Tensor]:
    """The recorded trajectories, all in float32."""
    return {name: found["trajectory"] for name, found in alone.items() if name != "folder"}
