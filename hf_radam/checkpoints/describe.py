"""`hf-radam checkpoint`: describe the optimizer state of a checkpoint, or write it to one file."""

from __future__ import annotations

import reprlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_radam.checkpoints.checkpoint import CheckpointError, OptimizerCheckpoint, reading
from hf_radam.checkpoints.formats import read_checkpoint
from hf_radam.files import printable, whole
from hf_radam.fit import check_step, parts_of
from hf_radam.libraries import library_of_state
from hf_radam.rectification import rectification, rho

# Which classes load a state with these keys beside the step.
_LOADS_IN = {
    frozenset(): "any optimizer with these groups (there is no state)",
    frozenset({"exp_avg", "exp_avg_sq"}): "hf_radam.RAdam, torch.optim.RAdam, torch.optim.AdamW",
    frozenset({"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}): "hf_radam.RAdam and torch.optim.AdamW with amsgrad=True",
}


def write(checkpoint: Path, out: Path) -> str:
    """Write the state to one file, for `optimizer.load_state_dict(torch.load(out))`, and return a line about it."""
    if out.exists():
        raise CheckpointError(f"{out} exists; give the name of a new file")
    found = read_checkpoint(checkpoint)
    if library := _foreign(found.state):
        remedy = "resume with the optimizer that wrote it"
        raise CheckpointError(f"{checkpoint} has state of {library}, which consolidate does not convert; {remedy}")
    names = [name for group in found.groups for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    state = {number: found.state[name] for name, number in numbers.items() if name in found.state}
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in found.groups]
    with whole(out) as unfinished:
        torch.save({"state": state, "param_groups": groups}, unfinished)
    return f"{out}: {len(numbers)} parameters in {len(groups)} groups; numbered in the order of the groups"


def describe(path: Path) -> str:
    """Describe a checkpoint: a line for each fact, then each group's options, step and phase. Nothing large is read."""
    checkpoint = read_checkpoint(path, moments=False)
    tensors = [(str(key), value) for state in checkpoint.state.values() for key, value in _flat(state).items()]
    keys = {key for key, _ in tensors}
    adam = _is_adam(keys, checkpoint.groups)
    kinds = sorted({f"{key} ({_dtype(value)})" for key, value in tensors})
    parts = {part.data_ptr() or id(part): part.nbytes for _, value in tensors for part in parts_of(value)}
    size = sum(parts.values())  # parameters share the tables of 8-bit codes
    on_disk = sum(file.stat().st_size for file in checkpoint.files)
    kind, loads_in = [], _LOADS_IN.get(frozenset(keys - {"step"}), "the optimizer that wrote it")
    if library := _foreign(checkpoint.state):
        moments = [value for key, value in tensors if key in ("exp_avg", "state1")]
        bits = " and ".join(str(n) for n in sorted({_bits(moment) for moment in moments}))
        a_parameter = size / max(1, sum(moment.numel() for moment in moments))
        kind = [f"kind        {library}: moments of {bits} bits, {a_parameter:.2f} bytes a parameter"]
        loads_in = f"the optimizer that wrote it, of {library}; consolidate does not convert it"
    lines = [
        f"format      {checkpoint.format}",
        f"files       {len(checkpoint.files)}, {_bytes(on_disk)}",
        f"processes   {checkpoint.processes or 'unknown'}",
        f"state       {', '.join(kinds) or 'none'}; {_bytes(size)}",
        *kind,
        f"loads in    {loads_in}",
    ]
    for index, group in enumerate(checkpoint.groups):
        states = [checkpoint.state[name] for name in group["params"] if name in checkpoint.state]
        flat = [_flat(state) for state in states]
        numbers = sum(max((v.numel() for v in of.values() if isinstance(v, Tensor)), default=0) for of in flat)
        options = ", ".join(f"{key}={_plain(value)}" for key, value in group.items() if key != "params")
        lines += [
            f"group {index}     {len(group['params'])} parameters, {len(states)} with state of {numbers} elements",
            f"            {options}",
            *([] if adam else [f"            {_shapes(flat)}"]),
            f"            {_progress(checkpoint, index, adam)}",
        ]
    return "\n".join(printable(line) for line in lines)


def _is_adam(keys: set[str], groups: list[dict[str, Any]]) -> bool:
    """Whether RAdam could take the next step: the state is an Adam's, or there is none."""
    if {"state1", "state2"} <= keys:  # bitsandbytes; its AdEMAMix has three betas
        return all(isinstance(group.get("betas"), tuple | list) and len(group["betas"]) == 2 for group in groups)
    return keys - {"step", "max_exp_avg_sq", "kahan_comp"} in (set(), {"exp_avg", "exp_avg_sq"})


def _shapes(states: list[dict[str, Any]]) -> str:
    """The first shapes of each key."""
    shapes: dict[str, dict[tuple[int, ...], None]] = defaultdict(dict)
    for state in states:
        for key, value in state.items():
            shapes[str(key)][tuple(getattr(value, "shape", ()))] = None
    return ", ".join(f"{key} {reprlib.repr(list(found))}" for key, found in shapes.items())


def _progress(checkpoint: OptimizerCheckpoint, index: int, adam: bool) -> str:
    """The group's steps, and the phase that RAdam is in after them."""
    group, states = checkpoint.groups[index], checkpoint.state
    counts = {f"parameter {name!r}": states[name] for name in group["params"] if "step" in states.get(name, {})}
    if not counts:  # torch-optimi and pytorch_optimizer count in the group, Schedule-Free as k
        counts = {f"group {index}": {"step": group[key]} for key in ("k", "step") if group.get(key) is not None}
    with reading(checkpoint.files[0]):
        for name, state in counts.items():
            check_step(name, state)
    steps = {int(state["step"]) for state in counts.values()}
    if not steps:
        return "no step yet" if adam else "no step is counted"
    last = max(steps)
    text = f"step {min(steps)}" + (f" to {last}" if len(steps) > 1 else "")
    if not adam or "betas" not in group or not last:
        return text
    betas = group["betas"]
    with reading(checkpoint.files[0]):
        two = isinstance(betas, tuple | list) and len(betas) == 2
        if not (two and all(isinstance(beta, float | int | Tensor) and 0 <= beta < 1 for beta in betas)):
            raise ValueError(f"betas of group {index} must be two numbers in [0, 1), got {reprlib.repr(betas)}")
    beta2 = float(betas[1])
    r_t = rectification(last, beta2)
    phase = "start-up (momentum SGD)" if r_t is None else f"rectified, r_t = {r_t:.4f}"
    return f"{text}; as RAdam: {phase}, rho_t = {rho(last, beta2):.2f}"


def _foreign(state: Mapping[Any, Any]) -> str | None:
    """The library that wrote the state, if its form is not PyTorch's."""
    library = library_of_state(state)
    return None if library == "torch" else library


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's state; bitsandbytes keeps parts of it in an inner dictionary."""
    parts = [value if isinstance(value, dict) else {key: value} for key, value in state.items()]
    return {key: value for part in parts for key, value in part.items()}


def _bits(moment: Tensor) -> int:
    codes = parts_of(moment)[0]
    return 8 * codes.numel() * codes.element_size() // max(1, moment.numel())


def _dtype(value: Any) -> str:
    if len(parts_of(value)) > 1:
        return type(value).__name__
    return str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else type(value).__name__


def _plain(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(value.item()) if value.numel() == 1 and not value.is_meta else f"a tensor of {tuple(value.shape)}"
    return value if isinstance(value, str) else reprlib.repr(value)


def _bytes(count: int) -> str:
    power = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.4g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
