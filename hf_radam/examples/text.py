"""What the three scripts share: text from files and the Hub, a BPE vocabulary of its own, averages over tokens."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from datasets import load_dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hf_radam.experiments.schema import UserError, check_least, shown
from hf_radam.files import one_line, write_whole

IGNORED = -100
"""The label of a token that is not to be predicted."""
TABLES = ("csv", "tsv", "json", "jsonl")
T = TypeVar("T")
Rows = Iterable[tuple[str, Any]]
"""Where each row of a table was read, and the row."""


def argument(default: Any, help: str) -> Any:
    """A field of a dataclass, as `HfArgumentParser` describes it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class TextData:
    """Arguments that all three scripts have; their numbers are at least 1.

    Text comes from a dataset of the Hub, or else from local files.
    """

    dataset_name: str | None = argument(None, "dataset on the Hub, or a folder of one")
    dataset_config_name: str | None = argument(None, "its configuration")
    dataset_revision: str | None = argument(None, "its branch, tag or commit")
    train_split: str = argument("train", "its part for training")
    validation_split: str = argument("validation", "its part for evaluation; MNLI has validation_matched")
    train_file: str | None = argument(None, "local .csv, .tsv, .json (a list) or .jsonl, plain or .gz")
    validation_file: str | None = argument(None, "likewise; else some of the training examples are held out")
    max_train_samples: int | None = argument(None, "use only so many training examples")
    vocab_size: int = argument(4000, "size of a BPE vocabulary trained on the text, at most")
    batch_size: int | None = argument(None, "examples of an update in all; else --per_device_train_batch_size")
    needed_examples: int | None = argument(None, "draw no more from the grammar, and cut no more from a text")
    cache_dir: str | None = argument(None, "folder that keeps the tokenizer for further runs; else output_dir")

    def __post_init__(self) -> None:
        check_least(self, 1, *(f.name for f in fields(self) if "int" in str(f.type)), where="data")
        given = [name for name, value in vars(self).items() if value]
        origins = [name for name in given if name in ("dataset_name", "train_file", "train_prefix")]
        if len(origins) > 1:
            raise UserError(f"data: {' and '.join(origins)} exclude each other; set all but one to ''")
        of_files = {name for name in given if name.endswith(("_file", "_prefix"))}
        if of_files and not of_files & {"train_file", "train_prefix"}:
            raise UserError("data: validation or test text without training text; give both")

    def cache(self, args: Any) -> Path:
        """Where the tokenizer is kept."""
        return Path(self.cache_dir or args.output_dir)

    def whole_batches(self, args: Any, examples: int) -> int:
        """How many of the examples fill whole batches: several processes would fill up a last short one with repeats.

        Each process, and each of its accumulation steps, gets an equal share of `batch_size`.

        Raises:
            UserError: it cannot be split so, or there is not one batch.
        """
        if self.batch_size is None:
            return examples
        parts = args.world_size * max(1, args.n_gpu) * args.gradient_accumulation_steps
        if self.batch_size % parts:
            raise UserError(
                f"batch_size {self.batch_size} must be a multiple of the {args.world_size} processes times "
                f"{args.gradient_accumulation_steps} gradient_accumulation_steps"
            )
        if examples < self.batch_size:
            raise UserError(f"data: fewer training examples than batch_size {self.batch_size} ({examples}); give more")
        args.per_device_train_batch_size = self.batch_size // parts
        return examples - examples % self.batch_size

    def load(self, split: list[str] | None = None) -> Any:
        """The dataset of the Hub, or its splits of these names.

        Raises:
            UserError: it cannot be loaded.
        """
        name = str(self.dataset_name)
        try:
            return load_dataset(name, self.dataset_config_name, revision=self.dataset_revision, split=split)
        except Exception as error:  # of several libraries
            hint = "; try dataset_revision refs/convert/parquet" if "Dataset scripts" in str(error) else ""
            raise UserError(f"cannot load dataset {name!r}: {one_line(error)}{hint}") from error

    def rows(self, dataset: Any) -> Rows:
        """The rows of one of its splits."""
        return ((f"{self.dataset_name}, {dataset.split}[{i}]", row) for i, row in enumerate(dataset))


def read_text(path: Path) -> str:
    """A text file, plain or .gz.

    Raises:
        UserError: it is empty, no UTF-8, or damaged.
    """
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path}: {error}; it must be UTF-8 text, packed by gzip if it ends in .gz"
        ) from error
    if not text.strip():
        raise UserError(f"{path} is empty")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without space at their ends; see `read_text`."""
    return [line.strip() for line in read_text(path).removesuffix("\n").split("\n")]


def kind_of(path: Path) -> str:
    """The ending of a file's name, without that of gzip; a table's is among `TABLES`."""
    return path.name.lower().removesuffix(".gz").rpartition(".")[2]


def read_rows(path: Path, header: bool = True) -> Rows:
    """The rows of a CSV or TSV, as pandas reads it with every cell as text, or of a JSON list or JSON lines.

    Args:
        path: ends in .csv, .tsv, .json or .jsonl, or one of these and .gz.
        header: whether the first row of a CSV or TSV names the columns; else they are numbered from 1.

    Raises:
        UserError: a row has more cells than the first one, a quote is never closed, two columns have one name, or it
            is no JSON; see also `read_text`.
    """
    kind = kind_of(path)
    if kind not in TABLES:
        raise UserError(f"{path} must end in .csv, .tsv, .json or .jsonl, or one of these and .gz")
    text, is_json = read_text(path), kind.startswith("json")
    try:
        if is_json:
            lines = re.sub(r"\}(?=\s*\n\s*\{)", "},", text)  # a list without brackets and commas
            rows = dict(enumerate(json.loads(text if text.lstrip().startswith("[") else f"[{lines}]")))
        else:
            form: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False}
            frame = pd.read_csv(io.StringIO(text), sep="\t" if kind == "tsv" else ",", **form).fillna("")
            frame = frame.rename(columns=frame.loc[0] if header else lambda number: str(number + 1))[int(header) :]
            if not frame.columns.is_unique:
                raise UserError(f"{path} has two columns of one name in {', '.join(frame)}; rename one")
            rows = frame[(frame != "").any(axis=1)].to_dict("index")
    except (ValueError, RecursionError) as error:  # ValueError: pandas' ParserError
        remedy = "give a list of objects, or an object a line" if is_json else "quote cells that hold the separator"
        raise UserError(f"{path} is no {kind.upper()}: {one_line(error)}; {remedy}") from error
    if not rows:
        raise UserError(f"{path} holds no examples")
    return [(f"{path}, row {number + 1}", row) for number, row in rows.items()]


def texts_of(rows: Rows, columns: Sequence[str], blank: bool = False) -> pd.DataFrame:
    """The texts and numbers in these columns, as text; the index says where each row was read.

    Raises:
        UserError: a row lacks one, or has a list or the like there, or nothing but space, unless it may be `blank`.
    """
    cells = {where: [_cell(where, row, column, blank) for column in columns] for where, row in rows}
    return pd.DataFrame.from_dict(cells, orient="index", columns=[*columns], dtype=str)


def read_texts(path: Path, column: str) -> list[str]:
    """The texts in a column of a table, or the lines of any other file; those that are empty aside."""
    if kind_of(path) not in TABLES:
        return [line for line in read_lines(path) if line]
    table = texts_of(read_rows(path, header=not column.isdecimal()), [column], blank=True)
    return [text for text in table[column] if text]


def _cell(where: str, row: Any, column: str, blank: bool) -> str:
    if not isinstance(row, Mapping) or column not in row:
        raise UserError(
            f"{where} must have the column {column!r}, got {shown([*row] if isinstance(row, Mapping) else row)}; mend "
            "the row, or set text_column, label_column, source_lang or target_lang (a number from 1 if the file has no "
            "header)"
        )
    value = row[column]
    if value is None or value != value or not str(value).strip():
        if not blank:
            raise UserError(f"{where}: column {column!r} is empty; remove the row")
        return ""
    if not isinstance(value, (str, int, float)):
        raise UserError(f"{where}: column {column!r} must be text or a number, got {shown(value)}")
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where} holds half of a surrogate pair ({error.reason}); mend its text") from error
    return str(value)


def hold_out(train: list[T], validation: list[T], limit: int) -> tuple[list[T], list[T]]:
    """Training and validation examples; where there are none of the latter, the last `limit` of the former.

    Raises:
        UserError: that would leave none for training.
    """
    if validation:
        return train, validation[:limit]
    if len(train) <= limit:
        raise UserError(
            f"without validation text the last {limit} examples (max_eval_samples) are held out, but there are only "
            f"{len(train)}; give validation text"
        )
    return train[:-limit], train[-limit:]


def own_tokenizer(texts: list[str], vocab_size: int, folder: Path) -> PreTrainedTokenizerFast:
    """A BPE tokenizer of the text itself, trained once and kept in the folder."""
    pad, eos, unk = special = ("<pad>", "</s>", "<unk>")
    path = folder / f"tokenizer-{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:8]}-{vocab_size}.json"
    if not path.is_file():
        new: Any = Tokenizer(models.BPE(unk_token=unk))
        new.normalizer, new.decoder = normalizers.NFKC(), decoders.Metaspace()
        new.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[*special], show_progress=False)
        new.train_from_iterator(texts, trainer)
        new.post_processor = processors.TemplateProcessing(
            single=f"$A {eos}", pair=f"$A {eos} $B:1 {eos}:1", special_tokens=[(eos, new.token_to_id(eos))]
        )
        write_whole(path, new.to_str(pretty=True))
    return PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token=pad, eos_token=eos, unk_token=unk)


def token_sums(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    """Per example the summed negative log-likelihood in nats, the correct tokens, and the tokens; shape (batch, 3)."""
    logits = logits[0] if isinstance(logits, tuple) else logits
    mask = labels != IGNORED
    log_probs = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    correct = (logits.argmax(-1) == labels) & mask
    return torch.stack([-(log_probs * mask).sum(-1), correct.sum(-1).float(), mask.sum(-1).float()], dim=-1)


def token_means(prediction: Any) -> dict[str, float]:
    """Averages over all tokens, of what `token_sums` gave: the loss without label smoothing, and the accuracy."""
    nll, correct, tokens = prediction.predictions.astype("float64").sum(0)
    return {"loss": float(nll / tokens), "token_accuracy": float(correct / tokens)}
