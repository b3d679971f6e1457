"""The mean of the weights at the last checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from hf_radam.experiments.schema import UserError


class WeightAverage(TrainerCallback):
    """Keeps the mean of the weights at the last `count` multiples of `every` updates, the end among them.

    A running mean: one further copy of the weights in memory, and one on disk (two for a moment) from which a resumed
    run goes on; not one for each checkpoint.

    Args:
        count: how many checkpoints are averaged.
        every: updates from one to the next.
        folder: for the mean as it was at the last checkpoint.
    """

    def __init__(self, count: int, every: int, folder: Path) -> None:
        self.count, self.every, self.folder = count, every, folder
        self._mean: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Take up the mean that belongs to the checkpoint."""
        if self._position(state) >= 1:
            path = self._path(state.global_step)
            if not path.is_file():
                raise UserError(f"{path} is missing; delete {self.folder.parent} to train this run anew")
            self._mean = load_file(path, device=str(next(model.parameters()).device))

    @torch.no_grad()
    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Add the weights where their turn is."""
        position = self._position(state)
        if state.global_step % self.every == 0 and position >= 1:
            optimizer.eval()  # a schedule-free one then puts its averaged weights in place, as for an evaluation
            for name, p in model.named_parameters():
                mean = self._mean.setdefault(name, torch.zeros_like(p, dtype=torch.float32))
                mean += (p - mean) / position
            optimizer.train()

    def save(self, step: int) -> None:
        """Write the mean, before the checkpoint that goes with it."""
        if self._mean and PartialState().is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(self._mean, self._path(step))

    def forget_before(self, step: int) -> None:
        """Drop what belongs to earlier checkpoints."""
        if PartialState().is_main_process:
            for path in self.folder.glob("mean-*.safetensors"):
                if path != self._path(step):
                    path.unlink()

    @torch.no_grad()
    def apply(self, model: Any) -> None:
        """Give a model the averaged weights."""
        for name, p in model.named_parameters():
            p.copy_(self._mean[name])

    def _position(self, state: Any) -> int:
        """Which of the averaged checkpoints, from 1, the present update's would be; at most 0 before the first."""
        return self.count - (state.max_steps - state.global_step) // self.every

    def _path(self, step: int) -> Path:
        return self.folder / f"mean-{step}.safetensors"
