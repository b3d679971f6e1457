"""The process of a compared script: started, followed, its end explained, and its record made."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.folder import hold, record_path, remove_checkpoints
from hf_radam.experiments.metrics import LOWER
from hf_radam.experiments.records import Record
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks.script import ScriptTask, key_of
from hf_radam.files import last_line, write_whole
from hf_radam.training.launch import FOLLOWER

# Environment variable: the file that says what to record.
REQUEST = "HF_RADAM_REQUEST"
# Files in the folder of a run: what is asked, that it has begun, what is told, what was found, and what was printed.
_ASKED, BEGUN, MESSAGES, RECORDING, LOG = "request.json", "begun", "messages.jsonl", "recording.json", "log.txt"
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


def launch(
    jobs: Mapping[str, Job], task: ScriptTask, folder: Path, run: Run, tell: Callable[[int, float], None]
) -> bool:
    """Run the script of a run to its end and write its record, unless another job has it; returns whether it was ours.

    Args:
        jobs: by the ids of runs.
        task: the script.
        folder: results folder.
        run: which.
        tell: called after each update with the step and the loss.

    Raises:
        UserError: the script failed, trained or evaluated nothing, or does not do what is asked.
    """
    with hold(folder, run) as ours:
        if ours:
            follow(jobs[run.id], tell)
            keep(run, task, folder)
            remove_checkpoints(folder / "runs" / run.id / "model")
        return ours


def follow(job: Job, tell: Callable[[int, float], None]) -> None:
    """Start a script and wait for its end, where its recording lies in the run's folder.

    Raises:
        UserError: it failed, or trained nothing.
    """
    folder = Path(job.request.folder)
    for name in (BEGUN, MESSAGES, RECORDING):
        (folder / name).unlink(missing_ok=True)
    write_whole(folder / _ASKED, json.dumps(asdict(job.request)))
    environment = {**os.environ, **job.environment, REQUEST: str(folder / _ASKED), FOLLOWER: _RECORDER}
    environment.pop("PYTHONSAFEPATH", None)  # ours; a script imports what lies beside it
    process = subprocess.Popen(job.command, env=environment, stdin=subprocess.DEVNULL)
    step = 0
    for message in _told(process, folder / MESSAGES):
        if "error" in message:
            process.wait()
            raise UserError(message["error"])
        step = message["step"]
        tell(step, message["loss"])
    printed = f"what it printed is in {folder / LOG}"
    if process.returncode:
        last = last_line(folder / LOG)
        if "EOFError" in last:
            raise UserError(f"the script asks on standard input, where nobody answers; give it arguments; {printed}")
        raise UserError(f"the script failed (exit status {process.returncode}): {last}; {printed}")
    if step and not (folder / RECORDING).is_file():
        raise UserError(f"the script ended by itself after update {step}, in the middle of its training; {printed}")
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


def keep(run: Run, task: ScriptTask, folder: Path) -> None:
    """Make the record of a run whose script has ended well.

    Raises:
        UserError: the script evaluated nothing, or another run has the very same curve.
    """
    recorded = json.loads((folder / "runs" / run.id / RECORDING).read_text(encoding="utf-8"))
    if not recorded["evaluations"]["loss"]:
        if not recorded["diverged"]:
            raise UserError(
                "the script evaluated no loss; set eval_steps, or give it what makes it evaluate (often "
                "--do_eval or --eval_strategy) on data, not by an evaluator alone; where it evaluates several data "
                "sets, name a metric of one (--metric NAME_loss)"
            )
        recorded["evaluations"] = {"step": recorded["curves"]["step"][-1:], "loss": [math.nan]}
    key = task.data.metric_key
    if key.endswith(LOWER):
        for part in (recorded["evaluations"], recorded["final"]):
            if (found := key_of(task.data.metric or "")) in part:
                part[key] = part.pop(found)
    recorded["final"].setdefault(key, math.nan)
    environment = recorded["environment"]
    environment["versions"] = {**environment["versions"], task.data.name: task.version}
    record = Record(
        id=run.id,
        comparison=run.comparison.name,
        config=run.config(),
        facts={},
        metric=key,
        loss_unit="as the script counts it",
        **recorded,
    )
    _refuse_the_same(run, record, folder)
    record.save(record_path(folder, run))


def _refuse_the_same(run: Run, record: Record, folder: Path) -> None:
    """Two runs that differ in what was asked and agree in every digit show that the script did not listen."""
    for other in run.comparison.runs():
        path = record_path(folder, other)
        if other.id == run.id or record.diverged or not path.is_file():
            continue
        earlier = Record.load(path)
        if [float(f"{x:.8g}") for x in record.curves["loss"] if x is not None] == earlier.curves["loss"]:
            differs = {
                "--seed": other.seed != run.seed,
                "--learning_rate": other.learning_rate != run.learning_rate,
                "--optim, its options or the warmup": other.recipe != run.recipe,
            }
            ignored = " and ".join(flag for flag, differs_ in differs.items() if differs_)
            raise UserError(
                f"its losses are those of {other} to the last digit, so the script ignores {ignored}; make it "
                "use them, or name its own flags in data.flags"
            )
