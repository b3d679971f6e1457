"""What is tested: implementations, flags and tolerances, each in one place."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hf_radam import RAdam

IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "for_loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "default": {},
    "capturable": {"capturable": True},
}
FAST = [name for name in IMPLEMENTATIONS if name != "for_loop"]

# What may be asked of every implementation.
FLAGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decoupled": {"weight_decay": 0.1},
    "l2": {"weight_decay": 0.1, "decoupled_weight_decay": False},
    "absolute": {"weight_decay": 1e-3, "absolute_weight_decay": True},
    "no_sgd": {"degenerated_to_sgd": False, "weight_decay": 0.1},
    "eps_of_v_hat": {"optimized_update": False, "eps": 1e-3},
    "large_eps": {"eps": 1e-2},
    "amsgrad": {"amsgrad": True, "weight_decay": 0.1},
    "amsgrad_l2_maximize": {"amsgrad": True, "weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True},
    "maximize": {"maximize": True, "weight_decay": 0.1},
    "beta2_0.9": {"betas": (0.8, 0.9)},
    "beta2_0.9999": {"betas": (0.9, 0.9999)},
}

# Largest difference allowed after 40 steps of about 1e-2, in parameters of about 1.
TOLERANCES: dict[torch.dtype, float] = {
    torch.float64: 1e-12,  # rounding of about 1e-16 a step, and cancellation in rho_t
    torch.float32: 2e-6,  # rounding of 6e-8 a step, in either direction
    # 8 bits near 2 resolve steps of 8e-3: a decay of 1e-3 a step is lost (0.09 in 40 steps), the rest is rounding.
    torch.bfloat16: 1.5e-1,
    # 11 bits near 2 resolve 2e-3: up to half of that is lost a step, and 1e-3 of v does not decay.
    torch.float16: 5e-2,
}
# Capturable and compiled steps against eager ones, relative; the promise of the README.
CAPTURABLE_RTOL = 1e-6

Shapes = Iterable[tuple[int, ...]]
SHAPES: Shapes = ((5, 3), (7,), (), (2, 3, 4))


def parameters(dtype: torch.dtype = torch.float64, shapes: Shapes = SHAPES, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


class Gradients:
    """A fixed sequence of random gradients."""

    def __init__(self, seed: int = 1) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def set(self, params: Iterable[Tensor]) -> None:
        for p in params:
            real = torch.float64 if p.dtype != torch.complex128 else torch.complex128
            p.grad = torch.randn(p.shape, generator=self.generator, dtype=real).to(p.dtype)


def train(
    make: Callable[..., Optimizer],
    params: list[Tensor],
    steps: int = 40,
    gradients: Gradients | None = None,
    **options: Any,
) -> Tensor:
    """Take steps with random gradients; returns all parameters, flat."""
    return advance(make(params, **{"lr": 1e-2, **options}), params, steps, gradients)


def advance(optimizer: Optimizer, params: list[Tensor], steps: int, gradients: Gradients | None = None) -> Tensor:
    gradients = gradients or Gradients()
    for _ in range(steps):
        gradients.set(params)
        optimizer.step()
    return flat(params)


def clones(params: Iterable[Tensor]) -> list[Tensor]:
    return [p.detach().clone().requires_grad_() for p in params]


def through_a_file(content: Any, weights_only: bool = True) -> Any:
    torch.save(content, file := io.BytesIO())
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


def with_gaps(make: Callable[..., Optimizer], dtype: torch.dtype = torch.float64, shapes: Shapes = SHAPES) -> Tensor:
    """Parameters that begin late, all of which miss some steps, and of which the last joins with options of its own."""
    params, gradients = parameters(dtype, shapes), Gradients()
    optimizer = make(params[:-1], lr=1e-2, weight_decay=0.0)
    for step in range(30):
        if step == 12:
            optimizer.add_param_group({"params": params[-1:], "lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-4})
        gradients.set(params)
        for i, p in enumerate(params):
            p.grad = None if step < 5 * i or step % (i + 2) == 1 else p.grad
        before = [p.grad for p in params]
        optimizer.step()
        assert all(p.grad is grad for p, grad in zip(params, before, strict=True))
    assert len({float(state["step"]) for state in optimizer.state.values()}) > 2
    return flat(params)


def flat(params: Iterable[Tensor]) -> Tensor:
    return torch.cat([p.detach().cpu().reshape(-1).to(torch.promote_types(p.dtype, torch.float64)) for p in params])


def largest_difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def radam(name: str) -> Callable[..., RAdam]:
    """RAdam in one of `IMPLEMENTATIONS`."""
    return lambda params, **options: RAdam(params, **{**IMPLEMENTATIONS[name], **options})
