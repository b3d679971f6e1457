"""A grid of beta2 and learning rate: where each recipe works."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import series, statistics
from hf_radam.experiments.report.palette import labels

# Fewer settings of one recipe are a table of recipes.
SETTINGS = 4
# What is claimed holds at `Metric.apart` and at this share of it.
STRICT = 0.3

Key = tuple[str, float, float]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Runs by label of the recipe, beta2 and learning rate."""

    metric: str
    """What runs are judged by; a name of `METRICS`."""
    labels: tuple[str, ...]
    cells: Mapping[Key, Sequence[Record]]
    """By label, beta2 and learning rate; see `cells`."""
    best: Mapping[float, float]
    """The least cost of a median at each learning rate."""

    def fails(self, run: Record, share: float = 1.0) -> bool:
        """Whether a run ends worse than the best median at its learning rate by more than a share of `apart`."""
        metric = METRICS[self.metric]
        return not metric.cost(run.final[self.metric]) - self.best[run.learning_rate] <= share * metric.apart

    def failures(self, cell: Sequence[Record], share: float = 1.0) -> int:
        """How many of its runs fail."""
        return sum(self.fails(run, share) for run in cell)

    def working(self, label: str, share: float = 1.0) -> int:
        """In how many settings no run of a recipe fails."""
        return sum(not self.failures(cell, share) for cell in self.of(label))

    def of(self, label: str) -> list[Sequence[Record]]:
        """The cells of a recipe."""
        return [cell for key, cell in self.cells.items() if key[0] == label]


def cells(records: Sequence[Record]) -> dict[Key, list[Record]]:
    """The runs by label in their first order, beta2 and learning rate; of several recipes in one cell, the best."""
    metric, of_recipe = statistics.headline(records), labels(records)
    found: dict[Key, list[Record]] = {}
    for (recipe, rate), runs in statistics.by_rate(records).items():
        key = (of_recipe[recipe], series.beta2(runs[0]), rate)
        if key not in found or series.cost(runs, metric) < series.cost(found[key], metric):
            found[key] = runs
    order = list(of_recipe.values())
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), *item[0][1:])))


def grid(records: Sequence[Record]) -> Grid | None:
    """The grid, if the records hold several recipes, some at several beta2, and at four settings or more."""
    metric, of_cells = statistics.headline(records), cells(records)
    sizes = Counter(label for label, _, _ in of_cells)
    if len(sizes) == 1 or len({key[:2] for key in of_cells}) == len(sizes) or max(sizes.values()) < SETTINGS:
        return None
    best: dict[float, float] = {}
    for (_, _, rate), cell in of_cells.items():
        best[rate] = min(best.get(rate, math.inf), series.cost(cell, metric))
    return Grid(metric=metric, labels=tuple(sizes), cells=of_cells, best=dict(sorted(best.items())))


def sentences(found: Grid) -> list[str]:
    """Whether one recipe works most widely, how widely each does, the best setting of each, the seeds."""
    metric, names = METRICS[found.metric], found.labels
    counts = [f"{x} in {found.working(x)} ({found.working(x, STRICT)}) of {len(found.of(x))}" for x in names]
    widest = []
    for share in (1.0, STRICT):
        shares = {label: found.working(label, share) / len(found.of(label)) for label in names}
        widest.append([label for label in names if shares[label] == max(shares.values())])
    clear = widest[0] == widest[1] and len(widest[0]) == 1
    best = []
    for label in names:
        run, *others = min(found.of(label), key=lambda cell: series.cost(cell, found.metric))
        median = series.median([one.final[found.metric] for one in (run, *others)])
        best.append(f"{label} {median:.{metric.digits}f} (lr {run.learning_rate:g}, beta2 {series.beta2(run):g})")
    return [
        f"**{capital(widest[0][0])} works most widely.**" if clear else "**No clear winner.**",
        f"All seeds end within {metric.apart:g} ({STRICT * metric.apart:g}) of the best median {metric.label} at that "
        f"learning rate: {', '.join(counts)} settings.",
        f"Best settings: {', '.join(best)}.",
        _seeds(found),
    ]


def _seeds(found: Grid) -> str:
    """How many seeds the settings have; a search gives more to those that decide."""
    sizes = Counter(map(len, found.cells.values()))
    many = [f"{count} settings have {size} seed{'s' * (size > 1)}" for size, count in sorted(sizes.items())]
    return f"Of the grid, {listed(many)}."


def listed(words: Sequence[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def capital(text: str) -> str:
    """The text with a capital in front."""
    return text[0].upper() + text[1:]
