"""What all figures share: a theme's settings, panels, runs as lines, names at the ends of lines, files."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report.palette import DARK, LIGHT, Theme, colors, families
from hf_radam.experiments.report.series import Curve
from hf_radam.files import whole

WIDTH = 10.0  # inches
PIXELS = 80  # of CSS, in an inch; files hold two for each
SEEDS_AS_LINES = 5  # with more seeds, a recipe is its median and range
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))
LABEL_SIZE = 8.5


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a recipe is drawn, in all figures of a comparison."""

    color: str
    dashes: Any
    """Recipes of one family differ in them."""


def looks(records: Sequence[Record], theme: Theme) -> dict[str, Look]:
    """The look of each recipe."""
    seen: dict[str, int] = {}
    found = {}
    of_recipe = families(records)
    for recipe, color in colors(records, theme).items():
        position = seen[of_recipe[recipe]] = seen.get(of_recipe[recipe], -1) + 1
        found[recipe] = Look(color=color, dashes=DASHES[position % len(DASHES)])
    return found


@contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """Draw in our style, and leave matplotlib's settings as they were."""
    settings: dict[Any, Any] = {
        "font.size": 10, "axes.titlesize": 10, "axes.titlelocation": "left", "figure.titlesize": 11.5,
        "figure.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": theme.grid, "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False,
        "figure.facecolor": theme.page, "axes.facecolor": theme.page, "savefig.facecolor": theme.page,
        "text.color": theme.ink, "axes.labelcolor": theme.ink, "axes.edgecolor": theme.muted,
        "xtick.color": theme.muted, "ytick.color": theme.muted, "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink, "figure.dpi": PIXELS, "savefig.dpi": 2 * PIXELS, "figure.max_open_warning": 0,
    }  # fmt: skip
    with plt.rc_context(settings):
        yield


def panels(
    titles: Sequence[str], message: str, *, columns: int, height: float, width: float = WIDTH, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with a message, and a panel for each title."""
    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(width, height * rows + 0.4), layout="constrained", squeeze=False, **options
    )
    found = list(grid.flat)
    for axes, title in zip(found, titles, strict=False):
        axes.set_title(title)
    for axes in found[len(titles) :]:
        axes.set_visible(False)
    say(figure, message)
    return figure, found[: len(titles)]


def say(figure: Figure, message: str) -> None:
    """Write the message above the panels."""
    joined = re.sub(r"(\blr|\d of|beta2) (?=\d)", "\\1\N{NO-BREAK SPACE}", message)
    lines = textwrap.fill(joined, int(figure.get_figwidth() * 10.2))
    figure.suptitle(lines, x=0.008, ha="left")


def draw_runs(axes: Axes, curves: Sequence[Curve], look: Look) -> None:
    """A thin line a run, up to five runs; of more the median and the range. A line that breaks off ends with an ×."""
    longest = max((curve.steps for curve in curves), key=len)
    values = np.full((len(curves), len(longest)), np.nan)
    for row, curve in zip(values, curves, strict=True):
        row[: len(curve.values)] = curve.values
    if len(curves) > SEEDS_AS_LINES:
        finite = np.isfinite(values)
        below, above = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
        axes.fill_between(longest, below.min(0), above.max(0), where=finite.any(0).tolist(), color=look.color,
                          alpha=0.18, linewidth=0)  # fmt: skip
        middle = np.median(below, axis=0, keepdims=True)
        values = np.where(np.isfinite(middle), middle, np.nan)
    for row in values:
        axes.plot(longest, row, color=look.color, linestyle=look.dashes, linewidth=1.2 if len(values) > 1 else 1.6)
        finite = np.flatnonzero(np.isfinite(row))
        if len(finite) and finite[-1] < len(row) - 1:
            axes.plot(longest[finite[-1]], row[finite[-1]], "x", color=look.color, markersize=7, mew=1.8)


def name_ends(grid: Sequence[Axes], names: Sequence[Mapping[str, tuple[float, float, str]]]) -> None:
    """Write names beside the ends of lines, moved apart where they would overlap, with a hair to the line's end.

    Args:
        grid: all panels of a figure, with their final limits and scales.
        names: for each panel and name where the line ends, in data coordinates, and its colour. An end that is not
            finite is written at the top.
    """
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout is known from here on
    for axes, of_panel in zip(grid, names, strict=True):
        pitch = LABEL_SIZE * 1.22 * figure.dpi / 72 / axes.get_window_extent().height
        to_axes = (axes.transData + axes.transAxes.inverted()).transform
        ends = []
        for name, (x, y, color) in of_panel.items():
            across, up = to_axes((x, y if math.isfinite(y) else axes.get_ylim()[1]))
            ends.append((min(max(float(up), 0.0), 1.0), float(across), name, color))
        ends.sort(key=lambda end: end[:1])
        heights = spread([end[0] for end in ends], pitch)
        for (up, across, name, color), height in zip(ends, heights, strict=True):
            axes.annotate(
                name, (across, up), (1.035, height), xycoords="axes fraction", textcoords="axes fraction",
                color=color, fontsize=LABEL_SIZE, va="center", annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 1,
                            "alpha": 0.5, "relpos": (0, 0.5)},
            )  # fmt: skip


def spread(heights: Sequence[float], pitch: float) -> list[float]:
    """Ascending heights moved as little as needed to lie a pitch apart, within 0 and 1 where there is room.

    Example:
        >>> spread([0.5, 0.5], 0.25)
        [0.375, 0.625]
    """
    groups: list[tuple[float, int]] = []  # the middle of each block of labels that touch, and how many it holds
    for height in heights:
        groups.append((height, 1))
        while len(groups) > 1:
            (below, m), (above, n) = groups[-2:]
            if above - below >= pitch * (m + n) / 2:
                break
            groups[-2:] = [((below * m + above * n) / (m + n), m + n)]
    found: list[float] = []
    for middle, n in groups:
        found += [middle + pitch * (i - (n - 1) / 2) for i in range(n)]
    for i in range(len(found)):  # push up from the bottom, then down from the top
        found[i] = max(found[i], pitch * i if len(found) * pitch <= 1 else found[i])
    for i in reversed(range(len(found))):
        found[i] = min(found[i], 1 - pitch * (len(found) - 1 - i) if len(found) * pitch <= 1 else found[i])
    return found


def name_line(axes: Axes, name: str, height: float, theme: Theme, *, early: bool = False) -> None:
    """A dotted level line. Its name is above the right end, where runs that learn are below; `early`, the reverse."""
    axes.axhline(height, color=theme.muted, linestyle=":", linewidth=1.1)
    x, shift, ha, va = (0, (3, -3), "left", "top") if early else (1, (-3, 3), "right", "bottom")
    axes.annotate(name, (x, height), shift, xycoords=("axes fraction", "data"), textcoords="offset points",
                  ha=ha, va=va, color=theme.muted, fontsize=LABEL_SIZE)  # fmt: skip


def scale(axes: Axes, name: str, values: Sequence[float], along: str = "y") -> None:
    """Logarithmic for what falls to zero, such as losses; few ticks, as plain numbers."""
    if not METRICS[name].higher_is_better:
        logarithmic(axes, values, along)


def logarithmic(axes: Axes, values: Sequence[float], along: str, most: int = 9) -> None:
    """A logarithmic axis with at most so many ticks, as plain numbers, where all finite values are positive."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or min(finite) <= 0:
        return
    axes.set(**{f"{along}scale": "log"})
    margin = (max(finite) / min(finite)) ** 0.06 * 1.02
    low, high = min(finite) / margin, max(finite) * margin
    axis = axes.yaxis if along == "y" else axes.xaxis
    for each in ((1, 2, 5), (1,)):
        ticks = [step for k in range(-9, 10) for m in each if low <= (step := m * 10.0**k) <= high]
        if len(ticks) <= most:
            break
    if len(ticks) < 2:
        ticks = [float(f"{value:.2g}") for value in np.geomspace(low, high, 5)[1:-1]]
    axis.set_ticks(list(dict.fromkeys(ticks)), [f"{tick:g}" for tick in dict.fromkeys(ticks)])
    axis.set_minor_locator(NullLocator())
    axes.set(**{f"{along}lim": (low, high)})


def save(draw: Callable[[Theme], Figure], folder: Path, name: str, *, palette: int = 64) -> tuple[str, str, int]:
    """Write `NAME.png` and its twin for dark pages, `NAME_dark.png`.

    Args:
        draw: a figure in the colours of a theme.
        folder: made if it is missing.
        name: of the files, without ending.
        palette: colours of the files; antialiased lines need few.

    Returns:
        The names of both files, and their width in CSS pixels.
    """
    files, width = [], 0
    for theme, ending in ((LIGHT, ""), (DARK, "_dark")):
        with styled(theme):
            figure = draw(theme)
            width = round(figure.get_figwidth() * PIXELS)
            buffer = BytesIO()
            figure.savefig(buffer, format="png")
            plt.close(figure)
        files.append(f"{name}{ending}.png")
        with Image.open(buffer) as image, whole(folder / files[-1]) as unfinished:
            reduce(image.convert("RGB"), palette).save(unfinished, format="png", optimize=True)
    return files[0], files[1], width


def reduce(image: Image.Image, colors: int) -> Image.Image:
    """The image with a palette; thin lines count for more than their pixels, so that a page of white keeps them."""
    found: Any = image.getcolors(image.width * image.height)
    counts, pixels = zip(*sorted(found), strict=True)
    weighted = np.repeat(np.array(pixels, np.uint8), np.ceil(np.sqrt(counts)).astype(int), axis=0)
    palette = Image.fromarray(weighted[None]).quantize(colors, Image.Quantize.MEDIANCUT)
    return image.quantize(palette=palette, dither=Image.Dither.NONE)
