"""One paragraph of what a comparison found, from its numbers alone; it says where RAdam loses."""

from __future__ import annotations

from collections.abc import Sequence

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.statistics import BASELINE, Estimate, Row
from hf_radam.publishing.results import Results

# Two-sided sign-flip tests of fewer pairs cannot give p < 0.05.
SEEDS_FOR_SIGNIFICANCE = 6
# Losses this near to each other, relatively, are called level.
LEVEL = 0.01


def finding(results: Results) -> str:
    """The paragraph, as Markdown. Recipes stand in code marks; losses are evaluation losses in nats."""
    rows = {row.recipe: row for row in results.best_rows()}
    sentences = [_winner(results)]
    radam = rows.get("radam")
    if radam is not None:
        sentences += [
            _against_warmup(radam, rows.get(BASELINE), results),
            _against_adam(radam, rows.get("adam"), results.records[0].facts.get("unigram_entropy")),
            _untuned([row for name, row in rows.items() if name.startswith("adam_untuned")]),
        ]
    sentences += [_reach(results), _diverged(results), _certainty(results, radam)]
    return " ".join(sentence for sentence in sentences if sentence)


def _winner(results: Results) -> str:
    best = results.best_row()
    if best.loss.mean is None:
        return "No recipe ended with a finite loss."
    metric = METRICS[results.selection]
    value = best.loss if results.selection == "loss" else best.metrics[results.selection]
    rates = results.learning_rates
    where = "" if len(rates) == 1 else f", each recipe at its best of {len(rates)} learning rates"
    extreme = "highest" if metric.higher_is_better else "lowest"
    name = "evaluation loss" if results.selection == "loss" else metric.label
    return f"`{best.recipe}` ends with the {extreme} {name}, {_number(value, metric.digits)}{where}."


def _against_warmup(radam: Row, baseline: Row | None, results: Results) -> str:
    if baseline is None:
        return ""
    if radam.loss.mean is None:
        return f"RAdam diverged{'' if baseline.loss.mean is None else ' where Adam with warmup did not'}."
    if baseline.loss.mean is None:
        return f"RAdam ends at a loss of {_number(radam.loss)} where Adam with warmup diverged."
    difference = radam.loss.mean - baseline.loss.mean
    if _are_level(radam, baseline):
        return (
            f"RAdam ends level with Adam with warmup: a loss of {_number(radam.loss)} against {_number(baseline.loss)}."
        )
    how_often = _how_often(radam, baseline, results)
    if difference > 0:
        return (
            f"RAdam does not replace warmup here: it ends at a loss of {_number(radam.loss)}, {difference:.3f} above "
            f"Adam with warmup ({_number(baseline.loss)}){how_often}."
        )
    return (
        f"RAdam, without any warmup, ends at a loss of {_number(radam.loss)}, {-difference:.3f} below Adam with warmup "
        f"({_number(baseline.loss)}){how_often}."
    )


def _how_often(radam: Row, baseline: Row, results: Results) -> str:
    """In how many of the paired seeds the losses differ the way their means do."""
    theirs, ours = results.losses(baseline), results.losses(radam)
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    if len(pairs) < 2 or radam.loss.mean is None or baseline.loss.mean is None:
        return ""
    agreeing = sum((a > b) == (radam.loss.mean > baseline.loss.mean) for a, b in pairs)
    if agreeing < len(pairs):
        return f", in {agreeing} of {len(pairs)} seeds"
    return ", in both seeds" if agreeing == 2 else f", in all {agreeing} seeds"


def _against_adam(radam: Row, adam: Row | None, constant: float | None) -> str:
    if adam is None or radam.loss.mean is None:
        return ""
    if adam.loss.mean is None:
        return "Adam without warmup diverged."
    if constant is not None and radam.loss.mean < constant * (1 - LEVEL) < adam.loss.mean:
        return (
            f"Adam without warmup stays at {_number(adam.loss)}, no better than constant prediction "
            f"({constant:.2f}), so rectification does train where plain Adam does not."
        )
    if _are_level(radam, adam):
        return f"Adam without warmup ends level with RAdam ({_number(adam.loss)}): rectification changes little here."
    way = "higher" if adam.loss.mean > radam.loss.mean else "lower"
    return f"Adam without warmup ends {way} than RAdam, at {_number(adam.loss)}."


def _untuned(untuned: Sequence[Row]) -> str:
    """Ma & Yarats: a warmup that needs no tuning either does about as well."""
    known = [row for row in untuned if row.loss.mean is not None]
    if not known:
        return "Untuned warmup diverged." if untuned else ""
    best = min(known, key=lambda row: row.loss.mean or 0.0)
    return f"Untuned warmup, which has nothing to tune either (`{best.recipe}`), ends at {_number(best.loss)}."


def _reach(results: Results) -> str:
    """Robustness to the learning rate: at how many of the tried rates every seed reached the target."""
    rates, target = len(results.learning_rates), results.comparison["target_loss"]
    if rates == 1 or target is None:
        return ""
    reached = dict.fromkeys((row.recipe for row in results.rows), 0)
    for row in results.rows:
        reached[row.recipe] += row.steps_to_target is not None and row.steps_to_target.n == len(row.seeds)
    counts = ", ".join(f"`{recipe}` at {count}" for recipe, count in reached.items())
    return f"Of the {rates} learning rates, all seeds reached a loss of {target:g} with {counts}."


def _diverged(results: Results) -> str:
    diverged = sum(record.diverged for record in results.records)
    return f"{diverged} of {len(results.records)} runs diverged." if diverged else ""


def _certainty(results: Results, radam: Row | None) -> str:
    fewest = min(len(row.seeds) for row in results.rows)
    if fewest == 1:
        return "One seed: no claim of significance."
    if fewest < SEEDS_FOR_SIGNIFICANCE:
        return f"{fewest} seeds are too few to claim significance; {SEEDS_FOR_SIGNIFICANCE} would be the least."
    interval = None if radam is None or radam.difference is None else radam.difference.interval
    if interval is None:
        return f"{fewest} seeds."
    low, high = interval
    verdict = "which includes zero, so no difference is shown" if low <= 0 <= high else "which leaves zero out"
    return (
        f"Over {fewest} paired seeds the 95 % interval of RAdam's loss minus that of `{BASELINE}` is {low:+.3f} to "
        f"{high:+.3f}, {verdict}."
    )


def _are_level(one: Row, other: Row) -> bool:
    a, b = one.loss.mean, other.loss.mean
    return a is not None and b is not None and abs(a - b) <= LEVEL * min(a, b)


def _number(value: Estimate, digits: int = 3) -> str:
    return f"{value.mean:.{digits}f}" + ("" if value.std is None else f" ± {value.std:.{digits}f}")
