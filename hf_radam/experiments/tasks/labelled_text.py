"""Texts with a label: from GLUE or another dataset of the Hub, or from local files."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks.text import load_splits, read_text, require_column

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
class ClassificationData:
    """Where the examples come from: a Hub dataset, or local files."""

    dataset_name: str | None = None
    """Hub dataset; for nyu-mll/glue the columns, the metric and the validation split follow from the configuration."""
    dataset_config_name: str | None = None
    """Its configuration."""
    dataset_revision: str | None = None
    """Its branch, tag or commit."""
    train_split: str = "train"
    """Its part for training."""
    validation_split: str | None = None
    """Its part for evaluation; by default "validation"."""
    train_file: str | None = None
    """Local .csv, .tsv, .json (a list) or .jsonl, plain or .gz."""
    validation_file: str | None = None
    """Likewise; without it a tenth of the training examples is held out."""
    text_column: str | None = None
    """The column of the text, or two with a comma between; numbers from 1 for a file without a header."""
    label_column: str | None = None
    """The column of the label; by default "label"."""
    metric: str | None = None
    """accuracy, f1 or matthews_correlation; pearson or spearman if the label is a number. By default accuracy."""
    max_length: int = 128
    """Longest text in tokens; longer ones are cut."""
    max_train_samples: int | None = None
    """Use only so many training examples, drawn once for all runs."""
    max_eval_samples: int | None = None
    """Likewise for evaluation."""
    vocab_size: int = 4000
    """Size of the BPE vocabulary of a model from scratch."""

    def __post_init__(self) -> None:
        if bool(self.dataset_name) == bool(self.train_file):
            raise UserError(
                'data: give either dataset_name (a Hub dataset) or train_file (a local file), and set the other to ""'
            )
        if self.metric is not None and self.metric not in (*COUNTED, *REGRESSION):
            raise UserError(f"data: metric must be one of {', '.join((*COUNTED, *REGRESSION))}, got {self.metric!r}")
        for name in ("max_length", "max_train_samples", "max_eval_samples", "vocab_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"data: {name} must be >= 1, got {value}")
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
        metric = self.metric or (self._glue.metric if self._glue else "accuracy")
        assert metric in METRICS
        return metric

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


class _Row(NamedTuple):
    where: str
    texts: list[str]
    label: Any


def load_examples(data: ClassificationData) -> tuple[Examples, Examples, list[str]]:
    """Training examples, evaluation examples, and the names of the labels (none if the label is a number).

    Raises:
        UserError: files that are missing, empty or damaged; columns that are not there; empty texts; labels that are
            missing, no numbers, or not among those of the training examples.
    """
    names: list[str] = []
    if data.dataset_name:
        splits = load_splits(data.dataset_name, data.dataset_config_name, data.dataset_revision, data.splits)
        train, validation = ([*_rows_of_dataset(splits[split], split, data)] for split in data.splits)
        names = getattr(splits[data.splits[0]].features[data.label_column or "label"], "names", None) or []
        keys = [str(number) for number in range(len(names))]
    else:
        train = [*_rows_of_file(Path(str(data.train_file)), data)]
        validation = [*_rows_of_file(Path(data.validation_file), data)] if data.validation_file else []
        keys = []
    if data.chosen_metric in REGRESSION:
        names = keys = []
    elif not names:
        names = keys = sorted({str(row.label) for row in train}, key=lambda key: (not key.isdecimal(), len(key), key))
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


def _examples(rows: list[_Row], keys: list[str], data: ClassificationData) -> Examples:
    numbers = {key: number for number, key in enumerate(keys)}
    labels: list[float] = []
    for row in rows:
        for column, text in zip(data.text_columns, row.texts, strict=True):
            if not text.strip():
                raise UserError(f"{row.where}: the text in column {column!r} is empty; remove it from the data")
        try:
            labels.append(numbers[str(row.label)] if keys else _finite(row.label))
        except KeyError:
            raise UserError(
                f"{row.where}: label {str(row.label)!r} is none of {', '.join(keys)}; "
                "choose a split that has labels, or mend the file"
            ) from None
        except (TypeError, ValueError):
            raise UserError(
                f"{row.where}: label {row.label!r} is no finite number, which {data.chosen_metric} needs, "
                "or -100, which means that there is no label; mend the file or choose another metric"
            ) from None
    columns = [[row.texts[i] for row in rows] for i in range(len(data.text_columns))]
    return Examples(tuple(columns), labels)


def _finite(label: Any) -> float:
    if not math.isfinite(number := float(label)) or number == -100:  # which means "no label" to Transformers
        raise ValueError(number)
    return number


def _rows_of_dataset(dataset: Any, split: str, data: ClassificationData) -> Iterator[_Row]:
    label_column = data.label_column or "label"
    for column in (*data.text_columns, label_column):
        require_column(dataset, column, f"dataset {data.dataset_name!r}", "set text_column and label_column")
    for number, row in enumerate(dataset):
        texts = ["" if row[column] is None else str(row[column]) for column in data.text_columns]
        yield _Row(f"{data.dataset_name}, {split}[{number}]", texts, row[label_column])


def _rows_of_file(path: Path, data: ClassificationData) -> Iterator[_Row]:
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    wanted = [*data.text_columns, data.label_column or "label"]
    if kind in (".json", ".jsonl"):
        rows = _read_json(path)
        positions: list[Any] = wanted
    elif kind in (".csv", ".tsv"):
        text = io.StringIO(read_text(path), newline="")
        tab = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else {}
        try:
            rows = [(f"{path}, row {number}", row) for number, row in enumerate(csv.reader(text, **tab), 1) if row]
        except csv.Error as error:
            raise UserError(f"{path} is no {kind[1:].upper()}: {error}") from error
        if all(column.isdecimal() and int(column) for column in wanted):
            positions = [int(column) - 1 for column in wanted]
        else:
            header = rows.pop(0)[1]
            for column in wanted:
                if column not in header:
                    raise UserError(
                        f"{path} has no column {column!r}, only {', '.join(header)}; set text_column and label_column "
                        "(numbers from 1 if the file has no header)"
                    )
            positions = [header.index(column) for column in wanted]
    else:
        raise UserError(f"{path} must end in .csv, .tsv, .json or .jsonl, or one of these and .gz")
    if not rows:
        raise UserError(f"{path} holds no examples")
    for where, row in rows:
        try:
            *texts, label = (row[position] for position in positions)
        except (IndexError, KeyError):
            there = ", ".join(row) if isinstance(row, dict) else f"{len(row)} columns"
            raise UserError(
                f"{where} has only {there}, not {', '.join(wanted)}; set text_column and label_column, or mend the file"
            ) from None
        if label is None or label == "":
            raise UserError(f"{where}: the label is missing; remove the row")
        yield _Row(where, ["" if text is None else str(text) for text in texts], label)


def _read_json(path: Path) -> list[tuple[str, Any]]:
    text = read_text(path)
    try:
        if text.lstrip().startswith("["):
            rows = [(f"{path}, row {number}", row) for number, row in enumerate(json.loads(text), 1)]
        else:
            lines = enumerate(text.split("\n"), 1)
            rows = [(f"{path}, line {number}", json.loads(line)) for number, line in lines if line.strip()]
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no JSON, neither one list nor one object a line: {error}") from error
    for where, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{where} must be an object with the columns as keys, got {row!r}")
    return rows
