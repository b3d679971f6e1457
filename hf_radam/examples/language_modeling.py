"""Trains a causal language model on the built-in grammar or on running text, and measures its perplexity.

python scripts/language_modeling.py --optim radam --output_dir out
python scripts/language_modeling.py --optim radam --output_dir out --name_or_path gpt2 --train_file text.txt
"""

from __future__ import annotations

import json
import math
import sys
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy.stats import entropy
from transformers import AutoModelForCausalLM, HfArgumentParser, default_data_collator, set_seed

from hf_radam.errors import UserError
from hf_radam.examples.pretrained import ModelChoice
from hf_radam.examples.running_text import Blocks, LanguageModelingData, load_texts, load_tokens
from hf_radam.examples.text import digest, own_tokenizer, token_means, token_sums, whole_batches
from hf_radam.training.trainer import RAdamTrainer, RAdamTrainingArguments

ARGUMENTS = (LanguageModelingData, ModelChoice, RAdamTrainingArguments)
TEXTS_FOR_VOCABULARY = 500_000
# What is trained where neither a checkpoint nor an architecture is named.
SMALL = {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 256, "num_hidden_layers": 4, "num_attention_heads": 4}


def main(argv: list[str] | None = None) -> None:
    """Train and evaluate; see `--help`.

    Raises:
        UserError: bad options; text that is missing, unreadable or too short; a checkpoint that does not fit.
    """
    parser = HfArgumentParser(ARGUMENTS, allow_abbrev=False)  # pyright: ignore[reportArgumentType]
    argv = sys.argv[1:] if argv is None else argv
    if not any(word.startswith(("--name_or_path", "--model_type")) for word in argv):
        argv = ["--model_type=opt", f"--config={json.dumps(SMALL)}", *argv]
    parser.set_defaults(learning_rate=1e-3, logging_steps=50)
    data, choice, args = parser.parse_args_into_dataclasses(argv)
    data.split_batch(args)
    with args.main_process_first():
        train, validation, text = load_texts(data)
        fingerprint = digest(text)
        if data.tokenizer_name or choice.name_or_path:
            tokenizer = choice.tokenizer(data.tokenizer_name)
        else:
            texts = [*islice(train, TEXTS_FOR_VOCABULARY)]
            tokenizer = own_tokenizer(texts, fingerprint, data.vocab_size, data.cache(args))
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end-of-text token; choose another with data: tokenizer_name")
        train_tokens, validation_tokens = tokens_of(train, validation, tokenizer, fingerprint, data, args)
    blocks = whole_batches(len(Blocks(train_tokens, data.block_size)), data.batch_size or 1)
    eval_dataset = Blocks(validation_tokens, data.block_size)
    if not len(eval_dataset):
        raise UserError(f"data: no block of {data.block_size} tokens for validation; give more text")
    set_seed(args.seed)
    model = build_model(choice, tokenizer, data)
    trainer = RAdamTrainer(
        model,
        args,
        data_collator=default_data_collator,
        train_dataset=Blocks(train_tokens[: blocks * (data.block_size - 1) + 1], data.block_size),
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        preprocess_logits_for_metrics=next_token_sums,
        compute_metrics=perplexity,
    )
    unigram = float(entropy(np.bincount(train_tokens)))
    facts = {"metric": "perplexity", "loss_unit": "nats a token", "unigram_entropy": unigram}
    trainer.save_metrics("data", facts, combined=False)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.log_metrics("eval", trainer.evaluate())
    trainer.save_model()


def tokens_of(
    train: Any, validation: Any, tokenizer: Any, fingerprint: str, data: LanguageModelingData, args: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of both texts; of the training text as many as are needed."""
    needed = data.needed_examples and data.needed_examples * (data.block_size - 1) + 1
    backend = getattr(tokenizer, "backend_tokenizer", None)  # tokenizers written in Python have none
    rules = backend.to_str() if backend else sorted(tokenizer.get_vocab().items())
    key = digest(fingerprint, rules, [data.max_train_samples, data.max_eval_samples], needed)[:8]
    folder = data.cache(args)
    return (
        load_tokens(train, tokenizer, needed, folder / f"tokens-{key}-train.npy"),
        load_tokens(validation, tokenizer, None, folder / f"tokens-{key}-validation.npy"),
    )


def build_model(choice: ModelChoice, tokenizer: Any, data: LanguageModelingData) -> Any:
    """The decoder; from scratch initialised from the global random state.

    Raises:
        UserError: it is no decoder, or does not fit the tokenizer or the blocks.
    """
    model = choice.build(AutoModelForCausalLM, "causal language model", tokenizer)
    of_checkpoint = getattr(model.config, "architectures", None) or []
    if choice.name_or_path and type(model).__name__ not in of_checkpoint:
        raise UserError(
            f"model: {choice.name_or_path} is a {', '.join(of_checkpoint) or 'checkpoint of unknown class'}, "
            f"not a {type(model).__name__}; give a causal language model such as gpt2"
        )
    if _sees_ahead(model):
        raise UserError(
            f"model: a {model.config.model_type} model sees the tokens that it has to predict; set config: "
            "{is_decoder: true}, or take a decoder such as gpt2"
        )
    vocabulary = model.get_input_embeddings().num_embeddings
    if vocabulary < len(tokenizer):
        raise UserError(
            f"the tokenizer has {len(tokenizer)} tokens but the model {vocabulary}; drop data: tokenizer_name"
        )
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and longest < data.block_size:
        raise UserError(f"data: block_size {data.block_size} is more than the model's {longest} positions; lower it")
    return model


@torch.no_grad()
def _sees_ahead(model: Any) -> bool:
    """Whether a token changes what is predicted before it, as in an encoder."""
    model.eval()
    first, second = (model(input_ids=torch.tensor([[0, token]])).logits[0, 0] for token in (0, 1))
    model.train()
    return not torch.allclose(first, second, rtol=0, atol=1e-5 * first.abs().max().item())  # rounding of float32


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
