"""A compared script: started, followed, its end explained, and its record made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.folder import ASKED, BEGUN, LOG, MESSAGES, RECORDING, record_path, run_folder
from hf_radam.experiments.metrics import LOWER
from hf_radam.experiments.records import Record, compact
from hf_radam.experiments.schema import UserError, build
from hf_radam.experiments.script_data import key_of
from hf_radam.files import last_line, one_line, write_whole
from hf_radam.training.launch import FOLLOWER, script_environment

Tell = Callable[[Mapping[str, Any]], None]
"""What a run calls after each update, with `step` and `loss`, or with the `error` that ends it."""
# Environment variable: the folder of the run that a script's process records.
FOLDER = "HF_RADAM_RUN"
RECORDER = "hf_radam.experiments.runs.recorder"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run as its process, and the recorder there, need it."""

    folder: str
    """Of the run."""
    fingerprint: str
    """Of the script: another one does not go on from its checkpoints."""
    recipe: str
    warmup: str
    """Rule of the recipe."""
    demanded: Mapping[str, Any]
    """Fields that the Trainer's arguments must have."""
    optim_args: Mapping[str, Any] = field(default_factory=dict)
    """Options of an optimizer of Transformers, which may drop them."""
    metric: str
    """As the script calls it, without `eval_`."""
    trainer: int | None
    eval_steps: int
    save_steps: int
    record_every: int
    arguments: Sequence[str] = ()
    """The script's; they may hold secrets, and are not written down."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the script's process has beside ours."""


def train(jobs: Mapping[str, Job], command: Sequence[str] | None, run: Run, tell: Tell) -> None:
    """Run the script of a run to its end, where its recording lies in the run's folder.

    Args:
        jobs: by the ids of runs.
        command: starts the script; None to call it in this process, which is a fork.

    Raises:
        UserError: it failed, trained or evaluated nothing, or does not do what is asked.
    """
    job, folder = jobs[run.id], Path(jobs[run.id].folder)
    asked = folder / ASKED
    if asked.is_file() and json.loads(asked.read_text(encoding="utf-8")).get("fingerprint") != job.fingerprint:
        shutil.rmtree(folder / "model", ignore_errors=True)  # checkpoints of another version of the script
    for name in (BEGUN, MESSAGES, RECORDING):
        (folder / name).unlink(missing_ok=True)
    write_whole(asked, json.dumps(asdict(replace(job, arguments=(), environment={}))))
    if command is None:
        _call(run.comparison.script.command[0], job, tell)
    else:
        _follow([*command, *job.arguments], job, tell)
    if not (folder / RECORDING).is_file():
        raise UserError(
            "the script ended well, but no Trainer of Transformers made an update in it; give it what makes it train "
            f"(often --do_train); what it printed is in {folder / LOG}"
        )


def _call(module: str, job: Job, tell: Tell) -> None:
    """Call our script in this process."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers.trainer import Trainer

    os.environ.update(job.environment)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # imported before, with another number of threads
    import_module(RECORDER).record(Trainer, job, tell)
    try:
        import_module(module).main(job.arguments)
    except (ValueError, TypeError, ImportError, ArithmeticError, StrictDataclassError) as error:
        traceback.print_exc()
        raise UserError(f"{one_line(error)}; mend the recipe's options, or those of model, data or training") from error


def _follow(command: Sequence[str], job: Job, tell: Tell) -> None:
    """Start a script in a process of its own, and wait for its end."""
    folder, step = Path(job.folder), 0
    ours = {FOLDER: job.folder, FOLLOWER: RECORDER, **script_environment(os.environ)}
    environment = {**os.environ, **ours, **job.environment}
    environment.pop("PYTHONSAFEPATH", None)  # ours; a script imports what lies beside it
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
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
    path.touch()
    with path.open("rb") as file:
        ended, unfinished = False, b""
        while not ended:
            ended = process.poll() is not None
            *lines, unfinished = (unfinished + file.read()).split(b"\n")
            yield from map(json.loads, lines)
            if not ended:
                time.sleep(0.1)


def keep(run: Run, folder: Path) -> Record:
    """Make the record of a run whose script has ended well.

    A script that evaluated nothing is refused, and one that gives two runs the very same curve.
    """
    script, is_ours = run.comparison.script, run.comparison.is_ours
    recorded = json.loads((run_folder(folder, run) / RECORDING).read_text(encoding="utf-8"))
    if not recorded["evaluations"]["loss"]:
        if not recorded["diverged"]:
            raise UserError(
                f"{run}: the script evaluated no loss; set eval_steps, or give it what makes it evaluate (often "
                "--do_eval or --eval_strategy) on data, not by an evaluator alone; where it evaluates several data "
                "sets, name a metric of one (--metric NAME_loss)"
            )
        recorded["evaluations"] = {"step": recorded["curves"]["step"][-1:], "loss": [None]}
    if is_ours:
        recorded |= {name: recorded["facts"].pop(name, None) for name in ("metric", "loss_unit", "positive_label")}
    else:
        key = script.metric_key
        recorded |= {"metric": key, "loss_unit": "as the script counts it", "facts": {}}
        if key.endswith(LOWER):
            for part in (recorded["evaluations"], recorded["final"]):
                if (found := key_of(script.metric or "")) in part:
                    part[key] = part.pop(found)
        recorded["environment"]["versions"][script.name] = script.version
    recorded["final"].setdefault(recorded["metric"])
    about = {"id": run.id, "comparison": run.comparison.name, "config": compact(run.config())}
    record = build(Record, {**about, **recorded}, where=str(run))
    if not is_ours and not record.diverged:
        _refuse_the_same(run, record, folder)
    record.save(record_path(folder, run))
    return record


def _refuse_the_same(run: Run, record: Record, folder: Path) -> None:
    """Two runs that differ in what was asked and agree in every digit show that the script did not listen."""
    for other in run.comparison.runs():
        path = record_path(folder, other)
        if other.id != run.id and path.is_file() and Record.load(path).curves["loss"] == record.curves["loss"]:
            ignored = ["--seed"] * (other.seed != run.seed)
            ignored += ["--learning_rate"] * (other.learning_rate != run.learning_rate)
            ignored += ["--optim, its options or the warmup"] * (other.recipe != run.recipe)
            raise UserError(
                f"{run}: its losses are those of {other} to the last digit, so the script ignores "
                f"{' and '.join(ignored)}; make it use them, or name its own flags in data.flags"
            )
