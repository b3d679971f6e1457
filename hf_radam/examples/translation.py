"""Trains a transformer from scratch to translate, on the built-in grammar or on parallel text, and measures its BLEU.

python scripts/translation.py --optim radam --output_dir out
torchrun --nproc_per_node 2 scripts/translation.py --optim radam --output_dir out --train_prefix text/train
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu
import torch
from datasets import Dataset
from safetensors.torch import load_file
from scipy.stats import entropy
from transformers import AutoConfig, AutoModelForSeq2SeqLM, DataCollatorForSeq2Seq, HfArgumentParser, set_seed
from transformers.trainer_pt_utils import LabelSmoother

from hf_radam.errors import UserError
from hf_radam.examples.parallel_text import Pair, TranslationData, load_pairs
from hf_radam.examples.text import argument, own_tokenizer, token_means, token_sums
from hf_radam.examples.token_batches import TranslationTrainer
from hf_radam.training.trainer import RAdamSeq2SeqTrainingArguments

# Sizes for the built-in grammar, where the command line names none.
GRAMMAR = {"d_model": 64, "dropout": 0.0, "encoder_layers": 4, "decoder_layers": 4,
           "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TranslationModel:
    """A Marian transformer, post-LN as in the paper; the fields are those of `MarianConfig`."""

    d_model: int = argument(512, "width")
    encoder_layers: int = argument(6, "layers")
    decoder_layers: int = argument(6, "layers")
    encoder_ffn_dim: int = argument(1024, "width within a layer")
    decoder_ffn_dim: int = argument(1024, "width within a layer")
    encoder_attention_heads: int = argument(4, "attention heads")
    decoder_attention_heads: int = argument(4, "attention heads")
    dropout: float = argument(0.3, "share of what layers give that is dropped")
    attention_dropout: float = argument(0.0, "likewise, of attention weights")
    activation_dropout: float = argument(0.0, "likewise, within a layer")
    activation_function: str = argument("relu", "within a layer")
    scale_embedding: bool = argument(True, "multiply embeddings by sqrt(d_model)")
    # Initial weights and all else are the same, since Transformers' Pegasus is Marian with pre-LN.
    normalize_before: bool = argument(False, "pre-LN: layer norms before each part, and one at the end")
    init_std: float | None = argument(None, "of the initial weights; else d_model**-0.5, as in fairseq")


ARGUMENTS = (TranslationData, TranslationModel, RAdamSeq2SeqTrainingArguments)


def main(argv: list[str] | None = None) -> None:
    """Train and evaluate; see `--help`.

    Raises:
        UserError: bad options; text that is missing, unreadable or too short.
    """
    parser = HfArgumentParser(ARGUMENTS, allow_abbrev=False)  # pyright: ignore[reportArgumentType]
    parser.set_defaults(learning_rate=1e-3, per_device_train_batch_size=32, logging_steps=50, **GRAMMAR)
    data, shape, args = parser.parse_args_into_dataclasses(argv)
    if data.tokens_per_batch and args.max_steps < 1:
        raise UserError("tokens_per_batch needs to know how many batches there shall be; give --max_steps")
    with args.main_process_first():
        train, validation, test = load_pairs(data)
        train = train[: data.whole_batches(args, len(train))]
        tokenizer = own_tokenizer([side for pair in train for side in pair], data.vocab_size, data.cache(args))
    train_dataset, eval_dataset, test_dataset = (tokenize(part, tokenizer, data) for part in (train, validation, test))
    set_seed(args.seed)
    model = build_model(shape, tokenizer, data.max_length)

    def mean_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Over the labels of the whole batch, of which this may be a part."""
        mean = LabelSmoother(args.label_smoothing_factor)(outputs, labels)
        return mean if num_items_in_batch is None else mean * (labels != -100).sum() / num_items_in_batch

    trainer = TranslationTrainer(
        model,
        args,
        compute_loss_func=mean_loss,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        preprocess_logits_for_metrics=token_sums,
        compute_metrics=token_means,
    )
    trainer.tokens_per_batch = data.tokens_per_batch
    counts = Counter(chain.from_iterable(train_dataset["labels"]))
    facts = {"metric": "bleu", "loss_unit": "nats a token", "unigram_entropy": float(entropy([*counts.values()]))}
    trainer.save_metrics("data", facts, combined=False)
    training = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.log_metrics("eval", trainer.evaluate())
    if data.average_checkpoints:
        average(trainer, data.average_checkpoints)
    if math.isfinite(training.training_loss):
        bleu = translate(trainer, test_dataset, [target for _, target in test], data)
        trainer.log_metrics("test", bleu)
        trainer.save_metrics("test", bleu, combined=False)
    trainer.save_model()


def translate(
    trainer: TranslationTrainer, dataset: Any, references: list[str], data: TranslationData
) -> dict[str, float]:
    """BLEU of what the model makes of the sources."""
    tokenizer: Any = trainer.processing_class

    def bleu(prediction: Any) -> dict[str, float]:
        tokens = np.where(prediction.predictions < 0, tokenizer.pad_token_id, prediction.predictions)
        # Several processes repeat the first ones to fill up the last batch.
        hypotheses = tokenizer.batch_decode(tokens, skip_special_tokens=True)[: len(references)]
        # force: no advice to detokenize the built-in corpus, which has its spaces by right.
        return {"bleu": sacrebleu.corpus_bleu(hypotheses, [references], force=True).score}

    args: Any = trainer.args
    args.predict_with_generate = True
    trainer.preprocess_logits_for_metrics, trainer.compute_metrics = None, bleu
    options: Any = {"num_beams": data.num_beams, "max_length": data.max_length + 1, "do_sample": False}
    return trainer.predict(dataset, **options).metrics or {}


@torch.no_grad()
def average(trainer: TranslationTrainer, count: int) -> None:
    """Give the model the mean of its weights and those of the checkpoints before, `count` in all."""
    state, model = trainer.state, trainer.accelerator.unwrap_model(trainer.model)
    every = int(state.save_steps)  # a float from the command line
    steps = range(state.max_steps - every, 0, -every)[: count - 1]
    folders = [Path(str(trainer.args.output_dir), f"checkpoint-{step}") for step in steps]
    earlier = [load_file(folder / "model.safetensors") for folder in folders]
    for name, p in model.named_parameters():
        if p.requires_grad:  # the positions' sines are saved nowhere
            p.copy_(torch.stack([p, *(weights[name].to(p.device) for weights in earlier)]).mean(0))


def build_model(shape: TranslationModel, tokenizer: Any, max_length: int) -> Any:
    """A new model, initialised from the global random state."""
    fields = asdict(shape)
    kind = "pegasus" if fields.pop("normalize_before") else "marian"
    fields["init_std"] = shape.init_std or shape.d_model**-0.5
    config = AutoConfig.for_model(
        kind,
        **fields,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
        decoder_start_token_id=tokenizer.pad_token_id,
        max_position_embeddings=max(512, max_length + 1),
    )
    return AutoModelForSeq2SeqLM.from_config(config)


def tokenize(pairs: list[Pair], tokenizer: Any, data: TranslationData) -> Dataset:
    """The pairs as `input_ids` and `labels`."""

    def encode(part: Any) -> Any:
        return tokenizer(part["source"], text_target=part["target"], truncation=True, max_length=data.max_length)

    sources, targets = zip(*pairs, strict=True)
    texts = Dataset.from_dict({"source": sources, "target": targets})
    return texts.map(encode, batched=True).select_columns(["input_ids", "labels"])


if __name__ == "__main__":
    main()
