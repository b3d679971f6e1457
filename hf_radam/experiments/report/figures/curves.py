"""Curves over updates: what evaluations hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import messages, series
from hf_radam.experiments.report.figures.style import LABEL_SIZE, draw_runs, looks, name_ends, name_line, panels, scale
from hf_radam.experiments.report.palette import Theme, labels
from hf_radam.experiments.report.series import Curve, by_recipe, number

COLUMNS = 2


def evaluation(records: Sequence[Record], theme: Theme, target_loss: float | None = None) -> Figure:
    """What recipes are judged by against updates, a panel for each learning rate; at one rate the loss and a metric."""
    names = messages.evaluated(records)
    groups = messages.settings(records)
    if len(groups) > 1:
        names = names[:1]
    titles = [
        _capital(METRICS[name].label) + (f", {records[0].loss_unit}" if name == "loss" else "") + f", {setting}"
        for setting in groups
        for name in names
    ]
    figure, grid = panels(titles, messages.results(records), columns=COLUMNS, height=_height(groups))
    pairs = [(group, name) for group in groups.values() for name in names]
    for axes, (group, name) in zip(grid, pairs, strict=True):
        _draw(axes, group, records, theme, lambda record, name=name: series.evaluation(record, name))
        _fit(axes, name, records, lambda record, name=name: series.evaluation(record, name))
        if name == "loss":
            _name_levels(axes, records, theme, target_loss)
    _finish(grid, [group for group, _ in pairs], records, theme, [
        lambda record, name=name: series.evaluation(record, name) for _, name in pairs
    ])  # fmt: skip
    return figure


def _draw(
    axes: Axes, group: Sequence[Record], records: Sequence[Record], theme: Theme, curve: Callable[[Record], Curve]
) -> None:
    look = looks(records, theme)
    for recipe, runs in by_recipe(group).items():
        draw_runs(axes, [curve(run) for run in runs], look[recipe])
    axes.set_xlabel("update")


def _finish(
    grid: Sequence[Axes], groups: Sequence[Sequence[Record]], records: Sequence[Record], theme: Theme,
    curves: Sequence[Callable[[Record], Curve]],
) -> None:  # fmt: skip
    """Name the lines of all panels, once all limits are set."""
    look, names = looks(records, theme), names_of(records)
    all_ends: list[dict[str, tuple[float, float, str]]] = []
    for group, curve in zip(groups, curves, strict=True):
        ends = {}
        for recipe, runs in by_recipe(group).items():
            of_runs = [curve(run) for run in runs]
            last = series.median([of_run.values[-1] for of_run in of_runs])
            ends[names[recipe]] = (max(of_run.steps[-1] for of_run in of_runs), last, look[recipe].color)
        all_ends.append(ends)
    name_ends(grid, all_ends)


def names_of(records: Sequence[Record]) -> dict[str, str]:
    """What lines are called: the recipe, or its label where panels hold one of each."""
    of_recipe, groups = labels(records), messages.settings(records).values()
    if len(groups) > 1 and all(
        len({of_recipe[recipe] for recipe in by_recipe(group)}) == len(by_recipe(group)) for group in groups
    ):
        return of_recipe
    return {recipe: recipe for recipe in of_recipe}


def _fit(axes: Axes, name: str, records: Sequence[Record], curve: Callable[[Record], Curve]) -> None:
    """The same limits in all panels, and at most twice the first loss, so that no run that explodes flattens others."""
    curves = [curve(record) for record in records]
    start = max((number(of_run.values[0]) for of_run in curves), default=float("nan"))
    values = [value for of_run in curves for value in of_run.values]
    scale(axes, name, [value for value in values if not value > 2 * start] if name == "loss" else values)
    axes.margins(x=0.01)


def _name_levels(axes: Axes, records: Sequence[Record], theme: Theme, target_loss: float | None) -> None:
    low, high = axes.get_ylim()
    levels = {"constant prediction": records[0].facts.get("unigram_entropy"), "target": target_loss}
    for name, level in levels.items():
        if level is not None and low < level < high:
            name_line(axes, name, level, theme, early=name == "target")


def _height(groups: dict[str, list[Record]]) -> float:
    """Of a panel: room for the names of all its lines."""
    most = max(len(by_recipe(group)) for group in groups.values())
    return max(3.0, most * LABEL_SIZE * 1.22 / 72 + 0.7)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
