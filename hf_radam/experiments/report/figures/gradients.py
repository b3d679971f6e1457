"""Histograms of absolute gradients over the first updates (Figures 2 and 3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from hf_radam.experiments.records import Record
from hf_radam.experiments.report import statistics
from hf_radam.experiments.report.figures.style import LABEL_SIZE, panels
from hf_radam.experiments.report.palette import Theme

PANELS = 8
# Share of all gradients that may lie outside of the drawn range, on either side.
CROPPED = 5e-3


def gradient_histograms(records: Sequence[Record], theme: Theme) -> Figure:
    """A heat map for each recipe and learning rate: update, log10|g|, share of the gradients; the line is the median.

    Args:
        records: all with `gradients`. Of more than `PANELS` groups the first recipes are drawn, at their best rates.
        theme: whose page the least shares have the colour of.
    """
    groups = statistics.by_rate(records)
    if len(groups) > PANELS:
        groups = dict(list(statistics.by_rate(statistics.at_best_rate(records)).items())[:PANELS])
    shares = {key: _shares(group) for key, group in groups.items()}
    lowest = {key: float(_medians(share, edges).min()) for key, (_, share, edges) in shares.items()}
    first, last = min(lowest, key=lowest.__getitem__), max(lowest, key=lowest.__getitem__)
    message = "Gradients of the first updates, seeds together: the median |g| falls to " + " and ".join(
        f"1e{lowest[key]:.1f} in {key[0]} (lr {key[1]:g})" for key in dict.fromkeys((first, last))
    )
    several = len({rate for _, rate in groups}) > 1
    columns = min(3, len({recipe for recipe, _ in groups}), len(groups))
    figure, grid = panels(
        [f"{recipe}, lr {rate:g}" if several else recipe for recipe, rate in groups], message, columns=columns,
        height=2.2, width=3 * columns + 1, sharex=True, sharey=True,
    )  # fmt: skip
    total = sum(share.sum(0) for _, share, _ in shares.values())
    edges = next(iter(shares.values()))[2]
    within = np.cumsum(total) / np.sum(total)
    low, high = (float(edges[np.searchsorted(within, q)]) for q in (CROPPED, 1 - CROPPED))
    brightest = max(float(share.max()) for _, share, _ in shares.values())
    shade = LinearSegmentedColormap.from_list("shares", [theme.page, theme.hues["warmup"], theme.ink])
    image = None
    for position, (axes, (steps, share, _)) in enumerate(zip(grid, shares.values(), strict=True)):
        image = axes.pcolormesh(_borders(steps), edges, share.T, cmap=shade, vmin=0, vmax=brightest, rasterized=True)
        axes.plot(steps, _medians(share, edges), color=theme.hues["radam"], linewidth=1.8)
        axes.set(xscale="log", ylim=(low, high + (edges[1] - edges[0])))
        axes.title.set_fontsize(LABEL_SIZE)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(visible=False)
        if position % columns == 0:
            axes.set_ylabel("log10 |gradient|")
        if position + columns >= len(grid):
            axes.set_xlabel("update (logarithmic)")
            axes.xaxis.set_tick_params(labelbottom=True)
    assert image is not None
    figure.colorbar(image, ax=grid, label="share of the gradients in a bin", format="{x:.0%}", aspect=30)
    return figure


def _shares(group: Sequence[Record]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recorded updates, share of each bin at each, edges of the bins; over the updates that all seeds have reached."""
    histograms = [record.gradients for record in group if record.gradients]
    length = min(len(histogram["step"]) for histogram in histograms)
    counts = np.sum([histogram["counts"][:length] for histogram in histograms], axis=0, dtype=float)
    first = histograms[0]
    edges = np.linspace(first["low"], first["high"], counts.shape[1] + 1)
    return np.array(first["step"][:length], dtype=float), counts / np.maximum(counts.sum(1, keepdims=True), 1), edges


def _medians(share: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.array([np.interp(0.5, np.concatenate([[0], np.cumsum(of_step)]), edges) for of_step in share])


def _borders(steps: np.ndarray) -> np.ndarray:
    """Where the column of one recorded update ends and the next begins: half way, on a logarithmic axis."""
    inner = np.sqrt(steps[1:] * steps[:-1])
    return (
        np.concatenate([[steps[0] ** 2 / inner[0]], inner, [steps[-1] ** 2 / inner[-1]]])
        if len(inner)
        else np.array([0.9, 1.1]) * steps[0]
    )
