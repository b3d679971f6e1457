"""What a comparison found, in words: the answer, RAdam against warmup, the rest; it says where RAdam loses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hf_radam.experiments.report import rates
from hf_radam.experiments.report.markdown import code
from hf_radam.experiments.report.statistics import (
    BASELINE,
    SEEDS_FOR_SIGNIFICANCE,
    STRICT,
    Row,
    capital,
    cost,
    each,
    name,
    sign_flip_p,
    spread,
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
    over, paired, duels = results.is_grid, results.paired(), rates.duels(results)
    # A search gives more seeds to what decides.
    opening = _unfinished(results, results.seeds if over else paired.seeds)
    said = grid_sentences(results) if over else _Finding(paired).sentences() if paired.records else []
    first = [*said[:SENTENCES], *([rates.sentence(duels[:1])] if over and duels else [])]
    rest = [rates.sentence(duels)] if duels else []
    return Verdict(headline=(*opening, *first), text=" ".join([*opening, *said, *rest]))


def _unfinished(results: Results, seeds: Sequence[int]) -> list[str]:
    """How many runs there are yet, and which seeds are compared where these are not all."""
    made = len(results.records)
    count = [f"**Not finished: {made} of {made + results.missing} runs.**"] if results.missing else []
    if not seeds:
        return [*count, "No seed has a run of all recipes: nothing to compare yet."]
    if seeds == results.seeds:
        return count
    which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}, which all recipes have"
    return [*count, f"So far, over {which}:" if results.missing else f"Over {which}; some were given more:"]


def grid_sentences(results: Results) -> list[str]:
    """Whether one recipe works most widely, how widely each does, the best setting of each, the seeds."""
    metric, found = results.metric, results.cells
    found = found.assign(settings=1, widely=found.failures == 0, strictly=found.strict_failures == 0)
    groups = found.groupby("label", sort=False)
    shares = pd.DataFrame(groups[["widely", "strictly"]].mean())
    widest = [set(shares.index[shares[kind] == shares[kind].max()]) for kind in shares]
    opening = f"{capital(min(widest[0]))} works most widely" if widest == widest[:1] * 2 and len(widest[0]) == 1 else ""
    counts = [
        f"{of.Index} in {of.widely} ({of.strictly}) of {of.settings}"
        for of in each(pd.DataFrame(groups[["widely", "strictly", "settings"]].sum()))
    ]
    best = [
        f"{of.label} {of.value:.{metric.digits}f} (lr {of.learning_rate:g}, beta2 {of.beta2:g})"
        for of in each(found.loc[groups.cost.idxmin()])
    ]
    sizes = [f"{count} settings have {n} seed{'s' * (n > 1)}" for n, count in sorted(Counter(found.seeds).items())]
    return [
        f"**{opening or 'No clear winner'}.**",
        f"All seeds end within {metric.apart:g} ({STRICT * metric.apart:g}) of the best median {metric.label} at that "
        f"learning rate: {', '.join(counts)} settings.",
        f"Best settings: {', '.join(best)}.",
        f"Of the grid, {' and '.join(filter(None, [', '.join(sizes[:-1]), sizes[-1]]))}.",
    ]


class _Finding:
    """Recipes, each at its best learning rate, where they are no grid."""

    def __init__(self, results: Results) -> None:
        best = {name(row): row for row in results.best_rows}
        # Arms with another model are controls: what they show is not the optimizer's doing.
        self.rows = {x: row for x, row in best.items() if not results.recipes[x].model} or best
        self.results, self.metric = results, results.metric
        self.radam, self.adam = self.rows.get("radam"), self.rows.get("adam")
        linear = [row for row in self.rows.values() if row.family.iat[0] == "warmup"]
        # What RAdam is compared with: adam_warmup, or the best Adam with a linear warmup.
        self.baseline = self.rows.get(BASELINE, min(linear, key=cost, default=None))
        self.best = min(self.rows.values(), key=cost)

    def sentences(self) -> list[str]:
        """What matters most comes first."""
        results, told = self.results, [self.radam, self.baseline, self.adam]
        if len(results.best_rows) == 1:
            return [f"`{recipe}` {self.ends(row)}." for recipe, row in self.rows.items()]
        said, controls, diverged = self.answer(), [], int(results.runs.diverged.sum())
        for row in results.best_rows:
            shown, model = f"`{name(row)}`", results.recipes[name(row)].model
            if name(row) not in self.rows:
                options = ", ".join(code(f"{key}: {json.dumps(value)}") for key, value in model.items())
                controls.append(f"{shown} ({options}) {self.ends(row)}")
            elif len(results.places(row)) > 1 and not any(row is one for one in told):
                said.append(f"**Depends on the seed.** {shown} {self.ends(row)}, so no mean is given.")
        said += [f"With another model, as a control, {'; '.join(controls)}."] if controls else []
        said += [f"{diverged} of {len(results.runs)} runs diverged."] if diverged else []
        return [*said, *self.certainty()]

    def answer(self) -> list[str]:
        """The answer, what became of Adam without warmup, and the best of the rest."""
        results, radam, baseline, adam = self.results, self.radam, self.baseline, self.adam
        if not any((row.value.notna() & ~self.trivial(row)).any() for row in self.rows.values()):
            tried = ", ".join(f"{rate:g}" for rate in results.learning_rates)
            floor = f" or are no better than {self.floor()}" if self.floor() else ""
            return [f"**Nothing trained.** All {len(self.rows)} recipes diverge{floor}. Lower the learning rate "
                    f"(tried: {tried}) before comparing optimizers."]  # fmt: skip
        if len(results.seeds) == 1:
            shown = dict.fromkeys(f"{self.name(row)} {self.ends(row)}" for row in (self.best, radam, baseline, adam)
                                  if row is not None)  # fmt: skip
            return [f"**One seed, so no spread and no test.** {'; '.join(shown)}.".replace(" ends at", ""),
                    "`--seeds 0 1 2 3 4 5` is the fewest that allow a test."]  # fmt: skip
        said = [self.duel()]
        if adam is not None and radam is not None:
            stuck = int(self.trivial(adam).sum())
            constant = stuck and len(results.places(adam)) == 1
            became = f"is no better than {self.floor()} in {_share(stuck, adam)}" if constant else self.ends(adam)
            said.append(f"Without warmup Adam {became}.")
        untuned = [row for recipe, row in self.rows.items() if recipe.startswith("adam_untuned")]
        if radam is not None and baseline is not None and not (self.best is radam or self.best is baseline):
            said.append(f"Best: {self.name(self.best)}, {self.value(self.best)}.")
        elif untuned:
            said.append(f"Untuned warmup {self.ends(min(untuned, key=cost))}.")
        return said

    def duel(self) -> str:
        """RAdam against Adam with warmup, or without one of them the best recipe."""
        radam, baseline, count = self.radam, self.baseline, len(self.results.learning_rates)
        where = f", each at its best of {count} learning rates" if count > 1 else ""
        if radam is None or baseline is None:
            extreme = "highest" if self.metric.higher_is_better else "lowest"
            return f"{self.name(self.best)} has the {extreme} {self.metric.label}: it {self.ends(self.best)}{where}."
        ours, theirs = radam.value.mean(skipna=False), baseline.value.mean(skipna=False)
        other = self.name(baseline)
        if pd.isna(ours - theirs) or max(len(self.results.places(row)) for row in (radam, baseline)) > 1:
            lost, won = (row.value.isna().all() for row in (radam, baseline))
            opening = "Keep the warmup" if lost else "RAdam wins" if won else "Depends on the seed"
            return f"**{opening}.** RAdam {self.ends(radam)}; {other} {self.ends(baseline)}{where}."
        both = radam.merge(baseline, on="seed")
        gaps = both.cost_x - both.cost_y
        agreeing, difference = int((gaps * gaps.sum() > 0).sum()), f"{abs(ours - theirs):.{self.metric.digits}f}"
        if agreeing < len(gaps):
            return (f"**Tie.** RAdam ({self.value(radam)}) and {other} ({self.value(baseline)}) differ by "
                    f"{difference}, and {agreeing} of {len(gaps)} seeds agree on the sign{where}.")  # fmt: skip
        useless = self.adam is not None and cost(self.adam) <= cost(baseline)
        opening = "RAdam loses" if useless else "Keep the warmup"
        if gaps.mean() <= STRICT * self.metric.apart:
            opening = "RAdam wins" if gaps.sum() < 0 else "Almost"
        share = f" ({100 * abs(ours / theirs - 1):.0f} %)" if theirs and not self.metric.higher_is_better else ""
        return (
            f"**{opening}{', but warmup is no help here' * useless}.** RAdam ends at {self.value(radam)}, {difference}"
            f"{share} {'above' if ours > theirs else 'below'} {other} ({self.value(baseline)}), in "
            f"{_share(len(gaps), radam)}{where}."
        )

    def certainty(self) -> list[str]:
        seeds, radam, baseline = len(self.results.seeds), self.radam, self.baseline
        if seeds == 1 or radam is None or baseline is None:
            return []
        if seeds < SEEDS_FOR_SIGNIFICANCE:
            return [f"With {seeds} seeds no test can reach p < 0.05; {SEEDS_FOR_SIGNIFICANCE} can."]
        both = radam.merge(baseline, on="seed")
        p = sign_flip_p(both.value_x - both.value_y)
        if p is None or len(both) < seeds:
            return [f"{seeds} seeds, and no test of significance, since one of the two diverged in some."]
        tuned = ", which does not count the choice among learning rates" if len(self.results.learning_rates) > 1 else ""
        two = f"RAdam and `{name(baseline)}`"
        verdict = f"{two} differ" if p < 0.05 else f"no difference between {two} is shown"
        return [f"Over {seeds} paired seeds {verdict} (sign-flip test, p = {p:.3f}{tuned})."]

    def trivial(self, row: Row) -> pd.Series:
        """Which runs are no better than one that always gives the same answer."""
        constant, failed = self.results.facts.get("unigram_entropy"), row.failed.eq(True)
        if self.results.selection != "loss" or constant is None:
            return failed
        return failed | (row.value >= constant * (1 - LEVEL))

    def floor(self) -> str:
        facts = self.results.facts
        constant = f"constant prediction ({facts['unigram_entropy']:.2f})" if "unigram_entropy" in facts else ""
        return "always predicting the majority class" if "majority_class" in facts else constant

    def name(self, row: Row) -> str:
        names = {"radam": "RAdam", "adam": "Adam", BASELINE: f"Adam with a {row.warmup.max()}-update warmup"}
        return names.get(name(row), f"`{name(row)}`")

    def value(self, row: Row) -> str:
        return spread(row.value, self.metric.digits)

    def ends(self, row: Row) -> str:
        """What became of a row's runs, also where some of them diverged."""
        finite, groups, count = row.value.dropna(), self.results.places(row), len(row)
        broken = count - len(finite)
        if len(groups) > 1:
            first, second = (f"at {sum(of) / len(of):.{self.metric.digits}f} in {len(of)}" for of in groups)
            rest = f"; it diverged in {broken}" if broken else ""
            return f"ends {first} of {count} seeds and {second}{rest}"
        ended = f"ends at {spread(finite, self.metric.digits)}"
        if not broken:
            return ended
        rest = f" and {ended} in the other{'s' * (len(finite) > 1)}" if len(finite) else ""
        return f"diverged{f' in {_share(broken, row)}' if count > 1 else ''}{rest}"


def _share(count: int, row: Row) -> str:
    seeds = len(row)
    return f"{count} of {seeds} seeds" if count < seeds else "both seeds" if seeds == 2 else f"all {seeds} seeds"
