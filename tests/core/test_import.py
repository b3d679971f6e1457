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


def modules(code: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys, torch; {code}; print(*sys.modules)"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("case", CASES)
def test_nothing_beyond_torch_is_imported(case: str) -> None:
    theirs, ours = map(modules, CASES[case])
    assert "hf_radam" in ours
    assert {name for name in ours - theirs if name.split(".")[0] not in ALLOWED} == set()
    assert ("torch._dynamo" in ours) <= ("torch._dynamo" in theirs)
