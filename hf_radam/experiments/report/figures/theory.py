"""The variance of the adaptive learning rate (Figures 8 and 9 of the paper), and its rectification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from hf_radam.experiments.report.palette import Theme, shades
from hf_radam.rectification import rectification


def variance(study: Mapping[str, Any], theme: Theme) -> Figure:
    """Simulated variance for each mean of the gradients with both formulas, and the formulas' error.

    Args:
        study: what `hf_radam.experiments.variance.study` returns.
        theme: of the page.
    """
    figure, (values, ratio) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    steps, simulated = np.array(study["step"]), np.array(study["simulated"])
    formulas = (
        ("exact formula", "exact", "-", theme.hues["radam"]),
        ("first order", "first_order", "--", theme.hues["adam"]),
    )
    shades = _shades(len(simulated), theme)
    for mean, of_mean, shade in zip(study["mean"], simulated, shades, strict=True):
        values.plot(steps, of_mean, "o", color=shade, markersize=3, label=f"simulated, mean {mean:g}")
    for label, name, dashes, color in formulas:
        values.plot(steps, study[name], dashes, color=color, linewidth=1.8, label=label)
        ratio.plot(steps, np.array(study[name]) / simulated[0], dashes, color=color, linewidth=1.8, label=label)
    values.set(
        title=f"Variance of 1 / sqrt(v̂), beta2 = {study['beta2']:g}", xlabel="step", ylabel="variance",
        xscale="log", yscale="log",
    )  # fmt: skip
    values.legend(fontsize=8)
    ratio.axhspan(0.95, 1.05, color=theme.grid, linewidth=0, label="± 5 %")
    ratio.axhline(1, color=theme.muted, linewidth=0.8)
    ratio.set(title="Formula / simulation, mean 0", xlabel="step", xscale="log", ylim=(0.7, 1.5))
    ratio.legend(fontsize=8)
    return figure


def rectification_terms(betas: Sequence[float], last: int, theme: Theme) -> Figure:
    """r_t against t for each beta2; nothing is drawn where RAdam does not rectify."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    steps = np.unique(np.geomspace(1, last, 400).round().astype(int))
    shades = _shades(len(betas), theme)
    for beta2, shade in zip(betas, shades, strict=True):
        terms = [rectification(int(step), beta2) for step in steps]
        never = "" if any(terms) else ": never rectified"
        drawn = [float("nan") if term is None else term for term in terms]
        axes.plot(steps, drawn, color=shade, linewidth=1.8, label=f"beta2 = {beta2:g}{never}")
    axes.set(title="Rectification r_t", xlabel="step", xscale="log", xlim=(1, last), ylim=(0, 1.02))
    axes.legend(fontsize=8)
    return figure


def _shades(n: int, theme: Theme) -> list[str]:
    return shades(theme.hues["warmup"], n, theme)
