"""Classifies texts or pairs of texts, or gives each a number: fine-tunes an encoder, and measures it as GLUE does.

python scripts/classification.py --optim radam --output_dir out --name_or_path microsoft/MiniLM-L12-H384-uncased \
    --dataset_name nyu-mll/glue --dataset_config_name rte
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy import stats
from sklearn import metrics
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, HfArgumentParser, set_seed

from hf_radam.examples.labelled_text import REGRESSION, ClassificationData, Examples, load_examples
from hf_radam.examples.pretrained import ModelChoice
from hf_radam.examples.text import digest, own_tokenizer, whole_batches
from hf_radam.training.trainer import RAdamTrainer, RAdamTrainingArguments

ARGUMENTS = (ClassificationData, ModelChoice, RAdamTrainingArguments)
IGNORED = -100


def main(argv: list[str] | None = None) -> None:
    """Train and evaluate; see `--help`.

    Raises:
        UserError: bad options; data that are missing, unreadable or of another form; a checkpoint that does not fit.
    """
    parser = HfArgumentParser(ARGUMENTS, allow_abbrev=False)  # pyright: ignore[reportArgumentType]
    data, choice, args = parser.parse_args_into_dataclasses(argv)
    data.split_batch(args)
    regression = data.chosen_metric in REGRESSION
    if regression:
        args.label_smoothing_factor = 0.0  # which is for classes
    with args.main_process_first():
        train, validation, names = load_examples(data)
        train = train.take(range(whole_batches(len(train), data.batch_size or 1)))
        if choice.name_or_path:
            tokenizer: Any = choice.tokenizer()
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and its like have no other
        else:
            texts = [text for column in train.texts for text in column]
            tokenizer = own_tokenizer(texts, digest(texts), data.vocab_size, data.cache(args))
    labels: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"} if regression else {
        "id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)},
    }  # fmt: skip
    set_seed(args.seed)
    model = choice.build(AutoModelForSequenceClassification, "sequence classification", tokenizer, **labels)
    positive = data.positive_label or names[1] if data.chosen_metric == "f1" and len(names) == 2 else None

    trainer = RAdamTrainer(
        model,
        args,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=tokenize(train, tokenizer, data.max_length, regression),
        eval_dataset=tokenize(validation, tokenizer, data.max_length, regression),
        processing_class=tokenizer,
        preprocess_logits_for_metrics=losses_and_predictions,
        compute_metrics=partial(scores, names=names, positive=positive),
    )
    majority = np.full(len(validation), Counter(train.labels).most_common(1)[0][0])
    found = score(majority, np.array(validation.labels), names, positive)
    facts = {
        "metric": data.chosen_metric,
        "loss_unit": "squared error" if regression else "nats an example",
        "majority_class": found[data.chosen_metric],
        "positive_label": positive,
    }
    trainer.save_metrics("data", facts, combined=False)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.log_metrics("eval", trainer.evaluate())
    trainer.save_model()


def tokenize(examples: Examples, tokenizer: Any, max_length: int, regression: bool) -> Dataset:
    """The examples as `input_ids`, what goes with them, and `labels`."""
    encoded = tokenizer(*examples.texts, truncation=True, max_length=max_length)
    kind = float if regression else int
    return Dataset.from_dict({**encoded, "labels": [kind(label) for label in examples.labels]})


def losses_and_predictions(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Loss and prediction of each example; shape (batch, 2)."""
    logits = (logits[0] if isinstance(logits, tuple) else logits).float()
    if labels.is_floating_point():
        return torch.stack([(logits[:, 0] - labels).square(), logits[:, 0]], dim=-1)
    nll = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return torch.stack([nll, logits.argmax(-1).float()], dim=-1)


def scores(prediction: Any, names: Sequence[str], positive: str | None = None) -> dict[str, float]:
    """Mean loss without label smoothing, and the metrics of GLUE."""
    real = prediction.label_ids != IGNORED
    nll, predicted = prediction.predictions[real].astype("float64").T
    return {"loss": float(nll.mean()), **score(predicted, prediction.label_ids[real], names, positive)}


def score(
    predicted: np.ndarray, labels: np.ndarray, names: Sequence[str], positive: str | None = None
) -> dict[str, float]:
    """The metrics of GLUE: of classes by their numbers, or of numbers if there are no names of classes."""
    if not names:
        if not np.isfinite(predicted).all() or not np.ptp(predicted) or not np.ptp(labels):
            return dict.fromkeys(REGRESSION, 0.0)  # what does not vary correlates with nothing
        correlations = (stats.pearsonr(predicted, labels), stats.spearmanr(predicted, labels))
        return {name: float(result.statistic) for name, result in zip(REGRESSION, correlations, strict=True)}  # pyright: ignore[reportAttributeAccessIssue]
    predicted, labels = predicted.astype(int), labels.astype(int)
    average: Any = "binary" if len(names) == 2 else "macro"
    zero: Any = 0  # where a label is never predicted
    number = names.index(positive or names[1])
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "f1": float(metrics.f1_score(labels, predicted, pos_label=number, average=average, zero_division=zero)),
        "matthews_correlation": float(metrics.matthews_corrcoef(labels, predicted)),
    }


if __name__ == "__main__":
    main()
