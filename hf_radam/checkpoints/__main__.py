"""`python -m hf_radam.checkpoints`: look into the optimizer state of a checkpoint, or put it together in one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_radam.checkpoints.checkpoint import CheckpointError, OptimizerCheckpoint
from hf_radam.checkpoints.formats import read_checkpoint
from hf_radam.rectification import rectification, rho


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for a checkpoint that cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m hf_radam.checkpoints", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    what = "folder of a checkpoint (Trainer, Accelerate, DeepSpeed, save_optimizer), or what in it holds the optimizer"
    inspect = commands.add_parser("inspect", help="print format, groups, step and state")
    inspect.add_argument("checkpoint", type=Path, metavar="CKPT", help=what)
    consolidate = commands.add_parser("consolidate", help="write one optimizer.pt that a single process loads")
    consolidate.add_argument("checkpoint", type=Path, metavar="CKPT", help=what)
    consolidate.add_argument("out", type=Path, metavar="OUT", help="file to write; must not exist")
    options = parser.parse_args(arguments)
    try:
        if options.command == "inspect":
            print(describe(read_checkpoint(options.checkpoint, moments=False)))
        else:
            write(options.checkpoint, options.out)
    except (CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write(checkpoint: Path, out: Path) -> None:
    """Write the state of a checkpoint to one file, whole or not at all.

    Args:
        checkpoint: what `read_checkpoint` takes.
        out: the file, for `optimizer.load_state_dict(torch.load(out))`.

    Raises:
        CheckpointError: `out` exists, or the checkpoint cannot be read.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists; give the name of a new file")
    state = read_checkpoint(checkpoint).numbered()
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.tmp")
    try:
        torch.save(state, unfinished)
        unfinished.replace(out)
    except RuntimeError as error:  # what torch.save makes of a full disk
        raise CheckpointError(f"cannot write {out} ({str(error).splitlines()[0]}); is the disk full?") from error
    finally:
        unfinished.unlink(missing_ok=True)
    count = sum(len(group["params"]) for group in state["param_groups"])
    print(f"{out}: {count} parameters in {len(state['param_groups'])} groups; numbered in the order of the groups")


def describe(checkpoint: OptimizerCheckpoint) -> str:
    """Text for people: a line for each fact, and for each group its options, step and phase."""
    tensors = [(key, value) for state in checkpoint.state.values() for key, value in state.items()]
    kinds = sorted({f"{key} ({_dtype(value)})" for key, value in tensors})
    size = sum(value.numel() * value.element_size() for _, value in tensors if isinstance(value, Tensor))
    on_disk = sum(file.stat().st_size for file in checkpoint.files)
    lines = [
        f"format      {checkpoint.format}",
        f"files       {len(checkpoint.files)}, {_bytes(on_disk)}",
        f"processes   {checkpoint.processes or 'unknown'}",
        f"state       {', '.join(kinds) or 'none'}; {_bytes(size)}",
        f"loads in    {_loads_in({key for key, _ in tensors})}",
    ]
    for index, group in enumerate(checkpoint.groups):
        states = [checkpoint.state[name] for name in group["params"] if name in checkpoint.state]
        numbers = sum(max((v.numel() for v in state.values() if isinstance(v, Tensor)), default=0) for state in states)
        options = ", ".join(f"{key}={_plain(value)}" for key, value in group.items() if key != "params")
        lines += [
            f"group {index}     {len(group['params'])} parameters, {len(states)} with state of {numbers} elements",
            f"            {options}",
            f"            {_progress(states, group.get('betas'))}",
        ]
    return "\n".join(lines)


def _progress(states: list[dict[str, Any]], betas: Any) -> str:
    """The step, and what RAdam does in the one after it."""
    steps = sorted({int(state["step"]) for state in states if "step" in state})
    if not steps:
        return "no step yet"
    text = f"step {steps[0]}" + (f" to {steps[-1]}" if len(steps) > 1 else "")
    if betas is None or not steps[-1]:
        return text
    beta2 = float(betas[1])
    r_t, rho_t = rectification(steps[-1], beta2), rho(steps[-1], beta2)
    phase = "start-up (momentum SGD)" if r_t is None else f"rectified, r_t = {r_t:.4f}"
    return f"{text}; as RAdam: {phase}, rho_t = {rho_t:.2f}"


def _loads_in(keys: set[str]) -> str:
    moments = keys - {"step"}
    if moments == {"exp_avg", "exp_avg_sq"}:
        return "hf_radam.RAdam, torch.optim.RAdam, torch.optim.AdamW"
    if moments == {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}:
        return "hf_radam.RAdam and torch.optim.AdamW with amsgrad=True"
    return "the optimizer that wrote it" if moments else "any optimizer with these groups (there is no state)"


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else type(value).__name__


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.4g} {unit}"


if __name__ == "__main__":
    sys.exit(main())
