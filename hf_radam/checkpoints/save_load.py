"""Save and load the state of an optimizer under FSDP2, tensor parallelism, DDP, or in one process."""

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

# A loading group keeps these and takes all else from the checkpoint.
_OWN = ("params", "param_names")
_UNLIKE = "; build the same model and groups as when it was saved, with the same tied weights"
# State that has the shape of its parameter in every Adam.
_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def save_optimizer(model: nn.Module, optimizer: Optimizer, directory: str | Path, *, full: bool = False) -> None:
    """Save the optimizer's state; every process calls it.

    The files have Accelerate's format for FSDP2, which Trainer also reads and writes. They are written beside an
    earlier save and then replace it, so a killed save destroys nothing.

    Args:
        model: the model whose parameters are optimized; they are saved by name.
        optimizer: a `torch.optim` optimizer, wrapped by Accelerate or not.
        directory: a folder that all processes see; each process writes its shards to `optimizer_0/` in it.
        full: gather the state in the first process and write one file, `optimizer.bin`, instead.

    Raises:
        CheckpointError: a process could not write, or the processes disagree (steps, folder, `full`); an earlier save
            is unchanged.
        ValueError: the optimizer has no state before its first step; the state has values that are neither tensors nor
            plain; the folder has a save of the other kind; or the model lacks a parameter.
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
            raise ValueError("an optimizer has no state before its first step; save it after a step")
        _plain([list(optimizer.state.values()), [{**group, "params": None} for group in optimizer.param_groups]])
        # The largest count, because parameters that join late have smaller ones.
        steps = max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=None)
        facts.update({"full": full, "steps": steps})
    target, other = (Path(directory) / name for name in ((WHOLE, SHARDED) if full else (SHARDED, WHOLE)))
    unfinished = target.with_name(f".{target.name}.tmp")

    def prepare() -> None:
        if other.exists():
            raise ValueError(f"{other} exists, and two saves in one folder could differ; move it away")
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
    except (OSError, RuntimeError, CheckpointException) as error:  # all processes raise if one fails
        on_first_process(lambda: _remove(unfinished))
        rank, (cause, _) = min(getattr(error, "failures", {0: (error, None)}).items())
        raise CheckpointError(
            f"process {rank} cannot write to {directory} ({type(cause).__name__}: {one_line(cause)}); make room there "
            "or give another folder (an earlier save is unchanged)"
        ) from error
    on_first_process(lambda: _replace(unfinished, target))


def load_optimizer(model: nn.Module, optimizer: Optimizer, directory: str | Path) -> None:
    """Load state saved by `save_optimizer`, Accelerate or Trainer (FSDP2); every process calls it.

    The number of processes and the sharding may differ from the save. State is matched by the parameters' names. Groups
    take their options from the checkpoint, as with `optimizer.load_state_dict`: learning rate, betas, decay, keys of
    schedulers. Options that the checkpoint lacks stay. So RAdam loads AdamW's state, and AdamW loads RAdam's. No weight
    moves and no step is counted.

    Args:
        model: the model, of the same architecture.
        optimizer: new or used.
        directory: the folder given to `save_optimizer`, a Trainer's `checkpoint-N`, or the state inside it.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or does not fit, or the processes disagree; the optimizer
            is unchanged.
        ValueError: the model lacks a parameter of the optimizer.
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
            except Exception as error:  # a class may raise anything
                raise CheckpointError(f"{path} does not fit {type(optimizer).__name__}: {one_line(error)}") from error
    except CheckpointError:
        vars(optimizer).update(before)  # load_state_dict has replaced state and groups, not changed them
        raise


def _plain(state: Any) -> Any:
    """State and groups with Python's numbers for numpy's; refuses values that a safe loader does not read."""

    def convert(value: Any) -> Any:
        return value.item() if getattr(value, "ndim", None) == 0 and not isinstance(value, Tensor) else value

    state, written = tree_map(convert, state), io.BytesIO()
    torch.save(tree_map_only(Tensor, lambda _: None, state), written)
    written.seek(0)
    if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(written):
        remedy = "keep only tensors and plain values in state and groups"
        raise ValueError(f"the optimizer holds {unsafe[0]}, which is not loaded for safety; {remedy}")
    return state


def _plan(optimizer: Optimizer, names: dict[Any, str], directory: Path) -> tuple[Path, list[Any], dict[Any, Any]]:
    """The path to read, the options of the groups, and the state of a sharded checkpoint with empty moments."""
    for name in (SHARDED, WHOLE):
        _restore(directory / name)
    path = find(directory)
    saved = read_checkpoint(path, moments=False)
    if not all(isinstance(name, str) for group in saved.groups for name in group["params"]):
        raise CheckpointError(f"{path} numbers its parameters; load it with optimizer.load_state_dict(torch.load(...))")
    if path.is_dir() and saved.format.startswith("DeepSpeed"):
        raise CheckpointError(f"{path} is DeepSpeed's; run hf-radam checkpoint consolidate, or resume with DeepSpeed")
    if not saved.state:
        raise CheckpointError(f"{path} has no state: it was saved before the first step; start without loading it")
    groups: list[dict[str, Any]] = []
    index = {name: number for number, group in enumerate(saved.groups) for name in group["params"]}
    for own in ([names[p] for p in group["params"]] for group in optimizer.param_groups):
        if missing := [name for name in own if name not in index]:
            raise CheckpointError(f"{path} lacks {missing[0]!r}{_UNLIKE}")
        if len(sources := {index[name] for name in own}) > 1:
            raise CheckpointError(f"{path} has the parameters of {own[0]!r}'s group in {len(sources)} groups{_UNLIKE}")
        options = {key: value for source in sources for key, value in saved.groups[source].items()}
        groups.append({key: value for key, value in options.items() if key not in _OWN})
    shapes = {names[p]: p.shape for group in optimizer.param_groups for p in group["params"]}
    if missing := [name for name in index if name not in shapes]:
        raise CheckpointError(f"{path} has {missing[0]!r}, which the optimizer lacks{_UNLIKE}")
    for name, shape in shapes.items():
        for key, value in saved.state.get(name, {}).items():
            if key in _MOMENTS and isinstance(value, Tensor) and value.shape != shape:
                differs = f"with the shape {tuple(value.shape)}, not {tuple(shape)}"
                raise CheckpointError(f"{path} has {key} of {name!r} {differs}{_UNLIKE}")
    return path, groups, saved.state if path.is_dir() else {}


def _placed(state: dict[str, Any], p: Tensor) -> dict[str, Any]:
    """The state of a parameter, sharded like the parameter; empty tensors where the state has no content yet."""

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
    """The state in torchao's low bits, if it was read from shards."""
    make: Any = getattr(optimizer, "_new_buffer", None)
    for key in state.keys() & _MOMENTS if make else ():
        if type(state[key]) in (Tensor, DTensor):
            state[key] = make(p, key == "exp_avg").copy_(state[key])
    return state


def _unwrap(model: nn.Module, optimizer: Any) -> Optimizer:
    accelerate = sys.modules.get("accelerate.optimizer")  # not imported: then it has wrapped nothing
    while accelerate is not None and isinstance(optimizer, accelerate.AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    if type(optimizer).__name__ == "ZeroRedundancyOptimizer":  # by name, because its module warns on import
        raise TypeError("ZeroRedundancyOptimizer shards its state; save state_dict() after consolidate_state_dict()")
    if not isinstance(optimizer, Optimizer):
        remedy = "under DeepSpeed use the engine's save_checkpoint and load_checkpoint"
        raise TypeError(f"{type(optimizer).__name__} is not a torch.optim.Optimizer; {remedy}")
    if not {p for group in optimizer.param_groups for p in group["params"]} <= set(model.parameters()):
        raise ValueError("the optimizer has a parameter that the model lacks; pass the module that has all of them")
    return optimizer


def _replace(new: Path, target: Path) -> None:
    """Replace a file or folder. A folder cannot replace a folder, so the old one moves aside; see `_restore`."""
    old = target.with_name(f".{target.name}.old")
    if target.is_dir():
        _remove(old)
        target.rename(old)
    new.replace(target)
    _remove(old)


def _restore(target: Path) -> None:
    """Move the old save back if a new one was killed between its two renames."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
