"""What the tables do not say by themselves, as plain text; the limitations first."""

from __future__ import annotations

from collections import Counter

from hf_radam.experiments.metrics import metric_named
from hf_radam.experiments.report.statistics import BASELINE, SEEDS_FOR_SIGNIFICANCE
from hf_radam.experiments.results import Results


def notes(results: Results) -> list[str]:
    """What the table does not say by itself, the limitations first."""
    runs, facts, shared, metric = results.runs, results.facts, results.comparison["shared"], results.metric
    first = results.records[0]
    tokens, examples = shared.get("tokens_per_batch"), shared.get("batch_size")
    batch = f"{tokens} tokens" if tokens else f"{examples} examples" if examples else "the script's own batch"
    updates, seeds = (", ".join(map(str, sorted(set(of)))) for of in (runs.updates, runs.seed))
    rates, count = ", ".join(f"{peak:g}" for peak in sorted(set(runs.peak))), len(results.seeds)
    several, single = count >= SEEDS_FOR_SIGNIFICANCE, not results.is_grid
    tried, sizes = Counter(recipe for recipe, _ in results.rows), Counter(map(len, results.rows.values()))
    counts = ", ".join(f"{count} for {recipe}" for recipe, count in tried.items())
    sized = ", ".join(f"{count} settings have {size}" for size, count in sorted(sizes.items()))
    why = "the comparison is not finished" if results.missing else "as the comparison was made"
    smoothing = "" if shared["task"] == "script" else ", without label smoothing"
    own, constant = metric_named(results.task_metric), facts.get("unigram_entropy")
    majority = f"{facts.get('majority_class', 0):.{own.digits}f}"
    said = {
        f"Unequal numbers of learning rates, which favours those with more: {counts}.": len(set(tried.values())) > 1,
        f"Unequal numbers of seeds ({why}): {sized}.": len(sizes) > 1,
        f"Seeds {seeds}; {updates} updates of {batch}; learning rate {rates}.": True,
        "RAdam and warmup use a smaller average learning rate, so short runs partly compare learning rates.": True,
        f"The best learning rate of a recipe is that with the best mean {metric.label} at the last validation, "
        "over the rates below; it was chosen on the numbers that are shown.": results.several_rates and single,
        f"difference: to {BASELINE}, seed by seed, each at its best learning rate.":
            BASELINE in set(runs.recipe) and len(results.best_rows) > 1 and single,
        f"Fewer than {SEEDS_FOR_SIGNIFICANCE} seeds: no claim of significance.": not several,
        f"p: sign-flip test of the differences to {BASELINE}, seed by seed, two-sided, not corrected for the number of "
        f"rows; given from {SEEDS_FOR_SIGNIFICANCE} pairs on.": several,
        "± is the sample standard deviation over seeds.": count > 1,
        f"eval loss: {first.loss_unit}{smoothing}." + (
            "" if constant is None else " Always predicting the token frequencies of the training target costs about "
            f"{constant:.2f} (constant prediction)."): True,
        f"failed: {own.label} not better than that of always predicting the majority class, {majority}.":
            "majority_class" in facts,
        f"F1 is that of the label {first.positive_label!r}.": first.positive_label is not None,
    }  # fmt: skip
    told = zip(runs.recipe, runs.seed, runs.notes, strict=True)
    of_runs = [f"{recipe}, seed {seed}: {note}" for recipe, seed, of_run in told for note in of_run]
    return [
        *(text for text, holds in said.items() if holds),
        *of_runs,
        *(f"{one}." for one in sorted(set(runs.machine))),
    ]
