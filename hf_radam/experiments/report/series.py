"""Records -> the numbers that figures and the page draw: curves, and what tells recipes apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hf_radam.experiments.comparison import read_recipe
from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record

# Points of a training-loss curve; windows of updates grow in proportion, so that the first updates stand alone.
POINTS = 60


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Values over updates; nan where a run has none."""

    steps: list[float]
    values: list[float]


def number(value: float | None) -> float:
    """nan for None."""
    return math.nan if value is None else value


def evaluation(record: Record, name: str) -> Curve:
    """One of the numbers that evaluations hold, such as loss."""
    steps = [number(step) for step in record.evaluations["step"]]
    return Curve(steps=steps, values=[number(value) for value in record.evaluations[name]])


def training_loss(record: Record) -> Curve:
    """Means of the training loss over windows that grow in proportion to the update; nan where one is not finite."""
    recorded = np.array([number(step) for step in record.curves["step"]])
    losses = np.array([number(value) for value in record.curves["loss"]])
    bounds = np.unique(np.geomspace(1, record.updates + 1, POINTS + 1).round())
    windows = [(first, end, (first <= recorded) & (recorded < end)) for first, end in pairwise(bounds)]
    found = [(float(np.sqrt(first * (end - 1))), float(losses[of].mean())) for first, end, of in windows if of.any()]
    return Curve(steps=[step for step, _ in found], values=[value for _, value in found])


def effective_rate(record: Record) -> Curve:
    """Learning rate x rectification: what multiplies Adam's direction at each update."""
    recipe = record.config["recipe"]
    steps = np.array([number(step) for step in record.curves["step"]])
    rates = np.array([number(rate) for rate in record.curves["learning_rate"]])
    options = {**recipe["optim_args"], **record.optimizer}
    if "rectification" in record.curves:
        rates = rates * np.array([number(term) for term in record.curves["rectification"]])
    rates[steps <= options.get("freeze_steps", 0)] = 0.0  # Adam-2k does not move yet
    return Curve(steps=steps.tolist(), values=rates.tolist())


def relative_rate(record: Record) -> Curve:
    """`effective_rate` by the peak of the schedule."""
    curve = effective_rate(record)
    return Curve(steps=curve.steps, values=[value / peak_rate(record) for value in curve.values])


def peak_rate(record: Record) -> float:
    """The peak learning rate, with the recipe's own factor."""
    return record.learning_rate * record.config["recipe"].get("learning_rate_scale", 1.0)


def mean_rate(record: Record) -> float:
    """The mean of `effective_rate` over the updates, as far as they were recorded; thinned curves are interpolated."""
    curve = effective_rate(record)
    return float(np.interp(np.arange(curve.steps[0], curve.steps[-1] + 1), curve.steps, curve.values).mean())


def beta2(record: Record) -> float:
    """Of the optimizer itself, else of what was asked."""
    betas = record.optimizer.get("betas") or record.config["recipe"]["optim_args"].get("betas")
    return float(betas[1]) if betas else float(record.config.get("training", {}).get("adam_beta2", 0.999))


def warmup_updates(record: Record) -> int:
    """Length of the linear warmup; 0 for none."""
    return read_recipe(dict(record.config["recipe"])).warmup_updates(record.updates)


def by_recipe(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of each recipe, in the recipes' first order."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.recipe, []).append(record)
    return groups


def cost(runs: Sequence[Record], name: str) -> float:
    """The median result of some runs; the less the better, infinite where it is not finite."""
    return METRICS[name].cost(median([run.final[name] for run in runs]))


def median(values: Sequence[float | None]) -> float:
    """Of one value a run; one that is not finite counts as worse than all others by being nan: nan at the middle."""
    ordered = sorted(math.inf if value is None or math.isnan(value) else value for value in values)
    middle = [ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]]
    return sum(middle) / 2 if math.isfinite(middle[1]) else math.nan
