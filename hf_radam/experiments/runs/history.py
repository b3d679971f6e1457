"""What a training leaves in Trainer's log, for its record: callbacks that write it, and functions that read it."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from accelerate import PartialState
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from hf_radam.experiments.environment import environment, peak_memory
from hf_radam.experiments.recipes import UNTUNED_WARMUP
from hf_radam.experiments.runs.gradients import GradientHistograms, collect
from hf_radam.experiments.schema import UserError
from hf_radam.fit import state_bytes_per_parameter
from hf_radam.training.callbacks import innermost
from hf_radam.training.trainer_card import describe_optimizer

# Columns of the record, and what Trainer's log calls them.
CURVES = ("loss", "learning_rate", "rectification", "rho", "grad_norm", "seconds")
TRAINER_NOISE = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def is_update(logs: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether Trainer logged this of an update: a loss that somebody else logs comes without the learning rate."""
    return logs is not None and {"loss", "learning_rate"} <= logs.keys()


class StepRecorder(TrainerCallback):
    """Adds the seconds of each update to the log, tells its step and loss, and stops a run whose loss is no number."""

    def __init__(self, tell: Callable[[int, float], None]) -> None:
        self.started, self.seconds, self.tell = 0.0, 0.0, tell

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        """Stop the clock, when the device has done its work."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started
        control.should_log = True  # whatever a script's own callback says
        if state.global_step >= state.max_steps and not args.load_best_model_at_end:
            control.should_save = False  # a run that went on from its last step would take one more
        if control.should_save and optimizer is not None:
            optimizer.eval()  # of schedule-free ones the averaged weights are saved; training goes on from both alike

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write the time beside the loss."""
        if is_update(logs):
            state.log_history[-1]["seconds"] = self.seconds
            self.tell(state.global_step, logs["loss"])
            if not math.isfinite(logs["loss"]):
                control.should_training_stop = True
                control.should_save = False


def observers(every: int, tell: Callable[[int, float], None]) -> list[TrainerCallback]:
    """What writes a training into Trainer's log, and tells step and loss; `every` as `Comparison.record_every`."""
    return [StepRecorder(tell), *([GradientHistograms()] if every == 1 else [])]


def unheeded(optimizer: Any, asked: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first option that no group of parameters has as it was asked for: its name, what was asked, what is there.

    Args:
        optimizer: as the Trainer has it, the schedule made.
        asked: options by the names of training arguments, or those of groups.
    """
    read: dict[str, Callable[[Any], Any]] = {
        "learning_rate": lambda group: group.get("initial_lr"),
        "adam_beta1": lambda group: group.get("betas", (None, None))[0],
        "adam_beta2": lambda group: group.get("betas", (None, None))[1],
        "adam_epsilon": lambda group: group.get("eps"),
    }
    for name, value in asked.items():
        found = [read.get(name, lambda group, name=name: group.get(name))(g) for g in innermost(optimizer).param_groups]
        plain = json.loads(json.dumps([value, *found], default=float))
        if plain[0] not in plain[1:]:
            return name, value, found[0]
    return None


def add_untuned_warmup(scheduler: Any, warmup: Any, recipe: str) -> None:
    """Multiply the scheduler's factors, the present one too, by those of the recipe's rule, where that is untuned.

    Raises:
        UserError: the schedule is no function of the step, or the optimizer has no betas.
    """
    rule: Any = UNTUNED_WARMUP.get(warmup)
    if rule is None:
        return
    if not isinstance(scheduler, LambdaLR) or "betas" not in scheduler.optimizer.param_groups[0]:
        raise UserError(
            f"recipe {recipe!r}: untuned warmup needs an optimizer with betas and a schedule that is a function of the "
            "step, such as linear or cosine"
        )
    groups = scheduler.optimizer.param_groups
    beta2 = groups[0]["betas"][1]
    factors: list[Any] = [lambda step, of=of: rule(step + 1, beta2) * of(step) for of in scheduler.lr_lambdas]
    scheduler.lr_lambdas = factors
    for group, factor, rate in zip(groups, factors, scheduler.base_lrs, strict=True):
        group["lr"] = rate * factor(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in groups]


def resume_point(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; Trainer writes `trainer_state.json` last."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for checkpoint in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            return str(checkpoint)
        except (OSError, ValueError):
            if PartialState().is_main_process:
                shutil.rmtree(checkpoint, ignore_errors=True)
    return None


def _ended_above_its_start(training: list[float], evaluation: list[float]) -> bool:
    """Whether both losses rose; that of the evaluation alone also rises by overfitting."""
    last = statistics.fmean(training[-max(1, len(training) // 10) :])
    return not math.isfinite(evaluation[-1]) or (evaluation[-1] > evaluation[0] and last > training[0])


def columns(history: Sequence[Mapping[str, Any]], names: Any, marker: str, prefix: str) -> dict[str, list[Any]]:
    """The log entries that hold `marker`, as columns; of two entries for one step (after a resume) the later."""
    rows = {entry["step"]: entry for entry in history if marker in entry}
    present = [name for name in names if any(prefix + name in row for row in rows.values())]
    return {"step": list(rows), **{name: [row.get(prefix + name) for row in rows.values()] for name in present}}


def curves_of(history: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What was logged of the updates, as columns."""
    return columns([entry for entry in history if is_update(entry)], CURVES, "loss", "")


def measured(trainer: Any, evaluations: dict[str, list[Any]], every: int) -> dict[str, Any]:
    """The fields of a record that a Trainer knows by itself, at the end of its training.

    Args:
        trainer: has trained.
        evaluations: columns, `step` and `loss` among them.
        every: as `Comparison.record_every`.
    """
    history = trainer.state.log_history
    curves, losses = curves_of(history), evaluations["loss"]
    return {
        "diverged": not is_finite(curves) or (bool(losses) and _ended_above_its_start(curves["loss"], losses)),
        "curves": _thinned(curves, every),
        "gradients": collect(history) if every == 1 else None,
        "evaluations": evaluations,
        "optimizer": built_optimizer(trainer),
        "seconds_per_step": statistics.median(curves["seconds"]),
        "peak_memory": peak_memory(),
        "environment": environment(trainer.args.world_size),
        "state_bytes_per_parameter": state_bytes_per_parameter(innermost(trainer.optimizer)),
    }


def is_finite(curves: dict[str, list[Any]]) -> bool:
    """Whether no loss became infinite or NaN."""
    return all(map(math.isfinite, curves["loss"]))


def _thinned(curves: dict[str, list[Any]], every: int) -> dict[str, list[Any]]:
    """The first updates, then every so-manieth, and the last."""
    steps = curves["step"]
    kept = [i for i, step in enumerate(steps) if step <= every or step % every == 0 or step == steps[-1]]
    return {name: [column[i] for i in kept] for name, column in curves.items()}


def built_optimizer(trainer: Any) -> dict[str, Any]:
    """Name, class and plain options of the optimizer; of options that differ between groups, the first group's.

    Of a schedule-free one also whether its averaged weights were in place at the end (`train_mode` is False).
    """
    name, options = describe_optimizer(trainer.optimizer)
    of_group = innermost(trainer.optimizer).param_groups[0]
    options |= {key: [of_group[key]] for key in ("train_mode",) if key in of_group}
    plain = {key: values[0] for key, values in options.items() if isinstance(values[0], (bool, int, float, str, tuple))}
    return {"name": str(trainer.args.optim), "class": name, **plain}
