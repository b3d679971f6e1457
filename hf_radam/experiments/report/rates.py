"""Equal effective rates: does RAdam's start do more than make the learning rate smaller?"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from hf_radam.experiments.metrics import METRICS, Metric
from hf_radam.experiments.report.grid import STRICT, cells
from hf_radam.experiments.report.statistics import middle
from hf_radam.experiments.report.tables import Table
from hf_radam.experiments.results import Results

OUTCOMES = ("ahead", "level", "behind", "undecided", "outside")
APART = METRICS["loss"].apart
RULE = (
    "The effective rate of a run is the mean over its updates of learning rate × rectification, with schedule and "
    "warmup. Each setting of RAdam is compared with the line through the other recipe's settings at the same beta2, or "
    "at its only one, interpolated over the logarithm of that rate. RAdam is ahead or behind where it differs from the "
    f"line by more than {APART:g} and from both neighbours in the same direction, level where it differs by at most "
    f"{STRICT * APART:g}, and undecided elsewhere. Settings beyond the other's rates are outside; those where both end "
    "nearer to the worst median of the grid than to the best are not counted."
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A recipe at one beta2 and peak learning rate."""

    label: str
    beta2: float
    peak: float
    rate: float
    """The effective one."""
    result: float
    """Median over seeds; nan where it is not finite."""
    cost: float
    """The less the better, infinite where the result is not finite."""
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Duel:
    """RAdam against another recipe at equal effective rates."""

    other: str
    counts: Mapping[str, int]
    """Numbers of settings, by `OUTCOMES`."""
    widest: str
    """Where they are farthest apart, in words; empty where RAdam is ahead or behind nowhere."""
    seeds: str
    """Of how many the settings of the grid are."""

    @property
    def sentence(self) -> str:
        """What that says."""
        parts = {name: self.counts[name] for name in ("ahead", "level", "behind", "undecided")}
        ahead, level, behind, undecided = parts.values()
        if not any(parts.values()):
            return f"No setting of RAdam lies among the effective rates of {self.other}."
        if ahead and behind:
            said = f"RAdam against {self.other} depends on the setting"
        elif ahead or behind:
            said = f"RAdam {'beats' if ahead else 'loses to'} {self.other}"
        elif level > max(1, undecided):
            said = f"RAdam and {self.other} coincide, so RAdam's start is a smaller rate and no more"
        else:
            said = f"nothing is decided between RAdam and {self.other}"
        told = ", ".join(f"{name} in {number}" for name, number in parts.items() if number)
        seeds = " of one seed" if self.seeds == "1" else ""
        return f"At equal effective rates {said}: {told} of {sum(parts.values())} settings{seeds}{self.widest}."


def settings(results: Results) -> list[Setting]:
    """Each recipe at each beta2 and peak rate, by effective rate."""
    found = [
        Setting(label=label, beta2=beta2, peak=peak, rate=float(runs.rate.iat[0]), seeds=len(runs),
                result=middle(runs), cost=float(runs.cost.median()))
        for (label, beta2, peak), runs in cells(results.runs).items()
    ]  # fmt: skip
    return sorted(found, key=lambda setting: setting.rate)


def line(found: Sequence[Setting], label: str, beta2: float) -> list[Setting]:
    """A recipe's settings at a beta2, or all of them if it has one beta2 only."""
    own = [setting for setting in found if setting.label == label]
    return own if len({setting.beta2 for setting in own}) == 1 else [one for one in own if one.beta2 == beta2]


def halfway(found: Sequence[Setting]) -> float:
    """The cost from which a setting is nearer to the worst than to the best."""
    costs = [setting.cost for setting in found if math.isfinite(setting.cost)]
    return (min(costs) + max(costs)) / 2 if costs else math.inf


def others(found: Sequence[Setting]) -> list[str]:
    """What RAdam is compared with: Adam, then its linear warmups by length."""
    names = {one.label for one in found}
    warmups = [name for name in names if name.endswith("% warmup")]
    return sorted(names & {"Adam"}) + sorted(warmups, key=lambda name: int(name.split()[0]))


def duels(results: Results) -> list[Duel]:
    """RAdam against Adam and against each linear warmup, where they ran at several rates."""
    found = settings(results)
    if len({one.peak for one in found}) == 1 or all(one.label != "RAdam" for one in found):
        return []
    return [_duel(found, other, results.metric) for other in others(found)]


def _duel(found: Sequence[Setting], other: str, metric: Metric) -> Duel:
    worse, widest, most = halfway(found), "", 0.0
    counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    for one in (one for one in found if one.label == "RAdam"):
        theirs = line(found, other, one.beta2)
        place = bisect_right([setting.rate for setting in theirs], one.rate)
        if not 0 < place < len(theirs):
            counts["outside"] += 1
            continue
        below, above = theirs[place - 1 : place + 1]
        share = math.log(one.rate / below.rate) / math.log(above.rate / below.rate)
        between, costs = below.cost + share * (above.cost - below.cost), (below.cost, above.cost)
        if math.inf in costs:
            between = math.inf
        if one.cost > worse and between > worse:
            continue
        gap = between - one.cost
        if abs(gap) > metric.apart and (one.cost < min(costs) or one.cost > max(costs)):
            counts["ahead" if gap > 0 else "behind"] += 1
            if abs(gap) > most:
                most = abs(gap)
                ends = (f"{abs(value):.{metric.digits}f}" for value in (one.cost, between))
                widest = f", most at lr {one.peak:g} and beta2 {one.beta2:g} ({' against '.join(ends)})"
        else:
            counts["level" if abs(gap) <= STRICT * metric.apart else "undecided"] += 1
    return Duel(other=other, counts=counts, widest=widest, seeds=seeds_of(found))


def comparison_table(found: Sequence[tuple[str, Duel]]) -> Table:
    """A row for each task and recipe that RAdam is compared with."""
    rows = tuple((task, duel.other, *map(str, duel.counts.values()), duel.seeds) for task, duel in found)
    return Table(title="RAdam at equal effective rates", columns=("task", "against", *OUTCOMES, "seeds"), rows=rows)


def best_rates(tasks: Mapping[str, Results]) -> tuple[Table, str]:
    """RAdam's best peak rate over that of Adam without and with warmup, by task and beta2; and what follows from it."""
    rows: list[tuple[str, ...]] = []
    ratios: tuple[list[float], list[float]] = ([], [])  # to Adam without warmup, and with it
    for task, results in tasks.items():
        found = settings(results)
        for beta2 in sorted({one.beta2 for one in found if one.label == "RAdam"}):
            lines = [line(found, "RAdam", beta2), line(found, "Adam", beta2)]
            lines.append([one for name in others(found) if name != "Adam" for one in line(found, name, beta2)])
            if not all(lines):
                continue
            best = [min(of, key=lambda one: one.cost) for of in lines]
            (edge, cell), *theirs = [_bound(one, of) for one, of in zip(best, lines, strict=True)]
            cells = [cell]
            for other, (sign, cell), known in zip(best[1:], theirs, ratios, strict=True):
                ratio, signs = best[0].peak / other.peak, {edge, {"≤": "≥", "≥": "≤"}.get(sign, "")} - {""}
                cells += [cell, "?" if len(signs) > 1 else f"{''.join(signs)} {ratio:.2g}".strip()]
                known.extend([ratio] * (len(signs) < 2))
            rows.append((task, f"{beta2:g}", *cells, seeds_of(best)))
    columns = ("task", "beta2", "RAdam", "Adam", "ratio", "Adam + warmup", "ratio", "seeds")
    said = [f"{min(of):.2g} to {max(of):.2g} times that of Adam {how} warmup, in {len(of)} rows, with a median of "
            f"{median(of):.2g}" for how, of in zip(("without", "with"), ratios, strict=True) if of]  # fmt: skip
    text = f"Bounds taken as they stand, RAdam's best learning rate is {'; and '.join(said)}." if said else ""
    return Table(title="Learning rate coming from AdamW", columns=columns, rows=tuple(rows)), text


def _bound(best: Setting, of: Sequence[Setting]) -> tuple[str, str]:
    """≤ or ≥ where the best rate is the lowest or highest that was tried, and the rate with it."""
    peaks = [one.peak for one in of]
    sign = "≤" if best.peak == min(peaks) else "≥" if best.peak == max(peaks) else ""
    return sign, f"{sign} {best.peak:g}".strip()


def seeds_of(found: Sequence[Setting]) -> str:
    """Of how many seeds settings are."""
    sizes = sorted({setting.seeds for setting in found})
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
