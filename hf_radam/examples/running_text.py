"""Running text: from the built-in grammar, from local files, or from the Hub; as blocks of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hf_radam.errors import UserError
from hf_radam.examples.grammar import sentence_pairs
from hf_radam.examples.text import TABLES, TextData, argument, hold_out, kind_of, read_lines, table_rows
from hf_radam.experiments.schema import check_least
from hf_radam.files import whole

TEXTS_AT_A_TIME = 1000
GRAMMAR_BLOCKS = 4000
"""Drawn from the grammar where nothing says how many are needed."""


@dataclass(frozen=True, kw_only=True)
class LanguageModelingData(TextData):
    """Where the text comes from: a Hub dataset, else local files, else the English of the built-in grammar.

    Of the training text, no more is read than the updates need.
    """

    train_split: str = argument("train", "part of the dataset for training")
    validation_split: str = argument("validation", "its part for evaluation")
    text_column: str = argument("text", "its column of text, or that of a table")
    train_file: str | None = argument(
        None, "local text, a paragraph a line, or a .csv, .tsv, .json or .jsonl; plain or .gz"
    )
    validation_file: str | None = argument(None, "likewise; else the last training texts are held out")
    tokenizer_name: str | None = argument(None, "tokenizer on the Hub, or its folder; else the checkpoint's")
    block_size: int = argument(128, "tokens of a training example")
    max_eval_samples: int = argument(500, "use only the first so many validation texts")

    def __post_init__(self) -> None:
        if self.dataset_name and self.train_file:
            raise UserError("data: dataset_name and train_file exclude each other; set all but one to ''")
        if self.validation_file and not self.train_file:
            raise UserError("data: validation_file without train_file; give both")
        self.check("max_eval_samples")
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


def load_tokens(texts: Iterable[str], tokenizer: Any, needed: int | None, path: Path) -> np.ndarray:
    """The tokens of the texts, each text with an end: as many as needed, or all; kept in a file."""
    if not path.is_file():
        parts: list[np.ndarray] = []
        iterator, count = iter(texts), 0
        while (needed is None or count < needed) and (some := [*islice(iterator, TEXTS_AT_A_TIME)]):
            for ids in tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]:
                parts.append(np.array([*ids, tokenizer.eos_token_id], dtype=np.int32))
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


def load_texts(data: LanguageModelingData) -> tuple[Iterable[str], Iterable[str], Any]:
    """Training texts, validation texts, and what tells them from others.

    Raises:
        UserError: text that is missing, unreadable or too short, or not in the column that is named.
    """
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
        tokens = (data.needed_examples or GRAMMAR_BLOCKS) * data.block_size
        lines = [english for _, english in sentence_pairs(max(1000, tokens // 5), seed=0)]
        held_out = [english for _, english in sentence_pairs(limit, seed=1)]
    lines, held_out = hold_out(lines, held_out, limit)
    lines = lines[: data.max_train_samples]
    return lines, held_out, [lines, held_out]
