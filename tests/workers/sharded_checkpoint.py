"""A small training that is saved and resumed in every way; run by torchrun, its model also by the tests themselves.

`torchrun --nproc_per_node N sharded_checkpoint.py {save,resume} FOLDER {fsdp,tp} ...` leaves weights of each way in
FOLDER/fsdp and FOLDER/tp.
"""

from __future__ import annotations

import errno
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from accelerate import FullyShardedDataParallelPlugin, PartialState
from accelerate.utils.fsdp_utils import load_fsdp_optimizer, save_fsdp_optimizer
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.optim import Optimizer

from hf_radam import RAdam, load_optimizer, save_optimizer
from hf_radam.checkpoints import CheckpointError

SAVED_AT, END = 4, 12  # in start-up, and well after it
KINDS = ("SHARDED_STATE_DICT", "FULL_STATE_DICT")  # of Accelerate
TORCH_RADAM = partial(torch.optim.RAdam, decoupled_weight_decay=True)


class Model(nn.Module):
    """Shapes that split unevenly, or not at all; one layer without a gradient and one frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 3)
        self.second = nn.Linear(3, 14)
        self.third = nn.Linear(14, 1)
        self.norm = nn.LayerNorm(3)
        self.unused = nn.Linear(3, 1)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.tanh(self.second(self.frozen(self.norm(torch.tanh(self.first(x)))))))


def make_model(weights: dict[str, Tensor] | None = None) -> Model:
    torch.manual_seed(0)
    model = Model()
    if weights is not None:
        model.load_state_dict(weights)
    return model


def make_optimizer(model: nn.Module, cls: Callable[..., Optimizer] = RAdam, **options: Any) -> Optimizer:
    trainable = [p for p in model.parameters() if p.requires_grad]
    decaying = {"params": [p for p in trainable if p.ndim > 1], "weight_decay": 0.1}
    return cls([decaying, {"params": [p for p in trainable if p.ndim < 2]}], lr=2e-2, **options)


def train(model: nn.Module, optimizer: Optimizer, steps: Iterable[int], rank: int = 0, ranks: int = 1) -> None:
    """Steps number `steps`, each on its own batch, of which a rank sees its part."""
    for step in steps:
        batch = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        part = batch.chunk(ranks)[rank]
        (model(part) - part.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
        for name, value in model.state_dict().items()
    }


def steps_of(optimizer: Optimizer) -> set[int]:
    """Step counts of the parameters that have a gradient; `unused` stays at 0."""
    return {int(state["step"]) for state in optimizer.state.values()} - {0}


def shard(model: Model, layout: str) -> Model:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    if layout == "fsdp":
        for layer in model.children():
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        parallelize_module(model, mesh, {"second": ColwiseParallel(), "third": RowwiseParallel()})
    assert isinstance(model.second.weight, DTensor)
    return model


def refuse_a_full_disk(model: nn.Module, optimizer: Optimizer, folder: Path) -> None:
    """One process cannot write its shards: all say so, and nothing is left of it."""
    write_data = dcp.FileSystemWriter.write_data

    def full_in_one(*args: Any) -> Any:
        if dist.get_rank() == dist.get_world_size() - 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_data(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dcp.FileSystemWriter, "write_data", full_in_one)
        with pytest.raises(
            CheckpointError, match=r"process 1 cannot write to .* \(OSError: .*No space left on device\)"
        ):
            save_optimizer(model, optimizer, folder)
    assert [path.name for path in folder.iterdir()] == ["optimizer_0"]


def refuse_disagreement(model: nn.Module, optimizer: Optimizer, folder: Path) -> None:
    """Processes that are about to do unlike things all say so, at once: none waits for another."""
    odd = dist.get_rank() == dist.get_world_size() - 1
    new = make_optimizer(model)
    another = folder.with_name("another")

    def count(further: int) -> None:
        for state in optimizer.state.values() if odd else ():
            state["step"] += further

    cases: dict[str, Callable[[], None]] = {
        "process 1 failed .*ValueError: an optimizer has no state|^an optimizer has no state": lambda: save_optimizer(
            model, new if odd else optimizer, folder
        ),
        "process 1 has full=True, but process 0 has False": lambda: save_optimizer(model, optimizer, folder, full=odd),
        "process 1 has directory=": lambda: save_optimizer(model, optimizer, another if odd else folder),
        "process 1 has call='load_optimizer', but process 0 has 'save_optimizer'": lambda: (
            load_optimizer(model, optimizer, folder) if odd else save_optimizer(model, optimizer, folder)
        ),
        "process 1 has parameters=4, but process 0 has 10": lambda: load_optimizer(
            model, RAdam(new.param_groups[0]["params"]) if odd else optimizer, folder
        ),
    }
    started = time.monotonic()
    for message, act in cases.items():
        with pytest.raises(ValueError, match=message):
            act()
    count(1)
    with pytest.raises(CheckpointError, match=f"process 1 has steps={END + 1}, but process 0 has {END}"):
        save_optimizer(model, optimizer, folder)
    count(-1)
    assert time.monotonic() - started < 20
    assert not another.exists()


def main() -> None:
    """All layouts in one launch: the start of the processes takes longer than what they do."""
    what, folder, *layouts = sys.argv[1:]
    accelerator: Any = PartialState(cpu=True)  # also starts gloo
    for layout in layouts:
        go(what, layout, Path(folder) / layout, accelerator)
    dist.destroy_process_group()


def go(what: str, layout: str, folder: Path, accelerator: Any) -> None:
    """Save (and resume at once), or resume from the saves of another number of processes."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    plugins = {kind: FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type=kind) for kind in KINDS}

    def part() -> tuple[int, int]:
        return (rank, ranks) if layout == "fsdp" else (0, 1)

    def keep(name: str, model: nn.Module) -> None:
        weights = weights_of(model)
        if rank == 0:
            torch.save(weights, folder / f"{name}.pt")

    if what == "save":
        model = shard(make_model(), layout)
        optimizer = make_optimizer(model)
        train(model, optimizer, range(SAVED_AT), *part())
        keep("saved", model)
        save_optimizer(model, optimizer, folder / "sharded")
        save_optimizer(model, optimizer, folder / "sharded")  # again, in place of the first
        save_optimizer(model, optimizer, folder / "full", full=True)
        options = StateDictOptions(flatten_optimizer_state_dict=True)
        flat = get_optimizer_state_dict(model, optimizer, options=options)
        dcp.save({"optimizer": flat}, storage_writer=dcp.FileSystemWriter(folder / "flat" / "optimizer_0"))
        for kind, plugin in plugins.items():
            save_fsdp_optimizer(plugin, accelerator, optimizer, model, folder / f"accelerate_{kind}")
        train(model, optimizer, range(SAVED_AT, END), *part())
        keep("uninterrupted", model)
        refuse_a_full_disk(model, optimizer, folder / "sharded")
        refuse_disagreement(model, optimizer, folder / "sharded")
        model = shard(make_model(), layout)
        optimizer = make_optimizer(model, TORCH_RADAM)
        train(model, optimizer, range(SAVED_AT), *part())
        for kind, plugin in plugins.items():
            save_fsdp_optimizer(plugin, accelerator, optimizer, model, folder / f"torch_{kind}")
    dist.barrier()

    def by_us(saved: str) -> Callable[[nn.Module, Optimizer], None]:
        return lambda model, optimizer: load_optimizer(model, optimizer, folder / saved)

    def by_accelerate(kind: str, saved: str) -> Callable[[nn.Module, Optimizer], None]:
        return lambda model, optimizer: load_fsdp_optimizer(
            plugins[kind], accelerator, optimizer, model, folder / saved
        )

    names = ["sharded", "full", *(f"{by}_{kind}" for by in ("accelerate", "torch") for kind in KINDS)]
    ways: dict[str, tuple[Callable[..., Optimizer], Callable[[nn.Module, Optimizer], None]]] = {
        **{name: (RAdam, by_us(name)) for name in names},
        "sharded_by_accelerate": (RAdam, by_accelerate("SHARDED_STATE_DICT", "sharded")),
        "full_by_accelerate": (RAdam, by_accelerate("FULL_STATE_DICT", "full")),
        **{f"{kind}_in_torch": (TORCH_RADAM, by_us(f"accelerate_{kind}")) for kind in KINDS},
    }
    saved = torch.load(folder / "saved.pt")
    for name, (cls, load) in ways.items():
        model = shard(make_model(saved), layout)
        optimizer = make_optimizer(model, cls)
        load(model, optimizer)
        assert all(torch.equal(value, saved[key]) for key, value in weights_of(model).items()), f"{name} moved a weight"
        assert steps_of(optimizer) == {SAVED_AT}, f"{name} counts {steps_of(optimizer)}"
        train(model, optimizer, range(SAVED_AT, END), *part())
        keep(f"{name}_on_{ranks}_{layout}", model)


if __name__ == "__main__":
    warnings.simplefilter("error", UserWarning)
    main()
