"""If processes and accumulation steps split a batch, its loss is the mean over the whole batch.

Transformers passes the number of labels in the whole batch to the model, and expects the sum of the losses divided by
that number. Some models ignore it (BERT's classifier, Marian, T5) and return the mean over their own part. Their loss
is then too large: by the number of processes times the number of accumulation steps. Adam does not notice. The SGD
steps of RAdam's start-up do, and so does gradient clipping.

Here each such loss is multiplied by its part's share of the batch's labels. That holds for every optimizer, so that two
trainings differ only in the optimizer. The log says it once. Some losses stay as they are: the user's own; a sum, as of
a conditional random field; what a model adds beside the labels (the auxiliary loss of experts); torch's DataParallel.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def compute_loss(
    trainer: Any,
    original: Callable[..., Any],
    model: Any,
    inputs: Any,
    return_outputs: bool = False,
    num_items_in_batch: Any = None,
) -> Any:
    """Trainer's method; but if the model returns the mean over its part, the mean over the whole batch."""
    share = None
    split = isinstance(num_items_in_batch, Tensor) and _is_split(trainer, model)
    if split and _returns_means(trainer, original, model, inputs, num_items_in_batch):
        share = _labels_in(trainer, inputs) / num_items_in_batch  # now: Trainer takes the labels out of the inputs
    result = original(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch)
    if share is None:
        return result
    loss = result[0] if return_outputs else result
    loss = torch.where(share > 0, loss * share, 0.0)  # the mean over no labels is NaN
    return (loss, *result[1:]) if return_outputs else loss


def _is_split(trainer: Any, model: Any) -> bool:
    parts = trainer.accelerator.num_processes * (trainer.args.gradient_accumulation_steps if model.training else 1)
    return parts > 1 and trainer.args.n_gpu <= 1 and trainer.compute_loss_func is None


def _returns_means(trainer: Any, original: Callable[..., Any], model: Any, inputs: Any, count: Tensor) -> bool:
    """Tested once in training and once in evaluation, where the model may behave differently."""
    answers: dict[bool, bool] = vars(trainer).setdefault("_hf_radam_returns_means", {})
    if model.training not in answers:
        answer = _ask(trainer, original, model, inputs, count)
        if answer is None:
            return False
        if answer and not any(answers.values()) and trainer.is_world_process_zero():
            logger.warning(
                "%s ignores num_items_in_batch and averages its loss per micro-batch. We rescale it to the mean over "
                "the whole batch; turn off with whole_batch_loss=False.",
                type(trainer.accelerator.unwrap_model(model)).__name__,
            )
        answers[model.training] = answer
    return answers[model.training]


def _ask(trainer: Any, original: Callable[..., Any], model: Any, inputs: Any, count: Tensor) -> bool | None:
    """Whether the loss stays the same with twice the number of items, and with every example twice.

    None if this batch does not show it; False if the model fails.
    """

    def loss(items: Tensor, times: int) -> float:
        """The sum over processes, so that all give the same answer; a part without labels adds 0."""
        try:
            with torch.no_grad(), _put_back(model, trainer.args.device):
                value = original(model, _repeated(inputs, times), num_items_in_batch=items)
                found = value.detach().float().nan_to_num(0.0, posinf=torch.inf).reshape(())
        except Exception:  # a model may raise anything; a real fault raises again in Trainer's step
            found = torch.tensor(-torch.inf, device=trainer.args.device)
        return trainer.accelerator.reduce(found, "sum").item()

    once, half = loss(count, 1), loss(2 * count, 1)
    if not once or once == math.inf:
        return None
    if not abs(half - once) < 1e-3 * abs(once):  # it uses the number, or it failed
        return False
    return abs(loss(count, 2) - once) < 0.5 * abs(once)  # a sum would double; dropout differs in the second half


def _repeated(inputs: Any, times: int) -> dict[str, Any]:
    rows = len(inputs["labels"])
    return {
        key: torch.cat([value] * times) if isinstance(value, Tensor) and value.dim() and len(value) == rows else value
        for key, value in inputs.items()
    }


@contextmanager
def _put_back(model: Any, device: torch.device) -> Iterator[None]:
    """Restore random states and buffers, such as the statistics of norms, afterwards."""
    # Integer buffers of more than one number are packed weights of quantised models; no layer changes those.
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers() if buffer.is_floating_point() or not buffer.dim()]
    states = random.getstate(), np.random.get_state()
    of_device = [] if device.type == "cpu" else [device]  # fork_rng always forks the CPU's generator
    with torch.random.fork_rng(of_device, device_type=device.type):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
            torch.clear_autocast_cache()  # it holds weights that were cast without gradients


def _labels_in(trainer: Any, inputs: dict[str, Any]) -> Tensor:
    """The number of labels in this part of the batch, counted as Trainer counts those of the whole batch."""
    labels = inputs.get("shift_labels")
    if labels is None:
        labels = inputs["labels"][..., 1:] if getattr(trainer, "_loss_shifts_labels", False) else inputs["labels"]
    return labels.ne(-100).sum()
