"""What a comparison found, in words: the answer, RAdam against warmup, the rest; it says where RAdam loses."""

from __future__ import annotations

import math

import pandas as pd

from hf_radam.experiments.report import rates
from hf_radam.experiments.report.statistics import (
    BASELINE,
    SEEDS_FOR_SIGNIFICANCE,
    STRICT,
    Row,
    cost,
    each,
    name,
    sign_flip_p,
)
from hf_radam.experiments.results import Results

# A loss at most this share below that of constant prediction has learned nothing.
LEVEL = 0.01


def judge(results: Results) -> list[str]:
    """The sentences of the verdict on a comparison, as Markdown; what matters most comes first."""
    made, said = len(results.records), []
    if results.missing:
        said.append(f"**Not finished: {made} of {made + results.missing} runs.**")
    if results.is_grid:  # a search gives more seeds to what decides
        return [*said, *grid_sentences(results), *rates.sentences(results)]
    paired = results.paired()
    if not paired.records:
        return [*said, "No seed has a run of all recipes: nothing to compare yet."]
    if paired.seeds != results.seeds:
        said.append(f"Over the seeds that all recipes have ({', '.join(map(str, paired.seeds))}):")
    return [*said, *_Finding(paired).sentences(), *rates.sentences(results)]


def grid_sentences(results: Results) -> list[str]:
    """Whether one recipe works most widely, how widely each does, the best setting of each, the seeds."""
    metric, cells = results.metric, results.cells
    cells = cells.assign(widely=cells.failures == 0, strictly=cells.strict_failures == 0)
    groups = cells.groupby("label", sort=False).agg(
        settings=("seeds", "size"), widely=("widely", "sum"), strictly=("strictly", "sum"), best=("cost", "idxmin")
    )
    shares = pd.DataFrame(groups[["widely", "strictly"]].div(groups.settings, axis="index"))
    widest = shares.index[(shares == shares.max()).any(axis="columns")]
    counts = [f"{of.Index} in {of.widely} ({of.strictly}) of {of.settings}" for of in each(groups)]
    best = [
        f"{of.label} {of.value:.{metric.digits}f} (lr {of.learning_rate:g}, beta2 {of.beta2:g})"
        for of in each(cells.loc[groups.best])
    ]
    single = int((cells.seeds == 1).sum())
    return [
        f"**Works most widely: {widest[0]}.**" if len(widest) == 1 else "**No clear winner.**",
        f"All seeds end within {metric.apart:g} ({STRICT * metric.apart:g}) of the best median {metric.label} at that "
        f"learning rate: {', '.join(counts)} settings.",
        f"Best settings: {', '.join(best)}.",
        *([f"{single} of {len(cells)} settings have one seed."] if single else []),
    ]


class _Finding:
    """Recipes, each at its best learning rate, where they are no grid."""

    def __init__(self, results: Results) -> None:
        best = {name(row): row for row in results.best_rows}
        # Arms with another model are controls: what they show is not the optimizer's doing.
        self.rows = {x: row for x, row in best.items() if not results.recipes[x].model} or best
        self.controls = [row for x, row in best.items() if x not in self.rows]
        self.results, self.metric = results, results.metric
        self.radam, self.adam = self.rows.get("radam"), self.rows.get("adam")
        linear = [row for row in self.rows.values() if row.family.iat[0] == "warmup"]
        # What RAdam is compared with: adam_warmup, or the best Adam with a linear warmup.
        self.baseline = self.rows.get(BASELINE, min(linear, key=cost, default=None))
        self.best = min(self.rows.values(), key=cost)

    def sentences(self) -> list[str]:
        """The answer first, then the rest, then how far the answer can be trusted."""
        results, rows = self.results, self.rows.values()
        if len(results.best_rows) == 1:
            return [f"{self.told(self.best)}."]
        if all((row.value.isna() | self.constant(row)).all() for row in rows):
            tried = ", ".join(f"{rate:g}" for rate in results.learning_rates)
            said = [
                f"**Nothing trained.** All {len(rows)} recipes diverge or are no better than {self.floor}. "
                f"Lower the learning rate (tried: {tried}) before comparing optimizers."
            ]
        elif len(results.seeds) == 1:
            shown = [row for row in (self.best, self.radam, self.baseline, self.adam) if row is not None]
            said = [
                f"**One seed, so no spread and no test.** {'; '.join(dict.fromkeys(map(self.told, shown)))}.",
                "`--seeds 0 1 2 3 4 5` is the fewest that allow a test.",
            ]
        else:
            compared = self.against_warmup()
            said = [*compared[:1], *self.others(), *compared[1:]]
        return said + [f"With another model, as a control, {self.told(row)}." for row in self.controls]

    def against_warmup(self) -> list[str]:
        """RAdam against Adam with warmup, and whether a test could tell them apart."""
        results, radam, baseline = self.results, self.radam, self.baseline
        if radam is None or baseline is None:
            return []
        if not (results.has_mean(radam) and results.has_mean(baseline)):
            openings = {(True, True): "Neither trains", (True, False): "Keep the warmup", (False, True): "RAdam wins"}
            broke = (bool(radam.value.isna().all()), bool(baseline.value.isna().all()))
            opening = openings.get(broke, "Depends on the seed")
            return [f"**{opening}.** {self.told(radam)}; {self.told(baseline)}."]
        seeds, both = len(results.seeds), radam.merge(baseline, on="seed")
        p = sign_flip_p(both.value_x - both.value_y)
        if p is None:
            test = f"With {seeds} seeds no test can reach p < 0.05; {SEEDS_FOR_SIGNIFICANCE} can."
        else:
            significant = "significant" if p < 0.05 else "not significant"
            test = f"Over {seeds} paired seeds the difference is {significant} (sign-flip test, p = {p:.3f})."
        return [self.duel(radam, baseline, both.cost_x - both.cost_y), test]

    def duel(self, radam: Row, baseline: Row, gaps: pd.Series) -> str:
        """RAdam against a baseline, where both have a mean; gaps are those between the costs of a seed."""
        ours, theirs = radam.value.mean(), baseline.value.mean()
        difference, other = f"{abs(ours - theirs):.{self.metric.digits}f}", self.name(baseline)
        ended, others = self.results.ended(radam), self.results.ended(baseline)
        agreeing = int((gaps * gaps.sum() > 0).sum())
        if agreeing < len(gaps):
            return (
                f"**Tie.** RAdam ({ended}) and {other} ({others}) differ by {difference}, and {agreeing} of "
                f"{len(gaps)} seeds agree on the sign."
            )
        useless = self.adam is not None and cost(self.adam) <= cost(baseline)
        opening = "RAdam loses" if useless else "Keep the warmup"
        if gaps.mean() <= STRICT * self.metric.apart:
            opening = "RAdam wins" if gaps.sum() < 0 else "Almost"
        share = f" ({100 * abs(ours / theirs - 1):.0f} %)" if theirs and not self.metric.higher_is_better else ""
        return (
            f"**{opening}{', but warmup is no help here' if useless else ''}.** RAdam ends at {ended}, "
            f"{difference}{share} {'above' if ours > theirs else 'below'} {other} ({others}), in all {len(gaps)} seeds."
        )

    def others(self) -> list[str]:
        """Adam without warmup, the best of the rest, and what depends on the seed."""
        radam, baseline, adam, said = self.radam, self.baseline, self.adam, []
        if adam is not None:
            constant = int(self.constant(adam).sum())
            floor = f", no better than {self.floor} in {constant} of {len(adam)} seeds" if constant else ""
            said.append(f"Without warmup {self.told(adam)}{floor}.")
        if radam is not None and baseline is None and radam is not self.best:
            said.append(f"{self.told(radam)}.")
        untuned = [row for row in self.rows.values() if row.family.iat[0] == "untuned"]
        if radam is None or baseline is None or not (self.best is radam or self.best is baseline):
            said.append(f"Best is {self.told(self.best)}.")
        elif untuned:
            said.append(f"Untuned warmup: {self.results.ended(min(untuned, key=cost))}.")
        for row in self.rows.values():
            told = any(row is one for one in (radam, baseline, adam))
            if not told and row.value.notna().any() and not self.results.has_mean(row):
                said.append(f"**Depends on the seed.** {self.told(row)}, so no mean is given.")
        return said

    @property
    def floor(self) -> str:
        """What a useless model does."""
        loss = self.results.facts.get("unigram_entropy")
        constant = "constant prediction" if loss is None else f"constant prediction ({loss:.2f})"
        return "always predicting the majority class" if "majority_class" in self.results.facts else constant

    def constant(self, row: Row) -> pd.Series:
        """Which runs are no better than one that always gives the same answer."""
        loss = self.results.facts.get("unigram_entropy", math.inf)
        level = loss * (1 - LEVEL) if self.results.selection == "loss" else math.inf
        return row.failed.eq(True) | (row.value >= level)

    def name(self, row: Row) -> str:
        """What sentences call a recipe."""
        names = {"radam": "RAdam", "adam": "Adam", BASELINE: f"Adam with a {row.warmup.max()}-update warmup"}
        return names.get(name(row), f"`{name(row)}`")

    def told(self, row: Row) -> str:
        """A recipe, and how it ended."""
        return f"{self.name(row)}: {self.results.ended(row)}"
