"""Histograms of absolute gradients over the first updates (Figures 2 and 3 of the paper)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from hf_radam.experiments.report.drawing import LABEL, Chart, layer, number, scale
from hf_radam.experiments.report.statistics import name, rate
from hf_radam.experiments.results import Results

PANELS = 8
# Share of all gradients that may lie outside of the drawn range, on either side.
CROPPED = 5e-3


def gradient_histograms(results: Results) -> Chart:
    """A heat map for each recipe and rate: update, log10|g|, share of the gradients; the line is the median."""
    rows = results.rows if len(results.rows) <= PANELS else {}
    groups = rows or {(name(row), rate(row)): row for row in results.best_rows[:PANELS]}
    shares = {key: _shares(results, row) for key, row in groups.items()}
    lowest = {key: float(of["median"].min()) for key, (of, _) in shares.items()}
    first, last = min(lowest, key=lowest.__getitem__), max(lowest, key=lowest.__getitem__)
    message = "Gradients of the first updates, seeds together: the median |g| falls to " + " and ".join(
        f"1e{lowest[key]:.1f} in {key[0]} (lr {key[1]:g})" for key in dict.fromkeys((first, last))
    )
    several = len({rate for _, rate in groups}) > 1
    total = pd.concat([of for _, of in shares.values()]).groupby("low").share.sum().cumsum()
    total = total / total.iat[-1]
    low, high = total.index[total.searchsorted(CROPPED)], total.index[total.searchsorted(1 - CROPPED)]
    brightest = max(float(of.share.max()) for _, of in shares.values())
    panels = []
    for (recipe, lr), (medians, of) in shares.items():
        of = of.loc[(of.low >= low) & (of.low <= high) & (of.share > 0)]
        x = number("from", **scale(of.loc[:, "from"], True, most=4))
        x["title"] = "update (logarithmic)"
        y = number("low", title="log10 |gradient|", scale={"zero": False, "nice": False})
        shade = number("share", scale={"range": "ramp", "domain": [0, brightest]},
                       legend={"format": "~%", "title": "share of gradients in a bin", "orient": "bottom"})  # fmt: skip
        panels.append({
            "title": {"text": f"{recipe}, lr {lr:g}" if several else recipe, "fontSize": LABEL},
            "height": 160,
            "layer": [
                layer(of, {"type": "rect", "clip": True}, x=x, x2={"field": "to"}, y=y, y2={"field": "high"},
                      color=shade, stroke={**shade, "legend": None}),
                layer(medians, {"type": "line", "style": "middle"}, x={**x, "field": "step"},
                      y={**y, "field": "median"}),
            ],
        })  # fmt: skip
    return Chart(name="gradient_histograms", title="Gradients of the first updates", message=message, panels=panels,
                 columns=min(3, len({recipe for recipe, _ in groups})), palette=256)  # fmt: skip


def _shares(results: Results, row: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of some runs the median at each update that all have reached, and the share of each bin."""
    of = results.gradients.loc[results.gradients.id.isin(row.id)]
    of = of.loc[of.groupby("step").id.transform("nunique") == len(row)]
    of = of.groupby(["step", "low", "high"]).agg(total=("count", "sum")).reset_index()
    of = of.assign(share=of.total / of.groupby("step").total.transform("sum").clip(lower=1))
    steps = of.step.unique()
    inner = np.sqrt(steps[1:] * steps[:-1])  # half way, on a logarithmic axis
    borders = np.array([0.9, 1.1]) * steps[0]
    if len(inner):
        borders = np.concatenate([[steps[0] ** 2 / inner[0]], inner, [steps[-1] ** 2 / inner[-1]]])
    sides = of.step.map(dict(zip(steps, pairwise(borders), strict=True)))
    of = of.assign(**{"from": sides.str[0], "to": sides.str[1]})
    medians = [np.interp(0.5, np.append(0, bins.share.cumsum()), np.append(bins.low, bins.high.iat[-1]))
               for _, bins in of.groupby("step")]  # fmt: skip
    return pd.DataFrame({"step": steps, "median": medians}), of
