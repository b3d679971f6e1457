"""What fp16 adds to a Trainer: a GradScaler, gradients that overflow, steps that are left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import DATA, STEPS, arguments, model, trained, unwrapped, weights
from transformers import Trainer, TrainerCallback

from hf_radam import RAdamTrainer, rectification
from hf_radam.training.trainer_card import describe_training


class Overflow(TrainerCallback):
    """An infinite gradient, in one parameter, before these updates; and where the parameters are after each."""

    def __init__(self, updates: set[int], value: float) -> None:
        self.updates, self.value = updates, value
        self.points: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step + 1 in self.updates:
            next(model.parameters()).grad[0] = self.value

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.points.append(weights(model))


def scaled(overflow: Overflow, plain: bool = False, **changes: Any) -> Trainer:
    args = arguments(
        max_grad_norm=0.0, weight_decay=0.0, adam_beta2=0.98, save_strategy="steps", save_steps=4, **changes
    )
    keywords: dict[str, Any] = {"train_dataset": DATA, "callbacks": [overflow]}
    if plain:
        options = {"lr": 1e-3, "betas": (0.9, 0.98), "weight_decay": 0.0, "decoupled_weight_decay": True}
        trainer = Trainer(model(), args, optimizer_cls_and_kwargs=(torch.optim.RAdam, options), **keywords)
    else:
        trainer = RAdamTrainer(model(), args, **keywords)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=3)  # refused for CPUs
    return trainer


@pytest.mark.parametrize(
    ("implementation", "value"),
    [(name, float("inf")) for name in ("fused=true", "foreach=true", "foreach=false", "capturable=true")]
    + [("fused=true", float("nan"))],
)
def test_steps_that_overflow_are_left_out(implementation: str, value: float) -> None:
    left_out = {1, 4, 5, 9}
    overflow, reference = Overflow(left_out, value), Overflow(left_out, value)
    trainer = scaled(overflow, optim_args=implementation)
    trainer.train()
    scaled(reference, plain=True).train()
    before = weights(model())
    for update, point in enumerate(overflow.points, start=1):
        assert torch.equal(point, before) == (update in left_out)
        before = point
    # float32 rounding in 8 steps of 1e-3
    assert (torch.stack(overflow.points) - torch.stack(reference.points)).abs().max() < 1e-6
    taken = [sum(update not in left_out for update in range(1, last + 1)) for last in range(1, STEPS + 1)]
    assert {int(state["step"]) for state in unwrapped(trainer).state.values()} == {taken[-1]}
    logged = [entry.get("rectification") for entry in trainer.state.log_history if "loss" in entry]
    assert logged == [rectification.rectification(step, 0.98) or 0.0 if step else None for step in taken]


def test_no_step_at_all() -> None:
    trainer = scaled(Overflow(set(range(1, STEPS + 1)), float("inf")))
    assert torch.equal(trained(trainer), weights(model()))
    assert describe_training(trainer)["rectification"] == "no update yet"


@pytest.mark.parametrize("saved_after", [4, 8])
def test_resume_after_a_step_that_was_left_out(saved_after: int) -> None:
    straight = trained(scaled(Overflow({3, 4, 8, 10}, float("inf"))))
    resumed = scaled(Overflow({3, 4, 8, 10}, float("inf")))
    assert torch.equal(trained(resumed, resume_from_checkpoint=f"out/checkpoint-{saved_after}"), straight)
