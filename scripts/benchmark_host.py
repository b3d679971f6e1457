"""Measure what a step costs the host: the subcommand `host` of benchmark.py.

On a GPU with many small tensors (LoRA) the kernel is over before Python has asked for the next: a step costs what
Python costs. A stand-in without a GPU: tensors of one element, one thread, CPU time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from contenders import CONTENDERS, KERNELS, OPTIONS, WARM_UP, mean_time, median_ratio, race, rows_of
from torch import Tensor

STEPS = 6000  # of one tensor, in a round
# Each with the one that it is measured against.
PAIRS = {
    "torch.optim.AdamW (fused), counts in one call": "torch.optim.AdamW (fused), counts in one call",
    "hf_radam.RAdam (fused)": "torch.optim.AdamW (fused), counts in one call",
    "torch.optim.AdamW (fused)": "torch.optim.AdamW (fused)",
    "rectified torch.optim.AdamW (fused)": "torch.optim.AdamW (fused)",
}


def tensors(count: int) -> list[Tensor]:
    """Parameters of one element, each with a gradient."""
    params = [torch.ones(1, requires_grad=True) for _ in range(count)]
    for p in params:
        p.grad = torch.full((1,), 0.1)
    return params


def adamw_as_on_a_gpu(count: int) -> Callable[[], object]:
    """AdamW whose step counts rise in one call, as they do on a GPU; on a CPU PyTorch adds to one after the other."""
    optimizer = torch.optim.AdamW(params := tensors(count), fused=True, **OPTIONS)
    optimizer.step()
    counts = torch.stack([optimizer.state[p]["step"] for p in params])
    for p, view in zip(params, counts.unbind(), strict=True):
        optimizer.state[p]["step"] = view
    return patch("torch._foreach_add_", lambda steps, one: counts.add_(one))(optimizer.step)


def host(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The subcommand: CPU seconds a step; ratios within the rounds."""
    torch.set_num_threads(1)
    known = {contender.name: contender for contender in (*CONTENDERS, *KERNELS)}
    for count in options.tensors:
        steps: dict[str, Callable[[], object]] = {
            name: known[name].build(tensors(count)).step if name in known else adamw_as_on_a_gpu(count)
            for name in PAIRS
        }
        for step in steps.values():
            for _ in range(WARM_UP):
                step()
        repeats = max(1, STEPS // count)
        times = race(steps, options.rounds, partial(mean_time, repeats=repeats, clock=time.process_time))
        rows = rows_of(times)
        for row in rows:
            row["ratio"] = median_ratio(row["seconds_of_rounds"], times[PAIRS[row["optimizer"]]])
        yield {"host": True, "tensors": count, "steps": repeats, "rounds": options.rounds, "rows": rows}
