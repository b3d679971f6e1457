"""Classification of texts or pairs of texts, or a number for each: fine-tuning an encoder, with GLUE's metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from hf_radam.experiments.comparison import Comparison
from hf_radam.experiments.schema import build
from hf_radam.experiments.tasks import Task
from hf_radam.experiments.tasks.labelled_text import REGRESSION, ClassificationData, Examples, load_examples
from hf_radam.experiments.tasks.pretrained import ModelChoice
from hf_radam.experiments.tasks.text import digest, own_tokenizer, whole_batches

IGNORED = -100


class ClassificationTask(Task):
    """Data, model and metrics of one comparison; see `tasks.Task`."""

    Data = ClassificationData

    def __init__(self, comparison: Comparison) -> None:
        self.data = build(ClassificationData, comparison.data, where="data")
        self.choice = build(ModelChoice, comparison.model, where="model")
        self.metric = self.data.chosen_metric
        self.regression = self.metric in REGRESSION
        self.loss_unit = "squared error" if self.regression else "nats an example"
        train, validation, self.names = load_examples(self.data)
        if self.metric == "f1" and len(self.names) == 2:
            self.positive_label = self.data.positive_label or self.names[1]
        self.fingerprint = digest(asdict(train), asdict(validation), self.names, self.choice.fingerprint())
        self._train = train.take(range(whole_batches(len(train), comparison.batch_size or 1)))
        self._validation = validation

    def prepare(self, cache_dir: Path) -> None:
        """Apply the checkpoint's tokenizer, or one trained on the text and kept in `cache_dir`."""
        train, validation = self._train, self._validation
        if self.choice.name_or_path:
            self.tokenizer: Any = self.choice.tokenizer()
            if self.tokenizer.pad_token is None:
                self.tokenizer.pad_token = self.tokenizer.eos_token  # GPT-2 and its like have no other
        else:
            texts = [text for column in train.texts for text in column]
            self.tokenizer = own_tokenizer(texts, digest(texts), self.data.vocab_size, cache_dir)
        self.train_dataset, self.eval_dataset = self._tokenize(train), self._tokenize(validation)
        self.lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        majority = Counter(train.labels).most_common(1)[0][0]
        constant, labels = np.full(len(validation), majority), np.array(validation.labels)
        self.facts = {"majority_class": self._scores(constant, labels)[self.metric]}

    def model(self, options: Mapping[str, Any]) -> Any:
        """The encoder with a new head, initialised from the global random state."""
        settings: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"} if self.regression else {
            "id2label": dict(enumerate(self.names)),
            "label2id": {name: number for number, name in enumerate(self.names)},
        }  # fmt: skip
        return build(ModelChoice, options, where="model").build(
            AutoModelForSequenceClassification, "sequence classification", self.tokenizer, **settings
        )

    def collator(self, model: Any) -> DataCollatorWithPadding:
        """Pads a batch to its longest text."""
        return DataCollatorWithPadding(self.tokenizer)

    def loss(self, outputs: Any, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        """Mean over the examples."""
        if self.regression:
            return functional.mse_loss(outputs["logits"][:, 0].float(), labels.float())
        return functional.cross_entropy(
            outputs["logits"].float(), labels, ignore_index=IGNORED, label_smoothing=label_smoothing
        )

    def preprocess_logits_for_metrics(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """Loss and prediction of each example; shape (batch, 2)."""
        logits = (logits[0] if isinstance(logits, tuple) else logits).float()
        if self.regression:
            return torch.stack([(logits[:, 0] - labels).square(), logits[:, 0]], dim=-1)
        nll = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
        return torch.stack([nll, logits.argmax(-1).float()], dim=-1)

    def compute_metrics(self, prediction: Any) -> dict[str, float]:
        """Mean loss, and the metrics of GLUE."""
        labels = prediction.label_ids
        nll, predicted = prediction.predictions[labels != IGNORED].astype("float64").T
        return {"nll": float(nll.mean()), **self._scores(predicted, labels[labels != IGNORED])}

    def _scores(self, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        from scipy import stats
        from sklearn import metrics

        if self.regression:
            if not np.isfinite(predicted).all() or not np.ptp(predicted) or not np.ptp(labels):
                return dict.fromkeys(REGRESSION, 0.0)  # what does not vary correlates with nothing
            correlations = (stats.pearsonr(predicted, labels), stats.spearmanr(predicted, labels))
            return {name: float(result.statistic) for name, result in zip(REGRESSION, correlations, strict=True)}  # pyright: ignore[reportAttributeAccessIssue]
        predicted, labels = predicted.astype(int), labels.astype(int)
        positive = self.names.index(self.positive_label or self.names[1])
        average: Any = "binary" if len(self.names) == 2 else "macro"
        zero: Any = 0  # where a label is never predicted
        return {
            "accuracy": float(metrics.accuracy_score(labels, predicted)),
            "f1": float(metrics.f1_score(labels, predicted, pos_label=positive, average=average, zero_division=zero)),
            "matthews_correlation": float(metrics.matthews_corrcoef(labels, predicted)),
        }

    def _tokenize(self, examples: Examples) -> Dataset:
        encoded = self.tokenizer(*examples.texts, truncation=True, max_length=self.data.max_length)
        kind = float if self.regression else int
        return Dataset.from_dict({**encoded, "labels": [kind(label) for label in examples.labels]})
