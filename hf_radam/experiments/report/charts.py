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
    levels,
    named_ends,
    number,
    scale,
    word,
)
from hf_radam.experiments.report.statistics import capital, crosses, middle, name, rate
from hf_radam.experiments.results import Results

DASHES = ([1, 0], [8, 3], [2.5, 2], [10, 3, 2.5, 3])
CROSS = {"type": "point", "shape": "M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7", "size": 60, "strokeWidth": 1.8, "opacity": 1}
# Share of all gradients that may lie outside of the drawn range, on either side.
CROPPED = 5e-3


def charts(results: Results) -> list[Chart]:
    """The charts for which there are records; the one that says most comes first."""
    single = not results.is_grid  # hundreds of curves are for report.html
    drawn = {
        over_learning_rates: single and results.several_rates,
        effective_rates: results.several_rates,
        evaluation: single,
        over_seeds: single and len(results.runs) > len(results.rows),
        gradient_histograms: single and all(record.gradients for record in results.records),
    }
    return [draw(results) for draw, holds in drawn.items() if holds]


def evaluated(results: Results) -> list[str]:
    """What all evaluations hold: the number by which recipes are judged, then another one, if there is one."""
    held = set(results.evaluations.columns[results.evaluations.notna().any()])
    names = dict.fromkeys([results.selection, "loss", results.task_metric, *METRICS])
    return [key for key in names if key in held][:2]


def ends(results: Results) -> str:
    """Where the best recipe, RAdam and the worst recipe end, each at its best learning rate."""
    order = sorted(results.best_rows, key=lambda row: row.cost.median())
    radam = next((row for row in order if row.family.iat[0] == "radam"), order[0])
    said = []
    for recipe, row in {name(row): row for row in (order[0], radam, order[-1])}.items():
        finite, count = row.value.dropna(), len(row)
        told = dict.fromkeys(f"{end:.{results.metric.digits}f}" for end in (finite.min(), finite.max()) if len(finite))
        broken = [f"{count - len(finite)} of {count} not finite"] * (len(finite) < count)
        of_rate = f" (lr {rate(row):g})" if results.several_rates else ""
        said.append(f"{recipe}: {' and '.join(filter(None, [' to '.join(told), *broken]))}{of_rate}")
    place = "each recipe's best rate" if results.several_rates else _rates(results.runs)
    return f"Final {results.metric.label} at {place}. {'; '.join(said)}"


def _rates(runs: pd.DataFrame) -> str:
    return " and ".join(f"lr {peak:g}" for peak in sorted(set(runs.peak)))


def _chart(results: Results, kind: str, what: str, panels: list[Spec], names: list[str], columns: int = 2) -> Chart:
    message = ends(results)
    return Chart(name=kind, title=f"{message}; {what}", message=message, panels=panels, names=names, columns=columns,
                 colors=themed(results))  # fmt: skip


def themed(results: Results, by: str = "recipe") -> dict[str, dict[str, str]]:
    """The colour of each recipe, or each label, on each page."""
    return {theme.name: colors(results.runs, theme, by) for theme in (LIGHT, DARK)}


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


def evaluation(results: Results) -> Chart:
    """What recipes are judged by against updates, a panel for each learning rate; at one rate the loss and a metric."""
    recipes, panels = list(results.runs.recipe.unique()), []
    settings = [group for _, group in results.runs.groupby("learning_rate")]
    height = max(200, PITCH * max(group.recipe.nunique() for group in settings))
    for group in settings:
        for key in evaluated(results)[: 1 if len(settings) > 1 else None]:
            points, higher = points_of(results, key), metric_named(key).higher_is_better
            y = fitted(points, key)
            points = points.loc[points.id.isin(group.id)]
            x = number("step", title="update", scale={"nice": False, "domainMax": float(points.step.max())},
                       axis={"tickCount": 5})  # fmt: skip
            last = points.groupby("id").tail(1).groupby("recipe", sort=False)
            last = last.value.agg(middle, higher_is_better=higher).reset_index()
            floors = {"constant prediction": results.facts.get("unigram_entropy"),
                      "target": results.comparison["target_loss"]}  # fmt: skip
            panels.append({
                "title": f"{capital(titled(results, key))}, {_rates(group)}",
                "height": height,
                "layer": [
                    *lines(points, x, number("value", **y), colored(recipes), dashed(results)),
                    *levels(floors if key == "loss" else {}, y),
                    *named_ends(last.assign(name=last.recipe), y, height, colored(recipes)),
                ],
            })  # fmt: skip
    return _chart(results, "evaluation", "over updates", panels, recipes)


def lines(points: pd.DataFrame, x: Spec, y: Spec, color: Spec, dashes: Spec) -> list[Spec]:
    """A thin line a run. A line that breaks off ends with an x."""
    of = points.loc[:, ["id", "recipe", "step", "value"]].sort_values(["id", "recipe", "step"], kind="stable")
    last = of[of.value.notna()].groupby("id").tail(1)
    stops = last[last.step < of.groupby("recipe").step.transform("max")[last.index]]
    line = {"type": "line", "strokeWidth": 1.6, "clip": True}
    return [
        layer(of, line, x=x, y=y, color=color, strokeDash=dashes, detail=word("id")),
        *([layer(stops, CROSS, x=x, y=y, color=color)] if len(stops) else []),
    ]


def over_learning_rates(results: Results) -> Chart:
    """Final loss and metric against the learning rate: a dot a run, lines through medians, x for no number."""
    recipes, panels = list(results.runs.recipe.unique()), []
    height, color = max(200, PITCH * len(recipes)), colored(recipes)
    runs = results.runs.assign(place=[f"{peak:g}" for peak in results.runs.learning_rate])
    x = word("place", title="peak learning rate", sort=[f"{peak:g}" for peak in results.learning_rates],
             axis={"labelAngle": 0, "grid": True}, scale={"paddingInner": 0.7, "paddingOuter": 0.2})  # fmt: skip
    for key in dict.fromkeys(["loss", results.task_metric]):
        of = runs[["recipe", "place"]].assign(value=runs[f"final_{key}"].astype(float))
        higher = metric_named(key).higher_is_better
        y = scale(of.value, not higher)
        medians = of.groupby(["recipe", "place"], sort=False).value.agg(middle, higher_is_better=higher).reset_index()
        last = medians.groupby("recipe", sort=False).tail(1)
        marks = {"x": x, "xOffset": {"field": "recipe", "type": "nominal", "sort": recipes},
                 "y": number("value", **y), "color": color}  # fmt: skip
        floors = {"constant prediction": results.facts.get("unigram_entropy")} if key == "loss" else {}
        panels.append({
            "title": f"Final {titled(results, key)}",
            "height": height,
            "layer": [
                layer(medians, {"type": "line", "strokeWidth": 1.6}, **marks, strokeDash=dashed(results)),
                layer(of[of.value.notna()], {"type": "point", "style": "dot", "size": 45}, **marks),
                layer(of[of.value.isna()], CROSS, **{**marks, "y": {"value": 5}}),
                *levels(floors, y),
                *named_ends(last.assign(name=last.recipe), y, height, color),
            ],
        })  # fmt: skip
    return _chart(results, "over_learning_rates", "over learning rates", panels, recipes)


def over_seeds(results: Results) -> Chart:
    """A dot for each run at its recipe's best learning rate, and how many failed."""
    key, rows = results.selection, []
    for row in results.best_rows:
        of_rate = f", lr {rate(row):g}" if results.several_rates else ""
        failed = "" if None in set(row.failed) else crosses(sum(row.failed), len(row))
        aside = np.linspace(-1, 1, len(row)) if len(row) > 1 else 0.0
        rows.append(row[["recipe", "value"]].assign(label=f"{name(row)}{of_rate} {failed}".strip(), aside=aside))
    runs = pd.concat(rows)
    x = scale(runs.value, not results.metric.higher_is_better)
    color, y = colored(list(results.runs.recipe.unique())), word("label", axis={"grid": False, "labelLimit": 400})
    shift = {"field": "aside", "type": "quantitative", "scale": {"domain": [-1.5, 1.5]}}
    floors = {
        "constant prediction": results.facts.get("unigram_entropy") if key == "loss" else None,
        "majority class": results.facts.get("majority_class") if key == results.task_metric else None,
    }
    panel = {
        "title": f"Final {titled(results, key)}",
        "height": 30 * len(rows),
        "layer": [
            *levels(floors, x, "x"),
            layer(runs.dropna(subset="value"), {"type": "point", "style": "dot", "size": 60},
                  x=number("value", **x), y=y, yOffset=shift, color=color),
            layer(runs.loc[runs.value.isna()], CROSS, x={"value": "width"}, y=y, color=color),
        ],
    }  # fmt: skip
    return _chart(results, "over_seeds", "each run", [panel], list(runs.label), columns=1)


def effective_rates(results: Results) -> Chart:
    """A panel for each beta2 of RAdam: results against the effective rate, a line a recipe; x where one fails."""
    found, higher, panels = results.cells, results.metric.higher_is_better, []
    ours = found[found.label == "RAdam"]
    betas = sorted(set((ours if len(ours) else found).beta2))
    hues, said = themed(results, "label"), rates.sentences(results)
    labels = list(hues["light"])
    x, y = scale(found.rate, True, most=5), scale(found.value, not higher)
    floor = found.value.min() if higher else found.value.max()
    found = found.assign(fails=found.cost > rates.halfway(found), value=found.value.fillna(floor))
    color = colored(labels, "label")
    mark = {"x": {**number("rate", **x), "title": "effective learning rate"}, "y": number("value", **y), "color": color}
    legend = {"orient": "bottom", "titleFontSize": 13, "columns": len(labels)}
    for place, beta2 in enumerate(betas):
        of = pd.concat([rates.line(found, label, beta2) for label in labels])
        of = of.loc[:, ["label", "rate", "value", "fails"]]
        panels.append({
            "title": f"{'' if place else f'Final {titled(results, results.selection)}, '}beta2 {beta2:g}",
            "height": 220,
            "layer": [
                layer(of, {"type": "line", "strokeWidth": 1.8}, **{**mark, "color": {**color, "legend": legend}}),
                layer(of.loc[~of.fails], {"type": "point", "style": "dot", "size": 50}, **mark),
                layer(of.loc[of.fails], CROSS, **mark),
            ],
        })  # fmt: skip
    message = said[0] if said else f"Final {results.selection} over effective rates"
    return Chart(name="effective_rates", message=message, panels=panels, colors=hues, columns=min(3, len(betas)),
                 title="Final results over the effective learning rate: a line a recipe, a panel a beta2")  # fmt: skip


def gradient_histograms(results: Results) -> Chart:
    """A heat map for each recipe at its best rate: update, log10|g|, share of the gradients; the line is the median."""
    shares = {f"{name(row)}, lr {rate(row):g}": _shares(results, row) for row in results.best_rows}
    lowest = {setting: float(of["median"].min()) for setting, (of, _) in shares.items()}
    extremes = dict.fromkeys(choose(lowest, key=lambda setting: lowest[setting]) for choose in (min, max))
    told = " and ".join(f"1e{lowest[setting]:.1f} in {setting}" for setting in extremes)
    message = f"Gradients of the first updates, seeds together: the median |g| falls to {told}"
    total = pd.concat([of for _, of in shares.values()]).groupby("low").share.sum().cumsum()
    low, high = (total.index[total.searchsorted(share * total.iat[-1])] for share in (CROPPED, 1 - CROPPED))
    brightest, panels = max(float(of.share.max()) for _, of in shares.values()), []
    for setting, (medians, of) in shares.items():
        of = of.loc[(of.low >= low) & (of.low <= high) & (of.share > 0)]
        x = {**number("from", **scale(of["from"], True, most=4)), "title": "update (logarithmic)"}
        y = number("low", title="log10 |gradient|", scale={"zero": False, "nice": False})
        shade = number("share", scale={"range": "ramp", "domain": [0, brightest]},
                       legend={"format": "~%", "title": "share of gradients in a bin", "orient": "bottom"})  # fmt: skip
        panels.append({
            "title": {"text": setting, "fontSize": LABEL},
            "height": 160,
            "layer": [
                layer(of, {"type": "rect", "clip": True}, x=x, x2={"field": "to"}, y=y, y2={"field": "high"},
                      color=shade, stroke={**shade, "legend": None}),
                layer(medians, {"type": "line", "style": "middle"}, x={**x, "field": "step"},
                      y={**y, "field": "median"}),
            ],
        })  # fmt: skip
    return Chart(name="gradient_histograms", title="Gradients of the first updates", message=message, panels=panels,
                 columns=min(3, len(shares)), palette=256)  # fmt: skip


def _shares(results: Results, row: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of some runs the median at each update that all have reached, and the share of each bin."""
    of = results.gradients.loc[results.gradients.id.isin(row.id)]
    of = of.loc[of.groupby("step").id.transform("nunique") == len(row)]
    of = of.groupby(["step", "low", "high"]).agg(total=("count", "sum")).reset_index()
    of = of.assign(share=of.total / of.groupby("step").total.transform("sum").clip(lower=1))
    steps = of.step.unique()
    padded = np.concatenate([steps[:1] / 2, steps, steps[-1:] * 1.2])
    borders = np.sqrt(padded[1:] * padded[:-1])  # half way, on a logarithmic axis
    place = np.searchsorted(steps, of.step)
    of = of.assign(**{"from": borders[place], "to": borders[place + 1]})
    medians = [np.interp(0.5, np.append(0, bins.share.cumsum()), np.append(bins.low, bins.high.iat[-1]))
               for _, bins in of.groupby("step")]  # fmt: skip
    return pd.DataFrame({"step": steps, "median": medians}), of
