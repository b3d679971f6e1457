"""Several runs at a time, each in a process of its own, on its own device or cores."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import psutil
import torch

from hf_radam.experiments.schema import UserError
from hf_radam.files import one_line, printable

T = TypeVar("T")
Tell = Callable[[int, float], None]
"""What a run calls after each update, with the step and the loss."""


@dataclass(frozen=True)
class Place:
    """Where a process runs."""

    cores: tuple[int, ...]
    """Its CPU cores; nothing holds it there where the system cannot (other than Linux)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What its environment has beside ours: its GPU, its number of threads."""


def places(count: int, cores: Sequence[int], gpus: Sequence[str], environment: Mapping[str, str]) -> list[Place]:
    """Share cores and GPUs out; those that are fewer than `count` are used by several, in turn.

    Args:
        count: number of places.
        cores: numbers of the CPU cores.
        gpus: entries of CUDA_VISIBLE_DEVICES; may be empty.
        environment: ours; a number of threads in it is kept.

    Example:
        >>> [place.cores for place in places(2, cores=[0, 1, 2, 3], gpus=[], environment={})]
        [(0, 1), (2, 3)]
    """
    found = []
    for i in range(count):
        share = cores[i * len(cores) // count : (i + 1) * len(cores) // count] or [cores[i % len(cores)]]
        own = {"OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", str(len(share)))}
        if gpus:
            own["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
        found.append(Place(tuple(share), own))
    return found


def as_many_as_fit(threads: int | None) -> int:
    """How many runs at a time GPUs, or else cores, and the free memory allow; at least 1.

    Args:
        threads: CPU threads of each run; one if None.
    """
    devices = len(_gpus()) if torch.accelerator.is_available() else len(_cores()) // (threads or 1)
    # This process has the data, and has built each model once; a run adds gradients, optimizer state and activations.
    each = 2 * psutil.Process().memory_info().rss
    return max(1, min(devices, psutil.virtual_memory().available // each))


@dataclass(eq=False)
class _Worker(Generic[T]):
    item: T
    place: Place
    log: Path
    process: subprocess.Popen[bytes]
    last: Mapping[str, Any] = field(default_factory=dict)
    """Its latest message."""


def in_parallel(
    function: Callable[[T, Tell], Any],
    items: Iterable[T],
    processes: int,
    log: Callable[[T], Path],
    on_update: Callable[[T, int, float], None] = lambda *_: None,
) -> Generator[T, None, None]:
    """Call a function for each item, so many at a time, each in a new process; yield the items as they are done.

    Whatever ends this, an error or a signal or the caller, ends the processes too.

    Args:
        function: picklable, as are the items; what it returns is dropped.
        items: handed out in order.
        processes: how many at a time.
        log: the file for what the process of an item prints.
        on_update: called here with what a run tells.

    Raises:
        UserError: an item failed, in one line.
    """
    waiting = deque(items)
    free = deque(places(min(processes, len(waiting)), _cores(), _gpus(), os.environ))
    messages: SimpleQueue[tuple[_Worker[T], bytes | None]] = SimpleQueue()
    running: list[_Worker[T]] = []
    work = pickle.dumps(function)
    try:
        while waiting or running:
            while waiting and free:
                running.append(_start(waiting.popleft(), free.popleft(), log, work))
                threading.Thread(target=_read, args=(running[-1], messages), daemon=True).start()
            worker, line = messages.get()
            if line is not None:
                worker.last = json.loads(line)
                if "step" in worker.last:
                    on_update(worker.item, worker.last["step"], worker.last["loss"])
                continue
            running.remove(worker)
            _end(worker)
            if "done" not in worker.last:
                raise UserError(f"{worker.item}: {worker.last.get('error') or _last_words(worker)}")
            free.append(worker.place)
            yield worker.item
    finally:
        for worker in running:
            _end(worker)


def _start(item: T, place: Place, log: Callable[[T], Path], work: bytes) -> _Worker[T]:
    path = log(item)
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **place.environment,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # it finds what we have found, and
        "PYTHONSAFEPATH": "1",  # no file of the working directory instead
    }
    with path.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "hf_radam.experiments.runs.worker"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for us, who decide
        )
    worker = _Worker(item, place, path, process)
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; its exit code says more
            pickle.dump((place.cores, work, pickle.dumps(item)), process.stdin)
            process.stdin.flush()
    except BaseException:
        _end(worker)
        raise
    return worker


def _read(worker: _Worker[T], messages: SimpleQueue[tuple[_Worker[T], bytes | None]]) -> None:
    """What a thread does for each process: hand on its lines, and None at its end."""
    assert worker.process.stdout is not None
    with worker.process.stdout as lines:
        for line in lines:
            if line.endswith(b"\n"):  # not killed in the middle of it
                messages.put((worker, line))
    worker.process.wait()
    messages.put((worker, None))


def _end(worker: _Worker[Any]) -> None:
    """Close a process's stdin, at which it ends, and wait for that."""
    assert worker.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        worker.process.stdin.close()
    try:
        worker.process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()


def _last_words(worker: _Worker[Any]) -> str:
    lines = worker.log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((f": {printable(one_line(line))[:300]}" for line in reversed(lines) if line.strip()), "")
    return (
        f"its process died (exit code {worker.process.returncode}){last}; what it printed is in {worker.log}; the same "
        "command goes on, and where memory was short, fewer parallel runs need less"
    )


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
