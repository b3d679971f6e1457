"""What would stop a run hours later is found before the first one starts."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.runs.history import built_optimizer
from hf_radam.experiments.runs.run import build_trainer
from hf_radam.experiments.runs.trainer import ComparisonTrainer
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import Task
from hf_radam.files import one_line
from hf_radam.registry import list_optimizers


def check(run: Run, task: Task, folder: Path) -> None:
    """Build everything that a run needs, show the model the longest examples, and train nothing.

    Raises:
        UserError: options of the model, the optimizer or the schedule that do not work, or that would be ignored; a
            model that does not take the data.
    """
    with _blamed(run, ValueError):  # trackers that are not there, batches of no example
        trainer = build_trainer(run, task, folder, PartialState().num_processes)
        trainer.get_train_dataloader()
        trainer.get_eval_dataloader()
    with _blamed(run, ValueError, TypeError, ImportError):  # how optimizers and schedules refuse their options
        trainer.create_optimizer_and_scheduler(run.max_steps)
    with _blamed(run, ValueError, RuntimeError, IndexError):  # how a model refuses what it is given
        _show_the_longest(trainer, task)
    _refuse_ignored_options(run, trainer)


@contextmanager
def _blamed(run: Run, *errors: type[Exception]) -> Iterator[None]:
    """Say which recipe cannot be trained, and of an error that explains nothing also its kind."""
    try:
        yield
    except errors as error:
        kind = "" if isinstance(error, (ValueError, ImportError)) else f"{type(error).__name__}: "
        raise UserError(
            f"recipe {run.recipe.name!r}: {kind}{one_line(error)}; mend its options, or those of the model, the data "
            "or training"
        ) from error


def _show_the_longest(trainer: ComparisonTrainer, task: Task) -> None:
    """One batch of two: too few positions, a vocabulary that is too small, a tokenizer without padding."""
    model: Any = trainer.model
    if model.device.type == "meta":  # its weights are on the main process only
        return
    lengths = task.lengths or [1] * len(task.train_dataset)
    longest = heapq.nlargest(2, range(len(lengths)), key=lengths.__getitem__)
    batch = trainer.data_collator([task.train_dataset[i] for i in longest])
    batch = {name: value.to(model.device) for name, value in batch.items()}
    model.eval()  # dropout would move the random state
    with torch.no_grad():
        task.loss(model(**batch), batch["labels"], trainer.args.label_smoothing_factor)
    model.train()


def _refuse_ignored_options(run: Run, trainer: ComparisonTrainer) -> None:
    """Transformers drops options that its own optimizers do not know; two arms would be the same without a word."""
    if run.recipe.optimizer in list_optimizers():
        return
    built = json.loads(json.dumps(built_optimizer(trainer)))
    given = json.loads(json.dumps(run.recipe.optim_args, default=dict))
    for key, value in given.items():
        if key not in built or built[key] != value:
            raise UserError(
                f"recipe {run.recipe.name!r}: Transformers ignores the option {key!r} of {run.recipe.optimizer!r}; "
                f"leave it out, or take a registered optimizer: {', '.join(list_optimizers())}"
            )
