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
from scipy import stats
from sklearn import metrics
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    HfArgumentParser,
    set_seed,
)

from hf_radam.examples.labelled_text import REGRESSION, ClassificationData, load_examples
from hf_radam.examples.pretrained import ModelChoice
from hf_radam.examples.text import own_tokenizer
from hf_radam.training.trainer import RAdamTrainer, RAdamTrainingArguments

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
        data_collator=DataCollatorWithPadding(tokenizer),
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
