"""State of bitsandbytes, torchao and torch-optimi: `inspect` says what it is, and `consolidate` leaves it alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adamw_kernels import needs

from hf_radam import get_optimizer
from hf_radam.checkpoints import CheckpointError
from hf_radam.checkpoints.describe import describe, write

# Two matrices of 4,096 elements and a bias of 7, each library's by the bytes that it writes.
CASES = {
    "bitsandbytes": ("radam_8bit", torch.float32, "moments of 8 and 32 bits, 2.29 bytes a parameter"),
    "torchao": ("radam_torch_4bit", torch.float32, "moments of 4 and 32 bits, 1.07 bytes a parameter"),
    "optimi": ("radam_kahan", torch.bfloat16, "moments of 16 bits, 6.00 bytes a parameter"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", [pytest.param(library, marks=needs(library)) for library in CASES])
def test_inspect_says_what_it_is_and_consolidate_refuses(library: str) -> None:
    name, dtype, kind = CASES[library]
    params = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in ((64, 64), (64, 64), (7,))]
    optimizer = get_optimizer(name)(params, lr=1e-3)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    torch.save(optimizer.state_dict(), "optimizer.pt")
    text = describe(Path("optimizer.pt"))
    assert f"kind        {library}: {kind}" in text
    assert f"the optimizer that wrote it, of {library}; consolidate does not convert it" in text
    assert "3 parameters, 3 with state of 8199 elements" in text
    assert "step 1" in text
    with pytest.raises(CheckpointError, match=f"has state of {library}, which consolidate does not convert"):
        write(Path("optimizer.pt"), Path("out.pt"))
    assert not Path("out.pt").exists()
