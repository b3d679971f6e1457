"""Rows -> a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.report.statistics import BASELINE, Estimate, Row


def markdown(rows: Sequence[Row], target_loss: float | None, metric: str, *, with_rates: bool = False) -> str:
    """The rows as a Markdown table; a column that no row has anything for is left out.

    Args:
        rows: of one comparison.
        target_loss: what "steps to" counts to.
        metric: the task's own metric, which comes before the others.
        with_rates: name the learning rates also where they are all the same.
    """
    name = rows[0].headline
    digits = METRICS[name].digits
    order = [n for n in dict.fromkeys([name, "loss", metric, *METRICS]) if any(row.estimate(n) for row in rows)]
    columns: list[tuple[str, Callable[[Row], str]]] = [("recipe", lambda row: row.recipe)]
    if with_rates or len({row.learning_rate for row in rows}) > 1:
        columns.append(("lr", lambda row: f"{row.learning_rate:g}"))
    columns += [
        (METRICS[name].label, lambda row: _mean_std(row.estimate(name), digits)),
        ("95 % interval", lambda row: _interval(row.estimate(name), digits)),
        (f"vs {BASELINE}", lambda row: _difference(row, digits)),
        ("p", lambda row: "" if row.p_value is None else f"{row.p_value:.3f}"),
    ]
    for other in order[1:]:
        columns.append(
            (METRICS[other].label, lambda row, n=other: _mean_std(row.estimate(n), METRICS[n].digits)),
        )
    if target_loss is not None:
        columns.append((f"steps to {target_loss:g}", _steps))
    columns += [
        ("failed", lambda row: "" if row.failed is None else f"{row.failed} of {len(row.seeds)}"),
        ("diverged", lambda row: f"{row.diverged} of {len(row.seeds)}"),
        ("s/step", lambda row: f"{row.seconds_per_step:.3f}"),
        ("memory", lambda row: f"{row.peak_memory / 1e9:.2f} GB"),
    ]
    cells = [(head, [cell(row) for row in rows]) for head, cell in columns]
    cells = [(head, column) for head, column in cells if any(column)]
    lines = [[head for head, _ in cells], ["---", *["---:"] * (len(cells) - 1)]]
    lines += [[column[i] for _, column in cells] for i in range(len(rows))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean_std(value: Estimate | None, digits: int, sign: str = "") -> str:
    if value is None:
        return ""
    if value.mean is None:
        return "not finite"
    return f"{value.mean:{sign}.{digits}f}" + ("" if value.std is None else f" ± {value.std:.{digits}f}")


def _interval(value: Estimate | None, digits: int) -> str:
    if value is None or value.interval is None:
        return ""
    low, high = value.interval
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _difference(row: Row, digits: int) -> str:
    value = row.difference
    return "" if value is None else _mean_std(value, digits, "+") + _share(value.n, row)


def _steps(row: Row) -> str:
    reached = row.steps_to_target
    if reached is None:
        return ""
    return f"{reached.mean:.0f}{_share(reached.n, row)}" if reached.n else "never"


def _share(n: int, row: Row) -> str:
    """How many of a row's runs a cell is about, where it is not all of them."""
    return "" if n == len(row.seeds) else f" ({n} of {len(row.seeds)})"
