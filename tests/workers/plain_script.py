"""A training script as one finds them, which knows nothing of this package.

    plain_script.py CASES.json OUT.json

Trains each case, a list of command-line arguments, and writes what its log and its optimizer say.
"""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    HfArgumentParser,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    set_seed,
)


@dataclass
class ScriptArguments:
    """What such scripts add."""

    layerwise: bool = False
    seq2seq: bool = False
    resume: str | None = None


class Layerwise(Trainer):
    """A group and a learning rate for each parameter."""

    def create_optimizer(self, model: Any = None) -> Any:
        cls, options = Trainer.get_optimizer_cls_and_kwargs(self.args)
        parameters = list(self.model.parameters())  # pyright: ignore[reportOptionalMemberAccess]
        groups = [{"params": [p], "lr": self.args.learning_rate * 0.99**i} for i, p in enumerate(parameters)]
        self.optimizer = cls(groups, **options)
        return self.optimizer


def examples() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 50, (64, 8), generator=generator)
    return [{"input_ids": row, "labels": int(row[0] > 25)} for row in tokens]


def train(argv: list[str]) -> dict[str, Any]:
    kind = Seq2SeqTrainingArguments if "--seq2seq" in argv else TrainingArguments
    script, args = HfArgumentParser((ScriptArguments, kind)).parse_args_into_dataclasses(argv)  # pyright: ignore
    set_seed(args.seed)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    trainer_class = Layerwise if script.layerwise else Seq2SeqTrainer if script.seq2seq else Trainer
    trainer = trainer_class(BertForSequenceClassification(config), args, train_dataset=examples())  # pyright: ignore
    trainer.train(resume_from_checkpoint=script.resume)
    trainer.create_model_card()
    optimizer: Any = trainer.optimizer
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    same = pickle.loads(pickle.dumps(type(trainer))) is type(trainer)
    child = "import sys; print(*(type(finder).__module__ for finder in sys.meta_path))"
    found = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True) if script.seq2seq else None
    return {
        "log": [entry for entry in trainer.state.log_history if "loss" in entry],
        "optimizer": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}",
        "groups": len(optimizer.param_groups),
        "class": f"{type(trainer).__module__}.{type(trainer).__qualname__}",
        "engine": [trainer.accelerator.distributed_type.value, args.world_size],
        "pickles": same,
        "child": found and found.stdout.split(),
        "tracer": getattr(sys, "tracer", None),
        "card": Path(args.output_dir, "README.md").read_text() if trainer.is_world_process_zero() else "",
    }


def main() -> None:
    gc.freeze()  # what is imported; Accelerate collects garbage at every start of a training
    cases, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    found = {name: train(argv) for name, argv in cases.items()}
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        out.write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
