"""A run of AdamW that goes on with RAdam, and back, from Trainer's own checkpoint."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from workers.sharded_checkpoint import make_model, steps_of

from hf_radam import RAdam, RAdamTrainer, RAdamTrainingArguments

SAVED_AT, END = 8, 11
CLASSES = {"radam": RAdam, "adamw_torch": torch.optim.AdamW}
TOLERANCE = 1e-6  # three updates in float32 of a batch whose rows come in another order
CONTROL = 1e-3

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(8, 5, generator=GENERATOR), torch.randn(8, generator=GENERATOR)


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = make_model()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.inner(x)[:, 0] - labels).square().mean()}


def run(optim: str, steps: int, folder: str, resume: str | None = None) -> RAdamTrainer:
    """Updates of the whole data each."""
    arguments = RAdamTrainingArguments(
        folder,
        optim=optim,
        max_steps=steps,
        save_steps=SAVED_AT,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        weight_decay=0.1,
        max_grad_norm=0,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    data: Any = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    trainer = RAdamTrainer(Regression(), arguments, train_dataset=data)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def by_hand(optim: str, checkpoint: str, state: dict[str, Any] | None) -> nn.Module:
    """The same updates from the saved weights, with the saved state or without."""
    model = Regression()
    model.load_state_dict(load_file(f"{checkpoint}/model.safetensors"))
    trainable = [p for p in model.parameters() if p.requires_grad]
    decaying = {"params": [p for p in trainable if p.ndim > 1], "weight_decay": 0.1}
    rest = {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0}
    optimizer = CLASSES[optim]([decaying, rest], lr=1e-2)
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(SAVED_AT, END):
        model(X, Y)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize(("first", "then"), [("adamw_torch", "radam"), ("radam", "adamw_torch")])
def test_moments_and_step_carry_over(first: str, then: str) -> None:
    """RAdam goes on rectified, with the step of AdamW: there is no second start-up."""
    run(first, SAVED_AT, "first")
    checkpoint = f"first/checkpoint-{SAVED_AT}"
    trainer = run(then, END, "then", resume=checkpoint)
    optimizer = cast(Any, trainer.optimizer).optimizer  # Accelerate wraps it
    assert type(optimizer) is CLASSES[then]
    assert steps_of(optimizer) == {END}

    def difference(model: nn.Module) -> float:
        pairs = zip(cast(nn.Module, trainer.model).parameters(), model.parameters(), strict=True)
        return max((a - b).abs().max().item() for a, b in pairs)

    assert difference(by_hand(then, checkpoint, torch.load(f"{checkpoint}/optimizer.pt"))) < TOLERANCE
    assert difference(by_hand(then, checkpoint, None)) > CONTROL
