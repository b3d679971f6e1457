"""The scalars of Rectified Adam: plain numbers in, plain numbers out.

Sections are those of Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond" (arXiv 1908.03265). A step
may also be a float64 tensor of step counts, which then stay on an accelerator (CUDA graphs).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

# The authors' code rectifies at rho >= 5, torch.optim.RAdam above 5, the paper's text above 4. For beta2 of 0.9 and
# more the first two both begin at step 6, the third at step 5.
RECTIFY_ABOVE = 5.0

WeightDecay = Literal["decoupled", "l2", "absolute"]


def rho_inf(beta2: float) -> float:
    """Length of the simple moving average that v_t approximates in the limit (section 4.1), for beta2 in [0, 1).

    Example:
        >>> round(rho_inf(0.999), 6)
        1999.0
    """
    return 2 / (1 - beta2) - 1


def rho(step: Any, beta2: float) -> Any:
    """Length rho_t of the simple moving average after `step` steps, counted from 1 (section 4.1).

    It grows from 1 to `rho_inf(beta2)`.

    Example:
        >>> round(rho(6, 0.999), 3)
        5.994
    """
    beta2_t = beta2**step
    return rho_inf(beta2) - 2 * step * beta2_t / (1 - beta2_t)


def variance_ratio(rho_t: Any, rho_limit: float) -> Any:
    """The square of r_t, in (0, 1] for rho_t > 4: Var[psi] in the limit over Var[psi] at rho_t (section 4.2)."""
    return (rho_t - 4) * (rho_t - 2) * rho_limit / ((rho_limit - 4) * (rho_limit - 2) * rho_t)


def rectification(step: int, beta2: float) -> float | None:
    """The rectification term r_t of Algorithm 2, in (0, 1]; None in start-up, where the variance is intractable.

    Start-up lasts while rho_t <= 5: steps 1 to 5 for beta2 >= 0.9, all steps for beta2 <= 2/3.

    Raises:
        ValueError: step < 1 (steps are counted from 1), or beta2 is outside [0, 1).

    Example:
        >>> rectification(5, 0.999) is None
        True
        >>> round(rectification(6, 0.999), 4)
        0.0258
    """
    if step < 1:
        raise ValueError(f"step must be at least 1, got {step}; steps are counted from 1")
    if not 0 <= beta2 < 1:
        raise ValueError(f"beta2 must lie in [0, 1), got {beta2}")
    return _rectification(step, beta2) or None


def _rectification(step: Any, beta2: float) -> Any:
    """r_t of a number or a float64 tensor; 0 in start-up."""
    limit = rho_inf(beta2)
    if limit <= RECTIFY_ABOVE:
        return 0.0 * step
    rho_t = rho(step, beta2)
    return (variance_ratio(rho_t, limit) * (rho_t > RECTIFY_ABOVE)) ** 0.5


class AdamWScalars(NamedTuple):
    """The three numbers with which an AdamW kernel takes one step of RAdam."""

    lr: Any
    eps: float
    weight_decay: float


class StepScalars(NamedTuple):
    """Every number that one step needs; tensor code derives none of its own.

    With g the gradient (negated to maximize, plus `l2 * p`) and m, v the moments after it, the step is

        p *= 1 - decay
        rectified (r > 0):  p -= adaptive_step * m / (sqrt(v) + eps)
        start-up (r = 0):   p -= sgd_step * m

    and it is also a step of AdamW with the numbers of `adamw()`.
    """

    beta1: float
    beta2: float
    maximize: bool
    lr: Any
    r: Any  # the rectification; 0 in start-up
    bias_correction1: Any
    bias_correction2: Any
    eps: Any  # added to sqrt(v), not to sqrt(v_hat)
    sgd: bool  # whether parameters move in start-up
    l2: float  # weight of the parameter in its gradient
    decoupled: float  # coefficient of the decay that the learning rate multiplies
    decay: Any  # share of the parameter that is taken away; None if nothing is

    @property
    def adaptive_step(self) -> Any:
        """Step size once the step is rectified."""
        return self.lr * self.r * self.bias_correction2**0.5 / self.bias_correction1

    @property
    def sgd_step(self) -> Any:
        """Step size in start-up."""
        return self.sgd * self.lr / self.bias_correction1

    def adamw(self, *, eps_on: Literal["sqrt(v_hat)", "sqrt(v)"] = "sqrt(v_hat)", k: float = 2.0**40) -> AdamWScalars:
        """The lr, eps and weight decay with which a kernel of AdamW, or of Adam for L2 decay, takes this step of RAdam.

        In start-up eps is `k`, so large that sqrt(v_hat) + k rounds to k; lr is k times larger to make up for it. If
        start-up steps do not move, eps is inf. The decay is divided by the factor of lr, never by a ratio of rates,
        because lr may be 0. An absolute decay does not depend on lr: the caller applies it (`decay`).

        Args:
            eps_on: what the kernel adds its eps to. PyTorch, bitsandbytes, torchao and DeepSpeed add it to
                sqrt(v_hat), galore_torch to sqrt(v).
            k: a power of two. In float32, 2**40 is exact while sqrt(v_hat) < 2**16 and m > 1e-26; in float64 use
                2**100.

        Example:
            >>> options = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
            >>> step_scalars(6, lr=1.0, **options).adamw().lr == rectification(6, 0.999)
            True
            >>> step_scalars(1, lr=0.5, **options).adamw(k=2.0**40).lr == 2.0**39
            True
        """
        root = self.bias_correction2**0.5
        on_v = eps_on == "sqrt(v)"
        if self.r:
            scale, eps = self.r, self.eps if on_v else self.eps / root
        elif self.sgd:
            scale, eps = k / root if on_v else k, k
        else:
            scale, eps = 1.0, math.inf
        return AdamWScalars(lr=self.lr * scale, eps=eps, weight_decay=self.l2 or self.decoupled / scale)


def step_scalars(
    step: Any,
    *,
    lr: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decay: WeightDecay = "decoupled",
    degenerated_to_sgd: bool = True,
    optimized_update: bool = True,
    maximize: bool = False,
) -> StepScalars:
    """The scalars of a step; options have the names that they have in `hf_radam.RAdam`.

    Args:
        step: number of the step, counted from 1; or a float64 tensor of such numbers. A tensor is not read: the scalars
            that depend on the step are tensors too, and `adamw()` does not work.
        lr: learning rate, a float or a 0-dim tensor.
        decay: what `weight_decay` means.

    Example:
        >>> scalars = step_scalars(1, lr=0.5, betas=(0.5, 0.999), eps=1e-8, weight_decay=0.1)
        >>> scalars.r, scalars.sgd_step, scalars.decay
        (0.0, 1.0, 0.05)
    """
    beta1, beta2 = betas
    bias_correction2 = 1 - beta2**step
    decoupled, l2, absolute = (weight_decay if decay == kind else 0.0 for kind in ("decoupled", "l2", "absolute"))
    share = None
    if decoupled:
        share = lr * decoupled
    elif absolute:  # lr / lr is 1, but 0 at lr = 0: a checkpoint loader's step moves no weight; works for tensors too
        share = absolute * (lr / (lr + (lr == 0)))
    return StepScalars(
        beta1=beta1,
        beta2=beta2,
        maximize=maximize,
        lr=lr,
        r=_rectification(step, beta2),
        bias_correction1=1 - beta1**step,
        bias_correction2=bias_correction2,
        eps=eps if optimized_update else eps * bias_correction2**0.5,
        sgd=degenerated_to_sgd,
        l2=l2,
        decoupled=decoupled,
        decay=share,
    )


def untuned_linear(step: int, beta2: float) -> float:
    """Untuned linear warmup factor min(1, t (1 - beta2) / 2) (Ma & Yarats, arXiv 1910.04209, section 5.2)."""
    return min(1.0, step * (1 - beta2) / 2)


def untuned_exponential(step: int, beta2: float) -> float:
    """Untuned exponential warmup factor 1 - exp(-(1 - beta2) t) (Ma & Yarats, arXiv 1910.04209, section 5.2)."""
    return -math.expm1(-(1 - beta2) * step)
