"""Final numbers, one dot a run: over learning rates (the paper's Figure 6), beta2, seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import messages, series, statistics
from hf_radam.experiments.report.figures.style import (
    LABEL_SIZE,
    SEEDS_AS_LINES,
    Look,
    looks,
    name_ends,
    name_line,
    panels,
    scale,
)  # fmt: skip
from hf_radam.experiments.report.palette import Theme
from hf_radam.experiments.report.series import by_recipe, number

SEEDS_OF_A_DISTRIBUTION = 2


@dataclass(frozen=True, kw_only=True)
class Line:
    """The runs of one line of a sweep."""

    name: str
    look: Look
    runs: Mapping[int, Sequence[Record]]
    """By position on the horizontal axis."""


def over_learning_rates(records: Sequence[Record], theme: Theme) -> Figure:
    """Final loss and metric of each recipe against the learning rate."""
    look = looks(records, theme)
    rates = sorted({record.learning_rate for record in records})
    lines = [
        Line(name=recipe, look=look[recipe], runs=_placed(group, [record.learning_rate for record in group], rates))
        for recipe, group in by_recipe(records).items()
    ]
    names = list(dict.fromkeys(["loss", records[0].metric]))
    figure, grid = panels([title(name, records) for name in names], messages.results(records),
                          columns=2, height=_height(len(lines)))  # fmt: skip
    for axes, name in zip(grid, names, strict=True):
        draw_lines(axes, lines, name, [f"{rate:g}" for rate in rates], records, theme)
        axes.set_xlabel("peak learning rate")
    name_ends(grid, [ends(lines, name) for name in names])
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


def _placed(group: Sequence[Record], keys: Sequence[float], places: Sequence[float]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for record, key in sorted(zip(group, keys, strict=True), key=lambda pair: pair[1]):
        found.setdefault(places.index(key), []).append(record)
    return found


def draw_lines(
    axes: Axes, lines: Sequence[Line], name: str, ticks: Sequence[str], records: Sequence[Record], theme: Theme,
    also: Sequence[Record] = (),
) -> None:  # fmt: skip
    """Dots, lines through medians, and an × at the top for a run without a number; lines lie a little apart."""
    drawn = [run for line in lines for runs in line.runs.values() for run in runs]
    scale(axes, name, [number(run.final[name]) for run in [*drawn, *also]])
    for i, line in enumerate(lines):
        aside = _aside(i, lines)
        medians = [series.median([run.final[name] for run in runs]) for runs in line.runs.values()]
        axes.plot([place + aside for place in line.runs], medians, color=line.look.color, linestyle=line.look.dashes,
                  linewidth=1.4)  # fmt: skip
        dots = [(place + aside, number(run.final[name])) for place, runs in line.runs.items() for run in runs]
        axes.plot(*zip(*dots, strict=True), "o", color=line.look.color, markersize=5, mew=0.5, mec=theme.page)
        broken = [place for place, value in dots if not math.isfinite(value)]
        axes.plot(broken, np.full(len(broken), 0.98), "x", color=line.look.color, mew=1.8, markersize=6,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlim(-0.3, len(ticks) - 0.7)
    low, high = axes.get_ylim()
    entropy = records[0].facts.get("unigram_entropy")
    if name == "loss" and entropy is not None and low < entropy < high:
        name_line(axes, "constant prediction", entropy, theme)


def ends(lines: Sequence[Line], name: str) -> dict[str, tuple[float, float, str]]:
    return {
        line.name: (
            max(line.runs) + _aside(i, lines),
            series.median([run.final[name] for run in line.runs[max(line.runs)]]),
            line.look.color,
        )
        for i, line in enumerate(lines)
    }


def _aside(i: int, lines: Sequence[Line]) -> float:
    """How far a line lies from the ticks, so that equal dots are seen."""
    return 0.16 * (i - (len(lines) - 1) / 2) / len(lines)


def title(name: str, records: Sequence[Record]) -> str:
    return f"Final {METRICS[name].label}" + (f", {records[0].loss_unit}" if name == "loss" else "")


def _height(lines: int) -> float:
    return max(3.2, lines * LABEL_SIZE * 1.22 / 72 + 0.8)
