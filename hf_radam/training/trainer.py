"""`--optim radam` in Transformers' Trainer and its subclasses."""

from __future__ import annotations

from dataclasses import dataclass

from transformers.trainer import Trainer
from transformers.trainer_seq2seq import Seq2SeqTrainer
from transformers.training_args import TrainingArguments
from transformers.training_args_seq2seq import Seq2SeqTrainingArguments

from hf_radam.training.arguments import RAdamArgumentsMixin as RAdamArgumentsMixin
from hf_radam.training.mixin import RAdamTrainerMixin as RAdamTrainerMixin


@dataclass
class RAdamTrainingArguments(RAdamArgumentsMixin, TrainingArguments):
    """TrainingArguments whose `optim` may be a registered name; RAdam by default. See `RAdamArgumentsMixin`.

    Example:
        >>> RAdamTrainingArguments("out", optim_args="degenerated_to_sgd=false", report_to="none").optim
        'radam'
    """


@dataclass
class RAdamSeq2SeqTrainingArguments(RAdamArgumentsMixin, Seq2SeqTrainingArguments):
    """Seq2SeqTrainingArguments whose `optim` may be a registered name; RAdam by default. See `RAdamArgumentsMixin`."""


class RAdamTrainer(RAdamTrainerMixin, Trainer):
    """Transformers' Trainer that builds optimizers by registered name; see `RAdamTrainerMixin`.

    Plain TrainingArguments choose AdamW; pass `optim="radam"` or RAdamTrainingArguments.

    Example:
        >>> import torch
        >>> args = RAdamTrainingArguments("out", learning_rate=1e-3, report_to="none")
        >>> RAdamTrainer(torch.nn.Linear(2, 1), args).create_optimizer().defaults["lr"]
        0.001
    """


class RAdamSeq2SeqTrainer(RAdamTrainerMixin, Seq2SeqTrainer):
    """Transformers' Seq2SeqTrainer that builds optimizers by registered name; see `RAdamTrainerMixin`."""
