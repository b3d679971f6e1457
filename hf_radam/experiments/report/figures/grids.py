"""Results over effective learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from hf_radam.experiments.records import Record
from hf_radam.experiments.report import rates, statistics
from hf_radam.experiments.report.figures.style import logarithmic, panels, scale
from hf_radam.experiments.report.figures.sweeps import title
from hf_radam.experiments.report.palette import Theme, label_colors


def effective_rates(records: Sequence[Record], theme: Theme) -> Figure:
    """A panel for each beta2 of RAdam: results against the effective rate, a line a recipe; × where one fails."""
    found, name = rates.settings(records), statistics.headline(records)
    betas = sorted({one.beta2 for one in found if one.label == "RAdam"}) or sorted({one.beta2 for one in found})
    said = [duel.sentence for duel in rates.duels(records)] or [f"Final {name} over effective rates"]
    columns = min(3, len(betas))
    figure, grid = panels([f"beta2 {beta2:g}" for beta2 in betas], said[0], columns=columns, height=3.0, sharex=True,
                          sharey=True)  # fmt: skip
    hues, worst = label_colors(records, theme), rates.middle(found)
    floor = max((one for one in found if math.isfinite(one.cost)), key=lambda one: one.cost, default=found[0]).result

    def shown(one: rates.Setting) -> float:
        return one.result if math.isfinite(one.cost) else floor

    for position, (axes, beta2) in enumerate(zip(grid, betas, strict=True)):
        scale(axes, name, [one.result for one in found])
        logarithmic(axes, [one.rate for one in found], "x", most=5)
        for label, color in hues.items():
            line = rates.line(found, label, beta2)
            axes.plot([one.rate for one in line], [shown(one) for one in line], color=color, linewidth=1.5, label=label)
            for marker, fails in (("o", False), ("x", True)):
                of_kind = [one for one in line if (one.cost > worst) is fails]
                axes.plot([one.rate for one in of_kind], [shown(one) for one in of_kind], marker, color=color,
                          markersize=5, mew=1.6 if fails else 0)  # fmt: skip
        if position + columns >= len(grid):
            axes.set_xlabel("effective learning rate")
            axes.xaxis.set_tick_params(labelbottom=True)
    grid[0].set_ylabel(title(name, records))
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(hues))
    return figure
