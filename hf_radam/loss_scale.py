"""The loss of a batch that is split over processes and accumulation steps is that of the whole batch, for any model.

Transformers passes the number of labels in the whole batch to the model and expects the sum of losses over it. A model
that takes the number and ignores it (BERT's classifier, Marian, T5) returns the mean over its own part instead, and its
loss comes out too large by the number of processes times that of accumulation steps. Adam does not notice; the SGD
steps of RAdam's start-up, and gradient clipping, do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer

if TYPE_CHECKING:
    _Trainer = Trainer
else:
    _Trainer = object


class WholeBatchLossMixin(_Trainer):
    """Weighs the losses of a model that ignores `num_items_in_batch` by their share of the batch's labels."""

    _ignores_num_items: bool | None = None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """As in Trainer; the mean over the whole batch also where the model returns the mean over its part."""
        share = None
        if self._is_split() and isinstance(num_items_in_batch, Tensor) and self._weighs_loss():
            if self._ignores_num_items is None:
                self._ignores_num_items = self._probe(model, inputs, num_items_in_batch)
            if self._ignores_num_items:
                share = self._count(inputs) / num_items_in_batch  # before Trainer takes the labels out of the inputs
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if share is None:
            return result
        return (result[0] * share, *result[1:]) if return_outputs else result * share

    def _weighs_loss(self) -> bool:
        """Whether this training is ours to mend; overridden."""
        return True

    def _is_split(self) -> bool:
        # torch's DataParallel (n_gpu > 1) hands every replica its own count: left as it is.
        split = self.accelerator.num_processes * self.args.gradient_accumulation_steps > 1
        return split and self.args.n_gpu <= 1

    def _probe(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Tensor) -> bool | None:
        """Whether twice the number of items leaves the loss as it is; None where that cannot be seen in this batch."""
        training = model.training
        model.eval()  # no dropout: both losses must be of the same function
        try:
            with torch.no_grad(), self.compute_loss_context_manager():
                losses: list[Any] = [
                    super(WholeBatchLossMixin, self).compute_loss(model, dict(inputs), False, num_items_in_batch * n)
                    for n in (1, 2)
                ]
        finally:
            model.train(training)
        # Summed over processes, so that all come to the same answer.
        both: Any = self.accelerator.reduce(torch.stack([loss.float() for loss in losses]), "sum")
        once, twice = both.tolist()
        if not once or once != once:
            return None
        return abs(twice - once) < 1e-3 * abs(once)

    def _count(self, inputs: dict[str, Any]) -> Tensor:
        """Labels that count in this part of the batch, as Trainer counts those of the whole."""
        labels = inputs["labels"]
        if getattr(self, "_loss_shifts_labels", False):
            labels = labels[..., 1:]
        return labels.ne(-100).sum()
