"""Tests of an optimizer class on small parameters: is it an AdamW, and what does it do with eps and weight decay?

PyTorch's own classes are the yardstick. The class takes a few steps with different numbers in each, and must end where
`torch.optim.AdamW` or `Adam` ends with these numbers.
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
    """What a group gets for one step."""

    lr: float
    eps: float
    weight_decay: float


# Each asks one question: the other numbers have no effect, and every number changes from step to step.
_RATES = (0.1, 0.05, 0.2, 0.1)
_STEP = [Numbers(lr, 1e-12, 0.0) for lr in _RATES]
_EPS = [Numbers(lr, 3 * lr, 0.0) for lr in _RATES]
_DECAY = [Numbers(lr, 1e-12, 5 * lr) for lr in _RATES]
_START_UP = [Numbers(lr * 2.0**40, 2.0**40, 0.0) for lr in _RATES]
_SHAPES = ((4, 3), (5,))
_TOLERANCE = 1e-3  # of the distance moved. float32 costs about 1e-6; other optimizers differ by 1e-2


class Found(NamedTuple):
    """The result of a test."""

    eps_on: EpsOn
    """What the step adds eps to."""
    decoupled: bool | None
    """True for decoupled weight decay, False for L2. None if the groups' flags decide it."""


class NotAdamW(ValueError):
    """A class whose step is not that of Adam or AdamW."""


def find_out(build: Build, groups: Sequence[Mapping[str, Any]], name: str) -> Found:
    """Test a class with each of these groups; `build` makes an optimizer of it, `name` calls it in messages.

    Raises:
        NotAdamW: its step is not Adam's, or it cannot step on the test parameters.
    """
    declare = f"class MyRAdam(RectifiedMixin, {name.rpartition('.')[2]}): kernel = Kernel(eps_on=...)"
    try:
        found = [probe(build, group, name) for group in groups]
    except NotAdamW as error:
        raise NotAdamW(f"{error}; if it is an AdamW all the same, declare it: {declare}") from None
    except Exception as error:  # an unknown class may raise anything
        raise NotAdamW(
            f"{name} cannot step on small test parameters ({type(error).__name__}: {error}), so its step is unknown; "
            f"if it is an AdamW, declare it: {declare}"
        ) from error
    if len({eps_on for eps_on, _ in found}) > 1:
        raise NotAdamW(f"{name} adds eps to sqrt(v_hat) in some groups and to sqrt(v) in others; make them agree")
    decays = {decoupled for _, decoupled in found}
    return Found(found[0].eps_on, decays.pop() if len(decays) == 1 else None)


def unhooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step without the hooks that PyTorch puts around it when its class makes an instance."""
    return inspect.unwrap(step, stop=lambda f: not getattr(f, "hooked", False))


def uncounted(name: str) -> str:
    """The message about a class without step counts."""
    return f"RAdam needs step counts, but {name} keeps no 'step' in its state; rectify a class that does"


@torch.inference_mode(False)
def probe(build: Build, group: Mapping[str, Any], name: str) -> Found:
    """Test a class with the options of a group; the group's own parameters are not touched.

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
            f"{name} is not an Adam or AdamW: without eps and decay its first {len(_STEP)} steps move a test parameter "
            f"by up to {moves[0]}, Adam's by {moves[1]}; rectify a class whose step is lr * m_hat / (sqrt(v_hat) + eps)"
        )
    found = ends(_EPS)
    eps_on = next((place for place in get_args(EpsOn) if like(_EPS, found, place)), None)
    if eps_on is None:
        raise NotAdamW(
            f"{name} adds eps neither to sqrt(v_hat) nor to sqrt(v), so RAdam's start-up would explode; rectify a "
            "class that adds it to one of the two"
        )
    found = ends(_DECAY)
    decay = next((kind for kind in get_args(Decay) if like(_DECAY, found, eps_on, kind)), None)
    if decay is None:
        raise NotAdamW(
            f"the weight decay of {name} is neither decoupled (p *= 1 - lr * weight_decay) nor L2 (g += weight_decay * "
            "p), so RAdam's learning rates would distort it; rectify a class with one of the two"
        )
    if not like(_START_UP, ends(_START_UP), eps_on):
        raise NotAdamW(
            f"{name} limits lr, eps or the step, but RAdam's start-up multiplies lr and eps by 2**40; rectify a class "
            "without such a limit"
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
        warnings.simplefilter("ignore")  # the user's own optimizer has warned already
        optimizer = build([{**options, "params": params}])
        step = unhooked(type(optimizer).step)  # hooks belong to the user's optimizers
        for count, of_step in enumerate(numbers, 1):
            for p, part in zip(params, _gradients(count).split(sizes), strict=True):
                p.grad = part.reshape(p.shape).to(p)
            for key, value in of_step._asdict().items():
                old = optimizer.param_groups[0][key]
                optimizer.param_groups[0][key] = torch.full_like(old, value) if isinstance(old, Tensor) else value
            step(optimizer)
    counted = all(optimizer.state[p].get("step") == len(numbers) for p in params)
    return torch.cat([p.detach().double().cpu().flatten() for p in params]), counted


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
