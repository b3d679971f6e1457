"""The loss of a batch that is split over processes and accumulation steps is that of the whole batch.

Transformers passes the number of labels in the whole batch to the model and expects the sum of losses over it. A model
that takes the number and ignores it (BERT's classifier, Marian, T5) returns the mean over its own part instead, and its
loss comes out too large by the number of processes times that of accumulation steps. Adam does not notice; the SGD
steps of RAdam's start-up, and gradient clipping, do.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer

if TYPE_CHECKING:
    _Trainer = Trainer
else:
    _Trainer = object

logger = logging.getLogger(__name__)


class WholeBatchLossMixin(_Trainer):
    """Weighs the losses of a model that ignores `num_items_in_batch` by their share of the batch's labels.

    It does so whatever the optimizer, so that two trainings which differ in the optimizer differ in nothing else, and
    says so once in the log. `whole_batch_loss=False` leaves the loss as Transformers has it.

    Left as they are: a loss of the user's own (`compute_loss_func`, or a subclass with its own `compute_loss`), whose
    part the number of items is; CTC summed over the batch; what a model adds to its loss beside the labels (the
    auxiliary loss of a mixture of experts); and torch's DataParallel.
    """

    whole_batch_loss: bool = True
    _ignores_num_items: bool | None = None

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As in Trainer; the mean over the whole batch also where the model returns the mean over its part."""
        share = None
        count = kwargs.get("num_items_in_batch")
        if isinstance(count, Tensor) and self._is_split() and self._is_trainers_loss() and self._weighs_loss():
            if self._ignores_num_items is None:
                self._ignores_num_items = self._probe(model, inputs, count)
                if self._ignores_num_items and self.is_world_process_zero():
                    logger.warning(
                        "%s ignores num_items_in_batch: the loss of each part of a batch is weighed by its share of "
                        "the labels, so that their sum is the mean over the batch (whole_batch_loss=False: it is not)",
                        type(self.accelerator.unwrap_model(model)).__name__,
                    )
            if self._ignores_num_items:
                share = self._count(inputs) / count  # before Trainer takes the labels out of the inputs
        result = super().compute_loss(model, inputs, *args, **kwargs)
        if share is None:
            return result
        loss = result[0] if isinstance(result, tuple) else result
        loss = torch.where(share > 0, loss * share, 0.0)  # the mean over no labels is not a number
        return (loss, *result[1:]) if isinstance(result, tuple) else loss

    def _weighs_loss(self) -> bool:
        return self.whole_batch_loss

    def _is_split(self) -> bool:
        split = self.accelerator.num_processes * self.args.gradient_accumulation_steps > 1
        return split and self.args.n_gpu <= 1

    def _is_trainers_loss(self) -> bool:
        inherited = getattr(super().compute_loss, "__func__", None)
        own = inherited is not Trainer.compute_loss or self.compute_loss_func is not None
        return not own and getattr(getattr(self.model, "config", None), "ctc_loss_reduction", None) != "sum"

    def _probe(self, model: Any, inputs: dict[str, Any], count: Tensor) -> bool | None:
        """Whether twice the number of items leaves the loss as it is; None where that cannot be seen in this batch."""
        modes = [(module, module.training) for module in model.modules()]
        model.eval()  # dropout, and the statistics of batch norms
        losses: list[Any] = []
        device = self.args.device
        of_device = [] if device.type == "cpu" else [device]  # the CPU's generator is forked in any case
        try:
            with torch.no_grad(), self.compute_loss_context_manager():
                for items in (count, 2 * count):
                    # The same draws for both, and none taken from the training.
                    with torch.random.fork_rng(of_device, device_type=device.type):
                        loss: Any = super().compute_loss(model, dict(inputs), num_items_in_batch=items)
                    losses.append(loss.detach().float().clone())
        finally:
            for module, mode in modes:
                module.training = mode
        # Summed over processes, so that all come to the same answer; a part without labels has none to give.
        both: Any = self.accelerator.reduce(torch.stack(losses).nan_to_num(0.0, posinf=torch.inf), "sum")
        once, twice = both.tolist()
        if not once or not math.isfinite(once):
            return None
        return abs(twice - once) < 1e-3 * abs(once)

    def _count(self, inputs: dict[str, Any]) -> Tensor:
        """Labels that count in this part of the batch, as Trainer counts those of the whole."""
        labels = inputs.get("shift_labels")
        if labels is None:
            labels = inputs["labels"][..., 1:] if getattr(self, "_loss_shifts_labels", False) else inputs["labels"]
        return labels.ne(-100).sum()
