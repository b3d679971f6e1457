"""Optimizer state of DeepSpeed's ZeRO, read by one process without DeepSpeed and without the model.

ZeRO-1/2 flatten each parameter group and give each rank one piece. ZeRO-3 gives each rank a piece of every parameter,
flattened (`deepspeed/utils/zero_to_fp32.py` does the same for weights). Names and shapes are in the model's file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_radam.checkpoints.checkpoint import CheckpointError, OptimizerCheckpoint, load_file, reading

PATTERN = "*_optim_states.pt"
_REMEDY = (
    "copy it again, convert it with DeepSpeed's ds_to_universal.py, or resume the run and save it under FSDP2 or DDP"
)

State = dict[str, dict[str, Any]]


def read_deepspeed(folder: Path, *, moments: bool = True) -> OptimizerCheckpoint:
    """Read the optimizer of a `global_stepN` folder of ZeRO-1, 2 or 3; see `formats.read_checkpoint`."""
    shards = sorted(folder.glob(PATTERN), key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    if any("_mp_rank_00_" not in path.name or "expp_rank" in path.name for path in shards):
        raise CheckpointError(f"{folder} is split by tensor or expert parallelism, which is not supported; {_REMEDY}")
    files = [load_file(path, inert="deepspeed") for path in shards]
    with reading(folder, _REMEDY):
        stage, ranks = _stage_and_ranks(files[0])
        if len(shards) != ranks:
            raise CheckpointError(f"{folder} has {len(shards)} of {ranks} shards ({PATTERN}); copy it again")
        model = folder / ("zero_pp_rank_0_mp_rank_00_model_states.pt" if stage == 3 else "mp_rank_00_model_states.pt")
        if not model.is_file():
            raise CheckpointError(f"{model}, which names the parameters, is missing; copy the checkpoint again")
        shapes: list[dict[str, torch.Size]] = load_file(model, inert="deepspeed")["param_shapes"]
        groups, state = _join([file["optimizer_state_dict"] for file in files], shapes, stage, moments)
    return OptimizerCheckpoint(
        format=f"DeepSpeed ZeRO-{stage}", files=shards, processes=ranks, groups=groups, state=state
    )


def _stage_and_ranks(file: dict[str, Any]) -> tuple[int, int]:
    optimizer = file["optimizer_state_dict"]
    stage = optimizer["zero_stage"]
    stage = getattr(stage, "args", (stage,))[0]  # an enumeration
    count = optimizer["partition_count"]  # ZeRO-1/2: of each group
    counts = set(count) if isinstance(count, list) else {count}
    shuffled = file.get("ds_config", {}).get("zero_optimization", {}).get("round_robin_gradients")
    if stage not in (1, 2, 3) or len(counts) > 1 or shuffled or optimizer.get("ds_zero_partition_groups") is not None:
        raise CheckpointError(
            f"this ZeRO-{stage} checkpoint has an order of parameters that is not supported (round_robin_gradients, "
            f"experts, or groups of ranks); {_REMEDY}"
        )
    return stage, counts.pop()


def _join(
    optimizers: list[dict[str, Any]], shapes: list[dict[str, torch.Size]], stage: int, moments: bool
) -> tuple[list[dict[str, Any]], dict[str | int, dict[str, Any]]]:
    """The groups, and the state by parameter, from the ranks' flat state."""
    bases = [optimizer["optimizer_state_dict" if stage == 3 else "base_optimizer_state"] for optimizer in optimizers]
    paddings = optimizers[0].get("param_alignment_paddings")
    groups: list[dict[str, Any]] = []
    state: dict[str | int, dict[str, Any]] = {}
    for group in bases[0]["param_groups"]:
        for index in group["params"]:  # flat parameters: one, or several for a large group of ZeRO-3
            pieces = [dict(base["state"][index]) for base in bases]
            if not moments:
                for piece in pieces:
                    piece.update({key: piece[key].to("meta") for key in _flat_keys(piece)})
            split = _split(pieces, shapes[index], paddings[index] if paddings else [0] * len(shapes[index]), stage)
            # DeepSpeed's own optimizers count in the group.
            step = torch.tensor(float(pieces[0].get("step", group.get("step"))), dtype=torch.float32)
            state.update({name: {"step": step.clone(), **split[name]} for name in split})
        options = {key: value for key, value in group.items() if key != "step"}
        groups.append({**options, "params": [name for index in group["params"] for name in shapes[index]]})
    return groups, state


def _split(pieces: list[dict[str, Any]], shapes: dict[str, torch.Size], paddings: list[int], stage: int) -> State:
    """The state of each parameter in a flat one, from the ranks' pieces."""
    state: State = {name: {} for name in shapes}
    for key in _flat_keys(pieces[0]):
        flat = [piece[key] for piece in pieces]
        # ZeRO-3: every parameter is cut in equal pieces, the last one padded; a rank has its pieces in a row.
        # ZeRO-1/2: the ranks' pieces in a row are all parameters in a row, padded at the end.
        rows = torch.stack(flat) if stage == 3 else torch.cat(flat)[None]
        offset = 0
        for (name, shape), padding in zip(shapes.items(), paddings, strict=True):
            length = math.ceil(shape.numel() / len(rows))
            state[name][key] = rows[:, offset : offset + length].reshape(-1)[: shape.numel()].reshape(shape).clone()
            offset += length + padding
        align = 1 if stage == 3 else 2 * len(pieces)  # DeepSpeed pads a group to a multiple of this
        if math.ceil(offset / align) != math.ceil(rows.shape[1] / align):
            raise ValueError(f"the flat state has {rows.shape[1]} elements, but its parameters have {offset}")
    return state


def _flat_keys(piece: dict[str, Any]) -> list[str]:
    return [key for key, value in piece.items() if isinstance(value, Tensor) and value.dim() == 1]
