"""Optimizer state of DeepSpeed's ZeRO, read by one process without DeepSpeed and without the model.

ZeRO-1/2 flatten each parameter group and cut it in one piece a rank; ZeRO-3 cuts every parameter in pieces and flattens
those (`deepspeed/utils/zero_to_fp32.py` puts the weights together alike). Names and shapes are in the model's file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_radam.sharding.checkpoint import CheckpointError, OptimizerCheckpoint, load_file

PATTERN = "*_optim_states.pt"
_REMEDY = "convert it with DeepSpeed's ds_to_universal.py, or resume the run and save it under FSDP2 or DDP"


def read_deepspeed(folder: Path, *, moments: bool = True) -> OptimizerCheckpoint:
    """Read the optimizer of a `global_stepN` folder of ZeRO-1, 2 or 3.

    Args:
        folder: holds the files of all ranks.
        moments: if False, the moments are on the meta device, so nothing large is read.

    Raises:
        CheckpointError: a file is missing or damaged, or the layout is one that is not read.
    """
    shards = sorted(folder.glob(PATTERN), key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    optimizers = [_section(path, "optimizer_state_dict", inert="deepspeed") for path in shards]
    first = optimizers[0]
    stage = _stage(first, shards[0])
    count = first.get("partition_count")
    processes = max(count) if isinstance(count, list) else count
    if any("_mp_rank_00_" not in path.name or "expp_rank" in path.name for path in shards):
        raise CheckpointError(
            f"{folder} is split by tensor or expert parallelism as well, which is not read; {_REMEDY}"
        )
    if len(shards) != processes:
        raise CheckpointError(f"{folder} has {len(shards)} of {processes} shards ({PATTERN}); copy the checkpoint anew")
    model = folder / ("zero_pp_rank_0_mp_rank_00_model_states.pt" if stage == 3 else "mp_rank_00_model_states.pt")
    if not model.is_file():
        raise CheckpointError(f"{model} is missing, which holds the names of the parameters; copy the checkpoint anew")
    shapes: list[dict[str, torch.Size]] = _section(model, "param_shapes", inert="deepspeed")
    key = "optimizer_state_dict" if stage == 3 else "base_optimizer_state"
    bases = [optimizer.get(key) for optimizer in optimizers]
    zero = load_file(shards[0], inert="deepspeed").get("ds_config", {}).get("zero_optimization", {})
    if (
        not all(isinstance(base, dict) for base in bases)  # elastic checkpoints hold a list
        or first.get("ds_zero_partition_groups") is not None
        or (isinstance(count, list) and len(set(count)) > 1)  # experts
        or zero.get("round_robin_gradients")  # shuffles the parameters
    ):
        raise CheckpointError(f"{folder} has a layout of ZeRO-{stage} that is not read; {_REMEDY}")
    groups: list[dict[str, Any]] = []
    state: dict[str | int, dict[str, Any]] = {}
    for group in bases[0]["param_groups"]:
        names: list[str] = []
        for index in group["params"]:  # one flat parameter; ZeRO-3 cuts large groups in several
            pieces = [dict(base["state"].get(index, {})) for base in bases]
            for piece in pieces:
                piece.setdefault("step", group.get("step"))  # DeepSpeed's own optimizers count in the group
                if not moments:
                    piece.update({key: piece[key].to("meta") for key in _flat_keys([piece])})
            paddings = first.get("param_alignment_paddings")
            split = (
                _split_parameters(pieces, shapes[index])
                if stage == 3
                else _split_group(pieces, shapes[index], paddings[index] if paddings else [0] * len(shapes[index]))
            )
            state.update(split)
            names.extend(shapes[index])
        groups.append({**{key: value for key, value in group.items() if key != "step"}, "params": names})
    return OptimizerCheckpoint(
        format=f"DeepSpeed ZeRO-{stage}", files=shards, processes=processes, groups=groups, state=state
    )


def _section(path: Path, key: str, inert: str) -> Any:
    content = load_file(path, inert=inert)
    if not isinstance(content, dict) or not content.get(key):
        raise CheckpointError(f"{path} holds no {key}, so it is no checkpoint of ZeRO; {_REMEDY}")
    return content[key]


def _stage(optimizer: dict[str, Any], path: Path) -> int:
    stage = optimizer.get("zero_stage")
    stage = getattr(stage, "args", (stage,))[0]  # an enumeration
    if stage not in (1, 2, 3):
        raise CheckpointError(f"{path} was not written by ZeRO-1, 2 or 3 (zero_stage is {stage}); {_REMEDY}")
    return stage


State = dict[str, dict[str, Any]]


def _split_group(pieces: list[dict[str, Any]], shapes: dict[str, torch.Size], paddings: list[int]) -> State:
    """ZeRO-1/2: the ranks' pieces in a row are the parameters in a row, the end padded."""
    state: State = {name: {"step": _step(pieces[0])} for name in shapes}
    for key in _flat_keys(pieces):
        row, offset = torch.cat([piece[key] for piece in pieces]), 0
        for (name, shape), padding in zip(shapes.items(), paddings, strict=True):
            state[name][key] = row[offset : offset + shape.numel()].reshape(shape).clone()
            offset += shape.numel() + padding
        align = 2 * len(pieces)  # DeepSpeed pads a group to a multiple of this
        _check_length(math.ceil(offset / align), math.ceil(row.numel() / align))
    return state


def _split_parameters(pieces: list[dict[str, Any]], shapes: dict[str, torch.Size]) -> State:
    """ZeRO-3: every parameter is cut in equal pieces, the last padded; a rank has its pieces in a row."""
    state: State = {name: {"step": _step(pieces[0])} for name in shapes}
    for key in _flat_keys(pieces):
        offset = 0
        for name, shape in shapes.items():
            length = math.ceil(shape.numel() / len(pieces))
            whole = torch.cat([piece[key][offset : offset + length] for piece in pieces])
            state[name][key] = whole[: shape.numel()].reshape(shape).clone()
            offset += length
        _check_length(offset, pieces[0][key].numel())
    return state


def _flat_keys(pieces: list[dict[str, Any]]) -> list[str]:
    return [key for key, value in pieces[0].items() if isinstance(value, Tensor) and value.dim() == 1]


def _step(piece: dict[str, Any]) -> Tensor:
    if piece["step"] is None:
        raise CheckpointError("the optimizer had not taken a step when this was saved; there is nothing to carry over")
    return torch.tensor(float(piece["step"]), dtype=torch.float32)


def _check_length(used: int, there: int) -> None:
    if used != there:
        raise CheckpointError(
            f"the flat state does not have the length of its parameters ({there}, not {used}); {_REMEDY}"
        )
