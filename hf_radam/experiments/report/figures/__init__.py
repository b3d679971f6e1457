"""Records -> figures, each a PNG for light and one for dark pages; this package is the only importer of matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from hf_radam.experiments.records import Record
from hf_radam.experiments.report import messages, statistics
from hf_radam.experiments.report.figures import curves, gradients, grids, style, sweeps
from hf_radam.experiments.report.grid import grid
from hf_radam.experiments.report.palette import Theme
from hf_radam.experiments.report.table import Image


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure that can be drawn."""

    name: str
    """Of its files, without ending."""
    title: str
    """What it shows, for captions and for those who hear it."""
    draw: Callable[[Theme], Figure]
    palette: int
    """Colours of its files."""


def specify(records: Sequence[Record], target_loss: float | None) -> list[FigureSpec]:
    """The figures for which there are records; the one that says most comes first.

    Args:
        records: of one comparison, in the order in which the recipes shall appear.
        target_loss: drawn as a line where evaluation loss is shown.
    """
    rates, single = statistics.rates_differ(records), grid(records) is None  # hundreds of curves are for report.html
    several = max(map(len, statistics.by_rate(records).values())) >= sweeps.SEEDS_OF_A_DISTRIBUTION
    results = messages.results(records)
    found: list[tuple[bool, str, str, Callable[[Theme], Figure]]] = [
        (single and rates, "over_learning_rates", f"{results}; over learning rates",
         partial(sweeps.over_learning_rates, records)),
        (rates, "effective_rates", "Final results over the effective learning rate: a line a recipe, a panel a beta2",
         partial(grids.effective_rates, records)),
        (single, "evaluation", f"{results}; over updates",
         partial(curves.evaluation, records, target_loss=target_loss)),
        (single and several, "over_seeds", f"{results}; each run", partial(sweeps.over_seeds, records)),
        (single and all(record.gradients for record in records), "gradient_histograms",
         "Gradients of the first updates", partial(gradients.gradient_histograms, records)),
    ]  # fmt: skip
    return [
        FigureSpec(name=name, title=title, draw=draw, palette=256 if name == "gradient_histograms" else 64)
        for wanted, name, title, draw in found
        if wanted
    ]


def draw_all(
    records: Sequence[Record], folder: Path, target_loss: float | None, *, most: int | None = None,
    only: str | None = None,
) -> list[Image]:  # fmt: skip
    """Draw what the records hold.

    Args:
        records: in the order in which the recipes shall appear.
        folder: below which `figures/NAME.png` and `figures/NAME_dark.png` are written.
        target_loss: drawn as a line where evaluation loss is shown.
        most: how many figures, those that say most; all by default.
        only: the name of the one figure to draw.
    """
    drawn = []
    for spec in specify(records, target_loss)[:most]:
        if only in (None, spec.name):
            light, dark, width = style.save(spec.draw, folder / "figures", spec.name, palette=spec.palette)
            drawn.append(Image(title=spec.title, path=f"figures/{light}", width=width, dark=f"figures/{dark}"))
    return drawn
