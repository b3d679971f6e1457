"""Text comes in: files, the Hub, and a BPE vocabulary of its own; averages over its tokens go out."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import torch
from datasets import load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub.utils import httpx
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hf_radam.experiments.schema import UserError, check_least, shown
from hf_radam.files import one_line, write_whole

SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")
TABLES = (".csv", ".tsv", ".json", ".jsonl")
"""Files of rows with columns."""
T = TypeVar("T")


def argument(default: Any, help: str) -> Any:
    """A field of a dataclass, as `HfArgumentParser` describes it."""
    return field(default=default, metadata={"help": help})


class Row(NamedTuple):
    """One example as it was read, and where that was, for messages."""

    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TextData:
    """Arguments that all three scripts have."""

    dataset_name: str | None = argument(None, "dataset on the Hub, or a folder of one")
    dataset_config_name: str | None = argument(None, "its configuration")
    dataset_revision: str | None = argument(None, "its branch, tag or commit")
    max_train_samples: int | None = argument(None, "use only so many training examples")
    vocab_size: int = argument(4000, "size of a BPE vocabulary trained on the text, at most")
    batch_size: int | None = argument(
        None, "examples of one update over all processes, in the place of --per_device_train_batch_size"
    )
    needed_examples: int | None = argument(
        None, "training examples that suffice: no more are drawn from the grammar, or cut from a text"
    )
    cache_dir: str | None = argument(None, "folder that keeps the tokenizer for further runs; else output_dir")

    def check(self, *names: str) -> None:
        """Refuse numbers below 1 among these fields, and among those that all scripts have.

        Raises:
            UserError: naming the first of them.
        """
        shared = ("max_train_samples", "vocab_size", "batch_size", "needed_examples")
        check_least(self, 1, *names, *shared, where="data")

    def cache(self, args: Any) -> Path:
        """Where the tokenizer is kept."""
        return Path(self.cache_dir or args.output_dir)

    def split_batch(self, args: Any) -> None:
        """Give each process, and each of its accumulation steps, an equal share of `batch_size`.

        Raises:
            UserError: it cannot be split so.
        """
        parts = args.world_size * max(1, args.n_gpu) * args.gradient_accumulation_steps
        if self.batch_size is not None:
            args.per_device_train_batch_size, rest = divmod(self.batch_size, parts)
            if rest:
                raise UserError(
                    f"batch_size {self.batch_size} must be a multiple of the {args.world_size} processes times "
                    f"{args.gradient_accumulation_steps} gradient_accumulation_steps"
                )

    def load_splits(self, splits: Iterable[str]) -> Mapping[str, Any]:
        """The dataset of the Hub, by split.

        Raises:
            UserError: it cannot be loaded, or one of the `splits` is missing.
        """
        name = str(self.dataset_name)
        try:
            dataset: Any = load_dataset(name, self.dataset_config_name, revision=self.dataset_revision)
        except (OSError, ValueError, RuntimeError, DatasetsError, httpx.HTTPError) as error:
            no_scripts = "scripts are no longer supported" in str(error)
            hint = "; try dataset_revision refs/convert/parquet" if no_scripts else ""
            raise UserError(f"cannot load dataset {name!r}: {one_line(error)}{hint}") from error
        for split in splits:
            if split not in dataset:
                raise UserError(f"dataset {name!r} has no split {split!r}, only {', '.join(dataset)}")
        return dataset

    def rows(self, splits: Mapping[str, Any], split: str) -> list[Row]:
        """The rows of one split of `load_splits`; none where the dataset does not have it."""
        return [Row(f"{self.dataset_name}, {split}[{i}]", row) for i, row in enumerate(splits.get(split, []))]


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


def kind_of(path: Path) -> str:
    """The ending of a file, without that of gzip."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def table_rows(path: Path, header: bool = True) -> list[Row]:
    """The rows of a CSV or TSV, as pandas reads it with every cell as text, or of a JSON file.

    Args:
        path: ends in .csv, .tsv, .json or .jsonl, or one of these and .gz.
        header: whether the first row of a CSV or TSV names the columns; else they are numbered from 1.

    Raises:
        UserError: a row has more cells than the first one, a quote is never closed, or two columns have one name; see
            also `read_text` and `json_rows`.
    """
    kind = kind_of(path)
    if kind not in TABLES:
        raise UserError(f"{path} must end in .csv, .tsv, .json or .jsonl, or one of these and .gz")
    rows = _cells(path, kind, header) if kind in (".csv", ".tsv") else [*json_rows(path)]
    if not rows:
        raise UserError(f"{path} holds no examples")
    return rows


def _cells(path: Path, kind: str, header: bool) -> list[Row]:
    text = io.StringIO(read_text(path))
    form: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False}
    try:
        cells = pd.read_csv(text, sep="\t" if kind == ".tsv" else ",", **form).fillna("").values.tolist()
    except ValueError as error:  # pandas' ParserError
        raise UserError(
            f"{path} is no {kind[1:].upper()}: {one_line(error)}; put quotes around a cell that holds a "
            f"{'tab' if kind == '.tsv' else 'comma'}, and two in the place of a quote"
        ) from error
    names = cells[0] if header else [str(number) for number in range(1, len(cells[0]) + 1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{path} has two columns of the name {twice[0]!r}; rename one")
    rows = [Row(f"{path}, row {number}", dict(zip(names, row, strict=True))) for number, row in enumerate(cells, 1)]
    return [row for row in rows[header:] if any(row.values.values())]


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON file: one list, or one object a line.

    Raises:
        UserError: it is no JSON, or holds anything but objects; see also `read_text`.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        rows = [(f"{path}, row {number}", row) for number, row in enumerate(_json(text, path), 1)]
    else:
        lines = ((f"{path}, line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        rows = ((where, _json(line, where)) for where, line in lines)
    for where, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{where} must be an object, got {shown(row)}")
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{where} holds half of a surrogate pair ({error.reason}); mend its text") from error
        yield Row(where, row)


def _json(text: str, where: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {error}; give one list of objects, or one object a line") from error


def hold_out(
    train: list[T], validation: list[T], limit: int, remedy: str = "validation_file"
) -> tuple[list[T], list[T]]:
    """Training and validation examples; where there are none of the latter, the last `limit` of the former.

    Args:
        remedy: the option that an error tells to give.

    Raises:
        UserError: that would leave none for training.
    """
    if validation:
        return train, validation[:limit]
    if len(train) <= limit:
        raise UserError(
            f"without validation text the last {limit} examples (max_eval_samples) are held out, but there are only "
            f"{len(train)}; give {remedy}"
        )
    return train[:-limit], train[-limit:]


def whole_batches(examples: int, batch_size: int) -> int:
    """How many of the examples fill whole batches: several processes would fill up a last short one with repeats.

    Raises:
        UserError: not one batch.
    """
    if examples < batch_size:
        raise UserError(f"data: fewer training examples than batch_size {batch_size} ({examples}); give more")
    return examples - examples % batch_size


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


def token_sums(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Per example: summed negative log-likelihood in nats, correct tokens, tokens.

    Args:
        logits: shape (batch, tokens, vocabulary); of a tuple the first.
        labels: shape (batch, tokens); -100 is ignored.

    Returns:
        Shape (batch, 3).
    """
    logits = logits[0] if isinstance(logits, tuple) else logits
    mask = labels != -100
    log_probs = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    correct = (logits.argmax(-1) == labels) & mask
    return torch.stack([-(log_probs * mask).sum(-1), correct.sum(-1).float(), mask.sum(-1).float()], dim=-1)


def token_means(prediction: Any) -> dict[str, float]:
    """Averages over all tokens, of what `token_sums` gave: the loss without label smoothing, and the accuracy."""
    nll, correct, tokens = prediction.predictions.astype("float64").sum(0)
    return {"loss": float(nll / tokens), "token_accuracy": float(correct / tokens)}
