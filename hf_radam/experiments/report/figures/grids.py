"""A grid of beta2 and learning rate: where each family works."""

from __future__ import annotations

from matplotlib.figure import Figure

from hf_radam.experiments.report.figures.style import Look, name_ends, panels
from hf_radam.experiments.report.figures.sweeps import Line, draw_lines, ends, title
from hf_radam.experiments.report.grid import Grid, label, sentences
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


def _hue(family: str, theme: Theme) -> str:
    return theme.hues.get(family, theme.hues["further"])
