"""Texts with a label: from GLUE or another dataset of the Hub, or from local files."""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hf_radam.experiments.schema import UserError, check_least
from hf_radam.experiments.tasks.text import Row, TextData, json_rows, read_text

REGRESSION = ("pearson", "spearman")
"""Metrics of tasks whose label is a number."""
COUNTED = ("accuracy", "f1", "matthews_correlation")
"""Metrics of tasks whose label is one of a few."""


class _Glue(NamedTuple):
    text_column: str
    metric: str
    validation_split: str = "validation"


# Columns, metric and validation split of each task of GLUE (Wang et al., arXiv 1804.07461); the labels of its test
# splits are kept secret.
GLUE: Mapping[str, _Glue] = {
    "cola": _Glue("sentence", "matthews_correlation"),
    "sst2": _Glue("sentence", "accuracy"),
    "mrpc": _Glue("sentence1,sentence2", "f1"),
    "qqp": _Glue("question1,question2", "f1"),
    "stsb": _Glue("sentence1,sentence2", "pearson"),
    "mnli": _Glue("premise,hypothesis", "accuracy", "validation_matched"),
    "qnli": _Glue("question,sentence", "accuracy"),
    "rte": _Glue("sentence1,sentence2", "accuracy"),
    "wnli": _Glue("sentence1,sentence2", "accuracy"),
}


@dataclass(frozen=True, kw_only=True)
class ClassificationData(TextData):
    """Where the examples come from: a Hub dataset, or local files.

    For nyu-mll/glue the columns, the metric and the validation split follow from the configuration.
    """

    train_split: str = "train"
    """Its part for training."""
    validation_split: str | None = None
    """Its part for evaluation; by default "validation"."""
    train_file: str | None = None
    """Local .csv, .tsv, .json (a list) or .jsonl, plain or .gz."""
    validation_file: str | None = None
    """Likewise; without it a tenth of the training examples is held out."""
    text_column: str | None = None
    """The column of the text ("text"), or two with a comma between; numbers from 1 for a file without a header."""
    label_column: str = "label"
    """The column of the label."""
    metric: str | None = None
    """accuracy, f1 or matthews_correlation; pearson or spearman if the label is a number. By default accuracy."""
    max_length: int = 128
    """Longest text in tokens; longer ones are cut."""
    max_eval_samples: int | None = None
    """Use only so many examples for evaluation, drawn once for all runs, as those for training are."""

    def __post_init__(self) -> None:
        if bool(self.dataset_name) == bool(self.train_file):
            raise UserError(
                'data: give either dataset_name (a Hub dataset) or train_file (a local file), and set the other to ""'
            )
        if self.metric is not None and self.metric not in (*COUNTED, *REGRESSION):
            raise UserError(f"data: metric must be one of {', '.join((*COUNTED, *REGRESSION))}, got {self.metric!r}")
        check_least(self, 1, "max_length", "max_train_samples", "max_eval_samples", "vocab_size", where="data")
        if not 1 <= len(self.text_columns) <= 2:
            raise UserError(f"data: text_column must name one or two columns, got {self.text_column!r}")

    @property
    def _glue(self) -> _Glue | None:
        name = str(self.dataset_name).rsplit("/", 1)[-1]
        return GLUE.get(self.dataset_config_name or "") if name == "glue" else None

    @property
    def text_columns(self) -> list[str]:
        """The one or two columns of the text."""
        default = self._glue.text_column if self._glue else "text"
        return [column.strip() for column in (self.text_column or default).split(",") if column.strip()]

    @property
    def chosen_metric(self) -> str:
        """The metric, a key of `METRICS`."""
        return self.metric or (self._glue.metric if self._glue else "accuracy")

    @property
    def splits(self) -> tuple[str, str]:
        """The parts of a Hub dataset for training and evaluation."""
        default = self._glue.validation_split if self._glue else "validation"
        return self.train_split, self.validation_split or default


@dataclass(frozen=True)
class Examples:
    """Texts and their labels, as numbers from 0, or as they are if the label is a number."""

    texts: tuple[list[str], ...]
    """One list, or two of equal length for pairs."""
    labels: list[float]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Sequence[int]) -> Examples:
        """Some of the examples."""
        return Examples(
            tuple([texts[i] for i in positions] for texts in self.texts), [self.labels[i] for i in positions]
        )


def load_examples(data: ClassificationData) -> tuple[Examples, Examples, list[str]]:
    """Training examples, evaluation examples, and the names of the labels (none if the label is a number).

    Raises:
        UserError: files that are missing, empty or damaged; columns that are not there; empty texts; labels that are
            missing, no numbers, or not among those of the training examples.
    """
    names: list[str] = []
    if data.dataset_name:
        splits = data.load_splits(data.splits)
        train, validation = (data.rows(splits, split) for split in data.splits)
        feature = splits[data.splits[0]].features.get(data.label_column)
        names = getattr(feature, "names", None) or []
    else:
        train, validation = (_rows_of_file(Path(f), data) if f else [] for f in (data.train_file, data.validation_file))
    keys = [str(number) for number in range(len(names))]
    for row in (*train, *validation):
        _check_row(row, data)
    if data.chosen_metric in REGRESSION:
        names = keys = []
    elif not names:
        found = {str(row.values[data.label_column]) for row in train}
        names = keys = sorted(found, key=lambda key: (not key.isdecimal(), len(key), key))
        if len(names) < 2:
            raise UserError(f"data: all training examples have the label {names[0]!r}; at least two are needed")
    train, validation = _examples(train, keys, data), _examples(validation, keys, data)
    order = random.Random(0).sample(range(len(train)), len(train))
    if not validation:
        held_out = max(1, len(train) // 10)
        validation, order = train.take(order[:held_out]), order[held_out:]
    if data.max_eval_samples is not None and data.max_eval_samples < len(validation):
        validation = validation.take(sorted(random.Random(1).sample(range(len(validation)), data.max_eval_samples)))
    return train.take(order[: data.max_train_samples]), validation, names


def _check_row(row: Row, data: ClassificationData) -> None:
    """Refuse an example that lacks something."""
    for column in (*data.text_columns, data.label_column):
        if column not in row.values:
            raise UserError(
                f"{row.where} has no column {column!r}, only {', '.join(row.values)}; set text_column and "
                "label_column (numbers from 1 if the file has no header), or mend the row"
            )
        value = row.values[column]
        if value is None or not str(value).strip():
            raise UserError(f"{row.where}: column {column!r} is empty; remove the row")


def _examples(rows: list[Row], keys: list[str], data: ClassificationData) -> Examples:
    numbers = {key: number for number, key in enumerate(keys)}
    labels: list[float] = []
    for where, values in rows:
        label = values[data.label_column]
        try:
            labels.append(numbers[str(label)] if keys else _finite(label))
        except KeyError:
            raise UserError(
                f"{where}: label {str(label)!r} is none of {', '.join(keys)}; choose a split that has labels, or mend "
                "the file"
            ) from None
        except (TypeError, ValueError):
            raise UserError(
                f"{where}: label {label!r} is no finite number, which {data.chosen_metric} needs, or -100, which means "
                "that there is no label; mend the file or choose another metric"
            ) from None
    return Examples(tuple([str(row.values[column]) for row in rows] for column in data.text_columns), labels)


def _finite(label: Any) -> float:
    if not math.isfinite(number := float(label)) or number == -100:  # which means "no label" to Transformers
        raise ValueError(number)
    return number


def _rows_of_file(path: Path, data: ClassificationData) -> list[Row]:
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind in (".json", ".jsonl"):
        rows = [*json_rows(path)]
    elif kind in (".csv", ".tsv"):
        form = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else {}
        text = io.StringIO(read_text(path), newline="")
        try:
            table = [
                (f"{path}, row {number}", cells) for number, cells in enumerate(csv.reader(text, **form), 1) if cells
            ]
        except csv.Error as error:
            raise UserError(f"{path} is no {kind[1:].upper()}: {error}") from error
        if all(column.isdecimal() for column in (*data.text_columns, data.label_column)):
            rows = [Row(where, {str(i): cell for i, cell in enumerate(cells, 1)}) for where, cells in table]
        else:
            (_, header), *table = table
            rows = [Row(where, dict(zip(header, cells, strict=False))) for where, cells in table]
    else:
        raise UserError(f"{path} must end in .csv, .tsv, .json or .jsonl, or one of these and .gz")
    if not rows:
        raise UserError(f"{path} holds no examples")
    return rows
