"""What an optimizer class does with lr, eps and weight decay: found out on parameters of our own.

An AdamW is RAdam under other numbers only where it is an AdamW. PyTorch's own classes are the yardstick: a class is
given a few steps with other numbers in each, and must end where `torch.optim.AdamW` or `Adam` ends with these.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

Build = Callable[[list[dict[str, Any]]], Optimizer]
EpsOn = Literal["sqrt(v_hat)", "sqrt(v)"]
Decay = Literal["decoupled", "decoupled, after the step", "l2"]


class Numbers(NamedTuple):
    """What a group is given for one step."""

    lr: float
    eps: float
    weight_decay: float


# One question each: with the other numbers out of sight, and every number changed from step to step.
_RATES = (0.1, 0.05, 0.2, 0.1)
_STEP = [Numbers(lr, 1e-12, 0.0) for lr in _RATES]
_EPS = [Numbers(lr, 3 * lr, 0.0) for lr in _RATES]
_DECAY = [Numbers(lr, 1e-12, 5 * lr) for lr in _RATES]
_START_UP = [Numbers(lr * 2.0**40, 2.0**40, 0.0) for lr in _RATES]
_SHAPES = ((4, 3), (5,))
_TOLERANCE = 1e-3  # of the way gone, in float32, where sqrt and division cost some 1e-6; what is no AdamW is off by .01


class Found(NamedTuple):
    """What a class turned out to be."""

    eps_on: EpsOn
    """What its step adds eps to."""
    decoupled: bool | None
    """Whether its weight decay is decoupled; else L2. None where the flags of its groups have to say it."""


class NotAdamW(ValueError):
    """A class whose step is not that of Adam or AdamW."""


def find_out(build: Build, groups: Sequence[Mapping[str, Any]], name: str, stated: EpsOn | None) -> Found:
    """What a class does with these groups.

    Args:
        build: makes an optimizer of this class of a list of groups.
        groups: as `probe` takes them.
        name: what messages call the class.
        stated: what somebody says its step adds eps to; believed only of a class that takes no step here.

    Raises:
        ValueError: it is no AdamW, takes no step here and nothing is stated, or does not do what is stated.
    """
    try:
        found = [probe(build, group, name) for group in groups]
    except NotAdamW as error:
        own = f"class MyRAdam(RectifiedMixin, {name.rpartition('.')[2]}): kernel = Kernel(...)"
        raise NotAdamW(f"{error}; if you know better, say what its kernel does: {own}") from None
    except Exception as error:  # whatever a class that we do not know may raise
        if stated is None:
            raise ValueError(
                f"{name} cannot step on small test parameters ({type(error).__name__}: {error}), so it is not known "
                'whether it is an AdamW; if it is, say rectified(cls, eps_on="sqrt(v_hat)") or "sqrt(v)"'
            ) from error
        return Found(stated, None)
    places: set[EpsOn] = {eps_on for eps_on, _ in found}
    kinds = {decoupled for _, decoupled in found}
    if len(places) > 1 or stated not in (None, *places):
        raise ValueError(
            f"{name} adds eps to {' and to '.join(sorted(places))}, but eps_on={stated!r}; leave eps_on out"
        )
    return Found(places.pop(), kinds.pop() if len(kinds) == 1 else None)


def unhooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step without the hooks that PyTorch wraps around it once an instance of its class has been made."""
    return inspect.unwrap(step, stop=lambda f: not getattr(f, "hooked", False))


def uncounted(name: str) -> str:
    """What to say of a class that keeps no step counts."""
    return (
        f"RAdam needs each parameter's number of steps, but the state of {name} does not count them in 'step'; "
        "rectify a class that does"
    )


@torch.inference_mode(False)
def probe(build: Build, group: Mapping[str, Any], name: str) -> Found:
    """Step a class on parameters of our own and say which AdamW it is; the group's parameters are not touched.

    Example:
        >>> probe(torch.optim.Adam, torch.optim.Adam([torch.zeros(1)]).param_groups[0], "Adam")
        Found(eps_on='sqrt(v_hat)', decoupled=False)
    """

    def ends(numbers: Sequence[Numbers]) -> Tensor:
        return _run(build, group, numbers)[0]

    def like(numbers: Sequence[Numbers], found: Tensor, eps_on: EpsOn, decay: Decay = "decoupled") -> bool:
        expected = _expected(group, numbers, eps_on, decay)
        return bool((found - expected).norm() <= _TOLERANCE * (expected - _start()).norm())

    found, counted = _run(build, group, _STEP)
    if not like(_STEP, found, "sqrt(v_hat)"):
        moves = [f"{(end - _start()).abs().max():.3g}" for end in (found, _expected(group, _STEP, "sqrt(v_hat)"))]
        raise NotAdamW(
            f"{name} is no Adam or AdamW: with eps and weight decay 0 its first {len(_STEP)} steps move a parameter by "
            f"up to {moves[0]} where Adam's move it by {moves[1]}, so other numbers do not make a RAdam of it; "
            "rectify a class whose step is lr * m_hat / (sqrt(v_hat) + eps)"
        )
    found = ends(_EPS)
    eps_on = next((place for place in get_args(EpsOn) if like(_EPS, found, place)), None)
    if eps_on is None:
        raise NotAdamW(
            f"{name} adds eps neither to sqrt(v_hat) nor to sqrt(v), but elsewhere (under the root, perhaps), so "
            "RAdam's start-up would explode; rectify a class that adds it to one of the two"
        )
    found = ends(_DECAY)
    decay = next((kind for kind in get_args(Decay) if like(_DECAY, found, eps_on, kind)), None)
    if decay is None:
        raise NotAdamW(
            f"the weight decay of {name} is neither decoupled (p *= 1 - lr * weight_decay) nor L2 (g += weight_decay * "
            "p), so RAdam's rates would change it; rectify a class with one of the two"
        )
    if not like(_START_UP, ends(_START_UP), eps_on):
        raise NotAdamW(
            f"{name} limits lr, eps or the step, so it cannot take RAdam's start-up steps, which have lr and eps times "
            "2**40; rectify a class without such a limit"
        )
    if not counted:
        raise NotAdamW(uncounted(name))
    return Found(eps_on, decay != "l2")


def _start() -> Tensor:
    return torch.linspace(1, 2, sum(map(math.prod, _SHAPES)), dtype=torch.float64, device="cpu")


def _gradients(step: int) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(step)
    return torch.randn(_start().shape, generator=generator, dtype=torch.float64, device="cpu")


def _run(build: Build, group: Mapping[str, Any], numbers: Sequence[Numbers]) -> tuple[Tensor, bool]:
    """Where the class takes the parameters, and whether its state counts the steps."""
    device = next((p.device for p in group["params"] if not p.is_meta), "cpu")
    sizes = list(map(math.prod, _SHAPES))
    params = [
        part.reshape(shape).to(device, torch.float32, copy=True).requires_grad_()
        for part, shape in zip(_start().split(sizes), _SHAPES, strict=True)
    ]
    options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # the user's own optimizer has said it
        optimizer = build([{**options, "params": params}])
        step = unhooked(type(optimizer).step)  # hooks belong to the user's optimizers
        for count, of_step in enumerate(numbers, 1):
            for p, part in zip(params, _gradients(count).split(sizes), strict=True):
                p.grad = part.reshape(p.shape).to(p)
            _give(optimizer.param_groups[0], of_step)
            step(optimizer)
    counted = all(optimizer.state[p].get("step") == len(numbers) for p in params)
    return torch.cat([p.detach().double().cpu().flatten() for p in params]), counted


def _give(group: dict[str, Any], numbers: Numbers) -> None:
    for key, value in numbers._asdict().items():
        group[key] = torch.full_like(group[key], value) if isinstance(group[key], Tensor) else value


def _expected(
    group: Mapping[str, Any], numbers: Sequence[Numbers], eps_on: EpsOn, decay: Decay = "decoupled"
) -> Tensor:
    """Where PyTorch's Adam or AdamW takes the parameters."""
    p = _start().requires_grad_()
    options = {key: bool(group.get(key)) for key in ("amsgrad", "maximize")}
    # A class of our own: an instance of PyTorch's would put the user's hooks on its step.
    cls: Any = type("Yardstick", (Adam if decay == "l2" else AdamW,), {})
    optimizer = cls([p], betas=tuple(group["betas"]), foreach=False, **options)
    step = unhooked(cls.step)
    for count, (lr, eps, weight_decay) in enumerate(numbers, 1):
        p.grad = _gradients(count)
        root = (1 - group["betas"][1] ** count) ** 0.5 if eps_on == "sqrt(v)" else 1.0
        after = decay == "decoupled, after the step"
        optimizer.param_groups[0].update(lr=lr, eps=eps / root, weight_decay=0.0 if after else weight_decay)
        step(optimizer)
        if after:
            p.data.mul_(1 - lr * weight_decay)
    return p.detach()
