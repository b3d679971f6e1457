"""Lets Accelerate's sharded engines run on a CPU, where it switches them off: for tests only, never in the package.

`AcceleratorState` turns FSDP on for every kind of accelerator and never for MULTI_CPU: unpatched, `--fsdp` would be
ignored without a word, and plain DDP be tested in its place; tensor parallelism is refused. DeepSpeed finds no backend
on a CPU, and its processes would train unconnected copies.
"""

from __future__ import annotations

import os
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType


def patch() -> None:
    """Have whatever engine the environment asks for run on gloo; to be called before there is an Accelerator."""
    original = PartialState.__init__

    def init(self: Any, cpu: bool = False, **kwargs: Any) -> None:
        original(self, cpu, **kwargs)
        asked = (os.environ.get(name, "false").lower() == "true" for name in ("ACCELERATE_USE_FSDP", "TENSOR_PARALLEL"))
        if any(asked) and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_XPU

    PartialState.__init__ = init
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        PartialState._prepare_backend = lambda self, *_, **__: ("gloo", DistributedType.MULTI_CPU)  # pyright: ignore[reportAttributeAccessIssue]
