"""What launches the other tests' trainings: ends all that it has started, and tells the cause of a failure."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from launching import end, run, start, torchrun

SLEEPER = """
import os, time
from pathlib import Path
started = Path(os.environ["RANK"])
started.write_text(str(os.getpid()))
started.rename(f"worker_{started}")
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_worker_outlives_its_launcher(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    with (tmp_path / "log").open("w") as log:
        process = start([*torchrun(2), "sleeper.py"], tmp_path, log)
        try:
            for _ in range(600):
                if len(list(tmp_path.glob("worker_*"))) == 2:
                    break
                time.sleep(0.1)
        finally:
            end(process)
    workers = [int(path.read_text()) for path in tmp_path.glob("worker_*")]
    assert len(workers) == 2, (tmp_path / "log").read_text()
    assert not any(map(alive, [process.pid, *workers]))


# name: (what a launcher does, what the error says)
FAILURES = {
    "the first traceback": (
        "import sys; print('Traceback (most recent call last):\\n  the cause'); print('x' * 20_000); sys.exit(3)",
        r"ended with status 3:\nTraceback \(most recent call last\):\n  the cause\nx{5000}",
    ),
    "the end": (
        "import sys; print('x' * 20_000); print('the end'); sys.exit(1)",
        r"\n\[\.\.\.\]\nx{5000}x*\nthe end\n",
    ),
    "out of time": ("import time; print('here', flush=True); time.sleep(600)", r"not done after 3 s:\nhere\n"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure(name: str, tmp_path: Path) -> None:
    code, message = FAILURES[name]
    with pytest.raises(AssertionError, match=message):
        run([sys.executable, "-c", code], tmp_path, timeout=3)


@pytest.mark.parametrize(("free_at", "succeeds"), [(2, True), (3, False)])
def test_a_taken_port_is_tried_once_more(free_at: int, succeeds: bool, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; tries = Path('tries'); tries.open('a').write('x')\n"
        f"if len(tries.read_text()) < {free_at}: sys.exit('... (errno: 98 - Address already in use).')\n"
        "print('done')"
    )
    if succeeds:
        assert run([sys.executable, "-c", code], tmp_path) == "done\n"
    else:
        with pytest.raises(AssertionError, match="Address already in use"):
            run([sys.executable, "-c", code], tmp_path)


def test_launched_processes_see_no_gpu(tmp_path: Path) -> None:
    code = "import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    assert run([sys.executable, "-c", code], tmp_path) == "''\n"
