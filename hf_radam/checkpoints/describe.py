"""Text about the optimizer state of a checkpoint, and that state in one file."""

from __future__ import annotations

import functools
import operator
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_radam.checkpoints.checkpoint import CheckpointError, OptimizerCheckpoint
from hf_radam.checkpoints.formats import read_checkpoint
from hf_radam.files import one_line, printable, whole
from hf_radam.libraries import library_of_state
from hf_radam.rectification import rectification, rho
from hf_radam.state import check_step, parts_of


def write(checkpoint: Path, out: Path) -> str:
    """Write the state of a checkpoint to one file, whole or not at all; returns a line that says what is in it.

    Args:
        checkpoint: what `read_checkpoint` takes.
        out: the file, for `optimizer.load_state_dict(torch.load(out))`.

    Raises:
        CheckpointError: `out` exists, or the checkpoint cannot be read, or is of a library with states of its own.
        OSError: `out` cannot be written.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists; give the name of a new file")
    state = read_checkpoint(checkpoint).numbered()
    if library := _foreign(state["state"]):
        raise CheckpointError(
            f"{checkpoint} is state of {library}, which consolidate does not convert; go on with the optimizer that "
            "wrote it"
        )
    try:
        with whole(out) as unfinished:
            torch.save(state, unfinished)
    except RuntimeError as error:  # what torch.save makes of a full disk
        raise CheckpointError(f"cannot write {out} ({one_line(error)}); is the disk full?") from error
    count = sum(len(group["params"]) for group in state["param_groups"])
    return f"{out}: {count} parameters in {len(state['param_groups'])} groups; numbered in the order of the groups"


def describe(path: Path) -> str:
    """Text for people: a line for each fact, and for each group its options, step and phase.

    Args:
        path: what `read_checkpoint` takes; nothing large is read.

    Raises:
        CheckpointError: it cannot be read, or its steps or betas are none.
    """
    checkpoint = read_checkpoint(path, moments=False)
    tensors = [(str(key), value) for state in checkpoint.state.values() for key, value in _flat(state).items()]
    kinds = sorted({f"{key} ({_dtype(value)})" for key, value in tensors})
    parts = {part.data_ptr() or id(part): part.nbytes for _, value in tensors for part in parts_of(value)}
    size = sum(parts.values())  # parameters share the tables of 8-bit codes
    on_disk = sum(file.stat().st_size for file in checkpoint.files)
    lines = [
        f"format      {checkpoint.format}",
        f"files       {len(checkpoint.files)}, {_bytes(on_disk)}",
        f"processes   {checkpoint.processes or 'unknown'}",
        f"state       {', '.join(kinds) or 'none'}; {_bytes(size)}",
        f"loads in    {_loads_in({key for key, _ in tensors})}",
    ]
    if library := _foreign(checkpoint.state):
        moments = [value for key, value in tensors if key in ("exp_avg", "state1")]
        bits = " and ".join(str(n) for n in sorted({_bits(moment) for moment in moments}))
        a_parameter = size / max(1, sum(moment.numel() for moment in moments))
        lines[-1] = f"loads in    the optimizer that wrote it, of {library}; consolidate does not convert it"
        lines.insert(4, f"kind        {library}: moments of {bits} bits, {a_parameter:.2f} bytes a parameter")
    for index, group in enumerate(checkpoint.groups):
        states = [checkpoint.state[name] for name in group["params"] if name in checkpoint.state]
        flat = [_flat(state).values() for state in states]
        numbers = sum(max((v.numel() for v in values if isinstance(v, Tensor)), default=0) for values in flat)
        options = ", ".join(f"{key}={_plain(value)}" for key, value in group.items() if key != "params")
        lines += [
            f"group {index}     {len(group['params'])} parameters, {len(states)} with state of {numbers} elements",
            f"            {options}",
            f"            {_progress(checkpoint, index)}",
        ]
    return "\n".join(printable(line) for line in lines)


def _progress(checkpoint: OptimizerCheckpoint, index: int) -> str:
    """The step, and what RAdam does in the one after it."""
    group = checkpoint.groups[index]
    steps: set[int] = set()
    for name in group["params"]:
        state = checkpoint.state.get(name, {})
        if "step" in state:
            try:
                check_step(f"parameter {name!r}", state)
            except ValueError as error:
                raise CheckpointError(f"{checkpoint.files[0]}: {error}; the checkpoint is damaged") from error
            steps.add(int(state["step"]))
    if not steps:
        return f"step {group['step']}" if group.get("step") else "no step yet"  # torch-optimi counts in the group
    last = max(steps)
    text = f"step {min(steps)}" + (f" to {last}" if len(steps) > 1 else "")
    if "betas" not in group or not last:
        return text
    try:
        _, beta2 = map(float, group["betas"])
        r_t, rho_t = rectification(last, beta2), rho(last, beta2)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint.files[0]}: betas of group {index} must be two numbers in [0, 1), got "
            f"{reprlib.repr(group['betas'])}; the checkpoint is damaged"
        ) from error
    phase = "start-up (momentum SGD)" if r_t is None else f"rectified, r_t = {r_t:.4f}"
    return f"{text}; as RAdam: {phase}, rho_t = {rho_t:.2f}"


def _loads_in(keys: set[str]) -> str:
    moments = keys - {"step"}
    if moments == {"exp_avg", "exp_avg_sq"}:
        return "hf_radam.RAdam, torch.optim.RAdam, torch.optim.AdamW"
    if moments == {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}:
        return "hf_radam.RAdam and torch.optim.AdamW with amsgrad=True"
    return "the optimizer that wrote it" if moments else "any optimizer with these groups (there is no state)"


def _foreign(state: Mapping[Any, Any]) -> str | None:
    """The library whose states these are, if they are of another form than PyTorch's."""
    library = library_of_state({"state": state})
    return None if library == "torch" else library


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's state with that which bitsandbytes keeps in a dictionary of its own."""
    nested = [value for value in state.values() if isinstance(value, dict)]
    plain = {key: value for key, value in state.items() if not isinstance(value, dict)}
    return functools.reduce(operator.or_, nested, plain)


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
