"""What a training says about its optimizer: r_t in the logs, and as it begins advice and warnings."""

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
    """The optimizer inside what Accelerate and DeepSpeed wrap around it, once or more."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def rectifies(optimizer: Any) -> bool:
    """Whether it is a RAdam: ours, PyTorch's, torch-optimi's or made of another AdamW, wrapped or not."""
    inner = innermost(optimizer)
    return isinstance(inner, (RAdam, torch.optim.RAdam, RectifiedMixin)) or any(
        full_name(cls) == "optimi.radam.RAdam" for cls in type(inner).__mro__
    )


def betas_of(group: dict[str, Any]) -> tuple[float, float]:
    """Those of a parameter group; torch-optimi keeps them apart."""
    return tuple(group["betas"]) if "betas" in group else (group["beta1"], group["beta2"])


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
            # torch-optimi counts for a group.
            step = int(max((state["step"] for state in (*states, group) if "step" in state), default=0))
            if step:
                return step, betas_of(group)[1]
    return None


def spec_in_use(args: Any, optimizer: Any) -> OptimizerSpec | None:
    """What `args.optim` names, unless that is one of Transformers' own or another optimizer is in its place."""
    spec = registered(args.optim)
    if spec is None or optimizer is None or rectifies(optimizer):
        return spec
    return spec if not spec.like and isinstance(innermost(optimizer), spec.load()) else None


def spec_of(trainer: Any) -> OptimizerSpec | None:
    """The same of a trainer, which may also have been given a class and its options."""
    chosen = trainer.optimizer is None and trainer.optimizer_cls_and_kwargs is not None
    return None if chosen else spec_in_use(trainer.args, trainer.optimizer)


class RectificationCallback(TrainerCallback):
    """Adds `rectification` (r_t of the last step, 0 while there is none) and `rho` (rho_t) to RAdam's training logs.

    The numbers are those of the first parameter group that has stepped. Our trainers have the callback already.

    Example:
        >>> callbacks = [RectificationCallback()]  # for a plain Trainer with, say, torch.optim.RAdam
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


class StartCallback(RectificationCallback):
    """Says as a training begins what is good to know of its optimizer: lost state, warmup, and the start-up's cost.

    Args:
        gives_advice: whether to say what share of Adam's learning rate an optimizer that rectifies will use.
    """

    def __init__(self, gives_advice: bool) -> None:
        self._gives_advice = gives_advice
        self._said = False

    def on_train_begin(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, lr_scheduler: Any = None, **_: Any
    ) -> None:
        """Look once the checkpoint is loaded. Warmup and advice are said once, however often is trained."""
        inner = innermost(optimizer)
        has_moments = {"betas", "beta2"} & getattr(inner, "defaults", {}).keys()
        if state.global_step and has_moments and not inner.state:
            warnings.warn(
                f"this training goes on at step {state.global_step}, but the checkpoint has no optimizer state: "
                "moments and steps start again at zero; resume from a checkpoint saved without save_only_model=True",
                UserWarning,
                stacklevel=2,
            )
        if self._said:
            return
        self._said = True
        self._warn_of_warmup(args, state, spec_in_use(args, optimizer))
        factor = _of_transformers(getattr(lr_scheduler, "scheduler", lr_scheduler))  # Accelerate wraps it
        if self._gives_advice and factor and rectifies(inner) and state.is_world_process_zero and state.max_steps > 0:
            found = advise(state.max_steps, betas_of(inner.param_groups[0])[1], factor)
            logger.log(logging.WARNING if found.share < HALF else logging.INFO, found.text)

    def _warn_of_warmup(self, args: Any, state: Any, spec: OptimizerSpec | None) -> None:
        steps = args.get_warmup_steps(state.max_steps)
        if steps and spec is not None and spec.warmup_free and args.lr_scheduler_type != SchedulerType.CONSTANT:
            warnings.warn(
                f"{spec.name!r} already starts slowly; {steps} warmup steps reduce the rate twice. Set warmup_steps=0.",
                UserWarning,
                stacklevel=3,
            )


def _of_transformers(scheduler: Any) -> Callable[[int], float] | None:
    """A schedule of Transformers as a function of the update; None for any other, which may have a memory."""
    factor = scheduler.lr_lambdas[0] if type(scheduler) is LambdaLR else None
    own = getattr(getattr(factor, "func", factor), "__module__", None)
    return factor if own == "transformers.optimization" else None
