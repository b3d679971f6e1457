"""Curves over updates: training loss (Figure 1 of the paper), evaluation, effective learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report.figures.style import (
    by_recipe,
    colors_of,
    legend,
    limit_to_finite,
    mark_constant_prediction,
    name_line,
    number,
)

SMOOTHING = 10  # updates over which the training loss is averaged in the figure

Curve = tuple[np.ndarray, np.ndarray]  # steps and values, one row of values a seed


def training_loss(records: Sequence[Record]) -> Figure:
    """Training loss of each recipe: all updates, and the first ones on a logarithmic axis."""
    figure, (whole, early) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharey=True)
    colors = colors_of(records)
    for recipe, group in by_recipe(records).items():
        steps, losses = _stack(group, lambda record: (record.curves["step"], record.curves["loss"]))
        _band(whole, steps, _smooth(losses), recipe, colors[recipe])
        _band(early, steps, losses, recipe, colors[recipe])  # as it was: smoothing would blur what this panel shows
    whole.set(title="Training loss", xlabel="update", ylabel=f"{records[0].loss_unit}, as trained")
    last = max(record.curves["step"][-1] or 1 for record in records)
    early.set(title="The first updates", xlabel="update (logarithmic)", xscale="log", xlim=(1, max(10, last / 5)))
    limit_to_finite(whole)
    legend(figure, whole)
    return figure


def evaluation(records: Sequence[Record], target_loss: float | None) -> Figure:
    """Evaluation loss of each recipe, and the first metric that the evaluations hold."""
    evaluated = set(records[0].evaluations).intersection(*(record.evaluations for record in records))
    metrics = [name for name in (records[0].metric, *METRICS) if name in evaluated and name != "loss"][:1]
    figure, panels = plt.subplots(
        1, 1 + len(metrics), figsize=(10, 4.2) if metrics else (7.5, 4.2), layout="constrained", squeeze=False
    )
    colors = colors_of(records)
    for axes, name in zip(panels[0], ["loss", *metrics], strict=True):
        for recipe, group in by_recipe(records).items():
            steps, values = _stack(
                group, lambda record, name=name: (record.evaluations["step"], record.evaluations[name])
            )
            _band(axes, steps, values, recipe, colors[recipe])
        label = METRICS[name].label
        axes.set(title=label[0].upper() + label[1:], xlabel="update")
    loss = panels[0][0]
    mark_constant_prediction(loss, records)
    if target_loss is not None:
        loss.axhline(target_loss, color="#bbbbbb", linestyle="--", linewidth=1)
        name_line(loss, "target", target_loss)
    loss.set(title="Evaluation loss", ylabel=records[0].loss_unit)
    limit_to_finite(loss)
    if metrics and METRICS[metrics[0]].higher_is_better:
        panels[0][1].set_ylim(min(0, panels[0][1].get_ylim()[0]), None)
    elif metrics:
        panels[0][1].set_yscale("log")
    legend(figure, loss)
    return figure


def effective_learning_rate(records: Sequence[Record]) -> Figure:
    """Learning rate times rectification: what multiplies Adam's direction at each update."""
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    colors = colors_of(records)
    for recipe, group in by_recipe(records).items():
        record = group[0]
        rates = np.array(record.curves["learning_rate"], dtype=float)
        options = {**record.config["recipe"]["optim_args"], **record.optimizer}
        if "rectification" in record.curves:
            terms = np.array(record.curves["rectification"], dtype=float)
            first, last = options.get("adam_steps", (1, 0))
            terms[first - 1 : last] = 1.0
            rates = rates * terms
        rates[: int(options.get("freeze_steps", 0))] = 0.0  # Adam-2k does not move yet
        steps = np.array(record.curves["step"], dtype=float)
        axes.plot(steps, rates, color=colors[recipe], label=recipe, linewidth=1.8)
    axes.set(title="Learning rate × rectification", xlabel="update", ylim=(0, None))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    legend(figure, axes)
    return figure


def _stack(
    group: Sequence[Record], curve: Callable[[Record], tuple[Sequence[float | None], Sequence[float | None]]]
) -> Curve:
    """The curves of all seeds over the longest of their steps; nan where a run has stopped."""
    curves = [curve(record) for record in group]
    steps = max((steps for steps, _ in curves), key=len)
    values = np.full((len(curves), len(steps)), np.nan)
    for row, (_, of_seed) in zip(values, curves, strict=True):
        row[: len(of_seed)] = [number(value) for value in of_seed]
    return np.array(steps, dtype=float), values


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over the last updates, fewer at the start."""
    sums = np.cumsum(values, axis=1)
    before = np.concatenate([np.zeros_like(sums[:, :1]), sums], axis=1)
    ends = np.arange(1, values.shape[1] + 1)
    starts = np.maximum(ends - SMOOTHING, 0)
    return (before[:, ends] - before[:, starts]) / (ends - starts)


def _band(axes: Axes, steps: np.ndarray, values: np.ndarray, recipe: str, color: str) -> None:
    """Mean over seeds, with a band from the least to the greatest; it ends with an × where a seed diverged."""
    emphasis = 2.4 if recipe == "radam" else 1.6
    dashes = "--" if recipe == "adam_eps" else "-"  # it often lies on adam
    axes.plot(steps, values.mean(0), dashes, color=color, label=recipe, linewidth=emphasis, zorder=emphasis)
    whole = np.flatnonzero(np.isfinite(values).all(0))
    if len(whole) and whole[-1] < len(steps) - 1:
        axes.plot(steps[whole[-1]], values[:, whole[-1]].mean(), color=color, marker="x", markersize=9, mew=2)
    if len(values) > 1:
        axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
