"""Optimizer state in a folder of `torch.distributed.checkpoint` (DCP), read by one process without the model."""

from __future__ import annotations

import io
import pickle
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from hf_radam.checkpoints.checkpoint import CheckpointError, OptimizerCheckpoint
from hf_radam.files import one_line

METADATA = ".metadata"


def read_distributed(folder: Path, *, moments: bool = True) -> OptimizerCheckpoint:
    """Read the optimizer of a DCP folder, flattened (`flatten_optimizer_state_dict`) or not.

    Args:
        folder: holds `.metadata` and the shards, `*.distcp`.
        moments: read everything; if False, tensors of one dimension or more are on the meta device.

    Raises:
        CheckpointError: a file is missing, short or damaged, or there is no optimizer in it.
    """
    metadata = _metadata(folder)
    paths: dict[str, Any] = metadata.planner_data or {}
    values: dict[str, Any] = {}
    for key, item in metadata.state_dict_metadata.items():
        if paths.get(key, (key,))[0] == "optimizer":
            is_tensor = isinstance(item, TensorStorageMetadata)
            device = "meta" if is_tensor and item.size and not moments else "cpu"
            values[key] = torch.empty(item.size, dtype=item.properties.dtype, device=device) if is_tensor else None
    to_read = {key: value for key, value in values.items() if value is None or not value.is_meta}
    try:
        _load_state_dict(to_read, FileSystemReader(folder), no_dist=True, planner=PlainValues())
    except CheckpointException as error:
        raise unreadable(folder, error) from error
    nested: dict[str, Any] = {}
    for key, value in {**values, **to_read}.items():
        set_element(nested, paths[key], value)
    optimizer = nested.get("optimizer")
    if not optimizer:
        found = sorted({str(path[0]) for path in paths.values()})
        raise CheckpointError(f"{folder} holds no optimizer (only {', '.join(found)}); give the optimizer's folder")
    if "param_groups" not in optimizer:
        optimizer = _unflatten(optimizer, _order_of_groups(metadata))
    shards = sorted({folder / info.relative_path for info in metadata.storage_data.values()})
    ranks = {match[1] for shard in shards if (match := re.match(r"__(\d+)_", shard.name))}
    return OptimizerCheckpoint(
        format="sharded by torch.distributed.checkpoint (FSDP2, tensor parallel, save_optimizer)",
        files=shards,
        processes=len(ranks) or None,
        groups=optimizer["param_groups"],
        state=optimizer.get("state", {}),
    )


def unreadable(folder: Path, error: CheckpointException) -> CheckpointError:
    """What to raise for an error of torch.distributed.checkpoint, which is no Exception and has many lines."""
    cause = type(next(iter(error.failures.values()))[0]).__name__
    return CheckpointError(f"{folder} has a shard that cannot be read ({cause}); copy the checkpoint anew")


def unwritten(folder: Path, rank: int, cause: BaseException) -> CheckpointError:
    """What to raise for an error in a save, whose message may have many lines."""
    return CheckpointError(
        f"process {rank} cannot write to {folder} ({type(cause).__name__}: {one_line(cause)}); make room there or "
        "give another folder: an earlier save is as it was"
    )


class PlainValues(DefaultLoadPlanner):
    """The default planner unpickles whatever stands for a value that is no tensor; this one refuses all but values."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Read one value, after a look at what it is."""
        torch.load(value, weights_only=True)
        value.seek(0)
        super().load_bytes(read_item, value)


def _metadata(folder: Path) -> Metadata:
    """The description of the checkpoint, after a check that every piece of every shard is there."""
    path = folder / METADATA
    try:
        with path.open("rb") as file:
            metadata: Metadata = _MetadataUnpickler(file).load()
        pieces = list(metadata.storage_data.values())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: the save was interrupted, or the copy left it out") from error
    except (pickle.UnpicklingError, EOFError, AttributeError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(f"{path} is damaged ({one_line(error)}); copy the checkpoint anew") from error
    sizes: dict[str, int] = defaultdict(int)
    for piece in pieces:
        sizes[piece.relative_path] = max(sizes[piece.relative_path], piece.offset + piece.length)
    for name, size in sorted(sizes.items()):
        shard = folder / name
        if not shard.is_file():
            raise CheckpointError(f"{shard} is missing, one of {len(sizes)} shards; copy the checkpoint anew")
        if shard.stat().st_size < size:
            raise CheckpointError(
                f"{shard} is truncated: {shard.stat().st_size} of {size} bytes; copy the checkpoint anew"
            )
    return metadata


class _MetadataUnpickler(pickle.Unpickler):
    """`.metadata` is a pickle; only the classes that describe a checkpoint are let in."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if "." not in name else None
        ours = module in ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
        if (
            (ours and isinstance(found, type) and found.__module__ == module)
            or (module == "torch" and (found is torch.Size or isinstance(found, torch.dtype)))
            or (module, name) == ("torch.serialization", "_get_layout")
            or (module.split(".")[0] == "pathlib" and isinstance(found, type))
        ):
            return found
        raise pickle.UnpicklingError(f"it names {module}.{name}, which does not belong there")


def _unflatten(flat: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """Undo `flatten_optimizer_state_dict`: parameters that follow each other with the same options form a group."""
    state: dict[str, dict[str, Any]] = defaultdict(dict)
    options: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, value in flat.items():
        section, rest = path.split(".", 1)
        name, key = rest.rsplit(".", 1)
        (state if section == "state" else options)[name][key] = value
    groups: list[dict[str, Any]] = []
    for name in order:
        if not groups or {**groups[-1], "params": None} != {**options[name], "params": None}:
            groups.append({**options[name], "params": []})
        groups[-1]["params"].append(name)
    return {"state": dict(state), "param_groups": groups}


def _order_of_groups(metadata: Metadata) -> list[str]:
    """The order of the parameters in a flattened checkpoint: that of the first process, if it had all of them."""
    wrote: dict[str, str] = {index.fqn: info.relative_path for index, info in metadata.storage_data.items()}
    files: dict[str, set[str]] = defaultdict(set)
    for key, path in metadata.planner_data.items():
        if path[0] == "optimizer" and path[1].startswith("param_groups."):
            files[path[1].split(".", 1)[1].rsplit(".", 1)[0]].add(wrote[key])
    order = list(files)
    if any(files[name].isdisjoint(files[following]) for name, following in pairwise(order)):
        raise CheckpointError(
            "the order of the parameters cannot be told from this flattened checkpoint; load it in a model and save it "
            "with hf_radam.save_optimizer"
        )
    return order
