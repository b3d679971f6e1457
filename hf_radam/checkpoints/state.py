"""Save and load the state of an optimizer, whatever shards it: FSDP2, tensor parallel, DDP, or one process."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from hf_radam.checkpoints.checkpoint import CheckpointError, OptimizerCheckpoint
from hf_radam.checkpoints.distributed import PlainValues, unreadable, unwritten
from hf_radam.checkpoints.formats import SHARDED, WHOLE, find, read_checkpoint
from hf_radam.checkpoints.processes import alike, on_first_process, one_process_is_fine, rank

# What a group keeps of its own when it takes the options of a checkpoint.
_OWN = ("params", "param_names")


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
        ValueError: before the first step there is no state; the folder has a save of the other kind; or a parameter is
            not of the model.
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
        facts.update({"full": full, "steps": _steps(optimizer)})
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
    state = get_optimizer_state_dict(model, optimizer, options=options)
    if full:
        on_first_process(lambda: _write_whole(state, unfinished))
    else:
        _write_shards({"optimizer": state}, unfinished)
    on_first_process(lambda: _replace(unfinished, target))


def load_optimizer(model: nn.Module, optimizer: Optimizer, directory: str | Path) -> None:
    """Load state saved by `save_optimizer`, Accelerate or Trainer (FSDP2); every process calls it.

    The number of processes and the sharding may be others than at the save. State goes by the parameters' names. What
    the groups say in the checkpoint (learning rate, betas, decay) takes the place of what the optimizer was built with,
    as with `load_state_dict`; options that the checkpoint does not know stay. So AdamW's state loads in RAdam, and
    back. No weight moves and no step is counted.

    Args:
        model: the model, of the same architecture.
        optimizer: new or used; a new one must not have gradients yet.
        directory: the folder given to `save_optimizer`, a Trainer's `checkpoint-N`, or what in it holds the state.

    Raises:
        CheckpointError: there is no such checkpoint, it is damaged, it does not fit, or the processes disagree; a new
            optimizer stays new.
        ValueError: gradients are there, or a parameter is not of the model.
        TypeError: the optimizer is DeepSpeed's.
    """
    with alike("load_optimizer", directory) as facts:
        optimizer = _unwrap(model, optimizer)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        # New, or one of torch's that has met no gradient of some parameter.
        incomplete = any(p.requires_grad and not optimizer.state.get(p) for p in params)
        if incomplete and any(p.grad is not None for p in params):
            raise ValueError("a new optimizer cannot be loaded while there are gradients; call zero_grad() first")
        facts["new"] = incomplete
    before = dict(optimizer.state)
    try:
        if incomplete:  # torch makes state for all parameters or none, and takes no checkpoint of some
            optimizer.state.clear()
        own: Any = get_optimizer_state_dict(model, optimizer)  # makes state, by a step at a learning rate of 0
        path, groups, absent = on_first_process(lambda: _plan(own, Path(directory)))
        for name in absent:  # as after steps without a gradient
            for value in own["state"][name].values():
                value.zero_()
        if path.is_dir():
            to_read = {name: state for name, state in own["state"].items() if name not in absent}
            _read_shards({"optimizer": {"state": to_read}}, path)
            set_optimizer_state_dict(model, optimizer, {**own, "param_groups": groups})
        else:
            _load_whole(model, optimizer, path, own["state"], groups)
        for group, options in zip(optimizer.param_groups, groups, strict=True):  # a tuple may have become a list
            group.update({key: value for key, value in options.items() if key in group and key not in _OWN})
    except BaseException:
        if incomplete:
            optimizer.state.clear()
            optimizer.state.update(before)
        raise


def _write_shards(state: dict[str, Any], folder: Path) -> None:
    """Write what every process has, or nothing."""
    with one_process_is_fine():
        try:
            dcp.save(state, storage_writer=dcp.FileSystemWriter(folder))
        except CheckpointException as error:  # raised in all processes, whichever failed
            on_first_process(lambda: _remove(folder))
            rank, (cause, _) = min(error.failures.items())
            raise unwritten(folder.parent, rank, cause) from error


def _write_whole(state: dict[str, Any], path: Path) -> None:
    try:
        torch.save(state, path)
    except (OSError, RuntimeError) as error:  # the latter is what torch makes of a full disk
        _remove(path)
        raise unwritten(path.parent, 0, error) from error


def _read_shards(state: dict[str, Any], folder: Path) -> None:
    """Read what every process needs into its tensors."""
    with one_process_is_fine():
        try:
            dcp.load(state, storage_reader=dcp.FileSystemReader(folder), planner=PlainValues())
        except CheckpointException as error:
            raise unreadable(folder, error) from error


def _load_whole(model: nn.Module, optimizer: Optimizer, path: Path, own: dict[str, Any], groups: list[Any]) -> None:
    state: dict[str, Any] = {}

    def read() -> None:  # in one process: a copy in each of the processes of a machine might not fit
        saved = torch.load(path, map_location="cpu", weights_only=True)["state"]
        for name, of in own.items():
            zeros = {key: torch.zeros(value.shape) for key, value in of.items()}
            state[name] = {key: saved[name][key] for key in of} if name in saved else zeros

    on_first_process(read)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=dist.is_initialized())
    whole: Any = {"state": state, "param_groups": groups} if rank() == 0 else {}
    set_optimizer_state_dict(model, optimizer, whole, options=options)


def _plan(own: dict[str, Any], directory: Path) -> tuple[Path, list[dict[str, Any]], list[str]]:
    """What to read, the groups as they will be, and the parameters of which the checkpoint has no state."""
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
    groups = [_options(group, saved, path) for group in own["param_groups"]]
    known = {name for group in groups for name in group["params"]}
    if missing := [name for group in saved.groups for name in group["params"] if name not in known]:
        raise CheckpointError(f"{path} has {missing[0]!r}, which the optimizer lacks; build its groups as at the save")
    absent = [name for name in own["state"] if name not in saved.state]
    for name, state in own["state"].items():
        if name in absent:
            continue
        for key, value in state.items():
            there = saved.state[name].get(key)
            if there is None:
                raise CheckpointError(
                    f"{path} has no {key} of {name!r}; build the optimizer with the flags of the save"
                )
            if isinstance(value, Tensor) and value.shape != there.shape:
                raise CheckpointError(
                    f"{path} has {key} of {name!r} in the shape {tuple(there.shape)}, not {tuple(value.shape)}; build "
                    "the model as at the save"
                )
    return path, groups, absent


def _options(group: dict[str, Any], saved: OptimizerCheckpoint, path: Path) -> dict[str, Any]:
    """An optimizer's group with the options that its parameters have in the checkpoint."""
    names = set(group["params"])
    if not names:
        return group
    sources = [other for other in saved.groups if names & set(other["params"])]
    if len(sources) != 1 or not names <= set(sources[0]["params"]):
        found = f"{len(sources)} groups" if sources else "no group"
        raise CheckpointError(
            f"{path} has the {len(names)} parameters of a group ({group['params'][0]!r}, ...) in {found} or only in "
            "part; build the optimizer's groups as at the save"
        )
    return {key: value if key in _OWN else sources[0].get(key, value) for key, value in group.items()}


def _unwrap(model: nn.Module, optimizer: Any) -> Optimizer:
    accelerate = sys.modules.get("accelerate.optimizer")  # what it has not wrapped needs no import of it
    while accelerate is not None and isinstance(optimizer, accelerate.AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    if type(optimizer).__name__ == "ZeroRedundancyOptimizer":  # its module warns when it is imported
        raise TypeError(
            "ZeroRedundancyOptimizer keeps its shards to itself; call its consolidate_state_dict(), and save what its "
            "state_dict() returns"
        )
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"{type(optimizer).__name__} is no torch.optim.Optimizer; under DeepSpeed use the engine's save_checkpoint "
            "and load_checkpoint"
        )
    of_model = set(model.parameters())
    if any(p not in of_model for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("a parameter of the optimizer is not of the model; give the module that has them all")
    return optimizer


def _steps(optimizer: Optimizer) -> int | None:
    """The largest step count: parameters that join late have smaller ones."""
    counts = [int(state["step"]) for state in optimizer.state.values() if "step" in state]
    return max(counts, default=None)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _replace(new: Path, target: Path) -> None:
    """A folder cannot replace a folder at a stroke: the old one goes aside first; see `_restore`."""
    if target.is_dir():
        _remove(_old(target))
        target.rename(_old(target))
    new.replace(target)
    _remove(_old(target))


def _restore(target: Path) -> None:
    """Take back what a save that was killed between two renames has put aside."""
    if _old(target).exists() and not target.exists():
        _old(target).rename(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
