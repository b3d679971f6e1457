"""The optimizers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from hf_radam.derived import derived, refusal
from hf_radam.errors import unknown_name
from hf_radam.spec import PAPER, OptimizerSpec

_REGISTRY: dict[str, OptimizerSpec] = {
    spec.name: spec
    for spec in (
        OptimizerSpec(
            name="radam",
            target="hf_radam.optimizer:RAdam",
            description="Rectified Adam, fused, decoupled decay",
            warmup_free=True,
            reference=PAPER,
        ),
        OptimizerSpec(
            name="radam_no_sgd",
            target="hf_radam.optimizer:RAdam",
            description="RAdam that waits in start-up instead of taking SGD steps",
            defaults={"degenerated_to_sgd": False},
            warmup_free=True,
            reference=PAPER,
        ),
        OptimizerSpec(
            name="radam_torch",
            target="torch.optim:RAdam",
            description="PyTorch's own RAdam with decoupled decay: the reference",
            defaults={"decoupled_weight_decay": True},
            warmup_free=True,
            reference=PAPER,
        ),
        OptimizerSpec(
            name="adam",
            target="torch.optim:AdamW",
            description="PyTorch's fused AdamW, the baseline",
            defaults={"fused": True},
            reference="arXiv 1711.05101",
        ),
        OptimizerSpec(
            name="adam_2k",
            target="hf_radam.experiments.baselines:Adam2k",
            description="Adam whose first 2,000 steps (freeze_steps) only estimate the second moment",
            warmup_free=True,
            reference=f"{PAPER}, section 3.1",
        ),
        OptimizerSpec(
            name="adam_eps",
            target="hf_radam.experiments.baselines:Adam2k",
            description="Adam with a large eps (1e-4), added to sqrt(v) as in the authors' code",
            defaults={"freeze_steps": 0, "eps": 1e-4},
            warmup_free=True,
            reference=f"{PAPER}, section 3.1",
        ),
    )
}


def list_optimizers() -> list[str]:
    """The registered names, in the order of registration, and then those of `hf_radam.derived`.

    Example:
        >>> list_optimizers()[0]
        'radam'
    """
    return [*_REGISTRY, *(name for name in derived() if name not in _REGISTRY)]


def find_optimizer(name: str) -> OptimizerSpec | None:
    """The optimizer of that name, or None."""
    return _REGISTRY.get(name) or derived().get(name)


def get_optimizer(name: str) -> OptimizerSpec:
    """The optimizer of that name; call it with parameters and options to build one.

    Args:
        name: one of `list_optimizers()`.

    Raises:
        ValueError: no such name; the message lists the names and suggests the closest.

    Example:
        >>> get_optimizer("radam").warmup_free
        True
    """
    if found := find_optimizer(name):
        return found
    raise ValueError(refusal(name) or unknown_name("optimizer", name, list_optimizers()))


def register_optimizer(
    name: str,
    target: type[Optimizer] | str,
    *,
    description: str = "",
    defaults: Mapping[str, Any] | None = None,
    warmup_free: bool = False,
    reference: str = "",
    extra: str = "",
    overwrite: bool = False,
) -> OptimizerSpec:
    """Give an optimizer of your own a name, for `--optim` and for the recipes of comparisons.

    Args:
        name: the name; it must not be taken, unless `overwrite`.
        target: the class, or "package.module:Class" to import it only when it is built.
        description: one line.
        defaults: options that differ from the class's own defaults.
        warmup_free: whether it is meant to run without warmup; the Trainer then warns about warmup steps.
        reference: where it was published.
        extra: what `pip install` brings, for the error where the import fails.

    Returns:
        The new spec.

    Raises:
        ValueError: the name is taken, or `target` is a string without a colon.

    Example:
        >>> import torch
        >>> register_optimizer("my_sgd", torch.optim.SGD, defaults={"momentum": 0.9}, overwrite=True).name
        'my_sgd'
    """
    if name in _REGISTRY and not overwrite:
        raise ValueError(f"optimizer {name!r} is registered already; choose another name or pass overwrite=True")
    if isinstance(target, str) and ":" not in target:
        raise ValueError(f"target must read 'package.module:Class', got {target!r}")
    _REGISTRY[name] = OptimizerSpec(
        name=name,
        target=target,
        description=description,
        defaults=dict(defaults or {}),
        warmup_free=warmup_free,
        reference=reference,
        extra=extra,
    )
    return _REGISTRY[name]
