"""One recipe, one seed, one learning rate -> one record."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback, ProgressCallback, set_seed
from transformers.trainer_utils import SchedulerType

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.environment import reset_peak_memory
from hf_radam.experiments.records import Record
from hf_radam.experiments.runs.averaging import WeightAverage
from hf_radam.experiments.runs.history import (
    TRAINER_NOISE,
    columns,
    curves_of,
    is_finite,
    measured,
    observers,
    resume_point,
)
from hf_radam.experiments.runs.trainer import ComparisonTrainer, blamed
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import Task
from hf_radam.registry import find_optimizer
from hf_radam.training.trainer import RAdamTrainingArguments


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
    with blamed(run.recipe):
        trainer = build_trainer(run, task, folder, processes, tell)
        trainer.get_train_dataloader()
        trainer.get_eval_dataloader()
    reset_peak_memory()
    trainer.train(resume_from_checkpoint=resume_point(folder))

    history = trainer.state.log_history
    curves = curves_of(history)
    if is_finite(curves) and not any(e.get("step") == run.max_steps and "eval_nll" in e for e in history):
        trainer.evaluate()
    names = [key.removeprefix("eval_") for entry in history if "eval_nll" in entry for key in entry]
    noise = {"step", "epoch", "loss", *TRAINER_NOISE}
    # A resumed run has also evaluated where it went on.
    due = {*range(0, run.max_steps, run.comparison.eval_steps), run.max_steps}
    history = [e for e in history if "eval_nll" not in e or e["step"] in due]
    evaluations = columns(history, [n for n in dict.fromkeys(names) if n not in noise], "eval_nll", "eval_")
    evaluations["loss"] = evaluations.pop("nll")
    final = {key: values[-1] for key, values in evaluations.items() if key != "step"}
    if not is_finite(curves):
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
        final=final,
        facts=task.facts,
        metric=task.metric,
        loss_unit=task.loss_unit,
        notes=trainer.notes,
        positive_label=task.positive_label,
        **measured(trainer, evaluations, run.comparison.record_every),
    )


def build_trainer(
    run: Run, task: Task, folder: Path, processes: int, tell: Callable[[int, float], None]
) -> ComparisonTrainer:
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
        optim_args=option_values(run.recipe.optim_args) if find_optimizer(args.optim) else None,
        train_dataset=task.train_dataset,
        eval_dataset=task.eval_dataset,
        data_collator=task.collator(model),
        processing_class=task.tokenizer,
        preprocess_logits_for_metrics=task.preprocess_logits_for_metrics,
        compute_metrics=task.compute_metrics,
        callbacks=observers(run.comparison.record_every, tell),
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


def identity(run: Run) -> dict[str, Any]:
    """The training arguments by which runs differ, whoever's Trainer takes them."""
    return {
        "seed": run.seed,
        "data_seed": run.seed,
        "optim": run.recipe.optimizer,
        "learning_rate": run.learning_rate * run.recipe.learning_rate_scale,
    }


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
        **identity(run),
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
        if spec := find_optimizer(recipe.optimizer):
            spec.check_options(option_values(recipe.optim_args))
        else:
            args.optim_args = as_text(recipe.optim_args)
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"recipe {recipe.name!r}: {error}") from error
    if recipe.warmup_steps and args.lr_scheduler_type == SchedulerType.CONSTANT:
        raise UserError(f"recipe {recipe.name!r}: lr_scheduler_type constant knows no warmup; use constant_with_warmup")
    return args


def option_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as Python has them: YAML and JSON know no tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def as_text(options: Mapping[str, Any]) -> str | None:
    """Options for an optimizer of Transformers, which takes nothing but text."""
    for key, value in options.items():
        if any(character in f"{key}{value}" for character in ",= "):
            raise ValueError(f"Transformers cannot be given the option {key}: {value!r}; take a registered optimizer")
    return ",".join(f"{key}={value}" for key, value in options.items()) or None
