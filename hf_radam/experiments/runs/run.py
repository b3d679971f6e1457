"""One recipe, one seed, one learning rate -> one record."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed
from transformers.trainer_utils import SchedulerType

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.environment import environment, peak_memory, reset_peak_memory
from hf_radam.experiments.records import Record
from hf_radam.experiments.runs.averaging import WeightAverage
from hf_radam.experiments.runs.gradients import GradientHistograms, collect
from hf_radam.experiments.runs.trainer import ComparisonTrainer, Padded
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import Task
from hf_radam.registry import get_optimizer, list_optimizers
from hf_radam.state import state_bytes_per_parameter
from hf_radam.training.callbacks import innermost
from hf_radam.training.card import describe_optimizer
from hf_radam.training.trainer import RAdamTrainingArguments

# Columns of the record, and what Trainer's log calls them.
_CURVES = ("loss", "learning_rate", "rectification", "rho", "grad_norm", "seconds")
_TRAINER_NOISE = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


class StepRecorder(TrainerCallback):
    """Adds the seconds of each update to the log, and stops a run whose loss is no number any more."""

    def __init__(self) -> None:
        self.started = self.seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        """Stop the clock, when the device has done its work."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started
        if state.global_step >= state.max_steps:
            control.should_save = False  # a run that went on from its last step would take one more
        if control.should_save and optimizer is not None:
            optimizer.eval()  # of schedule-free ones the averaged weights are saved; training goes on from both alike

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write the time beside the loss."""
        if logs is not None and "loss" in logs:
            state.log_history[-1]["seconds"] = self.seconds
            if not math.isfinite(logs["loss"]):
                control.should_training_stop = True
                control.should_save = False


class ResumeGuard(TrainerCallback):
    """Ends a run that does not go on at its checkpoint's step: Trainer counts from 0 if the checkpoint loses its state.

    Args:
        checkpoint: the folder that is resumed from, `checkpoint-STEP`.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Compare the steps."""
        if state.global_step != int(self.checkpoint.rpartition("-")[2]):
            raise UserError(
                f"{self.checkpoint} was resumed at update {state.global_step}: it changed while it was read; make sure "
                "that nothing else writes there, and run the same command again"
            )


class Telling(TrainerCallback):
    """Tells the step and the loss of each update to whoever shows them.

    Args:
        tell: called with both.
    """

    def __init__(self, tell: Callable[[int, float], None]) -> None:
        self.tell = tell

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Pass the loss on."""
        if logs is not None and "loss" in logs:
            self.tell(state.global_step, logs["loss"])


def train_and_record(run: Run, task: Task, folder: Path, tell: Callable[[int, float], None]) -> Record | None:
    """Train one run, resuming from the last whole checkpoint under `folder`.

    Args:
        run: what to train.
        task: its data.
        folder: for checkpoints, and at the end `model/`.
        tell: called after each update with the step and the loss.

    Returns:
        The record, on the main process; None on the others.
    """
    processes = PartialState().num_processes
    trainer = build_trainer(run, task, folder, processes)
    trainer.add_callback(Telling(tell))
    reset_peak_memory()
    checkpoint = _last_whole_checkpoint(folder)
    if checkpoint is not None:
        trainer.add_callback(ResumeGuard(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint)

    history = trainer.state.log_history
    curves = _columns(history, _CURVES, "loss", "")
    broken = any(not math.isfinite(loss) for loss in curves["loss"])
    if not broken and not any(e.get("step") == run.max_steps and "eval_nll" in e for e in history):
        trainer.evaluate()
    names = [key.removeprefix("eval_") for entry in history if "eval_nll" in entry for key in entry]
    noise = {"step", "epoch", "loss", *_TRAINER_NOISE}
    # A resumed run has also evaluated where it went on.
    history = [e for e in history if "eval_nll" not in e or _is_due(e["step"], run)]
    evaluations = _columns(history, [n for n in dict.fromkeys(names) if n not in noise], "eval_nll", "eval_")
    evaluations["loss"] = evaluations.pop("nll")
    final = {key: values[-1] for key, values in evaluations.items() if key != "step"}
    if broken:
        final = dict.fromkeys([*final, task.metric], math.nan)
    else:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.average is not None:
            trainer.average.apply(model)
        final = {**final, **task.test(model, trainer.args.per_device_eval_batch_size)}
    with trainer.noting_a_full_disk("the trained model was not kept", folder, "model"):
        trainer.save_model(str(folder / "model"))
    if not trainer.is_world_process_zero():
        return None
    (folder / "model" / "training_args.bin").unlink(missing_ok=True)  # a pickle that names folders of this machine
    return Record(
        id=run.id,
        comparison=run.comparison.name,
        config=run.config(),
        diverged=broken or _ended_above_its_start(curves["loss"], evaluations["loss"]),
        curves=_thinned(curves, run.comparison.record_every),
        gradients=collect(history) if run.comparison.record_every == 1 else None,
        evaluations=evaluations,
        final=final,
        facts=task.facts,
        optimizer=built_optimizer(trainer),
        seconds_per_step=statistics.median(curves["seconds"]),
        peak_memory=peak_memory(),
        environment=environment(processes),
        metric=task.metric,
        loss_unit=task.loss_unit,
        notes=trainer.notes,
        state_bytes_per_parameter=state_bytes_per_parameter(innermost(trainer.optimizer)),
    )


def build_trainer(run: Run, task: Task, folder: Path, processes: int) -> ComparisonTrainer:
    """The Trainer of a run, with a new model.

    Raises:
        UserError: see `training_arguments`.
    """
    args = training_arguments(run, folder, processes)
    if "tensorboard" in (args.report_to or ()):  # it names a run after its folder, which no argument sets
        parts = (re.sub(r'[\\:*?"<>|]+', "-", part) for part in run_name(run).split("/"))
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.parents[1].joinpath("tensorboard", *parts))
    set_seed(run.seed)
    model = task.model(run.comparison.model_of(run.recipe))
    trainer = ComparisonTrainer(
        run=run,
        task=task,
        model=model,
        args=args,
        optim_args=_values(run.recipe.optim_args) if args.optim in list_optimizers() else None,
        train_dataset=task.train_dataset,
        eval_dataset=Padded(task.eval_dataset, processes * args.per_device_eval_batch_size if processes > 1 else 1),
        data_collator=task.collator(model),
        processing_class=task.tokenizer,
        preprocess_logits_for_metrics=task.preprocess_logits_for_metrics,
        compute_metrics=task.compute_metrics,
        callbacks=[StepRecorder(), GradientHistograms()],
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    if run.comparison.average_checkpoints:
        trainer.average = WeightAverage(
            run.comparison.average_checkpoints, run.comparison.save_steps, folder / "averages"
        )
        trainer.add_callback(trainer.average)
    return trainer


def run_name(run: Run) -> str:
    """What trackers call the run: comparison/recipe/seed-k, with the learning rate where there are several."""
    rate = f"-lr{run.learning_rate:g}" if len(run.comparison.learning_rates) > 1 else ""
    return f"{run.comparison.name}/{run.recipe.name}/seed-{run.seed}{rate}"


def training_arguments(run: Run, folder: Path, processes: int) -> RAdamTrainingArguments:
    """The arguments of one run on that many processes.

    Raises:
        UserError: an unknown optimizer or option, a value that Transformers refuses, a batch that cannot be split.
    """
    comparison, recipe = run.comparison, run.recipe
    parts = processes * comparison.gradient_accumulation_steps
    per_device, rest = divmod(comparison.batch_size or parts, parts)
    if rest or not per_device:
        raise UserError(
            f"batch_size {comparison.batch_size} must be a multiple of the {processes} processes times "
            f"{comparison.gradient_accumulation_steps} gradient_accumulation_steps"
        )
    settings: dict[str, Any] = {
        "report_to": "none",
        "per_device_eval_batch_size": 64,
        "dataloader_pin_memory": torch.accelerator.is_available(),
        "use_cpu": not torch.accelerator.is_available(),
        **comparison.training,
        **recipe.training(),
        "output_dir": str(folder),
        "run_name": run_name(run),
        "seed": run.seed,
        "data_seed": run.seed,
        "optim": recipe.optimizer,
        "learning_rate": run.learning_rate * recipe.learning_rate_scale,
        "warmup_steps": recipe.warmup_updates(run.max_steps),
        "max_steps": run.max_steps,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": comparison.gradient_accumulation_steps,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps",
        "eval_steps": comparison.eval_steps,
        "eval_on_start": True,
        "save_strategy": "steps",
        "save_steps": comparison.save_steps or math.ceil(run.max_steps / 4),
        "save_total_limit": 1,
    }
    try:
        args = RAdamTrainingArguments(**settings)
        if recipe.optimizer in list_optimizers():
            get_optimizer(recipe.optimizer).check_options(_values(recipe.optim_args))
        else:
            args.optim_args = _as_text(recipe.optim_args)
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"recipe {recipe.name!r}: {error}") from error
    if recipe.warmup_steps and args.lr_scheduler_type == SchedulerType.CONSTANT:
        raise UserError(f"recipe {recipe.name!r}: lr_scheduler_type constant knows no warmup; use constant_with_warmup")
    return args


def _values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as Python has them: YAML and JSON know no tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def _as_text(options: Mapping[str, Any]) -> str | None:
    """Options for an optimizer of Transformers, which takes nothing but text."""
    for key, value in options.items():
        if any(character in f"{key}{value}" for character in ",= "):
            raise ValueError(f"Transformers cannot be given the option {key}: {value!r}; take a registered optimizer")
    return ",".join(f"{key}={value}" for key, value in options.items()) or None


def _last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; Trainer writes `trainer_state.json` last."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for checkpoint in checkpoints:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            return str(checkpoint)
        except (OSError, ValueError):
            if PartialState().is_main_process:
                shutil.rmtree(checkpoint, ignore_errors=True)
    return None


def _is_due(step: float, run: Run) -> bool:
    return step % run.comparison.eval_steps == 0 or step == run.max_steps


def _ended_above_its_start(training: list[float], evaluation: list[float]) -> bool:
    """Whether both losses rose; that of the evaluation alone also rises by overfitting."""
    last = statistics.fmean(training[-max(1, len(training) // 10) :])
    return not math.isfinite(evaluation[-1]) or (evaluation[-1] > evaluation[0] and last > training[0])


def _columns(history: list[dict[str, Any]], names: Any, marker: str, prefix: str) -> dict[str, list[Any]]:
    """The log entries that hold `marker`, as columns; of two entries for one step (after a resume) the later."""
    rows = {entry["step"]: entry for entry in history if marker in entry}
    present = [name for name in names if any(prefix + name in row for row in rows.values())]
    return {"step": list(rows), **{name: [row.get(prefix + name) for row in rows.values()] for name in present}}


def _thinned(curves: dict[str, list[Any]], every: int) -> dict[str, list[Any]]:
    """The first updates, then every so-manieth, and the last."""
    steps = curves["step"]
    kept = [i for i, step in enumerate(steps) if step <= every or step % every == 0 or step == steps[-1]]
    return {name: [column[i] for i in kept] for name, column in curves.items()}


def built_optimizer(trainer: ComparisonTrainer) -> dict[str, Any]:
    """Name, class and plain options of the optimizer; of options that differ between groups, the first group's.

    Of a schedule-free one also whether its averaged weights were in place at the end (`train_mode` is False).
    """
    name, options = describe_optimizer(trainer.optimizer)
    of_group = innermost(trainer.optimizer).param_groups[0]
    options |= {key: [of_group[key]] for key in ("train_mode",) if key in of_group}
    plain = {key: values[0] for key, values in options.items() if isinstance(values[0], (bool, int, float, str, tuple))}
    return {"name": str(trainer.args.optim), "class": name, **plain}
