"""Final numbers: over learning rates (Figure 6 of the paper), over warmup lengths (Figure 7), over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import statistics
from hf_radam.experiments.report.figures.style import (
    GREY,
    by_recipe,
    colors_of,
    legend,
    mark_at_the_top,
    mark_constant_prediction,
    name_line,
    number,
)

# One optimizer with at least so many lengths of warmup makes a sweep of them.
LENGTHS_OF_A_SWEEP = 3
SEEDS_OF_A_DISTRIBUTION = 3


def draw(records: Sequence[Record]) -> dict[str, Figure]:
    """Those of the figures for which there are records, by name."""
    figures: dict[str, Figure] = {}
    if statistics.rates_differ(records):
        figures["over_learning_rates"] = over_learning_rates(records)
    if warmup_sweep(records):
        figures["over_warmup_lengths"] = over_warmup_lengths(records)
    if max(len(group) for group in statistics.by_rate(records).values()) >= SEEDS_OF_A_DISTRIBUTION:
        figures["over_seeds"] = over_seeds(records)
    return figures


def over_learning_rates(records: Sequence[Record]) -> Figure:
    """Final loss and metric of each recipe against the learning rate: mean, and range over seeds."""
    figure, panels = _loss_and_metric(records)
    colors = colors_of(records)
    for recipe, group in by_recipe(records).items():
        rates = sorted({record.learning_rate for record in group})
        runs = [[record for record in group if record.learning_rate == rate] for rate in rates]
        for name, axes in panels.items():
            _mean_and_range(axes, rates, runs, name, color=colors[recipe], label=recipe)
    rates = sorted({record.learning_rate for record in records})
    for axes in panels.values():
        axes.set(xlabel="peak learning rate", xscale="log")
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
    return _finish(figure, panels)


def warmup_sweep(records: Sequence[Record]) -> list[Record]:
    """The runs of one optimizer under warmups of at least three lengths (0 is one); empty if there are none."""
    families: dict[str, list[Record]] = {}
    for record in records:
        recipe = record.config["recipe"]
        if recipe["warmup"] in ("none", "linear"):
            families.setdefault(json.dumps([recipe["optimizer"], recipe["optim_args"]]), []).append(record)
    largest = max(families.values(), key=lambda family: len(_lengths(family)), default=[])
    return largest if len(_lengths(largest)) >= LENGTHS_OF_A_SWEEP else []


def _length(record: Record) -> int:
    """Updates of its linear warmup, which a recipe may give as a share of all."""
    warmup_steps, updates = record.config["recipe"]["warmup_steps"], len(record.curves["step"])
    return math.ceil(warmup_steps * updates) if warmup_steps < 1 else int(warmup_steps)


def _lengths(records: Sequence[Record]) -> list[int]:
    return sorted({_length(record) for record in records})


def over_warmup_lengths(records: Sequence[Record]) -> Figure:
    """Final loss and metric against the length of the warmup, a line for each rate; level lines are other recipes."""
    figure, panels = _loss_and_metric(records)
    swept = warmup_sweep(records)
    lengths = _lengths(swept)
    rates = sorted({record.learning_rate for record in swept})
    colors = dict(zip(rates, plt.get_cmap("viridis")(np.linspace(0.1, 0.8, len(rates))), strict=True))
    optimizer = swept[0].config["recipe"]["optimizer"]
    for number_of_rate, rate in enumerate(rates):
        aside = 0.06 * (number_of_rate - (len(rates) - 1) / 2)  # so that bars do not hide each other
        of_rate = [record for record in swept if record.learning_rate == rate]
        of_length = [[record for record in of_rate if _length(record) == length] for length in lengths]
        present = [position for position, runs in enumerate(of_length) if runs]
        runs = [of_length[position] for position in present]
        for name, axes in panels.items():
            places = [position + aside for position in present]
            _mean_and_range(axes, places, runs, name, color=colors[rate], label=f"{optimizer}, lr {rate:g}")
    others = [record for record in records if record not in swept]
    of_recipe, rates = colors_of(others), sorted({record.learning_rate for record in others})
    dashes = dict(zip(rates, ("--", "-.", ":", (0, (1, 4)), (0, (6, 1))) * len(rates), strict=False))
    for (recipe, rate), runs in statistics.by_rate(others).items():
        label = recipe if len(rates) == 1 else f"{recipe}, lr {rate:g}"
        style = {"color": of_recipe[recipe], "linestyle": dashes[rate], "linewidth": 1.6, "label": label}
        for name, axes in panels.items():
            axes.axhline(float(np.mean([number(record.final[name]) for record in runs])), **style)
    for axes in panels.values():
        axes.set(xlabel="updates of linear warmup")
        axes.set_xticks(range(len(lengths)), [f"{length:g}" for length in lengths])
    return _finish(figure, panels)


def over_seeds(records: Sequence[Record]) -> Figure:
    """A dot for each run, at each recipe's best learning rate, with the mean; and how many have failed."""
    name = statistics.headline(records)
    groups = by_recipe(statistics.at_best_rate(records))
    several = statistics.rates_differ(records)
    figure, axes = plt.subplots(figsize=(max(4.5, 1.3 * len(groups) + 1.2), 4.2), layout="constrained")
    colors = colors_of(records)
    labels = []
    for position, (recipe, group) in enumerate(groups.items()):
        values = np.array([number(record.final[name]) for record in group])
        across = position + 0.18 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.array([position])
        axes.plot(across, values, "o", color=colors[recipe], markersize=6, alpha=0.75, mew=0)
        mark_at_the_top(axes, [float(x) for x in across[~np.isfinite(values)]], colors[recipe])
        if np.isfinite(values).any():
            axes.hlines(np.nanmean(values), position - 0.3, position + 0.3, color=colors[recipe], linewidth=2)
        failures = [statistics.has_failed(record) for record in group]
        lines = [recipe.replace("_", "_\n", 1) if len(recipe) > 12 else recipe]
        lines += [f"lr {group[0].learning_rate:g}"] if several else []
        lines += [] if None in failures else [f"failed {sum(map(bool, failures))} of {len(group)}"]
        labels.append("\n".join(lines))
    if name == "loss":
        mark_constant_prediction(axes, records)
        axes.set_ylim(0, None)
    if "majority_class" in records[0].facts and name == records[0].metric:
        axes.axhline(records[0].facts["majority_class"], color=GREY, linestyle=":", linewidth=1.2)
        name_line(axes, "majority\nclass", records[0].facts["majority_class"], beside=True)
    axes.set_xticks(range(len(labels)), labels)
    axes.grid(axis="x", visible=False)
    axes.set(
        title=f"Final {METRICS[name].label}: a dot for each seed, a line for the mean", xlim=(-0.5, len(labels) - 0.5)
    )
    return figure


def _loss_and_metric(records: Sequence[Record]) -> tuple[Figure, dict[str, Axes]]:
    """A panel for the final loss, and one for the task's metric."""
    metric = records[0].metric
    figure, (loss, quality) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    mark_constant_prediction(loss, records, in_legend=True)
    loss.set(title="Final evaluation loss", ylabel=records[0].loss_unit)
    quality.set(title=f"Final {METRICS[metric].label}", yscale="linear" if METRICS[metric].higher_is_better else "log")
    return figure, {"loss": loss, metric: quality}


def _finish(figure: Figure, panels: dict[str, Axes]) -> Figure:
    for axes in panels.values():
        low, high = axes.get_ylim()
        if axes.get_yscale() == "linear" and low < high / 2:  # else all points would lie at the top
            axes.set_ylim(min(0, low), None)
    legend(figure, panels["loss"])
    return figure


def _mean_and_range(
    axes: Axes, positions: Sequence[float], runs: Sequence[Sequence[Record]], name: str, **style: object
) -> None:
    """A line through the means, with bars from the least to the greatest; × at the top where a run has no number."""
    values = [[number(record.final[name]) for record in group] for group in runs]
    means = [float(np.mean(group)) for group in values]
    spread = np.array([[mean - min(group), max(group) - mean] for mean, group in zip(means, values, strict=True)]).T
    spread = np.maximum(spread, 0)  # the mean of equal numbers may be rounded past them
    broken = [x for x, mean in zip(positions, means, strict=True) if not np.isfinite(mean)]
    mark_at_the_top(axes, broken, style["color"])  # pyright: ignore[reportArgumentType]
    axes.errorbar(positions, means, spread, marker="o", capsize=3, **style)  # pyright: ignore[reportArgumentType]
