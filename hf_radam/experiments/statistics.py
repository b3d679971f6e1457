"""Records -> numbers and a table: mean, interval, paired difference, steps to target, diverged k of n."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record

BASELINE = "adam_warmup"
# Fewer seeds than this get no interval.
SEEDS_FOR_INTERVAL = 3


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds."""

    mean: float | None
    """None where a seed has no finite value."""
    std: float | None = None
    """Sample standard deviation; None for one seed."""
    interval: tuple[float, float] | None = None
    """95 % interval of the mean by Student's t; None below three seeds."""
    n: int = 0
    """Number of seeds."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One recipe at one learning rate."""

    recipe: str
    learning_rate: float
    seeds: tuple[int, ...]
    loss: Estimate
    """Final evaluation loss, nats a token, without label smoothing."""
    metrics: dict[str, Estimate]
    """Other final numbers, such as token_accuracy and bleu."""
    difference: Estimate | None
    """Loss minus that of adam_warmup at the same learning rate, seed by seed; None without such runs."""
    steps_to_target: Estimate | None
    """Updates until the evaluation loss first reached the target, over the seeds that did; None without a target."""
    diverged: int
    """Runs whose loss became infinite or NaN, or ended above that of the untrained model."""
    seconds_per_step: float
    """Median over the runs."""


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean, standard deviation and 95 % interval (Student's t) of one value a seed.

    Example:
        >>> estimate([1.0, 2.0, 3.0]).std
        1.0
    """
    if not values or any(value is None or not math.isfinite(value) for value in values):
        return Estimate(mean=None, n=len(values))
    finite = [value for value in values if value is not None]
    mean, std = statistics.fmean(finite), statistics.stdev(finite) if len(finite) > 1 else None
    interval = None
    if std is not None and len(finite) >= SEEDS_FOR_INTERVAL:
        half = float(stats.t.ppf(0.975, len(finite) - 1)) * std / math.sqrt(len(finite))
        interval = (mean - half, mean + half)
    return Estimate(mean=mean, std=std, interval=interval, n=len(finite))


def summarise(records: Sequence[Record], target_loss: float | None) -> list[Row]:
    """One row for each recipe and learning rate, in the order in which the recipes first appear."""
    groups: dict[tuple[str, float], list[Record]] = {}
    names = [record.recipe for record in records]
    for record in sorted(records, key=lambda r: (r.learning_rate, names.index(r.recipe), r.seed)):
        groups.setdefault((record.recipe, record.learning_rate), []).append(record)
    return [_row(group, groups.get((BASELINE, rate), []), target_loss) for (_, rate), group in groups.items()]


def _row(records: list[Record], baseline: list[Record], target_loss: float | None) -> Row:
    by_seed = {record.seed: record.final["loss"] for record in baseline}
    pairs = [(record.final["loss"], by_seed[record.seed]) for record in records if record.seed in by_seed]
    differences = [None if ours is None or theirs is None else ours - theirs for ours, theirs in pairs]
    reached = [step for step in (steps_to(record, target_loss) for record in records) if step is not None]
    names = [name for name in records[0].final if name != "loss"]
    return Row(
        recipe=records[0].recipe,
        learning_rate=records[0].learning_rate,
        seeds=tuple(record.seed for record in records),
        loss=estimate([record.final["loss"] for record in records]),
        metrics={name: estimate([record.final.get(name) for record in records]) for name in names},
        difference=estimate(differences) if pairs and records[0].recipe != BASELINE else None,
        steps_to_target=None if target_loss is None else estimate(reached),
        diverged=sum(record.diverged for record in records),
        seconds_per_step=statistics.median(record.seconds_per_step for record in records),
    )


def steps_to(record: Record, target_loss: float | None) -> float | None:
    """The first evaluated update whose loss is at or below the target; None if there is none."""
    for step, loss in zip(record.evaluations["step"], record.evaluations["loss"], strict=True):
        if target_loss is not None and loss is not None and loss <= target_loss:
            return step
    return None


def table(rows: Sequence[Row], target_loss: float | None, metric: str) -> str:
    """The rows as a Markdown table."""
    several_rates = len({row.learning_rate for row in rows}) > 1
    head = ["recipe", *(["lr"] if several_rates else []), "eval loss", "95 % interval", f"vs {BASELINE}"]
    shown = [name for name in (metric, "token_accuracy") if name in rows[0].metrics]
    head += [METRICS[name].label for name in shown]
    head += [f"steps to {target_loss:g}"] if target_loss is not None else []
    head += ["diverged", "s/step"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows:
        cells = [row.recipe, *([f"{row.learning_rate:g}"] if several_rates else []), _mean_std(row.loss, ".3f")]
        cells.append("" if row.loss.interval is None else "{:.3f} to {:.3f}".format(*row.loss.interval))
        cells.append(
            "" if row.difference is None else _mean_std(row.difference, "+.3f") + _share(row.difference.n, row)
        )
        cells += [_mean_std(row.metrics[name], f".{METRICS[name].digits}f") for name in shown]
        if row.steps_to_target is not None:
            reached = row.steps_to_target
            cells.append(f"{reached.mean:.0f}{_share(reached.n, row)}" if reached.n else "never")
        cells += [f"{row.diverged} of {len(row.seeds)}", f"{row.seconds_per_step:.3f}"]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for machines."""
    return [asdict(row) for row in rows]


def _share(n: int, row: Row) -> str:
    """How many of a row's runs a cell is about, where it is not all of them."""
    return "" if n == len(row.seeds) else f" ({n} of {len(row.seeds)})"


def _mean_std(value: Estimate, style: str) -> str:
    if value.mean is None:
        return "not finite"
    return f"{value.mean:{style}}" + ("" if value.std is None else f" ± {value.std:{style.lstrip('+')}}")
