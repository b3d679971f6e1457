"""What the arguments of RAdam may be."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

from torch import Tensor

from hf_radam import rectification


def check_options(options: dict[str, Any], fused: bool | None) -> None:
    """Refuse options outside of their range, each with the rule, the value and the remedy; warn of a useless beta2.

    Args:
        options: a parameter group, complete but for its parameters.
        fused: the optimizer's own flag.

    Raises:
        ValueError: a value outside of its range, or options that exclude each other.
        TypeError: what is no number.
    """
    lr, betas = options["lr"], options["betas"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"a tensor lr must have 1 element, got {lr.numel()}; give each parameter group its own lr")
        lr = lr.item()
    for name, value in (("lr", lr), ("eps", options["eps"]), ("weight_decay", options["weight_decay"])):
        if not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not 0 <= float(value) < float("inf"):
            raise ValueError(f"{name} must be a number >= 0, got {value}; to ascend, use maximize=True")
    if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), got {betas}; the default is (0.9, 0.999)")
    ways = {**options, "fused": fused}
    for one, other in (
        ("foreach", "fused"),
        ("differentiable", "foreach"),
        ("differentiable", "fused"),
        ("differentiable", "capturable"),
        ("capturable", "fused"),
    ):
        if ways[one] and ways[other]:
            raise ValueError(f"{one} and {other} exclude each other; set one of them")
    if rectification.rho_inf(betas[1]) <= rectification.RECTIFY_ABOVE:
        warnings.warn(
            f"with beta2 = {betas[1]} rho_t never exceeds {rectification.RECTIFY_ABOVE:g}: RAdam stays momentum SGD; "
            "take beta2 above 2/3 (the default is 0.999)",
            UserWarning,
            stacklevel=5,
        )
