"""What a training says about its optimizer: r_t in the logs, and a warning where a checkpoint has lost its state."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from transformers import TrainerCallback

from hf_radam import rectification
from hf_radam.optimizer import RAdam
from hf_radam.rectified import RectifiedMixin
from hf_radam.training.advice import HALF, advise

logger = logging.getLogger(__name__)


def innermost(optimizer: Any) -> Any:
    """The optimizer inside what Accelerate and DeepSpeed wrap around it, once or more."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def rectifies(optimizer: Any) -> bool:
    """Whether it is a RAdam, ours, PyTorch's or made of another AdamW, whatever is wrapped around it."""
    return isinstance(innermost(optimizer), (RAdam, torch.optim.RAdam, RectifiedMixin))


def rectification_progress(optimizer: Any) -> tuple[int, float] | None:
    """Steps and beta2 of the first parameter group that has stepped; None before, and for what does not rectify.

    Example:
        >>> rectification_progress(RAdam(torch.nn.Linear(2, 1).parameters())) is None
        True
    """
    optimizer = innermost(optimizer)
    if rectifies(optimizer):
        for group in optimizer.param_groups:
            # ZeRO-3 keeps its groups empty between steps.
            of_group = [optimizer.state[p] for p in group["params"] if optimizer.state.get(p)]
            states = of_group if group["params"] else optimizer.state.values()
            steps = [state["step"] for state in states if "step" in state]
            step = int(max(steps, default=0))
            if step:
                return step, group["betas"][1]
    return None


class RectificationCallback(TrainerCallback):
    """Adds `rectification` (r_t of the last step, 0 while there is none) and `rho` (rho_t) to RAdam's training logs.

    The numbers are those of the first parameter group that has stepped. The trainers of this module have the callback;
    give it to a plain Trainer with `callbacks=[RectificationCallback()]`.
    """

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Write both numbers beside the loss, for the reports and for `state.log_history`."""
        if logs is None or "loss" not in logs:
            return
        progress = rectification_progress(optimizer)
        if progress is not None:
            step, beta2 = progress
            terms = {
                "rectification": rectification.rectification(step, beta2) or 0.0,
                "rho": rectification.rho(step, beta2),
            }
            logs.update(terms)
            state.log_history[-1].update(terms)


class AdviceCallback(TrainerCallback):
    """Says once, as a training begins, what share of Adam's learning rate an optimizer that rectifies will use."""

    def __init__(self) -> None:
        self._said = False

    def on_train_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, lr_scheduler: Any = None, **_: Any
    ) -> None:
        """Log it: as a warning below half."""
        if self._said or not rectifies(optimizer) or not state.is_world_process_zero or state.max_steps < 1:
            return
        self._said = True
        scheduler = getattr(lr_scheduler, "scheduler", lr_scheduler)  # Accelerate wraps it
        of_groups = getattr(scheduler, "lr_lambdas", None) or ["constant"]
        found = advise(state.max_steps, innermost(optimizer).param_groups[0]["betas"][1], of_groups[0])
        logger.log(logging.WARNING if found.share < HALF else logging.INFO, found.text)


class LostStateCallback(TrainerCallback):
    """Warns where a training goes on from a checkpoint that held no optimizer state: its start-up begins anew."""

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        """Look once the checkpoint is loaded."""
        inner = innermost(optimizer)
        has_moments = "betas" in getattr(inner, "defaults", {})
        if state.global_step and has_moments and not inner.state:
            warnings.warn(
                f"this training goes on at step {state.global_step}, but the checkpoint has no optimizer state: "
                "moments and step count begin at zero; resume from a checkpoint saved without save_only_model=True",
                UserWarning,
                stacklevel=2,
            )
