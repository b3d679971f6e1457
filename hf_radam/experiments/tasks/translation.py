"""Translation: a shared BPE vocabulary, a Marian transformer (post-LN, as in the paper, or pre-LN), BLEU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset, concatenate_datasets
from scipy.stats import entropy
from transformers import (
    DataCollatorForSeq2Seq,
    MarianConfig,
    MarianMTModel,
    PegasusConfig,
    PegasusForConditionalGeneration,
)
from transformers.trainer_pt_utils import LabelSmoother

from hf_radam.experiments.comparison import Comparison
from hf_radam.experiments.schema import UserError, build, check_least
from hf_radam.experiments.tasks import Task
from hf_radam.experiments.tasks.parallel_text import Pair, TranslationData, load_pairs
from hf_radam.experiments.tasks.pretrained import new
from hf_radam.experiments.tasks.text import (
    SPECIAL_TOKENS,
    digest,
    own_tokenizer,
    token_means,
    token_sums,
    whole_batches,
)

PAIRS_AT_A_TIME = 100_000  # lists of numbers take much more memory than a dataset
GRAMMAR_SENTENCE = 10  # tokens; about the mean length of a sentence of the built-in grammar


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
    normalize_before: bool = False
    """Pre-LN: the layer norm stands before each part and once more at the end; by default post-LN. Initial weights and
    all else are the same, since Transformers' Pegasus is Marian with pre-LN."""
    init_std: float | None = None
    """Standard deviation of the initial weights; by default d_model**-0.5, as for fairseq's embeddings."""

    def __post_init__(self) -> None:
        check_least(self, 1, "d_model", where="model")
        for heads in (self.encoder_attention_heads, self.decoder_attention_heads):
            if heads < 1 or self.d_model % heads:
                raise UserError(
                    f"model: d_model must be a multiple of the attention heads, got {self.d_model}, {heads}"
                )


class TranslationTask(Task):
    """Data, model and metrics of one comparison; see `tasks.Task`."""

    Data = TranslationData
    metric = "bleu"
    loss_unit = "nats a token"

    def __init__(self, comparison: Comparison) -> None:
        self.data = build(TranslationData, comparison.data, where="data")
        build(TranslationModel, comparison.model, where="model")  # a wrong one is said before the text is read
        sentences = comparison.batch_size or (comparison.tokens_per_batch or 0) // GRAMMAR_SENTENCE
        train, validation, test = load_pairs(self.data, fresh=comparison.max_steps * sentences)
        self.fingerprint = digest(train, validation, test)
        train = train[: whole_batches(len(train), comparison.batch_size or 1)]
        self._references = [target for _, target in test]
        self._pairs = (train, validation, test)

    def prepare(self, cache_dir: Path) -> None:
        """Train the tokenizer, or read the one kept in `cache_dir`, and apply it."""
        train, validation, test = self._pairs
        texts = [side for pair in train for side in pair]
        self.tokenizer = own_tokenizer(texts, digest(train), self.data.vocab_size, cache_dir)
        self.train_dataset = self._tokenize(train)
        self.eval_dataset = self._tokenize(validation)
        self._sources = self._tokenize(test)["input_ids"][:]
        lengths: list[int] = []
        counts: Counter[int] = Counter()
        for some in self.train_dataset.iter(PAIRS_AT_A_TIME):
            columns: Any = some
            pairs = zip(columns["input_ids"], columns["labels"], strict=True)
            lengths += [max(len(source), len(target)) for source, target in pairs]
            counts.update(token for target in columns["labels"] for token in target)
        self.lengths = lengths
        self.facts = {"unigram_entropy": float(entropy([*counts.values()]))}

    def model(self, options: Mapping[str, Any]) -> MarianMTModel | PegasusForConditionalGeneration:
        """A new model, initialised from the global random state."""
        fields = asdict(build(TranslationModel, options, where="model"))
        pre_ln = fields.pop("normalize_before")
        pad, eos = (SPECIAL_TOKENS.index(token) for token in ("<pad>", "</s>"))  # they come first in the vocabulary
        settings = {
            **fields,
            "init_std": fields["init_std"] or fields["d_model"] ** -0.5,
            "vocab_size": len(self.tokenizer),
            "pad_token_id": pad,
            "eos_token_id": eos,
            "forced_eos_token_id": None,
            "decoder_start_token_id": pad,
            "max_position_embeddings": max(512, self.data.max_length + 1),
        }
        if pre_ln:
            return new(PegasusForConditionalGeneration, new(PegasusConfig, **settings))
        return new(MarianMTModel, new(MarianConfig, **settings))

    def collator(self, model: Any) -> DataCollatorForSeq2Seq:
        """Pads a batch to its longest sentence."""
        return DataCollatorForSeq2Seq(self.tokenizer, model=model)

    def loss(self, outputs: Any, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        """Mean over the target's tokens."""
        return LabelSmoother(label_smoothing)(outputs, labels)

    def preprocess_logits_for_metrics(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """Sums over each sentence; see `token_sums`."""
        return token_sums(logits[0] if isinstance(logits, tuple) else logits, labels)

    def compute_metrics(self, prediction: Any) -> dict[str, float]:
        """Averages over tokens."""
        return token_means(prediction.predictions)

    def test(self, model: Any, batch_size: int) -> dict[str, float]:
        """BLEU of the test sentences; each process translates its share."""
        import sacrebleu

        state, total = PartialState(), len(self._references)
        share = slice(state.process_index * total // state.num_processes,
                      (state.process_index + 1) * total // state.num_processes)  # fmt: skip
        hypotheses = self._translate(model, batch_size, share)
        hypotheses = gather_object(hypotheses) if state.num_processes > 1 else hypotheses
        # force: no advice to detokenize the built-in corpus, which has its spaces by right.
        return {"bleu": sacrebleu.corpus_bleu(hypotheses, [self._references], force=True).score}

    @torch.no_grad()
    def _translate(self, model: Any, batch_size: int, part: slice) -> list[str]:
        model.eval()
        hypotheses: list[str] = []
        sources = [{"input_ids": ids} for ids in self._sources[part]]
        for start in range(0, len(sources), batch_size):
            batch = self.tokenizer.pad(sources[start : start + batch_size], return_tensors="pt").to(model.device)
            tokens = model.generate(
                **batch, num_beams=self.data.num_beams, max_new_tokens=self.data.max_length, do_sample=False
            )
            hypotheses += self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return hypotheses

    def _tokenize(self, pairs: list[Pair]) -> Dataset:
        def encode(texts: list[str]) -> list[list[int]]:
            return self.tokenizer(texts, truncation=True, max_length=self.data.max_length)["input_ids"]  # pyright: ignore[reportReturnType]

        parts: list[Dataset] = []
        for start in range(0, len(pairs), PAIRS_AT_A_TIME):
            sources, targets = zip(*pairs[start : start + PAIRS_AT_A_TIME], strict=True)
            parts.append(Dataset.from_dict({"input_ids": encode([*sources]), "labels": encode([*targets])}))
        return concatenate_datasets(parts)
