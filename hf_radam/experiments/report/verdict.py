"""What a comparison found, in words: the answer, RAdam against warmup, the rest; it says where RAdam loses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from hf_radam.experiments.report import grid, rates
from hf_radam.experiments.report.markdown import code
from hf_radam.experiments.report.statistics import (
    BASELINE,
    SEEDS_FOR_SIGNIFICANCE,
    Row,
    cost,
    estimate,
    name,
    pairs,
    sign_flip_p,
)
from hf_radam.experiments.results import Results

# A loss at most this share below that of constant prediction has learned nothing.
LEVEL = 0.01
SENTENCES = 3


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found, as Markdown; recipes stand in code marks."""

    headline: tuple[str, ...]
    """Three sentences or so."""
    text: str
    """All sentences."""


def judge(results: Results) -> Verdict:
    """The verdict on a comparison."""
    over, paired = grid.grid(results), results.paired()
    # A search gives more seeds to what decides.
    opening = unfinished(results, results.seeds if over else paired.seeds)
    said = grid.sentences(over) if over else sentences(paired) if paired.records else []
    equal = [duel.sentence for duel in rates.duels(results)]
    first = [*said[:SENTENCES], *(equal[:1] if over else [])]
    return Verdict(headline=(*opening, *first), text=" ".join([*opening, *said, *equal]))


def unfinished(results: Results, seeds: Sequence[int]) -> list[str]:
    """How many runs there are yet, and which seeds are compared where these are not all."""
    made = len(results.records)
    count = [f"**Not finished: {made} of {made + results.missing} runs.**"] if results.missing else []
    if not seeds:
        return [*count, "No seed has a run of all recipes: nothing to compare yet."]
    if seeds == results.seeds:
        return count
    which = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, which all recipes have"
    return [*count, f"So far, over {which}:" if results.missing else f"Over {which}; some were given more:"]


def sentences(results: Results) -> list[str]:
    """What a comparison found, where recipes are no grid; what matters most comes first."""
    best = {name(row): row for row in results.best_rows}
    # Arms with another model are controls: what they show is not the optimizer's doing.
    controls = {recipe: row for recipe, row in best.items() if results.recipes[recipe].model}
    rows = {recipe: row for recipe, row in best.items() if recipe not in controls} or best
    if len(best) == 1:
        return [f"`{recipe}` {_ends(results, row)}." for recipe, row in rows.items()]
    radam, adam, baseline = rows.get("radam"), rows.get("adam"), _baseline(results, rows)
    if not any(_learned(results, row) for row in rows.values()):
        tried = ", ".join(f"{rate:g}" for rate in results.learning_rates)
        floor = f" or are no better than {_floor(results)}" if _floor(results) else ""
        said = [f"**Nothing trained.** All {len(rows)} recipes diverge{floor}. Lower the learning rate "
                f"(tried: {tried}) before comparing optimizers."]  # fmt: skip
    elif len(results.seeds) == 1:
        shown = [min(rows.values(), key=cost), *(row for row in (radam, baseline, adam) if row is not None)]
        ends = dict.fromkeys(f"{_name(results, row)} {_ends(results, row)}" for row in shown)
        said = [f"**One seed, so no spread and no test.** {'; '.join(ends)}.".replace(" ends at", "")]
        said.append("`--seeds 0 1 2 3 4 5` is the fewest that allow a test.")
    else:
        said = [_answer(results, rows, radam, baseline, adam)]
        said += [_adam(results, adam)] if adam is not None and radam is not None else []
        said.append(_best(results, rows, radam, baseline))
    for recipe, row in rows.items():
        if len(results.places(row)) > 1 and not any(row is told for told in (radam, baseline, adam)):
            said.append(f"**Depends on the seed.** `{recipe}` {_ends(results, row)}, so no mean is given.")
    ends = [f"`{n}` ({_options(results.recipes[n].model)}) {_ends(results, row)}" for n, row in controls.items()]
    said += [f"With another model, as a control, {'; '.join(ends)}."] if ends and rows is not best else []
    diverged = int(results.runs.diverged.sum())
    said += [f"{diverged} of {len(results.runs)} runs diverged."] if diverged else []
    said.append(_certainty(results, radam, baseline))
    return [sentence for sentence in said if sentence]


def _baseline(results: Results, rows: Mapping[str, Row]) -> Row | None:
    """What RAdam is compared with: adam_warmup, or the best Adam with a linear warmup."""
    recipes = results.recipes
    linear = [row for x, row in rows.items() if (recipes[x].warmup, recipes[x].optimizer) == ("linear", "adam")]
    return rows[BASELINE] if BASELINE in rows else min(linear, key=cost, default=None)


def _name(results: Results, row: Row) -> str:
    if name(row) == BASELINE:
        return f"Adam with a {row.warmup.max()}-update warmup"
    return {"radam": "RAdam", "adam": "Adam"}.get(name(row), f"`{name(row)}`")


def _answer(
    results: Results,
    rows: Mapping[str, Row],
    radam: Row | None,
    baseline: Row | None,
    adam: Row | None,
) -> str:
    metric = results.metric
    count = len(results.learning_rates)
    where = f", each at its best of {count} learning rates" if count > 1 else ""
    if radam is None or baseline is None:
        best = min(rows.values(), key=cost)
        extreme = "highest" if metric.higher_is_better else "lowest"
        return f"{_name(results, best)} has the {extreme} {metric.label}: it {_ends(results, best)}{where}."
    ours, theirs = estimate(radam.value).mean, estimate(baseline.value).mean
    other = _name(results, baseline)
    if ours is None or theirs is None or max(len(results.places(row)) for row in (radam, baseline)) > 1:
        lost, won = (row.value.isna().all() for row in (radam, baseline))
        opening = "Keep the warmup" if lost else "RAdam wins" if won else "Depends on the seed"
        return f"**{opening}.** RAdam {_ends(results, radam)}; {other} {_ends(results, baseline)}{where}."
    both = pairs(radam, baseline)
    gaps = both.cost_x - both.cost_y
    agreeing, difference = int((gaps * gaps.sum() > 0).sum()), f"{abs(ours - theirs):.{metric.digits}f}"
    if agreeing < len(gaps):
        return (f"**Tie.** RAdam ({_value(results, radam)}) and {other} ({_value(results, baseline)}) differ by "
                f"{difference}, and {agreeing} of {len(gaps)} seeds agree on the sign{where}.")  # fmt: skip
    useless = adam is not None and cost(adam) <= cost(baseline)
    near = gaps.mean() <= grid.STRICT * metric.apart
    opening = "RAdam wins" if gaps.sum() < 0 else "Almost" if near else "RAdam loses" if useless else "Keep the warmup"
    share = f" ({100 * abs(ours - theirs) / abs(theirs):.0f} %)" if theirs and not metric.higher_is_better else ""
    return (
        f"**{opening}{', but warmup is no help here' * useless}.** RAdam ends at {_value(results, radam)}, {difference}"
        f"{share} {'above' if ours > theirs else 'below'} {other} ({_value(results, baseline)}), in "
        f"{_share(len(gaps), radam)}{where}."
    )


def _adam(results: Results, adam: Row) -> str:
    stuck = int(_trivial(results, adam).sum())
    if not stuck or len(results.places(adam)) > 1:
        return f"Without warmup Adam {_ends(results, adam)}."
    return f"Without warmup Adam is no better than {_floor(results)} in {_share(stuck, adam)}."


def _best(results: Results, rows: Mapping[str, Row], radam: Row | None, baseline: Row | None) -> str:
    best = min(rows.values(), key=cost)
    if radam is not None and baseline is not None and not (best is radam or best is baseline):
        return f"Best: {_name(results, best)}, {_value(results, best)}."
    untuned = [row for recipe, row in rows.items() if recipe.startswith("adam_untuned")]
    return f"Untuned warmup {_ends(results, min(untuned, key=cost))}." if untuned else ""


def _certainty(results: Results, radam: Row | None, baseline: Row | None) -> str:
    seeds = len(results.seeds)
    if seeds == 1 or radam is None or baseline is None:
        return ""
    if seeds < SEEDS_FOR_SIGNIFICANCE:
        return f"With {seeds} seeds no test can reach p < 0.05; {SEEDS_FOR_SIGNIFICANCE} can."
    both = pairs(radam, baseline)
    p = sign_flip_p(both.value_x - both.value_y)
    if p is None or len(both) < seeds:
        return f"{seeds} seeds, and no test of significance, since one of the two diverged in some."
    tuned = ", which does not count the choice among learning rates" if len(results.learning_rates) > 1 else ""
    verdict = "RAdam and `{}` differ" if p < 0.05 else "no difference between RAdam and `{}` is shown"
    return f"Over {seeds} paired seeds {verdict.format(name(baseline))} (sign-flip test, p = {p:.3f}{tuned})."


def _learned(results: Results, row: Row) -> bool:
    """Whether some run of a row ended with a number that is better than a constant answer's."""
    return bool((row.value.notna() & ~_trivial(results, row)).any())


def _trivial(results: Results, row: Row) -> pd.Series:
    """Which runs are no better than one that always gives the same answer."""
    constant = results.facts.get("unigram_entropy")
    failed = row.failed.eq(True)
    if results.selection != "loss" or constant is None:
        return failed
    return failed | (row.value >= constant * (1 - LEVEL))


def _floor(results: Results) -> str:
    facts = results.facts
    if "majority_class" in facts:
        return "always predicting the majority class"
    return f"constant prediction ({facts['unigram_entropy']:.2f})" if "unigram_entropy" in facts else ""


def _ends(results: Results, row: Row) -> str:
    """What became of a row's runs, also where some of them diverged."""
    finite = estimate(row.value.dropna())
    broken, groups, digits = len(row) - finite.n, results.places(row), results.metric.digits
    if len(groups) > 1:
        ends = [f"at {sum(group) / len(group):.{digits}f} in {len(group)}" for group in groups]
        rest = f"; it diverged in {broken}" if broken else ""
        return f"ends {ends[0]} of {len(row)} seeds and {ends[1]}{rest}"
    if not broken:
        return f"ends at {finite.text(digits)}"
    rest = f" and ends at {finite.text(digits)} in the other{'s' * (finite.n > 1)}" if finite.n else ""
    return f"diverged{f' in {_share(broken, row)}' if len(row) > 1 else ''}{rest}"


def _share(count: int, row: Row) -> str:
    seeds = len(row)
    return f"{count} of {seeds} seeds" if count < seeds else "both seeds" if seeds == 2 else f"all {seeds} seeds"


def _options(options: Mapping[str, object]) -> str:
    return ", ".join(code(f"{key}: {json.dumps(value)}") for key, value in options.items())


def _value(results: Results, row: Row) -> str:
    return estimate(row.value).text(results.metric.digits)
