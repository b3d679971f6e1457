"""One RAdam step over lists of tensors, four ways.

`for_loop` is the specification: it reads like Algorithm 2 of arXiv 1908.03265, and tests compare the others with it.
All take tensors that share dtype and device, and scalars from `rectification.py`. For the first three a scalar is one
number for all tensors of a bucket; for `capturable` it is a tensor on the accelerator with one number for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hf_radam.rectification import StepScalars

Implementation = Literal["for_loop", "foreach", "fused", "capturable"]


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

    def split(self, counts: list[float]) -> list[Bucket]:
        """One bucket for each step count, dtype and device."""
        dtypes = list(map(attrgetter("dtype"), self.params))
        on_cpu = all(map(attrgetter("is_cpu"), self.params))  # half the time of asking for devices
        devices = ["cpu"] * len(counts) if on_cpu else list(map(attrgetter("device"), self.params))
        if len(set(counts)) == len(set(dtypes)) == len(set(devices)) == 1:
            return [self]
        indices: dict[Any, list[int]] = {}
        for i, key in enumerate(zip(counts, dtypes, devices, strict=True)):
            indices.setdefault(key, []).append(i)
        return [self.take(of_key) for of_key in indices.values()]


def for_loop(bucket: Bucket, scalars: StepScalars) -> None:
    """The specification: Algorithm 2, one parameter after the other. Differentiable."""
    for p, m, v in _moments(bucket, scalars):
        m_hat = m / scalars.bias_correction1
        if scalars.r:
            adaptive_lr = scalars.bias_correction2**0.5 / (v.sqrt() + scalars.eps)
            p.sub_(scalars.lr * scalars.r * m_hat * adaptive_lr)
        elif scalars.sgd:
            p.sub_(scalars.lr * m_hat)


def _moments(bucket: Bucket, scalars: StepScalars) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each parameter after its decay, with both moments of this step; with amsgrad the second is the maximum."""
    for i, (p, g, m, v) in enumerate(zip(*bucket[:4], strict=True)):
        if scalars.maximize:
            g = -g
        if scalars.l2:
            g = g.add(p, alpha=scalars.l2)
        if scalars.decay is not None:
            p.mul_(1 - scalars.decay)

        m.lerp_(g, 1 - scalars.beta1)
        v.mul_(scalars.beta2).addcmul_(g, g, value=1 - scalars.beta2)
        if bucket.max_exp_avg_sqs:
            v_max = bucket.max_exp_avg_sqs[i]
            # Clones, because autograd keeps the inputs of maximum() and both change in place.
            v = v_max.copy_(torch.maximum(v_max.clone(), v.clone()))
        yield p, m, v


def foreach(bucket: Bucket, scalars: StepScalars) -> None:
    """The same step with one call per operation for all parameters; takes any memory layout."""
    params, grads, exp_avgs, exp_avg_sqs = bucket[:4]
    if scalars.maximize:
        grads = torch._foreach_neg(grads)
    if scalars.l2:
        grads = torch._foreach_add(grads, params, alpha=scalars.l2)
    if scalars.decay is not None:
        torch._foreach_mul_(params, 1 - scalars.decay)

    torch._foreach_lerp_(exp_avgs, grads, 1 - scalars.beta1)
    torch._foreach_mul_(exp_avg_sqs, scalars.beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1 - scalars.beta2)
    if bucket.max_exp_avg_sqs:
        torch._foreach_maximum_(bucket.max_exp_avg_sqs, exp_avg_sqs)
        exp_avg_sqs = bucket.max_exp_avg_sqs

    if scalars.r:
        denominators = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_add_(denominators, scalars.eps)
        torch._foreach_addcdiv_(params, exp_avgs, denominators, -scalars.adaptive_step)
    else:
        torch._foreach_add_(params, exp_avgs, alpha=-scalars.sgd_step)


def fused(bucket: Bucket, scalars: StepScalars) -> None:
    """The same step in one pass over memory, by PyTorch's fused AdamW kernel (Adam's for L2 decay).

    `foreach` takes the five steps of start-up, and parameters that the kernel cannot take.
    """
    if not scalars.r:
        return foreach(bucket, scalars)
    bucket, rest = _split_by_layout(bucket)
    if rest.params:
        foreach(rest, scalars)
    if not bucket.params:
        return None
    # The kernel wants the count on the parameters' device. Ours stays on the CPU, so that reading it does not wait.
    step = torch.full((), bucket.steps[0].item(), dtype=torch.float32, device=bucket.params[0].device)
    if scalars.decay is not None and not scalars.decoupled:
        torch._foreach_mul_(bucket.params, 1 - scalars.decay)
    kernel = torch._fused_adam_ if scalars.l2 else torch._fused_adamw_
    kernel(
        *bucket[:5],
        [step] * len(bucket.params),
        **scalars.adamw()._asdict(),
        beta1=scalars.beta1,
        beta2=scalars.beta2,
        amsgrad=bool(bucket.max_exp_avg_sqs),
        maximize=scalars.maximize,
    )
    return None


def capturable(bucket: Bucket, scalars: StepScalars) -> None:
    """The step for CUDA graphs: scalars are tensors on the device, and `where` chooses the phase.

    They are float64, because rho_t is a small difference of large numbers: in float32 it cancels, and at beta2 = 0.9995
    the rectification starts at the wrong step.
    """
    rectified, adaptive_step = scalars.r > 0, scalars.adaptive_step
    sgd_step, eps = (torch.zeros_like(scalars.r) + of_each for of_each in (scalars.sgd_step, scalars.eps))
    for i, (p, m, v) in enumerate(_moments(bucket, scalars)):
        adaptive = m * adaptive_step[i] / (v.sqrt() + eps[i])
        p.sub_(torch.where(rectified[i], adaptive, m * sgd_step[i]))


def _split_by_layout(bucket: Bucket) -> tuple[Bucket, Bucket]:
    """Split into what the fused kernel gets right and what it gets wrong.

    The kernel walks over memory and ignores strides. If layouts differ, it computes wrong numbers or overwrites other
    tensors, without an error. A gradient with another layout is copied. A parameter or state with another layout goes
    to `foreach`.
    """
    tensors = [bucket.params, bucket.grads, bucket.exp_avgs, bucket.exp_avg_sqs, bucket.max_exp_avg_sqs]
    if all(all(map(Tensor.is_contiguous, column)) for column in tensors):
        return bucket, bucket.take([])
    grads, fit, unfit = list(bucket.grads), [], []
    for i, p in enumerate(bucket.params):
        state = [column[i] for column in tensors[2:] if column]
        dense = torch.ops.aten.is_non_overlapping_and_dense(p)
        if not dense or any(t.shape != p.shape or t.stride() != p.stride() for t in state):
            unfit.append(i)
            continue
        fit.append(i)
        if grads[i].stride() != p.stride():
            grads[i] = torch.empty_like(p, memory_format=torch.preserve_format).copy_(grads[i])
    return bucket._replace(grads=grads).take(fit), bucket.take(unfit)


Update = Callable[[Bucket, StepScalars], None]
UPDATES: dict[Implementation, Update] = {
    "for_loop": for_loop,
    "foreach": foreach,
    "fused": fused,
    "capturable": capturable,
}
