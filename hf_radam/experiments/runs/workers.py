"""Several runs at a time, each in a process of its own, on its own device or cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from hf_radam.experiments.schema import UserError

T = TypeVar("T")


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


def in_parallel(function: Callable[[T], Any], items: Iterable[T], processes: int) -> Iterator[T]:
    """Call a function for each item, so many at a time, and yield the items as they are done.

    Whatever ends this, an error or a signal or the caller, ends the processes too.

    Args:
        function: picklable, as are the items; what it returns is dropped.
        items: handed out in order, each to the process that is free first.
        processes: how many at a time.

    Raises:
        UserError: an item failed, in one line.
        KeyboardInterrupt: also for SIGTERM.
    """
    waiting = deque(items)
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    running: dict[Connection, tuple[T, Any]] = {}
    with _terminable(), contextlib.ExitStack() as stack:
        for place in places(min(processes, len(waiting)), _cores(), _gpus(), os.environ):
            connection, theirs = context.Pipe()
            process = context.Process(target=_work, args=(function, place.cores, theirs), daemon=True)
            with _environment(place.environment):  # before it starts: CUDA looks only once
                process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            theirs.close()
            running[connection] = (waiting.popleft(), process)
            connection.send(running[connection][0])
        while running:
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                item, process = running.pop(ready)
                try:
                    error = ready.recv()
                except EOFError:
                    process.join()
                    raise UserError(
                        f"{item}: its process died (exit code {process.exitcode}), perhaps for want of memory; the "
                        "same command goes on, and fewer parallel runs need less"
                    ) from None
                if error is not None:
                    raise UserError(f"{item}: {error}")
                if waiting:
                    running[ready] = (waiting.popleft(), process)
                    ready.send(running[ready][0])
                else:
                    ready.close()  # the process ends
                yield item


def _work(function: Callable[[Any], Any], cores: Sequence[int], connection: Connection) -> None:
    """What a process does: item after item, until there is none or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        error = None
        try:
            function(item)
        except Exception as raised:  # whatever it is, the user reads it in the parent
            error = " ".join(str(raised).split())
            error = error if isinstance(raised, (UserError, OSError)) else f"{type(raised).__name__}: {error}"
        connection.send(error)


def _follow_parent() -> None:
    """A killed parent cannot end its children: they would train on, beside those of the job that is started again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
