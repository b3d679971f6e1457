"""The scalars of Rectified Adam: plain numbers in, plain numbers out.

Section and equation numbers are those of Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond"
(arXiv 1908.03265). The formulas without a branch (`rho`, `variance_ratio`) are written in plain arithmetic, so that
the same lines also serve a step count that must stay on an accelerator as a 0-dim float64 tensor (CUDA graphs).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

# The authors' code rectifies at rho >= 5, torch.optim.RAdam above 5, the paper's text above 4. For beta2 of 0.9 and
# more the first two both begin at step 6, the third at step 5.
RECTIFY_ABOVE = 5.0

WeightDecay = Literal["decoupled", "l2", "absolute"]


def rho_inf(beta2: float) -> float:
    """Length of the simple moving average that v_t approximates in the limit (section 4.1).

    Args:
        beta2: decay of the second moment, in [0, 1).

    Example:
        >>> round(rho_inf(0.999), 6)
        1999.0
    """
    return 2 / (1 - beta2) - 1


def rho(step: Any, beta2: float) -> Any:
    """Length rho_t of the simple moving average after `step` steps (section 4.1).

    Args:
        step: number of the step, counted from 1; a number or a float64 tensor.
        beta2: decay of the second moment, in [0, 1).

    Returns:
        rho_t, of the type of `step`; it grows from 1 to `rho_inf(beta2)`.

    Example:
        >>> round(rho(6, 0.999), 3)
        5.994
    """
    beta2_t = beta2**step
    return rho_inf(beta2) - 2 * step * beta2_t / (1 - beta2_t)


def variance_ratio(rho_t: Any, rho_limit: float) -> Any:
    """The square of the rectification r_t (section 4.2): Var[psi] in the limit over Var[psi] at rho_t, first order.

    Meaningful for rho_t > 4 only. Both arguments are moving-average lengths; the result lies in (0, 1].
    """
    return (rho_t - 4) * (rho_t - 2) * rho_limit / ((rho_limit - 4) * (rho_limit - 2) * rho_t)


def rectification(step: int, beta2: float) -> float | None:
    """The rectification term r_t of Algorithm 2, or None in start-up, where the variance is intractable.

    Args:
        step: number of the step, counted from 1.
        beta2: decay of the second moment, in [0, 1).

    Returns:
        r_t in (0, 1], or None while rho_t <= 5 (steps 1 to 5 for beta2 >= 0.9; always for beta2 <= 2/3).

    Raises:
        ValueError: for step < 1 or beta2 outside [0, 1).

    Example:
        >>> rectification(5, 0.999) is None
        True
        >>> round(rectification(6, 0.999), 4)
        0.0258
    """
    if step < 1:
        raise ValueError(f"steps are counted from 1, got step={step}")
    if not 0 <= beta2 < 1:
        raise ValueError(f"beta2 must lie in [0, 1), got {beta2}")
    rho_t = rho(step, beta2)
    return math.sqrt(variance_ratio(rho_t, rho_inf(beta2))) if rho_t > RECTIFY_ABOVE else None


class StepScalars(NamedTuple):
    """Every number that one step needs; tensor code derives none of its own.

    With m and v the moments after this step's gradient, the step is `p *= 1 - decay`, then

        rectified:  p -= lr * rectification / bias_correction1 * m * sqrt(bias_correction2) / (sqrt(v) + eps)
        start-up:   p -= lr / bias_correction1 * m        (left out where degenerated_to_sgd is off)

    and the rectified step is also PyTorch's AdamW kernel called with `kernel_lr`, `kernel_eps` and
    `kernel_weight_decay` (nan in start-up, where that kernel is of no use).
    """

    lr: Any  # a float, or the 1-element tensor that a differentiable run wants gradients for
    rectification: float | None
    bias_correction1: float
    bias_correction2: float
    eps: float  # what is added to sqrt(v), not to sqrt(v_hat)
    decay: Any  # share of the parameter that is taken away
    l2: float  # weight of the parameter in the gradient
    kernel_lr: Any = math.nan
    kernel_eps: float = math.nan
    kernel_weight_decay: float = math.nan


def step_scalars(
    step: int,
    *,
    lr: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decay: WeightDecay,
    optimized_update: bool,
) -> StepScalars:
    """The scalars of step number `step` (counted from 1), for arguments as in `hf_radam.RAdam`.

    Example:
        >>> scalars = step_scalars(6, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1,
        ...                        decay="decoupled", optimized_update=True)
        >>> round(scalars.kernel_lr, 9) == round(1e-3 * rectification(6, 0.999), 9)
        True
    """
    beta1, beta2 = betas
    bias_correction1, bias_correction2 = 1 - beta1**step, 1 - beta2**step
    r = rectification(step, beta2)
    scalars = StepScalars(
        lr=lr,
        rectification=r,
        bias_correction1=bias_correction1,
        bias_correction2=bias_correction2,
        eps=eps if optimized_update else eps * math.sqrt(bias_correction2),
        decay=decay_factor(lr, weight_decay, decay),
        l2=weight_decay if decay == "l2" else 0.0,
    )
    if r is None:
        return scalars
    # The kernel multiplies its decay by kernel_lr. The scale is divided out, never a ratio of learning rates: lr is 0
    # at the ends of schedules and in the dummy step of checkpoint loaders.
    # An absolute decay, which knows no learning rate, is done beside the kernel.
    kernel_weight_decay = {"decoupled": weight_decay / r, "l2": weight_decay, "absolute": 0.0}[decay]
    return scalars._replace(
        kernel_lr=lr * r,
        kernel_eps=scalars.eps / math.sqrt(bias_correction2),
        kernel_weight_decay=kernel_weight_decay,
    )


def decay_factor(lr: Any, weight_decay: float, decay: WeightDecay) -> Any:
    """Share of each parameter that one step takes away; 0 at lr = 0, so that loading a checkpoint moves no weight."""
    if decay == "decoupled":
        return lr * weight_decay
    # lr / lr, but 0 at lr = 0; in this form it also serves a tensor and keeps its precision.
    return weight_decay * (lr / (lr + (lr == 0))) if decay == "absolute" else 0.0


def variance_exact(rho_t: float, sigma: float = 1.0) -> float:
    """Variance of the adaptive learning rate psi = sqrt(rho / sum g^2), exactly (section 3.2, Theorem 1).

    psi^2 follows a scaled inverse chi-square distribution with `rho_t` degrees of freedom, when gradients are
    normal with mean 0 and standard deviation `sigma`.

    Args:
        rho_t: degrees of freedom; must exceed 2, the mean of psi^2 does not exist otherwise. (The paper states its
            theorem above 4.)
        sigma: standard deviation of the gradients, > 0.

    Returns:
        Var[psi], in units of 1 / gradient^2; it falls with rho_t.

    Raises:
        ValueError: for rho_t <= 2 or sigma <= 0.

    Example:
        >>> variance_exact(5) > variance_exact(50) > 0
        True
    """
    _check_variance_arguments(rho_t, 2, sigma)
    # Log-gammas, since the gamma function itself overflows from rho of about 340 on.
    second_moment = rho_t / (rho_t - 2)
    squared_mean = rho_t / 2 * math.exp(2 * (math.lgamma((rho_t - 1) / 2) - math.lgamma(rho_t / 2)))
    return (second_moment - squared_mean) / sigma**2


def variance_first_order(rho_t: float, sigma: float = 1.0) -> float:
    """First-order approximation of `variance_exact` (section 4.2): rho / (2 (rho - 2) (rho - 4) sigma^2).

    Args:
        rho_t: degrees of freedom, above 4.
        sigma: standard deviation of the gradients, > 0.

    Returns:
        The approximate Var[psi], in units of 1 / gradient^2.

    Raises:
        ValueError: for rho_t <= 4 or sigma <= 0.

    Example:
        >>> variance_first_order(1999) / variance_exact(1999) - 1 < 0.01
        True
    """
    _check_variance_arguments(rho_t, 4, sigma)
    return rho_t / (2 * (rho_t - 2) * (rho_t - 4) * sigma**2)


def _check_variance_arguments(rho_t: float, above: float, sigma: float) -> None:
    if rho_t <= above:
        raise ValueError(f"this variance exists for rho_t > {above}, got {rho_t}")
    if sigma <= 0:
        raise ValueError(f"sigma must be positive, got {sigma}")


def untuned_linear(step: int, beta2: float) -> float:
    """Untuned linear warmup factor min(1, t (1 - beta2) / 2) (Ma & Yarats, arXiv 1910.04209, section 5.2).

    Args:
        step: number of the step, counted from 1.
        beta2: decay of Adam's second moment, in [0, 1).

    Example:
        >>> [round(untuned_linear(step, 0.99), 3) for step in (1, 100, 300)]
        [0.005, 0.5, 1.0]
    """
    return min(1.0, step * (1 - beta2) / 2)


def untuned_exponential(step: int, beta2: float) -> float:
    """Untuned exponential warmup factor 1 - exp(-(1 - beta2) t) (Ma & Yarats, arXiv 1910.04209, section 5.2).

    Args:
        step: number of the step, counted from 1.
        beta2: decay of Adam's second moment, in [0, 1).

    Example:
        >>> round(untuned_exponential(100, 0.99), 4)
        0.6321
    """
    return -math.expm1(-(1 - beta2) * step)
