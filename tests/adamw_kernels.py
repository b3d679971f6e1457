"""The AdamW kernels that are rectified in tests, each with its library, and what each costs to run here."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest


class AdamW(NamedTuple):
    """An AdamW of some library."""

    target: str
    options: Mapping[str, Any] = MappingProxyType({})
    weights_only: bool = True
    """Whether `torch.load(weights_only=True)` reads the library's own checkpoints."""
    sharded: bool = False
    """Whether it takes the DTensors of FSDP2."""

    def load(self) -> Any:
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


KERNELS = {
    "torch for-loop": AdamW("torch.optim:AdamW", {"foreach": False}, sharded=True),
    "torch foreach": AdamW("torch.optim:AdamW", {"foreach": True}, sharded=True),
    "torch fused": AdamW("torch.optim:AdamW", {"fused": True}, sharded=True),
    "bitsandbytes 32": AdamW("bitsandbytes.optim:AdamW"),
    "bitsandbytes 8": AdamW("bitsandbytes.optim:AdamW", {"optim_bits": 8}),
    "bitsandbytes paged 8": AdamW("bitsandbytes.optim:AdamW", {"optim_bits": 8, "is_paged": True}),
    "galore": AdamW("galore_torch:GaLoreAdamW", {"no_deprecation_warning": True, "eps": 1e-8}),
    "apollo": AdamW("apollo_torch:APOLLOAdamW", {"eps": 1e-8}),
    "torchao 8": AdamW("torchao.optim:AdamW8bit", sharded=True),
    "torchao fp8": AdamW("torchao.optim:AdamWFp8", sharded=True),
    "torchao 4": AdamW("torchao.optim:AdamW4bit", sharded=True),
    "deepspeed": AdamW("deepspeed.ops.adam:DeepSpeedCPUAdam"),
}
# torchao compiles for a minute, DeepSpeed for two the first time.
SLOW = ("torchao", "deepspeed")
TORCH = [name for name in KERNELS if name.startswith("torch ")]


def needs(library: str) -> pytest.MarkDecorator:
    """Skips a test, with the reason, where a library is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")


def kernels(*names: str) -> list[Any]:
    """Parameters of a test; those of a library that is not installed are skipped, and say so."""
    found = []
    for name in names or KERNELS:
        library = KERNELS[name].target.partition(":")[0].partition(".")[0]
        marks = [needs(library)]
        # Their imports warn of each other and of old Python, and paged memory says that the CPU has none.
        marks += [pytest.mark.filterwarnings("ignore")] * (library != "torch")
        marks += [pytest.mark.slow] * name.startswith(SLOW)
        found.append(pytest.param(name, marks=marks))
    return found
