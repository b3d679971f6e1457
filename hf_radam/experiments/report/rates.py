"""Equal effective rates: does RAdam's start do more than make the learning rate smaller?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hf_radam.experiments.metrics import Metric, metric_named
from hf_radam.experiments.report.statistics import STRICT, each
from hf_radam.experiments.report.tables import Table
from hf_radam.experiments.results import Results

OUTCOMES = ("ahead", "level", "behind", "undecided", "outside")
APART = metric_named("loss").apart
WHY = ", so RAdam's start is a smaller rate and no more"
RULE = (
    "The effective rate of a run is the mean over its updates of learning rate × rectification, with schedule and "
    "warmup. Each setting of RAdam is compared with the line through the other recipe's settings at the same beta2, or "
    "at its only one, interpolated over the logarithm of that rate. RAdam is ahead or behind where it differs from the "
    f"line by more than {APART:g} and from both neighbours in the same direction, level where it differs by at most "
    f"{STRICT * APART:g}, and undecided elsewhere. Settings beyond the other's rates are outside; those where both end "
    "nearer to the worst median of the grid than to the best are not counted."
)


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
    def said(self) -> str:
        """What that says, as a part of a sentence."""
        ahead, level, behind, undecided = found = [self.counts.get(outcome, 0) for outcome in OUTCOMES[:-1]]
        if not any(found):
            return f"no setting of RAdam lies among those of {self.other}"
        if ahead or behind:
            verb = "wins and loses against" if ahead and behind else "beats" if ahead else "loses to"
            opening = f"RAdam {verb} {self.other}"
        elif level > max(1, undecided):
            opening = f"RAdam and {self.other} coincide{WHY}"
        else:
            opening = f"nothing is decided between RAdam and {self.other}"
        told = ", ".join(f"{outcome} in {number}" for outcome, number in zip(OUTCOMES, found, strict=False) if number)
        return f"{opening}: {told} of {sum(found)} settings{' of one seed' * (self.seeds == '1')}{self.widest}"


def sentence(found: Sequence[Duel]) -> str:
    """What some duels say, and once why."""
    said = "; ".join(duel.said for duel in found)
    once = said.find(WHY) + len(WHY)
    return f"At equal effective rates {said[:once]}{said[once:].replace(WHY, '')}."


def line(found: pd.DataFrame, label: str, beta2: float) -> pd.DataFrame:
    """A recipe's settings at a beta2 by effective rate, or all of them if it has one beta2 only."""
    own = found.loc[found.label == label].sort_values("rate", kind="stable")
    return own if own.beta2.nunique() == 1 else own.loc[own.beta2 == beta2]


def halfway(found: pd.DataFrame) -> float:
    """The cost from which a setting is nearer to the worst than to the best."""
    finite = found.cost[np.isfinite(found.cost)]
    return (finite.min() + finite.max()) / 2


def others(found: pd.DataFrame) -> list[str]:
    """What RAdam is compared with: Adam, then its linear warmups by length."""
    warmups = [label for label in found.label.unique() if label.endswith("% warmup")]
    return ["Adam"] * ("Adam" in set(found.label)) + sorted(warmups, key=lambda label: int(label.split()[0]))


def duels(results: Results) -> list[Duel]:
    """RAdam against Adam and against each linear warmup, where they ran at several rates."""
    found = results.cells
    if found.learning_rate.nunique() == 1 or "RAdam" not in set(found.label):
        return []
    return [_duel(found, other, results.metric) for other in others(found)]


def _duel(found: pd.DataFrame, other: str, metric: Metric) -> Duel:
    worse, widest, most = halfway(found), "", 0.0
    counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
    for one in each(found.loc[found.label == "RAdam"]):
        theirs = line(found, other, one.beta2)
        place = int(theirs.rate.searchsorted(one.rate, side="right"))
        if not 0 < place < len(theirs):
            counts["outside"] += 1
            continue
        near = theirs.iloc[place - 1 : place + 1]
        infinite = math.inf in set(near.cost)
        between = math.inf if infinite else float(np.interp(np.log(one.rate), np.log(near.rate), near.cost))
        if one.cost > worse and between > worse:
            continue
        gap = between - one.cost
        if abs(gap) > metric.apart and not near.cost.min() <= one.cost <= near.cost.max():
            counts["ahead" if gap > 0 else "behind"] += 1
            if abs(gap) > most:
                most, ends = abs(gap), [f"{abs(value):.{metric.digits}f}" for value in (one.cost, between)]
                widest = f", most at lr {one.learning_rate:g} and beta2 {one.beta2:g} ({' against '.join(ends)})"
        else:
            counts["level" if abs(gap) <= STRICT * metric.apart else "undecided"] += 1
    return Duel(other=other, counts=counts, widest=widest, seeds=seeds_of(found))


def best_rates(tasks: Mapping[str, Results]) -> tuple[Table, str]:
    """RAdam's best peak rate over that of Adam without and with warmup, by task and beta2; and what follows from it."""
    rows, ratios = [], {"without": [], "with": []}
    for task, results in tasks.items():
        found = results.cells
        for beta2 in sorted(found.beta2[found.label == "RAdam"].unique()):
            mine, adam = (line(found, label, beta2) for label in ("RAdam", "Adam"))
            warmups = [line(found, label, beta2) for label in others(found) if label != "Adam"]
            lines = [mine, adam, pd.concat([mine[:0], *warmups])]
            if any(of.empty for of in lines):
                continue
            best = pd.DataFrame([of.loc[of.cost.idxmin()] for of in lines])
            edges = [_edge(one, of) for one, of in zip(best.learning_rate, lines, strict=True)]
            cells = [f"{edge} {one:g}".strip() for edge, one in zip(edges, best.learning_rate, strict=True)]
            for place, known in enumerate(ratios.values(), start=1):
                ratio = best.learning_rate.iat[0] / best.learning_rate.iat[place]
                signs = {edges[0], {"≤": "≥", "≥": "≤", "": ""}[edges[place]]} - {""}
                cells.insert(2 * place, "?" if len(signs) > 1 else f"{''.join(signs)} {ratio:.2g}".strip())
                known.extend([ratio] * (len(signs) < 2))
            rows.append((task, f"{beta2:g}", *cells, seeds_of(best)))
    columns = ("task", "beta2", "RAdam", "Adam", "ratio", "Adam + warmup", "ratio", "seeds")
    said = [f"{min(of):.2g} to {max(of):.2g} times that of Adam {how} warmup, in {len(of)} rows, with a median of "
            f"{np.median(of):.2g}" for how, of in ratios.items() if of]  # fmt: skip
    text = f"Bounds taken as they stand, RAdam's best learning rate is {'; and '.join(said)}." if said else ""
    return Table(title="Learning rate coming from AdamW", columns=columns, rows=tuple(rows)), text


def _edge(best: float, of: pd.DataFrame) -> str:
    """Where the best rate is the lowest or highest that was tried."""
    return "≤" if best == of.learning_rate.min() else "≥" if best == of.learning_rate.max() else ""


def seeds_of(found: pd.DataFrame) -> str:
    """Of how many seeds settings are."""
    return " to ".join(map(str, dict.fromkeys([found.seeds.min(), found.seeds.max()])))
