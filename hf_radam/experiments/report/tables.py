"""Results -> tables, values that writers turn into Markdown, HTML or text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.report.grid import Grid, grid
from hf_radam.experiments.report.statistics import (
    BASELINE,
    Row,
    cost,
    estimate,
    middle,
    name,
    pairs,
    rate,
    rates_differ,
    sign_flip_p,
)
from hf_radam.experiments.results import Results


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in rows and columns; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    """(row, column) of what is written in bold."""


def tables(results: Results) -> tuple[list[Table], list[str]]:
    """The tables, best first, and sentences for columns that would say the same in every row."""
    if (over := grid(results)) is not None:
        return [_grid(over)], [_diverged(results)]
    best = sorted(results.best_rows, key=cost)  # best against best
    several = rates_differ(results.runs)
    first, sentences = _results(results, best, "Each recipe at its best learning rate" if several else "Results")
    return [first, *([_pivot(results, best)] if several else []), _cost(best)], sentences


def result(results: Results, row: Row) -> str:
    """How a row ended: mean and standard deviation, or where its seeds ended if that is in two places."""
    digits, groups, seeds = results.metric.digits, results.places(row), len(row)
    finite = sum(map(len, groups))
    if not groups:
        return "not finite"
    if len(groups) == 1 and finite == seeds:
        return estimate(row.value).text(digits)
    parts = [f"{sum(group) / len(group):.{digits}f} ({len(group)} of {seeds})" for group in groups]
    broken = seeds - finite
    return ", ".join(parts + ([f"not finite ({broken} of {seeds})"] if broken else []))


def _results(results: Results, rows: Sequence[Row], title: str) -> tuple[Table, list[str]]:
    judged, digits, target = results.metric.label, results.metric.digits, results.comparison["target_loss"]
    baseline = next((row for row in rows if name(row) == BASELINE), None)
    several = len(results.learning_rates) > 1
    others = [key for key in dict.fromkeys([results.task_metric, "loss"]) if key != results.selection]
    columns = {
        "recipe": [name(row) for row in rows],
        "lr": [f"{rate(row):g}" if several else "" for row in rows],
        judged: [result(results, row) for row in rows],
        "difference": [_difference(results, row, baseline) for row in rows],
        "p": [_p(row, baseline) for row in rows],
        "range": [_range(row.value.dropna(), digits) if row.value.count() > 1 else "" for row in rows],
        **{METRICS[key].label: [_plain(results, row, key) for row in rows] for key in others},
        f"updates to loss {target or 0:g}": [_steps(row) if target is not None else "" for row in rows],
        "failed": ["" if None in set(row.failed) else f"{sum(row.failed)} of {len(row)}" for row in rows],
        "diverged": [f"{sum(row.diverged)} of {len(row)}" if row.diverged.any() else "none" for row in rows],
    }
    kept, sentences = {}, []
    for head, column in columns.items():
        if head not in ("recipe", judged) and len(rows) > 1 and len(set(column)) == 1:
            if column[0]:
                sentences.append(_diverged(results) if head == "diverged" else f"{head}: {column[0]} in every row.")
        elif any(column):
            kept[head] = column
    bold = {(0, 0), (0, list(kept).index(judged))} if math.isfinite(cost(rows[0])) else ()
    cells = tuple(zip(*kept.values(), strict=True))
    return Table(title=title, columns=tuple(kept), rows=cells, best=frozenset(bold)), sentences


def _diverged(results: Results) -> str:
    diverged = int(results.runs.diverged.sum())
    return f"{diverged} of {len(results.runs)} runs diverged." if diverged else "No run diverged."


def _grid(over: Grid) -> Table:
    """A row for each recipe and beta2, a column for each rate: the median, and how many runs fail."""
    metric, rows, works = over.metric, [], set()
    for place in dict.fromkeys((label, beta2) for label, beta2, _ in over.cells):
        row = [place[0], f"{place[1]:g}"]
        for of_rate in over.best:
            text, cell = "", over.cells.get((*place, of_rate))
            if cell is not None:
                failures, median = over.failures(cell), middle(cell)
                text = f"{median:.{metric.digits}f}" if math.isfinite(median) else "not finite"
                text += "" if not failures else " ✗" if len(cell) == 1 else f" ✗ {failures}/{len(cell)}"
                works |= set() if failures else {(len(rows), len(row))}
            row.append(text)
        rows.append(tuple(row))
    return Table(
        title=f"Median final {metric.label}; ✗ runs over {metric.apart:g} from the best median at that learning rate",
        columns=("recipe", "beta2", *(f"lr {of_rate:g}" for of_rate in over.best)), rows=tuple(rows),
        best=frozenset(works),
    )  # fmt: skip


def _pivot(results: Results, best: Sequence[Row]) -> Table:
    """Recipes against learning rates: the number by which they are judged, the best of each rate in bold."""
    rates, rows, recipes = results.learning_rates, results.rows, [name(row) for row in best]
    cells = [[result(results, rows[x, r]) if (x, r) in rows else "" for r in rates] for x in recipes]
    bold = set()
    for column, of_rate in enumerate(rates, start=1):
        costs = {i: cost(rows[x, of_rate]) for i, x in enumerate(recipes) if (x, of_rate) in rows}
        lowest = min(costs, key=costs.__getitem__)
        bold |= {(lowest, column)} if math.isfinite(costs[lowest]) else set()
    return Table(
        title=f"All learning rates: {results.metric.label}", columns=("recipe", *(f"lr {r:g}" for r in rates)),
        rows=tuple((recipe, *row) for recipe, row in zip(recipes, cells, strict=True)), best=frozenset(bold),
    )  # fmt: skip


def _cost(rows: Sequence[Row]) -> Table:
    """What the runs took: of the machine and of how busy it was, as much as of the recipe."""
    state = ["" if row.state_bytes.isna().all() else f"{row.state_bytes.max():.2f}" for row in rows]
    columns = {
        "recipe": [name(row) for row in rows],
        "s/step": [f"{row.seconds_per_step.median():.3f}" for row in rows],
        "peak memory": [f"{row.peak_memory.max() / 1e9:.2f} GB" for row in rows],
        **({"optimizer state, bytes a parameter": state} if len(set(state)) > 1 else {}),
    }
    return Table(title="Speed and memory", columns=tuple(columns), rows=tuple(zip(*columns.values(), strict=True)))


def _plain(results: Results, row: Row, key: str) -> str:
    if f"final_{key}" not in row:
        return ""
    values, digits = row[f"final_{key}"], METRICS[key].digits
    if values.isna().any():
        return "not finite"
    return _range(values, digits) if len(results.places(row)) > 1 else f"{values.mean():.{digits}f}"


def _difference(results: Results, row: Row, baseline: Row | None) -> str:
    """The mean difference, or its range where the seeds of either ended in two places."""
    if baseline is None or row is baseline or (both := pairs(row, baseline)).empty:
        return ""
    gaps, digits = both.value_x - both.value_y, results.metric.digits
    if gaps.isna().any():
        text = "not finite"
    elif max(len(results.places(row)), len(results.places(baseline))) > 1:
        text = _range(gaps, digits, "+")
    else:
        text = f"{gaps.mean():+.{digits}f}"
    return text + _share(len(gaps), row)


def _p(row: Row, baseline: Row | None) -> str:
    if baseline is None or row is baseline:
        return ""
    both = pairs(row, baseline)
    p = sign_flip_p(both.value_x - both.value_y)
    return "" if p is None else f"{p:.3f}"


def _range(values: pd.Series, digits: int, sign: str = "") -> str:
    return f"{values.min():{sign}.{digits}f} to {values.max():{sign}.{digits}f}"


def _steps(row: Row) -> str:
    reached = row.steps_to_target.dropna()
    return f"{reached.mean():.0f}{_share(len(reached), row)}" if len(reached) else "never"


def _share(n: int, row: Row) -> str:
    """How many of a row's runs a cell is about, where it is not all of them."""
    return "" if n == len(row) else f" ({n} of {len(row)})"
