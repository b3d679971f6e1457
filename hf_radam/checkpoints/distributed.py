"""Optimizer state in a folder of `torch.distributed.checkpoint` (DCP), read by one process without the model."""

from __future__ import annotations

import io
import math
import pickle
import re
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from hf_radam.checkpoints.checkpoint import CheckpointError, OptimizerCheckpoint, reading

METADATA = ".metadata"
_SEAL = b"\nhf_radam crc32 "


def read_distributed(folder: Path, *, moments: bool = True) -> OptimizerCheckpoint:
    """Read the optimizer of a DCP folder; see `read_checkpoint`."""
    with reading(folder):
        reader = SafeReader(folder)
        metadata = reader.metadata
        paths: dict[str, Any] = metadata.planner_data or {}
        content: dict[str, Any] = {}
        for key, item in metadata.state_dict_metadata.items():
            path = paths.get(key, (key,))
            if path[0] == "optimizer":
                content[key] = None
                if isinstance(item, TensorStorageMetadata):
                    device = "meta" if item.size and path[1] != "param_groups" and not moments else "cpu"
                    content[key] = torch.empty(item.size, dtype=item.properties.dtype, device=device)
        to_read = {key: value for key, value in content.items() if value is None or not value.is_meta}
        _load_state_dict(to_read, reader, no_dist=True, planner=PlainValues())
        nested: dict[str, Any] = {}
        for key, value in {**content, **to_read}.items():
            set_element(nested, paths[key], value)
        if not (optimizer := nested.get("optimizer")):
            found = sorted({str(path[0]) for path in paths.values()})
            raise CheckpointError(f"{folder} has no optimizer, only {', '.join(found)}; give the optimizer's folder")
        if "param_groups" not in optimizer:
            raise CheckpointError(f"{folder} was saved with flatten_optimizer_state_dict; save it without")
        shards = sorted({folder / info.relative_path for info in metadata.storage_data.values()})
    ranks = {match[1] for shard in shards if (match := re.match(r"__(\d+)_", shard.name))}
    return OptimizerCheckpoint(
        format="sharded by torch.distributed.checkpoint (FSDP2, tensor parallel, save_optimizer)",
        files=shards,
        processes=len(ranks) or None,
        groups=optimizer["param_groups"],
        state=optimizer.get("state", {}),
    )


def seal(folder: Path) -> None:
    """Append a checksum to the pickle in `.metadata`, where PyTorch and Accelerate do not read."""
    content = (folder / METADATA).read_bytes()
    (folder / METADATA).write_bytes(content + _check_sum(content))


class SafeReader(FileSystemReader):
    """PyTorch's reader unpickles anything in `.metadata`; this one checks it, and reads it once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.metadata = _metadata(folder)

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """PyTorch's name for it."""
        return self.metadata


class PlainValues(DefaultLoadPlanner):
    """PyTorch's planner unpickles any object that is not a tensor; this one refuses all but plain values."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Read one value, after a check."""
        torch.load(value, weights_only=True)
        value.seek(0)
        super().load_bytes(read_item, value)


def _check_sum(content: bytes) -> bytes:
    return _SEAL + b"%08x" % zlib.crc32(content)


def _metadata(folder: Path) -> Metadata:
    """The description of the checkpoint, after a check that every piece of every shard is there."""
    path = folder / METADATA
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the save or a copy broke off; copy it again or use an older one")
    with reading(path):
        content = path.read_bytes()
        pickled, sealed, _ = content.rpartition(_SEAL)
        if sealed and content != pickled + _check_sum(pickled):
            raise ValueError("its checksum differs")
        stream = io.BytesIO(pickled or content)
        metadata: Metadata = _MetadataUnpickler(stream).load()
        if stream.read():
            raise ValueError("it has extra bytes at its end")
        for key, item in metadata.state_dict_metadata.items():
            if isinstance(item, TensorStorageMetadata) and item.size and not _is_covered(item):
                raise ValueError(f"pieces of {key} are missing")
        sizes: dict[str, int] = defaultdict(int)
        for piece in metadata.storage_data.values():
            sizes[piece.relative_path] = max(sizes[piece.relative_path], piece.offset + piece.length)
        for name, size in sorted(sizes.items()):
            shard = folder / name
            if not shard.is_file():
                raise CheckpointError(f"{shard}, one of {len(sizes)} shards, is missing; copy the checkpoint again")
            if (there := shard.stat().st_size) < size:
                raise CheckpointError(f"{shard} is truncated: {there} of {size} bytes; copy the checkpoint again")
        return metadata


def _is_covered(tensor: TensorStorageMetadata) -> bool:
    """Whether the pieces lie inside the tensor and have as many elements."""
    boxes = [zip(chunk.offsets, chunk.sizes, tensor.size, strict=True) for chunk in tensor.chunks]
    inside = all(0 <= offset <= offset + length <= size for box in boxes for offset, length, size in box)
    return inside and sum(math.prod(chunk.sizes) for chunk in tensor.chunks) == tensor.size.numel()


class _MetadataUnpickler(pickle._Unpickler):
    """Unpickles `.metadata` and admits only the classes that describe a checkpoint."""

    # The unpickler in C allocates whatever size a damaged number states; this one is in Python. Bytearrays do the same.
    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: None}  # pyright: ignore

    def find_class(self, module: str, name: str) -> Any:
        ours = module in ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
        known = ours or module in ("torch", "torch.serialization") or module.split(".")[0] == "pathlib"
        found = super().find_class(module, name) if known and "." not in name else None
        if (
            (ours and isinstance(found, type) and found.__module__ == module)
            or (module == "torch" and (found is torch.Size or isinstance(found, torch.dtype)))
            or (module, name) == ("torch.serialization", "_get_layout")
            or (module.split(".")[0] == "pathlib" and isinstance(found, type))
        ):
            return found
        raise pickle.UnpicklingError(f"it names {module}.{name}, which does not belong there")
