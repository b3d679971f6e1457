"""Results -> tables, values that writers turn into Markdown, HTML or text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.report.grid import Grid, grid
from hf_radam.experiments.report.series import median
from hf_radam.experiments.report.statistics import BASELINE, Row, at_best_rate, summarise
from hf_radam.experiments.results import Results


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in rows and columns; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    """(row, column) of what is written in bold."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """A figure on the disk."""

    title: str
    path: str
    """Relative to the report."""
    width: int
    """In CSS pixels; text has one size in all figures."""
    dark: str | None = None
    """Path of its variant for dark pages."""


def tables(results: Results) -> tuple[list[Table], list[str]]:
    """The tables, best first, and sentences for columns that would say the same in every row."""
    if (over := grid(results.records)) is not None:
        return [_grid(over)], [_diverged(results)]
    target = results.comparison["target_loss"]
    best = sorted(summarise(at_best_rate(results.records), target), key=results.cost)  # best against best
    several = len(results.rows) > len(best)
    first, sentences = _results(results, best, "Each recipe at its best learning rate" if several else "Results")
    found = [first]
    if several:
        found.append(_pivot(results))
    return [*found, _cost(results, best)], sentences


def result(results: Results, row: Row) -> str:
    """How a row ended: mean and standard deviation, or where its seeds ended if that is in two places."""
    digits = METRICS[results.selection].digits
    groups, seeds = results.places(row), len(row.seeds)
    finite = sum(map(len, groups))
    if not groups:
        return "not finite"
    if len(groups) == 1 and finite == seeds:
        return results.judged(row).text(digits)
    parts = [f"{sum(group) / len(group):.{digits}f} ({len(group)} of {seeds})" for group in groups]
    broken = seeds - finite
    return ", ".join(parts + ([f"not finite ({broken} of {seeds})"] if broken else []))


def _results(results: Results, rows: Sequence[Row], title: str) -> tuple[Table, list[str]]:
    judged, target = results.selection, results.comparison["target_loss"]
    digits, several = METRICS[judged].digits, len(results.learning_rates) > 1
    others = [name for name in dict.fromkeys([results.metric, "loss"]) if name != judged]
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("recipe", lambda row: row.recipe),
        *([("lr", lambda row: f"{row.learning_rate:g}")] if several else []),
        (METRICS[judged].label, lambda row: result(results, row)),
        (f"vs {BASELINE}", lambda row: _difference(results, row, rows, digits)),
        ("p", lambda row: "" if row.p_value is None else f"{row.p_value:.3f}"),
        ("least to most", lambda row: _range(results, row, digits)),
        *[(METRICS[name].label, lambda row, name=name: _plain(results, row, name)) for name in others],
        *([(f"steps to {target:g}", _steps)] if target is not None else []),
        ("failed", lambda row: "" if row.failed is None else f"{row.failed} of {len(row.seeds)}"),
        ("diverged", lambda row: f"{row.diverged} of {len(row.seeds)}" if row.diverged else "none"),
    ]
    kept, sentences = [], []
    for number, (head, cell) in enumerate(columns):
        column = [cell(row) for row in rows]
        if number and len(rows) > 1 and len(set(column)) == 1 and head != METRICS[judged].label:
            if column[0]:
                sentences.append(_diverged(results) if head == "diverged" else f"{head}: {column[0]} in every row.")
        elif any(column):
            kept.append((head, column))
    heads = [head for head, _ in kept]
    place = heads.index(METRICS[judged].label)
    bold = frozenset() if results.cost(rows[0]) == float("inf") else frozenset({(0, 0), (0, place)})
    cells = tuple(zip(*(column for _, column in kept), strict=True))
    return Table(title=title, columns=tuple(heads), rows=cells, best=bold), sentences


def _diverged(results: Results) -> str:
    diverged = sum(record.diverged for record in results.records)
    return f"{diverged} of {len(results.records)} runs diverged." if diverged else "No run diverged."


def _grid(over: Grid) -> Table:
    """A row for each recipe and beta2, a column for each rate: the median, and how many runs fail."""
    metric, rows, works = METRICS[over.metric], [], set()
    for place in dict.fromkeys((label, beta2) for label, beta2, _ in over.cells):
        row = [place[0], f"{place[1]:g}"]
        for rate in over.best:
            cell = over.cells.get((*place, rate), ())
            failures = over.failures(cell)
            if cell and not failures:
                works.add((len(rows), len(row)))
            middle = median([run.final[over.metric] for run in cell]) if cell else 0
            text = f"{middle:.{metric.digits}f}" if math.isfinite(middle) else "not finite"
            row.append("" if not cell else text + _failed(failures, len(cell)))
        rows.append(tuple(row))
    return Table(
        title=f"Median final {metric.label}; ✗ runs over {metric.apart:g} from the best median at that learning rate",
        columns=("recipe", "beta2", *(f"lr {rate:g}" for rate in over.best)), rows=tuple(rows), best=frozenset(works),
    )  # fmt: skip


def _failed(count: int, runs: int) -> str:
    return "" if not count else " ✗" if runs == 1 else f" ✗ {count}/{runs}"


def _pivot(results: Results) -> Table:
    """Recipes against learning rates: the number by which they are judged, the best of each rate in bold."""
    rates = results.learning_rates
    rows = {(row.recipe, row.learning_rate): row for row in results.rows}
    recipes = list(dict.fromkeys(row.recipe for row in sorted(results.best_rows(), key=results.cost)))
    cells = [
        (recipe, *(result(results, rows[recipe, rate]) if (recipe, rate) in rows else "" for rate in rates))
        for recipe in recipes
    ]
    bold = set()
    for column, rate in enumerate(rates, start=1):
        of_rate = {i: results.cost(rows[recipe, rate]) for i, recipe in enumerate(recipes) if (recipe, rate) in rows}
        lowest = min(of_rate, key=lambda i: of_rate[i])
        if of_rate[lowest] < float("inf"):
            bold.add((lowest, column))
    label = METRICS[results.selection].label
    return Table(
        title=f"All learning rates: {label}", columns=("recipe", *(f"lr {rate:g}" for rate in rates)),
        rows=tuple(cells), best=frozenset(bold),
    )  # fmt: skip


def _cost(results: Results, rows: Sequence[Row]) -> Table:
    """What the runs took: of the machine and of how busy it was, as much as of the recipe."""
    state = [_state(results, row) for row in rows]
    columns = {
        "recipe": [row.recipe for row in rows],
        "s/step": [f"{row.seconds_per_step:.3f}" for row in rows],
        "peak memory": [f"{row.peak_memory / 1e9:.2f} GB" for row in rows],
        **({"optimizer state, bytes a parameter": state} if len(set(state)) > 1 else {}),
    }
    return Table(title="Speed and memory", columns=tuple(columns), rows=tuple(zip(*columns.values(), strict=True)))


def _state(results: Results, row: Row) -> str:
    told = (record.state_bytes_per_parameter for record in results.runs(row))
    found = [number for number in told if number is not None]
    return f"{max(found):.2f}" if found else ""


def _plain(results: Results, row: Row, name: str) -> str:
    value, digits = row.estimate(name), METRICS[name].digits
    if value is None:
        return ""
    if value.mean is not None and len(results.places(row)) > 1:
        values = [number for run in results.runs(row) if (number := run.final[name]) is not None]
        return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
    return "not finite" if value.mean is None else f"{value.mean:.{digits}f}"


def _difference(results: Results, row: Row, rows: Sequence[Row], digits: int) -> str:
    """The mean difference, or its range where the seeds of either ended in two places."""
    value = row.difference
    if value is None:
        return ""
    baseline = next((other for other in rows if other.recipe == BASELINE), row)
    if value.mean is not None and max(len(results.places(row)), len(results.places(baseline))) > 1:
        found = [ours - theirs for ours, theirs in results.pairs(row, baseline)]
        return f"{min(found):+.{digits}f} to {max(found):+.{digits}f}" + _share(value.n, row)
    text = "not finite" if value.mean is None else f"{value.mean:+.{digits}f}"
    return text + _share(value.n, row)


def _range(results: Results, row: Row, digits: int) -> str:
    values = results.by_seed(row).values()
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else ""


def _steps(row: Row) -> str:
    reached = row.steps_to_target
    if reached is None:
        return ""
    return f"{reached.mean:.0f}{_share(reached.n, row)}" if reached.n else "never"


def _share(n: int, row: Row) -> str:
    """How many of a row's runs a cell is about, where it is not all of them."""
    return "" if n == len(row.seeds) else f" ({n} of {len(row.seeds)})"
