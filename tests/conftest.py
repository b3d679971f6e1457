from __future__ import annotations

import gc
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
from launching import FURTHER, LONG, MODELS, OPTIONS, torchrun, train
from sketches import sketches
from torch import Tensor


def pytest_collection_finish() -> None:
    """What is imported is no garbage; Accelerate looks through it at every start of a training, for half a second."""
    gc.freeze()


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
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Callable[[Path], Any]], Path]:
    """Calls a function with a new folder of this name, once for all workers of pytest-xdist; returns the folder."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def folder_of(name: str, make: Callable[[Path], Any]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.is_file():
                folder.mkdir()
                try:
                    make(folder)
                    done.touch()
                except AssertionError as error:
                    done.write_text(str(error))
        if error := done.read_text():
            raise AssertionError(error)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def launched(once: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """What a launch found; see `launching.train`."""

    def results(name: str, launcher: list[str], cases: dict[str, Any]) -> dict[str, Any]:
        folder = once(name, lambda folder: train(launcher, cases, folder))
        return {**torch.load(folder / "job.pt", weights_only=False), "folder": folder}

    return results


@pytest.fixture(scope="session")
def alone(launched: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Every training of one process; those that others are compared with have `torch.optim.RAdam`."""
    torchs: dict[str, Any] = {"output_dir": "out", "optim": "radam_torch"}
    cases: dict[str, Any] = {model: {"model": model, **torchs} for model in (*MODELS, *FURTHER, "llama_even")}
    cases["long"] = {**LONG, **torchs}
    cases["clipped"] = {**cases["bert"], "arguments": OPTIONS["clipped"][1]}
    cases["bf16"] = cases["llama"]
    cases["loop"] = {**cases["bert"], "loop": True}
    cases |= {f"{model}/accumulated": {"model": model, "output_dir": "out", "accumulation": 4} for model in MODELS}
    return launched("alone", [torchrun(1)[0]], cases)


@pytest.fixture(scope="session")
def reference(alone: dict[str, Any]) -> dict[str, Tensor]:
    """The recorded trajectories, all in float32."""
    return {name: found["trajectory"] for name, found in alone.items() if name != "folder"}
