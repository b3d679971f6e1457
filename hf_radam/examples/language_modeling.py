"""Trains a causal language model on the built-in grammar or on running text, and measures its perplexity.

python scripts/language_modeling.py --optim radam --output_dir out
python scripts/language_modeling.py --optim radam --output_dir out --name_or_path gpt2 --train_file text.txt
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Sequence, Value
from scipy.stats import entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, default_data_collator, set_seed

from hf_radam.errors import UserError
from hf_radam.examples.grammar import sentence_pairs
from hf_radam.examples.pretrained import ModelChoice
from hf_radam.examples.text import (
    IGNORED,
    TextData,
    argument,
    hold_out,
    own_tokenizer,
    read_texts,
    token_means,
    token_sums,
)
from hf_radam.experiments.schema import check_least
from hf_radam.training.trainer import RAdamTrainer, RAdamTrainingArguments

TEXTS_FOR_VOCABULARY = 500_000
GRAMMAR_BLOCKS = 4000
"""Drawn from the grammar where nothing says how many are needed."""
# What is trained where neither a checkpoint nor an architecture is named.
SMALL = {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 256, "num_hidden_layers": 4, "num_attention_heads": 4}


@dataclass(frozen=True, kw_only=True)
class LanguageModelingData(TextData):
    """Where the text comes from: a Hub dataset, else local files, else the English of the built-in grammar.

    Of the training text, no more is read than the updates need.
    """

    text_column: str = argument("text", "column of a table's text; a file of another kind is text, a paragraph a line")
    tokenizer_name: str | None = argument(None, "tokenizer on the Hub, or its folder; else the checkpoint's")
    block_size: int = argument(128, "tokens of a training example")
    max_eval_samples: int = argument(500, "use only the first so many validation texts")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 2, "block_size", where="data")


ARGUMENTS = (LanguageModelingData, ModelChoice, RAdamTrainingArguments)


def main(argv: list[str] | None = None) -> None:
    """Train and evaluate; see `--help`.

    Raises:
        UserError: bad options; text that is missing, unreadable or too short; a checkpoint that does not fit.
    """
    parser = HfArgumentParser(ARGUMENTS, allow_abbrev=False)  # pyright: ignore[reportArgumentType]
    parser.set_defaults(learning_rate=1e-3, logging_steps=50)
    data, choice, args = parser.parse_args_into_dataclasses(argv)
    if not (choice.name_or_path or choice.model_type):
        choice = replace(choice, model_type="opt", config={**SMALL, **choice.settings})
    with args.main_process_first():
        train, validation = load_texts(data)
        if name := data.tokenizer_name or choice.name_or_path:
            revision = choice.revision if name == choice.name_or_path else None
            tokenizer: Any = AutoTokenizer.from_pretrained(name, revision=revision)
        else:
            texts = [text for text in train[:TEXTS_FOR_VOCABULARY][data.text_column] if text and not text.isspace()]
            tokenizer = own_tokenizer(texts, data.vocab_size, data.cache(args))
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end-of-text token; choose another with data: tokenizer_name")
        kind = Sequence(Value("int32"))
        kept = partial(Dataset.from_generator, blocks, Features(input_ids=kind, labels=kind), str(data.cache(args)))
        given = {"tokenizer": tokenizer, "size": data.block_size}
        train_dataset: Any = kept(gen_kwargs={"texts": train, "count": data.needed_examples, **given})
        eval_dataset: Any = kept(gen_kwargs={"texts": validation, **given})
    train_dataset = train_dataset.select(range(data.whole_batches(args, len(train_dataset))))
    if not len(eval_dataset):
        raise UserError(f"data: no block of {data.block_size} tokens for validation; give more text")
    set_seed(args.seed)
    model = choice.build(AutoModelForCausalLM, tokenizer, is_decoder=True)
    if model.get_input_embeddings().num_embeddings < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer))
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and longest < data.block_size:
        raise UserError(f"data: block_size {data.block_size} is more than the model's {longest} positions; lower it")
    trainer = RAdamTrainer(
        model,
        args,
        data_collator=default_data_collator,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        preprocess_logits_for_metrics=next_token_sums,
        compute_metrics=perplexity,
    )
    parts: Any = train_dataset.with_format("numpy").iter(10_000)
    counts = sum(np.bincount(part["input_ids"][:, 1:].ravel(), minlength=len(tokenizer)) for part in parts)
    facts = {"metric": "perplexity", "loss_unit": "nats a token", "unigram_entropy": float(entropy(counts))}
    trainer.save_metrics("data", facts, combined=False)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.log_metrics("eval", trainer.evaluate())
    trainer.save_model()


def load_texts(data: LanguageModelingData) -> tuple[Dataset, Dataset]:
    """Training and validation texts, in one column.

    Raises:
        UserError: text that is unreadable or too short, or not in the column that is named.
    """
    limit, most = data.max_eval_samples, data.max_train_samples
    if data.dataset_name:
        splits = data.load([data.train_split, data.validation_split])
        train, validation = (split.select_columns(data.text_column) for split in splits)
        return train.take(min(most or len(train), len(train))), validation.take(min(limit, len(validation)))
    if data.train_file:
        files = (data.train_file, data.validation_file)
        lines, held_out = (read_texts(Path(name), data.text_column) if name else [] for name in files)
    else:
        tokens = (data.needed_examples or GRAMMAR_BLOCKS) * data.block_size
        lines = [english for _, english in sentence_pairs(max(1000, tokens // 5), seed=0)]
        held_out = [english for _, english in sentence_pairs(limit, seed=1)]
    lines, held_out = hold_out(lines, held_out, limit)
    return Dataset.from_dict({data.text_column: lines[:most]}), Dataset.from_dict({data.text_column: held_out})


def blocks(texts: Dataset, tokenizer: Any, size: int, count: int | None = None) -> Iterator[dict[str, list[int]]]:
    """Blocks of tokens, so many or all; each begins with the last of the one before, so that all are predicted once."""
    column, tokens, made = texts.column_names[0], [], 0
    parts: Any = texts.iter(1000)
    for part in parts:
        if some := [text for text in part[column] if text and not text.isspace()]:
            for ids in tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]:
                tokens += [*ids, tokenizer.eos_token_id]
        for start in range(0, len(tokens) - size + 1, size - 1):
            if made == count:
                return
            made += 1
            block = tokens[start : start + size]
            yield {"input_ids": block, "labels": [IGNORED, *block[1:]]}
        del tokens[: max(0, len(tokens) - 1) // (size - 1) * (size - 1)]


def next_token_sums(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Sums over each block; see `token_sums`."""
    logits = logits[0] if isinstance(logits, tuple) else logits
    return token_sums(logits[:, :-1], labels[:, 1:])


def perplexity(prediction: Any) -> dict[str, float]:
    """Averages over tokens, and the perplexity."""
    means = token_means(prediction)
    return {**means, "perplexity": math.exp(means["loss"]) if means["loss"] < 700 else math.inf}


if __name__ == "__main__":
    main()
