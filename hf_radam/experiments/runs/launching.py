"""A compared script: started, followed, its end explained, and its record made."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.folder import record_path, remove_checkpoints
from hf_radam.experiments.metrics import LOWER
from hf_radam.experiments.records import Record
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.script_data import ScriptData, key_of
from hf_radam.files import last_line, one_line, write_whole
from hf_radam.training.launch import FOLLOWER

Tell = Callable[[Mapping[str, Any]], None]
"""What a run calls after each update, with `step` and `loss`, or with the `error` that ends it."""
# Environment variable: the file that says what to record.
REQUEST = "HF_RADAM_REQUEST"
# Files in the folder of a run: what is asked, that it has begun, what is told, what was found, and what was printed.
_ASKED, BEGUN, MESSAGES, RECORDING, LOG = "request.json", "begun", "messages.jsonl", "recording.json", "log.txt"
# What our scripts write by `save_metrics("data", ...)`: facts about the data, the metric, the unit of the loss.
FACTS = "data_results.json"
RECORDER = "hf_radam.experiments.runs.recorder"


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
    optim_args: Mapping[str, Any] = field(default_factory=dict)
    """Options of an optimizer of Transformers, which may drop them."""

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read what `train` has written."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one run starts."""

    command: list[str]
    words: int
    """Where in it the script's arguments begin."""
    environment: Mapping[str, str]
    request: Request
    module: str | None = None
    """Of the script, where it is called in this process, which is a fork; else the command starts one."""


def train(jobs: Mapping[str, Job], run: Run, tell: Tell) -> None:
    """Run the script of a run to its end, where its recording lies in the run's folder.

    Args:
        jobs: by the ids of runs.
        run: which.
        tell: called after each update with its step and loss.

    Raises:
        UserError: the script failed, trained or evaluated nothing, or does not do what is asked.
    """
    job = jobs[run.id]
    folder = Path(job.request.folder)
    for name in (BEGUN, MESSAGES, RECORDING):
        (folder / name).unlink(missing_ok=True)
    write_whole(folder / _ASKED, json.dumps(asdict(job.request)))
    if job.module is not None:
        _call(job, job.module, tell)
    else:
        follow(job, tell)
    if not (folder / RECORDING).is_file():
        raise UserError(
            "the script ended well, but no Trainer of Transformers made an update in it; give it what makes it train "
            f"(often --do_train); what it printed is in {folder / LOG}"
        )


def _call(job: Job, module: str, tell: Tell) -> None:
    """Call our script in this process."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers.trainer import Trainer

    os.environ.update(job.environment)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    import_module(RECORDER).record(Trainer, job.request, tell)
    try:
        import_module(module).main(job.command[job.words :])
    except (ValueError, TypeError, ImportError, ArithmeticError, StrictDataclassError) as error:
        traceback.print_exc()
        raise UserError(f"{one_line(error)}; mend the recipe's options, or those of model, data or training") from error


def follow(job: Job, tell: Tell) -> None:
    """Start a script in a process of its own, and wait for its end.

    Raises:
        UserError: it failed, or ended in the middle of its training.
    """
    folder = Path(job.request.folder)
    environment = {**os.environ, **job.environment, REQUEST: str(folder / _ASKED), FOLLOWER: RECORDER}
    environment.pop("PYTHONSAFEPATH", None)  # ours; a script imports what lies beside it
    process = subprocess.Popen(job.command, env=environment, stdin=subprocess.DEVNULL)
    step = 0
    for message in _told(process, folder / MESSAGES):
        if "error" in message:
            process.wait()
            raise UserError(message["error"])
        step = message["step"]
        tell(message)
    printed = f"what it printed is in {folder / LOG}"
    if process.returncode:
        last = last_line(folder / LOG)
        if "EOFError" in last:
            raise UserError(f"the script asks on standard input, where nobody answers; give it arguments; {printed}")
        raise UserError(f"the script failed (exit status {process.returncode}): {last}; {printed}")
    if step and not (folder / RECORDING).is_file():
        raise UserError(f"the script ended by itself after update {step}, in the middle of its training; {printed}")


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


def keep(run: Run, script: ScriptData, folder: Path) -> Record:
    """Make the record of a run whose script has ended well, and drop what it left beside its model.

    Args:
        run: which.
        script: what trained it.
        folder: results folder.

    Raises:
        UserError: the script evaluated nothing, or another run has the very same curve.
    """
    place = folder / "runs" / run.id
    recorded = json.loads((place / RECORDING).read_text(encoding="utf-8"))
    if not recorded["evaluations"]["loss"]:
        if not recorded["diverged"]:
            raise UserError(
                f"{run}: the script evaluated no loss; set eval_steps, or give it what makes it evaluate (often "
                "--do_eval or --eval_strategy) on data, not by an evaluator alone; where it evaluates several data "
                "sets, name a metric of one (--metric NAME_loss)"
            )
        recorded["evaluations"] = {"step": recorded["curves"]["step"][-1:], "loss": [math.nan]}
    facts = recorded.pop("facts")
    if run.comparison.task != "script":
        known = {name: facts.pop(name, None) for name in ("metric", "loss_unit", "positive_label")}
    else:
        key, facts = script.metric_key, {}
        known = {"metric": key, "loss_unit": "as the script counts it"}
        if key.endswith(LOWER):
            for part in (recorded["evaluations"], recorded["final"]):
                if (found := key_of(script.metric or "")) in part:
                    part[key] = part.pop(found)
        recorded["environment"]["versions"][script.name] = script.version
    recorded["final"].setdefault(known["metric"], math.nan)
    record = Record(
        id=run.id, comparison=run.comparison.name, config=run.config(), facts=facts, **{**recorded, **known}
    )
    if run.comparison.task == "script":
        _refuse_the_same(run, record, folder)
    record.save(record_path(folder, run))
    remove_checkpoints(place / "model")
    return record


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
                f"{run}: its losses are those of {other} to the last digit, so the script ignores {ignored}; make it "
                "use them, or name its own flags in data.flags"
            )
