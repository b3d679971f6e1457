"""Histograms of absolute gradients over the first updates (Figures 2 and 3 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from hf_radam.experiments.records import Record
from hf_radam.experiments.report.figures.style import COLORS, by_recipe

# Share of all gradients that may lie outside of the drawn range, on either side.
CROPPED = 5e-3


def gradient_histograms(records: Sequence[Record]) -> Figure:
    """A heat map for each recipe: update, log10|g|, share of the gradients; the line is the median. Seeds together.

    Args:
        records: all with `gradients`.
    """
    groups = by_recipe(records)
    columns = min(3, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.4 * columns + 1, 2.7 * rows + 0.4), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    shares = {recipe: _shares(group) for recipe, group in groups.items()}
    total = sum(share.sum(0) for _, share, _ in shares.values())
    edges = next(iter(shares.values()))[2]
    within = np.cumsum(total) / np.sum(total)
    low, high = (float(edges[np.searchsorted(within, q)]) for q in (CROPPED, 1 - CROPPED))
    brightest = max(float(share.max()) for _, share, _ in shares.values())
    image = None
    for axes, (recipe, (steps, share, _)) in zip(panels.flat, shares.items(), strict=False):
        image = axes.pcolormesh(_borders(steps), edges, share.T, cmap="Blues", vmin=0, vmax=brightest, rasterized=True)
        axes.plot(steps, _medians(share, edges), color=COLORS["radam"], linewidth=1.8)
        axes.set(title=recipe, xscale="log", ylim=(low, high + (edges[1] - edges[0])))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(visible=False)
    for axes in panels.flat[len(groups) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("log10 |gradient|")
    for column in range(columns):
        last = max(row for row in range(rows) if row * columns + column < len(groups))
        panels[last, column].set_xlabel("update (logarithmic)")
        panels[last, column].xaxis.set_tick_params(labelbottom=True)
    assert image is not None
    figure.colorbar(image, ax=panels, label="share of the gradients in a bin", format="{x:.0%}", aspect=30)
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
