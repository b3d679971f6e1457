"""A results folder -> table.md, summary.json and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.report import figures, statistics, table
from hf_radam.experiments.report.statistics import BASELINE, RESAMPLES, SEEDS_FOR_SIGNIFICANCE
from hf_radam.experiments.schema import UserError
from hf_radam.files import write_whole
from hf_radam.publishing.markdown import literal


def write_report(folder: Path, output_dir: Path | None = None) -> Path:
    """Write the report of all records in a results folder.

    Args:
        folder: a results folder of `scripts/compare.py`.
        output_dir: where to write; the folder itself by default.

    Returns:
        The path of table.md; summary.json and figures/ lie beside it.

    Raises:
        UserError: the folder holds no comparison, or no record.
    """
    description = folder / "comparison.json"
    try:
        comparison = json.loads(description.read_text(encoding="utf-8"))
        name, target_loss = comparison["name"], comparison["target_loss"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is no results folder of scripts/compare.py: {description} is missing or damaged"
        ) from error
    records = _in_order(load_records(folder), list(comparison.get("recipes", {})))
    output_dir = output_dir or folder
    rows = statistics.summarise(records, target_loss)
    best = statistics.summarise(statistics.at_best_rate(records), target_loss)
    summary = {
        "name": name,
        "target_loss": target_loss,
        "facts": records[0].facts,
        "rows": statistics.as_json(rows),
        "best_rows": statistics.as_json(best),
    }
    metric = records[0].metric
    tables = [table.markdown(rows, target_loss, metric)]
    if statistics.rates_differ(records):
        tables = [
            "## Each recipe at its best learning rate\n\n" + table.markdown(best, target_loss, metric, with_rates=True),
            f"## All learning rates\n\n{tables[0]}",
        ]
    drawn = figures.draw_all(records, output_dir / "figures", target_loss=target_loss)
    images = [f"![{literal(figure.title)}](figures/{figure.light})" for figure in drawn]
    notes = "\n".join(f"- {note}" for note in _notes(records))
    write_whole(output_dir / "summary.json", json.dumps(summary, indent=2) + "\n")
    path = output_dir / "table.md"
    write_whole(path, "\n\n".join([f"# {literal(name)}", *tables, notes, "\n".join(images)]) + "\n")
    return path


def _notes(records: Sequence[Record]) -> list[str]:
    """What the table does not say by itself, the limitations first."""
    first = records[0]
    seeds = sorted({record.seed for record in records})
    rates = ", ".join(f"{rate:g}" for rate in sorted({record.learning_rate for record in records}))
    lengths = ", ".join(str(length) for length in sorted({len(record.curves["step"]) for record in records}))
    notes = [
        *_unequal_effort(records),
        f"Seeds {', '.join(map(str, seeds))}; {lengths} updates of {_batch(first)}; learning rate {rates}.",
        "Short runs compare learning rates as much as optimizers: RAdam and warmup spend less of the schedule's area.",
        *_about_statistics(records, len(seeds)),
        _about_loss(first),
    ]
    if "majority_class" in first.facts:
        notes.append(
            f"failed: {METRICS[first.metric].label} not better than that of always predicting the majority class, "
            f"{first.facts['majority_class']:.{METRICS[first.metric].digits}f}."
        )
    notes += [f"{record.recipe}, seed {record.seed}: {literal(note)}" for record in records for note in record.notes]
    return notes + [f"{line}." for line in sorted({_environment(record.environment) for record in records})]


def _about_statistics(records: Sequence[Record], seeds: int) -> list[str]:
    name = METRICS[statistics.headline(records)].label
    notes = []
    if statistics.rates_differ(records):
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
        notes.append(
            f"± is the sample standard deviation over seeds. The interval is the percentile bootstrap of the mean of "
            f"{name} over seeds ({RESAMPLES:,} resamples); of 3 seeds it is their range, which holds the true mean in "
            "about 3 cases of 4, and it stays too narrow below about 10."
        )
    return notes


def _unequal_effort(records: Sequence[Record]) -> list[str]:
    """Warnings where recipes had unequal chances."""
    tried: dict[str, set[float]] = {}
    repeated: dict[str, set[int]] = {}
    for (recipe, rate), group in statistics.by_rate(records).items():
        tried.setdefault(recipe, set()).add(rate)
        repeated.setdefault(recipe, set()).add(len(group))
    notes = []
    counts = {recipe: len(rates) for recipe, rates in tried.items()}
    if len(set(counts.values())) > 1:
        notes.append(f"**Unequal numbers of learning rates**, which favours those with more: {_listed(counts)}.")
    if len(set().union(*repeated.values())) > 1:
        seeds = {recipe: " or ".join(map(str, sorted(numbers))) for recipe, numbers in repeated.items()}
        notes.append(f"**Unequal numbers of seeds** (the comparison is not finished?): {_listed(seeds)}.")
    return notes


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _batch(record: Record) -> str:
    tokens = record.config.get("tokens_per_batch")
    return f"{tokens} tokens" if tokens else f"{record.config['batch_size']} examples"


def _about_loss(record: Record) -> str:
    text = f"eval loss: {literal(record.loss_unit)}, without label smoothing."
    if "unigram_entropy" in record.facts:
        text += (
            " Always predicting the token frequencies of the training target costs about "
            f"{record.facts['unigram_entropy']:.2f} (constant prediction)."
        )
    return text


def _environment(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{literal(name)} {literal(v)}" for name, v in environment["versions"].items() if v)
    return (
        f"{literal(environment['hardware'])}, {environment['processes']} process(es) of {environment['threads']} "
        f"thread(s); {versions}; commit {literal(environment['commit'])}"
    )


def _in_order(records: list[Record], recipes: list[str]) -> list[Record]:
    order = {name: position for position, name in enumerate(recipes)}
    return sorted(records, key=lambda record: (order.get(record.recipe, len(order)), record.recipe))
