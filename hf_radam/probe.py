"""Tests of an optimizer class on small parameters: is it an AdamW, and what does it do with eps and weight decay?

PyTorch's own classes are the yardstick. The class takes a few steps with different numbers in each, and must end where
`torch.optim.AdamW` or `Adam` ends with these numbers.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from hf_radam.rectification import AdamWScalars

Build = Callable[[list[dict[str, Any]]], Optimizer]
EpsOn = Literal["sqrt(v_hat)", "sqrt(v)"]
Decay = Literal["decoupled", "decoupled, after the step", "l2"]
Numbers = Sequence[AdamWScalars]  # for one step after the other

_SHAPES = ((4, 3), (5,))
_SIZES = list(map(math.prod, _SHAPES))
_TOLERANCE = 1e-3  # of the distance moved. float32 costs about 1e-6; other optimizers differ by 1e-2
_RATES = (0.1, 0.05, 0.2, 0.1)
# Each row asks one question: its other numbers have no effect, and every number changes from step to step. The texts
# name the fault of a class that no Adam agrees with, and the class to take instead.
_QUESTIONS: tuple[tuple[Numbers, str, str], ...] = (
    (
        [AdamWScalars(lr, 1e-12, 0.0) for lr in _RATES],
        "is not an Adam or AdamW",
        "whose step is lr * m_hat / (sqrt(v_hat) + eps)",
    ),
    (
        [AdamWScalars(lr, 3 * lr, 0.0) for lr in _RATES],
        "adds eps neither to sqrt(v_hat) nor to sqrt(v), so RAdam's start-up would explode",
        "that adds it to one of the two",
    ),
    (
        [AdamWScalars(lr, 1e-12, 5 * lr) for lr in _RATES],
        "has a decay that is neither decoupled (p *= 1 - lr * weight_decay) nor L2 (g += weight_decay * p)",
        "with one of the two",
    ),
    (
        [AdamWScalars(lr * 2.0**40, 2.0**40, 0.0) for lr in _RATES],
        "limits lr, eps or the step, but RAdam's start-up multiplies lr and eps by 2**40",
        "without such a limit",
    ),
)


class NotAdamW(ValueError):
    """A class whose step is not that of Adam or AdamW."""


def find_out(build: Build, groups: Sequence[Mapping[str, Any]], name: str) -> tuple[EpsOn, bool | None]:
    """What a class adds eps to, and whether its decay is decoupled: None if the groups differ in that.

    `build` makes an optimizer of it, `name` calls it in messages. Raises NotAdamW if its step is not Adam's, or if it
    cannot step on the test parameters.
    """
    declare = f"class MyRAdam(RectifiedMixin, {name.rpartition('.')[2]}): kernel = Kernel(eps_on=...)"
    try:
        kinds = {probe(build, group, name) for group in groups}
    except NotAdamW as error:
        raise NotAdamW(f"{error}; if it is an AdamW all the same, declare it: {declare}") from None
    except Exception as error:  # an unknown class may raise anything
        raise NotAdamW(
            f"{name} cannot step on small test parameters ({type(error).__name__}: {error}), so its step is unknown; "
            f"if it is an AdamW, declare it: {declare}"
        ) from error
    places: set[EpsOn] = {eps_on for eps_on, _ in kinds}
    decays = {decoupled for _, decoupled in kinds}
    if len(places) > 1:
        raise NotAdamW(f"{name} adds eps to sqrt(v_hat) in some groups and to sqrt(v) in others; make them agree")
    return places.pop(), decays.pop() if len(decays) == 1 else None


def unhooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step without the hooks that PyTorch puts around it when its class makes an instance."""
    return inspect.unwrap(step, stop=lambda f: not getattr(f, "hooked", False))


def uncounted(name: str) -> str:
    """The message about a class without step counts."""
    return f"RAdam needs step counts, but {name} keeps no 'step' in its state; rectify a class that does"


@torch.inference_mode(False)
def probe(build: Build, group: Mapping[str, Any], name: str) -> tuple[EpsOn, bool]:
    """Test a class with the options of a group; the group's own parameters are not touched.

    Example:
        >>> probe(torch.optim.Adam, torch.optim.Adam([torch.zeros(1)]).param_groups[0], "Adam")
        ('sqrt(v_hat)', False)
    """
    kinds: list[tuple[EpsOn, Decay]] = [(place, decay) for place in get_args(EpsOn) for decay in get_args(Decay)]
    counted = False
    for numbers, fault, remedy in _QUESTIONS:
        moved, counted = _run(build, group, numbers)
        ways = {kind: _expected(group, numbers, *kind) for kind in kinds}
        kinds = [kind for kind, way in ways.items() if (moved - way).norm() <= _TOLERANCE * way.norm()]
        if not kinds:
            ours, adams = (f"{way.abs().max():.3g}" for way in (moved, next(iter(ways.values()))))
            raise NotAdamW(
                f"{name} {fault}: {len(numbers)} steps move a test parameter by up to {ours}, Adam's by {adams}; "
                f"rectify a class {remedy}"
            )
    if not counted:
        raise NotAdamW(uncounted(name))
    [(eps_on, decay)] = kinds
    return eps_on, decay != "l2"


def _start() -> Tensor:
    return torch.linspace(1, 2, sum(_SIZES), dtype=torch.float64, device="cpu")


def _gradients(step: int) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(step)
    return torch.randn(sum(_SIZES), generator=generator, dtype=torch.float64, device="cpu")


def _run(build: Build, group: Mapping[str, Any], numbers: Numbers) -> tuple[Tensor, bool]:
    """How far the class moves the parameters, and whether its state counts the steps."""
    device = next((p.device for p in group["params"] if not p.is_meta), "cpu")
    params = [
        part.reshape(shape).to(device, torch.float32, copy=True).requires_grad_()
        for part, shape in zip(_start().split(_SIZES), _SHAPES, strict=True)
    ]
    options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # the user's own optimizer has warned already
        optimizer = build([{**options, "params": params}])
        step = unhooked(type(optimizer).step)  # hooks belong to the user's optimizers
        for count, of_step in enumerate(numbers, 1):
            for p, part in zip(params, _gradients(count).split(_SIZES), strict=True):
                p.grad = part.reshape(p.shape).to(p)
            for key, value in of_step._asdict().items():
                old = optimizer.param_groups[0][key]
                optimizer.param_groups[0][key] = torch.full_like(old, value) if isinstance(old, Tensor) else value
            step(optimizer)
    counted = all(optimizer.state[p].get("step") == len(numbers) for p in params)
    return torch.cat([p.detach().double().cpu().flatten() for p in params]) - _start(), counted


def _expected(group: Mapping[str, Any], numbers: Numbers, eps_on: EpsOn, decay: Decay) -> Tensor:
    """How far PyTorch's Adam or AdamW moves the parameters."""
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
    return p.detach() - _start()
