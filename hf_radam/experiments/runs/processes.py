"""Several runs at a time, each in a process of its own, on its own device or cores."""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil
import torch

from hf_radam.errors import UserError
from hf_radam.experiments.runs.launching import Tell
from hf_radam.files import is_full_disk, last_line, one_line

T = TypeVar("T")


def places(count: int, cores: int, gpus: Sequence[str], environment: Mapping[str, str]) -> list[dict[str, str]]:
    """What the environment of each process has beside ours: its share of the cores as threads, its GPU.

    Entries of CUDA_VISIBLE_DEVICES fewer than `count` are used by several, in turn. A number of threads in the
    environment is kept.

    Example:
        >>> places(2, cores=4, gpus=["0"], environment={})[1]
        {'OMP_NUM_THREADS': '2', 'CUDA_VISIBLE_DEVICES': '0'}
    """
    threads = {"OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", str(max(1, cores // count)))}
    return [{**threads, **({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})} for i in range(count)]


def as_many_as_fit(threads: int | None) -> int:
    """How many runs of so many threads GPUs, or else cores, and the free memory allow at a time; at least 1."""
    devices = len(gpus_here()) if torch.accelerator.is_available() else _cores() // (threads or 1)
    # This process has the data; a run adds its model, gradients, optimizer state and activations.
    each = 2 * psutil.Process().memory_info().rss
    return max(1, min(devices, psutil.virtual_memory().available // each))


@dataclass(eq=False)
class _Worker:
    item: Any
    place: dict[str, str]
    log: Path
    process: BaseProcess
    last: Mapping[str, Any] = field(default_factory=dict)
    """Its latest message."""


def in_parallel(
    function: Callable[[T, Tell], Any],
    items: Iterable[T],
    processes: int,
    log: Callable[[T], Path],
    on_update: Callable[[T, int, float], None] = lambda *_: None,
    gpus: Sequence[str] = (),
) -> Generator[T, None, None]:
    """Call a function for each item, so many at a time, each in a new process; yield the items as they are done.

    Whatever ends this, an error or a signal or the caller, ends the processes too.

    Args:
        function: picklable, as are the items.
        items: each is taken when a process is free for it.
        log: the file for what the process of an item prints.
        on_update: called here with what a run tells.
        gpus: entries of CUDA_VISIBLE_DEVICES, to be shared out; none to leave them to the runs.

    Raises:
        UserError: an item failed, in one line.
    """
    waiting = iter(items)
    free = places(processes, _cores(), gpus, os.environ)
    running: dict[Connection, _Worker] = {}
    context: Any = multiprocessing.get_context(method())
    try:
        while True:
            while free and (item := next(waiting, None)) is not None:
                place = free.pop(0)
                channel, theirs = context.Pipe()
                path = log(item)
                path.parent.mkdir(parents=True, exist_ok=True)
                given = (theirs, path, {**os.environ, **place}, pickle.dumps((function, item)))
                running[channel] = _Worker(item, place, path, context.Process(target=_work, args=given))
                running[channel].process.start()
                theirs.close()
            if not running:
                return
            for ready in wait(list(running)):
                channel = cast(Connection, ready)
                worker = running[channel]
                try:
                    worker.last = channel.recv()
                except (EOFError, OSError):
                    _end(channel, running.pop(channel))
                    if "done" not in worker.last:
                        died = (
                            f"its process died (exit code {worker.process.exitcode}): {last_line(worker.log)}; what it "
                            f"printed is in {worker.log}; the same command goes on, and where memory was short, fewer "
                            "parallel runs need less"
                        )
                        raise UserError(f"{worker.item}: {worker.last.get('error') or died}") from None
                    free.append(worker.place)
                    yield worker.item
                else:
                    if "step" in worker.last:
                        on_update(worker.item, worker.last["step"], worker.last["loss"])
    finally:
        for channel, worker in running.items():
            _end(channel, worker)


def _work(channel: Connection, log: Path, environment: Mapping[str, str], call: bytes) -> None:
    """Call the pickled function with its item and what sends messages; send at the end `done` or an `error`."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the parent, who decides
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    gc.freeze()  # what was imported; Accelerate looks through the rest at every start of a training
    threading.Thread(target=_follow_parent, args=(channel,), daemon=True).start()
    try:
        function, item = pickle.loads(call)
        function(item, channel.send)
        channel.send({"done": True})
    except Exception as error:  # a full disk is an Exception or RuntimeError to tokenizers and torch.save
        if not isinstance(error, (UserError, OSError)) and not is_full_disk(error):
            raise
        channel.send({"error": one_line(error)})
    finally:
        atexit._run_exitfuncs()  # trackers end their runs there; a fork would skip it before Python 3.13


def _follow_parent(channel: Connection) -> None:
    """End with the parent, however it ends: nothing trains on beside the job that is started again."""
    try:
        channel.recv()
    except (EOFError, OSError):
        if hasattr(os, "killpg"):
            os.killpg(os.getpid(), signal.SIGKILL)  # with the processes that load its data
        os._exit(1)


def method() -> str:
    """Forks cost no second import; only on the CPU, since a driver does not survive one, and under Linux."""
    return "forkserver" if sys.platform == "linux" and not torch.accelerator.is_available() else "spawn"


def import_ahead(modules: Sequence[str]) -> None:
    """Import modules beside what this process does, once for all processes that are forks; called once."""
    forkserver.set_forkserver_preload([*modules])
    before = dict(os.environ)
    # It finds what we have found, and no file of the working directory instead.
    os.environ |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _end(channel: Connection, worker: _Worker) -> None:
    """Close the channel of a process, at which it ends, and wait for that."""
    channel.close()
    worker.process.join(timeout=10)
    if worker.process.exitcode is None:
        worker.process.kill()
        worker.process.join()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus_here() -> list[str]:
    if not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
