"""Texts with a label: from GLUE or another dataset of the Hub, or from local files."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from hf_radam.errors import UserError
from hf_radam.examples.text import Rows, TextData, argument, cell, read_rows

REGRESSION = ("pearson", "spearman")
"""Metrics of labels that are numbers."""
PAIR = "sentence1,sentence2"
# Columns and metric of the tasks of GLUE (Wang et al., arXiv 1804.07461); the labels of its test splits are secret.
GLUE: Mapping[str | None, tuple[str, Any]] = {
    "cola": ("sentence", "matthews_correlation"), "sst2": ("sentence", "accuracy"), "mrpc": (PAIR, "f1"),
    "qqp": ("question1,question2", "f1"), "stsb": (PAIR, "pearson"), "mnli": ("premise,hypothesis", "accuracy"),
    "qnli": ("question,sentence", "accuracy"), "rte": (PAIR, "accuracy"), "wnli": (PAIR, "accuracy"),
}  # fmt: skip


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
    metric: Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"] | None = argument(
        None, "of classes, or pearson or spearman if the label is a number"
    )
    max_length: int = argument(128, "longest text in tokens; longer ones are cut")
    max_eval_samples: int | None = argument(None, "evaluate on only so many examples, drawn once for all runs")

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.dataset_name) == bool(self.train_file):
            raise UserError(
                'data: give either dataset_name (a Hub dataset) or train_file (a local file), and set the other to ""'
            )
        if not 1 <= len(self.text_columns) <= 2:
            raise UserError(f"data: text_column must name one or two columns, got {self.text_column!r}")

    @property
    def _glue(self) -> tuple[str, Any]:
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


def load_examples(data: ClassificationData) -> tuple[Dataset, Dataset, list[str]]:
    """Training and evaluation examples with their labels, and the names of the classes that these number, if any.

    Raises:
        UserError: files that are empty or damaged; columns that are not there; empty texts; labels that are
            missing, no numbers, or not among those of the training examples.
    """
    names: list[str] = []
    if data.dataset_name:
        held_out = "validation_matched" if data._glue == GLUE["mnli"] else "validation"
        splits = data.load([data.train_split, data.validation_split or held_out])
        names = getattr(splits[0].features.get(data.label_column), "names", None) or []
        rows = [data.rows(split) for split in splits]
    else:
        header = not all(column.isdecimal() for column in (*data.text_columns, data.label_column))
        rows = [read_rows(Path(name), header) if name else {} for name in (data.train_file, data.validation_file)]
    numbers = {str(number): number for number in range(len(names))}  # classes of the Hub have numbers already
    if data.chosen_metric in REGRESSION:
        names, numbers = [], {}
    elif not names:
        names = sorted({_name(cell(*row, data.label_column)) for row in rows[0].items()})
        with suppress(ValueError):
            names.sort(key=_number)
        if len(names) < 2:
            raise UserError(f"data: all training examples have the label {names[0]!r}; at least two are needed")
        numbers = {name: number for number, name in enumerate(names)}
    if data.positive_label is not None and (data.positive_label not in names or len(names) != 2):
        raise UserError(f"data: positive_label must be one of two labels, got {data.positive_label!r} of {names}")
    train, validation = (_examples(part, numbers, data) for part in rows)
    order = random.Random(0).sample(range(len(train)), len(train))
    if not len(validation):
        held_out = max(1, len(train) // 10)
        validation, order = train.select(order[:held_out]), order[held_out:]
    if (data.max_eval_samples or len(validation)) < len(validation):
        drawn = random.Random(1).sample(range(len(validation)), data.max_eval_samples or 0)
        validation = validation.select(sorted(drawn))
    return train.select(order[: data.max_train_samples]), validation, names


def _number(label: Any) -> float:
    if not math.isfinite(number := float(label)):
        raise ValueError(number)
    return number


def _name(label: Any) -> str:
    """A label as text: 1, 1.0, "1" and " 1" are one."""
    try:
        return str(label) if isinstance(label, bool) else f"{_number(label):.15g}"
    except ValueError:
        return str(label).strip()


def _examples(rows: Rows, numbers: Mapping[str, int], data: ClassificationData) -> Dataset:
    labels: list[float] = []
    for where, row in rows.items():
        label = cell(where, row, data.label_column)
        try:
            labels.append(numbers[_name(label)] if numbers else _number(label))
        except (KeyError, ValueError):
            rule = f"is none of {', '.join(numbers)}" if numbers else f"is no number, which {data.chosen_metric} needs"
            raise UserError(
                f"{where}: label {str(label)!r} {rule}; mend the file, or choose another split or metric"
            ) from None
    columns = dict(zip(("text", "text_pair"), data.text_columns, strict=False))
    texts = {name: [str(cell(*row, column)) for row in rows.items()] for name, column in columns.items()}
    return Dataset.from_dict({**texts, "labels": labels})
