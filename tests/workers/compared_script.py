"""A training script of somebody's, for comparisons of scripts; at the update DIES of the environment it dies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments, set_seed


@dataclass
class ScriptArguments:
    """What such scripts add."""

    train_file: str = ""


class Model(torch.nn.Module):
    """A network of one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(4, 16), torch.nn.Linear(16, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        logits = self.out(self.hidden(x).tanh())[:, 0]
        return {"loss": torch.nn.functional.mse_loss(logits, labels), "logits": logits}


class Dying(TrainerCallback):
    """The end of a process without a word."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == int(os.environ.get("DIES", "-1")):
            os._exit(9)


def examples(count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(count)
    rows = torch.randn(count, 4, generator=generator)
    return [{"x": row, "labels": row.prod()} for row in rows]


def errors(prediction: Any) -> dict[str, float]:
    return {"largest-error": float(abs(prediction.predictions - prediction.label_ids).max())}


def build(args: TrainingArguments, cls: Any = Trainer) -> Any:
    set_seed(args.seed)
    data = {"train_dataset": examples(64), "eval_dataset": examples(8)}
    return cls(Model(), args, compute_metrics=errors, callbacks=[Dying()], **data)


def main() -> None:
    parser = HfArgumentParser((ScriptArguments, TrainingArguments))  # pyright: ignore[reportArgumentType]
    _, args = parser.parse_args_into_dataclasses()
    trainer = build(args)
    trainer.train()
    trainer.save_model()
    trainer.evaluate()


if __name__ == "__main__":
    main()
