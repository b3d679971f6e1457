"""Step counts: on a CPU one call reads and raises all; on an accelerator, where reading would wait, none is read."""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor


class CountVector:
    """Step counts on a CPU as one vector; the state holds views of it."""

    def __init__(self) -> None:
        self.vector = torch.zeros(0)
        self.views: list[Tensor] = []
        self.places: list[int] = []

    def follow(self, states: list[dict[str, Any]]) -> list[Tensor]:
        """The views that these states hold; new ones if a state holds something else.

        Raises:
            RuntimeError, TypeError: a step is not a number.
        """
        steps = [state.get("step") for state in states]
        same = len(self.views) == len(steps) and all(map(is_, self.views, steps))
        if not same or list(map(Tensor.data_ptr, self.views)) != self.places:
            with torch.inference_mode(False):  # normal tensors, which outlive the mode
                self.vector = torch.stack(list(map(_number, steps)))
                self.views = list(self.vector.unbind())
            self.places = list(map(Tensor.data_ptr, self.views))
            for state, view in zip(states, self.views, strict=True):
                state["step"] = view
        return self.views


def _number(step: Any) -> Tensor:
    real = not step.is_complex() if isinstance(step, Tensor) else type(step) in (int, float)
    if not real:
        raise TypeError(f"a step count must be a real number, got {step!r}")
    return torch.as_tensor(step, dtype=torch.float32, device="cpu").reshape(())


class CountMemory:
    """Step counts that another optimizer keeps: read on a CPU, remembered where reading waits for the device."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Read them again next time."""
        self._steps: list[Tensor] = []
        self._versions: list[int] = []
        self._counts: list[float] = []

    def read(self, steps: list[Any]) -> list[float]:
        """The counts; on an accelerator from memory, unless PyTorch has seen a write to them since."""
        same = self._steps and len(self._steps) == len(steps) and all(map(is_, steps, self._steps))
        if same and self._versions == [step._version for step in steps]:
            return self._counts
        if set(map(type, steps)) == {Tensor}:
            return list(map(Tensor.item, steps))
        return [0 if step is None else int(step) for step in steps]

    def remember(self, steps: list[Any], counts: list[float]) -> None:
        """Note that the optimizer has raised these steps from these counts."""
        self.forget()
        if steps and isinstance(steps[0], Tensor) and not steps[0].is_cpu and not steps[0].is_inference():
            self._steps, self._versions = steps, [step._version for step in steps]
            self._counts = [count + 1 for count in counts]
