"""Results -> tables, values that writers turn into Markdown, HTML or text."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from hf_radam.experiments.metrics import metric_named
from hf_radam.experiments.report.statistics import BASELINE, Row, cost, crosses, each, name, rate, sign_flip_p
from hf_radam.experiments.results import Results


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in rows and columns; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    """(row, column) of what is written in bold."""


def tables(results: Results) -> list[Table]:
    """The tables, the one that says most first."""
    if results.is_grid:
        return [_grid(results)]
    rows = sorted(results.best_rows, key=cost)  # best against best
    over_rates = [_over_rates(results, rows)] if results.several_rates else []
    return [_recipes(results, rows), *over_rates, _machine(rows)]


def _table(title: str, rows: Sequence[Mapping[str, str]], best: Collection[tuple[int, str]] = ()) -> Table:
    """A table of rows by column, without the columns that are empty throughout."""
    columns = tuple(head for head in rows[0] if any(row[head] for row in rows))
    return Table(
        title=title,
        columns=columns,
        rows=tuple(tuple(row[head] for head in columns) for row in rows),
        best=frozenset((i, columns.index(head)) for i, head in best),
    )


def _recipes(results: Results, rows: Sequence[Row]) -> Table:
    judged, digits, target = results.metric.label, results.metric.digits, results.comparison["target_loss"]
    baseline = next((row for row in rows if name(row) == BASELINE), None)
    others = [key for key in dict.fromkeys([results.task_metric, "loss"]) if key != results.selection]
    cells = []
    for row in rows:
        cells.append({
            "recipe": name(row),
            "lr": f"{rate(row):g}" if len(results.learning_rates) > 1 else "",
            judged: results.ended(row),
            "difference": "" if baseline is None or row is baseline else _difference(results, row, baseline),
            "p": "" if baseline is None or row is baseline else _p(row, baseline),
            "range": _range(row.value, digits) if row.value.count() > 1 else "",
            **{metric_named(key).label: _other(results, row, key) for key in others},
            f"updates to loss {target or 0:g}": "" if target is None else _steps(row),
            "failed": crosses(row.failed.eq(True).sum(), len(row)),
            "diverged": crosses(row.diverged.sum(), len(row)),
        })  # fmt: skip
    title = "Each recipe at its best learning rate" if results.several_rates else "Results"
    return _table(title, cells, [(0, "recipe"), (0, judged)] if math.isfinite(cost(rows[0])) else [])


def _over_rates(results: Results, best: Sequence[Row]) -> Table:
    """Recipes against learning rates: the number by which they are judged, the best of each rate in bold."""
    cells, bold = [{"recipe": name(row)} for row in best], []
    for of_rate in results.learning_rates:
        rows = [results.rows.get((name(row), of_rate)) for row in best]
        costs = [math.inf if row is None else cost(row) for row in rows]
        for cell, row in zip(cells, rows, strict=True):
            cell[f"lr {of_rate:g}"] = "" if row is None else results.ended(row)
        if math.isfinite(min(costs)):
            bold.append((costs.index(min(costs)), f"lr {of_rate:g}"))
    return _table(f"All learning rates: {results.metric.label}", cells, bold)


def _grid(results: Results) -> Table:
    """A row for each recipe and beta2, a column for each rate: the median, and how many runs fail."""
    metric, cells, bold = results.metric, [], []
    for i, (_, group) in enumerate(results.cells.groupby(["label", "beta2"], sort=False)):
        row = {"recipe": group.label.iat[0], "beta2": f"{group.beta2.iat[0]:g}"}
        row.update({f"lr {of_rate:g}": "" for of_rate in results.learning_rates})
        for cell in each(group):
            median = f"{cell.value:.{metric.digits}f}" if math.isfinite(cell.value) else "not finite"
            row[f"lr {cell.learning_rate:g}"] = f"{median} {crosses(cell.failures, cell.seeds)}".strip()
            bold += [] if cell.failures else [(i, f"lr {cell.learning_rate:g}")]
        cells.append(row)
    title = f"Median final {metric.label}; ✗ runs over {metric.apart:g} from the best median at that learning rate"
    return _table(title, cells, bold)


def _machine(rows: Sequence[Row]) -> Table:
    """What the runs took: of the machine and of how busy it was, as much as of the recipe."""
    cells = [
        {
            "recipe": name(row),
            "s/step": f"{row.seconds_per_step.median():.3f}",
            "peak memory": f"{row.peak_memory.max() / 1e9:.2f} GB",
            "optimizer state, bytes a parameter": f"{row.state_bytes.max():.2f}" if row.state_bytes.count() else "",
        }
        for row in rows
    ]
    return _table("Speed and memory", cells)


def _other(results: Results, row: Row, key: str) -> str:
    """The mean of another metric, or its range where seeds ended in two places."""
    if f"final_{key}" not in row:
        return ""
    values, digits = row[f"final_{key}"], metric_named(key).digits
    if values.isna().any():
        return "not finite"
    return f"{values.mean():.{digits}f}" if results.has_mean(row) else _range(values, digits)


def _difference(results: Results, row: Row, baseline: Row) -> str:
    """The mean difference, or its range where the seeds of either ended in two places."""
    both, digits = row.merge(baseline, on="seed"), results.metric.digits
    if both.empty:
        return ""
    gaps = both.value_x - both.value_y
    if gaps.isna().any():
        text = "not finite"
    elif results.has_mean(row) and results.has_mean(baseline):
        text = f"{gaps.mean():+.{digits}f}"
    else:
        text = _range(gaps, digits, "+")
    return text + _share(len(gaps), row)


def _p(row: Row, baseline: Row) -> str:
    """Of the differences seed by seed, where they are enough for a test."""
    both = row.merge(baseline, on="seed")
    p = sign_flip_p(both.value_x - both.value_y)
    return "" if p is None else f"{p:.3f}"


def _range(values: pd.Series, digits: int, sign: str = "") -> str:
    if values.min() == values.max():
        return f"{values.min():{sign}.{digits}f}"
    return f"{values.min():{sign}.{digits}f} to {values.max():{sign}.{digits}f}"


def _steps(row: Row) -> str:
    reached = row.steps_to_target.dropna()
    return f"{reached.mean():.0f}{_share(len(reached), row)}" if len(reached) else "never"


def _share(n: int, row: Row) -> str:
    """How many of a row's runs a cell is about, where it is not all of them."""
    return "" if n == len(row) else f" ({n} of {len(row)})"
