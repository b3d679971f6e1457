"""Several runs at a time: the records of a sequential job, and no process that outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from comparisons import COMPARE, TINY, run, write_config

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.records import load_records
from hf_radam.experiments.runs import sweep as module
from hf_radam.experiments.runs.workers import in_parallel, places
from hf_radam.experiments.schema import UserError


def results(folder: Path) -> dict[str, Any]:
    return {
        record.id: (
            {name: values for name, values in record.curves.items() if name != "seconds"},
            record.evaluations,
            record.final,
            record.gradients,
        )
        for record in load_records(folder)
    }


def test_killed_and_started_again_it_gives_the_records_of_a_sequential_job(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    command = [*COMPARE, str(config), "--parallel_runs", "2", "--output_dir", str(tmp_path / "parallel")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("parallel/runs/*/checkpoint-5/trainer_state.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(is_alive(int(pid)) for pid in children):  # nobody trains on beside the next job
        assert time.monotonic() < deadline
        time.sleep(0.01)
    done = run(command)
    assert "2 runs at a time" in done.stderr
    module.sweep(load_comparison(config), tmp_path / "sequential")
    assert results(tmp_path / "parallel") == results(tmp_path / "sequential")
    assert len(results(tmp_path / "parallel")) == len(TINY["recipes"])
    assert not list(tmp_path.glob("parallel/runs/*/checkpoint-*"))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def do(task: str) -> None:
    folder, _, what = task.partition(":")
    if what == "fail":
        raise RuntimeError("no\nluck")
    if what == "die":
        os._exit(3)
    if what == "wait":
        (Path(folder) / "pid").write_text(str(os.getpid()))
        time.sleep(100)
    (Path(folder) / what).write_text(os.environ["OMP_NUM_THREADS"])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["wait", "fail"], "fail: RuntimeError: no luck"),
        (["a", "die"], r"die: its process died \(exit code 3\)"),
    ],
)
def test_errors_reach_the_caller_in_one_line(tasks: list[str], message: str, tmp_path: Path) -> None:
    given = [f"{tmp_path}:{task}" for task in tasks]
    with pytest.raises(UserError, match=message) as caught:
        list(in_parallel(do, given, 2))
    assert "\n" not in str(caught.value)
    if (tmp_path / "pid").is_file():
        assert not is_alive(int((tmp_path / "pid").read_text()))


def test_signals_end_all_processes(tmp_path: Path) -> None:
    """SIGTERM, as from a cluster, is taken like Ctrl-C."""
    runs = in_parallel(do, [f"{tmp_path}:a", f"{tmp_path}:wait"], 2)
    next(runs)
    while not (tmp_path / "pid").is_file():
        time.sleep(0.01)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt):
        next(runs)
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("count", "cores", "gpus", "environment", "expected"),
    [
        (2, 4, [], {}, [((0, 1), "2", None), ((2, 3), "2", None)]),
        (3, 2, [], {}, [((0,), "1", None), ((0,), "1", None), ((1,), "1", None)]),
        (3, 3, ["5", "7"], {"OMP_NUM_THREADS": "8"}, [((0,), "8", "5"), ((1,), "8", "7"), ((2,), "8", "5")]),
    ],
)
def test_cores_and_gpus_are_shared_out(
    count: int, cores: int, gpus: list[str], environment: dict[str, str], expected: Any
) -> None:
    found = places(count, range(cores), gpus, environment)
    assert [
        (p.cores, p.environment["OMP_NUM_THREADS"], p.environment.get("CUDA_VISIBLE_DEVICES")) for p in found
    ] == expected


def test_refused_beside_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_process_state", lambda _: SimpleNamespace(num_processes=2))
    with pytest.raises(UserError, match=r"1 where a launcher .* got 2 with 2 process"):
        module.sweep(load_comparison(write_config(tmp_path)), tmp_path / "r", parallel_runs=2)
