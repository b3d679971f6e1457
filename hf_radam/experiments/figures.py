"""Records -> figures, each as PNG and SVG; the only importer of matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record

# Okabe and Ito's colours, which people with any colour vision tell apart; a recipe keeps its colour in every figure.
COLORS = {
    "radam": "#D55E00",
    "adam": "#000000",
    "adam_warmup": "#0072B2",
    "adam_untuned_linear": "#56B4E9",
    "adam_untuned_exponential": "#009E73",
    "adam_2k": "#CC79A7",
    "adam_eps": "#999999",
    "radam_no_sgd": "#E69F00",
}
FURTHER_COLORS = ("#F0E442", "#7F3C8D", "#8C564B", "#17BECF", "#BCBD22", "#AA0A3C", "#005AC8", "#8A9A5B")
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.hashsalt": "hf_radam",  # the same records give the same bytes
    "svg.fonttype": "none",
}
SMOOTHING = 10  # updates over which the training loss is averaged in the figure

Curve = tuple[np.ndarray, np.ndarray]  # steps and values, one row of values a seed


def draw_all(records: Sequence[Record], folder: Path, target_loss: float | None, metric: str) -> list[str]:
    """Draw everything; returns the names of the figures, without ending.

    Args:
        records: in the order in which the recipes shall appear.
        folder: where `NAME.png` and `NAME.svg` are written.
        target_loss: drawn as a line in the evaluation figure.
        metric: final metric of the task, for the figure over learning rates.
    """
    rates = sorted({record.learning_rate for record in records})
    drawn: list[str] = []
    with plt.rc_context(STYLE):  # pyright: ignore[reportArgumentType]
        for rate in rates:
            of_rate = [record for record in records if record.learning_rate == rate]
            suffix = f"_lr{rate:g}" if len(rates) > 1 else ""
            drawn.append(_save(training_loss(of_rate), folder, f"training_loss{suffix}"))
            drawn.append(_save(evaluation(of_rate, target_loss), folder, f"evaluation{suffix}"))
            drawn.append(_save(effective_learning_rate(of_rate), folder, f"effective_learning_rate{suffix}"))
        if len(rates) > 1:
            drawn.insert(0, _save(over_learning_rates(records, metric), folder, "over_learning_rates"))
    return drawn


def training_loss(records: Sequence[Record]) -> Figure:
    """Training loss of each recipe: all updates, and the first ones on a logarithmic axis."""
    figure, (whole, early) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharey=True)
    colors = _colors(records)
    for recipe, group in _by_recipe(records).items():
        steps, losses = _stack(group, lambda record: (record.curves["step"], record.curves["loss"]))
        _band(whole, steps, _smooth(losses), recipe, colors[recipe])
        _band(early, steps, losses, recipe, colors[recipe])  # as it was: smoothing would blur what this panel shows
    whole.set(title="Training loss", xlabel="update", ylabel=f"{records[0].loss_unit}, as trained")
    last = max(record.curves["step"][-1] or 1 for record in records)
    early.set(title="The first updates", xlabel="update (logarithmic)", xscale="log", xlim=(1, max(10, last / 5)))
    _limit_to_finite(whole)
    _legend(figure, whole)
    return figure


def evaluation(records: Sequence[Record], target_loss: float | None) -> Figure:
    """Evaluation loss of each recipe, and its token accuracy or the task's metric."""
    figure, (loss, accuracy) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    colors = _colors(records)
    beside = "token_accuracy" if "token_accuracy" in records[0].evaluations else records[0].metric
    for recipe, group in _by_recipe(records).items():
        for axes, name in ((loss, "loss"), (accuracy, beside)):
            steps, values = _stack(
                group, lambda record, name=name: (record.evaluations["step"], record.evaluations[name])
            )
            _band(axes, steps, values, recipe, colors[recipe])
    entropy = records[0].facts.get("unigram_entropy")
    if entropy is not None:
        loss.axhline(entropy, color="#666666", linestyle=":", linewidth=1.2)
        _name_line(loss, "constant prediction", entropy)
    if target_loss is not None:
        loss.axhline(target_loss, color="#bbbbbb", linestyle="--", linewidth=1)
        _name_line(loss, "target", target_loss)
    loss.set(title="Evaluation loss", xlabel="update", ylabel=records[0].loss_unit)
    _limit_to_finite(loss)
    accuracy.set(title=METRICS[beside].label.capitalize(), xlabel="update", ylim=(0, 1))
    _legend(figure, loss)
    return figure


def effective_learning_rate(records: Sequence[Record]) -> Figure:
    """Learning rate times rectification: what multiplies Adam's direction at each update."""
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    colors = _colors(records)
    for recipe, group in _by_recipe(records).items():
        record = group[0]
        rates = np.array(record.curves["learning_rate"], dtype=float)
        terms = record.curves.get("rectification")
        if terms is not None:
            rates = rates * np.array(terms, dtype=float)
        options = {**record.config["recipe"]["optim_args"], **record.optimizer}
        rates[: int(options.get("freeze_steps", 0))] = 0.0  # Adam-2k does not move yet
        axes.plot(
            np.array(record.curves["step"], dtype=float), rates, color=colors[recipe], label=recipe, linewidth=1.8
        )
    axes.set(title="Learning rate × rectification", xlabel="update", ylim=(0, None))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    _legend(figure, axes)
    return figure


def over_learning_rates(records: Sequence[Record], metric: str) -> Figure:
    """Final loss and metric of each recipe against the learning rate (Figure 6 of the paper, for this task)."""
    figure, (loss, quality) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    colors = _colors(records)
    for recipe, group in _by_recipe(records).items():
        for axes, name in ((loss, "loss"), (quality, metric)):
            rates = sorted({record.learning_rate for record in group})
            values = [[_number(r.final[name]) for r in group if r.learning_rate == rate] for rate in rates]
            means = [np.mean(of_rate) for of_rate in values]
            spread = np.array([[m - min(v), max(v) - m] for m, v in zip(means, values, strict=True)]).T
            _mark_at_the_top(
                axes, [r for r, mean in zip(rates, means, strict=True) if not np.isfinite(mean)], colors[recipe]
            )
            axes.errorbar(rates, means, spread, color=colors[recipe], label=recipe, marker="o", capsize=3)  # pyright: ignore[reportArgumentType]
    if "unigram_entropy" in records[0].facts:
        loss.axhline(records[0].facts["unigram_entropy"], color="#666666", linestyle=":", linewidth=1.2)
    label = records[0].loss_unit
    loss.set(title="Final evaluation loss", xlabel="peak learning rate", ylabel=label, xscale="log", ylim=(0, None))
    quality.set(title=f"Final {METRICS[metric].label}", xlabel="peak learning rate", xscale="log", ylim=(0, None))
    _legend(figure, loss)
    return figure


def _by_recipe(records: Sequence[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.recipe, []).append(record)
    return groups


def _stack(
    group: Sequence[Record], curve: Callable[[Record], tuple[Sequence[float | None], Sequence[float | None]]]
) -> Curve:
    """The curves of all seeds over the longest of their steps; nan where a run has stopped."""
    curves = [curve(record) for record in group]
    steps = max((steps for steps, _ in curves), key=len)
    values = np.full((len(curves), len(steps)), np.nan)
    for row, (_, of_seed) in zip(values, curves, strict=True):
        row[: len(of_seed)] = [_number(value) for value in of_seed]
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


def _colors(records: Sequence[Record]) -> dict[str, str]:
    """Colour of each recipe: the fixed ones, then the first that are free."""
    recipes = list(dict.fromkeys(record.recipe for record in records))
    free = iter(
        [color for color in [*COLORS.values(), *FURTHER_COLORS] if color not in {COLORS.get(r) for r in recipes}]
    )
    return {recipe: COLORS.get(recipe) or next(free, "#000000") for recipe in recipes}


def _name_line(axes: Axes, name: str, height: float) -> None:
    """Write the name of a horizontal line below its right end."""
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate(name, (1, height), (0, -3), ha="right", va="top", color="#666666", **place)


def _mark_at_the_top(axes: Axes, positions: Sequence[float], color: str) -> None:
    """An × above the plot for each diverged point."""
    axes.plot(positions, np.full(len(positions), 0.97), "x", color=color, transform=axes.get_xaxis_transform(), mew=2)


def _limit_to_finite(axes: Axes) -> None:
    """Keep a diverging run from flattening the others."""
    ends = [np.nanmax(line.get_ydata()) for line in axes.get_lines() if np.isfinite(line.get_ydata()).any()]  # pyright: ignore[reportArgumentType]
    top = 1.5 * float(np.median(ends)) if ends else None
    axes.set_ylim(0, min(top, max(ends)) * 1.02 if top else None)


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the figure, in as many columns as its width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    room = int(figure.get_figwidth() / (0.09 * max(len(label) for label in labels) + 0.6))
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, min(len(labels), room)))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _save(figure: Figure, folder: Path, name: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        figure.savefig(folder / f"{name}.{ending}", metadata=metadata)
    plt.close(figure)
    return name
