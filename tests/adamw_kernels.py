"""The AdamW kernels that are rectified in tests, each with its library."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from cases import flat, through_a_file


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
TORCH = [name for name in KERNELS if name.startswith("torch ")]


def needs(library: str) -> list[pytest.MarkDecorator]:
    """Leaves a test to the `make` target that installs the library; skipped, with the reason, where it is missing."""
    target = "slow" if library == "deepspeed" else "kernels"  # DeepSpeed compiles for two minutes the first time
    reason = f"{library} is not installed; make test-{target} does it"
    missing = pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=reason)
    return [getattr(pytest.mark, target), missing]


def kernels(*names: str) -> list[Any]:
    """Parameters of a test, with the marks of their libraries."""
    found = []
    for name in names or KERNELS:
        library = KERNELS[name].target.partition(":")[0].partition(".")[0]
        # Their imports warn of each other and of old Python, and paged memory says that the CPU has none.
        marks = [] if library == "torch" else [*needs(library), pytest.mark.filterwarnings("ignore")]
        found.append(pytest.param(name, marks=marks))
    return found


def apart(
    make: Callable[..., Any], exact: Callable[..., Any], written: Any = None, dtype: Any = torch.float32
) -> float:
    """How far a small BERT ends from where another optimizer takes it in 30 steps, relative to the way there.

    Its gradients differ in size as random ones do not: rows of the embedding have one now and then, or none at all.

    Args:
        make: builds the optimizer from the model.
        exact: builds the other.
        written: builds one that sees the other's gradients for ten steps; then `make`'s goes on from its checkpoint.
        dtype: of the weights.
    """
    from tiny import bert

    models: list[Any] = [bert(vocab_size=600, hidden_size=64, intermediate_size=64).to(dtype) for _ in range(2)]
    ours, other = models

    def step(model: Any, optimizer: Any, number: int) -> None:
        often = 1 / torch.arange(1, 601)  # as words are: by Zipf's law
        tokens = torch.multinomial(often, 128, True, generator=torch.Generator().manual_seed(number)).view(8, 16)
        model(input_ids=tokens, labels=(tokens[:, 0] > 30).long()).loss.backward()
        optimizer.step()

    # The same arithmetic as compiled, which takes a minute for the shapes of a BERT.
    with torch.compiler.set_stance("force_eager"):
        optimizer, reference, first = make(ours), exact(other), 0
        if written is not None:
            first, writer = 10, written(ours)
            for number in range(first):
                step(other, reference, number)
                for p, q in zip(ours.parameters(), other.parameters(), strict=True):
                    p.grad, q.grad = q.grad, None
                writer.step()
                ours.load_state_dict(other.state_dict())
            optimizer.load_state_dict(through_a_file(writer.state_dict()))
        start = flat(other.parameters())
        for model, of_model in ((ours, optimizer), (other, reference)):
            for number in range(first, 30):
                model.zero_grad()
                step(model, of_model, number)
    way = flat(other.parameters()) - start
    return ((flat(ours.parameters()) - start - way).norm() / way.norm()).item()
