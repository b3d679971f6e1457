"""What the tables do not say by themselves, as plain text; the limitations first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hf_radam.experiments.metrics import metric_named
from hf_radam.experiments.report.statistics import BASELINE, SEEDS_FOR_SIGNIFICANCE
from hf_radam.experiments.results import Results


def notes(results: Results) -> list[str]:
    """The limitations of a comparison, what its tables mean, and what went wrong in single runs."""
    told = zip(results.runs.recipe, results.runs.seed, results.runs.notes, strict=True)
    of_runs = [f"{recipe}, seed {seed}: {note}" for recipe, seed, of_run in told for note in of_run]
    cases = {**_limitations(results), **_explanations(results)}
    machines = [f"{machine}." for machine in sorted(set(results.runs.machine))]
    return [*(text for text, holds in cases.items() if holds), *of_runs, *machines]


def _limitations(results: Results) -> dict[str, bool]:
    """What a comparison cannot tell, and whether that is so for this one."""
    runs, script = results.runs, results.comparison["shared"]["task"] == "script"
    tried, sizes = Counter(recipe for recipe, _ in results.rows), Counter(map(len, results.rows.values()))
    counts = ", ".join(f"{count} for {recipe}" for recipe, count in tried.items())
    sized = ", ".join(f"{count} settings have {size}" for size, count in sorted(sizes.items()))
    why = "the comparison is not finished" if results.missing else "as the comparison was made"
    lengths = _listed(runs.warmup[runs.family == "warmup"])
    untuned = any(recipe.warmup.startswith("untuned") for recipe in results.recipes.values())
    return {
        "RAdam and warmup use a smaller average learning rate, so short runs partly compare learning rates.": True,
        f"Unequal numbers of learning rates, which favours those with more: {counts}.": len(set(tried.values())) > 1,
        f"Unequal numbers of seeds ({why}): {sized}.": len(sizes) > 1,
        "One learning rate: it may be too high or too low for a recipe.": len(results.learning_rates) == 1,
        "Recipes differ at the first update: initial weights or first examples depend on more than the seed.":
            script and not results.same_start,
        "For a seed, all recipes had the same loss at the first update: the same initial weights and first examples.":
            script and results.same_start,
        f"Linear warmup was tried at these lengths only: {lengths} updates.": bool(lengths),
        "No Adam with warmup to compare with.": not lengths,
        "No untuned warmup, which Ma & Yarats (arXiv 1910.04209) found about equal to RAdam.": not untuned,
    }  # fmt: skip


def _explanations(results: Results) -> dict[str, bool]:
    """What was run and what tables mean, and whether that is to be said of these."""
    runs, facts, shared, metric = results.runs, results.facts, results.comparison["shared"], results.metric
    first, single, seeds = results.records[0], not results.is_grid, len(results.seeds)
    tokens, examples = shared.get("tokens_per_batch"), shared.get("batch_size")
    batch = f"{tokens} tokens" if tokens else f"{examples} examples" if examples else "the script's own batch"
    seconds = (runs.seconds_per_step * runs.updates).sum()
    took = f"{seconds / 60:,.0f} minutes" if seconds > 120 else f"{seconds:.0f} s"
    own, unit = metric_named(results.task_metric), "" if shared["task"] == "script" else ", without label smoothing"
    majority, constant = facts.get("majority_class"), facts.get("unigram_entropy")
    return {
        f"Seeds {_listed(runs.seed)}; {_listed(runs.updates)} updates of {batch}; learning rate {_listed(runs.peak)}; "
        f"{runs.diverged.sum()} of {len(runs)} runs diverged.": True,
        f"The training took {took} in all, without evaluations.": True,
        f"The best learning rate of a recipe is that with the best mean {metric.label} at the last validation, "
        "over the rates below; it was chosen on the numbers that are shown.": results.several_rates and single,
        f"difference: to {BASELINE}, seed by seed, each at its best learning rate.":
            BASELINE in set(runs.recipe) and len(results.best_rows) > 1 and single,
        "p: sign-flip test of these differences, two-sided, not corrected for the number of rows.":
            single and seeds >= SEEDS_FOR_SIGNIFICANCE and BASELINE in set(runs.recipe),
        f"Fewer than {SEEDS_FOR_SIGNIFICANCE} seeds: no claim of significance.": seeds < SEEDS_FOR_SIGNIFICANCE,
        "± is the sample standard deviation over seeds.": seeds > 1 and single,
        f"eval loss: {first.loss_unit}{unit}.": True,
        "constant prediction: that of the token frequencies of the training target, whose eval loss is about "
        f"{constant or 0:.2f}.": constant is not None,
        f"failed: {own.label} not better than that of always predicting the majority class, "
        f"{majority or 0:.{own.digits}f}; {runs.failed.eq(True).sum()} of {len(runs)} runs.": majority is not None,
        f"F1 is that of the label {first.positive_label!r}.": first.positive_label is not None,
    }  # fmt: skip


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(set(values)))
