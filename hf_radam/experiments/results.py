"""The results of a comparison: its records, read once, and what is asked of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from hf_radam.errors import unknown_name
from hf_radam.experiments.comparison import read_recipe
from hf_radam.experiments.folder import read_comparison
from hf_radam.experiments.frames import evaluation_rows, gradient_rows, headline, run_rows, update_rows
from hf_radam.experiments.metrics import METRICS, Metric
from hf_radam.experiments.recipes import Recipe
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.report.statistics import at_best_rate, by_rate, cost, modes
from hf_radam.experiments.schema import UserError


@dataclass(frozen=True, kw_only=True)
class Results:
    """A results folder of `hf-radam compare`. A row, here and above, is the part of `runs` with one recipe and rate."""

    comparison: Mapping[str, Any]
    """The content of comparison.json: name, shared settings, recipes."""
    records: Sequence[Record]
    """One a run, recipes in the order of the comparison."""

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read a results folder.

        Raises:
            UserError: the folder holds no comparison, or no record, or one with names that no run of ours has.
        """
        comparison = read_comparison(folder)
        order = list(comparison["recipes"])
        records = load_records(folder)
        if len({record.metric for record in records}) > 1:
            raise UserError(f"{folder} holds records of tasks with different metrics; move one kind out of the folder")
        order += sorted({record.recipe for record in records} - set(order))
        records.sort(key=lambda record: (order.index(record.recipe), record.learning_rate, record.seed))
        results = cls(comparison=comparison, records=records)
        try:
            _ = results.recipes
        except UserError as error:
            raise UserError(f"{folder}: {error}; move its records out of the folder") from error
        return results

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """All recipes by name, also those without a record yet."""
        definitions = [*self.comparison["recipes"].values(), *(record.config["recipe"] for record in self.records)]
        different = {json.dumps(definition, sort_keys=True): definition for definition in definitions}
        return {recipe.name: recipe for recipe in map(read_recipe, different.values())}

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a run; see `frames.run_rows`."""
        return run_rows(self.records, self.comparison["target_loss"])

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """A row an evaluation."""
        return evaluation_rows(self.records)

    @cached_property
    def updates(self) -> pd.DataFrame:
        """A row a recorded update."""
        return update_rows(self.records)

    @cached_property
    def gradients(self) -> pd.DataFrame:
        """A row a bin of a histogram."""
        return gradient_rows(self.records)

    @cached_property
    def rows(self) -> dict[tuple[str, float], pd.DataFrame]:
        """The runs of each recipe and learning rate."""
        return by_rate(self.runs)

    @cached_property
    def best_rows(self) -> list[pd.DataFrame]:
        """For each recipe the row of its best learning rate, in the order of the comparison."""
        return at_best_rate(self.runs)

    def length(self, recipe: Recipe) -> int:
        """Updates of a run of a recipe; of a script as many as it took."""
        return recipe.max_steps or self.comparison["shared"]["max_steps"] or int(self.runs.updates.max())

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

    @cached_property
    def selection(self) -> str:
        """The number by which runs are chosen: measured on validation text, never on the test text."""
        return headline(self.records)

    @property
    def metric(self) -> Metric:
        """What is to be known of that number."""
        return METRICS[self.selection]

    @property
    def positive_label(self) -> str | None:
        """Of two labels the one whose F1 is measured; None for other metrics."""
        return self.records[0].positive_label

    @property
    def loss_unit(self) -> str:
        """What the evaluation loss is counted in."""
        return self.records[0].loss_unit

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
        losses = self.updates.loc[(self.updates.step == 1) & self.updates.loss.notna()].groupby("seed").loss
        # On an accelerator sums may be rounded otherwise.
        return bool(len(losses)) and all(math.isclose(of.min(), of.max(), rel_tol=1e-4) for _, of in losses)

    def places(self, row: pd.DataFrame) -> list[list[float]]:
        """Where a row's finite runs ended: one group of values, or two; see `statistics.modes`."""
        values = list(row.value.dropna())
        return modes(values, self.metric.apart) if values else []

    def best_row(self) -> pd.DataFrame:
        """The row with the best mean over seeds."""
        return min(self.best_rows, key=cost)

    def best_run(self, recipe: str | None = None) -> Record:
        """The best run of a recipe, by default of the best recipe.

        Raises:
            UserError: no such recipe, or none of its runs ended with finite numbers.
        """
        rows = {str(row.recipe.iat[0]): row for row in self.best_rows}
        if recipe is not None and recipe not in rows:
            raise UserError(unknown_name("recipe", recipe, rows))
        row = rows[recipe] if recipe else self.best_row()
        if row.value.isna().all():
            raise UserError(
                f"all runs of {row.recipe.iat[0]!r} diverged; choose another --recipe, or give --no_weights"
            )
        return self.record(row.sort_values("cost", kind="stable"))

    def record(self, row: pd.DataFrame) -> Record:
        """The record of a row's first run."""
        return next(record for record in self.records if record.id == row.id.iat[0])
