"""Records -> three tables: a row a run, a row an evaluation, a row an update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hf_radam.experiments.comparison import read_recipe
from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.recipes import Recipe
from hf_radam.experiments.records import Record

_WARMUPS = {"none": "adam", "linear": "warmup", "untuned_linear": "untuned", "untuned_exponential": "untuned"}
_LABELS = {"adam": "Adam", "radam": "RAdam", "untuned": "untuned warmup", "adam_2k": "Adam-2k", "adam_eps": "Adam-eps"}


def headline(records: Sequence[Record]) -> str:
    """What recipes are judged by: the task's metric where evaluations hold it, else the evaluation loss."""
    return records[0].metric if all(r.metric in r.evaluations for r in records) else "loss"


def family(recipe: Recipe) -> str:
    """A key of `palette.Theme.hues`, or the name of an optimizer that has none; whatever the recipe's own name.

    Example:
        >>> family(Recipe(name="mine", optimizer="adam", warmup="linear", warmup_steps=9))
        'warmup'
        >>> family(Recipe(name="mine", optimizer="radam_8bit"))
        'radam'
    """
    optimizer = recipe.optimizer
    if optimizer == "adam" or optimizer.startswith("adamw"):
        return _WARMUPS[recipe.warmup]
    return "radam" if optimizer.startswith(("radam", "paged_radam")) else optimizer


def run_rows(records: Sequence[Record], target_loss: float | None) -> pd.DataFrame:
    """A row a run, in the order of the records.

    `value` is the number by which runs are judged, nan where it is not finite, and `cost` the same with the sign that
    makes less better, infinite for nan; `validation` is that cost at the last evaluation. `rate` is the mean over the
    updates of learning rate x rectification, `warmup` the length of a linear warmup, `label` what readers call the
    recipe. `failed` is None for a task without a majority class.
    """
    name = headline(records)
    return pd.DataFrame([_run(record, name, target_loss) for record in records])


def evaluation_rows(records: Sequence[Record]) -> pd.DataFrame:
    """A row an evaluation: id, recipe and seed of the run, step, loss and metrics."""
    return pd.concat([_of(record, record.evaluations) for record in records], ignore_index=True)


def update_rows(records: Sequence[Record]) -> pd.DataFrame:
    """A row an update that was recorded: id, recipe and seed of the run, step, loss, effective_rate and more."""
    found = [_of(record, {**record.curves, "effective_rate": effective_rates(record)}) for record in records]
    return pd.concat(found, ignore_index=True)


def gradient_rows(records: Sequence[Record]) -> pd.DataFrame:
    """A row a bin of the histograms of log10|g|: id of the run, step, low and high end, count."""
    found = []
    for record in records:
        if of := record.gradients:
            counts = np.array(of["counts"])
            edges = np.linspace(of["low"], of["high"], counts.shape[1] + 1)
            steps = np.repeat(np.array(of["step"], dtype=float), counts.shape[1])
            ends = {"low": np.tile(edges[:-1], len(counts)), "high": np.tile(edges[1:], len(counts))}
            found.append(pd.DataFrame({"id": record.id, "step": steps, **ends, "count": counts.ravel()}))
    return pd.concat(found, ignore_index=True)


def effective_rates(record: Record) -> np.ndarray:
    """Learning rate x rectification, which multiplies Adam's direction, at each recorded update."""
    curves = {name: np.array(column, dtype=float) for name, column in record.curves.items()}
    rates = curves["learning_rate"] * curves.get("rectification", 1.0)
    options = {**record.config["recipe"]["optim_args"], **record.optimizer}
    rates[curves["step"] <= options.get("freeze_steps", 0)] = 0.0  # Adam-2k does not move yet
    return rates


def _of(record: Record, columns: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(columns).assign(id=record.id, recipe=record.recipe, seed=record.seed)


def _run(record: Record, name: str, target_loss: float | None) -> dict[str, Any]:
    recipe = read_recipe(dict(record.config["recipe"]))
    betas = record.optimizer.get("betas") or recipe.optim_args.get("betas")
    kind, warmup = family(recipe), recipe.warmup_updates(record.updates)
    share = f"{warmup / record.updates:.0%}".replace("%", " % warmup")
    rates, steps = effective_rates(record), np.array(record.curves["step"], dtype=float)
    value, last = record.final[name], record.evaluations[name][-1]
    reached = zip(record.evaluations["step"], record.evaluations["loss"], strict=True)
    target = -math.inf if target_loss is None else target_loss
    return {
        "id": record.id,
        "recipe": record.recipe,
        "learning_rate": record.learning_rate,
        "seed": record.seed,
        "family": kind,
        "label": share if kind == "warmup" else _LABELS.get(kind, kind),
        "beta2": float(betas[1]) if betas else float(record.config.get("training", {}).get("adam_beta2", 0.999)),
        "peak": record.learning_rate * recipe.learning_rate_scale,
        "rate": float(np.interp(np.arange(steps[0], steps[-1] + 1), steps, rates).mean()),
        "warmup": warmup,
        "updates": record.updates,
        "diverged": record.diverged,
        "value": math.nan if value is None else value,
        "cost": METRICS[name].cost(value),
        # A run that broke has stopped before its next evaluation: the last one may still be finite.
        "validation": METRICS[name].cost(None if value is None else last),
        "steps_to_target": next((step for step, loss in reached if loss is not None and loss <= target), math.nan),
        "failed": _has_failed(record),
        "seconds_per_step": record.seconds_per_step,
        "peak_memory": record.peak_memory,
        "state_bytes": record.state_bytes_per_parameter,
        "notes": record.notes,
        "machine": _machine(record.environment),
        **{f"final_{key}": value for key, value in record.final.items()},
    }


def _has_failed(record: Record) -> bool | None:
    """Whether a run's metric is not better than that of always predicting the majority class; None without one."""
    if "majority_class" not in record.facts:
        return None
    cost = METRICS[record.metric].cost
    return cost(record.final[record.metric]) >= cost(record.facts["majority_class"])


def _machine(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items() if v)
    return (
        f"{environment['hardware']}, {environment['processes']} process(es) of {environment['threads']} "
        f"thread(s); {versions}; commit {environment['commit']}"
    )
