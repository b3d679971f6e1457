"""What a figure says above its panels: the learning rate, and numbers of its own records."""

from __future__ import annotations

from collections.abc import Sequence

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report import series, statistics
from hf_radam.experiments.report.palette import family
from hf_radam.experiments.report.series import by_recipe


def settings(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of each panel: of one learning rate, and of one beta2 where those of the comparison differ."""
    several = betas_differ(records)
    groups: dict[tuple[float, float], list[Record]] = {}
    for record in records:
        groups.setdefault((record.learning_rate, series.beta2(record) if several else 0.0), []).append(record)
    return {
        " and ".join(_rates(groups[key])) + (f", beta2 {key[1]:g}" if several else ""): groups[key]
        for key in sorted(groups)
    }


def betas_differ(records: Sequence[Record]) -> bool:
    """Whether some family of recipes was run with several beta2."""
    seen: dict[str, set[float]] = {}
    for record in records:
        seen.setdefault(family(record.config["recipe"]), set()).add(series.beta2(record))
    return any(len(betas) > 1 for betas in seen.values())


def evaluated(records: Sequence[Record]) -> list[str]:
    """What all evaluations hold: the number by which recipes are judged, then another one, if there is one."""
    common = set(records[0].evaluations).intersection(*(record.evaluations for record in records))
    first = statistics.headline(records)
    others = [name for name in ("loss", records[0].metric, *METRICS) if name in common and name != first]
    return [first, *others[:1]]


def results(records: Sequence[Record]) -> str:
    """Where the best recipe, RAdam and the worst recipe end, each at its best learning rate: least to most."""
    name = statistics.headline(records)
    groups = by_recipe(statistics.at_best_rate(records))
    order = sorted(groups, key=lambda recipe: series.cost(groups[recipe], name))
    radam = [recipe for recipe in order if family(groups[recipe][0].config["recipe"]) == "radam"]
    chosen = [recipe for recipe in order if recipe in {order[0], order[-1], *radam[:1]}]
    several = statistics.rates_differ(records)
    ends = [
        f"{recipe}: {_range(groups[recipe], name)}" + (f" (lr {groups[recipe][0].learning_rate:g})" if several else "")
        for recipe in chosen
    ]
    place = "at each recipe's best rate" if several else "at " + " and ".join(_rates(records))
    return f"Final {METRICS[name].label} {place}. " + "; ".join(ends)


def _range(runs: Sequence[Record], name: str) -> str:
    values = [run.final[name] for run in runs]
    finite = [value for value in values if value is not None]
    broken = f"{len(values) - len(finite)} of {len(values)} not finite"
    if not finite:
        return broken
    ends = dict.fromkeys(f"{end(finite):.{METRICS[name].digits}f}" for end in (min, max))
    return " to ".join(ends) + (f" and {broken}" if len(finite) < len(values) else "")


def _rates(records: Sequence[Record]) -> list[str]:
    return [f"lr {rate:g}" for rate in sorted({series.peak_rate(record) for record in records})]
