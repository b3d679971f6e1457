"""Final numbers, one dot a run: over learning rates (the paper's Figure 6), warmup lengths (Figure 7), beta2, seeds."""

from __future__ import annotations

import json
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
    DASHES,
    LABEL_SIZE,
    SEEDS_AS_LINES,
    Look,
    looks,
    name_ends,
    name_line,
    panels,
    scale,
)  # fmt: skip
from hf_radam.experiments.report.palette import Theme, families, shades
from hf_radam.experiments.report.series import by_recipe, number

# One optimizer with at least so many lengths of warmup makes a sweep of them.
LENGTHS_OF_A_SWEEP = 3
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


def warmup_sweeps(records: Sequence[Record]) -> list[list[Record]]:
    """Runs of one optimizer under warmups of at least three lengths (0 is one), for each optimizer that has them."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        recipe = record.config["recipe"]
        if recipe["warmup"] in ("none", "linear"):
            groups.setdefault(json.dumps([recipe["optimizer"], recipe["optim_args"]]), []).append(record)
    return [
        group
        for group in groups.values()
        if len({series.warmup_updates(record) for record in group}) >= LENGTHS_OF_A_SWEEP
    ]


def over_warmup_lengths(records: Sequence[Record], theme: Theme) -> Figure:
    """Final loss and metric against the length of the warmup; level lines are the best of each other family."""
    sweeps, look, of_recipe = warmup_sweeps(records), looks(records, theme), families(records)
    swept = {id(record) for sweep in sweeps for record in sweep}
    lengths = sorted({series.warmup_updates(record) for sweep in sweeps for record in sweep})
    several = statistics.rates_differ(records)
    betas = messages.betas_differ(records)
    swept_lines = []
    for sweep in sweeps:
        for rate in sorted({record.learning_rate for record in sweep}):
            group = [record for record in sweep if record.learning_rate == rate]
            name = f"{group[0].config['recipe']['optimizer']} + warmup" + (f", lr {rate:g}" if several else "")
            name += f", beta2 {series.beta2(group[0]):g}" if betas else ""
            placed = _placed(group, [series.warmup_updates(record) for record in group], lengths)
            swept_lines.append((name, placed))
    lines = [
        Line(name=name, look=Look(color=color, dashes=DASHES[i % len(DASHES)]), runs=placed)
        for i, ((name, placed), color) in enumerate(
            zip(swept_lines, shades(theme.hues["warmup"], len(swept_lines), theme), strict=True)
        )
    ]
    others: dict[tuple[str, float], list[Record]] = {}
    for (recipe, rate), runs in statistics.by_rate([record for record in records if id(record) not in swept]).items():
        key = (of_recipe[recipe], rate)
        if key not in others or series.cost(runs, "loss") < series.cost(others[key], "loss"):
            others[key] = runs
    names = list(dict.fromkeys(["loss", records[0].metric]))
    figure, grid = panels([title(name, records) for name in names], messages.results(records),
                          columns=2, height=_height(len(lines) + len(others)))  # fmt: skip
    all_ends = []
    for axes, name in zip(grid, names, strict=True):
        draw_lines(axes, lines, name, [f"{length:g}" for length in lengths], records, theme,
              also=[run for runs in others.values() for run in runs])  # fmt: skip
        levels = {}
        for (_, rate), runs in others.items():
            level, of_recipe_look = series.median([run.final[name] for run in runs]), look[runs[0].recipe]
            if math.isfinite(level):
                axes.axhline(level, color=of_recipe_look.color, linestyle=of_recipe_look.dashes, linewidth=1)
            label = runs[0].recipe + (f", lr {rate:g}" if several else "")
            levels[label] = (len(lengths) - 0.7, level, of_recipe_look.color)
        axes.set_xlabel("updates of linear warmup")
        all_ends.append({**ends(lines, name), **levels})
    name_ends(grid, all_ends)
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
