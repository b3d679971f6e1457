"""What a sharded step must do, without Accelerate: each check of `CHECKS` runs on every process.

torchrun --standalone --nproc_per_node 2 sharded_step.py [CHECK ...]
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from hf_radam import RAdam

STEPS = 20
TOLERANCE = 1e-7  # float32: parameters of about 0.5 that move by 0.1, sums of gradients in another order
OPTIONS: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}
IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "foreach": {"foreach": True},
    "for_loop": {"foreach": False},
    "capturable": {"capturable": True},
}
# Rows that two or four processes cannot share evenly; of some layers a process gets nothing.
SIZES = (5, 3, 1, 13)


def model() -> nn.Sequential:
    """A chain of layers whose sizes divide by nothing."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(SIZES, (*SIZES[1:], 2), strict=True):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def batches() -> Iterator[Tensor]:
    """The same on every process."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        yield torch.randn(8, SIZES[0], generator=generator)


def loss(network: nn.Module, batch: Tensor) -> Tensor:
    return (network(batch) - batch[:, :2]).square().sum()


def train(network: nn.Module, optimizer: Any, check: Callable[[], Any] = lambda: None) -> list[Tensor]:
    for batch in batches():
        optimizer.zero_grad()
        loss(network, batch).backward()
        check()
        optimizer.step()
    return [whole(p) for p in network.parameters()]


def whole(p: Tensor) -> Tensor:
    return p.full_tensor().detach() if isinstance(p, DTensor) else p.detach()


def reference() -> list[Tensor]:
    network = model()
    return train(network, torch.optim.RAdam(network.parameters(), decoupled_weight_decay=True, **OPTIONS))


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float = TOLERANCE) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max().item() <= tolerance, (one - other).abs().max()


def sharded(mesh: DeviceMesh) -> Any:
    network: Any = model()
    for layer in network[::2]:
        fully_shard(layer, mesh=mesh)
    return fully_shard(network, mesh=mesh)


def fsdp(mesh: DeviceMesh) -> None:
    """Uneven and empty shards; a step communicates nothing, and state lies sharded as the parameters do."""
    for options in IMPLEMENTATIONS.values():
        network = sharded(mesh)
        optimizer: Any = RAdam(network.parameters(), **OPTIONS, **options)
        step = optimizer.step

        def watched(step: Any = step) -> None:
            with CommDebugMode() as communication:
                step()
            assert communication.get_total_counts() == 0, communication.get_comm_counts()

        optimizer.step = watched
        assert_close(train(network, optimizer), reference())
        for p in network.parameters():
            for key in ("exp_avg", "exp_avg_sq"):
                state = optimizer.state[p][key]
                assert isinstance(state, DTensor)
                assert state.to_local().shape == p.to_local().shape
            assert optimizer.state[p]["step"].item() == STEPS


def mixed(mesh: DeviceMesh) -> None:
    """One group of plain tensors and of DTensors on unlike meshes."""
    other = init_device_mesh("cpu", (1, mesh.size()), mesh_dim_names=("one", "all"))
    placed: list[Callable[[Tensor], Tensor]] = [
        lambda t: t,
        lambda t: distribute_tensor(t, mesh, [Shard(0)]),
        lambda t: distribute_tensor(t, mesh, [Replicate()]),
        lambda t: distribute_tensor(t, other, [Replicate(), Shard(0)]),
        lambda t: distribute_tensor(t, other["all"], [Shard(0)]),
    ]
    for options in IMPLEMENTATIONS.values():
        params = [nn.Parameter(make(t)) for make, t in zip(placed, _tensors(), strict=True)]
        plain = [nn.Parameter(t) for t in _tensors()]
        ours = RAdam(params, **OPTIONS, **options)
        theirs = torch.optim.RAdam(plain, decoupled_weight_decay=True, **OPTIONS)
        generator = torch.Generator().manual_seed(2)
        for _ in range(STEPS):
            for p, q, make in zip(params, plain, placed, strict=True):
                q.grad = torch.randn(q.shape, generator=generator)
                p.grad = make(q.grad.clone())
            ours.step()
            theirs.step()
        assert_close([whole(p) for p in params], [whole(p) for p in plain])


def _tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) for shape in ((5, 3), (7, 2), (3,), (1, 4), (6, 6))]


def placements(mesh: DeviceMesh) -> None:
    """Gradients that are placed otherwise are redistributed; others are refused, and nothing has moved."""
    gradient = torch.arange(15.0).reshape(5, 3) / 15
    parts: dict[str, Callable[[Tensor], DTensor]] = {
        "replicated": lambda t: distribute_tensor(t, mesh, [Replicate()]),
        "other dimension": lambda t: distribute_tensor(t, mesh, [Shard(1)]),
        "partial": lambda t: DTensor.from_local(t / mesh.size(), mesh, [Partial()]),
    }
    for options in IMPLEMENTATIONS.values():
        expected = nn.Parameter(torch.ones(5, 3))
        placed = [nn.Parameter(distribute_tensor(torch.ones(5, 3), mesh, [Shard(0)])) for _ in parts]
        theirs, ours = torch.optim.RAdam([expected], lr=0.1), RAdam(placed, lr=0.1, **options)
        for step in range(10):  # start-up is over after 5
            expected.grad = gradient * (-0.9) ** step
            for p, place in zip(placed, parts.values(), strict=True):
                p.grad = place(expected.grad.clone())
            theirs.step()
            ours.step()
        assert_close([whole(p) for p in placed], [whole(expected)] * len(parts), 1e-6)
    p = nn.Parameter(distribute_tensor(torch.ones(5, 3), mesh, [Shard(0)]))
    other = init_device_mesh("cpu", (1, mesh.size()))
    refused = {
        "its gradient is on .* move the gradient": distribute_tensor(gradient, other, [Replicate(), Shard(0)]),
        "its gradient is a plain tensor; convert": gradient,  # whole: its first rows would be taken for the shard's
    }
    for message, p.grad in refused.items():
        with pytest.raises(ValueError, match=message):
            RAdam([p], lr=0.1).step()
    assert_close([whole(p)], [torch.ones(5, 3)], 0.0)


def without_gradients(mesh: DeviceMesh) -> None:
    """A layer that no process uses, and one that only some do: ranks agree about state, and a load changes nothing."""
    network = sharded(mesh)
    optimizer = RAdam(network.parameters(), **OPTIONS)
    last = list(network[-1].parameters())

    def drop() -> None:
        for number, p in enumerate(last):
            if number or mesh.get_rank():  # the first on all processes but one
                p.grad = None

    train(network, optimizer, drop)
    keys = [sorted(optimizer.state[p]) for p in network.parameters()]
    everywhere: list[Any] = [None] * mesh.size()
    dist.all_gather_object(everywhere, keys)
    assert all(found == [["exp_avg", "exp_avg_sq", "step"]] * len(keys) for found in everywhere)
    before = [whole(p).clone() for p in network.parameters()]
    fresh = RAdam(network.parameters(), **OPTIONS)
    get_optimizer_state_dict(network, fresh)  # takes a step at lr 0 to have state
    assert_close([whole(p) for p in network.parameters()], before, 0.0)


def scaler(mesh: DeviceMesh) -> None:
    """An infinite gradient in one process's shard: all skip the step, and Accelerate says so."""
    accelerator = Accelerator(cpu=True)
    network = sharded(mesh)
    grad_scaler = torch.amp.GradScaler("cpu")
    accelerated = AcceleratedOptimizer(RAdam(network.parameters(), **OPTIONS), scaler=grad_scaler)
    accelerator._optimizers.append(accelerated)
    for number, batch in enumerate(batches()):
        accelerated.zero_grad()
        grad_scaler.scale(loss(network, batch)).backward()
        if number == 3 and mesh.get_rank() == 0:
            next(network.parameters()).grad.to_local()[0] = float("inf")
        before = [whole(p).clone() for p in network.parameters()]
        accelerated.step()
        assert accelerator.optimizer_step_was_skipped == (number == 3)
        if number == 3:
            assert_close([whole(p) for p in network.parameters()], before, 0.0)
    steps = {state["step"].item() for state in accelerated.optimizer.state.values()}
    assert steps == {STEPS - 1}


def zero_redundancy(mesh: DeviceMesh) -> None:
    """torch's ZeroRedundancyOptimizer around it, whose consolidated state a plain RAdam takes up."""
    for bucket_view in (False, True):
        network = model()
        optimizer = ZeroRedundancyOptimizer(
            network.parameters(), RAdam, parameters_as_bucket_view=bucket_view, **OPTIONS
        )
        assert_close(train(network, optimizer), reference())
        optimizer.consolidate_state_dict(to=0)
        if mesh.get_rank() == 0:
            plain = RAdam(network.parameters(), **OPTIONS)
            plain.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            assert {state["step"].item() for state in plain.state.values()} == {STEPS}


class Block(nn.Module):
    """Two layers that tensor parallelism splits, and a norm that it does not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.up, self.down = nn.LayerNorm(5), nn.Linear(5, 12), nn.Linear(12, 2)

    def forward(self, batch: Tensor) -> Tensor:
        return self.down(self.up(self.norm(batch)).relu())


def tensor_parallel(mesh: DeviceMesh) -> None:
    """Split layers and plain ones in one group."""
    _parallel(mesh, data=None)


def two_dimensional(mesh: DeviceMesh) -> None:
    """FSDP over one dimension of the mesh and tensor parallelism over the other."""
    grid = init_device_mesh("cpu", (2, mesh.size() // 2), mesh_dim_names=("data", "tensor"))
    _parallel(grid["tensor"], data=grid["data"])


def _parallel(mesh: DeviceMesh, data: DeviceMesh | None) -> None:
    plain = Block()
    expected = train(plain, torch.optim.RAdam(plain.parameters(), decoupled_weight_decay=True, **OPTIONS))
    for options in IMPLEMENTATIONS.values():
        network: Any = parallelize_module(Block(), mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
        if data is not None:
            network = fully_shard(network, mesh=data)
        assert_close(train(network, RAdam(network.parameters(), **OPTIONS, **options)), expected)


CHECKS = (fsdp, mixed, placements, without_gradients, scaler, zero_redundancy, tensor_parallel, two_dimensional)


def main() -> None:
    """Run the checks that were asked for."""
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for check in CHECKS:
        if check.__name__ in sys.argv[1:]:
            check(mesh)
            if mesh.get_rank() == 0:
                print(f"{check.__name__} holds on {dist.get_world_size()} processes")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
