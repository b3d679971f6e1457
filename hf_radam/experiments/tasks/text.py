"""Text comes in: files, the Hub, and a BPE vocabulary of its own."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub.utils import httpx
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hf_radam.experiments.schema import UserError
from hf_radam.files import write_whole

SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")


def read_text(path: Path) -> str:
    """A text file, plain or .gz.

    Raises:
        UserError: it is missing, empty, no UTF-8, or damaged.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path}: {error}; it must be UTF-8 text, packed by gzip if it ends in .gz"
        ) from error
    if not text.strip():
        raise UserError(f"{path} is empty")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without space at their ends; see `read_text`."""
    lines = read_text(path).split("\n")
    return [line.strip() for line in (lines[:-1] if lines[-1] == "" else lines)]


def load_splits(name: str, config_name: str | None, revision: str | None, splits: Iterable[str]) -> Mapping[str, Any]:
    """A dataset of the Hub, or of a local folder, by split.

    Raises:
        UserError: it cannot be loaded, or one of the `splits` is missing.
    """
    try:
        dataset: Any = load_dataset(name, config_name, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError, httpx.HTTPError) as error:
        hint = "; try dataset_revision refs/convert/parquet" if "scripts are no longer supported" in str(error) else ""
        raise UserError(f"cannot load dataset {name!r}: {' '.join(str(error).split())}{hint}") from error
    for split in splits:
        if split not in dataset:
            raise UserError(f"dataset {name!r} has no split {split!r}, only {', '.join(dataset)}")
    return dataset


def require_column(dataset: Any, column: str, name: str, remedy: str = "") -> None:
    """Refuse a dataset without a column.

    Raises:
        UserError: naming the columns that are there.
    """
    if column not in dataset.column_names:
        there = ", ".join(dataset.column_names)
        raise UserError(f"{name} has no column {column!r}, only {there}" + (f"; {remedy}" if remedy else ""))


def digest(*parts: Any) -> str:
    """Fingerprint of what JSON can say."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def own_tokenizer(texts: list[str], text_digest: str, vocab_size: int, cache_dir: Path) -> PreTrainedTokenizerFast:
    """A BPE tokenizer of the text itself, trained once and kept in `cache_dir`; a damaged one is trained anew."""
    path = cache_dir / f"tokenizer-{text_digest[:8]}-{vocab_size}.json"
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception:  # of this very class for all that is no tokenizer; missing and unreadable files as well
        tokenizer = _train_tokenizer(texts, vocab_size)
        write_whole(path, tokenizer.to_str(pretty=True))
    pad, eos, unk = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token=eos, unk_token=unk)


def _train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[2]))
    tokenizer.normalizer = normalizers.NFKC()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    eos = SPECIAL_TOKENS[1]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"$A {eos}", pair=f"$A {eos} $B:1 {eos}:1", special_tokens=[(eos, tokenizer.token_to_id(eos))]
    )
    return tokenizer
