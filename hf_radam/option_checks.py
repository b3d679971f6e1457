"""What the arguments of RAdam may be."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from hf_radam import rectification

_EXCLUSIVE = (
    ("foreach", "fused"),
    ("differentiable", "foreach"),
    ("differentiable", "fused"),
    ("differentiable", "capturable"),
    ("capturable", "fused"),
)


def check_options(options: Mapping[str, Any], fused: bool | None, *, running: bool = False) -> None:
    """Refuse options of a group that are out of range (ValueError) or have a wrong type (TypeError).

    Flags may be missing; `fused` is the optimizer's. Before a step (`running`) a tensor lr on an accelerator is not
    read, because that would wait for the device, and lr may be below 0, because schedules round.
    """
    lr, betas = options["lr"], options["betas"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"a tensor lr must have 1 element, got {lr.numel()}; give each parameter group its own lr")
        lr = lr.item() if lr.is_cpu or not running else 0.0
    for name, value in (("lr", lr), ("eps", options["eps"]), ("weight_decay", options["weight_decay"])):
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not math.isfinite(value) or (value < 0 and not (running and name == "lr")):
            remedy = "; to ascend, set maximize=True" if name == "lr" else ""
            raise ValueError(f"{name} must be a number >= 0, got {value}{remedy}")
    two = isinstance(betas, tuple | list) and len(betas) == 2
    if not (two and all(isinstance(beta, Real) and 0 <= float(beta) < 1 for beta in betas)):
        raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}; the default is (0.9, 0.999)")
    for name in ("decoupled_weight_decay", "maximize", "capturable", "differentiable"):
        _check_bool(name, options.get(name, False))
    _check_bool("foreach", options.get("foreach"), or_none=True)
    ways = {**options, "fused": fused}
    for one, other in _EXCLUSIVE:
        if ways.get(one) and ways.get(other):
            raise ValueError(f"{one} and {other} exclude each other; set only one of them")


def check_flags(flags: Mapping[str, Any]) -> None:
    """Refuse flags of the optimizer that are not bools, with a TypeError; `fused` may be None."""
    for name, value in flags.items():
        _check_bool(name, value, or_none=name == "fused")


def warn_of_no_rectification(beta2: float) -> None:
    """Warn of a beta2 that is too small for RAdam ever to rectify."""
    if rectification.rho_inf(beta2) <= rectification.RECTIFY_ABOVE:
        warnings.warn(
            f"beta2={beta2} is too small: rho_t never exceeds {rectification.RECTIFY_ABOVE:g}, so RAdam stays momentum "
            "SGD; take beta2 above 2/3 (the default is 0.999)",
            UserWarning,
            stacklevel=5,
        )


def _check_bool(name: str, value: Any, *, or_none: bool = False) -> None:
    if not (isinstance(value, bool) or (or_none and value is None)):
        raise TypeError(f"{name} must be {'True, False or None' if or_none else 'True or False'}, got {value!r}")
