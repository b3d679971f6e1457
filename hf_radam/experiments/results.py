"""The results of a comparison: its records, read once into tables, on which all that is reported is a group-by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hf_radam.errors import unknown_name
from hf_radam.experiments.comparison import read_recipe
from hf_radam.experiments.folder import read_comparison
from hf_radam.experiments.metrics import Metric, metric_named
from hf_radam.experiments.recipes import Recipe
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.report.statistics import STRICT, cost, modes, name, rate
from hf_radam.experiments.schema import UserError

# Fewer settings of one recipe are a table of recipes, no grid.
GRID = 4
_WARMUPS = {"none": "adam", "linear": "warmup", "untuned_linear": "untuned", "untuned_exponential": "untuned"}
_LABELS = {"adam": "Adam", "radam": "RAdam", "untuned": "untuned warmup", "adam_2k": "Adam-2k", "adam_eps": "Adam-eps"}


@dataclass(frozen=True, kw_only=True)
class Results:
    """A results folder of `hf-radam compare`. A row, here and above, is the part of `runs` with one recipe and rate."""

    comparison: Mapping[str, Any]
    """The content of comparison.json: name, shared settings, recipes."""
    records: Sequence[Record]
    """One a run, recipes in the order of the comparison."""

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read a folder; a UserError if it holds no comparison, no record, or one with names that no run has."""
        comparison, records = read_comparison(folder), load_records(folder)
        if len({record.metric for record in records}) > 1:
            raise UserError(f"{folder} holds records of tasks with different metrics; move one kind out of the folder")
        order = [*comparison["recipes"], *sorted({record.recipe for record in records})]
        records.sort(key=lambda record: (order.index(record.recipe), record.learning_rate, record.seed))
        try:
            read_recipes(comparison, records)
        except UserError as error:
            raise UserError(f"{folder}: {error}; move its records out of the folder") from error
        return cls(comparison=comparison, records=records)

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """All recipes by name, also those without a record yet."""
        return read_recipes(self.comparison, self.records)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a run, in the order of the records.

        `value` is the number by which runs are judged, nan where it is not finite, and `cost` the same with the sign
        that makes less better, infinite for nan; `validation` is that cost at the last evaluation. `rate` is the mean
        over the updates of learning rate x rectification, `warmup` the length of a linear warmup, `label` what readers
        call the recipe. `failed` is None for a task without a majority class.
        """
        return pd.DataFrame([_run(of, self.selection, self.comparison) for of in self.records])

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """A row an evaluation: id, recipe and seed of the run, step, loss and metrics."""
        return pd.concat([_told_apart(of, pd.DataFrame(of.evaluations)) for of in self.records], ignore_index=True)

    @cached_property
    def updates(self) -> pd.DataFrame:
        """A row an update that was recorded: id, recipe and seed of the run, step, loss, effective_rate and more."""
        curves = [pd.DataFrame(of.curves).assign(effective_rate=effective_rates(of)) for of in self.records]
        return pd.concat(map(_told_apart, self.records, curves), ignore_index=True)

    @cached_property
    def gradients(self) -> pd.DataFrame:
        """A row a bin of the histograms of log10|g|: id of the run, step, low and high end, count."""
        found = []
        for record in (record for record in self.records if record.gradients):
            of = dict(record.gradients or {})
            edges = np.linspace(of["low"], of["high"], len(of["counts"][0]) + 1)
            bins = pd.MultiIndex.from_product([of["step"], edges[:-1]], names=["step", "low"])
            counts = pd.DataFrame({"count": np.ravel(of["counts"])}, index=bins).reset_index()
            found.append(counts.assign(id=record.id, high=np.tile(edges[1:], len(of["step"]))))
        return pd.concat(found, ignore_index=True).astype({"step": float})

    @cached_property
    def rows(self) -> dict[tuple[str, float], pd.DataFrame]:
        """The runs of each recipe and learning rate: by rate, and within a rate in the order of the records."""
        by_rate = self.runs.sort_values("learning_rate", kind="stable")
        groups = by_rate.groupby(["recipe", "learning_rate"], sort=False)
        return {(name(row), rate(row)): row for _, row in groups}

    @cached_property
    def best_rows(self) -> list[pd.DataFrame]:
        """For each recipe the row of its best learning rate: that with the best mean at the last validation.

        A rate at which a run became infinite or NaN comes after all others; of equals, the lowest rate is taken.
        """
        groups = [[row for (x, _), row in self.rows.items() if x == recipe] for recipe in self.runs.recipe.unique()]
        return [min(rows, key=lambda row: row.validation.mean()) for rows in groups]

    @property
    def several_rates(self) -> bool:
        """Whether some recipe was run at several learning rates."""
        return len(self.rows) > len(self.best_rows)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row a label, beta2 and learning rate, labels in their first order; of several recipes in one, the best.

        `value` and `cost` are the medians over `seeds`; a run fails, or strictly fails, that ends worse than the best
        median at its learning rate by more than `Metric.apart`, or the share STRICT of it.
        """
        keys, runs, metric = ["label", "beta2", "learning_rate"], self.runs, self.metric
        medians = runs.groupby(["recipe", "learning_rate"]).cost.transform("median")
        gaps = (runs.cost - medians.groupby(runs.learning_rate).transform("min")).fillna(math.inf)
        runs = runs.assign(failures=gaps > metric.apart, strict_failures=gaps > STRICT * metric.apart)
        found = runs.groupby([*keys, "recipe"], sort=False).agg(
            rate=("rate", "first"), cost=("cost", "median"), seeds=("seed", "size"),
            failures=("failures", "sum"), strict_failures=("strict_failures", "sum"),
        )  # fmt: skip
        found = found.reset_index().sort_values("cost", kind="stable").drop_duplicates(keys)
        order = {label: place for place, label in enumerate(runs.label.unique())}
        found = found.sort_values(keys, key=lambda of: of.map(order) if of.name == "label" else of)
        value = -found.cost if metric.higher_is_better else found.cost
        return found.assign(value=value.where(np.isfinite(value))).reset_index(drop=True)

    @cached_property
    def is_grid(self) -> bool:
        """Whether there are several labels, some at several beta2, and at four settings or more."""
        groups = self.cells.groupby("label")
        return len(groups) > 1 and groups.beta2.nunique().max() > 1 and groups.size().max() >= GRID

    @property
    def missing(self) -> int:
        """Runs without a record that some job was asked for; where none says, of all recipes at each rate and seed."""
        asked, made = self.comparison.get("asked"), {record.id for record in self.records}
        every = len(self.recipes) * len(self.learning_rates) * len(self.seeds)
        return every - len(made) if asked is None else len(set(asked) - made)

    def paired(self) -> Results:
        """The same with those seeds only that all recipes have, at all the rates that they were run at."""
        common = set(self.seeds).intersection(*(set(row.seed) for row in self.rows.values()))
        records = [record for record in self.records if record.seed in common]
        return self if len(records) == len(self.records) else replace(self, records=records)

    @property
    def facts(self) -> Mapping[str, float]:
        """Numbers about the data, the same for all runs."""
        return self.records[0].facts

    @property
    def task_metric(self) -> str:
        """The task's own metric, a key of `Record.final`."""
        return self.records[0].metric

    @property
    def selection(self) -> str:
        """What recipes are judged by, on validation text: the task's metric if evaluations hold it, else the loss."""
        return self.task_metric if all(of.metric in of.evaluations for of in self.records) else "loss"

    @property
    def metric(self) -> Metric:
        """What is to be known of that number."""
        return metric_named(self.selection)

    @property
    def learning_rates(self) -> list[float]:
        """The peak learning rates that were tried."""
        return sorted({record.learning_rate for record in self.records})

    @property
    def seeds(self) -> list[int]:
        """All seeds."""
        return sorted({record.seed for record in self.records})

    @cached_property
    def same_start(self) -> bool:
        """Whether all runs of a seed have the same loss at the first update, which is that of the initial weights."""
        first = self.updates[self.updates.step == 1].astype({"loss": float})
        losses = first.groupby("seed").loss.agg(["min", "max"]).dropna()
        # On an accelerator sums may be rounded otherwise.
        return len(losses) > 0 and np.allclose(losses["min"], losses["max"], rtol=1e-4)

    def has_mean(self, row: pd.DataFrame) -> bool:
        """Whether all runs of a row ended at a finite number and in one place, so that their mean is a result."""
        return bool(row.value.notna().all()) and len(modes(row.value, self.metric.apart)) == 1

    def ended(self, row: pd.DataFrame) -> str:
        """How a row ended: mean and standard deviation, or where its seeds ended if they have no mean."""
        digits, seeds, finite = self.metric.digits, len(row), row.value.dropna()
        if self.has_mean(row):
            return f"{finite.mean():.{digits}f}" + (f" ± {finite.std():.{digits}f}" if seeds > 1 else "")
        groups = modes(finite, self.metric.apart) if len(finite) else []
        ends = [f"{sum(group) / len(group):.{digits}f} ({len(group)} of {seeds})" for group in groups]
        if len(finite) < seeds:
            ends.append(f"not finite ({seeds - len(finite)} of {seeds})")
        return ", ".join(ends)

    def best_run(self, recipe: str | None = None) -> Record:
        """The best run of a recipe, by default of the best; a UserError if there is none with finite numbers."""
        rows = {name(row): row for row in self.best_rows}
        if recipe is not None and recipe not in rows:
            raise UserError(unknown_name("recipe", recipe, rows))
        row = rows[recipe] if recipe else min(self.best_rows, key=cost)
        if row.value.isna().all():
            raise UserError(f"all runs of {name(row)!r} diverged; choose another --recipe, or give --no_weights")
        return self.record(row.sort_values("cost", kind="stable"))

    def record(self, row: pd.DataFrame) -> Record:
        """The record of a row's first run."""
        return next(record for record in self.records if record.id == row.id.iat[0])


def read_recipes(comparison: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Recipe]:
    """All recipes of a comparison and of its records, by name; a UserError about what defines no recipe."""
    definitions = [*comparison["recipes"].values(), *(record.config["recipe"] for record in records)]
    return {recipe.name: recipe for recipe in map(read_recipe, definitions)}


def family(recipe: Recipe) -> str:
    """A key of `drawing.Theme.hues`, or the name of an optimizer that has none; whatever the recipe's own name.

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


def effective_rates(record: Record) -> np.ndarray:
    """Learning rate x rectification, which multiplies Adam's direction, at each recorded update."""
    curves = {key: np.array(column, dtype=float) for key, column in record.curves.items()}
    rates = curves["learning_rate"] * curves.get("rectification", 1.0)
    options = {**record.config["recipe"]["optim_args"], **record.optimizer}
    rates[curves["step"] <= options.get("freeze_steps", 0)] = 0.0  # Adam-2k does not move yet
    return rates


def _told_apart(record: Record, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(id=record.id, recipe=record.recipe, seed=record.seed)


def _run(record: Record, judged: str, comparison: Mapping[str, Any]) -> dict[str, Any]:
    recipe, updates, environment = read_recipe(record.config["recipe"]), record.updates, record.environment
    betas = record.optimizer.get("betas") or recipe.optim_args.get("betas")
    asked = recipe.max_steps or comparison["shared"]["max_steps"] or updates  # a run that broke made fewer
    kind, warmup, metric = family(recipe), recipe.warmup_updates(asked), metric_named(judged)
    rates, steps = effective_rates(record), np.array(record.curves["step"], dtype=float)
    value, last = record.final[judged], record.evaluations[judged][-1]
    reached = zip(record.evaluations["step"], record.evaluations["loss"], strict=True)
    target = -math.inf if comparison["target_loss"] is None else comparison["target_loss"]
    # No better than always predicting the majority class.
    own, majority = metric_named(record.metric).cost, record.facts.get("majority_class")
    versions = ", ".join(f"{package} {version}" for package, version in environment["versions"].items() if version)
    return {
        "id": record.id,
        "recipe": record.recipe,
        "learning_rate": record.learning_rate,
        "seed": record.seed,
        "family": kind,
        "label": f"{100 * warmup / asked:.0f} % warmup" if kind == "warmup" else _LABELS.get(kind, kind),
        "beta2": float(betas[1]) if betas else float(record.config.get("training", {}).get("adam_beta2", 0.999)),
        "peak": record.learning_rate * recipe.learning_rate_scale,
        "rate": float(np.interp(np.arange(steps[0], steps[-1] + 1), steps, rates).mean()),
        "warmup": warmup,
        "updates": updates,
        "diverged": record.diverged,
        "value": math.nan if value is None else value,
        "cost": metric.cost(value),
        # A run that broke has stopped before its next evaluation: the last one may still be finite.
        "validation": metric.cost(None if value is None else last),
        "steps_to_target": next((step for step, loss in reached if loss is not None and loss <= target), math.nan),
        "failed": None if majority is None else own(record.final[record.metric]) >= own(majority),
        "seconds_per_step": record.seconds_per_step,
        "peak_memory": record.peak_memory,
        "state_bytes": record.state_bytes_per_parameter,
        "notes": record.notes,
        "machine": f"{environment['hardware']}, {environment['processes']} process(es) of {environment['threads']} "
        f"thread(s); {versions}; commit {environment['commit']}",
        **{f"final_{key}": number for key, number in record.final.items()},
    }
