"""Translation: a shared BPE vocabulary, a Marian transformer (post-LN, as in the paper), BLEU."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import DataCollatorForSeq2Seq, MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from hf_radam.experiments.config import Comparison, UserError, build
from hf_radam.experiments.tasks.parallel_text import Pair, TranslationData, load_pairs

SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")


@dataclass(frozen=True, kw_only=True)
class TranslationModel:
    """A Marian transformer, trained from scratch; the fields are those of `MarianConfig`."""

    d_model: int = 512
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_ffn_dim: int = 1024
    decoder_ffn_dim: int = 1024
    encoder_attention_heads: int = 4
    decoder_attention_heads: int = 4
    dropout: float = 0.3
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    activation_function: str = "relu"
    scale_embedding: bool = True
    init_std: float | None = None
    """Standard deviation of the initial weights; by default d_model**-0.5, as for fairseq's embeddings."""

    def __post_init__(self) -> None:
        for heads in (self.encoder_attention_heads, self.decoder_attention_heads):
            if heads < 1 or self.d_model % heads:
                raise UserError(
                    f"model: d_model must be a multiple of the attention heads, got {self.d_model}, {heads}"
                )


class TranslationTask:
    """Data, model and metrics of one comparison.

    Args:
        comparison: its `data` and `model` hold fields of `TranslationData` and `TranslationModel`.

    Raises:
        UserError: bad options; files that are missing, empty, unreadable or of different length; too little text.
    """

    metric = "bleu"
    """Name of the metric that tables show beside the loss; higher is better."""

    def __init__(self, comparison: Comparison) -> None:
        self.data = build(TranslationData, comparison.data, where="data")
        self.architecture = build(TranslationModel, comparison.model, where="model")
        train, validation, test = load_pairs(self.data, fresh=comparison.max_steps * comparison.batch_size)
        self.fingerprint = _digest(train, validation, test)
        # Whole batches: a last short one would be filled up with repeats where several processes share it.
        train = train[: len(train) // comparison.batch_size * comparison.batch_size]
        if not train:
            raise UserError(f"data: fewer training pairs than batch_size {comparison.batch_size}; give more text")
        self.references = [target for _, target in test]
        self._pairs = (train, validation, test)

    def prepare(self, cache_dir: Path) -> None:
        """Train the tokenizer, or read the one kept in `cache_dir`, and apply it."""
        train, validation, test = self._pairs
        self.tokenizer = self._tokenizer(train, cache_dir)
        self.train_dataset = self._tokenize(train)
        self.eval_dataset = self._tokenize(validation)
        self.test_dataset = self._tokenize(test)
        self.facts = {"unigram_entropy": _unigram_entropy(self.train_dataset["labels"])}
        """Numbers about the data: the loss (nats a token) of always predicting the target's token frequencies."""

    def model(self) -> MarianMTModel:
        """A new model, initialised from the global random state."""
        options = {name: getattr(self.architecture, name) for name in self.architecture.__dataclass_fields__}
        options["init_std"] = options["init_std"] or self.architecture.d_model**-0.5
        pad, eos = (SPECIAL_TOKENS.index(token) for token in ("<pad>", "</s>"))  # they come first in the vocabulary
        config = MarianConfig(
            **options,
            vocab_size=len(self.tokenizer),
            pad_token_id=pad,
            eos_token_id=eos,
            forced_eos_token_id=None,
            decoder_start_token_id=pad,
            max_position_embeddings=max(512, self.data.max_length + 1),
        )
        return MarianMTModel(config)

    def collator(self, model: Any) -> DataCollatorForSeq2Seq:
        """Pads a batch to its longest sentence."""
        return DataCollatorForSeq2Seq(self.tokenizer, model=model)

    @staticmethod
    def preprocess_logits_for_metrics(logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """Per sentence: summed negative log-likelihood in nats, correct tokens, tokens; shape (batch, 3)."""
        logits = logits[0] if isinstance(logits, tuple) else logits
        mask = labels != -100
        log_probs = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        correct = (logits.argmax(-1) == labels) & mask
        return torch.stack([-(log_probs * mask).sum(-1), correct.sum(-1).float(), mask.sum(-1).float()], dim=-1)

    @staticmethod
    def compute_metrics(prediction: Any) -> dict[str, float]:
        """Averages over tokens; the loss is without label smoothing."""
        nll, correct, tokens = prediction.predictions.astype("float64").sum(0)
        return {"nll": float(nll / tokens), "token_accuracy": float(correct / tokens)}

    @torch.no_grad()
    def translate(self, model: Any, batch_size: int, part: slice) -> list[str]:
        """Translate a part of the test sentences."""
        model.eval()
        hypotheses: list[str] = []
        sources = [{"input_ids": ids} for ids in self.test_dataset["input_ids"][part]]
        for start in range(0, len(sources), batch_size):
            batch = self.tokenizer.pad(sources[start : start + batch_size], return_tensors="pt").to(model.device)
            tokens = model.generate(
                **batch, num_beams=self.data.num_beams, max_new_tokens=self.data.max_length, do_sample=False
            )
            hypotheses += self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return hypotheses

    def score(self, hypotheses: list[str]) -> dict[str, float]:
        """Corpus BLEU of translations of all test sentences."""
        import sacrebleu

        return {"bleu": sacrebleu.corpus_bleu(hypotheses, [self.references]).score}

    def _tokenizer(self, train: list[Pair], cache_dir: Path) -> PreTrainedTokenizerFast:
        """A BPE tokenizer with one vocabulary for both languages, trained once and kept."""
        path = cache_dir / f"tokenizer-{_digest(train)[:8]}-{self.data.vocab_size}.json"
        if not path.is_file():
            tokenizer = _train_tokenizer((side for pair in train for side in pair), self.data.vocab_size)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".tmp")
            tokenizer.save(str(unfinished))
            unfinished.replace(path)
        pad, eos, unk = SPECIAL_TOKENS
        return PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token=pad, eos_token=eos, unk_token=unk)

    def _tokenize(self, pairs: list[Pair]) -> Dataset:
        def encode(texts: list[str]) -> list[list[int]]:
            return self.tokenizer(texts, truncation=True, max_length=self.data.max_length)["input_ids"]  # pyright: ignore[reportReturnType]

        sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
        return Dataset.from_dict({"input_ids": encode(sources), "labels": encode(targets)})


def _train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[2]))
    tokenizer.normalizer = normalizers.NFKC()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    eos = SPECIAL_TOKENS[1]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.token_to_id(eos))]
    )
    return tokenizer


def _digest(*parts: list[Pair]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _unigram_entropy(labels: Iterable[list[int]]) -> float:
    counts = Counter(token for sentence in labels for token in sentence)
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())
