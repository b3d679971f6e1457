"""Results -> report.html: one file to explore a comparison in, without network."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
import vl_convert

from hf_radam.experiments.report import charts, drawing
from hf_radam.experiments.report.drawing import Spec, colored, number, scale, values, word
from hf_radam.experiments.report.tables import Table
from hf_radam.experiments.results import Results

# Points of a curve of updates.
POINTS = 60


def to_page(results: Results, *, title: str, verdict: Sequence[str] = (), tables: Sequence[Table] = ()) -> str:
    """HTML that loads nothing, with a paragraph a sentence; every text of a record stands in it as text."""
    curves, rates = live(results), {f"{rate:g}": f"{rate:g}" for rate in results.learning_rates}
    first = next((row for row in results.best_rows if row.family.iat[0] == "radam"), results.best_rows[0])
    colors = charts.themed(results)
    themes = {of.name: drawing.config(of, list(colors[of.name].values())) for of in (drawing.LIGHT, drawing.DARK)}
    parts = {
        "title": html.escape(title),
        "verdict": "\n".join(map(_paragraph, verdict)),
        "curves": _options({str(i): spec["title"] for i, spec in enumerate(curves)}, "0"),
        "rates": _options(rates, f"{first.learning_rate.iat[0]:g}"),
        "tables": "\n".join(map(_table, tables)),
        "engine": _engine(),
        "data": embedded({"curves": curves, "themes": themes}),
    }
    template = resources.files("hf_radam.experiments.report").joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def embedded(value: Any) -> str:
    """JSON that no HTML parser ends early and that is JavaScript as well.

    Example:
        >>> embedded("</script>")
        '"\\\\u003c/script>"'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # escapes U+2028 and all that is not ASCII
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


@cache
def _engine() -> str:
    """Vega-Lite and what it needs, as one script."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed").replace("</script", "<\\/script")


def live(results: Results) -> list[Spec]:
    """What the page shows: for each number a view over the updates of all runs at a rate."""
    views, (losses, shares) = [], windows(results)
    for key in charts.evaluated(results):
        points = charts.points_of(results, key)
        views.append(_live(results, charts.titled(results, key), points, charts.fitted(points, key)))
    views.append(_live(results, "training loss, as trained", losses, charts.fitted(losses, "loss"), "log"))
    axis = scale(shares.value, False)
    return [*views, _live(results, "learning rate × rectification, by its peak", shares, axis)]


def _live(results: Results, title: str, points: pd.DataFrame, axis: Spec, steps: str = "linear") -> Spec:
    legend = {"orient": "top", "title": None, "columns": {"expr": "max(1, floor(width / 200))"}}
    runs = results.runs.assign(lr=[f"{lr:g}" for lr in results.runs.learning_rate], run=range(len(results.runs)))
    points = points[["id", "step", "value"]].merge(runs[["id", "run"]], on="id").drop(columns="id")
    told = [word("recipe", title="recipe"), word("lr", title="lr"), number("seed", title="seed"),
            number("step", title="update"), number("value", title="value", format=".5~g")]  # fmt: skip
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": title,
        "width": "container",
        "height": 400,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [{"name": "lr", "value": runs.lr.iat[0]}],
        "data": values(points),
        "transform": [
            {"lookup": "run", "from": {"data": values(runs.loc[:, ["run", "recipe", "lr", "seed"]]),
                                       "key": "run", "fields": ["recipe", "lr", "seed"]}},
            {"filter": "datum.lr == lr"},
        ],
        "encoding": {
            "x": number("step", title="update", scale={"nice": False, "type": steps},
                        axis={"tickCount": 6, "format": ",d"}),
            "y": number("value", **axis),
            "color": {**colored(list(results.runs.recipe.unique())), "legend": legend},
            "detail": word("run"),
        },
        "layer": [
            {
                "params": [{"name": "shown", "select": {"type": "point", "fields": ["recipe"]}, "bind": "legend"}],
                "mark": {"type": "line", "clip": True},
                "encoding": {
                    "strokeDash": {**charts.dashed(results), "legend": legend},
                    "opacity": {"condition": {"param": "shown", "value": 1}, "value": 0.08},
                    "strokeWidth": {"condition": {"param": "near", "value": 3, "empty": False}, "value": 1.6},
                },
            },
            {
                "params": [{"name": "near", "select": {"type": "point", "on": "pointerover", "nearest": True,
                                                       "fields": ["run"], "clear": "pointerout"}}],
                "mark": {"type": "point", "opacity": 0, "size": 80, "clip": True},
                "encoding": {"tooltip": told},
            },
        ],
    }  # fmt: skip


def windows(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean losses over windows of updates that grow in proportion, the first alone; and rates, thinned."""
    updates = results.updates.merge(results.runs[["id", "peak"]], on="id")
    runs = updates.groupby("id")
    last, every = runs.step.transform("max"), (runs.step.transform("size") // POINTS).clip(lower=1)
    window = (POINTS * np.log(updates.step.clip(lower=1)) / np.log(last + 1)).astype(int).rename("window")
    means = updates.groupby(["id", window], sort=False).agg({"step": "mean", "loss": lambda of: of.mean(skipna=False)})
    thinned = updates[(runs.cumcount() % every == 0) | (updates.step == last)]
    rates = thinned.assign(value=thinned.effective_rate / thinned.peak)
    return means.reset_index().rename(columns={"loss": "value"}), rates[["id", "step", "value"]]


def _paragraph(sentence: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", f"<p>{html.escape(sentence.replace('`', ''))}</p>")


def _options(names: dict[str, str], chosen: str) -> str:
    return "".join(
        f'<option value="{value}"{" selected" * (value == chosen)}>{html.escape(name)}</option>'
        for value, name in names.items()
    )


def _table(table: Table) -> str:
    cells = pd.DataFrame(table.rows, columns=[*map(html.escape, table.columns)]).map(html.escape)
    for row, column in table.best:
        cells.iat[row, column] = f"<b>{cells.iat[row, column]}</b>"
    with pd.option_context("display.max_colwidth", None):
        text = cells.to_html(index=False, escape=False, border=0)
    return f'<h2>{html.escape(table.title)}</h2>\n<div class="scroll" tabindex="0">{text}</div>'
