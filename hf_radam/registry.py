"""The optimizers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from hf_radam.derived import derived, refusal
from hf_radam.errors import unknown_name
from hf_radam.spec import PAPER, OptimizerSpec

# Name, module and class, options that differ from the class's, description.
_OF_THE_PAPER: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("radam", "hf_radam.optimizer:RAdam", {}, "Rectified Adam, fused, decoupled decay"),
    ("radam_no_sgd", "hf_radam.optimizer:RAdam", {"degenerated_to_sgd": False},
     "RAdam that waits in start-up instead of taking SGD steps"),
    ("radam_torch", "torch.optim:RAdam", {"decoupled_weight_decay": True},
     "PyTorch's own RAdam with decoupled decay: the reference"),
    ("adam_2k", "hf_radam.experiments.baselines:Adam2k", {},
     "Adam whose first 2,000 steps (freeze_steps) only estimate the second moment"),
    ("adam_eps", "hf_radam.experiments.baselines:Adam2k", {"freeze_steps": 0, "eps": 1e-4},
     "Adam with a large eps (1e-4), added to sqrt(v) as in the authors' code"),
)  # fmt: skip
_REGISTRY: dict[str, OptimizerSpec] = {
    name: OptimizerSpec(name=name, target=to, defaults=options, description=text, warmup_free=True, reference=PAPER)
    for name, to, options, text in _OF_THE_PAPER
}
_REGISTRY["adam"] = OptimizerSpec(
    name="adam",
    target="torch.optim:AdamW",
    description="PyTorch's fused AdamW, the baseline",
    defaults={"fused": True},
    reference="arXiv 1711.05101",
)


def list_optimizers() -> list[str]:
    """The registered names in order of registration, then those of `hf_radam.derived`.

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
        ValueError: there is no such name; the message lists the names and suggests the closest.

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
        warmup_free: whether it is meant to run without warmup; if so, the Trainer warns about warmup steps.
        reference: where it was published.
        extra: the package to install if the import fails.

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
