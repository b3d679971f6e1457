"""What the process of one run does before, beside and after its work; see `workers.in_parallel`."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from hf_radam.errors import UserError
from hf_radam.files import is_full_disk, one_line


def work(channel: Connection, log: Path, cores: Sequence[int], environment: Mapping[str, str], call: bytes) -> None:
    """Call the pickled function with its item; send each update, and at the end `done` or an `error`."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the parent, who decides
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if torch := sys.modules.get("torch"):  # imported before the fork, with other numbers of threads
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    threading.Thread(target=_follow_parent, args=(channel,), daemon=True).start()
    try:
        function, item = pickle.loads(call)
        done = function(item, lambda step, loss: channel.send({"step": step, "loss": loss}))
        channel.send({"done": done is not False})
    except Exception as error:
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
