"""Pairs of sentences: from the built-in grammar, from local files, or from the Hub."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_radam.errors import UserError
from hf_radam.examples.grammar import sentence_pairs
from hf_radam.examples.text import Rows, TextData, argument, cell, hold_out, read_lines, read_rows

Pair = tuple[str, str]
GRAMMAR_PAIRS = 25_600
"""Drawn from the grammar where nothing says how many are needed."""
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class TranslationData(TextData):
    """Where the pairs come from: a Hub dataset with a `translation` column, else local files, else the grammar."""

    source_lang: str = argument("de", "language that is read: ending of the files, key of the JSON")
    target_lang: str = argument("en", "language that is written")
    train_prefix: str | None = argument(None, "text files PREFIX.de, PREFIX.en, a sentence a line, or .gz")
    validation_prefix: str | None = argument(None, "likewise; else the last training pairs are held out")
    test_prefix: str | None = argument(None, "likewise, for the final BLEU; else the validation pairs serve")
    train_file: str | None = argument(
        None, 'JSON lines {"translation": {"de": ..., "en": ...}}, or .gz, in the place of train_prefix'
    )
    validation_file: str | None = argument(None, "likewise")
    test_file: str | None = argument(None, "likewise")
    max_length: int = argument(128, "longest sentence in tokens; longer ones are cut")
    max_eval_samples: int = argument(500, "use only the first so many validation pairs, and test pairs")
    num_beams: int = argument(1, "beam width of the final translation; 1 is greedy")
    tokens_per_batch: int | None = argument(
        None, "tokens of one update over all processes, with padding, in the place of a batch size"
    )
    average_checkpoints: int | None = argument(
        None, "translate with the mean of the weights at the last so many checkpoints; else with the last weights"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        origins = [name for name in ("dataset_name", "train_prefix", "train_file") if getattr(self, name)]
        if len(origins) > 1:
            raise UserError(f"data: {' and '.join(origins)} exclude each other; set all but one to ''")
        if not origins and (self.validation_prefix or self.validation_file or self.test_prefix or self.test_file):
            raise UserError("data: validation or test text without training text; give train_prefix or train_file")


def load_pairs(data: TranslationData) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Training, validation and test pairs; no training pair is also in one of the others, or has an empty side.

    Raises:
        UserError: files that are empty, unreadable or of different length; a dataset of another form.
    """
    limit, most = data.max_eval_samples, data.max_train_samples
    if data.dataset_name:
        splits = data.load()
        train, validation, test = (_pairs(data.rows(splits[part]) if part in splits else {}, data) for part in PARTS)
    elif data.train_prefix or data.train_file:
        train, validation, test = (_from_files(data, part) for part in PARTS)
    else:
        fresh = data.needed_examples or GRAMMAR_PAIRS
        # A tenth more than needed, since pairs that are also held out are dropped below.
        train = sentence_pairs(math.ceil(1.1 * fresh), seed=0)
        validation, test = sentence_pairs(limit, seed=1), sentence_pairs(limit, seed=2)
        most = most or fresh
    option = "validation_prefix" if data.train_prefix else "validation_file"
    train, validation = hold_out(train, validation, limit, option)
    test = (test or validation)[:limit]
    held_out = {*validation, *test}
    return [pair for pair in train if pair not in held_out and all(pair)][:most], validation, test


def _from_files(data: TranslationData, part: str) -> list[Pair]:
    if file := getattr(data, f"{part}_file"):
        return _pairs(read_rows(Path(file)), data)
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


def _pairs(rows: Rows, data: TranslationData) -> list[Pair]:
    found: list[Pair] = []
    languages = (data.source_lang, data.target_lang)
    for where, row in rows.items():
        sides: Any = row.get("translation") if isinstance(row, dict) else None
        if not isinstance(sides, dict) or not all(isinstance(sides.get(language), str) for language in languages):
            raise UserError(
                f'{where} must read {{"translation": {{"{data.source_lang}": ..., "{data.target_lang}": ...}}}}; '
                "set source_lang and target_lang to its languages"
            )
        source, target = (cell(where, sides, language, blank=True).strip() for language in languages)
        found.append((source, target))
    return found
