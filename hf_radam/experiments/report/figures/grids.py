"""A grid of beta2 and learning rate: where each family works, and which learning rate orders it."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_radam.experiments.records import Record
from hf_radam.experiments.report import series
from hf_radam.experiments.report.figures.style import Look, name_ends, panels, scale
from hf_radam.experiments.report.figures.sweeps import Line, draw_lines, ends, title
from hf_radam.experiments.report.grid import Grid, early, early_update, label, sentences
from hf_radam.experiments.report.palette import Theme, luminance, shades

COLUMNS = 2


def beta2_map(grid: Grid, theme: Theme) -> Figure:
    """A panel for each family: results against beta2, a line for each learning rate; or the other way, if more rates.

    The darker a line on a light page, the higher its learning rate or beta2.
    """
    figure, found = panels([label(family) for family in grid.families], sentences(grid)[0], columns=COLUMNS,
                           height=2.9, sharey=True)  # fmt: skip
    by_beta2 = len(grid.betas) >= len(grid.rates)
    across, each = (grid.betas, grid.rates) if by_beta2 else (grid.rates, grid.betas)
    runs, all_ends = grid.runs(), []
    for axes, family in zip(found, grid.families, strict=True):
        colors = shades(_hue(family, theme), len(each), theme)
        colors.sort(key=luminance, reverse=theme.name == "light")
        lines = []
        for value, color in zip(each, colors, strict=True):
            keys = [(family, place, value) if by_beta2 else (family, value, place) for place in across]
            of_line = {i: grid.cells[key] for i, key in enumerate(keys) if key in grid.cells}
            name = f"lr {value:g}" if by_beta2 else f"beta2 {value:g}"
            if of_line:
                lines.append(Line(name=name, look=Look(color=color, dashes="-"), runs=of_line))
        draw_lines(axes, lines, grid.metric, [f"{place:g}" for place in across], runs, theme, also=runs)
        axes.set_xlabel("beta2" if by_beta2 else "learning rate")
        all_ends.append(ends(lines, grid.metric))
    for axes in found[::COLUMNS]:
        axes.set_ylabel(title(grid.metric, runs))
    name_ends(found, all_ends)
    return figure


def early_rates(grid: Grid, theme: Theme) -> Figure:
    """Each run's result against its early learning rate, and against its peak."""
    runs = grid.fast()
    update = early_update(runs)
    figure, axes = panels([f"learning rate × rectification at update {update}", "its peak over the run"], early(grid),
                          columns=2, height=3.4, sharey=True)  # fmt: skip
    rates: tuple[Callable[[Record], float], ...] = (lambda run: series.rate_at(run, update), series.peak_rate)
    for panel, rate in zip(axes, rates, strict=True):
        _scatter(panel, grid, rate, theme)
    axes[0].set_ylabel(title(grid.metric, runs))
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0)
    return figure


def _hue(family: str, theme: Theme) -> str:
    return theme.hues.get(family, theme.hues["further"])


def _scatter(axes: Axes, grid: Grid, rate: Callable[[Record], float], theme: Theme) -> None:
    fast = {run.id for run in grid.fast()}
    for family in grid.families:
        runs = [run for key, cell in grid.cells.items() if key[0] == family for run in cell if run.id in fast]
        axes.plot([rate(run) for run in runs], [series.number(run.final[grid.metric]) for run in runs], "o",
                  color=_hue(family, theme), markersize=5, alpha=0.7, mew=0, label=label(family))  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    scale(axes, grid.metric, [series.number(run.final[grid.metric]) for run in grid.fast()])
