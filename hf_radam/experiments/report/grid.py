"""A grid of beta2 and learning rate: where each family of recipes works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import series, statistics
from hf_radam.experiments.report.palette import LABELS, families

# Fewer settings of one family are a table of recipes.
SETTINGS = 4


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Runs by family, beta2 and learning rate."""

    metric: str
    """What runs are judged by; a name of `METRICS`."""
    families: tuple[str, ...]
    betas: tuple[float, ...]
    rates: tuple[float, ...]
    cells: Mapping[tuple[str, float, float], Sequence[Record]]
    """By family, beta2 and learning rate; of several recipes in one cell, the best."""
    best: Mapping[float, float]
    """The best median at each learning rate."""

    def fails(self, run: Record) -> bool:
        """Whether a run ends worse than the best median at its learning rate by more than `Metric.apart`."""
        value, metric = run.final[self.metric], METRICS[self.metric]
        behind = self.best[run.learning_rate] - series.number(value)
        return not (behind if metric.higher_is_better else -behind) <= metric.apart

    def failures(self, cell: Sequence[Record]) -> int:
        """How many of its runs fail."""
        return sum(map(self.fails, cell))

    def place(self, key: tuple[str, float, float]) -> tuple[int, float, float]:
        """Where a cell stands: families in their first order, then by beta2 and rate."""
        return (self.families.index(key[0]), *key[1:])

    def runs(self) -> list[Record]:
        """Those of all cells."""
        return [run for cell in self.cells.values() for run in cell]

    def works(self, family: str, rate: float) -> tuple[float, ...]:
        """At which beta2 no run of a family fails."""
        found = {beta2: self.cells[family, beta2, rate] for beta2 in self.betas if (family, beta2, rate) in self.cells}
        return tuple(beta2 for beta2, cell in found.items() if not self.failures(cell))


def grid(records: Sequence[Record]) -> Grid | None:
    """The grid, if the records hold some family at several beta2, and at four settings of beta2 and rate or more."""
    metric, of_recipe = statistics.headline(records), families(records)
    cells: dict[tuple[str, float, float], list[Record]] = {}
    for (recipe, rate), runs in statistics.by_rate(records).items():
        key = (of_recipe[recipe], series.beta2(runs[0]), rate)
        if key not in cells or series.cost(runs, metric) < series.cost(cells[key], metric):
            cells[key] = runs
    betas = tuple(sorted({beta2 for _, beta2, _ in cells}))
    rates = tuple(sorted({rate for _, _, rate in cells}))
    sizes = Counter(family for family, _, _ in cells)
    if len({key[:2] for key in cells}) == len(sizes) or max(sizes.values()) < SETTINGS:
        return None
    sign = -1 if METRICS[metric].higher_is_better else 1
    best = {rate: sign * min(series.cost(cell, metric) for key, cell in cells.items() if key[2] == rate)
            for rate in rates}  # fmt: skip
    return Grid(metric=metric, families=tuple(dict.fromkeys(of_recipe.values())), betas=betas, rates=rates,
                cells=cells, best=best)  # fmt: skip


def label(family: str) -> str:
    """What readers call a family."""
    return LABELS.get(family, family)


def sentences(found: Grid) -> list[str]:
    """Where each family works, and what that means."""
    metric = METRICS[found.metric]
    counts = []
    for family in found.families:
        cells = [cell for key, cell in found.cells.items() if key[0] == family]
        counts.append(f"{label(family)} in {sum(not found.failures(cell) for cell in cells)} of {len(cells)}")
    meaning = (
        f"A setting works if all its seeds end within {metric.apart:g} of the best median {metric.label} at the same "
        "learning rate."
    )
    where = [f"{_capital(label(family))} works {_where(found, family)}." for family in found.families]
    return [
        f"Settings of beta2 and learning rate that work: {', '.join(counts)}.",
        *duels(found), *where, meaning, _seeds(found),
    ]  # fmt: skip


def _seeds(found: Grid) -> str:
    """How many seeds the settings have; a search gives more to those that decide."""
    sizes = Counter(map(len, found.cells.values()))
    many = [f"{count} settings have {size} seed{'s' * (size > 1)}" for size, count in sorted(sizes.items())]
    missing = len(found.families) * len(found.betas) * len(found.rates) - len(found.cells)
    rest = f"; {missing} were not run" if missing else ""
    return f"Of the grid, {listed(many)}{rest}."


def duels(found: Grid) -> list[str]:
    """RAdam against tuned warmup seed by seed, each with its best beta2, at the rates where both have seeds enough."""
    metric = METRICS[found.metric]
    said = []
    for rate in found.rates:
        ours, theirs = (_best_cell(found, family, rate) for family in ("radam", "warmup"))
        pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
        values = [(run.final[found.metric], other.final[found.metric]) for run, other in pairs]
        differences = [a - b for a, b in values if a is not None and b is not None]
        p = statistics.sign_flip_p(differences)
        if p is None or len(differences) < len(values):
            continue
        better = sum(difference > 0 if metric.higher_is_better else difference < 0 for difference in differences)
        names = [f"{label(family)} (beta2 {series.beta2(run):g})"
                 for family, run in zip(("radam", "warmup"), pairs[0], strict=True)]  # fmt: skip
        said.append(
            f"At lr {rate:g} {names[0]} ends better than {names[1]} in {better} of {len(values)} seeds "
            f"(sign-flip test, p = {p:.3f}, which does not count the choice of beta2)."
        )
    return said


def _best_cell(found: Grid, family: str, rate: float) -> dict[int, Record]:
    """The runs by seed of a family's best beta2 at a rate, among those with the most seeds."""
    cells = [cell for (name, _, at), cell in found.cells.items() if (name, at) == (family, rate)]
    if not cells:
        return {}
    most = max(map(len, cells))
    best = min((cell for cell in cells if len(cell) == most), key=lambda cell: series.cost(cell, found.metric))
    return {run.seed: run for run in best}


def _where(found: Grid, family: str) -> str:
    """The rates at which a family works with every, some or no beta2."""
    together: dict[str, list[str]] = {}
    for rate in found.rates:
        works = found.works(family, rate)
        tried = tuple(beta2 for beta2 in found.betas if (family, beta2, rate) in found.cells)
        together.setdefault(_betas(works, tried) if works else "", []).append(f"{rate:g}")
    if len(together) == 1:
        everywhere = " at every learning rate" if len(found.rates) > 1 else ""
        return f"{next(iter(together))}{everywhere}" if "" not in together else "nowhere"
    never = f", not at lr {listed(together.pop(''))}" if "" in together else ""
    return ", ".join(f"at lr {listed(rates)} {betas}" for betas, rates in together.items()) + never


def _betas(works: tuple[float, ...], tried: tuple[float, ...]) -> str:
    if works == tried:
        return "with every beta2"
    if len(works) > 1 and works == tried[-len(works) :]:
        return f"with a beta2 of {works[0]:g} and more"
    if len(works) > 1 and works == tried[: len(works)]:
        return f"with a beta2 of {works[-1]:g} and less"
    return f"with beta2 {listed([f'{beta2:g}' for beta2 in works])}"


def listed(words: Sequence[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
