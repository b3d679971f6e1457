"""Results -> charts: curves over updates, final results over rates and seeds, gradients."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hf_radam.experiments.metrics import METRICS, metric_named
from hf_radam.experiments.report import rates
from hf_radam.experiments.report.drawing import (
    DARK,
    LABEL,
    LIGHT,
    PITCH,
    Chart,
    Spec,
    colored,
    colors,
    layer,
    named_ends,
    number,
    scale,
    word,
)
from hf_radam.experiments.report.statistics import capital, cost, crosses, middle, name, rate
from hf_radam.experiments.results import Results

DASHES = ([1, 0], [8, 3], [2.5, 2], [10, 3, 2.5, 3])
CROSS = {"type": "point", "shape": "M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7", "size": 60, "strokeWidth": 1.8, "opacity": 1}
DOT = {"type": "point", "style": "dot", "size": 50}
LEVEL = {"type": "rule", "strokeDash": [2, 3]}
# What a result may be compared with.
LEVELS = ("constant prediction", "majority class", "target")
# Of the gradients: the ends of the middle nine tenths and of the middle half, and the median.
QUANTILES = {"p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}


def charts(results: Results) -> list[Chart]:
    """The charts for which there are records; the one that says most comes first."""
    single, several = not results.is_grid, results.several_rates  # hundreds of curves are for report.html
    drawn = {
        over_learning_rates: single and several,
        effective_rates: several,
        evaluation: single,
        over_seeds: single and not several and len(results.runs) > len(results.rows),
        gradient_histograms: single and all(record.gradients for record in results.records),
    }
    return [draw(results) for draw, holds in drawn.items() if holds]


def evaluated(results: Results) -> list[str]:
    """What all evaluations hold: the number by which recipes are judged, then another one, if there is one."""
    held = set(results.evaluations.columns[results.evaluations.notna().any()])
    names = dict.fromkeys([results.selection, "loss", results.task_metric, *METRICS])
    return [key for key in names if key in held][:2]


def ends(results: Results) -> str:
    """How the best recipe, RAdam and the worst recipe end, each at its best learning rate."""
    order = sorted(results.best_rows, key=cost)
    radam = next((row for row in order if row.family.iat[0] == "radam"), order[0])
    said = []
    for recipe, row in {name(row): row for row in (order[0], radam, order[-1])}.items():
        of_rate = f" (lr {rate(row):g})" if results.several_rates else ""
        said.append(f"{recipe}: {results.ended(row)}{of_rate}")
    place = "each recipe's best rate" if results.several_rates else _rates(results.runs)
    return f"Final {results.metric.label} at {place}. {'; '.join(said)}"


def _rates(runs: pd.DataFrame) -> str:
    return " and ".join(f"lr {peak:g}" for peak in sorted(set(runs.peak)))


def _chart(results: Results, kind: str, what: str, panels: list[Spec], names: list[str]) -> Chart:
    message = ends(results)
    return Chart(name=kind, title=f"{message}; {what}", message=message, panels=panels, names=names,
                 colors=themed(results))  # fmt: skip


def themed(results: Results, by: str = "recipe") -> dict[str, dict[str, str]]:
    """The colour of each recipe, or each label, and then of each level, on each page."""
    themes = (LIGHT, DARK)
    return {of.name: {**colors(results.runs, of, by), **dict.fromkeys(LEVELS, of.muted)} for of in themes}


def by_recipe(results: Results) -> Spec:
    """The encoding of colours by recipe, and by level."""
    return colored([*results.runs.recipe.unique(), *LEVELS])


def dashed(results: Results) -> Spec:
    """The encoding of a line's dashes: recipes of one family differ in them."""
    recipes = results.runs.drop_duplicates("recipe")
    place = recipes.groupby("family").cumcount() % len(DASHES)
    return word("recipe", scale={"domain": list(recipes.recipe), "range": [DASHES[i] for i in place]}, legend=None)


def titled(results: Results, key: str) -> str:
    """A number with its unit."""
    return metric_named(key).label + (f", {results.records[0].loss_unit}" if key == "loss" else "")


def fitted(points: pd.DataFrame, key: str) -> Spec:
    """An axis for all panels, to at most twice the first loss, so that no run that explodes flattens the others."""
    start = points.groupby("id").value.first().max()
    shown = points.value[~(points.value > 2 * start)] if key == "loss" else points.value
    return scale(shown.astype(float), not metric_named(key).higher_is_better)


def points_of(results: Results, key: str) -> pd.DataFrame:
    """One of the numbers that evaluations hold, with what tells runs apart."""
    points = results.evaluations.loc[:, ["id", "step", key]].rename(columns={key: "value"})
    return points.merge(results.runs[["id", "recipe"]], on="id")


def levels(results: Results, key: str, axis: Spec) -> pd.DataFrame:
    """What a result may be compared with, where it lies on the axis."""
    low, high = axis["scale"]["domain"]
    known = {
        "constant prediction": ("loss", results.facts.get("unigram_entropy")),
        "majority class": (results.task_metric, results.facts.get("majority_class")),
        "target": ("loss", results.comparison["target_loss"]),
    }
    found = [(name, place) for name, (of, place) in known.items() if of == key and place is not None]
    every = pd.DataFrame(found, columns=["recipe", "value"]).astype({"value": float})
    return every[every.value.between(low, high)]


def medians(points: pd.DataFrame, key: str, by: list[str]) -> pd.DataFrame:
    """The median of each group of values, where a missing one counts as worse than all others."""
    higher = metric_named(key).higher_is_better
    return points.groupby(by, sort=False).value.agg(middle, higher_is_better=higher).reset_index()


def _panel(results: Results, key: str, y: Spec, drawn: list[Spec], last: pd.DataFrame) -> Spec:
    """What is drawn, over dotted levels; beside it stand the names of both."""
    height = max(200, PITCH * (results.runs.recipe.nunique() + len(LEVELS)))
    dotted, color = levels(results, key, y), by_recipe(results)
    below = layer(dotted, LEVEL, y=number("value", **y), color=color)
    beside = named_ends(pd.concat([last, dotted]), y, height, color)
    return {"height": height, "layer": [below, *drawn, *beside]}


def _names(panels: list[Spec]) -> list[str]:
    """What stands beside panels."""
    return [row["recipe"] for panel in panels for row in panel["layer"][-1]["data"]["values"]]


def evaluation(results: Results) -> Chart:
    """What recipes are judged by against updates, a panel for each learning rate; at one rate the loss and a metric."""
    panels = []
    for _, group in results.runs.groupby("learning_rate"):
        for key in evaluated(results)[: 1 if len(results.learning_rates) > 1 else 2]:
            points = points_of(results, key)
            y, points = fitted(points, key), points.loc[points.id.isin(group.id)]
            last = medians(points.groupby("id").tail(1), key, ["recipe"])
            title = f"{capital(titled(results, key))}, {_rates(group)}"
            panels.append({"title": title, **_panel(results, key, y, lines(results, points, y), last)})
    return _chart(results, "evaluation", "over updates", panels, _names(panels))


def lines(results: Results, points: pd.DataFrame, y: Spec) -> list[Spec]:
    """A thin line a run. A line that breaks off ends with an x."""
    of = points.loc[:, ["id", "recipe", "step", "value"]].sort_values(["id", "recipe", "step"], kind="stable")
    last = of[of.value.notna()].groupby("id").tail(1)
    stops = last[last.step < of.groupby("recipe").step.transform("max")[last.index]]
    x = number("step", title="update", scale={"nice": False, "domainMax": float(of.step.max())}, axis={"tickCount": 5})
    marks = {"x": x, "y": number("value", **y), "color": by_recipe(results)}
    line = {"type": "line", "strokeWidth": 1.6, "clip": True}
    return [layer(of, line, **marks, strokeDash=dashed(results), detail=word("id")), layer(stops, CROSS, **marks)]


def over_learning_rates(results: Results) -> Chart:
    """Final loss and metric against the learning rate: a dot a run, lines through medians, x for no number."""
    runs, panels = results.runs.assign(place=[f"{peak:g}" for peak in results.runs.learning_rate]), []
    x = word("place", title="peak learning rate", sort=[f"{peak:g}" for peak in results.learning_rates],
             axis={"labelAngle": 0, "grid": True}, scale={"paddingInner": 0.7, "paddingOuter": 0.2})  # fmt: skip
    marks = {"x": x, "xOffset": word("recipe"), "color": by_recipe(results)}
    for key in dict.fromkeys(["loss", results.task_metric]):
        of = runs[["recipe", "place"]].assign(value=runs[f"final_{key}"].astype(float))
        middles = medians(of, key, ["recipe", "place"])
        y = scale(of.value, not metric_named(key).higher_is_better)
        at = {"y": number("value", **y)}
        drawn = [
            layer(middles, {"type": "line", "strokeWidth": 1.6}, **marks, **at, strokeDash=dashed(results)),
            layer(of[of.value.notna()], DOT, **marks, **at),
            layer(of[of.value.isna()], CROSS, **marks, y={"value": 5}),
        ]
        last = middles.groupby("recipe", sort=False).tail(1)
        panels.append({"title": f"Final {titled(results, key)}", **_panel(results, key, y, drawn, last)})
    return _chart(results, "over_learning_rates", "over learning rates", panels, _names(panels))


def over_seeds(results: Results) -> Chart:
    """A dot for each run, and how many of a recipe failed."""
    key, runs = results.selection, results.runs
    failed = {name(row): crosses(row.failed.eq(True).sum(), len(row)) for row in results.best_rows}
    runs = runs[["recipe", "seed", "value"]].assign(label=[f"{of} {failed[of]}".strip() for of in runs.recipe])
    x = scale(runs.value, not results.metric.higher_is_better)
    dotted, across, color = levels(results, key, x), {"x": number("value", **x)}, by_recipe(results)
    y = {"y": word("label", axis={"grid": False, "labelLimit": 400}), "yOffset": word("seed")}
    below = {"type": "text", "align": "right", "dx": -4, "dy": -7, "fontSize": LABEL}
    panel = {
        "title": f"Final {titled(results, key)}",
        "height": 30 * len(failed),
        "layer": [
            layer(dotted, LEVEL, **across, color=color),
            layer(dotted, below, **across, y={"value": "height"}, text=word("recipe"), color=color),
            layer(runs.dropna(subset="value"), DOT, **across, **y, color=color),
            layer(runs.loc[runs.value.isna()], CROSS, x={"value": "width"}, **y, color=color),
        ],
    }
    return _chart(results, "over_seeds", "each run", [panel], list(runs.label))


def effective_rates(results: Results) -> Chart:
    """A panel for each beta2 of RAdam: results against the effective rate, a line a recipe; x where one fails."""
    found, higher, panels = results.cells, results.metric.higher_is_better, []
    ours = found[found.label == "RAdam"]
    betas = sorted(set((ours if len(ours) else found).beta2))
    labels, said = list(found.label.unique()), rates.sentences(results)
    x, y = scale(found.rate, True, most=5), scale(found.value, not higher)
    floor = found.value.min() if higher else found.value.max()
    found = found.assign(fails=found.cost > rates.halfway(found), value=found.value.fillna(floor))
    color = colored(labels, "label")
    legend = {"orient": "bottom", "columns": len(labels)}
    mark = {"x": number("rate", **x, title="effective learning rate"), "y": number("value", **y)}
    for place, beta2 in enumerate(betas):
        of = pd.concat([rates.line(found, label, beta2) for label in labels])
        of = of.loc[:, ["label", "rate", "value", "fails"]]
        panels.append({
            "title": f"{'' if place else f'Final {titled(results, results.selection)}, '}beta2 {beta2:g}",
            "height": 220,
            "layer": [
                layer(of, {"type": "line", "strokeWidth": 1.8}, **mark, color={**color, "legend": legend}),
                layer(of.loc[~of.fails], DOT, **mark, color=color),
                layer(of.loc[of.fails], CROSS, **mark, color=color),
            ],
        })  # fmt: skip
    message = said[0] if said else f"Final {results.selection} over effective rates"
    return Chart(name="effective_rates", message=message, panels=panels, colors=themed(results, "label"), columns=3,
                 title="Final results over the effective learning rate: a line a recipe, a panel a beta2")  # fmt: skip


def gradient_histograms(results: Results) -> Chart:
    """The gradients of each recipe at its best rate over updates: median, middle half and middle nine tenths."""
    shown = {f"{name(row)}, lr {rate(row):g}": quantiles(results, row) for row in results.best_rows}
    every, panels = pd.concat(shown.values()), []
    x = number("step", **scale(every.step, True, most=4), title="update (logarithmic)")
    y = scale([*every.p5, *every.p95], False)
    for label, of in shown.items():
        marks = {"x": x, "color": by_recipe(results)}
        panels.append({
            "title": label,
            "height": 160,
            "layer": [
                *(layer(of, {"type": "area", "opacity": 0.3}, **marks, y=number(low, **y), y2={"field": high})
                  for low, high in (("p5", "p95"), ("p25", "p75"))),
                layer(of, {"type": "line", "strokeWidth": 1.8}, **marks, y=number("median", **y)),
            ],
        })  # fmt: skip
    message = "log10 |gradient| of the first updates, seeds together: median, middle half and middle nine tenths"
    return Chart(name="gradient_histograms", title=message, message=message, panels=panels, columns=3,
                 colors=themed(results))  # fmt: skip


def quantiles(results: Results, row: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of the log10|gradient| of some runs together, at each update that all have reached."""
    of = results.gradients.loc[results.gradients.id.isin(row.id)]
    of = of.loc[of.groupby("step").id.transform("nunique") == len(row)]
    found = []
    for step, bins in of.groupby(["step", "low", "high"], as_index=False)["count"].sum().groupby("step"):
        shares = np.append(0, bins["count"].cumsum()) / max(1, bins["count"].sum())
        edges = np.append(bins.low, bins.high.iat[-1])
        found.append([name(row), step, *np.interp(list(QUANTILES.values()), shares, edges)])
    return pd.DataFrame(found, columns=["recipe", "step", *QUANTILES])
