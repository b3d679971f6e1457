"""Measure what a step costs when parameters are sharded (DTensor): the subcommand `sharded` of benchmark.py.

Small tensors, so that what is measured is the way to the kernel and not the kernel. Every process takes every step; the
time is that of the slowest process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from contenders import CONTENDERS, WARM_UP
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from hf_radam.experiments.schema import UserError

ROWS, COLUMNS = 64, 64
PACKAGES = ("torch", "hf_radam")  # the others know nothing of sharded parameters


def sharded(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The subcommand: starts the processes, each of which comes back here."""
    if "RANK" in os.environ:
        return measure(options)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc_per_node", str(options.processes), *sys.argv]
    # One thread each: more would wait for each other.
    if subprocess.run(command, env={"OMP_NUM_THREADS": "1", **os.environ}).returncode:
        raise UserError("a process of the benchmark has failed; its error stands above")
    return []


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure on this process, together with the others; what was found is for the first to tell."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    contenders = [contender for contender in CONTENDERS if contender.package in PACKAGES]
    optimizers = {}
    for contender in contenders:
        params = [
            torch.nn.Parameter(distribute_tensor(torch.randn(ROWS, COLUMNS), mesh, [Shard(0)]))
            for _ in range(options.tensors)
        ]
        for p in params:
            p.grad = distribute_tensor(torch.randn(ROWS, COLUMNS), mesh, [Shard(0)])
        optimizers[contender.name] = contender.build(params)  # pyright: ignore[reportArgumentType]
        for _ in range(WARM_UP):
            optimizers[contender.name].step()

    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for _ in range(options.rounds):
        for name, optimizer in optimizers.items():
            dist.barrier()
            start = time.perf_counter()
            for _ in range(options.steps):
                optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            slowest = torch.tensor((time.perf_counter() - start) / options.steps, device=device)
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            times[name].append(slowest.item())

    seconds = {name: statistics.median(of_rounds) for name, of_rounds in times.items()}
    baseline = seconds[contenders[0].name]
    rows = [
        {"optimizer": n, "seconds": s, "seconds_of_rounds": times[n], "ratio": s / baseline} for n, s in seconds.items()
    ]
    benchmark = {"processes": dist.get_world_size(), "device": device, "tensors": options.tensors, "rows": rows}
    benchmark |= {"steps": options.steps, "rounds": options.rounds}
    first = dist.get_rank() == 0
    dist.destroy_process_group()
    return [benchmark] if first else []


def intro(benchmark: Mapping[str, Any]) -> str:
    """What was measured."""
    size = f"{ROWS} x {COLUMNS}, float32, on {benchmark['processes']} processes"
    return f"{benchmark['tensors']} DTensor parameters of {size}; {benchmark['device']}"
