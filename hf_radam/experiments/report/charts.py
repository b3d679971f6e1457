"""Results -> charts: curves over updates, final results over rates and seeds, gradients."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pandas as pd

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.report import rates
from hf_radam.experiments.report.drawing import (
    PITCH,
    Chart,
    Spec,
    colored,
    layer,
    level,
    named_ends,
    number,
    scale,
    word,
)
from hf_radam.experiments.report.grid import capital, grid
from hf_radam.experiments.report.histograms import gradient_histograms
from hf_radam.experiments.report.palette import DARK, LIGHT, colors, label_colors
from hf_radam.experiments.report.statistics import middle, name, rate, rates_differ
from hf_radam.experiments.results import Results

DASHES = ([1, 0], [8, 3], [2.5, 2], [10, 3, 2.5, 3])
CROSS = "M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7"
SEEDS_AS_LINES = 5  # with more seeds, a recipe is its median and range
SEEDS_OF_A_DISTRIBUTION = 2


def charts(results: Results) -> list[Chart]:
    """The charts for which there are records; the one that says most comes first."""
    over_rates, single = rates_differ(results.runs), grid(results) is None  # hundreds of curves are for report.html
    several = max(map(len, results.rows.values())) >= SEEDS_OF_A_DISTRIBUTION
    found = [
        over_learning_rates(results) if single and over_rates else None,
        effective_rates(results) if over_rates else None,
        evaluation(results) if single else None,
        over_seeds(results) if single and several else None,
        gradient_histograms(results) if single and all(record.gradients for record in results.records) else None,
    ]
    return [chart for chart in found if chart is not None]


def settings(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs of each panel: of one learning rate, and of one beta2 where those of a family differ."""
    several = bool((runs.groupby("family").beta2.nunique() > 1).any())
    groups = runs.groupby(["learning_rate", "beta2"] if several else ["learning_rate"])
    return {_rates(group) + (f", beta2 {group.beta2.iat[0]:g}" if several else ""): group for _, group in groups}


def _rates(runs: pd.DataFrame) -> str:
    return " and ".join(f"lr {peak:g}" for peak in sorted(set(runs.peak)))


def evaluated(results: Results) -> list[str]:
    """What all evaluations hold: the number by which recipes are judged, then another one, if there is one."""
    held = set(results.evaluations.columns[results.evaluations.notna().any()])
    names = dict.fromkeys([results.selection, "loss", results.task_metric, *METRICS])
    return [key for key in names if key in held][:2]


def ends(results: Results) -> str:
    """Where the best recipe, RAdam and the worst recipe end, each at its best learning rate."""
    order = sorted(results.best_rows, key=lambda row: row.cost.median())
    radam = [row for row in order if row.family.iat[0] == "radam"]
    several = rates_differ(results.runs)
    said = [
        f"{name(row)}: {_range(results, row)}" + (f" (lr {rate(row):g})" if several else "")
        for row in order
        if any(row is chosen for chosen in (order[0], order[-1], *radam[:1]))
    ]
    place = "at each recipe's best rate" if several else f"at {_rates(results.runs)}"
    return f"Final {results.metric.label} {place}. " + "; ".join(said)


def _range(results: Results, row: pd.DataFrame) -> str:
    finite, count = row.value.dropna(), len(row)
    broken = f"{count - len(finite)} of {count} not finite"
    if finite.empty:
        return broken
    told = dict.fromkeys(f"{end:.{results.metric.digits}f}" for end in (finite.min(), finite.max()))
    return " to ".join(told) + (f" and {broken}" if len(finite) < count else "")


def themed(results: Results) -> dict[str, dict[str, str]]:
    """The colour of each recipe on each page."""
    return {theme.name: colors(results.runs, theme) for theme in (LIGHT, DARK)}


def dashed(results: Results) -> Spec:
    """The encoding of a line's dashes: recipes of one family differ in them."""
    recipes = results.runs.drop_duplicates("recipe")
    place = recipes.groupby("family").cumcount() % len(DASHES)
    return word("recipe", scale={"domain": list(recipes.recipe), "range": [DASHES[i] for i in place]}, legend=None)


def titled(results: Results, key: str) -> str:
    """A number with its unit."""
    return METRICS[key].label + (f", {results.loss_unit}" if key == "loss" else "")


def levels(results: Results, key: str, y: Spec, target: float | None = None) -> list[Spec]:
    """Lines for what a loss may be compared with, where they lie within the panel."""
    low, high = y["scale"]["domain"]
    places = {"constant prediction": results.facts.get("unigram_entropy"), "target": target}
    within = {k: place for k, place in places.items() if key == "loss" and place is not None and low < place < high}
    return list(chain(*(level(k, place, early=k == "target") for k, place in within.items())))


def fitted(points: pd.DataFrame, key: str) -> Spec:
    """An axis for all panels, to at most twice the first loss, so that no run that explodes flattens the others."""
    start = points.groupby("id").value.first().max()
    shown = points.value[~(points.value > 2 * start)] if key == "loss" else points.value
    return scale(shown.astype(float), not METRICS[key].higher_is_better)


def points_of(results: Results, key: str) -> pd.DataFrame:
    """One of the numbers that evaluations hold, with what tells runs apart."""
    points = results.evaluations.loc[:, ["id", "step", key]].rename(columns={key: "value"})
    told = results.runs.loc[:, ["id", "recipe", "label", "learning_rate"]].rename(columns={"learning_rate": "lr"})
    return points.merge(told, on="id")


def evaluation(results: Results) -> Chart:
    """What recipes are judged by against updates, a panel for each learning rate; at one rate the loss and a metric."""
    groups, names = settings(results.runs), evaluated(results)
    names = names[:1] if len(groups) > 1 else names
    alone = all(not group.drop_duplicates("recipe").label.duplicated().any() for group in groups.values())
    called = "label" if len(groups) > 1 and alone else "recipe"
    height = max(200, PITCH * max(group.recipe.nunique() for group in groups.values()))
    color, panels = colored(list(dict.fromkeys(results.runs.recipe))), []
    for setting, group in groups.items():
        for key in names:
            points = points_of(results, key)
            y = fitted(points, key)
            points = points.loc[points.id.isin(group.id)]
            x = number("step", title="update", scale={"nice": False, "domainMax": float(points.step.max())},
                       axis={"tickCount": 5})  # fmt: skip
            last = pd.DataFrame([{"recipe": recipe, "name": of.loc[:, called].iat[0], "value": _last(of)}
                                 for recipe, of in points.groupby("recipe", sort=False)])  # fmt: skip
            panels.append({
                "title": f"{capital(titled(results, key))}, {setting}",
                "height": height,
                "layer": [
                    *lines(points, x, number("value", **y), color, dashed(results)),
                    *levels(results, key, y, results.comparison["target_loss"]),
                    *named_ends(last, y, height, color),
                ],
            })  # fmt: skip
    message = ends(results)
    return Chart(name="evaluation", title=f"{message}; over updates", message=message, panels=panels,
                 colors=themed(results), names=list(results.runs[called]))  # fmt: skip


def _last(points: pd.DataFrame) -> float:
    """The median of the last values; nan where that run has none."""
    ordered = sorted(value if math.isfinite(value) else math.inf for value in points.groupby("id").value.nth(-1))
    value = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return value if math.isfinite(value) else math.nan


def lines(points: pd.DataFrame, x: Spec, y: Spec, color: Spec, dashes: Spec) -> list[Spec]:
    """A thin line a run, up to five runs; of more the median and the range. A line that breaks off ends with an x."""
    runs = points.groupby("recipe").id.transform("nunique")
    many, few = points.loc[runs > SEEDS_AS_LINES], points.loc[runs <= SEEDS_AS_LINES]
    band = many.groupby(["recipe", "step"], sort=False, as_index=False).value.agg(["min", "max", "median"])
    few = pd.concat(
        [few.loc[:, ["id", "recipe", "step", "value"]], band.rename(columns={"median": "value"}).assign(id="")]
    )
    few = few.sort_values(["id", "recipe", "step"], kind="stable")
    finite = few.loc[few.value.notna()]
    stops, longest = finite.groupby(["id", "recipe"]).tail(1), few.groupby("recipe").step.transform("max")
    stops = stops[stops.step < longest.loc[stops.index].to_numpy()] if len(stops) else stops
    shade = {"type": "area", "opacity": 0.18, "clip": True}
    return [
        *([layer(band, shade, x=x, y={**y, "field": "min"}, y2={"field": "max"}, color=color)] if len(band) else []),
        layer(few, {"type": "line", "strokeWidth": 1.6, "clip": True}, x=x, y=y, color=color, strokeDash=dashes,
              detail=word("id")),
        *([crosses(stops, x=x, y=y, color=color)] if len(stops) else []),
    ]  # fmt: skip


def crosses(data: pd.DataFrame, **encoding: Spec) -> Spec:
    """Where runs fail or break off."""
    return layer(data, {"type": "point", "shape": CROSS, "size": 60, "strokeWidth": 1.8, "opacity": 1}, **encoding)


def over_learning_rates(results: Results) -> Chart:
    """Final loss and metric against the learning rate: a dot a run, lines through medians, x for no number."""
    color, recipes = colored(list(dict.fromkeys(results.runs.recipe))), list(dict.fromkeys(results.runs.recipe))
    height, panels = max(200, PITCH * len(recipes)), []
    runs = results.runs.assign(place=[f"{peak:g}" for peak in results.runs.learning_rate])
    x = word("place", title="peak learning rate", sort=[f"{peak:g}" for peak in results.learning_rates],
             axis={"labelAngle": 0, "grid": True}, scale={"paddingInner": 0.7, "paddingOuter": 0.2})  # fmt: skip
    aside = {"field": "recipe", "type": "nominal", "sort": recipes}
    for key in dict.fromkeys(["loss", results.task_metric]):
        of = runs.assign(value=runs[f"final_{key}"].astype(float))
        y = scale(of.value, not METRICS[key].higher_is_better)
        of = of.assign(cost=[METRICS[key].cost(value) for value in of.value])
        medians = pd.DataFrame([{"recipe": name(row), "place": row.place.iat[0], "value": middle(row)}
                                for _, row in of.groupby(["recipe", "place"], sort=False)])  # fmt: skip
        last = medians.groupby("recipe", sort=False, as_index=False).tail(1).assign(name=lambda row: row.recipe)
        marks = {"x": x, "xOffset": aside, "y": number("value", **y), "color": color}
        dot = {"type": "point", "style": "dot", "size": 45}
        panels.append({
            "title": f"Final {titled(results, key)}",
            "height": height,
            "layer": [
                layer(medians, {"type": "line", "strokeWidth": 1.6}, **marks, strokeDash=dashed(results)),
                layer(of.loc[of.value.notna(), ["recipe", "place", "value"]], dot, **marks),
                crosses(of.loc[of.value.isna(), ["recipe", "place"]], **{**marks, "y": {"value": 5}}),
                *levels(results, key, y),
                *named_ends(last, y, height, color),
            ],
        })  # fmt: skip
    message = ends(results)
    return Chart(name="over_learning_rates", title=f"{message}; over learning rates", message=message, panels=panels,
                 colors=themed(results), names=recipes)  # fmt: skip


def over_seeds(results: Results) -> Chart:
    """A dot for each run at its recipe's best learning rate; of more than five the median too; and how many failed."""
    several, key = rates_differ(results.runs), results.selection
    rows = []
    for row in results.best_rows:
        parts = [name(row)] + ([f"lr {rate(row):g}"] if several else [])
        parts += [] if None in set(row.failed) else [f"failed {sum(row.failed)} of {len(row)}"]
        aside = np.linspace(-1, 1, len(row)) if len(row) > 1 else 0.0
        median = middle(row) if len(row) > SEEDS_AS_LINES else math.nan
        rows.append(row.assign(label=", ".join(parts), aside=aside, median=median)[
            ["recipe", "label", "value", "aside", "median"]
        ])  # fmt: skip
    runs = pd.concat(rows)
    x = scale(runs.value, not results.metric.higher_is_better)
    low, high = x["scale"]["domain"]
    color, y = colored(list(dict.fromkeys(results.runs.recipe))), word("label", axis={"grid": False, "labelLimit": 400})
    shift = {"field": "aside", "type": "quantitative", "scale": {"domain": [-1.5, 1.5]}}
    dot = {"type": "point", "style": "dot", "size": 60}
    marks = {
        "constant prediction": results.facts.get("unigram_entropy") if key == "loss" else None,
        "majority class": results.facts.get("majority_class") if key == results.task_metric else None,
    }
    within = {mark: place for mark, place in marks.items() if place is not None and low < place < high}
    medians = runs.drop_duplicates("label").dropna(subset="median")
    broken = runs.loc[runs.value.isna()]
    panel = {
        "title": f"Final {titled(results, key)}",
        "height": 30 * len(rows),
        "layer": [
            *chain(*(level(mark, place, "x") for mark, place in within.items())),
            layer(runs.dropna(subset="value"), dot, x=number("value", **x), y=y, yOffset=shift, color=color),
            layer(medians, {"type": "tick", "thickness": 2}, x=number("median", **x), y=y, color=color),
            crosses(broken, x={"value": "width"}, y=y, color=color),
        ],
    }  # fmt: skip
    message = ends(results)
    return Chart(name="over_seeds", title=f"{message}; each run", message=message, panels=[panel],
                 colors=themed(results), columns=1, names=list(runs.label))  # fmt: skip


def effective_rates(results: Results) -> Chart:
    """A panel for each beta2 of RAdam: results against the effective rate, a line a recipe; x where one fails."""
    found = rates.settings(results)
    betas = sorted({one.beta2 for one in found if one.label == "RAdam"}) or sorted({one.beta2 for one in found})
    hues = {theme.name: label_colors(results.runs, theme) for theme in (LIGHT, DARK)}
    labels, worst = list(hues["light"]), rates.halfway(found)
    floor = max((one for one in found if math.isfinite(one.cost)), key=lambda one: one.cost, default=found[0]).result
    color, key, panels = colored(labels, "label"), results.selection, []
    y = {**scale([one.result for one in found], not results.metric.higher_is_better)}
    for place, beta2 in enumerate(betas):
        rows = [
            {"label": one.label, "rate": one.rate, "value": one.result if math.isfinite(one.cost) else floor,
             "fails": one.cost > worst}
            for label in labels for one in rates.line(found, label, beta2)
        ]  # fmt: skip
        of = pd.DataFrame(rows)
        x = number("rate", **scale([one.rate for one in found], True, most=5))
        x["title"] = "effective learning rate"
        mark = {"x": x, "y": number("value", **y), "color": color}
        dot = {"type": "point", "style": "dot", "size": 50}
        title = {"orient": "bottom", "titleFontSize": 13}
        lines = layer(of, {"type": "line", "strokeWidth": 1.8}, **mark)
        lines["encoding"] = {**mark, "color": {**color, "legend": {**title, "columns": len(labels)}}}
        panels.append({
            "title": f"{'' if place else f'Final {titled(results, key)}, '}beta2 {beta2:g}",
            "height": 220,
            "layer": [lines, layer(of.loc[~of.fails], dot, **mark), crosses(of.loc[of.fails], **mark)],
        })  # fmt: skip
    said = [duel.sentence for duel in rates.duels(results)] or [f"Final {key} over effective rates"]
    return Chart(name="effective_rates", message=said[0], panels=panels, colors=hues, columns=min(3, len(betas)),
                 title="Final results over the effective learning rate: a line a recipe, a panel a beta2")  # fmt: skip
