"""Optimizer state in files: saved and loaded under any sharding, inspected and consolidated without the model.

`hf-radam checkpoint inspect CKPT` and `hf-radam checkpoint consolidate CKPT OUT` are the commands.
"""

from hf_radam.checkpoints.checkpoint import CheckpointError as CheckpointError
from hf_radam.checkpoints.formats import read_checkpoint as read_checkpoint
from hf_radam.checkpoints.save_load import load_optimizer as load_optimizer
from hf_radam.checkpoints.save_load import save_optimizer as save_optimizer
