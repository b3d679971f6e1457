"""What the tables do not say by themselves, as plain text; the limitations first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import statistics
from hf_radam.experiments.report.grid import grid
from hf_radam.experiments.report.statistics import BASELINE, SEEDS_FOR_SIGNIFICANCE
from hf_radam.experiments.results import Results

# More recipes than this with one number of seeds are counted.
MOST_LISTED = 6


def notes(results: Results) -> list[str]:
    """What the table does not say by itself, the limitations first."""
    records = results.records
    first = records[0]
    seeds = sorted({record.seed for record in records})
    rates = ", ".join(f"{rate:g}" for rate in sorted({record.learning_rate for record in records}))
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
    tried: dict[str, set[float]] = {}
    repeated: dict[str, set[int]] = {}
    for (recipe, rate), group in statistics.by_rate(records).items():
        tried.setdefault(recipe, set()).add(rate)
        repeated.setdefault(recipe, set()).add(len(group))
    notes = []
    counts = {recipe: len(rates) for recipe, rates in tried.items()}
    if len(set(counts.values())) > 1:
        notes.append(f"Unequal numbers of learning rates, which favours those with more: {_listed(counts)}.")
    if len(set().union(*repeated.values())) > 1:
        seeds = {recipe: " or ".join(map(str, sorted(numbers))) for recipe, numbers in repeated.items()}
        why = "the comparison is not finished" if missing else "as the comparison was made"
        notes.append(f"Unequal numbers of seeds ({why}): {_listed(seeds)}.")
    return notes


def _listed(values: Mapping[str, Any]) -> str:
    """For each value the names that have it; of the most common one their number, where that is shorter."""
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        names.setdefault(str(value), []).append(name)
    most = max(names, key=lambda value: len(names[value]))
    few = len(names[most]) <= MOST_LISTED
    listed = [f"{value} for {', '.join(names[value])}" for value in names if few or value != most]
    return "; ".join(listed if few else [*listed, f"{most} for the {len(names[most])} others"])


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
