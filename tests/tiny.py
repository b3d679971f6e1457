"""A tiny BERT with its examples, and Trainers of it in this process."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from hf_radam import RAdamTrainer, RAdamTrainingArguments

STEPS = 12


def example(index: int) -> dict[str, Any]:
    ids = torch.randint(0, 50, (8,), generator=torch.Generator().manual_seed(index))
    return {"input_ids": ids, "labels": int(ids[0] > 25)}


DATA: Any = [example(index) for index in range(64)]


def bert(**sizes: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return BertForSequenceClassification(BertConfig(**{**config, **sizes}))


def model() -> BertForSequenceClassification:
    return bert()


def options(**changes: Any) -> dict[str, Any]:
    return {
        "output_dir": "out", "max_steps": STEPS, "learning_rate": 1e-3, "weight_decay": 0.1, "logging_steps": 1,
        "per_device_train_batch_size": 8, "report_to": "none", "use_cpu": True, "disable_tqdm": True,
        "dataloader_pin_memory": False, "save_strategy": "no", **changes,
    }  # fmt: skip


def arguments(**changes: Any) -> RAdamTrainingArguments:
    return RAdamTrainingArguments(**options(**changes))


def ours(**changes: Any) -> RAdamTrainer:
    return RAdamTrainer(model(), arguments(**changes), train_dataset=DATA)


def plain(**changes: Any) -> Trainer:
    return Trainer(model(), TrainingArguments(**options(**changes)), train_dataset=DATA)


def weights(network: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten().cpu() for p in network.parameters()])


def trained(trainer: Trainer, **train: Any) -> torch.Tensor:
    trainer.train(**train)
    return weights(trainer.model)


def unwrapped(trainer: Trainer) -> Any:
    optimizer: Any = trainer.optimizer
    return getattr(optimizer, "optimizer", optimizer)
