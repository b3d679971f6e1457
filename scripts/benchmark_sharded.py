"""Measure what a step costs when parameters are sharded (DTensor): the subcommand `sharded` of benchmark.py.

Small tensors, so that what is measured is the way to the kernel and not the kernel. Every process takes every step; the
time is that of the slowest process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from contenders import CONTENDERS, WARM_UP, mean_time, race, rows_of
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from hf_radam.errors import UserError

ROWS, COLUMNS = 64, 64


def sharded(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The subcommand: starts the processes, each of which comes back here; what was found is for the first to tell."""
    if "RANK" not in os.environ:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*torchrun, "--nproc_per_node", str(options.processes), *sys.argv]
        # One thread each: more would wait for each other.
        if subprocess.run(command, env={"OMP_NUM_THREADS": "1", **os.environ}).returncode:
            raise UserError("a process of the benchmark has failed; its error stands above")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    # The other packages know nothing of sharded parameters.
    contenders = [contender for contender in CONTENDERS if contender.package in ("torch", "hf_radam")]
    calls = {}
    for contender in contenders:
        params = [torch.nn.Parameter(_random(mesh)) for _ in range(options.tensors)]
        for p in params:
            p.grad = _random(mesh)
        calls[contender.name] = contender.build(params).step  # pyright: ignore[reportArgumentType]
        for _ in range(WARM_UP):
            calls[contender.name]()

    def seconds(call: Callable[[], object]) -> float:
        dist.barrier()
        slowest = torch.tensor(mean_time(call, options.steps, wait), device=device)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        return slowest.item()

    rows = rows_of(race(calls, options.rounds, seconds))
    found = {"processes": dist.get_world_size(), "device": device, "tensors": options.tensors, "rows": rows}
    first = dist.get_rank() == 0
    dist.destroy_process_group()
    if first:
        yield {**found, "steps": options.steps, "rounds": options.rounds}


def _random(mesh: DeviceMesh) -> DTensor:
    return distribute_tensor(torch.randn(ROWS, COLUMNS), mesh, [Shard(0)])
