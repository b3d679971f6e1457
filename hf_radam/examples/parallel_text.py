"""Pairs of sentences: from the built-in grammar, from local files, or from the Hub."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_radam.examples.grammar import sentence_pairs
from hf_radam.examples.text import Rows, TextData, argument, hold_out, read_lines, read_rows, texts_of
from hf_radam.experiments.schema import UserError, unknown

Pair = tuple[str, str]
GRAMMAR_PAIRS = 25_600
"""Drawn from the grammar where nothing says how many are needed."""


@dataclass(frozen=True, kw_only=True)
class TranslationData(TextData):
    """Where the pairs come from: a Hub dataset, else local files, else the grammar.

    A row of a dataset or of JSON is {"translation": {"de": ..., "en": ...}}, or has a column for each language.
    """

    source_lang: str = argument("de", "language that is read: ending of the files, key or column of a table")
    target_lang: str = argument("en", "language that is written")
    train_prefix: str | None = argument(None, "text files PREFIX.de, PREFIX.en, a sentence a line, or .gz")
    validation_prefix: str | None = argument(None, "likewise; else the last training pairs are held out")
    test_prefix: str | None = argument(None, "likewise, for the final BLEU; else the validation pairs serve")
    test_file: str | None = argument(None, "like train_file, for the final BLEU")
    max_length: int = argument(128, "longest sentence in tokens; longer ones are cut")
    max_eval_samples: int = argument(500, "use only the first so many validation pairs, and test pairs")
    num_beams: int = argument(1, "beam width of the final translation; 1 is greedy")
    tokens_per_batch: int | None = argument(None, "tokens of an update in all, with padding; instead of batch_size")
    average_checkpoints: int | None = argument(None, "translate with the mean weights of the last so many checkpoints")


def load_pairs(data: TranslationData) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Training, validation and test pairs; no training pair is also in one of the others, or has an empty side.

    Raises:
        UserError: files that are empty, unreadable or of different length; a dataset of another form.
    """
    limit, most = data.max_eval_samples, data.max_train_samples
    if data.dataset_name:
        splits = data.load()
        names = (data.train_split, data.validation_split, "test")
        for name in names[:2]:
            if name not in splits and name != "validation":  # without it training pairs are held out
                raise unknown("split", name, splits, "data")
        train, validation, test = (_of_rows(data.rows(splits[name]), data) if name in splits else [] for name in names)
    elif data.train_file or data.train_prefix:
        train, validation, test = (_of_files(part, data) for part in ("train", "validation", "test"))
    else:
        fresh = data.needed_examples or GRAMMAR_PAIRS
        # A tenth more than needed, since pairs that are also held out are dropped below.
        train = sentence_pairs(math.ceil(1.1 * fresh), seed=0)
        validation, test = sentence_pairs(limit, seed=1), sentence_pairs(limit, seed=2)
        most = most or fresh
    train, validation = hold_out(train, validation, limit)
    test = (test or validation)[:limit]
    held_out = {*validation, *test}
    return [pair for pair in train if pair not in held_out and all(pair)][:most], validation, test


def _of_files(part: str, data: TranslationData) -> list[Pair]:
    if file := getattr(data, f"{part}_file"):
        header = not (data.source_lang.isdecimal() and data.target_lang.isdecimal())
        return _of_rows(read_rows(Path(file), header), data)
    if not (prefix := getattr(data, f"{part}_prefix")):
        return []
    names = [f"{prefix}.{language}" for language in (data.source_lang, data.target_lang)]
    source, target = (
        next((path for path in (Path(name), Path(f"{name}.gz")) if path.is_file()), Path(name)) for name in names
    )
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        raise UserError(
            f"{source} has {len(sources)} lines but {target} has {len(targets)}; line n of one must translate line n "
            "of the other"
        )
    return list(zip(sources, targets, strict=True))


def _of_rows(rows: Rows, data: TranslationData) -> list[Pair]:
    table = texts_of(((where, _sides(row)) for where, row in rows), [data.source_lang, data.target_lang], blank=True)
    return [(source.strip(), target.strip()) for source, target in table.itertuples(index=False, name=None)]


def _sides(row: Any) -> Any:
    """The languages of a row, those that are null aside."""
    pair = row.get("translation") if isinstance(row, Mapping) else None
    pair = pair if isinstance(pair, Mapping) else row
    return {name: side for name, side in pair.items() if side is not None} if isinstance(pair, Mapping) else pair
