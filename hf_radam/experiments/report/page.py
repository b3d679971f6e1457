"""Records -> report.html: one file to explore a comparison in, without network."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import messages, series, statistics
from hf_radam.experiments.report.palette import DARK, LIGHT, colors, families
from hf_radam.experiments.report.series import Curve
from hf_radam.experiments.report.table import Table

# Points of the learning-rate curve, which has one for each update.
POINTS = 100
DASHES = ("none", "8 3", "2.5 2", "10 3 2.5 3")


def to_html(records: Sequence[Record], *, title: str, verdict: Sequence[str] = (), tables: Sequence[Table] = ()) -> str:
    """The page.

    Args:
        records: of one comparison, in the order in which the recipes shall appear.
        title: of the page.
        verdict: sentences on top, each a paragraph of plain text.
        tables: of final numbers.

    Returns:
        HTML that loads nothing; every text of a record stands in it as text.
    """
    parts = {
        "title": html.escape(title),
        "verdict": "\n".join(f"<p>{html.escape(sentence)}</p>" for sentence in verdict),
        "tables": "\n".join(map(_table, tables)),
        "data": embedded(_data(records)),
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


def _data(records: Sequence[Record]) -> dict[str, Any]:
    """What the script draws. Equal steps and equal curves are there once."""
    light, dark, of_recipe = colors(records, LIGHT), colors(records, DARK), families(records)
    keys = list(of_recipe.values())
    recipes = [
        {"name": name, "light": light[name], "dark": dark[name], "dash": DASHES[keys[:i].count(keys[i]) % len(DASHES)]}
        for i, name in enumerate(of_recipe)
    ]
    names = messages.evaluated(records)
    steps: dict[str, int] = {}
    pool: dict[str, int] = {}

    def pooled(curve: Curve) -> int:
        place = steps.setdefault(json.dumps([_short(step) for step in curve.steps]), len(steps))
        return pool.setdefault(json.dumps([place, [_short(value) for value in curve.values]]), len(pool))

    position = {name: i for i, name in enumerate(of_recipe)}
    runs = [
        {
            "recipe": position[record.recipe],
            "rate": record.learning_rate,
            "seed": record.seed,
            "curves": {
                **{name: pooled(series.evaluation(record, name)) for name in names},
                "training loss": pooled(series.training_loss(record)),
                "relative rate": pooled(_thinned(series.relative_rate(record))),
            },
        }
        for record in records
    ]
    curves = [
        {
            "key": name, "label": METRICS[name].label, "falls": not METRICS[name].higher_is_better,
            "unit": records[0].loss_unit if name == "loss" else "",
        }
        for name in names
    ]  # fmt: skip
    curves.append({"key": "training loss", "label": "training loss", "falls": True, "logX": True, "unit": "as trained"})
    curves.append({"key": "relative rate", "label": "learning rate × rectification", "unit": "by its peak"})
    best = statistics.at_best_rate(records)
    radam = [record for record in best if of_recipe[record.recipe] == "radam"]
    return {
        "curves": curves,
        "rates": sorted({record.learning_rate for record in records}),
        "rate": (radam or best)[0].learning_rate,
        "recipes": recipes,
        "steps": [json.loads(text) for text in steps],
        "series": [json.loads(text) for text in pool],
        "runs": runs,
    }


def _thinned(curve: Curve) -> Curve:
    every = math.ceil(len(curve.steps) / POINTS)
    places = sorted({*range(0, len(curve.steps), every), len(curve.steps) - 1})
    return Curve(steps=[curve.steps[i] for i in places], values=[curve.values[i] for i in places])


def _short(value: float) -> float | int | None:
    """Six digits; None for what JSON cannot say."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() else short


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str, *best: int) -> str:
        shown = [f"<b>{html.escape(cell)}</b>" if i in best else html.escape(cell) for i, cell in enumerate(cells)]
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in shown) + "</tr>"

    best = [[column for row, column in table.best if row == i] for i in range(len(table.rows))]
    body = "\n".join(row(cells, "td", *best[i]) for i, cells in enumerate(table.rows))
    head = f"<thead>{row(table.columns, 'th')}</thead>"
    title = f"<h2>{html.escape(table.title)}</h2>"
    return f'{title}\n<div class="scroll" tabindex="0"><table>{head}<tbody>\n{body}\n</tbody></table></div>'
