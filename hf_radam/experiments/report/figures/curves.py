"""Curves over updates: what evaluations hold."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import messages, series
from hf_radam.experiments.report.figures.style import LABEL_SIZE, draw_runs, looks, name_ends, name_line, panels, scale
from hf_radam.experiments.report.grid import capital
from hf_radam.experiments.report.palette import Theme, labels
from hf_radam.experiments.report.series import Curve, by_recipe

COLUMNS = 2


def evaluation(records: Sequence[Record], theme: Theme, target_loss: float | None = None) -> Figure:
    """What recipes are judged by against updates, a panel for each learning rate; at one rate the loss and a metric."""
    names = messages.evaluated(records)
    groups = messages.settings(records)
    if len(groups) > 1:
        names = names[:1]
    titles = [
        capital(METRICS[name].label) + (f", {records[0].loss_unit}" if name == "loss" else "") + f", {setting}"
        for setting in groups
        for name in names
    ]
    figure, grid = panels(titles, messages.results(records), columns=COLUMNS, height=_height(groups))
    pairs = [(group, name) for group in groups.values() for name in names]
    look, called = looks(records, theme), names_of(records)
    ends: list[dict[str, tuple[float, float, str]]] = []
    for axes, (group, name) in zip(grid, pairs, strict=True):
        ends.append({})
        for recipe, runs in by_recipe(group).items():
            lines = [series.evaluation(run, name) for run in runs]
            draw_runs(axes, lines, look[recipe])
            last = series.median([line.values[-1] for line in lines])
            ends[-1][called[recipe]] = (max(line.steps[-1] for line in lines), last, look[recipe].color)
        axes.set_xlabel("update")
        _fit(axes, name, [series.evaluation(record, name) for record in records])
        if name == "loss":
            name_levels(axes, records, theme, target_loss)
    name_ends(grid, ends)
    return figure


def names_of(records: Sequence[Record]) -> dict[str, str]:
    """What lines are called: the recipe, or its label where panels hold one of each."""
    of_recipe, groups = labels(records), messages.settings(records).values()
    if len(groups) > 1 and all(
        len({of_recipe[recipe] for recipe in by_recipe(group)}) == len(by_recipe(group)) for group in groups
    ):
        return of_recipe
    return {recipe: recipe for recipe in of_recipe}


def _fit(axes: Axes, name: str, lines: Sequence[Curve]) -> None:
    """The same limits in all panels, and at most twice the first loss, so that no run that explodes flattens others."""
    start = max(line.values[0] for line in lines)
    values = [value for line in lines for value in line.values]
    scale(axes, name, [value for value in values if not value > 2 * start] if name == "loss" else values)
    axes.margins(x=0.01)


def name_levels(axes: Axes, records: Sequence[Record], theme: Theme, target_loss: float | None = None) -> None:
    """Lines for what a loss may be compared with, where they lie within the panel."""
    low, high = axes.get_ylim()
    levels = {"constant prediction": records[0].facts.get("unigram_entropy"), "target": target_loss}
    for name, level in levels.items():
        if level is not None and low < level < high:
            name_line(axes, name, level, theme, early=name == "target")


def _height(groups: dict[str, list[Record]]) -> float:
    """Of a panel: room for the names of all its lines."""
    most = max(len(by_recipe(group)) for group in groups.values())
    return max(3.0, most * LABEL_SIZE * 1.22 / 72 + 0.7)
