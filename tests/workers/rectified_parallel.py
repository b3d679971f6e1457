"""Trains with rectified kernels under DDP, FSDP2 (resumed once) or ZeRO, and as one process does: bit for bit alike."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

# What torch keeps on disk of a compiled step does not tell torchao's classes apart where a DTensor holds them.
os.environ["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "0"
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from adamw_kernels import KERNELS

from hf_radam.rectified import rectified

STEPS, SAVED = 9, 3


def train(kernel: str, way: str) -> torch.Tensor:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(64, 128, bias=False), nn.Tanh(), nn.Linear(128, 64, bias=False))
    if way == "fsdp2":
        fully_shard(model)
    elif way == "ddp":
        model = DistributedDataParallel(model)

    def build() -> Any:
        return rectified(KERNELS[kernel].load())(
            model.parameters(), lr=1e-2, weight_decay=0.1, **KERNELS[kernel].options
        )

    optimizer = build()
    if way.startswith("zero"):
        return train_in_deepspeed(model, optimizer, stage=int(way[-1]))
    for step in range(STEPS):
        if step == SAVED and way == "fsdp2":  # in start-up: a new optimizer goes on from the state of the old one
            state: Any = get_optimizer_state_dict(model, optimizer)
            optimizer = build()
            if kernel == "torchao 8":
                for of_p in state["state"].values():
                    of_p["exp_avg_sq"].to_local().qmap[0] = 0  # as the plain class writes it
            set_optimizer_state_dict(model, optimizer, state)
            if kernel.startswith("torchao"):
                assert all(of_p["exp_avg_sq"].to_local().qmap[0] > 0 for of_p in optimizer.state.values())
        loss_of(model, step).backward()
        optimizer.step()
        optimizer.zero_grad()
    full = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return torch.cat([p.detach().reshape(-1) for p in full])


def loss_of(model: Any, step: int) -> torch.Tensor:
    batch = torch.randn(16, 64, generator=torch.Generator().manual_seed(step))
    return model(batch).square().mean()


def train_in_deepspeed(model: Any, optimizer: Any, stage: int) -> torch.Tensor:
    import deepspeed  # pyright: ignore[reportMissingImports]

    config: dict[str, Any] = {"train_micro_batch_size_per_gpu": 16, "zero_optimization": {"stage": stage}}
    config |= {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    for step in range(STEPS):
        engine.backward(loss_of(engine, step))
        engine.step()
    with deepspeed.zero.GatheredParameters([*model.parameters()], enabled=stage == 3):
        return torch.cat([p.detach().reshape(-1).float() for p in model.parameters()])


def main() -> None:
    """Both processes see the same batch, so that the mean of their gradients is the gradient of one."""
    warnings.simplefilter("ignore")
    way, *names = sys.argv[1:]
    torch.distributed.init_process_group("gloo")
    for name in names:
        assert torch.equal(train(name, way), train(name, "one")), f"{name} under {way} is not what one process does"
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
