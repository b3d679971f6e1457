"""What all figures share: colours, legends, marks, files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_radam.experiments.records import Record

# Okabe and Ito's colours first, which people with any colour vision tell apart. A recipe keeps its colour everywhere.
COLORS = {
    "radam": "#D55E00",
    "adam": "#000000",
    "adam_warmup": "#0072B2",
    "adam_untuned_linear": "#56B4E9",
    "adam_untuned_exponential": "#009E73",
    "adam_2k": "#CC79A7",
    "adam_eps": "#999999",
    "radam_no_sgd": "#E69F00",
    "schedule_free_radam": "#17BECF",
    "adam_1_4": "#7F3C8D",
    "sgd_1_4_adam_5_8": "#8C564B",
}
FURTHER_COLORS = ("#F0E442", "#BCBD22", "#AA0A3C", "#005AC8", "#8A9A5B")
GREY = "#666666"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.hashsalt": "hf_radam",  # the same records give the same bytes
    "svg.fonttype": "none",
}

P = ParamSpec("P")
T = TypeVar("T")


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Draw in our style, and leave matplotlib's settings as they were."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        with plt.rc_context(STYLE):  # pyright: ignore[reportArgumentType]
            return function(*args, **kwargs)

    return inner


def by_recipe(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of each recipe, in the recipes' first order."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.recipe, []).append(record)
    return groups


def colors_of(records: Sequence[Record]) -> dict[str, str]:
    """Colour of each recipe: the fixed ones, then the first that are free."""
    recipes = list(dict.fromkeys(record.recipe for record in records))
    taken = {COLORS.get(recipe) for recipe in recipes}
    free = iter([color for color in [*COLORS.values(), *FURTHER_COLORS] if color not in taken])
    return {recipe: COLORS.get(recipe) or next(free, "#000000") for recipe in recipes}


def number(value: float | None) -> float:
    """nan for None."""
    return float("nan") if value is None else value


def name_line(axes: Axes, name: str, height: float, *, beside: bool = False) -> None:
    """Write the name of a horizontal line below its right end, or beside it."""
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "color": GREY}
    if beside:
        axes.annotate(name, (1, height), (4, 0), ha="left", va="center", **place)
    else:
        axes.annotate(name, (1, height), (0, -3), ha="right", va="top", **place)


def mark_constant_prediction(axes: Axes, records: Sequence[Record], in_legend: bool = False) -> None:
    """A dotted line at the loss of always predicting the target's token frequencies, where that is known."""
    entropy, name = records[0].facts.get("unigram_entropy"), "constant prediction"
    if entropy is not None:
        axes.axhline(entropy, color=GREY, linestyle=":", linewidth=1.2, label=name if in_legend else None)
        if not in_legend:
            name_line(axes, name, entropy)


def mark_at_the_top(axes: Axes, positions: Sequence[float], color: str) -> None:
    """An × above the plot for each diverged point."""
    axes.plot(positions, np.full(len(positions), 0.97), "x", color=color, transform=axes.get_xaxis_transform(), mew=2)


def limit_to_finite(axes: Axes) -> None:
    """Keep a diverging run from flattening the others."""
    ends = [np.nanmax(line.get_ydata()) for line in axes.get_lines() if np.isfinite(line.get_ydata()).any()]  # pyright: ignore[reportArgumentType]
    top = 1.5 * float(np.median(ends)) if ends else None
    axes.set_ylim(0, min(top, max(ends)) * 1.02 if top else None)


def legend(figure: Figure, axes: Axes) -> None:
    """Below the figure, in as many columns as its width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    room = int(figure.get_figwidth() / (0.09 * max(len(label) for label in labels) + 0.6))
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, min(len(labels), room)))


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write `NAME.png` and `NAME.svg`, close the figure, and return the name."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        figure.savefig(folder / f"{name}.{ending}", metadata=metadata)
    plt.close(figure)
    return name
