"""One RAdam step over lists of tensors, four ways.

`for_loop` is the specification: it reads like Algorithm 2 of arXiv 1908.03265. `foreach` and `fused` are judged against
it. These three take tensors that share one step count, dtype and device, and scalars that come ready from
`rectification.py`. `capturable` keeps its step counts on the accelerator and derives the scalars there, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hf_radam.rectification import RECTIFY_ABOVE, StepScalars, decay_factor, rho, rho_inf, variance_ratio
from hf_radam.rectification import WeightDecay as WeightDecay

Implementation = Literal["for_loop", "foreach", "fused"]


class Bucket(NamedTuple):
    """Parameters and their state, as lists of equal length; complex tensors come as views of their real parts."""

    params: list[Tensor]
    grads: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    max_exp_avg_sqs: list[Tensor]  # empty without amsgrad
    steps: list[Tensor]

    def take(self, indices: list[int]) -> Bucket:
        """The bucket of the parameters at `indices`."""
        return Bucket(*([tensors[i] for i in indices] if tensors else [] for tensors in self))


class Hyperparameters(NamedTuple):
    """What a parameter group and the optimizer's flags say, in the words of `hf_radam.RAdam`."""

    lr: Any
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decay: WeightDecay
    degenerated_to_sgd: bool
    optimized_update: bool
    maximize: bool


def for_loop(bucket: Bucket, scalars: StepScalars, hyper: Hyperparameters) -> None:
    """The specification: Algorithm 2, one parameter after the other. Differentiable."""
    beta1, beta2 = hyper.betas
    for i, (p, g, m, v) in enumerate(zip(*bucket[:4], strict=True)):
        if hyper.maximize:
            g = -g
        if scalars.l2:
            g = g.add(p, alpha=scalars.l2)
        if hyper.weight_decay and hyper.decay != "l2":
            p.mul_(1 - scalars.decay)

        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if bucket.max_exp_avg_sqs:
            v_max = bucket.max_exp_avg_sqs[i]
            # Clones, since autograd keeps what maximum() saw and both change in place.
            v = v_max.copy_(torch.maximum(v_max.clone(), v.clone()))

        m_hat = m / scalars.bias_correction1
        if scalars.rectification is not None:
            adaptive_lr = scalars.bias_correction2**0.5 / (v.sqrt() + scalars.eps)
            p.sub_(scalars.lr * scalars.rectification * m_hat * adaptive_lr)
        elif hyper.degenerated_to_sgd:
            p.sub_(scalars.lr * m_hat)


def foreach(bucket: Bucket, scalars: StepScalars, hyper: Hyperparameters) -> None:
    """The same with one call per operation for all parameters; takes any memory layout."""
    beta1, beta2 = hyper.betas
    params, grads, exp_avgs, exp_avg_sqs = bucket[:4]
    if hyper.maximize:
        grads = torch._foreach_neg(grads)
    if scalars.l2:
        grads = torch._foreach_add(grads, params, alpha=scalars.l2)
    if scalars.decay:
        torch._foreach_mul_(params, 1 - scalars.decay)

    torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1 - beta2)
    if bucket.max_exp_avg_sqs:
        torch._foreach_maximum_(bucket.max_exp_avg_sqs, exp_avg_sqs)
        exp_avg_sqs = bucket.max_exp_avg_sqs

    step_size = scalars.lr / scalars.bias_correction1
    if scalars.rectification is not None:
        denominators = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_add_(denominators, scalars.eps)
        step_size *= scalars.rectification * scalars.bias_correction2**0.5
        torch._foreach_addcdiv_(params, exp_avgs, denominators, -step_size)
    elif hyper.degenerated_to_sgd:
        torch._foreach_add_(params, exp_avgs, alpha=-step_size)


def fused(bucket: Bucket, scalars: StepScalars, hyper: Hyperparameters) -> None:
    """The same in one pass over memory, by PyTorch's fused AdamW (or, for L2 decay, Adam) kernel.

    Start-up, 5 steps of a training, and parameters that the kernel cannot take go through `foreach`.
    """
    if scalars.rectification is None:
        return foreach(bucket, scalars, hyper)
    bucket, rest = _split_by_layout(bucket)
    if rest.params:
        foreach(rest, scalars, hyper)
    if not bucket.params:
        return None
    # The kernel wants the count on the parameters' device; a copy of one value, since reading ours must not wait.
    step = torch.full((), bucket.steps[0].item(), dtype=torch.float32, device=bucket.params[0].device)
    if hyper.decay == "absolute" and scalars.decay:
        torch._foreach_mul_(bucket.params, 1 - scalars.decay)
    kernel = torch._fused_adam_ if hyper.decay == "l2" else torch._fused_adamw_
    kernel(
        *bucket[:5],
        [step] * len(bucket.params),
        lr=scalars.kernel_lr,
        beta1=hyper.betas[0],
        beta2=hyper.betas[1],
        weight_decay=scalars.kernel_weight_decay,
        eps=scalars.kernel_eps,
        amsgrad=bool(bucket.max_exp_avg_sqs),
        maximize=hyper.maximize,
    )
    return None


def _split_by_layout(bucket: Bucket) -> tuple[Bucket, Bucket]:
    """Split into what the fused kernel may take and what it would get wrong.

    The kernel walks over memory and ignores strides: unlike layouts give wrong numbers or overwrite other tensors,
    without an error. A gradient of another layout is copied; an odd parameter or state goes the other way.
    """
    tensors = [bucket.params, bucket.grads, bucket.exp_avgs, bucket.exp_avg_sqs, bucket.max_exp_avg_sqs]
    if all(t.is_contiguous() for column in tensors for t in column):
        return bucket, bucket.take([])
    grads, fit, unfit = list(bucket.grads), [], []
    for i, p in enumerate(bucket.params):
        state = [column[i] for column in tensors[2:] if column]
        dense = torch.ops.aten.is_non_overlapping_and_dense(p)
        if not dense or any(t.stride() != p.stride() for t in state):
            unfit.append(i)
            continue
        fit.append(i)
        if grads[i].stride() != p.stride():
            grads[i] = torch.empty_like(p, memory_format=torch.preserve_format).copy_(grads[i])
    return bucket._replace(grads=grads).take(fit), bucket.take(unfit)


Update = Callable[[Bucket, StepScalars, Hyperparameters], None]
UPDATES: dict[Implementation, Update] = {
    "for_loop": for_loop,
    "foreach": foreach,
    "fused": fused,
}


def capturable(bucket: Bucket, hyper: Hyperparameters) -> None:
    """The step for CUDA graphs: counts (already advanced) and scalars stay on the device, the phase is a `where`.

    float64, since rho_t is a small difference of large numbers: in float32 it cancels, and at beta2 = 0.9995 the
    rectification starts at the wrong step.
    """
    beta1, beta2 = hyper.betas
    steps = torch.stack(bucket.steps).double()
    rho_t = rho(steps, beta2)
    rectified = rho_t > RECTIFY_ABOVE
    r = variance_ratio(rho_t, rho_inf(beta2)).sqrt()  # nan in start-up, where it is not selected
    lr = torch.ones((), dtype=torch.float64, device=steps.device) * hyper.lr
    step_size = lr / (1 - beta1**steps)
    bias_correction2 = 1 - beta2**steps
    adaptive_step_size = step_size * r * bias_correction2.sqrt()
    eps = hyper.eps * (torch.ones_like(steps) if hyper.optimized_update else bias_correction2.sqrt())
    start_up_step_size = step_size if hyper.degenerated_to_sgd else torch.zeros_like(steps)
    decay = decay_factor(lr, hyper.weight_decay, hyper.decay)

    for i, (p, g, m, v) in enumerate(zip(*bucket[:4], strict=True)):
        if hyper.maximize:
            g = -g
        if hyper.weight_decay and hyper.decay == "l2":
            g = g.add(p, alpha=hyper.weight_decay)
        elif hyper.weight_decay:
            p.mul_(1 - decay)
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if bucket.max_exp_avg_sqs:
            v = torch.maximum(bucket.max_exp_avg_sqs[i], v, out=bucket.max_exp_avg_sqs[i])
        adaptive = m * adaptive_step_size[i] / (v.sqrt() + eps[i])
        p.sub_(torch.where(rectified[i], adaptive, m * start_up_step_size[i]))
