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
from hf_radam.experiments.report.grid import grid, sentences
from hf_radam.experiments.report.palette import Theme


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure that can be drawn."""

    name: str
    """Of its files, without ending."""
    title: str
    """What it shows, for captions and for those who hear it."""
    draw: Callable[[Theme], Figure]
    palette: int = 64
    """Colours of its files."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure on the disk."""

    name: str
    title: str
    width: int
    """In CSS pixels; text has one size in all figures."""
    light: str
    """Name of the file."""
    dark: str
    """Name of the file for dark pages."""


def specify(records: Sequence[Record], target_loss: float | None) -> list[FigureSpec]:
    """The figures for which there are records; the one that says most comes first.

    Args:
        records: of one comparison, in the order in which the recipes shall appear.
        target_loss: drawn as a line where evaluation loss is shown.
    """
    rates, found = statistics.rates_differ(records), []

    def add(name: str, title: str, draw: Callable[[Theme], Figure], palette: int = 64) -> None:
        found.append(FigureSpec(name=name, title=title, draw=draw, palette=palette))

    results = messages.results(records)
    if (over := grid(records)) is not None:
        add("beta2_map", sentences(over)[0], partial(grids.beta2_map, over))
        return found  # hundreds of curves are for report.html
    if rates:
        add("over_learning_rates", f"{results}; over learning rates", partial(sweeps.over_learning_rates, records))
    add("evaluation", f"{results}; over updates", partial(curves.evaluation, records, target_loss=target_loss))
    if max(map(len, statistics.by_rate(records).values())) >= sweeps.SEEDS_OF_A_DISTRIBUTION:
        add("over_seeds", f"{results}; each run", partial(sweeps.over_seeds, records))
    if all(record.gradients for record in records):
        add(
            "gradient_histograms",
            "Gradients of the first updates",
            partial(gradients.gradient_histograms, records),
            256,
        )
    return found


def draw_all(
    records: Sequence[Record], folder: Path, target_loss: float | None, *, most: int | None = None
) -> list[Drawn]:
    """Draw what the records hold.

    Args:
        records: in the order in which the recipes shall appear.
        folder: where `NAME.png` and `NAME_dark.png` are written.
        target_loss: drawn as a line where evaluation loss is shown.
        most: how many figures, those that say most; all by default.
    """
    return [save(spec, folder) for spec in specify(records, target_loss)[:most]]


def save(spec: FigureSpec, folder: Path) -> Drawn:
    """Draw a figure and write its files."""
    light, dark, width = style.save(spec.draw, folder, spec.name, palette=spec.palette)
    return Drawn(name=spec.name, title=spec.title, width=width, light=light, dark=dark)
