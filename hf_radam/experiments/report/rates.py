"""Equal effective rates: does RAdam's start do more than make the learning rate smaller?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hf_radam.experiments.metrics import Metric
from hf_radam.experiments.report.statistics import STRICT, each
from hf_radam.experiments.report.tables import Table
from hf_radam.experiments.results import Results

OUTCOMES = ("ahead", "level", "behind", "undecided", "outside")


def duels(results: Results) -> dict[str, Counter[str]]:
    """For Adam and each linear warmup how many settings of RAdam have which outcome; none at a single learning rate.

    A setting of RAdam is compared with the line through the other's settings at the same beta2, or at its only one,
    interpolated over the logarithm of the effective rate.
    """
    found = results.cells
    ours = list(each(found.loc[found.label == "RAdam"]))
    if not ours or found.learning_rate.nunique() == 1:
        return {}
    return {other: Counter(_outcome(one, found, other, results.metric) for one in ours) for other in others(found)}


def _outcome(one: Any, found: pd.DataFrame, other: str, metric: Metric) -> str:
    theirs, worse = line(found, other, one.beta2), halfway(found)
    place = int(theirs.rate.searchsorted(one.rate, side="right"))
    if not 0 < place < len(theirs):
        return "outside"
    near = theirs.iloc[place - 1 : place + 1]
    infinite = math.inf in set(near.cost)
    between = math.inf if infinite else float(np.interp(np.log(one.rate), np.log(near.rate), near.cost))
    if one.cost > worse and between > worse:
        return "both fail"
    gap = between - one.cost
    if abs(gap) > metric.apart and not near.cost.min() <= one.cost <= near.cost.max():
        return "ahead" if gap > 0 else "behind"
    return "level" if abs(gap) <= STRICT * metric.apart else "undecided"


def answer(counts: Counter[str]) -> str:
    """How RAdam stands to the other, as a verb."""
    if counts["ahead"] or counts["behind"]:
        return "beats" if not counts["behind"] else "wins and loses against" if counts["ahead"] else "loses to"
    return "coincides with" if counts["level"] > max(1, counts["undecided"]) else "undecided"


def sentences(results: Results) -> list[str]:
    """What the duels say, a sentence each."""
    said = []
    for other, counts in duels(results).items():
        told = {outcome: counts[outcome] for outcome in OUTCOMES[:-1] if counts[outcome]}
        parts = ", ".join(f"{outcome} in {number}" for outcome, number in told.items())
        compared = f"{parts} of {sum(told.values())} settings" if told else "no setting to compare"
        verb = answer(counts)
        so = ", so its start is a smaller rate and no more" if verb == "coincides with" else ""
        opening = f"RAdam {verb} {other}{so}" if verb != "undecided" else f"RAdam and {other} stay undecided"
        said.append(f"At equal effective rates {opening}: {compared}.")
    return said


def line(found: pd.DataFrame, label: str, beta2: float) -> pd.DataFrame:
    """A recipe's settings at a beta2 by effective rate, or all of them if it has one beta2 only."""
    own = found.loc[found.label == label].sort_values("rate", kind="stable")
    return own if own.beta2.nunique() == 1 else own.loc[own.beta2 == beta2]


def halfway(found: pd.DataFrame) -> float:
    """The cost from which a setting is nearer to the worst than to the best."""
    finite = found.cost[np.isfinite(found.cost)]
    return (finite.min() + finite.max()) / 2


def others(found: pd.DataFrame) -> list[str]:
    """What RAdam is compared with: Adam and its linear warmups."""
    return [label for label in found.label.unique() if label == "Adam" or label.endswith("% warmup")]


def seeds_of(found: pd.DataFrame) -> str:
    """Of how many seeds settings are."""
    return " to ".join(map(str, dict.fromkeys([found.seeds.min(), found.seeds.max()])))


def equal_rates(tasks: Mapping[str, Results]) -> Table:
    """The duels of some comparisons, a row each."""
    rows = [
        (task, answer(counts), other, *(str(counts[outcome]) for outcome in OUTCOMES), seeds_of(results.cells))
        for task, results in tasks.items()
        for other, counts in duels(results).items()
    ]
    columns = ("task", "RAdam", "the other", *OUTCOMES, "seeds")
    return Table(title="RAdam at equal effective rates", columns=columns, rows=(*rows,))


def best_rates(tasks: Mapping[str, Results]) -> tuple[Table, str]:
    """The best learning rates of RAdam and of Adam without and with warmup, by task and beta2; and their ratio."""
    rows, ratios = [], {"without": [], "with": []}
    for task, results in tasks.items():
        found = results.cells
        for beta2 in sorted(found.beta2[found.label == "RAdam"].unique()):
            warmups = [line(found, label, beta2) for label in others(found) if label != "Adam"]
            lines = [line(found, "RAdam", beta2), line(found, "Adam", beta2), pd.concat([found[:0], *warmups])]
            if any(of.empty for of in lines):
                continue
            best = pd.DataFrame([of.loc[of.cost.idxmin()] for of in lines])
            edges = [_edge(rate, of) for rate, of in zip(best.learning_rate, lines, strict=True)]
            cells = [f"{edge} {rate:g}".strip() for edge, rate in zip(edges, best.learning_rate, strict=True)]
            for place, known in enumerate(ratios.values(), start=1):
                ratio = best.learning_rate.iat[0] / best.learning_rate.iat[place]
                bounds = {edges[0], {"≤": "≥", "≥": "≤", "": ""}[edges[place]]} - {""}
                unknown = len(bounds) > 1  # above one bound and below the other
                cells.insert(2 * place, "?" if unknown else f"{''.join(bounds)} {ratio:.2g}".strip())
                known += [] if unknown else [ratio]
            rows.append((task, f"{beta2:g}", *cells, seeds_of(best)))
    columns = ("task", "beta2", "RAdam", "Adam", "ratio", "Adam + warmup", "ratio", "seeds")
    said = [
        f"{min(of):.2g} to {max(of):.2g} times that of Adam {how} warmup (median {np.median(of):.2g} in {len(of)} rows)"
        for how, of in ratios.items()
        if of
    ]
    text = f"Bounds taken as they stand, RAdam's best learning rate is {' and '.join(said)}." if said else ""
    return Table(title="Best learning rates", columns=columns, rows=tuple(rows)), text


def _edge(best: float, of: pd.DataFrame) -> str:
    """Where the best rate is the lowest or highest that was tried."""
    return "≤" if best == of.learning_rate.min() else "≥" if best == of.learning_rate.max() else ""
