"""Histograms of absolute gradients over the first updates (Figures 2 and 3 of the paper), recorded while training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
from transformers import TrainerCallback

# Range of log10|g|, and the number of bins in it.
LOW, HIGH, BINS = -12.0, 4.0, 64
# Recorded updates in each factor of ten: few enough to cost nothing, even on a logarithmic axis.
PER_DECADE = 10
# Entries that are counted of a model, at most about: of a larger one every second, third, ... entry is.
SAMPLE = 2**21
_KEY = "gradient_histogram"


def is_recorded(update: int) -> bool:
    """Whether an update (counted from 1) is recorded: all of the first, then ever fewer.

    Example:
        >>> [update for update in range(1, 101) if is_recorded(update)]
        [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 79, 100]
    """
    exponent = round(PER_DECADE * math.log10(update))
    return round(10 ** (exponent / PER_DECADE)) == update


def histogram(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Count the entries of all tensors by log10|g|; of more than `SAMPLE` entries, evenly spaced ones.

    The counts stay on the tensors' device, which is not waited for. Nothing outside of the range is counted: no zero,
    and what is no number.

    Example:
        >>> int(histogram([torch.tensor([1e-3, -1e-3, 0.0])]).max())
        2
    """
    stride = _prime_from(math.ceil(sum(g.numel() for g in gradients) / SAMPLE))
    sample = [g.detach().reshape(-1)[::stride] for g in gradients]
    counts = [torch.histc(g.abs().float().log10_(), BINS, LOW, HIGH) for g in sample]
    return torch.stack(counts).sum(0)


def _prime_from(number: int) -> int:
    """The number, or the next prime: any other stride could meet the same columns of a matrix in every row."""
    return next(n for n in count(number) if n == 1 or all(n % factor for factor in range(2, math.isqrt(n) + 1)))


class GradientHistograms(TrainerCallback):
    """Puts histograms of the gradients, as the optimizer is given them, into `state.log_history`.

    They are those of the whole batch: accumulated, averaged over processes, and clipped.
    """

    def __init__(self) -> None:
        self._counts: torch.Tensor | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Count, on the device."""
        if is_recorded(state.global_step + 1):
            self._counts = histogram([p.grad for p in model.parameters() if p.grad is not None])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write the counts beside the loss, where checkpoints keep them."""
        if self._counts is not None and logs and "learning_rate" in logs:  # those of an update
            state.log_history[-1][_KEY] = [int(number) for number in self._counts.tolist()]
            self._counts = None


def collect(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The histograms of a run, from Trainer's log: range of log10|g|, recorded updates, a row of counts for each.

    Of two entries for one step (after a resume) the later counts.
    """
    rows = {entry["step"]: entry[_KEY] for entry in history if _KEY in entry}
    return {"low": LOW, "high": HIGH, "step": list(rows), "counts": list(rows.values())}
