"""The process of a compared script: started, followed, and its end explained. Without torch: it only waits."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.schema import UserError
from hf_radam.files import last_line, write_whole
from hf_radam.training.launch import FOLLOWER

# Environment variable: the file that says what to record.
REQUEST = "HF_RADAM_REQUEST"
# Files in the folder of a run: what is asked, what is told on the way, what was found, and all that was printed.
_ASKED, MESSAGES, RECORDING, LOG = "request.json", "messages.jsonl", "recording.json", "log.txt"
_RECORDER = "hf_radam.experiments.runs.recorder"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the process of a script is asked to record."""

    folder: str
    """Of the run."""
    recipe: str
    warmup: str
    """Rule of the recipe."""
    demanded: Mapping[str, Any]
    """Fields that the Trainer's arguments must have."""
    metric: str
    """As the script calls it, without `eval_`."""
    trainer: int | None
    eval_steps: int
    save_steps: int
    record_every: int
    fingerprint: str
    """Of the script: another one does not go on from its checkpoints."""

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read what `launch` has written."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one run starts."""

    command: list[str]
    environment: Mapping[str, str]
    request: Request


def launch(jobs: Mapping[str, Job], run: Run, tell: Callable[[int, float], None]) -> None:
    """Run the script of a run to its end, where its recording lies in the run's folder.

    Args:
        jobs: by the ids of runs.
        run: which.
        tell: called after each update with the step and the loss.

    Raises:
        UserError: the script failed, trained nothing, or does not do what is asked.
    """
    job = jobs[run.id]
    folder = Path(job.request.folder)
    for name in (MESSAGES, RECORDING):
        (folder / name).unlink(missing_ok=True)
    write_whole(folder / _ASKED, json.dumps(asdict(job.request)))
    environment = {**os.environ, **job.environment, REQUEST: str(folder / _ASKED), FOLLOWER: _RECORDER}
    environment.pop("PYTHONSAFEPATH", None)  # ours; a script imports what lies beside it
    process = subprocess.Popen(job.command, env=environment, stdin=subprocess.DEVNULL)
    for message in _told(process, folder / MESSAGES):
        if "error" in message:
            process.wait()
            raise UserError(message["error"])
        tell(message["step"], message["loss"])
    printed = f"what it printed is in {folder / LOG}"
    if process.returncode:
        last = last_line(folder / LOG)
        if "EOFError" in last:
            raise UserError(f"the script asks on standard input, where nobody answers; give it arguments; {printed}")
        raise UserError(f"the script failed (exit status {process.returncode}): {last}; {printed}")
    if not (folder / RECORDING).is_file():
        raise UserError(
            "the script ended well, but no Trainer of Transformers made an update in it; give it what makes it train "
            f"(often --do_train); {printed}"
        )


def _told(process: subprocess.Popen[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """What the script's process tells, until it ends."""
    read, ended = 0, False
    while not ended:
        ended = process.poll() is not None
        if path.is_file():
            with path.open("rb") as file:
                file.seek(read)
                for line in file:
                    if line.endswith(b"\n"):
                        read += len(line)
                        yield json.loads(line)
        if not ended:
            time.sleep(0.1)
