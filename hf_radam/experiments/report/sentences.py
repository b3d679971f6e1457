"""One paragraph of what a comparison found, from its numbers alone; it says where RAdam loses."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report.escape import code
from hf_radam.experiments.report.grid import listed
from hf_radam.experiments.report.statistics import (
    BASELINE,
    SEEDS_FOR_SIGNIFICANCE,
    Estimate,
    Row,
    estimate,
    has_failed,
    sign_flip_p,
)
from hf_radam.experiments.results import Results

# Results this near to each other, relatively, are called level.
LEVEL = 0.01
# RAdam that loses at most this share of what warmup gains has done nearly what warmup does.
NEAR = 0.05


def sentences(results: Results) -> list[str]:
    """What a comparison found, where recipes are no grid; what matters most comes first."""
    said = unfinished(results)
    results = results.paired()
    if results.records:
        best = {row.recipe: row for row in results.best_rows()}
        # Arms with another model are controls: what they show is not the optimizer's doing.
        controls = {name: row for name, row in best.items() if results.recipes[name].model}
        rows = {name: row for name, row in best.items() if name not in controls} or best
        baseline, warmup = _baseline(results, rows)
        radam, adam = rows.get("radam"), rows.get("adam")
        said.append(_winner(results, rows, among_others=len(rows) < len(best)))
        if radam is not None:
            said.append(_against_warmup(results, radam, baseline, warmup, adam))
            if adam is not None:
                said.append(_against_adam(results, radam, adam))
            said.append(_untuned(results, rows))
        said += [_trivial(results, rows), _controls(results, controls), _reach(results), _diverged(results)]
        said.append(_certainty(results, radam, baseline))
    return [sentence for sentence in said if sentence]


def unfinished(results: Results) -> list[str]:
    """How many runs there are yet, and which seeds are compared where not all recipes have all."""
    made, seeds = len(results.records), results.paired().seeds
    count = [f"Unfinished: {made} of {made + results.missing} runs."] if results.missing else []
    if not seeds:
        return [*count, "No seed has a run of all recipes: nothing to compare yet."]
    if seeds == results.seeds:
        return count
    which = "seed" if len(seeds) == 1 else "seeds"
    common = f"This is of {which} {', '.join(map(str, seeds))}, which all recipes have"
    return [*count, f"{common}." if results.missing else f"{common}; some were given more."]


def _baseline(results: Results, rows: Mapping[str, Row]) -> tuple[Row | None, str]:
    """What RAdam is compared with, and what to call it: adam_warmup, or the best Adam with a linear warmup."""
    if BASELINE in rows:
        return rows[BASELINE], "Adam with warmup"
    recipes = results.recipes
    tried = [rows[name] for name in rows if (recipes[name].optimizer, recipes[name].warmup) == ("adam", "linear")]
    if not tried:
        return None, ""
    best = min(tried, key=results.cost)
    return best, f"`{best.recipe}` as {f'the best of {len(tried)} Adams' if len(tried) > 1 else 'Adam'} with warmup"


def _winner(results: Results, rows: Mapping[str, Row], *, among_others: bool) -> str:
    best = min(rows.values(), key=results.cost)
    value = results.judged(best)
    if value.mean is None:
        some = any(results.by_seed(row) for row in rows.values())
        return "Every recipe diverged in some seed." if some else "No recipe ended with finite numbers."
    rates = len(results.learning_rates)
    where = "" if rates == 1 else f", each recipe at its best of {rates} learning rates"
    extreme = "highest" if METRICS[results.selection].higher_is_better else "lowest"
    opening = "Of the recipes with the same model, " if among_others else ""
    shown = f"{value.mean:.{_digits(results)}f}"
    equal = [name for name, row in rows.items() if _mean(results, row) == shown]
    if len(equal) > 1:
        names = listed([f"`{name}`" for name in equal])
        return f"{opening}{names} share the {extreme} {_name(results)}, {shown}{where}."
    if _is_bimodal(results, best):
        return f"{opening}`{best.recipe}`, with the {extreme} mean {_name(results)}, {_ends(results, best)}{where}."
    return f"{opening}`{best.recipe}` ends with the {extreme} {_name(results)}, {_text(results, value)}{where}."


def _against_warmup(results: Results, radam: Row, baseline: Row | None, warmup: str, adam: Row | None) -> str:
    if baseline is None:
        return f"RAdam {_ends(results, radam)}."
    ours, theirs = results.judged(radam).mean, results.judged(baseline).mean
    if ours is None or theirs is None or _is_bimodal(results, radam) or _is_bimodal(results, baseline):
        return f"RAdam {_ends(results, radam)}; {warmup} {_ends(results, baseline)}."
    if _are_level(ours, theirs):
        return f"RAdam ends level with {warmup}: {_value(results, radam)} against {_value(results, baseline)}."
    if _is_better(results, ours, theirs):
        opening = "RAdam, without any warmup, ends"
    else:
        lost = _lost_of_warmup(results, radam, baseline, adam)
        opening = "RAdam ends"
        if lost is not None:
            near = f"RAdam, without any warmup, keeps {1 - lost:.1%} of what warmup gains over Adam: it ends"
            opening = near if lost <= NEAR else "RAdam does not replace warmup here: it ends"
    way = "above" if ours > theirs else "below"
    return (
        f"{opening} at {_value(results, radam)}, {abs(ours - theirs):.{_digits(results)}f} {way} {warmup} "
        f"({_value(results, baseline)}){_how_often(results, radam, baseline)}."
    )


def _lost_of_warmup(results: Results, radam: Row, baseline: Row, adam: Row | None) -> float | None:
    """Which share of what warmup gains over Adam RAdam leaves, from 0; 1 where Adam alone diverged.

    None where warmup gains nothing, ends at a constant answer, or is not better than RAdam in each seed.
    """
    if adam is None or len(radam.seeds) < 2 or any(_is_trivial(results, run) for run in results.runs(baseline)):
        return None
    ours, theirs, without = (results.judged(row).mean for row in (radam, baseline, adam))
    if ours is None or theirs is None:
        return None
    if not all(_is_better(results, other, own) for own, other in _pairs(results, radam, baseline)):
        return None
    if without is None:
        return 1.0
    helps = _is_better(results, theirs, without) and not _are_level(theirs, without)
    return abs(ours - theirs) / abs(without - theirs) if helps else None


def _how_often(results: Results, radam: Row, baseline: Row) -> str:
    """In how many of the paired seeds the results differ the way their means do."""
    pairs = _pairs(results, radam, baseline)
    if len(pairs) < 2:
        return ""
    differences = [ours - theirs for ours, theirs in pairs]
    agreeing = sum(difference * sum(differences) > 0 for difference in differences)  # equal ones do not
    if agreeing < len(pairs):
        way = "above" if sum(differences) > 0 else "below"
        return f", but {way} it only in {agreeing} of {len(pairs)} seeds"
    return f",{_share(agreeing, radam)}"


def _against_adam(results: Results, radam: Row, adam: Row) -> str:
    ours, theirs = results.judged(radam).mean, results.judged(adam).mean
    if ours is None or theirs is None or _is_bimodal(results, radam) or _is_bimodal(results, adam):
        return f"Adam without warmup {_ends(results, adam)}."
    if _are_level(ours, theirs):
        return f"Adam without warmup ends level with RAdam, at {_value(results, adam)}."
    way = "higher" if theirs > ours else "lower"
    return f"Adam without warmup ends {way} than RAdam, at {_value(results, adam)}."


def _untuned(results: Results, rows: Mapping[str, Row]) -> str:
    """Ma & Yarats: a warmup that needs no tuning either does about as well."""
    untuned = [row for name, row in rows.items() if name.startswith("adam_untuned")]
    if not untuned:
        return ""
    best = min(untuned, key=results.cost)
    return f"Untuned warmup, which has nothing to tune either (`{best.recipe}`), {_ends(results, best)}."


def _trivial(results: Results, rows: Mapping[str, Row]) -> str:
    """Which recipes learned nothing, in how many seeds."""
    stuck = {name: sum(_is_trivial(results, run) for run in results.runs(row)) for name, row in rows.items()}
    stuck_ones = [f"`{name}`{_share(count, rows[name])}" for name, count in stuck.items() if count]
    return f"These are no better than {_floor(results)}: {', '.join(stuck_ones)}." if stuck_ones else ""


def _controls(results: Results, controls: Mapping[str, Row]) -> str:
    ends = [
        f"`{name}` ({_options(results.recipes[name].model)}) {_ends(results, row)}" for name, row in controls.items()
    ]
    return f"With another model, as a control, {'; '.join(ends)}." if ends else ""


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
    seeds = len(results.seeds)
    if seeds == 1:
        return "One seed: no claim of significance."
    if seeds < SEEDS_FOR_SIGNIFICANCE:
        return f"{seeds} seeds are too few to claim significance; {SEEDS_FOR_SIGNIFICANCE} would be the least."
    if radam is None or baseline is None:
        return f"{seeds} seeds."
    differences = [ours - theirs for ours, theirs in _pairs(results, radam, baseline)]
    p = sign_flip_p(differences)
    if p is None or len(differences) < seeds:
        return f"{seeds} seeds, and no test of significance, since one of the two diverged in some."
    tuned = ", which does not count the choice among learning rates" if len(results.learning_rates) > 1 else ""
    verdict = "RAdam and `{}` differ" if p < 0.05 else "no difference between RAdam and `{}` is shown"
    return f"Over {seeds} paired seeds {verdict.format(baseline.recipe)} (sign-flip test, p = {p:.3f}{tuned})."


def _pairs(results: Results, one: Row, other: Row) -> list[tuple[float, float]]:
    ours, theirs = results.by_seed(one), results.by_seed(other)
    return [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]


def _is_trivial(results: Results, run: Record) -> bool:
    """Whether a run is no better than one that always gives the same answer."""
    if has_failed(run):
        return True
    constant, loss = run.facts.get("unigram_entropy"), run.final["loss"]
    if results.selection != "loss" or constant is None or loss is None:
        return False
    return loss >= constant * (1 - LEVEL)


def _floor(results: Results) -> str:
    facts = results.records[0].facts
    if "majority_class" in facts:
        return "always predicting the majority class"
    return f"constant prediction ({facts['unigram_entropy']:.2f})"


def _ends(results: Results, row: Row) -> str:
    """What became of a row's runs, also where some of them diverged."""
    finite = estimate(list(results.by_seed(row).values()))
    broken = len(row.seeds) - finite.n
    if _is_bimodal(results, row):
        groups, digits = results.places(row), _digits(results)
        ends = [f"at {sum(group) / len(group):.{digits}f} in {len(group)}" for group in groups]
        rest = f"; it diverged in {broken}" if broken else ""
        return f"ends {ends[0]} of {len(row.seeds)} seeds and {ends[1]}{rest}"
    if not broken:
        return f"ends at {_text(results, finite)}"
    rest = f" and ends at {_text(results, finite)} in the other{'s' * (finite.n > 1)}" if finite.n else ""
    return f"diverged{_share(broken, row)}{rest}"


def _is_bimodal(results: Results, row: Row) -> bool:
    return len(results.places(row)) > 1


def _share(count: int, row: Row) -> str:
    seeds = len(row.seeds)
    if seeds == 1:
        return ""
    if count < seeds:
        return f" in {count} of {seeds} seeds"
    return " in both seeds" if seeds == 2 else f" in all {seeds} seeds"


def _options(options: Mapping[str, object]) -> str:
    return ", ".join(code(f"{key}: {json.dumps(value)}") for key, value in options.items())


def _are_level(a: float, b: float) -> bool:
    return abs(a - b) <= LEVEL * min(abs(a), abs(b))


def _is_better(results: Results, a: float, b: float) -> bool:
    return a > b if METRICS[results.selection].higher_is_better else a < b


def _name(results: Results) -> str:
    return "evaluation loss" if results.selection == "loss" else METRICS[results.selection].label


def _digits(results: Results) -> int:
    return METRICS[results.selection].digits


def _mean(results: Results, row: Row) -> str | None:
    mean = results.judged(row).mean
    return None if mean is None else f"{mean:.{_digits(results)}f}"


def _value(results: Results, row: Row) -> str:
    return _text(results, results.judged(row))


def _text(results: Results, value: Estimate) -> str:
    digits = _digits(results)
    return f"{value.mean:.{digits}f}" + ("" if value.std is None else f" ± {value.std:.{digits}f}")
