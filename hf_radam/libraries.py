"""What must be known of the libraries whose AdamWs are rectified: how they step, and the look of their state."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from hf_radam.option_checks import check_options, warn_of_no_rectification
from hf_radam.probe import EpsOn


class Kernel(NamedTuple):
    """What the rule must know of a library's step."""

    eps_on: EpsOn = "sqrt(v_hat)"
    """What the step adds its eps to."""
    decoupled: bool | None = None
    """Whether the decay is decoupled; None where a flag of the group or the optimizer says it."""
    in_float32: bool = False
    """Whether it steps in float32 whatever the parameter's dtype: float16 overflows in start-up."""
    tensors: bool = False
    """Whether eps and weight decay are given as tensors: torchao compiles numbers in as constants."""
    forgets: tuple[str, ...] = ()
    """State that measures the size of the last update before lr, and must not outlive start-up."""
    moments: tuple[str, ...] = ()
    """State that has the shape of the parameter."""


_TORCH = Kernel(moments=("exp_avg", "exp_avg_sq"))
_BITSANDBYTES = Kernel(in_float32=True, moments=("state1", "state2"))
_TORCHAO = Kernel(in_float32=True, tensors=True, moments=("exp_avg", "exp_avg_sq"))
_LOW_RANK = Kernel(eps_on="sqrt(v)")
# By the module of the class, or its package where all optimizers in that are AdamWs.
KERNELS = {
    "apollo_torch": _LOW_RANK._replace(forgets=("scaled_grad",)),
    "apollo_torch.adamw8bit": Kernel(in_float32=True),
    "apollo_torch.q_apollo": Kernel(in_float32=True, forgets=("scaled_grad",)),
    "bitsandbytes.optim.adam": _BITSANDBYTES,
    "bitsandbytes.optim.adamw": _BITSANDBYTES,
    "deepspeed.ops.adam.cpu_adam": _TORCH._replace(in_float32=True),
    "deepspeed.ops.adam.fused_adam": _TORCH._replace(in_float32=True),
    "galore_torch.adamw": _LOW_RANK,
    "galore_torch.adamw8bit": Kernel(in_float32=True),
    "torch.optim.adam": _TORCH,
    "torch.optim.adamw": _TORCH,
    "torch_npu": _TORCH,
    "torch_xla": _TORCH,
    "torchao.optim.adam": _TORCHAO,
    "torchdistx": _TORCH,
}


def kernel_of(cls: type) -> tuple[Kernel, bool]:
    """What is known of the step of a class, and whether that is all: not if a class of one's own steps otherwise."""
    stepping = inspect.unwrap(cls.step).__module__.partition(".")[0]  # pyright: ignore[reportAttributeAccessIssue]
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        kernel = KERNELS.get(base.__module__, KERNELS.get(package))
        if kernel is not None and stepping == package:
            return kernel, True
        if kernel is not None:  # whose state may have names of its own
            return kernel._replace(moments=()), False
    return Kernel(), False


# What RAdam reads from the groups and sets there.
_OF_RADAM = ("lr", "betas", "eps", "weight_decay")
# Options of class RAdam that an AdamW may lack, for the check of those that both have.
_DEFAULTS = {
    "foreach": None, "differentiable": False, "capturable": False, "maximize": False, "decoupled_weight_decay": True,
}  # fmt: skip
# Names of state that only one library has; torch's and DeepSpeed's own look alike.
_SIGNS = {
    "state1": "bitsandbytes",
    "__bnb_optimizer_quant_state__": "bitsandbytes",
    "projector": "galore_torch",
    "kahan_comp": "optimi",
}


def check_library(state_dict: Mapping[str, Any], cls: type) -> None:
    """Refuse the state of another library than that of an optimizer class.

    Raises:
        ValueError: naming both; or it is that of no Adam.
    """
    found, own = library_of_state(state_dict), library_of_class(cls)
    states = [state for state in state_dict.get("state", {}).values() if isinstance(state, Mapping)]
    keys = sorted({str(key) for state in states for key in state})
    if found is None and own is not None and keys:
        raise ValueError(
            f"this optimizer state has no moments of Adam, only {', '.join(keys)}, and {cls.__qualname__} continues "
            f"that of {own}; build the optimizer that wrote it, or start without optimizer state"
        )
    if found == "torch" and own == "torchao" and not _has_large_state(state_dict):
        return  # torchao keeps small parameters' state as torch does
    if found is not None and own is not None and found != own:
        raise ValueError(
            f"this is optimizer state of {found}, and {cls.__qualname__} continues that of {own}; build the optimizer "
            "that wrote it, or start without optimizer state"
        )


def check_group(group: Mapping[str, Any], parent: type, kernel: Kernel) -> None:
    """Refuse a parameter group of an AdamW whose steps cannot be those of RAdam.

    Args:
        group: with its defaults filled in.
        parent: the class that is rectified.
        kernel: what is known of its step.

    Raises:
        ValueError: see `rectified.RectifiedMixin`.
    """
    name = full_name(parent)
    if missing := [key for key in _OF_RADAM if key not in group]:
        raise ValueError(
            f"RAdam sets lr, eps and weight_decay for each step and reads betas, but groups of {name} have no "
            f"{' and no '.join(missing)}; rectify a class that has, or add an option of that name to it"
        )
    check_options({**_DEFAULTS, **group}, None)
    warn_of_no_rectification(group["betas"][1])
    for key in ("correct_bias", "bias_correction"):
        if not group.get(key, True):
            raise ValueError(f"RAdam needs the bias correction that {key}=False takes out of {name}; leave it on")
    for key in ("capturable", "differentiable"):
        if group.get(key):
            raise ValueError(f"{key} does not work with {name} under other numbers each step; use hf_radam.RAdam")
    in_half = not (kernel.in_float32 or group.get("fused"))
    if in_half and any(p.dtype == torch.float16 for p in group["params"]):
        remedy = "pass fused=True, or use" if "fused" in group else "use"
        raise ValueError(f"float16 parameters overflow the start-up of {name}; {remedy} hf_radam.RAdam")


def full_name(cls: type) -> str:
    """A class by its module and name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def check_overrides(optimizer: Any) -> None:
    """Refuse numbers that bitsandbytes' GlobalOptimManager has for a parameter: they would replace those of RAdam.

    Raises:
        ValueError: naming them; other settings, such as `optim_bits`, are no matter.
    """
    manager = getattr(optimizer, "mng", None)
    if manager is None:
        return
    if not optimizer.initialized:  # else known: the manager is asked for modules' settings before the first step
        optimizer.check_overrides()
    settings = (*manager.pid2config.values(), *manager.index2config.values())
    if not any(setting.keys() & _OF_RADAM for setting in settings):
        return
    for index, group in enumerate(optimizer.param_groups):
        for position, p in enumerate(group["params"]):
            of_p = {**manager.index2config.get((index, position), {}), **manager.pid2config.get(id(p), {})}
            if taken := sorted(of_p.keys() & _OF_RADAM):
                raise ValueError(
                    f"bitsandbytes' GlobalOptimManager overrides {' and '.join(taken)} of parameter {position} of "
                    f"group {index}, which would undo what RAdam sets for each step; give it a group of its own"
                )


def library_of_state(state_dict: Mapping[str, Any]) -> str | None:
    """The library whose optimizer wrote a state dict: "bitsandbytes", "torchao", "torch" ...; None for an empty one.

    Example:
        >>> import torch
        >>> library_of_state(torch.optim.AdamW([torch.zeros(1)]).state_dict()) is None
        True
    """
    states = [state for state in state_dict.get("state", {}).values() if isinstance(state, Mapping)]
    found = {_SIGNS[key] for state in states for key in state if key in _SIGNS}
    if any(_is_quantized(value) for state in states for value in state.values()):
        found.add("torchao")
    if found:
        return " and ".join(sorted(found))
    return "torch" if any("exp_avg" in state for state in states) else None


def library_of_class(cls: type) -> str | None:
    """As `library_of_state` tells it, for an optimizer class of which it can be told."""
    modules = {base.__module__ for base in cls.__mro__} - {"torch.optim.optimizer"}  # every optimizer's
    packages = {module.partition(".")[0] for module in modules} & {key.partition(".")[0] for key in KERNELS}
    if packages & {"galore_torch", "apollo_torch"}:  # what they keep depends on the group
        return None
    # The others keep what torch does.
    return next((name for name in ("bitsandbytes", "torchao") if name in packages), "torch" if packages else None)


def _has_large_state(state_dict: Mapping[str, Any], quantized_from: int = 4096) -> bool:
    sizes = [state["exp_avg"].numel() for state in state_dict["state"].values() if "exp_avg" in state]
    return any(size >= quantized_from and size % 256 == 0 for size in sizes)


def _is_quantized(value: Any) -> bool:
    return type(getattr(value, "_local_tensor", value)).__module__.startswith("torchao")
