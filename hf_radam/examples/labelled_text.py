"""Texts with a label: from GLUE or another dataset of the Hub, or from local files."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_radam.examples.text import Row, TextData, argument, table_rows
from hf_radam.experiments.schema import UserError, shown

REGRESSION = ("pearson", "spearman")
"""Metrics of tasks whose label is a number."""
COUNTED = ("accuracy", "f1", "matthews_correlation")
"""Metrics of tasks whose label is one of a few."""


# Columns and metric of the tasks of GLUE (Wang et al., arXiv 1804.07461); the labels of its test splits are secret.
GLUE: Mapping[str | None, tuple[str, str]] = {
    "cola": ("sentence", "matthews_correlation"),
    "sst2": ("sentence", "accuracy"),
    "mrpc": ("sentence1,sentence2", "f1"),
    "qqp": ("question1,question2", "f1"),
    "stsb": ("sentence1,sentence2", "pearson"),
    "mnli": ("premise,hypothesis", "accuracy"),
    "qnli": ("question,sentence", "accuracy"),
    "rte": ("sentence1,sentence2", "accuracy"),
    "wnli": ("sentence1,sentence2", "accuracy"),
}


@dataclass(frozen=True, kw_only=True)
class ClassificationData(TextData):
    """Where the examples come from: a Hub dataset, or local files.

    For nyu-mll/glue the columns, the metric and the validation split follow from the configuration.
    """

    train_split: str = argument("train", "part of the dataset for training")
    validation_split: str | None = argument(None, "its part for evaluation; else validation")
    train_file: str | None = argument(None, "local .csv, .tsv, .json (a list) or .jsonl, plain or .gz")
    validation_file: str | None = argument(None, "likewise; else a tenth of the training examples is held out")
    text_column: str | None = argument(
        None, "column of the text, or two with a comma between; numbers from 1 for a file without a header"
    )
    label_column: str = argument("label", "column of the label")
    positive_label: str | None = argument(None, "of two labels the one whose F1 is measured; else the second")
    metric: str | None = argument(
        None, "accuracy, f1 or matthews_correlation; pearson or spearman if the label is a number"
    )
    max_length: int = argument(128, "longest text in tokens; longer ones are cut")
    max_eval_samples: int | None = argument(None, "evaluate on only so many examples, drawn once for all runs")

    def __post_init__(self) -> None:
        if bool(self.dataset_name) == bool(self.train_file):
            raise UserError(
                'data: give either dataset_name (a Hub dataset) or train_file (a local file), and set the other to ""'
            )
        if self.metric is not None and self.metric not in (*COUNTED, *REGRESSION):
            raise UserError(f"data: metric must be one of {', '.join((*COUNTED, *REGRESSION))}, got {self.metric!r}")
        self.check("max_length", "max_eval_samples")
        if not 1 <= len(self.text_columns) <= 2:
            raise UserError(f"data: text_column must name one or two columns, got {self.text_column!r}")

    @property
    def _glue(self) -> tuple[str, str]:
        is_glue = str(self.dataset_name).rsplit("/", 1)[-1] == "glue"
        return GLUE.get(self.dataset_config_name if is_glue else None, ("text", "accuracy"))

    @property
    def text_columns(self) -> list[str]:
        """The one or two columns of the text."""
        return [name.strip() for name in (self.text_column or self._glue[0]).split(",") if name.strip()]

    @property
    def chosen_metric(self) -> str:
        """The metric, a key of `METRICS`."""
        return self.metric or self._glue[1]

    @property
    def splits(self) -> tuple[str, str]:
        """The parts of a Hub dataset for training and evaluation."""
        is_mnli = self._glue == GLUE["mnli"]
        return self.train_split, self.validation_split or ("validation_matched" if is_mnli else "validation")


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
        header = not all(column.isdecimal() for column in (*data.text_columns, data.label_column))
        files = (data.train_file, data.validation_file)
        train, validation = (table_rows(Path(name), header) if name else [] for name in files)
    keys: list[Any] = [*map(float, range(len(names)))]
    for row in (*train, *validation):
        _check_row(row, data)
    if data.chosen_metric in REGRESSION:
        names = keys = []
    elif not names:
        found = {_class(row.values[data.label_column]) for row in train}
        keys = sorted(found if all(isinstance(key, float) for key in found) else {*map(_name, found)})
        names = [_name(key) for key in keys]
        if len(names) < 2:
            raise UserError(f"data: all training examples have the label {names[0]!r}; at least two are needed")
    if data.positive_label is not None and (data.positive_label not in names or len(names) != 2):
        raise UserError(f"data: positive_label must be one of two labels, got {data.positive_label!r} of {names}")
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
        if value is None or value != value or not str(value).strip():
            raise UserError(f"{row.where}: column {column!r} is empty; remove the row")
        if not isinstance(value, (str, int, float)):
            raise UserError(f"{row.where}: column {column!r} must be text or a number, got {shown(value)}")


def _class(label: Any) -> float | str:
    """A label as it is compared with others: 1, 1.0, "1" and " 1" are one."""
    text = str(label).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _name(label: float | str) -> str:
    return label if isinstance(label, str) else f"{label:.15g}"


def _examples(rows: list[Row], keys: list[Any], data: ClassificationData) -> Examples:
    numbers = {key: number for number, key in enumerate(keys)}
    labels: list[float] = []
    for where, values in rows:
        label = values[data.label_column]
        try:
            found = _class(label)
            labels.append(numbers[found if found in numbers else _name(found)] if keys else _finite(label))
        except KeyError:
            raise UserError(
                f"{where}: label {str(label)!r} is none of {', '.join(map(_name, keys))}; choose a split that "
                "has labels, or mend the file"
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
