"""Results -> tables, values that writers turn into Markdown, HTML or text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from hf_radam.experiments.metrics import metric_named
from hf_radam.experiments.report.statistics import BASELINE, Row, cost, crosses, each, name, rate, sign_flip_p, spread
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
    diverged = int(results.runs.diverged.sum())
    told = f"{diverged} of {len(results.runs)} runs diverged." if diverged else "No run diverged."
    if results.is_grid:
        return [_grid(results)], [told]
    rows = sorted(results.best_rows, key=cost)  # best against best
    columns, judged, sentences = _columns(results, rows), results.metric.label, []
    for head, column in [*columns.items()]:
        same = head not in ("recipe", judged) and len(rows) > 1 and len(set(column)) == 1
        if same and column[0]:
            sentences.append(told if head == "diverged" else f"{head}: {column[0]} in every row.")
        if same or not any(column):
            del columns[head]
    title = "Each recipe at its best learning rate" if results.several_rates else "Results"
    bold = [(0, 0), (0, list(columns).index(judged))] if math.isfinite(cost(rows[0])) else []
    found = [_table(title, columns, bold), *([_pivot(results, rows)] if results.several_rates else [])]
    return [*found, _table("Speed and memory", _machine(rows))], sentences


def _table(title: str, columns: Mapping[str, Sequence[str]], best: Sequence[tuple[int, int]] = ()) -> Table:
    rows = tuple(zip(*columns.values(), strict=True))
    return Table(title=title, columns=tuple(columns), rows=rows, best=frozenset(best))


def _columns(results: Results, rows: Sequence[Row]) -> dict[str, list[str]]:
    """By head what stands in each row; empty where there is nothing to say."""
    judged, digits, target = results.metric.label, results.metric.digits, results.comparison["target_loss"]
    baseline = next((row for row in rows if name(row) == BASELINE), None)
    others = [key for key in dict.fromkeys([results.task_metric, "loss"]) if key != results.selection]
    columns: dict[str, list[str]] = {}
    for row in rows:
        difference, p = ("", "") if baseline is None or row is baseline else _difference(results, row, baseline)
        cells = {
            "recipe": name(row),
            "lr": f"{rate(row):g}" if len(results.learning_rates) > 1 else "",
            judged: _result(results, row),
            "difference": difference,
            "p": p,
            "range": _range(row.value.dropna(), digits) if row.value.count() > 1 else "",
            **{metric_named(key).label: _plain(results, row, key) for key in others},
            f"updates to loss {target or 0:g}": "" if target is None else _steps(row),
            "failed": "" if None in set(row.failed) else crosses(sum(row.failed), len(row)) or "none",
            "diverged": crosses(sum(row.diverged), len(row)) or "none",
        }
        for head, cell in cells.items():
            columns.setdefault(head, []).append(cell)
    return columns


def _result(results: Results, row: Row) -> str:
    """How a row ended: mean and standard deviation, or where its seeds ended if that is in two places."""
    digits, groups, seeds = results.metric.digits, results.places(row), len(row)
    broken = int(row.value.isna().sum())
    if not groups:
        return "not finite"
    if len(groups) == 1 and not broken:
        return spread(row.value, digits)
    parts = [f"{sum(group) / len(group):.{digits}f} ({len(group)} of {seeds})" for group in groups]
    return ", ".join(parts + [f"not finite ({broken} of {seeds})"] * (broken > 0))


def _grid(results: Results) -> Table:
    """A row for each recipe and beta2, a column for each rate: the median, and how many runs fail."""
    metric, rates, rows, bold = results.metric, results.learning_rates, [], []
    for i, (_, group) in enumerate(results.cells.groupby(["label", "beta2"], sort=False)):
        row = dict.fromkeys(rates, "")
        for cell in each(group):
            median = f"{cell.value:.{metric.digits}f}" if math.isfinite(cell.value) else "not finite"
            row[cell.learning_rate] = f"{median} {crosses(cell.failures, cell.seeds)}".strip()
            bold += [] if cell.failures else [(i, 2 + rates.index(cell.learning_rate))]
        rows.append((group.label.iat[0], f"{group.beta2.iat[0]:g}", *row.values()))
    return Table(
        title=f"Median final {metric.label}; ✗ runs over {metric.apart:g} from the best median at that learning rate",
        columns=("recipe", "beta2", *(f"lr {of_rate:g}" for of_rate in rates)),
        rows=tuple(rows),
        best=frozenset(bold),
    )


def _pivot(results: Results, best: Sequence[Row]) -> Table:
    """Recipes against learning rates: the number by which they are judged, the best of each rate in bold."""
    recipes, bold = [name(row) for row in best], []
    columns = {"recipe": recipes}
    for column, of_rate in enumerate(results.learning_rates, start=1):
        rows = {i: results.rows[x, of_rate] for i, x in enumerate(recipes) if (x, of_rate) in results.rows}
        columns[f"lr {of_rate:g}"] = [_result(results, rows[i]) if i in rows else "" for i in range(len(recipes))]
        lowest = min(rows, key=lambda i: cost(rows[i]))
        bold += [(lowest, column)] if math.isfinite(cost(rows[lowest])) else []
    return _table(f"All learning rates: {results.metric.label}", columns, bold)


def _machine(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the runs took: of the machine and of how busy it was, as much as of the recipe."""
    state = ["" if row.state_bytes.isna().all() else f"{row.state_bytes.max():.2f}" for row in rows]
    return {
        "recipe": [name(row) for row in rows],
        "s/step": [f"{row.seconds_per_step.median():.3f}" for row in rows],
        "peak memory": [f"{row.peak_memory.max() / 1e9:.2f} GB" for row in rows],
        **({"optimizer state, bytes a parameter": state} if len(set(state)) > 1 else {}),
    }


def _plain(results: Results, row: Row, key: str) -> str:
    if f"final_{key}" not in row:
        return ""
    values, digits = row[f"final_{key}"], metric_named(key).digits
    if values.isna().any():
        return "not finite"
    return _range(values, digits) if len(results.places(row)) > 1 else f"{values.mean():.{digits}f}"


def _difference(results: Results, row: Row, baseline: Row) -> tuple[str, str]:
    """The mean difference, or its range where the seeds of either ended in two places; and the p-value."""
    both, digits = row.merge(baseline, on="seed"), results.metric.digits
    if both.empty:
        return "", ""
    gaps = both.value_x - both.value_y
    if gaps.isna().any():
        text = "not finite"
    elif max(len(results.places(row)), len(results.places(baseline))) > 1:
        text = _range(gaps, digits, "+")
    else:
        text = f"{gaps.mean():+.{digits}f}"
    p = sign_flip_p(gaps)
    return text + _share(len(gaps), row), "" if p is None else f"{p:.3f}"


def _range(values: pd.Series, digits: int, sign: str = "") -> str:
    return f"{values.min():{sign}.{digits}f} to {values.max():{sign}.{digits}f}"


def _steps(row: Row) -> str:
    reached = row.steps_to_target.dropna()
    return f"{reached.mean():.0f}{_share(len(reached), row)}" if len(reached) else "never"


def _share(n: int, row: Row) -> str:
    """How many of a row's runs a cell is about, where it is not all of them."""
    return "" if n == len(row) else f" ({n} of {len(row)})"
