"""torchao's AdamWs with a code for the second moment that has no zero.

If v is rounded to zero and m is not, the next step is m / eps: thousands of learning rates. torchao's 8-bit code
rounds to zero below 2.7e-7 of a block's largest value, float8 (E4M3) below 2.2e-6. That happens in embeddings, where a
rare row stands beside a frequent one. torchao's 4-bit code has no zero.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

_SECOND_MOMENTS = ("exp_avg_sq", "max_exp_avg_sq")


def without_zero(cls: type) -> tuple[type, ...]:
    """The mixin that keeps an AdamW's second moment from rounding to zero; empty for classes that need none."""
    return (_WithoutZero,) if any(base.__module__.startswith("torchao.") for base in cls.__mro__) else ()


class _WithoutZero:
    def _subclass_zeros(self, p: Tensor, signed: bool, block_size: int) -> Tensor:
        zeros = super()._subclass_zeros(p, signed, block_size)  # pyright: ignore[reportAttributeAccessIssue]
        return zeros if signed else _mended(zeros)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # `load_state_dict` ends here too: the plain class may have written the state.
        super().__setstate__(state)  # pyright: ignore[reportAttributeAccessIssue]
        for of_p in self.state.values():  # pyright: ignore[reportAttributeAccessIssue]
            of_p.update({key: _mended(of_p[key]) for key in _SECOND_MOMENTS if key in of_p})


def _mended(v: Any) -> Any:
    """A second moment, sharded or not, with a code without zero; the same object unless it is in float8."""
    if (shard := getattr(v, "_local_tensor", None)) is not None:
        mended = _mended(shard)
        if mended is shard:
            return v
        layout: dict[str, Any] = {"shape": v.shape, "stride": v.stride(), "run_check": False}
        return type(v).from_local(mended, v.device_mesh, v.placements, **layout)
    if type(v).__name__ == "OptimStateFp8":
        return _in_unsigned_float8(v)
    if hasattr(v, "qmap") and v.qmap[0] == 0:
        v.qmap[0] = v.qmap[1] / 2
    return v


def _in_unsigned_float8(v: Any) -> Any:
    """torchao's 8-bit state with 5-bit exponents and 3-bit mantissas; zeros become half of E4M3's smallest."""
    numbers = v.dequantize().view(len(v.scale), -1).maximum(v.scale[:, None] * 2.0**-10)
    codes = torch.arange(256, dtype=torch.float32, device=v.device)
    table = (8 + codes % 8) * 2.0 ** (codes // 8)
    state_8bit = importlib.import_module("torchao.optim.subclass_8bit").OptimState8bit
    mended = state_8bit.zeros(v.shape, False, v.block_size, v.device, v.dtype)
    mended.qmap.copy_(table / table[-1])
    mended.copy_(numbers.view(v.shape))
    return mended
