"""Checks that gradients and state fit their parameters, before every step: the kernels themselves check nothing."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer

_shape, _dtype, _device, _is_cpu = map(attrgetter, ("shape", "dtype", "device", "is_cpu"))
_RELOAD = "to convert it, call optimizer.load_state_dict(optimizer.state_dict())"
_OF_ADAM = "load the state of an Adam, AdamW or RAdam"


def fits(params: Sequence[Tensor], *columns: Sequence[Tensor], by_size: bool) -> bool:
    """Whether the tensors of each column have the shape, dtype and device of the parameters, which share the last two.

    Sizes take a third of the time of shapes (32 and 106 us for 500 tensors), and suffice for a kernel that walks over
    memory.
    """
    sizes, dtype, device = Tensor.numel if by_size else _shape, {params[0].dtype}, params[0].device
    expected = list(map(sizes, params))
    return all(
        list(map(sizes, column)) == expected
        and set(map(_dtype, column)) == dtype
        and (all(map(_is_cpu, column)) if device.type == "cpu" else set(map(_device, column)) == {device})
        for column in columns
    )


def local(tensor: Tensor, of: Tensor | None = None) -> Tensor:
    """This process's shard of a DTensor, because the update is elementwise; any other tensor as it is.

    A gradient (`of` a parameter) is redistributed first if its placements differ from its parameter's.
    """
    mesh, placements = getattr(of, "device_mesh", None), getattr(of, "placements", None)
    if not hasattr(tensor, "device_mesh"):
        if mesh is not None:
            raise ValueError(
                f"a parameter is a DTensor on {mesh}, but its gradient is a plain tensor; convert the gradient with "
                "distribute_tensor(grad, p.device_mesh, p.placements)"
            )
        return tensor
    dtensor = cast(Any, tensor)
    if of is not None:
        if dtensor.device_mesh != mesh:
            raise ValueError(
                f"a parameter is on {mesh}, but its gradient is on {dtensor.device_mesh}; move the gradient with "
                "DTensor.from_local(grad.full_tensor(), mesh).redistribute(placements=p.placements)"
            )
        if dtensor.placements != placements:
            dtensor = dtensor.redistribute(placements=placements)
    return dtensor.to_local()


def name_of(group: dict[str, Any], index: int, position: int) -> str:
    """A parameter for a message: by its name if the group has names, else by group and position."""
    names = group.get("param_names") or ()
    named = len(names) == len(group["params"])
    return f"parameter {names[position]!r}" if named else f"parameter {position} of group {index}"


def check_fit(name: str, p: Tensor, grad: Tensor | None, state: dict[str, Any], keys: Iterable[str]) -> None:
    """Refuse a gradient or a state (the step and `keys`) that does not fit its parameter, or a sparse gradient."""
    if grad is not None:
        if grad.is_sparse:
            raise TypeError(
                f"RAdam takes dense gradients, but {name} of shape {tuple(p.shape)} has a sparse one; build its "
                "embedding with sparse=False, or use torch.optim.SparseAdam for it"
            )
        _check_tensor(name, p, "gradient", grad, "after changing a parameter, call zero_grad() and backward()")
    if not state:
        return
    remedy = "after changing a parameter, drop its state (optimizer.state.pop(p)) or load the state of the same model"
    check_step(name, state)
    for key in keys:
        if not isinstance(state.get(key), Tensor):
            raise ValueError(_lacks(name, state, key))
        _check_tensor(name, p, key, state[key], remedy)


def check_step(name: str, state: dict[str, Any]) -> None:
    """Refuse a state whose step is missing or not a whole number >= 0, with a ValueError."""
    if "step" not in state:
        raise ValueError(_lacks(name, state, "step"))
    step = state["step"]
    if isinstance(step, Tensor) and step.is_meta:
        return
    number = step.item() if isinstance(step, Tensor) and step.numel() == 1 else step
    number_like = isinstance(number, int | float) and not isinstance(number, bool)
    if not (number_like and 0 <= number < 2**53 and number == int(number)):
        raise ValueError(f"the step in the state of {name} must be a whole number >= 0, got {reprlib.repr(number)}")


def check_loaded(
    states: Mapping[Any, dict[str, Any]], groups: Sequence[dict[str, Any]], moments: Sequence[str]
) -> None:
    """Refuse loaded state (by parameter) that does not belong to the groups' parameters, as far as shapes are known."""
    for index, group in enumerate(groups):
        if missing := [key for key in ("lr", "betas", "eps", "weight_decay") if key not in group]:
            raise ValueError(f"group {index} has no {' and no '.join(missing)}; {_OF_ADAM}")
        for position, p in enumerate(group["params"]):
            state = states.get(p)
            if not state:
                continue
            name = name_of(group, index, position)
            check_step(name, state)
            for key in (*moments, *(["max_exp_avg_sq"] if "max_exp_avg_sq" in state else [])):
                value = state.get(key)
                if not isinstance(value, Tensor):
                    raise ValueError(_lacks(name, state, key))
                # While Accelerate shards, each parameter is a tensor of one number; a shard has its own shape.
                known = p.shape != (1,) and hasattr(p, "device_mesh") == hasattr(value, "device_mesh")
                if known and value.shape != p.shape:
                    remedy = "build the same model and groups as when it was saved"
                    raise ValueError(_unlike(f"{key} of {name}", value, p, remedy))


def _check_tensor(name: str, p: Tensor, what: str, tensor: Tensor, remedy: str) -> None:
    if tensor.shape != p.shape:
        raise ValueError(_unlike(f"{what} of {name}", tensor, p, remedy))
    if (tensor.dtype, tensor.device) != (p.dtype, p.device):
        remedy = _RELOAD if what != "gradient" else remedy
        raise ValueError(
            f"{what} of {name} is {tensor.dtype} on {tensor.device}, but the parameter is {p.dtype} on {p.device}; "
            f"{remedy}"
        )


def _unlike(what: str, tensor: Tensor, p: Tensor, remedy: str) -> str:
    return f"{what} has the shape {tuple(tensor.shape)}, but the parameter has {tuple(p.shape)}; {remedy}"


def _lacks(name: str, state: dict[str, Any], key: str) -> str:
    remedy = _OF_ADAM
    if key == "step":  # pytorch_optimizer and optimi count in the group
        remedy += "; if its group has the step, set torch.tensor(float(group['step'])) in each state"
    return f"the state of {name} has no {key}, only {', '.join(map(str, state)) or 'nothing'}; {remedy}"


def parts_of(value: Any) -> list[Tensor]:
    """The plain tensors inside a value of optimizer state: none for a number, codes and scales for torchao's."""
    if not isinstance(value, Tensor):
        return []
    if type(value) is Tensor or not hasattr(value, "__tensor_flatten__"):
        return [value]
    return [part for name in value.__tensor_flatten__()[0] for part in parts_of(getattr(value, name))]  # pyright: ignore


def state_bytes_per_parameter(optimizer: Optimizer) -> float | None:
    """Bytes of optimizer state for each parameter element that this process holds; None if it holds no parameter.

    8 for Adam in float32, about 2 in 8 bits. Shared tensors, such as bitsandbytes' tables of codes, count once.
    """
    parts = [part for state in optimizer.state.values() for value in state.values() for part in parts_of(value)]
    elements = sum(local(p).numel() for group in optimizer.param_groups for p in group["params"])
    return sum({part.data_ptr(): part.nbytes for part in parts}.values()) / elements if elements else None
