"""Pairs of sentences: from the built-in grammar, from local files, or from the Hub."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks.grammar import sentence_pairs
from hf_radam.experiments.tasks.text import load_splits, read_lines, require_column

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class TranslationData:
    """Where the pairs come from: a Hub dataset, else local files, else the built-in grammar."""

    source_lang: str = "de"
    """Language that is read; ending of the files, key of the JSON."""
    target_lang: str = "en"
    """Language that is written."""
    dataset_name: str | None = None
    """Hub dataset with a `translation` column."""
    dataset_config_name: str | None = None
    """Its configuration."""
    dataset_revision: str | None = None
    """Its branch, tag or commit."""
    train_prefix: str | None = None
    """Text files PREFIX.de and PREFIX.en, a sentence a line, plain or .gz."""
    validation_prefix: str | None = None
    """Likewise; without it the last `max_eval_samples` training pairs are held out."""
    test_prefix: str | None = None
    """Likewise, for the final BLEU; without it the validation pairs serve."""
    train_file: str | None = None
    """JSON lines {"translation": {"de": ..., "en": ...}}, plain or .gz, instead of `train_prefix`."""
    validation_file: str | None = None
    """Likewise."""
    test_file: str | None = None
    """Likewise."""
    vocab_size: int = 4000
    """Size of the shared BPE vocabulary; smaller where the text has no more to merge."""
    max_length: int = 128
    """Longest sentence in tokens; longer ones are cut."""
    max_train_samples: int | None = None
    """Use only the first so many training pairs."""
    max_eval_samples: int = 500
    """Use only the first so many validation pairs, and test pairs."""
    num_beams: int = 1
    """Beam width of the final translation; 1 is greedy."""

    def __post_init__(self) -> None:
        origins = [name for name in ("dataset_name", "train_prefix", "train_file") if getattr(self, name)]
        if len(origins) > 1:
            raise UserError(f"data: {' and '.join(origins)} exclude each other; set all but one to ''")
        if not origins and any(
            getattr(self, f"{part}_{kind}") for part in ("validation", "test") for kind in ("prefix", "file")
        ):
            raise UserError("data: validation or test text without training text; give train_prefix or train_file")
        for name in ("vocab_size", "max_length", "max_eval_samples", "num_beams"):
            if getattr(self, name) < 1:
                raise UserError(f"data: {name} must be >= 1, got {getattr(self, name)}")
        if self.max_train_samples is not None and self.max_train_samples < 1:
            raise UserError(f"data: max_train_samples must be >= 1, got {self.max_train_samples}")

    @property
    def is_generated(self) -> bool:
        """Whether the built-in grammar is used."""
        return not (self.dataset_name or self.train_prefix or self.train_file)


def load_pairs(data: TranslationData, fresh: int) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Training, validation and test pairs; no training pair is also in one of the others, or has an empty side.

    Args:
        data: where they come from.
        fresh: number of training pairs to generate, if the grammar is used.

    Raises:
        UserError: files that are missing, empty, unreadable or of different length; a dataset of another form.
    """
    limit = data.max_eval_samples
    if data.is_generated:
        # A tenth more than needed, since pairs that are also held out are dropped below.
        train = sentence_pairs(math.ceil(1.1 * fresh), seed=0)
        validation, test = sentence_pairs(limit, seed=1), sentence_pairs(limit, seed=2)
    elif data.dataset_name:
        train, validation, test = _from_hub(data)
    else:
        train, validation, test = (_from_files(data, part) for part in ("train", "validation", "test"))
    if not validation:
        if len(train) <= limit:
            raise UserError(
                f"without validation pairs the last {limit} (max_eval_samples) are held out, but there are only "
                f"{len(train)}; give validation_prefix or validation_file"
            )
        train, validation = train[:-limit], train[-limit:]
    validation, test = validation[:limit], (test or validation)[:limit]
    held_out = {*validation, *test}
    train = [pair for pair in train if pair not in held_out and all(pair)]
    return train[: data.max_train_samples or (fresh if data.is_generated else None)], validation, test


def _from_hub(data: TranslationData) -> tuple[list[Pair], list[Pair], list[Pair]]:
    name = f"dataset {data.dataset_name!r}"
    splits = load_splits(str(data.dataset_name), data.dataset_config_name, data.dataset_revision, ["train"])
    parts: list[list[Pair]] = []
    for split in ("train", "validation", "test"):
        rows = splits.get(split)
        if rows is not None:
            require_column(rows, "translation", name)
        parts.append([_pair(row, data, f"{data.dataset_name}, {split}[{i}]") for i, row in enumerate(rows or [])])
    return parts[0], parts[1], parts[2]


def _from_files(data: TranslationData, part: str) -> list[Pair]:
    file, prefix = getattr(data, f"{part}_file"), getattr(data, f"{part}_prefix")
    if file:
        pairs = []
        for number, line in enumerate(read_lines(Path(file)), start=1):
            if not line:
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{file}, line {number} is not JSON: {error}") from error
            pairs.append(_pair(row, data, f"{file}, line {number}"))
        return pairs
    if not prefix:
        return []
    sides = []
    for language in (data.source_lang, data.target_lang):
        plain, packed = Path(f"{prefix}.{language}"), Path(f"{prefix}.{language}.gz")
        if not plain.is_file() and not packed.is_file():
            raise UserError(f"neither {plain} nor {packed} exists; {part}_prefix names both sides of the text")
        sides.append((plain if plain.is_file() else packed, read_lines(plain if plain.is_file() else packed)))
    (source_path, sources), (target_path, targets) = sides
    if len(sources) != len(targets):
        raise UserError(
            f"{source_path} has {len(sources)} lines but {target_path} has {len(targets)}; line n of one must "
            "translate line n of the other"
        )
    return list(zip(sources, targets, strict=True))


def _pair(row: Any, data: TranslationData, where: str) -> Pair:
    translation = row.get("translation") if isinstance(row, dict) else None
    translation = translation if isinstance(translation, dict) else {}
    source, target = translation.get(data.source_lang), translation.get(data.target_lang)
    if not isinstance(source, str) or not isinstance(target, str):
        raise UserError(
            f'{where} must read {{"translation": {{"{data.source_lang}": ..., "{data.target_lang}": ...}}}}; '
            "set source_lang and target_lang to its languages"
        )
    return source.strip(), target.strip()
