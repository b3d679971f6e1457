"""Optimizer state in files: saved and loaded under any sharding, looked into and put together without the model.

`python -m hf_radam.sharding inspect CKPT` and `python -m hf_radam.sharding consolidate CKPT OUT` are the commands.
"""

from hf_radam.sharding.checkpoint import CheckpointError as CheckpointError
from hf_radam.sharding.checkpoint import OptimizerCheckpoint as OptimizerCheckpoint
from hf_radam.sharding.formats import read_checkpoint as read_checkpoint
from hf_radam.sharding.state import load_optimizer as load_optimizer
from hf_radam.sharding.state import save_optimizer as save_optimizer
