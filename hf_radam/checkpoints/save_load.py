"""Save and load the state of an optimizer, whatever shards it: FSDP2, tensor parallel, DDP, or one process."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, _get_fqns, get_optimizer_state_dict
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.optim import Optimizer
from torch.utils._pytree import tree_map, tree_map_only

from hf_radam.checkpoints.checkpoint import CheckpointError, reading
from hf_radam.checkpoints.distributed import PlainValues, SafeReader, seal
from hf_radam.checkpoints.formats import SHARDED, WHOLE, find, read_checkpoint
from hf_radam.checkpoints.ranks import alike, on_first_process, one_process_is_fine
from hf_radam.files import one_line

# What a group keeps of its own when it takes the options of a checkpoint.
_OWN = ("params", "param_names")
_UNLIKE = "; build model and groups as at the save, with the same weights tied"
# State that has the shape of its parameter in every Adam.
_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def save_optimizer(model: nn.Module, optimizer: Optimizer, directory: str | Path, *, full: bool = False) -> None:
    """Save the optimizer's state; every process calls it.

    The files are those that Accelerate writes and reads for FSDP2, so Trainer takes them up and leaves such ones. They
    are written beside an earlier save and then take its place: a killed save destroys nothing.

    Args:
        model: the model whose parameters are optimized; they are saved by name.
        optimizer: a `torch.optim` optimizer, also as wrapped by Accelerate.
        directory: a folder that all processes see; gets `optimizer_0/`, where each process writes its own shards.
        full: gather the state in the first process and write one file, `optimizer.bin`, instead.

    Raises:
        CheckpointError: a process could not write, or the processes disagree (steps, folder, `full`); the earlier save
            is as it was.
        ValueError: before the first step there is no state; the state has values that no checkpoint can hold; the
            folder has a save of the other kind; or a parameter is not of the model.
        TypeError: the optimizer is DeepSpeed's.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.RAdam(model.parameters())
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.zero_grad()
        >>> save_optimizer(model, optimizer, "saved")
        >>> load_optimizer(model, torch.optim.RAdam(model.parameters()), "saved")
    """
    with alike("save_optimizer", directory) as facts:
        optimizer = _unwrap(model, optimizer)
        if not optimizer.state:
            raise ValueError("an optimizer has no state before its first step; save it after one")
        _plain([list(optimizer.state.values()), [{**group, "params": None} for group in optimizer.param_groups]])
        # The largest count: parameters that join late have smaller ones.
        steps = max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=None)
        facts.update({"full": full, "steps": steps})
    target, other = (Path(directory) / name for name in ((WHOLE, SHARDED) if full else (SHARDED, WHOLE)))
    unfinished = target.with_name(f".{target.name}.tmp")

    def prepare() -> None:
        if other.exists():
            raise ValueError(f"{other} is there already, and two saves in a folder could differ; move it away")
        _restore(target)
        _remove(unfinished)
        target.parent.mkdir(parents=True, exist_ok=True)

    on_first_process(prepare)
    options = StateDictOptions(full_state_dict=full, cpu_offload=full)
    state = _plain(get_optimizer_state_dict(model, optimizer, options=options))
    try:
        if full:
            on_first_process(lambda: torch.save(state, unfinished))
        else:
            with one_process_is_fine():
                dcp.save({"optimizer": state}, storage_writer=dcp.FileSystemWriter(unfinished))
            on_first_process(lambda: seal(unfinished))
    except (OSError, RuntimeError, CheckpointException) as error:  # raised in all processes, whichever failed
        on_first_process(lambda: _remove(unfinished))
        rank, (cause, _) = min(getattr(error, "failures", {0: (error, None)}).items())
        raise CheckpointError(
            f"process {rank} cannot write to {directory} ({type(cause).__name__}: {one_line(cause)}); make room there "
            "or give another folder: an earlier save is as it was"
        ) from error
    on_first_process(lambda: _replace(unfinished, target))


def load_optimizer(model: nn.Module, optimizer: Optimizer, directory: str | Path) -> None:
    """Load state saved by `save_optimizer`, Accelerate or Trainer (FSDP2); every process calls it.

    The number of processes and the sharding may be others than at the save. State goes by the parameters' names, and
    arrives as with `optimizer.load_state_dict`: the groups take all that they have in the checkpoint (learning rate,
    betas, decay, what schedulers keep there); options that the checkpoint does not know stay. So AdamW's state loads in
    RAdam, and back. No weight moves and no step is counted.

    Args:
        model: the model, of the same architecture.
        optimizer: new or used.
        directory: the folder given to `save_optimizer`, a Trainer's `checkpoint-N`, or what in it holds the state.

    Raises:
        CheckpointError: there is no such checkpoint, it is damaged, it does not fit, or the processes disagree; the
            optimizer stays as it was.
        ValueError: a parameter is not of the model.
        TypeError: the optimizer is DeepSpeed's.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.RAdam(model.parameters())
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> save_optimizer(model, optimizer, "kept")
        >>> load_optimizer(model, torch.optim.RAdam(model.parameters()), "kept")
    """
    with alike("load_optimizer", directory) as facts:
        optimizer = _unwrap(model, optimizer)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        names = {p: next(iter(_get_fqns(model, name))) for name, p in model.named_parameters()}
        facts["parameters"] = len(params)
    path, groups, state = on_first_process(lambda: _plan(optimizer, names, Path(directory)))
    with alike("load_optimizer", directory):
        if path.is_file():  # mapped into memory: each process takes its shards from there
            state = read_checkpoint(path).state
        state = {name: _placed(state[name], p) for p in params if (name := names[p]) in state}
    if path.is_dir() and state:
        with one_process_is_fine(), reading(path):
            dcp.load({"optimizer": {"state": state}}, storage_reader=SafeReader(path), planner=PlainValues())
    numbers = {p: number for number, p in enumerate(params)}
    content: dict[str, Any] = {
        "state": {numbers[p]: _as_kept(optimizer, p, state[names[p]]) for p in params if names[p] in state},
        "param_groups": [
            {**group, **options, "params": [numbers[p] for p in group["params"]]}
            for group, options in zip(optimizer.param_groups, groups, strict=True)
        ],
    }
    before = {**vars(optimizer)}
    try:
        with alike("load_optimizer", directory):
            try:
                optimizer.load_state_dict(content)
            except Exception as error:  # a class may refuse in any way
                raise CheckpointError(f"{path} does not fit {type(optimizer).__name__}: {one_line(error)}") from error
    except CheckpointError:
        vars(optimizer).update(before)  # load_state_dict makes state and groups anew
        raise


def _plain(state: Any) -> Any:
    """State and groups as they are read back, without running code: numbers of numpy become Python's."""

    def convert(value: Any) -> Any:
        return value.item() if getattr(value, "ndim", None) == 0 and not isinstance(value, Tensor) else value

    state, written = tree_map(convert, state), io.BytesIO()
    torch.save(tree_map_only(Tensor, lambda _: None, state), written)
    written.seek(0)
    if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(written):
        remedy = "keep only tensors and plain values in state and groups"
        raise ValueError(f"{unsafe[0]} in the optimizer is not read back for safety; {remedy}")
    return state


def _plan(optimizer: Optimizer, names: dict[Any, str], directory: Path) -> tuple[Path, list[Any], dict[Any, Any]]:
    """What to read, the groups as they will be, and the state of a sharded checkpoint, the moments without content."""
    for name in (SHARDED, WHOLE):
        _restore(directory / name)
    path = find(directory)
    saved = read_checkpoint(path, moments=False)
    if not all(isinstance(name, str) for group in saved.groups for name in group["params"]):
        raise CheckpointError(f"{path} numbers its parameters; load it with optimizer.load_state_dict(torch.load(...))")
    if path.is_dir() and saved.format.startswith("DeepSpeed"):
        raise CheckpointError(f"{path} is DeepSpeed's; run hf-radam checkpoint consolidate, or resume by DeepSpeed")
    if not saved.state:
        raise CheckpointError(f"{path} has groups but no state: it was saved before the first step; start anew")
    groups: list[dict[str, Any]] = []
    index = {name: number for number, group in enumerate(saved.groups) for name in group["params"]}
    for own in ([names[p] for p in group["params"]] for group in optimizer.param_groups):
        if missing := [name for name in own if name not in index]:
            raise CheckpointError(f"{path} lacks {missing[0]!r}{_UNLIKE}")
        if len(sources := {index[name] for name in own}) > 1:
            raise CheckpointError(f"{path} has {own[0]!r} and others of its group in {len(sources)} groups{_UNLIKE}")
        options = {key: value for source in sources for key, value in saved.groups[source].items()}
        groups.append({key: value for key, value in options.items() if key not in _OWN})
    shapes = {names[p]: p.shape for group in optimizer.param_groups for p in group["params"]}
    if missing := [name for name in index if name not in shapes]:
        raise CheckpointError(f"{path} has {missing[0]!r}, which the optimizer lacks{_UNLIKE}")
    for name, shape in shapes.items():
        for key, value in saved.state.get(name, {}).items():
            if key in _MOMENTS and isinstance(value, Tensor) and value.shape != shape:
                shapes_differ = f"in the shape {tuple(value.shape)}, not {tuple(shape)}"
                raise CheckpointError(f"{path} has {key} of {name!r} {shapes_differ}{_UNLIKE}")
    return path, groups, saved.state if path.is_dir() else {}


def _placed(state: dict[str, Any], p: Tensor) -> dict[str, Any]:
    """The state of a parameter as this process holds it, sharded as the parameter is; room, where it has no content."""

    def place(value: Tensor) -> Tensor:
        if value.is_meta and value.shape == p.shape:
            return torch.empty_like(p, dtype=value.dtype, requires_grad=False)
        if value.is_meta:
            return torch.empty(value.shape, dtype=value.dtype, device=p.device)
        if not (isinstance(p, DTensor) and value.dim() and value.shape == p.shape):
            return value.to(p.device if value.dim() else value.device, copy=True)
        shape, offset = compute_local_shape_and_global_offset(p.shape, p.device_mesh, p.placements)
        part = value[tuple(slice(start, start + length) for start, length in zip(offset, shape, strict=True))]
        part = part.to(p.device, copy=True)
        return DTensor.from_local(part, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride())

    return tree_map_only(Tensor, place, state)


def _as_kept(optimizer: Optimizer, p: Tensor, state: dict[str, Any]) -> dict[str, Any]:
    """The state in the low bits of torchao's classes, where it was read from shards."""
    make: Any = getattr(optimizer, "_new_buffer", None)
    for key in state.keys() & _MOMENTS if make else ():
        if type(state[key]) in (Tensor, DTensor):
            state[key] = make(p, key == "exp_avg").copy_(state[key])
    return state


def _unwrap(model: nn.Module, optimizer: Any) -> Optimizer:
    accelerate = sys.modules.get("accelerate.optimizer")  # what it has not wrapped needs no import of it
    while accelerate is not None and isinstance(optimizer, accelerate.AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    if type(optimizer).__name__ == "ZeroRedundancyOptimizer":  # its module warns when it is imported
        raise TypeError("ZeroRedundancyOptimizer shards its state; save state_dict() after consolidate_state_dict()")
    if not isinstance(optimizer, Optimizer):
        remedy = "under DeepSpeed use the engine's save_checkpoint and load_checkpoint"
        raise TypeError(f"{type(optimizer).__name__} is no torch.optim.Optimizer; {remedy}")
    if not {p for group in optimizer.param_groups for p in group["params"]} <= set(model.parameters()):
        raise ValueError("a parameter of the optimizer is not of the model; give the module that has them all")
    return optimizer


def _replace(new: Path, target: Path) -> None:
    """A folder cannot replace a folder at a stroke: the old one goes aside first; see `_restore`."""
    old = target.with_name(f".{target.name}.old")
    if target.is_dir():
        _remove(old)
        target.rename(old)
    new.replace(target)
    _remove(old)


def _restore(target: Path) -> None:
    """Take back what a save that was killed between two renames has put aside."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
