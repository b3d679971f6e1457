"""Find out the format of a checkpoint, and read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_radam.checkpoints.checkpoint import CheckpointError, OptimizerCheckpoint, load_file, reading
from hf_radam.checkpoints.deepspeed import PATTERN, read_deepspeed
from hf_radam.checkpoints.distributed import METADATA, read_distributed

# Accelerate's names (save_fsdp_optimizer, save_accelerator_state), and Trainer's for one process and DDP.
SHARDED, WHOLE, OF_TRAINER = "optimizer_0", "optimizer.bin", "optimizer.pt"


def find(path: Path) -> Path:
    """The DCP folder, DeepSpeed folder or file in `path` that holds the state; CheckpointError if there is not one."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; give a checkpoint's folder")
    if path.is_file() or (path / METADATA).is_file() or list(path.glob(PATTERN)):
        return path
    found = [path / name for name in (SHARDED, WHOLE, OF_TRAINER) if (path / name).exists()]
    found += sorted(folder for folder in path.glob("global_step*") if list(folder.glob(PATTERN)))
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(f"{path} has {' and '.join(entry.name for entry in found)}; give the path of one")
    inside = sorted(folder.name for folder in path.glob("checkpoint-*") if folder.is_dir())
    hint = f"give one of its checkpoints ({inside[-1]})" if inside else "give a checkpoint's folder or file"
    raise CheckpointError(f"{path} has no optimizer state ({SHARDED}/, {WHOLE}, {OF_TRAINER} or {PATTERN}); {hint}")


def read_checkpoint(path: str | Path, *, moments: bool = True) -> OptimizerCheckpoint:
    """Read the optimizer of a checkpoint without the model, in one process.

    Args:
        path: a checkpoint folder of Trainer, Accelerate, DeepSpeed or `save_optimizer`, or the state inside it.
        moments: if False, the tensors of a sharded checkpoint are on the meta device, so nothing large is read.

    Raises:
        CheckpointError: there is no checkpoint, or a part is missing or damaged.
    """
    found = find(Path(path))
    if found.is_file():
        checkpoint = _read_file(found)
    elif (found / METADATA).is_file() or found.name == SHARDED:
        checkpoint = read_distributed(found, moments=moments)
    else:
        checkpoint = read_deepspeed(found, moments=moments)
    with reading(found):
        known = {name for group in checkpoint.groups for name in group["params"]}
        kinds = set(map(type, known))
        for name, state in checkpoint.state.items():
            if name not in known and type(name) in kinds:
                raise ValueError(f"it has state for {name!r}, which is in no group")
            shapes = {tuple(state[key].shape) for key in ("exp_avg", "exp_avg_sq") if state.get(key) is not None}
            if len(shapes) > 1:
                raise ValueError(f"the moments of {name!r} have two shapes, {shapes}")
    return checkpoint


def _read_file(path: Path) -> OptimizerCheckpoint:
    content: Any = load_file(path)
    if not isinstance(content, dict) or not {"state", "param_groups"} <= content.keys():
        raise CheckpointError(f"{path} is not an optimizer's state_dict; give optimizer.pt or optimizer.bin")
    named = any(isinstance(name, str) for name in content["state"])
    return OptimizerCheckpoint(
        format="one file, parameters by " + ("name (FULL_STATE_DICT)" if named else "number (one process or DDP)"),
        files=[path],
        # Every process of a Trainer saves its random state.
        processes=len(list(path.parent.glob("rng_state*.pth"))) or None,
        groups=content["param_groups"],
        state=content["state"],
    )
