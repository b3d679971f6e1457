"""A grid of beta2 and learning rate: where each recipe works."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from hf_radam.experiments.metrics import Metric
from hf_radam.experiments.report.statistics import by_rate, middle, rate
from hf_radam.experiments.results import Results

# Fewer settings of one recipe are a table of recipes.
SETTINGS = 4
# What is claimed holds at `Metric.apart` and at this share of it.
STRICT = 0.3

Key = tuple[str, float, float]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Runs by label of the recipe, beta2 and learning rate."""

    metric: Metric
    """What runs are judged by."""
    labels: tuple[str, ...]
    cells: Mapping[Key, pd.DataFrame]
    """By label, beta2 and learning rate; see `cells`."""
    best: Mapping[float, float]
    """The least cost of a median at each learning rate."""

    def failures(self, cell: pd.DataFrame, share: float = 1.0) -> int:
        """How many runs end worse than the best median at their learning rate by more than a share of `apart`."""
        gaps = cell.cost - self.best[rate(cell)]
        return int((gaps.isna() | (gaps > share * self.metric.apart)).sum())

    def working(self, label: str, share: float = 1.0) -> int:
        """In how many settings no run of a recipe fails."""
        return sum(not self.failures(cell, share) for cell in self.of(label))

    def of(self, label: str) -> list[pd.DataFrame]:
        """The cells of a recipe."""
        return [cell for key, cell in self.cells.items() if key[0] == label]


def cells(runs: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    """The runs by label in their first order, beta2 and learning rate; of several recipes in one cell, the best."""
    found: dict[Key, pd.DataFrame] = {}
    for cell in by_rate(runs).values():
        key = (str(cell.label.iat[0]), float(cell.beta2.iat[0]), rate(cell))
        if key not in found or cell.cost.median() < found[key].cost.median():
            found[key] = cell
    order = list(dict.fromkeys(runs.label))
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), *item[0][1:])))


def grid(results: Results) -> Grid | None:
    """The grid, if there are several recipes, some at several beta2, and at four settings or more."""
    of_cells = cells(results.runs)
    sizes = Counter(label for label, _, _ in of_cells)
    if len(sizes) == 1 or len({key[:2] for key in of_cells}) == len(sizes) or max(sizes.values()) < SETTINGS:
        return None
    best: dict[float, float] = {}
    for (_, _, of_rate), cell in of_cells.items():
        best[of_rate] = min(best.get(of_rate, math.inf), cell.cost.median())
    return Grid(metric=results.metric, labels=tuple(sizes), cells=of_cells, best=dict(sorted(best.items())))


def sentences(found: Grid) -> list[str]:
    """Whether one recipe works most widely, how widely each does, the best setting of each, the seeds."""
    metric, names = found.metric, found.labels
    counts = [f"{x} in {found.working(x)} ({found.working(x, STRICT)}) of {len(found.of(x))}" for x in names]
    widest = []
    for share in (1.0, STRICT):
        shares = {label: found.working(label, share) / len(found.of(label)) for label in names}
        widest.append([label for label in names if shares[label] == max(shares.values())])
    clear = widest[0] == widest[1] and len(widest[0]) == 1
    best = []
    for label in names:
        cell = min(found.of(label), key=lambda cell: cell.cost.median())
        place = f"lr {rate(cell):g}, beta2 {cell.beta2.iat[0]:g}"
        best.append(f"{label} {middle(cell):.{metric.digits}f} ({place})")
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
