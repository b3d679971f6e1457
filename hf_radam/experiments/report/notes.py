"""What the tables do not say by themselves, as plain text; the limitations first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import series, statistics
from hf_radam.experiments.report.grid import grid
from hf_radam.experiments.report.statistics import BASELINE, SEEDS_FOR_SIGNIFICANCE
from hf_radam.experiments.results import Results


def notes(results: Results) -> list[str]:
    """What the table does not say by itself, the limitations first."""
    records = results.records
    first = records[0]
    seeds = sorted({record.seed for record in records})
    rates = ", ".join(f"{rate:g}" for rate in sorted(set(map(series.peak_rate, records))))
    lengths = ", ".join(str(length) for length in sorted({record.updates for record in records}))
    found = [
        *_unequal_effort(records, results.missing),
        f"Seeds {', '.join(map(str, seeds))}; {lengths} updates of {_batch(first)}; learning rate {rates}.",
        "RAdam and warmup use a smaller average learning rate, so short runs partly compare learning rates.",
        *_about_statistics(records, len(seeds)),
        _about_loss(first),
    ]
    if "majority_class" in first.facts:
        found.append(
            f"failed: {METRICS[first.metric].label} not better than that of always predicting the majority class, "
            f"{first.facts['majority_class']:.{METRICS[first.metric].digits}f}."
        )
    if first.positive_label is not None:
        found.append(f"F1 is that of the label {first.positive_label!r}.")
    found += [f"{record.recipe}, seed {record.seed}: {note}" for record in records for note in record.notes]
    return found + [f"{line}." for line in sorted({_environment(record.environment) for record in records})]


def _about_statistics(records: Sequence[Record], seeds: int) -> list[str]:
    name = METRICS[statistics.headline(records)].label
    notes = []
    if statistics.rates_differ(records) and grid(records) is None:
        notes.append(
            f"The best learning rate of a recipe is that with the best mean {name} at the last validation, over the "
            f"rates below; it was chosen on the numbers that are shown, and vs {BASELINE} compares best with best."
        )
    if seeds < SEEDS_FOR_SIGNIFICANCE:
        notes.append(f"Fewer than {SEEDS_FOR_SIGNIFICANCE} seeds: no claim of significance.")
    else:
        notes.append(
            f"p: sign-flip test of the differences to {BASELINE}, seed by seed, two-sided, not corrected for the "
            f"number of rows; given from {SEEDS_FOR_SIGNIFICANCE} pairs on."
        )
    if seeds > 1:
        notes.append("± is the sample standard deviation over seeds.")
    return notes


def _unequal_effort(records: Sequence[Record], missing: int) -> list[str]:
    """Warnings where recipes had unequal chances."""
    groups = statistics.by_rate(records)
    rates, seeds = Counter(recipe for recipe, _ in groups), Counter(map(len, groups.values()))
    notes = []
    if len(set(rates.values())) > 1:
        counts = ", ".join(f"{count} for {recipe}" for recipe, count in rates.items())
        notes.append(f"Unequal numbers of learning rates, which favours those with more: {counts}.")
    if len(seeds) > 1:
        counts = ", ".join(f"{count} settings have {size}" for size, count in sorted(seeds.items()))
        why = "the comparison is not finished" if missing else "as the comparison was made"
        notes.append(f"Unequal numbers of seeds ({why}): {counts}.")
    return notes


def _batch(record: Record) -> str:
    tokens = record.config.get("tokens_per_batch")
    examples = record.config.get("batch_size")
    return f"{tokens} tokens" if tokens else f"{examples} examples" if examples else "the script's own batch"


def _about_loss(record: Record) -> str:
    own = record.config["task"] == "script"
    text = f"eval loss: {record.loss_unit}." if own else f"eval loss: {record.loss_unit}, without label smoothing."
    if "unigram_entropy" in record.facts:
        text += (
            " Always predicting the token frequencies of the training target costs about "
            f"{record.facts['unigram_entropy']:.2f} (constant prediction)."
        )
    return text


def _environment(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items() if v)
    return (
        f"{environment['hardware']}, {environment['processes']} process(es) of {environment['threads']} "
        f"thread(s); {versions}; commit {environment['commit']}"
    )
