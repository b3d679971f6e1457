"""Several runs at a time: the records of a sequential job, and no process that outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from comparisons import TINY, compare, outcome, write_config
from task_files import TRANSLATION, write, write_files
from workers.parallel_tasks import do, log, train_unless_killed

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.records import load_records
from hf_radam.experiments.runs import launching
from hf_radam.experiments.runs import processes as pool
from hf_radam.experiments.runs.processes import as_many_as_fit, in_parallel, places
from hf_radam.experiments.runs.sweep import sweep
from hf_radam.experiments.schema import UserError


def results(folder: Path) -> dict[str, Any]:
    return {record.id: outcome(record) for record in load_records(folder)}


def python(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A process that finds the modules of the tests."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_killed_and_started_again_it_gives_the_records_of_a_sequential_job(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the whole job is killed, while a checkpoint is written; then the process of one run.

    With dropout, batches by tokens and averaged weights.
    """
    data = {"train_prefix": "train", "validation_prefix": "validation", "vocab_size": 300}
    model = {**TINY["model"], "dropout": 0.1}
    changes = {"max_steps": 12, "eval_steps": 4, "save_steps": 4, "average_checkpoints": 3, "data": data}
    config = write(write_files(), TRANSLATION, recipes=["adam", "radam"], model=model, **changes)
    folder = tmp_path / "parallel"
    job = python("from workers.parallel_tasks import compare; compare()", config, "--parallel_runs", 2,
                 "--output_dir", folder)  # fmt: skip
    assert job.wait(timeout=300) == -signal.SIGKILL
    saved = sorted(folder.glob("runs/*/model/checkpoint-*"))
    assert [path.name for path in saved] == 2 * ["checkpoint-4"]
    (saved[0] / "trainer_state.json").write_text("{")
    (saved[0] / "optimizer.pt").write_bytes(b"half")
    for recipe in ("adam", "radam"):  # nobody trains on beside the next job
        wait_for_the_end_of(int((tmp_path / recipe).read_text()))

    comparison = load_comparison(config)
    with monkeypatch.context() as patch:
        patch.setattr(launching, "train", train_unless_killed)
        with pytest.raises(UserError, match=r"radam.*its process died \(exit code -9\)") as caught:
            sweep(comparison, folder, parallel_runs=2)
    assert "\n" not in str(caught.value)
    for recipe in ("adam", "radam"):
        assert not is_alive(int((tmp_path / recipe).read_text()))
    said = capfd.readouterr().err
    assert "2 of 2 runs to do, 2 at a time" in said
    assert "\r" not in said

    sweep(comparison, folder, parallel_runs=2)
    sweep(comparison, tmp_path / "sequential")
    assert results(folder) == results(tmp_path / "sequential")
    assert len(results(folder)) == 2
    assert not list(folder.glob("runs/*/model/checkpoint-*"))
    for weights in folder.glob("runs/*/model/model.safetensors"):
        assert weights.read_bytes() == Path("sequential", weights.relative_to(folder)).read_bytes()


def wait_for_the_end_of(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["wait", "refuse"], r"refuse: no luck$"),
        (
            ["wait", "bug"],
            r"bug: its process died \(exit code 1\): RuntimeError: no luck; what it printed is in .*bug;",
        ),
        (["a", "die"], r"die: its process died \(exit code 3\): not JSON;"),
        (["wait", "killed"], r"killed: its process died \(exit code -9\)"),
    ],
)
def test_errors_reach_the_caller_in_one_line(tasks: list[str], message: str, tmp_path: Path) -> None:
    given = [f"{tmp_path}:{task}" for task in tasks]
    with pytest.raises(UserError, match=message) as caught:
        list(in_parallel(do, given, 2, log))
    assert "\n" not in str(caught.value)
    if (tmp_path / "pid").is_file():
        assert not is_alive(int((tmp_path / "pid").read_text()))


def test_what_runs_tell_arrives_whatever_they_print(tmp_path: Path) -> None:
    told = []
    items = [f"{tmp_path}:{name}" for name in "abc"]
    assert sorted(in_parallel(do, items, 2, log, lambda *update: told.append(update))) == items
    assert sorted(told) == [(item, 7, 0.5) for item in items]
    assert (tmp_path / "logs" / "a").read_text() == "not JSON\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    parent = python("from workers.parallel_tasks import main; main()", f"{tmp_path}:wait", f"{tmp_path}:a")
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert parent.poll() is None
        time.sleep(0.01)
    parent.send_signal(number)
    assert parent.wait(timeout=30) != 0
    wait_for_the_end_of(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("count", "cores", "gpus", "environment", "expected"),
    [
        (2, 4, [], {}, [("2", None), ("2", None)]),
        (3, 2, [], {}, [("1", None), ("1", None), ("1", None)]),
        (3, 3, ["5", "7"], {"OMP_NUM_THREADS": "8"}, [("8", "5"), ("8", "7"), ("8", "5")]),
    ],
)
def test_cores_and_gpus_are_shared_out(
    count: int, cores: int, gpus: list[str], environment: dict[str, str], expected: Any
) -> None:
    found = places(count, cores, gpus, environment)
    assert [(place["OMP_NUM_THREADS"], place.get("CUDA_VISIBLE_DEVICES")) for place in found] == expected


@pytest.mark.parametrize(
    ("cores", "threads", "free", "expected"),
    [(4, None, 100, 4), (4, 2, 100, 2), (4, 8, 100, 1), (4, None, 2.5, 2), (4, None, 0.5, 1)],
    ids=["cores", "threads", "more threads than cores", "little memory", "hardly any memory"],
)
def test_as_many_as_cores_and_memory_allow(
    cores: int, threads: int | None, free: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`free` counts processes twice as large as this one."""
    each = 2 * 10**9
    monkeypatch.setattr(pool, "_cores", lambda: cores)
    monkeypatch.setattr(pool.torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(pool.psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=10**9)))
    monkeypatch.setattr(pool.psutil, "virtual_memory", lambda: SimpleNamespace(available=int(free * each)))
    assert as_many_as_fit(threads) == expected


def test_refused_under_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert compare(write_config(tmp_path), "--output_dir", "r") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "start it without a launcher, with --accelerate_config NAME or a file" in line
    assert not Path("r").exists()
