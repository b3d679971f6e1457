"""What the comparison needs and torch lacks: the paper's Adam-2k and Adam-eps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from hf_radam.update import Bucket


class Adam2k(AdamW):
    """Adam whose first steps only estimate the second moment (Liu et al., arXiv 1908.03265, section 3.1).

    In the first `freeze_steps` steps neither parameters nor first moments change; afterwards this is AdamW. As in the
    authors' code the bias corrections count from the first step of all, so that the first moment starts small: a
    hidden warmup of the momentum. Likewise eps is added to sqrt(v) before its bias is corrected, so that a large eps
    damps the first steps most: without a freeze this is the paper's Adam-eps.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, >= 0.
        betas: decays of the first and the second moment, each in [0, 1).
        eps: added to sqrt(v), >= 0 (Adam-eps: 1e-4).
        weight_decay: coefficient of the decoupled decay, >= 0; nothing decays during the freeze.
        freeze_steps: k, the number of steps that only update the second moment (paper: 2,000).

    Raises:
        ValueError: freeze_steps that is no whole number >= 0, complex parameters, or what AdamW refuses.
        RuntimeError: a sparse gradient, at `step()`.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = Adam2k([weight], freeze_steps=1)
        >>> weight.grad = torch.ones(2)
        >>> optimizer.step(); weight.tolist()
        [1.0, 1.0]
        >>> optimizer.step(); bool((weight < 1).all())
        True
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        freeze_steps: int = 2000,
    ) -> None:
        if isinstance(freeze_steps, bool) or not isinstance(freeze_steps, int) or freeze_steps < 0:
            raise ValueError(f"freeze_steps must be a whole number >= 0, got {freeze_steps}; 0 is no freeze")
        self.freeze_steps = freeze_steps
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "freeze_steps": self.freeze_steps}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; see `torch.optim.Optimizer`."""
        super().add_param_group(param_group)
        if any(p.is_complex() for p in self.param_groups[-1]["params"]):
            raise ValueError("Adam2k takes real parameters; optimize torch.view_as_real of complex ones")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step; returns what `closure` returned, or None."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            of_group = Bucket([], [], [], [], [], [])
            self._init_group(group, *of_group)
            for bucket in of_group.split([step.item() for step in of_group.steps]) if of_group.steps else []:
                step, beta2 = int(bucket.steps[0]), group["betas"][1]
                if step < self.freeze_steps:
                    torch._foreach_mul_(bucket.exp_avg_sqs, beta2)
                    torch._foreach_addcmul_(bucket.exp_avg_sqs, bucket.grads, bucket.grads, 1 - beta2)
                    torch._foreach_add_(bucket.steps, 1)
                else:
                    adamw(
                        *bucket, foreach=True, amsgrad=False, maximize=False, beta1=group["betas"][0], beta2=beta2,
                        lr=float(group["lr"]), weight_decay=group["weight_decay"],
                        eps=group["eps"] / (1 - beta2 ** (step + 1)) ** 0.5,
                    )  # fmt: skip
        return loss
