from __future__ import annotations

import os
from pathlib import Path

# One thread each: the suite runs several processes, and threads that wait for each other cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test or an example writes lands in the checkout."""
    monkeypatch.chdir(tmp_path)
