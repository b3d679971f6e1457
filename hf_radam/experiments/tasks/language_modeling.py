"""Causal language modeling: text packed to blocks, perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import entropy
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, default_data_collator
from transformers.trainer_pt_utils import LabelSmoother

from hf_radam.experiments.comparison import Comparison
from hf_radam.experiments.schema import UserError, build, check_least
from hf_radam.experiments.tasks import Task
from hf_radam.experiments.tasks.grammar import sentence_pairs
from hf_radam.experiments.tasks.pretrained import ModelChoice
from hf_radam.experiments.tasks.text import (
    TABLES,
    TextData,
    digest,
    hold_out,
    kind_of,
    own_tokenizer,
    read_lines,
    table_rows,
    token_means,
    token_sums,
    whole_batches,
)
from hf_radam.files import whole

TEXTS_AT_A_TIME = 1000
TEXTS_FOR_VOCABULARY = 500_000


@dataclass(frozen=True, kw_only=True)
class LanguageModelingData(TextData):
    """Where the text comes from: a Hub dataset, else local files, else the English of the built-in grammar.

    Of the training text, no more is read than the updates need.
    """

    train_split: str = "train"
    """Part of the dataset for training."""
    validation_split: str = "validation"
    """Its part for evaluation."""
    text_column: str = "text"
    """Its column of text, or that of a table."""
    train_file: str | None = None
    """Local text, a line or paragraph a line, or a column of a .csv, .tsv, .json or .jsonl; plain or .gz."""
    validation_file: str | None = None
    """Likewise; without it the last `max_eval_samples` training texts are held out."""
    tokenizer_name: str | None = None
    """Hub name or folder of a tokenizer; by default the checkpoint's, or a BPE trained on the text."""
    block_size: int = 128
    """Tokens of a training example."""
    max_eval_samples: int = 500
    """Use only the first so many validation texts."""

    def __post_init__(self) -> None:
        if self.dataset_name and self.train_file:
            raise UserError("data: dataset_name and train_file exclude each other; set all but one to ''")
        if self.validation_file and not self.train_file:
            raise UserError("data: validation_file without train_file; give both")
        check_least(self, 1, "vocab_size", "max_train_samples", "max_eval_samples", where="data")
        check_least(self, 2, "block_size", where="data")


class Blocks(Dataset[dict[str, np.ndarray]]):
    """A stream of tokens as blocks; each begins with the last token of the one before, so that all are predicted once.

    Args:
        tokens: shape (n,).
        size: tokens of a block, of which all but the first are labels.
    """

    def __init__(self, tokens: np.ndarray, size: int) -> None:
        self.tokens, self.size = tokens, size

    def __len__(self) -> int:
        return max(0, (len(self.tokens) - 1) // (self.size - 1))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        start = index * (self.size - 1)
        input_ids = self.tokens[start : start + self.size].astype(np.int64)
        labels = input_ids.copy()
        labels[0] = -100
        return {"input_ids": input_ids, "labels": labels}


class LanguageModelingTask(Task):
    """Data, model and metrics of one comparison; see `tasks.Task`."""

    Data = LanguageModelingData
    metric = "perplexity"
    loss_unit = "nats a token"

    def __init__(self, comparison: Comparison) -> None:
        self.data = build(LanguageModelingData, comparison.data, where="data")
        self.choice = build(ModelChoice, comparison.model, where="model")
        if not comparison.batch_size:
            raise UserError("tokens_per_batch is for examples of unlike length; give batch_size, in blocks")
        self._batch_size = comparison.batch_size
        self._blocks = comparison.batch_size * comparison.max_steps
        self._train, self._validation, text = _texts(self.data, self._blocks * self.data.block_size)
        self.fingerprint = digest(text, self.choice.fingerprint())

    def prepare(self, cache_dir: Path) -> None:
        """Train the tokenizer if needed, and write the tokens to `cache_dir`, or read those that are there."""
        if self.data.tokenizer_name or self.choice.name_or_path:
            self.tokenizer = self.choice.tokenizer(self.data.tokenizer_name)
        else:
            texts = [*islice(self._train, TEXTS_FOR_VOCABULARY)]
            self.tokenizer = own_tokenizer(texts, self.fingerprint, self.data.vocab_size, cache_dir)
        if self.tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end-of-text token; choose another with data: tokenizer_name")
        needed = self._blocks * (self.data.block_size - 1) + 1
        backend = getattr(self.tokenizer, "backend_tokenizer", None)  # tokenizers written in Python have none
        rules = backend.to_str() if backend else sorted(self.tokenizer.get_vocab().items())
        limits = [self.data.max_train_samples, self.data.max_eval_samples]
        key = digest(self.fingerprint, rules, limits, needed)[:8]
        train = self._tokens(self._train, needed, cache_dir / f"tokens-{key}-train.npy")
        validation = self._tokens(self._validation, None, cache_dir / f"tokens-{key}-validation.npy")
        blocks = whole_batches(len(Blocks(train, self.data.block_size)), self._batch_size)
        self.train_dataset = Blocks(train[: blocks * (self.data.block_size - 1) + 1], self.data.block_size)
        self.eval_dataset = Blocks(validation, self.data.block_size)
        if not len(self.eval_dataset):
            raise UserError(f"data: no block of {self.data.block_size} tokens for validation; give more text")
        self.facts = {"unigram_entropy": float(entropy(np.bincount(train)))}

    def model(self, options: Mapping[str, Any]) -> Any:
        """The decoder; from scratch initialised from the global random state."""
        model = build(ModelChoice, options, where="model").build(
            AutoModelForCausalLM, "causal language model", self.tokenizer
        )
        of_checkpoint = getattr(model.config, "architectures", None) or []
        if self.choice.name_or_path and type(model).__name__ not in of_checkpoint:
            raise UserError(
                f"model: {self.choice.name_or_path} is a {', '.join(of_checkpoint) or 'checkpoint of unknown class'}, "
                f"not a {type(model).__name__}; give a causal language model such as gpt2"
            )
        if _sees_ahead(model):
            raise UserError(
                f"model: a {model.config.model_type} model sees the tokens that it has to predict; set config: "
                "{is_decoder: true}, or take a decoder such as gpt2"
            )
        vocabulary = model.get_input_embeddings().num_embeddings
        if vocabulary < len(self.tokenizer):
            raise UserError(
                f"the tokenizer has {len(self.tokenizer)} tokens but the model {vocabulary}; drop data: tokenizer_name"
            )
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and longest < self.data.block_size:
            raise UserError(
                f"data: block_size {self.data.block_size} is more than the model's {longest} positions; lower it"
            )
        return model

    def collator(self, model: Any) -> Any:
        """Stacks blocks."""
        return default_data_collator

    def loss(self, outputs: Any, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        """Mean over the predicted tokens."""
        return LabelSmoother(label_smoothing)(outputs, labels, shift_labels=True)

    def preprocess_logits_for_metrics(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """Sums over each block; see `token_sums`."""
        logits = logits[0] if isinstance(logits, tuple) else logits
        return token_sums(logits[:, :-1], labels[:, 1:])

    def compute_metrics(self, prediction: Any) -> dict[str, float]:
        """Averages over tokens, and the perplexity."""
        means = token_means(prediction.predictions)
        return {**means, "perplexity": math.exp(means["nll"]) if means["nll"] < 700 else math.inf}

    def _tokens(self, texts: Iterable[str], needed: int | None, path: Path) -> np.ndarray:
        """The tokens of the texts, each text with an end; as many as needed, or all."""
        if not path.is_file():
            parts: list[np.ndarray] = []
            iterator, count = iter(texts), 0
            while (needed is None or count < needed) and (some := [*islice(iterator, TEXTS_AT_A_TIME)]):
                for ids in self.tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]:
                    parts.append(np.array([*ids, self.tokenizer.eos_token_id], dtype=np.int32))
                    count += len(parts[-1])
            with whole(path) as unfinished, unfinished.open("wb") as file:
                np.save(file, np.concatenate([*parts, np.empty(0, np.int32)])[:needed])
        return np.load(path, mmap_mode="r")


class _Texts:
    """The texts of a part of a dataset, read each time anew."""

    def __init__(self, rows: Any, column: str, limit: int | None) -> None:
        self.rows, self.column, self.limit = rows, column, limit

    def __iter__(self) -> Iterator[str]:
        texts = ("" if row[self.column] is None else str(row[self.column]) for row in islice(self.rows, self.limit))
        return (text for text in texts if text and not text.isspace())


@torch.no_grad()
def _sees_ahead(model: Any) -> bool:
    """Whether a token changes what is predicted before it, as in an encoder."""
    model.eval()
    first, second = (model(input_ids=torch.tensor([[0, token]])).logits[0, 0] for token in (0, 1))
    model.train()
    return not torch.allclose(first, second, rtol=0, atol=1e-5 * first.abs().max().item())  # rounding of float32


def _lines(path: Path, column: str) -> list[str]:
    """The texts of a file, those that are empty aside."""
    if kind_of(path) not in TABLES:
        return [line for line in read_lines(path) if line]
    texts: list[str] = []
    for where, row in table_rows(path, header=not column.isdecimal()):
        text = row.get(column)
        if not isinstance(text, str):
            raise UserError(f"{where} has no text {column!r}, only {', '.join(row)}; set text_column, or mend the row")
        texts += [text] if text.strip() else []
    return texts


def _texts(data: LanguageModelingData, tokens: int) -> tuple[Iterable[str], Iterable[str], Any]:
    """Training texts, validation texts, and what tells them from others."""
    limit = data.max_eval_samples
    if data.dataset_name:
        wanted = (data.train_split, data.validation_split)
        splits = data.load_splits(wanted)
        for split in wanted:
            if data.text_column not in splits[split].column_names:
                there = ", ".join(splits[split].column_names)
                raise UserError(f"{data.dataset_name}, {split} has no column {data.text_column!r}, only {there}")
        train = _Texts(splits[wanted[0]], data.text_column, data.max_train_samples)
        validation = _Texts(splits[wanted[1]], data.text_column, limit)
        # Not the whole text, which may be gigabytes: how much there is, and some of it.
        known = [[len(splits[split]), *islice(texts, TEXTS_AT_A_TIME)]
                 for split, texts in zip(wanted, (train, validation), strict=True)]  # fmt: skip
        return train, validation, known
    if data.train_file:
        files = (data.train_file, data.validation_file)
        lines, held_out = (_lines(Path(name), data.text_column) if name else [] for name in files)
    else:
        lines = [english for _, english in sentence_pairs(max(1000, tokens // 5), seed=0)]
        held_out = [english for _, english in sentence_pairs(limit, seed=1)]
    lines, held_out = hold_out(lines, held_out, limit)
    lines = lines[: data.max_train_samples]
    return lines, held_out, [lines, held_out]
