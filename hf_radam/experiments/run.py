"""One recipe, one seed, one learning rate -> one record."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset, concatenate_datasets
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed
from transformers.trainer_pt_utils import LabelSmoother
from transformers.trainer_utils import SchedulerType

from hf_radam.experiments.config import Run, UserError
from hf_radam.experiments.recipes import UNTUNED_WARMUP
from hf_radam.experiments.records import Record, environment, peak_memory, reset_peak_memory
from hf_radam.experiments.tasks.translation import TranslationTask
from hf_radam.trainer import RAdamSeq2SeqTrainer, RAdamSeq2SeqTrainingArguments

# Columns of the record, and what Trainer's log calls them.
_CURVES = ("loss", "learning_rate", "rectification", "rho", "grad_norm", "seconds")
_TRAINER_NOISE = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


class ComparisonTrainer(RAdamSeq2SeqTrainer):
    """Our Trainer, with the untuned warmup rules on top of the scheduler."""

    def __init__(self, *args: Any, run: Run, **kwargs: Any) -> None:
        self.run = run
        super().__init__(*args, compute_loss_func=self.token_mean, **kwargs)

    def token_mean(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Mean loss over the tokens of the whole batch, label-smoothed as the arguments say.

        Models that ignore the number of items of the whole batch would have Transformers scale their loss, and with it
        the SGD steps of RAdam's start-up, by the number of processes.
        """
        mean = LabelSmoother(self.args.label_smoothing_factor)(outputs, labels)
        return mean if num_items_in_batch is None else mean * (labels != -100).sum() / num_items_in_batch

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The scheduler of the arguments, times the recipe's untuned warmup factor."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        factor = UNTUNED_WARMUP.get(self.run.recipe.warmup)
        if factor is not None:
            if not isinstance(scheduler, LambdaLR) or "betas" not in scheduler.optimizer.param_groups[0]:
                raise UserError(
                    f"recipe {self.run.recipe.name!r}: untuned warmup needs an optimizer with betas and a schedule "
                    "that is a function of the step, such as linear or cosine"
                )
            base, beta2 = scheduler.lr_lambdas[0], scheduler.optimizer.param_groups[0]["betas"][1]
            scheduler = LambdaLR(scheduler.optimizer, lambda step: factor(step + 1, beta2) * base(step))
            self.lr_scheduler: Any = scheduler
        return self.lr_scheduler


class StepRecorder(TrainerCallback):
    """Adds the seconds of each update to the log, and stops a run whose loss is no number any more."""

    def __init__(self) -> None:
        self.started = self.seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock, when the device has done its work."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started
        if state.global_step >= state.max_steps:
            control.should_save = False  # a run that went on from its last step would take one more

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write the time beside the loss."""
        if logs is not None and "loss" in logs:
            state.log_history[-1]["seconds"] = self.seconds
            if not math.isfinite(logs["loss"]):
                control.should_training_stop = True
                control.should_save = False


class QuietProgress(ProgressCallback):
    """Trainer's progress bar, without a line for each of the logged updates."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Log nothing: every update is logged, for the record."""


def train_and_record(run: Run, task: TranslationTask, folder: Path) -> Record | None:
    """Train one run, resuming from the last whole checkpoint under `folder`.

    Args:
        run: what to train.
        task: its data.
        folder: for checkpoints, and at the end `model/`.

    Returns:
        The record, on the main process; None on the others.
    """
    processes = PartialState().num_processes
    trainer = _trainer(run, task, folder, processes)
    reset_peak_memory()
    trainer.train(resume_from_checkpoint=_last_whole_checkpoint(folder))

    history = trainer.state.log_history
    curves = _columns(history, _CURVES, "loss", "")
    broken = any(not math.isfinite(loss) for loss in curves["loss"])
    if not broken and not any(e.get("step") == run.comparison.max_steps and "eval_nll" in e for e in history):
        trainer.evaluate()
    names = [key.removeprefix("eval_") for entry in history if "eval_nll" in entry for key in entry]
    noise = {"step", "epoch", "loss", *_TRAINER_NOISE}
    # A resumed run has also evaluated where it went on.
    history = [e for e in history if "eval_nll" not in e or _is_due(e["step"], run)]
    evaluations = _columns(history, [n for n in dict.fromkeys(names) if n not in noise], "eval_nll", "eval_")
    evaluations["loss"] = evaluations.pop("nll")
    final = {key: values[-1] for key, values in evaluations.items() if key != "step"}
    final = dict.fromkeys([*final, task.metric], math.nan) if broken else {**final, **_test(trainer, task, processes)}
    trainer.save_model(str(folder / "model"))
    if not trainer.is_world_process_zero():
        return None
    (folder / "model" / "training_args.bin").unlink()  # a pickle, and it names folders of this machine
    return Record(
        id=run.id,
        comparison=run.comparison.name,
        config=run.config(),
        diverged=broken or not final["loss"] <= evaluations["loss"][0],
        curves=curves,
        evaluations=evaluations,
        final=final,
        facts=task.facts,
        optimizer=_describe_optimizer(trainer),
        seconds_per_step=statistics.median(curves["seconds"]),
        peak_memory=peak_memory(),
        environment=environment(processes),
        metric=task.metric,
    )


def check(run: Run, task: TranslationTask, folder: Path) -> None:
    """Build everything that a run needs, and train nothing.

    Raises:
        UserError: what would otherwise stop the run hours later: options of the model, the optimizer or the schedule.
    """
    try:
        trainer = _trainer(run, task, folder, PartialState().num_processes)
        trainer.create_optimizer_and_scheduler(run.comparison.max_steps)
    except (ValueError, TypeError, KeyError, ImportError, RuntimeError) as error:
        raise UserError(f"recipe {run.recipe.name!r}: {' '.join(str(error).split())}") from error


def _trainer(run: Run, task: TranslationTask, folder: Path, processes: int) -> ComparisonTrainer:
    args = training_arguments(run, folder, processes)
    if "tensorboard" in (args.report_to or ()):  # it names a run after its folder, which no argument sets
        parts = (re.sub(r'[\\:*?"<>|]+', "-", part) for part in run_name(run).split("/"))
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.parents[1].joinpath("tensorboard", *parts))
    set_seed(run.seed)
    model = task.model()
    trainer = ComparisonTrainer(
        run=run,
        model=model,
        args=args,
        train_dataset=task.train_dataset,
        eval_dataset=_pad(task.eval_dataset, processes * args.per_device_eval_batch_size if processes > 1 else 1),
        data_collator=task.collator(model),
        processing_class=task.tokenizer,
        preprocess_logits_for_metrics=task.preprocess_logits_for_metrics,
        compute_metrics=task.compute_metrics,
        callbacks=[StepRecorder()],
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(QuietProgress)
    return trainer


def run_name(run: Run) -> str:
    """What trackers call the run: comparison/recipe/seed-k, with the learning rate where there are several."""
    rate = f"-lr{run.learning_rate:g}" if len(run.comparison.learning_rates) > 1 else ""
    return f"{run.comparison.name}/{run.recipe.name}/seed-{run.seed}{rate}"


def training_arguments(run: Run, folder: Path, processes: int) -> RAdamSeq2SeqTrainingArguments:
    """The arguments of one run on that many processes.

    Raises:
        UserError: an unknown optimizer or option, a value that Transformers refuses, a batch that cannot be split.
    """
    comparison, recipe = run.comparison, run.recipe
    per_device, rest = divmod(comparison.batch_size, processes)
    if rest or not per_device:
        raise UserError(f"batch_size {comparison.batch_size} must be a multiple of the {processes} processes")
    settings: dict[str, Any] = {
        "report_to": "none",
        "per_device_eval_batch_size": 64,
        "dataloader_pin_memory": torch.accelerator.is_available(),
        "use_cpu": not torch.accelerator.is_available(),
        **comparison.training,
        "output_dir": str(folder),
        "run_name": run_name(run),
        "seed": run.seed,
        "data_seed": run.seed,
        "optim": recipe.optimizer,
        "optim_args": ",".join(f"{key}={value}" for key, value in recipe.optim_args.items()) or None,
        "learning_rate": run.learning_rate,
        "warmup_steps": recipe.warmup_steps,
        "max_steps": comparison.max_steps,
        "per_device_train_batch_size": per_device,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps",
        "eval_steps": comparison.eval_steps,
        "eval_on_start": True,
        "save_strategy": "steps",
        "save_steps": comparison.save_steps or math.ceil(comparison.max_steps / 4),
        "save_total_limit": 1,
    }
    try:
        args = RAdamSeq2SeqTrainingArguments(**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"recipe {recipe.name!r}: {error}") from error
    if recipe.warmup_steps and args.lr_scheduler_type == SchedulerType.CONSTANT:
        raise UserError(f"recipe {recipe.name!r}: lr_scheduler_type constant knows no warmup; use constant_with_warmup")
    return args


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
    return step % run.comparison.eval_steps == 0 or step == run.comparison.max_steps


def _columns(history: list[dict[str, Any]], names: Any, marker: str, prefix: str) -> dict[str, list[Any]]:
    """The log entries that hold `marker`, as columns; of two entries for one step (after a resume) the later."""
    rows = {entry["step"]: entry for entry in history if marker in entry}
    present = [name for name in names if any(prefix + name in row for row in rows.values())]
    return {"step": list(rows), **{name: [row.get(prefix + name) for row in rows.values()] for name in present}}


def _pad(dataset: Dataset, multiple: int) -> Dataset:
    """Add examples without labels, so that all processes evaluate equally many and none is evaluated twice."""
    missing = -len(dataset) % multiple
    nothing = {"input_ids": [dataset["input_ids"][0]] * missing, "labels": [[-100]] * missing}
    return (
        concatenate_datasets([dataset, Dataset.from_dict(nothing, features=dataset.features)]) if missing else dataset
    )


def _test(trainer: ComparisonTrainer, task: TranslationTask, processes: int) -> dict[str, float]:
    """Translate the test sentences, each process its share, and score them together."""
    index, total = PartialState().process_index, len(task.references)
    share = slice(index * total // processes, (index + 1) * total // processes)
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    hypotheses = task.translate(model, trainer.args.per_device_eval_batch_size, share)
    return task.score(gather_object(hypotheses) if processes > 1 else hypotheses)


def _describe_optimizer(trainer: ComparisonTrainer) -> dict[str, Any]:
    optimizer: Any = trainer.optimizer
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    flags = {key: value for key, value in vars(optimizer).items() if not key.startswith("_")}
    options = {**flags, **optimizer.param_groups[0]}
    return {
        "name": str(trainer.args.optim),
        "class": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}",
        **{key: value for key, value in options.items() if isinstance(value, (bool, int, float, str, tuple))},
    }
