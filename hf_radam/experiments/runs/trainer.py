"""What the comparison adds to our Trainer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.recipes import Recipe
from hf_radam.experiments.runs.averaging import WeightAverage
from hf_radam.experiments.runs.batches import TokenBatches
from hf_radam.experiments.runs.history import add_untuned_warmup, unheeded
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import Task
from hf_radam.files import is_full_disk, one_line
from hf_radam.registry import list_optimizers
from hf_radam.training.trainer import RAdamTrainer


@contextmanager
def blamed(recipe: Recipe) -> Iterator[None]:
    """Say which recipe cannot be trained."""
    try:
        yield
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(
            f"recipe {recipe.name!r}: {one_line(error)}; mend its options, or those of the model, the data or training"
        ) from error


class ComparisonTrainer(RAdamTrainer):
    """Our Trainer, with the task's loss, batches by tokens, and the untuned warmup rules on top of the scheduler."""

    _hf_radam_gives_advice = False  # RAdam is compared on purpose, and the report says what its start-up costs

    def __init__(self, *args: Any, run: Run, task: Task, **kwargs: Any) -> None:
        self.run, self.task = run, task
        self.average: WeightAverage | None = None
        self.notes: list[str] = []
        """What went wrong without ending the run."""
        super().__init__(*args, compute_loss_func=self.mean_loss, **kwargs)

    def mean_loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Mean loss over the labels of the whole batch, label-smoothed as the arguments say.

        Models that ignore the number of items of the whole batch would have Transformers scale their loss, and with it
        the SGD steps of RAdam's start-up, by the number of processes and of accumulated parts.
        """
        mean = self.task.loss(outputs, labels, self.args.label_smoothing_factor)
        return mean if num_items_in_batch is None else mean * (labels != -100).sum() / num_items_in_batch

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of so many examples, or of so many tokens."""
        tokens = self.run.comparison.tokens_per_batch
        if tokens is None:
            return super().get_train_dataloader()
        assert self.task.lengths is not None
        batches = TokenBatches(
            self.task.lengths,
            tokens,
            steps=self.run.max_steps,
            seed=self.run.seed,
            processes=self.args.world_size,
            process=self.args.process_index,
            accumulation=self.args.gradient_accumulation_steps,
        )
        return DataLoader(
            self.task.train_dataset,
            batch_sampler=batches,
            collate_fn=self._get_collator_with_removed_columns(self.data_collator),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            generator=torch.Generator(),  # of the workers' seeds; the global one would move the dropout
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As in Transformers; a full disk costs the checkpoint and not the run."""
        step = self.state.global_step
        with self.noting_a_full_disk(f"no checkpoint at update {step}", Path(self._get_output_dir(trial)), f"*-{step}"):
            if self.average is not None:
                self.average.save(step)
            super()._save_checkpoint(model, trial)
            if self.average is not None:
                self.average.forget_before(step)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """As in Transformers; options that the optimizer refuses are the recipe's fault."""
        with blamed(self.run.recipe):
            return super().create_optimizer(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The scheduler of the arguments, times the recipe's untuned warmup factor.

        Raises:
            UserError: Transformers drops an option of the recipe: two arms would be the same without a word.
        """
        recipe, own = self.run.recipe, list_optimizers()
        with blamed(recipe):
            scheduler = super().create_scheduler(num_training_steps, optimizer)
        if recipe.optimizer not in own and (found := unheeded(optimizer or self.optimizer, recipe.optim_args)):
            raise UserError(
                f"recipe {recipe.name!r}: Transformers ignores the option {found[0]!r} of {recipe.optimizer!r}; leave "
                f"it out, or take a registered optimizer: {', '.join(own)}"
            )
        add_untuned_warmup(scheduler, recipe.warmup, recipe.name)
        return scheduler

    @contextmanager
    def noting_a_full_disk(self, what: str, folder: Path, pattern: str) -> Iterator[None]:
        """Go on where the disk is full: note it for the record, and delete what has been half written."""
        try:
            yield
        except Exception as error:  # safetensors and tokenizers raise classes of their own
            if not is_full_disk(error):
                raise
            self.notes.append(f"{what}: the disk was full")
            for path in folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)
