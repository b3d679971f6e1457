"""What a training logs about its optimizer: r_t beside the loss; advice and warnings at the start."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback
from transformers.trainer_utils import SchedulerType

from hf_radam import rectification
from hf_radam.libraries import full_name
from hf_radam.optimizer import RAdam
from hf_radam.rectified import RectifiedMixin
from hf_radam.spec import OptimizerSpec
from hf_radam.training.advice import HALF, advise
from hf_radam.training.arguments import registered

logger = logging.getLogger(__name__)


def innermost(optimizer: Any) -> Any:
    """The optimizer inside the wrappers of Accelerate and DeepSpeed."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def rectifies(optimizer: Any) -> bool:
    """Whether it is a RAdam: ours, PyTorch's, torch-optimi's or a rectified AdamW, wrapped or not."""
    inner = innermost(optimizer)
    return isinstance(inner, (RAdam, torch.optim.RAdam, RectifiedMixin)) or any(
        full_name(cls) == "optimi.radam.RAdam" for cls in type(inner).__mro__
    )


def betas_of(group: dict[str, Any]) -> tuple[float, float]:
    """The betas of a parameter group; torch-optimi has two keys for them."""
    return tuple(group["betas"]) if "betas" in group else (group["beta1"], group["beta2"])


def rectification_progress(optimizer: Any) -> tuple[int, float] | None:
    """Steps and beta2 of the first parameter group that has stepped; None before that, and if it is not a RAdam.

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
            # torch-optimi counts in the group.
            step = int(max((state["step"] for state in (*states, group) if "step" in state), default=0))
            if step:
                return step, betas_of(group)[1]
    return None


def spec_in_use(args: Any, optimizer: Any) -> OptimizerSpec | None:
    """The registered optimizer that `args.optim` names; None for Transformers' names, or if another is in use."""
    spec = registered(args.optim)
    if spec is None or optimizer is None or rectifies(optimizer):
        return spec
    return spec if not spec.like and isinstance(innermost(optimizer), spec.load()) else None


def spec_of(trainer: Any) -> OptimizerSpec | None:
    """`spec_in_use` for a trainer; None also if the caller passed `optimizer_cls_and_kwargs`."""
    chosen = trainer.optimizer is None and trainer.optimizer_cls_and_kwargs is not None
    return None if chosen else spec_in_use(trainer.args, trainer.optimizer)


class RectificationCallback(TrainerCallback):
    """Adds `rectification` (r_t of the last step; 0 in start-up) and `rho` (rho_t) to RAdam's training logs.

    Both belong to the first parameter group that has stepped. Our trainers have this callback already.

    Example:
        >>> callbacks = [RectificationCallback()]  # for a plain Trainer with, say, torch.optim.RAdam
    """

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Add both numbers to each log entry with a loss, and to `state.log_history`."""
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


class StartCallback(RectificationCallback):
    """Warns at the start of a training: lost state, needless warmup, the cost of RAdam's start-up."""

    _said = False

    def on_train_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, lr_scheduler: Any = None, **_: Any
    ) -> None:
        """Look when the checkpoint is loaded. Later trainings repeat neither warmup nor advice."""
        inner = innermost(optimizer)
        has_moments = {"betas", "beta2"} & getattr(inner, "defaults", {}).keys()
        if state.global_step and has_moments and not inner.state:
            warnings.warn(
                f"the training resumes at step {state.global_step}, but the checkpoint has no optimizer state: moments "
                "and step counts restart at 0; resume from a checkpoint that was saved without save_only_model=True",
                UserWarning,
                stacklevel=2,
            )
        if self._said:
            return
        self._said = True
        spec, steps = spec_in_use(args, optimizer), args.get_warmup_steps(state.max_steps)
        if steps and spec is not None and spec.warmup_free and args.lr_scheduler_type != SchedulerType.CONSTANT:
            warnings.warn(
                f"{spec.name!r} already starts slowly; {steps} warmup steps reduce the rate twice. Set warmup_steps=0.",
                UserWarning,
                stacklevel=2,
            )
        factor = _of_transformers(getattr(lr_scheduler, "scheduler", lr_scheduler))  # Accelerate wraps it
        if factor and rectifies(inner) and state.is_world_process_zero and state.max_steps > 0:
            found = advise(state.max_steps, betas_of(inner.param_groups[0])[1], factor)
            logger.log(logging.WARNING if found.share < HALF else logging.INFO, found.text)


def _of_transformers(scheduler: Any) -> Callable[[int], float] | None:
    """A schedule of Transformers as a function of the update; None for others, because a call may change them."""
    factor = scheduler.lr_lambdas[0] if type(scheduler) is LambdaLR else None
    own = getattr(getattr(factor, "func", factor), "__module__", None)
    return factor if own == "transformers.optimization" else None
