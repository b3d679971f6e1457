"""The process of one run: it takes its work from stdin and writes JSON to stdout, for `workers.in_parallel`."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
from typing import Any


def main() -> None:
    """Do the one piece of work that stdin holds; tell each update, and at the end `done` or `error`."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log
    cores, function, item = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_follow_parent, daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)

    def tell(**message: Any) -> None:
        print(json.dumps(message), file=channel, flush=True)

    from hf_radam.experiments.schema import UserError
    from hf_radam.files import one_line

    try:
        pickle.loads(function)(pickle.loads(item), lambda step, loss: tell(step=step, loss=loss))
    except (UserError, OSError) as error:
        tell(error=one_line(error))
    else:
        tell(done=True)


def _follow_parent() -> None:
    """End with the parent, however it ends: nothing trains on beside the job that is started again."""
    os.read(0, 1)  # returns at the end of stdin; sys.stdin would be locked when the interpreter ends
    if hasattr(os, "killpg"):
        os.killpg(os.getpid(), signal.SIGKILL)  # with the processes that load its data
    os._exit(1)


if __name__ == "__main__":
    main()
