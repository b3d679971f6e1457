"""Classifies texts or pairs of texts, or gives each a number: fine-tunes an encoder, and measures it as GLUE does.

python scripts/classification.py --optim radam --output_dir out --name_or_path microsoft/MiniLM-L12-H384-uncased \
    --dataset_name nyu-mll/glue --dataset_config_name rte
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from scipy import stats
from sklearn import metrics
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer, HfArgumentParser, set_seed

from hf_radam.errors import UserError
from hf_radam.examples.pretrained import ModelChoice
from hf_radam.examples.text import TextData, argument, own_tokenizer, read_rows, texts_of
from hf_radam.training.trainer import RAdamTrainer, RAdamTrainingArguments

REGRESSION = ("pearson", "spearman")
"""Metrics of labels that are numbers."""
PAIR = "sentence1,sentence2"
# Columns and metric of the tasks of GLUE (Wang et al., arXiv 1804.07461); the labels of its test splits are secret.
GLUE: Mapping[str | None, tuple[str, str]] = {
    "cola": ("sentence", "matthews_correlation"), "sst2": ("sentence", "accuracy"), "mrpc": (PAIR, "f1"),
    "qqp": ("question1,question2", "f1"), "stsb": (PAIR, "pearson"), "mnli": ("premise,hypothesis", "accuracy"),
    "qnli": ("question,sentence", "accuracy"), "rte": (PAIR, "accuracy"), "wnli": (PAIR, "accuracy"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClassificationData(TextData):
    """What the examples are; for nyu-mll/glue the columns and the metric follow from the configuration."""

    text_column: str | None = argument(None, "column of the text, or two: a,b; numbers from 1 where there is no header")
    label_column: str = argument("label", "column of the label")
    positive_label: str | None = argument(None, "of two labels the one whose F1 is measured; else the second")
    metric: Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"] | None = argument(
        None, "of classes, or pearson or spearman if the label is a number"
    )
    max_length: int = argument(128, "longest text in tokens; longer ones are cut")
    max_eval_samples: int | None = argument(None, "evaluate on only so many examples, drawn once for all runs")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dataset_name and not self.train_file:
            raise UserError("data: give either dataset_name (a Hub dataset) or train_file (a local file)")
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


ARGUMENTS = (ClassificationData, ModelChoice, RAdamTrainingArguments)


def main(argv: list[str] | None = None) -> None:
    """Train and evaluate; see `--help`.

    Raises:
        UserError: bad options; data that are missing, unreadable or of another form; a checkpoint that does not fit.
    """
    parser = HfArgumentParser(ARGUMENTS, allow_abbrev=False)  # pyright: ignore[reportArgumentType]
    data, choice, args = parser.parse_args_into_dataclasses(argv)
    regression = data.chosen_metric in REGRESSION
    if regression:
        args.label_smoothing_factor = 0.0  # it is for classes
    with args.main_process_first():
        train, validation, names = load_examples(data)
        train = train.select(range(data.whole_batches(args, len(train))))
        if choice.name_or_path:
            tokenizer: Any = AutoTokenizer.from_pretrained(choice.name_or_path, revision=choice.revision)
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and its like have no other
        else:
            texts = [text for column in train.column_names[:-1] for text in train[column]]
            tokenizer = own_tokenizer(texts, data.vocab_size, data.cache(args))
    of_classes = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    labels = {"num_labels": 1, "problem_type": "regression"} if regression else of_classes
    set_seed(args.seed)
    model = choice.build(AutoModelForSequenceClassification, tokenizer, new_head=True, **labels)
    model.config.pad_token_id = tokenizer.pad_token_id
    positive = data.positive_label or names[1] if data.chosen_metric == "f1" and len(names) == 2 else None

    def encode(part: Any) -> Any:
        return tokenizer(part["text"], part.get("text_pair"), truncation=True, max_length=data.max_length)

    trainer = RAdamTrainer(
        model,
        args,
        train_dataset=train.map(encode, batched=True),
        eval_dataset=validation.map(encode, batched=True),
        processing_class=tokenizer,
        preprocess_logits_for_metrics=losses_and_predictions,
        compute_metrics=partial(scores, names=names, positive=positive),
    )
    majority = np.full(len(validation), Counter(train["labels"]).most_common(1)[0][0])
    constant = score(majority, np.array(validation["labels"]), names, positive)[data.chosen_metric]
    unit = "squared error" if regression else "nats an example"
    facts = {"metric": data.chosen_metric, "loss_unit": unit, "majority_class": constant, "positive_label": positive}
    trainer.save_metrics("data", facts, combined=False)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.log_metrics("eval", trainer.evaluate())
    trainer.save_model()


def load_examples(data: ClassificationData) -> tuple[Dataset, Dataset, list[str]]:
    """Training and evaluation examples with their labels, and the names of the classes that these number, if any.

    Raises:
        UserError: files that are empty or damaged; columns that are not there; empty texts; labels that are
            missing, no numbers, or not among those of the training examples.
    """
    columns, names = [data.label_column, *data.text_columns], []
    if len({*columns}) < len(columns):
        raise UserError(f"data: text_column and label_column must name different columns, got {', '.join(columns)}")
    if data.dataset_name:
        splits = data.load([data.train_split, data.validation_split])
        names = getattr(splits[0].features.get(data.label_column), "names", None) or []
        train, *others = (texts_of(data.rows(split), columns) for split in splits)
    else:
        header = not all(column.isdecimal() for column in columns)
        files = filter(None, (data.train_file, data.validation_file))
        train, *others = (texts_of(read_rows(Path(name), header), columns) for name in files)
    numbers = {str(number): number for number in range(len(names))}  # classes of the Hub have numbers already
    if data.chosen_metric in REGRESSION:
        names, numbers = [], {}
    elif not names:
        found = {class_name(label) for label in train[data.label_column]}
        names = sorted(found, key=lambda name: (number_in(name), name))
        if len(names) < 2:
            raise UserError(f"data: all training examples have the label {names[0]!r}; at least two are needed")
        numbers = {name: number for number, name in enumerate(names)}
    if data.positive_label is not None and (data.positive_label not in names or len(names) != 2):
        raise UserError(f"data: positive_label must be one of two labels, got {data.positive_label!r} of {names}")
    examples, *others = (numbered(table, numbers, data) for table in (train, *others))
    order = random.Random(0).sample(range(len(examples)), len(examples))
    held_out = 0 if others else max(1, len(examples) // 10)
    validation = others[0] if others else examples.select(order[:held_out])
    most = min(data.max_eval_samples or len(validation), len(validation))
    drawn = random.Random(1).sample(range(len(validation)), most)
    return examples.select(order[held_out:][: data.max_train_samples]), validation.select(sorted(drawn)), names


def number_in(label: str) -> float:
    """A label as a number; infinity if it is none."""
    with suppress(ValueError):
        if math.isfinite(number := float(label)):
            return number
    return math.inf


def class_name(label: str) -> str:
    """A label, such that 1, 1.0 and " 1" are one."""
    number = number_in(label)
    return label.strip() if math.isinf(number) else f"{number:.15g}"


def numbered(table: pd.DataFrame, numbers: Mapping[str, int], data: ClassificationData) -> Dataset:
    """The texts of a table with their labels: numbers, or those of the classes if there are any."""
    labels: list[float] = []
    for where, label in table[data.label_column].items():
        labels.append(numbers.get(class_name(label), math.inf) if numbers else number_in(label))
        if math.isinf(labels[-1]):
            rule = f"is none of {', '.join(numbers)}" if numbers else f"is no number, which {data.chosen_metric} needs"
            raise UserError(f"{where}: label {label!r} {rule}; mend the file, or choose another split or metric")
    texts = dict(zip(("text", "text_pair"), (table[name].tolist() for name in data.text_columns), strict=False))
    return Dataset.from_dict({**texts, "labels": labels})


def losses_and_predictions(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Loss and prediction of each example; shape (batch, 2)."""
    logits = (logits[0] if isinstance(logits, tuple) else logits).float()
    if labels.is_floating_point():
        return torch.stack([(logits[:, 0] - labels).square(), logits[:, 0]], dim=-1)
    nll = functional.cross_entropy(logits, labels, reduction="none")
    return torch.stack([nll, logits.argmax(-1).float()], dim=-1)


def scores(prediction: Any, names: Sequence[str], positive: str | None) -> dict[str, float]:
    """Mean loss without label smoothing, and the metrics of GLUE."""
    nll, predicted = prediction.predictions.astype("float64").T
    return {"loss": float(nll.mean()), **score(predicted, prediction.label_ids, names, positive)}


def score(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str], positive: str | None) -> dict[str, float]:
    """The metrics of GLUE: of classes by their numbers, or of numbers if there are no names of classes."""
    if not names:
        if not np.isfinite(predicted).all() or not np.ptp(predicted) or not np.ptp(labels):
            return dict.fromkeys(REGRESSION, 0.0)  # what does not vary correlates with nothing
        of: Any = stats
        return {name: float(getattr(of, f"{name}r")(predicted, labels).statistic) for name in REGRESSION}
    predicted, labels = predicted.astype(int), labels.astype(int)
    average = "binary" if len(names) == 2 else "macro"
    options: Any = {"pos_label": names.index(positive or names[1]), "average": average, "zero_division": 0}
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "f1": float(metrics.f1_score(labels, predicted, **options)),
        "matthews_correlation": float(metrics.matthews_corrcoef(labels, predicted)),
    }


if __name__ == "__main__":
    main()
