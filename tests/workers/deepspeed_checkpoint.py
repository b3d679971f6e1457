"""Train the model of sharded_checkpoint.py under DeepSpeed's ZeRO and save it, as `global_stepN` of a folder.

`torchrun --nproc_per_node 2 deepspeed_checkpoint.py STAGE FOLDER` with DS_ACCELERATOR=cpu; `tests/data/deepspeed` was
made so, with DeepSpeed 0.19.8.
"""

from __future__ import annotations

import sys

import deepspeed  # pyright: ignore[reportMissingImports]
import torch
import torch.distributed as dist
from sharded_checkpoint import SAVED_AT, make_model, make_optimizer


def main() -> None:
    """Train and save."""
    stage, folder = int(sys.argv[1]), sys.argv[2]
    deepspeed.init_distributed("gloo")
    model = make_model()
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_clipping": 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # So small that ZeRO-3 cuts the first group in several.
        "zero_optimization": {"stage": stage, "sub_group_size": 20},
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=make_optimizer(model), config=config)
    for step in range(SAVED_AT):
        batch = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        part = batch.chunk(dist.get_world_size())[dist.get_rank()]
        engine.backward((engine(part) - part.sum(1, keepdim=True)).square().mean())
        engine.step()
    engine.save_checkpoint(folder, tag=f"global_step{SAVED_AT}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
