"""What the benchmark measures: optimizers in turns, each beside its rivals, and the shapes of their parameters."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from math import prod
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from hf_radam.rectified import rectified

Shape = tuple[int, ...]

OPTIONS: Mapping[str, Any] = {"lr": 1e-6, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
WARM_UP = 6  # steps; with this beta2 the first rectified one is the sixth


@dataclass(frozen=True)
class Contender:
    """An optimizer and how it is built."""

    package: str  # name under which it is installed
    module: str
    cls: str
    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # beside `OPTIONS`
    rectified: bool = False
    on_host: bool = False  # a kernel for CPUs alone

    @property
    def name(self) -> str:
        """Name in the table."""
        name = f"{self.module}.{self.cls}" + f" ({self.variant})" * bool(self.variant)
        return f"rectified {name}" if self.rectified else name

    def build(self, params: list[Tensor]) -> Optimizer:
        """The optimizer, ready for `step()`."""
        cls = getattr(import_module(self.module), self.cls)
        optimizer = (rectified(cls) if self.rectified else cls)(params, **OPTIONS, **self.options)
        if self.package == "schedulefree":
            optimizer.train()  # it refuses to step otherwise
        return optimizer


CONTENDERS = (
    Contender("torch", "torch.optim", "AdamW", "fused", {"fused": True}),  # the baseline
    Contender("hf_radam", "hf_radam", "RAdam", "fused", {"fused": True}),
    Contender("hf_radam", "hf_radam", "RAdam", "foreach", {"foreach": True}),
    Contender("hf_radam", "hf_radam", "RAdam", "for-loop", {"foreach": False}),
    Contender("torch", "torch.optim", "AdamW", "foreach", {"foreach": True}),
    Contender("torch", "torch.optim", "RAdam", "foreach", {"foreach": True}),
    Contender("torch", "torch.optim", "RAdam", "for-loop", {"foreach": False}),
    Contender("pytorch_optimizer", "pytorch_optimizer", "RAdam"),
    Contender("torch-optimi", "optimi", "RAdam"),
    Contender("timm", "timm.optim", "RAdamLegacy"),
    Contender("schedulefree", "schedulefree", "RAdamScheduleFree"),
)
# Each plain class, and the RAdam of it. Beside DeepSpeed's, which steps on the host where state is offloaded, stands
# what one would have there instead: torch's RAdam.
KERNELS = (
    *(
        replace(contender, rectified=ours)
        for contender in (
            Contender("torch", "torch.optim", "AdamW", "fused", {"fused": True}),
            Contender("bitsandbytes", "bitsandbytes.optim", "AdamW8bit"),
            Contender("torchao", "torchao.optim", "AdamW8bit"),
            Contender("torchao", "torchao.optim", "AdamW4bit"),
            Contender("deepspeed", "deepspeed.ops.adam", "DeepSpeedCPUAdam", on_host=True),
        )
        for ours in (False, True)
    ),
    Contender("torch", "torch.optim", "RAdam", "foreach", {"foreach": True}),
    Contender("torch", "torch.optim", "RAdam", "for-loop", {"foreach": False}),
)


def race(
    calls: Mapping[str, Callable[[], object]], rounds: int, seconds: Callable[[Callable[[], object]], float]
) -> dict[str, list[float]]:
    """The seconds of each call in each round; in every round each has its turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return times


def mean_time(
    call: Callable[[], object],
    repeats: int,
    wait: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Mean seconds of a call, until `wait` returns."""
    start = clock()
    for _ in range(repeats):
        call()
    wait()
    return (clock() - start) / repeats


def rows_of(times: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """The median over the rounds, and its ratio to the first's."""
    medians = {name: statistics.median(of_rounds) for name, of_rounds in times.items()}
    first = next(iter(medians.values()))
    return [
        {"optimizer": name, "seconds": median, "seconds_of_rounds": times[name], "ratio": median / first}
        for name, median in medians.items()
    ]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios within the rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def bert_base() -> list[Shape]:
    """BERT-base (uncased) with its pooler."""
    hidden, ffn = 768, 3072
    norm: list[Shape] = [(hidden,), (hidden,)]
    square: list[Shape] = [(hidden, hidden), (hidden,)]
    embeddings = [(30522, hidden), (512, hidden), (2, hidden), *norm]
    layer = [*4 * square, *norm, (ffn, hidden), (ffn,), (hidden, ffn), (hidden,), *norm]
    return [*embeddings, *12 * layer, *square]


def decoder_1b() -> list[Shape]:
    """TinyLlama 1.1B."""
    hidden, kv, ffn, vocabulary = 2048, 256, 5632, 32000
    attention = [(hidden, hidden), (kv, hidden), (kv, hidden), (hidden, hidden)]
    layer = [*attention, (ffn, hidden), (ffn, hidden), (hidden, ffn), (hidden,), (hidden,)]
    return [(vocabulary, hidden), *22 * layer, (hidden,), (vocabulary, hidden)]


SHAPES = {"bert-base": bert_base(), "lora": 250 * [(8, 768), (768, 8)], "decoder-1b": decoder_1b()}
assert sum(map(prod, SHAPES["bert-base"])) == 109_482_240
assert sum(map(prod, SHAPES["decoder-1b"])) == 1_100_048_384
