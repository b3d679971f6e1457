"""`from hf_radam import RAdam` costs what torch costs: no module of another package, and nothing that torch leaves."""

from __future__ import annotations

import subprocess
import sys

import pytest

# `inspect` of checkpoints imports what torch.distributed.checkpoint does.
CASES = {
    "import": ("from torch.optim import AdamW", "from hf_radam import RAdam"),
    "build": (
        "from torch.optim import AdamW; AdamW([torch.ones(2, requires_grad=True)])",
        "from hf_radam import RAdam; RAdam([torch.ones(2, requires_grad=True)])",
    ),
    "registry": ("from torch.optim import AdamW", "from hf_radam import get_optimizer; get_optimizer('radam')"),
    "checkpoints": (
        "import torch.distributed.checkpoint, torch.distributed.checkpoint.state_dict",
        "from hf_radam.checkpoints import describe",
    ),
}
# Of the standard library.
ALLOWED = sys.stdlib_module_names | {"hf_radam"}


# Each line of code in a process of its own, all from one that has imported torch: that import is what takes long.
FORKS = """
import os, sys, torch
for code in sys.argv[1:]:
    if not os.fork():
        exec(code)
        print(*sys.modules, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, code
"""


@pytest.fixture(scope="module")
def modules() -> dict[str, set[str]]:
    """What is imported after each line of code."""
    codes = [code for both in CASES.values() for code in both]
    command = [sys.executable, "-c", FORKS, *codes]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {code: set(line.split()) for code, line in zip(codes, found, strict=True)}


@pytest.mark.parametrize("case", CASES)
def test_nothing_beyond_torch_is_imported(modules: dict[str, set[str]], case: str) -> None:
    theirs, ours = (modules[code] for code in CASES[case])
    assert "hf_radam" in ours
    assert {name for name in ours - theirs if name.split(".")[0] not in ALLOWED} == set()
    assert ("torch._dynamo" in ours) <= ("torch._dynamo" in theirs)
