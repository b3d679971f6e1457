"""One paragraph of what a comparison found, from its numbers alone; it says where RAdam loses."""

from __future__ import annotations

from collections.abc import Sequence

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.statistics import BASELINE, Row, estimate
from hf_radam.publishing.results import Results

# Two-sided sign-flip tests of fewer pairs cannot give p < 0.05.
SEEDS_FOR_SIGNIFICANCE = 6
# Results this near to each other, relatively, are called level.
LEVEL = 0.01


def finding(results: Results) -> str:
    """The paragraph, as Markdown; recipes stand in code marks."""
    rows = {row.recipe: row for row in results.best_rows()}
    sentences = [_winner(results)]
    radam, baseline = rows.get("radam"), rows.get(BASELINE)
    if radam is not None:
        untuned = [row for name, row in rows.items() if name.startswith("adam_untuned")]
        sentences += [_against_warmup(results, radam, baseline), _against_adam(results, radam, rows.get("adam"))]
        sentences += [_untuned(results, untuned)]
    sentences += [_reach(results), _diverged(results), _certainty(results, radam, baseline)]
    return " ".join(sentence for sentence in sentences if sentence)


def _winner(results: Results) -> str:
    best = results.best_row()
    if results.judged(best).mean is None:
        return "No recipe ended with finite numbers."
    rates = len(results.learning_rates)
    where = "" if rates == 1 else f", each recipe at its best of {rates} learning rates"
    extreme = "highest" if METRICS[results.selection].higher_is_better else "lowest"
    return f"`{best.recipe}` ends with the {extreme} {_name(results)}, {_value(results, best)}{where}."


def _against_warmup(results: Results, radam: Row, baseline: Row | None) -> str:
    if baseline is None:
        return ""
    ours, theirs = results.judged(radam).mean, results.judged(baseline).mean
    if ours is None:
        return f"RAdam diverged{'' if theirs is None else ' where Adam with warmup did not'}."
    if theirs is None:
        return f"RAdam ends at {_value(results, radam)} where Adam with warmup diverged."
    if _are_level(ours, theirs):
        return f"RAdam ends level with Adam with warmup: {_value(results, radam)} against {_value(results, baseline)}."
    opening = (
        "RAdam, without any warmup," if _is_better(results, ours, theirs) else "RAdam does not replace warmup here: it"
    )
    return (
        f"{opening} ends at {_value(results, radam)}, {abs(ours - theirs):.{_digits(results)}f} "
        f"{'above' if ours > theirs else 'below'} Adam with warmup ({_value(results, baseline)})"
        f"{_how_often(results, radam, baseline)}."
    )


def _how_often(results: Results, radam: Row, baseline: Row) -> str:
    """In how many of the paired seeds the results differ the way their means do."""
    pairs = _pairs(results, radam, baseline)
    if len(pairs) < 2:
        return ""
    differences = [ours - theirs for ours, theirs in pairs]
    agreeing = sum(difference * sum(differences) > 0 for difference in differences)  # equal ones do not
    if agreeing < len(pairs):
        return f", in {agreeing} of {len(pairs)} seeds"
    return ", in both seeds" if agreeing == 2 else f", in all {agreeing} seeds"


def _against_adam(results: Results, radam: Row, adam: Row | None) -> str:
    ours = results.judged(radam).mean
    if adam is None or ours is None:
        return ""
    theirs = results.judged(adam).mean
    if theirs is None:
        return "Adam without warmup diverged."
    constant = results.records[0].facts.get("unigram_entropy") if results.selection == "loss" else None
    if constant is not None and ours < constant * (1 - LEVEL) < theirs:
        return (
            f"Adam without warmup stays at {_value(results, adam)}, no better than constant prediction "
            f"({constant:.2f}), so rectification does train where plain Adam does not."
        )
    if _are_level(ours, theirs):
        return (
            f"Adam without warmup ends level with RAdam ({_value(results, adam)}): rectification changes little here."
        )
    way = "higher" if theirs > ours else "lower"
    return f"Adam without warmup ends {way} than RAdam, at {_value(results, adam)}."


def _untuned(results: Results, untuned: Sequence[Row]) -> str:
    """Ma & Yarats: a warmup that needs no tuning either does about as well."""
    known = [(mean, row) for row in untuned if (mean := results.judged(row).mean) is not None]
    if not known:
        return "Untuned warmup diverged." if untuned else ""
    choose = max if METRICS[results.selection].higher_is_better else min
    _, best = choose(known, key=lambda pair: pair[0])
    return f"Untuned warmup, which has nothing to tune either (`{best.recipe}`), ends at {_value(results, best)}."


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


def _certainty(results: Results, radam: Row | None, baseline: Row | None) -> str:
    fewest = min(len(row.seeds) for row in results.rows)
    if fewest == 1:
        return "One seed: no claim of significance."
    if fewest < SEEDS_FOR_SIGNIFICANCE:
        return f"{fewest} seeds are too few to claim significance; {SEEDS_FOR_SIGNIFICANCE} would be the least."
    pairs = [] if radam is None or baseline is None else _pairs(results, radam, baseline)
    interval = estimate([ours - theirs for ours, theirs in pairs]).interval
    if len(pairs) < SEEDS_FOR_SIGNIFICANCE or interval is None:
        return f"{fewest} seeds."
    low, high = interval
    verdict = "which includes zero, so no difference is shown" if low <= 0 <= high else "which leaves zero out"
    digits = _digits(results)
    return (
        f"Over {len(pairs)} paired seeds the 95 % interval of RAdam's {_name(results)} minus that of `{BASELINE}` is "
        f"{low:+.{digits}f} to {high:+.{digits}f}, {verdict}."
    )


def _pairs(results: Results, one: Row, other: Row) -> list[tuple[float, float]]:
    ours, theirs = results.by_seed(one), results.by_seed(other)
    return [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]


def _are_level(a: float, b: float) -> bool:
    return abs(a - b) <= LEVEL * min(abs(a), abs(b))


def _is_better(results: Results, a: float, b: float) -> bool:
    return a > b if METRICS[results.selection].higher_is_better else a < b


def _name(results: Results) -> str:
    return "evaluation loss" if results.selection == "loss" else METRICS[results.selection].label


def _digits(results: Results) -> int:
    return METRICS[results.selection].digits


def _value(results: Results, row: Row) -> str:
    value, digits = results.judged(row), _digits(results)
    return f"{value.mean:.{digits}f}" + ("" if value.std is None else f" ± {value.std:.{digits}f}")
