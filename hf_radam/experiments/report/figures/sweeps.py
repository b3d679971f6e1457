"""Final numbers, one dot a run: over learning rates (the paper's Figure 6), beta2, seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import messages, series, statistics
from hf_radam.experiments.report.figures.curves import name_levels
from hf_radam.experiments.report.figures.style import LABEL_SIZE, SEEDS_AS_LINES, looks, name_ends, panels, scale
from hf_radam.experiments.report.palette import Theme
from hf_radam.experiments.report.series import by_recipe, number

SEEDS_OF_A_DISTRIBUTION = 2


def over_learning_rates(records: Sequence[Record], theme: Theme) -> Figure:
    """Final loss and metric against the learning rate: a dot a run, lines through medians, × for no number."""
    look, groups = looks(records, theme), by_recipe(records)
    rates = sorted({record.learning_rate for record in records})
    names = list(dict.fromkeys(["loss", records[0].metric]))
    figure, grid = panels([title(name, records) for name in names], messages.results(records), columns=2,
                          height=max(3.2, len(groups) * LABEL_SIZE * 1.22 / 72 + 0.8))  # fmt: skip
    ends: list[dict[str, tuple[float, float, str]]] = []
    for axes, name in zip(grid, names, strict=True):
        scale(axes, name, [number(run.final[name]) for run in records])
        ends.append({})
        for i, (recipe, group) in enumerate(groups.items()):
            aside = 0.16 * (i - (len(groups) - 1) / 2) / len(groups)  # so that equal dots are seen
            color = look[recipe].color
            dots = [(rates.index(run.learning_rate) + aside, number(run.final[name])) for run in group]
            places = sorted({place for place, _ in dots})
            medians = [series.median([value for at, value in dots if at == place]) for place in places]
            axes.plot(places, medians, color=color, linestyle=look[recipe].dashes, linewidth=1.4)
            axes.plot(*zip(*dots, strict=True), "o", color=color, markersize=5, mew=0.5, mec=theme.page)
            broken = [place for place, value in dots if not math.isfinite(value)]
            axes.plot(broken, np.full(len(broken), 0.98), "x", color=color, mew=1.8, markersize=6,
                      transform=axes.get_xaxis_transform())  # fmt: skip
            ends[-1][recipe] = (places[-1], medians[-1], color)
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axes.set(xlim=(-0.3, len(rates) - 0.7), xlabel="peak learning rate")
        if name == "loss":
            name_levels(axes, records, theme)
    name_ends(grid, ends)
    return figure


def over_seeds(records: Sequence[Record], theme: Theme) -> Figure:
    """A dot for each run at its recipe's best learning rate; of more than five the median too; and how many failed."""
    name = statistics.headline(records)
    groups = by_recipe(statistics.at_best_rate(records))
    several = statistics.rates_differ(records)
    figure, (axes,) = panels([title(name, records)], messages.results(records), columns=1,
                             height=0.34 * len(groups) + 1.0)  # fmt: skip
    look = looks(records, theme)
    everything = [number(record.final[name]) for group in groups.values() for record in group]
    scale(axes, name, everything, "x")
    labels = []
    for position, (recipe, group) in enumerate(groups.items()):
        values = np.array([number(record.final[name]) for record in group])
        aside = position + 0.22 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.array([float(position)])
        axes.plot(values, aside, "o", color=look[recipe].color, markersize=6.5, mew=0.6, mec=theme.page)
        broken = aside[~np.isfinite(values)]
        axes.plot(np.full(len(broken), 0.985), broken, "x", color=look[recipe].color, mew=2,
                  transform=axes.get_yaxis_transform())  # fmt: skip
        middle = series.median([record.final[name] for record in group])
        if len(group) > SEEDS_AS_LINES and math.isfinite(middle):
            axes.vlines(middle, position - 0.38, position + 0.38, color=look[recipe].color, linewidth=2)
        failures = [statistics.has_failed(record) for record in group]
        parts = [recipe] + ([f"lr {group[0].learning_rate:g}"] if several else [])
        parts += [] if None in failures else [f"failed {sum(map(bool, failures))} of {len(group)}"]
        labels.append(", ".join(parts))
    low, high = axes.get_xlim()
    marks = {
        "constant prediction": records[0].facts.get("unigram_entropy") if name == "loss" else None,
        "majority class": records[0].facts.get("majority_class") if name == records[0].metric else None,
    }
    for mark, place in marks.items():
        if place is not None and low < place < high:
            axes.axvline(place, color=theme.muted, linestyle=":", linewidth=1.1)
            axes.annotate(mark, (place, 0), (-3, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
                          color=theme.muted, ha="right", fontsize=LABEL_SIZE)  # fmt: skip
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)  # the first recipe on top
    axes.grid(axis="y", visible=False)
    return figure


def title(name: str, records: Sequence[Record]) -> str:
    return f"Final {METRICS[name].label}" + (f", {records[0].loss_unit}" if name == "loss" else "")
