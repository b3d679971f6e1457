"""Untuned warmup on top of a scheduler of Transformers."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from hf_radam.experiments.recipes import UNTUNED_WARMUP
from hf_radam.experiments.schema import UserError


def add_untuned_warmup(scheduler: Any, warmup: Any, recipe: str) -> None:
    """Multiply the scheduler's factors, the present one too, by those of the recipe's rule, where that is untuned.

    Raises:
        UserError: the schedule is no function of the step, or the optimizer has no betas.
    """
    rule: Any = UNTUNED_WARMUP.get(warmup)
    if rule is None:
        return
    if not isinstance(scheduler, LambdaLR) or "betas" not in scheduler.optimizer.param_groups[0]:
        raise UserError(
            f"recipe {recipe!r}: untuned warmup needs an optimizer with betas and a schedule that is a function of the "
            "step, such as linear or cosine"
        )
    groups = scheduler.optimizer.param_groups
    beta2 = groups[0]["betas"][1]
    factors: list[Any] = [lambda step, of=of: rule(step + 1, beta2) * of(step) for of in scheduler.lr_lambdas]
    scheduler.lr_lambdas = factors
    for group, factor, rate in zip(groups, factors, scheduler.base_lrs, strict=True):
        group["lr"] = rate * factor(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in groups]
