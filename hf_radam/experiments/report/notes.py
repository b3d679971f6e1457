"""What the tables do not say by themselves, as plain text; the limitations first."""

from __future__ import annotations

from collections import Counter

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.report.grid import grid
from hf_radam.experiments.report.statistics import BASELINE, SEEDS_FOR_SIGNIFICANCE, rates_differ
from hf_radam.experiments.results import Results


def notes(results: Results) -> list[str]:
    """What the table does not say by itself, the limitations first."""
    runs, facts, metric = results.runs, results.facts, METRICS[results.task_metric]
    rates = ", ".join(f"{rate:g}" for rate in sorted(set(runs.peak)))
    lengths = ", ".join(map(str, sorted(set(runs.updates))))
    found = [
        *_unequal_effort(results),
        f"Seeds {', '.join(map(str, results.seeds))}; {lengths} updates of {_batch(results)}; learning rate {rates}.",
        "RAdam and warmup use a smaller average learning rate, so short runs partly compare learning rates.",
        *_about_statistics(results),
        _about_loss(results),
    ]
    if "majority_class" in facts:
        found.append(
            f"failed: {metric.label} not better than that of always predicting the majority class, "
            f"{facts['majority_class']:.{metric.digits}f}."
        )
    if (label := results.positive_label) is not None:
        found.append(f"F1 is that of the label {label!r}.")
    told = zip(runs.recipe, runs.seed, runs.notes, strict=True)
    found += [f"{recipe}, seed {seed}: {note}" for recipe, seed, of_run in told for note in of_run]
    return found + [f"{line}." for line in sorted(set(runs.machine))]


def _about_statistics(results: Results) -> list[str]:
    seeds, notes = len(results.seeds), []
    if rates_differ(results.runs) and grid(results) is None:
        notes.append(
            f"The best learning rate of a recipe is that with the best mean {results.metric.label} at the last "
            f"validation, over the rates below; it was chosen on the numbers that are shown."
        )
    if BASELINE in set(results.runs.recipe) and len(results.best_rows) > 1 and grid(results) is None:
        notes.append(f"difference: to {BASELINE}, seed by seed, each at its best learning rate.")
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


def _unequal_effort(results: Results) -> list[str]:
    """Warnings where recipes had unequal chances."""
    rates, seeds = Counter(recipe for recipe, _ in results.rows), Counter(map(len, results.rows.values()))
    notes = []
    if len(set(rates.values())) > 1:
        counts = ", ".join(f"{count} for {recipe}" for recipe, count in rates.items())
        notes.append(f"Unequal numbers of learning rates, which favours those with more: {counts}.")
    if len(seeds) > 1:
        counts = ", ".join(f"{count} settings have {size}" for size, count in sorted(seeds.items()))
        why = "the comparison is not finished" if results.missing else "as the comparison was made"
        notes.append(f"Unequal numbers of seeds ({why}): {counts}.")
    return notes


def _batch(results: Results) -> str:
    tokens, examples = (results.comparison["shared"].get(name) for name in ("tokens_per_batch", "batch_size"))
    return f"{tokens} tokens" if tokens else f"{examples} examples" if examples else "the script's own batch"


def _about_loss(results: Results) -> str:
    own = results.comparison["shared"]["task"] == "script"
    text = f"eval loss: {results.loss_unit}" + ("." if own else ", without label smoothing.")
    if "unigram_entropy" in results.facts:
        text += (
            " Always predicting the token frequencies of the training target costs about "
            f"{results.facts['unigram_entropy']:.2f} (constant prediction)."
        )
    return text
