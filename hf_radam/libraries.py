"""What is known about the libraries whose AdamWs are rectified: how they step, and how their state looks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from hf_radam.option_checks import check_options, warn_of_no_rectification
from hf_radam.probe import EpsOn


class Kernel(NamedTuple):
    """What the rule must know about a library's step."""

    eps_on: EpsOn = "sqrt(v_hat)"
    """What the step adds its eps to."""
    decoupled: bool | None = None
    """Whether the decay is decoupled; None if a flag of the group or of the optimizer decides it."""
    in_float32: bool = False
    """Whether it steps in float32 for every dtype of parameter: float16 overflows in start-up."""
    tensors: bool = False
    """Whether eps and weight decay must be tensors: torchao compiles numbers as constants."""
    forgets: tuple[str, ...] = ()
    """State that holds the size of the last update before lr; it is dropped after start-up."""
    moments: tuple[str, ...] = ()
    """State that has the shape of the parameter."""


_TORCH = Kernel(moments=("exp_avg", "exp_avg_sq"))
_BITSANDBYTES = Kernel(in_float32=True, moments=("state1", "state2"))
_TORCHAO = Kernel(in_float32=True, tensors=True, moments=("exp_avg", "exp_avg_sq"))
_LOW_RANK = Kernel(eps_on="sqrt(v)")
# By the module of the class, or by its package if all optimizers there are AdamWs.
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
    """The kernel of a class, and whether it is known for certain: not if a subclass has a step of its own."""
    stepping = inspect.unwrap(cls.step).__module__.partition(".")[0]  # pyright: ignore[reportAttributeAccessIssue]
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        kernel = KERNELS.get(base.__module__, KERNELS.get(package))
        if kernel is not None:
            known = stepping == package
            return kernel if known else kernel._replace(moments=()), known  # its state may have other names
    return Kernel(), False


# The options of a group that RAdam reads and sets.
_OF_RADAM = ("lr", "betas", "eps", "weight_decay")
# Names of state that only one library uses. The states of torch and DeepSpeed look alike.
_SIGNS = {
    "state1": "bitsandbytes",
    "__bnb_optimizer_quant_state__": "bitsandbytes",
    "projector": "galore_torch",
    "kahan_comp": "optimi",
}


def check_library(of_params: Mapping[Any, Any], cls: type) -> None:
    """Refuse state (by parameter) that another library wrote, or that is not of an Adam, with a ValueError."""
    found, own = library_of_state(of_params), library_of_class(cls)
    states = [state for state in of_params.values() if isinstance(state, Mapping)]
    keys = sorted({str(key) for state in states for key in state})
    if own is None or found == own or not keys:
        return
    sizes = (state["exp_avg"].numel() for state in states if "exp_avg" in state)
    if (found, own) == ("torch", "torchao") and not any(size >= 4096 and size % 256 == 0 for size in sizes):
        return  # torchao keeps the state of small or odd parameters as torch does
    what = f"is of {found}" if found else f"has no moments of Adam, only {', '.join(keys)}"
    raise ValueError(
        f"this optimizer state {what}, but {cls.__qualname__} reads only state of {own}; build the optimizer that "
        "wrote it, or start without optimizer state"
    )


def check_group(group: Mapping[str, Any], parent: type, kernel: Kernel) -> None:
    """Refuse a parameter group, defaults included, with which the class cannot be rectified; see `RectifiedMixin`."""
    name = full_name(parent)
    if missing := [key for key in _OF_RADAM if key not in group]:
        raise ValueError(
            f"RAdam needs lr, betas, eps and weight_decay in each group, but groups of {name} have no "
            f"{' and no '.join(missing)}; rectify a class that has them"
        )
    check_options(group, None)
    warn_of_no_rectification(group["betas"][1])
    for key in ("correct_bias", "bias_correction"):
        if not group.get(key, True):
            raise ValueError(f"{name} has {key}=False, but RAdam needs the bias correction; leave it on")
    for key in ("capturable", "differentiable"):
        if group.get(key):
            raise ValueError(f"{name} with {key}=True cannot change lr and eps in each step; use hf_radam.RAdam")
    in_half = not (kernel.in_float32 or group.get("fused"))
    if in_half and any(p.dtype == torch.float16 for p in group["params"]):
        remedy = "pass fused=True, or use" if "fused" in group else "use"
        raise ValueError(f"float16 parameters overflow in the start-up of {name}; {remedy} hf_radam.RAdam")


def full_name(cls: type) -> str:
    """A class by its module and name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def check_overrides(optimizer: Any) -> None:
    """Refuse lr, betas, eps or decay from bitsandbytes' GlobalOptimManager, which would replace RAdam's; a ValueError.

    Other settings of the manager, such as `optim_bits`, do no harm.
    """
    manager = getattr(optimizer, "mng", None)
    if manager is None:
        return
    if not optimizer.initialized:  # before the first step: the manager has not looked up the modules' settings yet
        optimizer.check_overrides()
    settings = (*manager.pid2config.values(), *manager.index2config.values())
    if not any(setting.keys() & _OF_RADAM for setting in settings):
        return
    for index, group in enumerate(optimizer.param_groups):
        for position, p in enumerate(group["params"]):
            keys = {*manager.index2config.get((index, position), ()), *manager.pid2config.get(id(p), ())}
            if taken := sorted(keys.intersection(_OF_RADAM)):
                raise ValueError(
                    f"bitsandbytes' GlobalOptimManager overrides {' and '.join(taken)} of parameter {position} of "
                    f"group {index}, but RAdam sets these in each step; put that parameter in its own group"
                )


def library_of_state(of_params: Mapping[Any, Any]) -> str | None:
    """The library that wrote a state, by parameter: "bitsandbytes", "torchao", "torch" ...; None for an empty one."""
    states = [state for state in of_params.values() if isinstance(state, Mapping)]
    found = {_SIGNS[key] for state in states for key in state if key in _SIGNS}
    tensors = [getattr(value, "_local_tensor", value) for state in states for value in state.values()]
    if any(type(tensor).__module__.startswith("torchao") for tensor in tensors):
        found.add("torchao")
    if found:
        return " and ".join(sorted(found))
    return "torch" if any("exp_avg" in state for state in states) else None


def library_of_class(cls: type) -> str | None:
    """The library whose state an optimizer class reads, in the words of `library_of_state`; None if unknown."""
    modules = {base.__module__ for base in cls.__mro__} - {"torch.optim.optimizer"}  # a base of every optimizer
    packages = {module.partition(".")[0] for module in modules} & {key.partition(".")[0] for key in KERNELS}
    if packages & {"galore_torch", "apollo_torch"}:  # their state depends on the group
        return None
    # The state of all others looks like torch's.
    return next((name for name in ("bitsandbytes", "torchao") if name in packages), "torch" if packages else None)
