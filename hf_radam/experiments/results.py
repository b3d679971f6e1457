"""The results of a comparison: its records, read once, and what is asked of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_radam.errors import unknown_name
from hf_radam.experiments.comparison import read_recipe
from hf_radam.experiments.folder import read_comparison
from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.recipes import Recipe
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.report.statistics import Estimate, Row, at_best_rate, by_rate, headline, modes, summarise
from hf_radam.experiments.schema import UserError


@dataclass(frozen=True, kw_only=True)
class Results:
    """A results folder of `hf-radam compare`."""

    comparison: Mapping[str, Any]
    """The content of comparison.json: name, shared settings, recipes."""
    records: Sequence[Record]
    """One a run, recipes in the order of the comparison."""
    rows: Sequence[Row]
    """The records, summarised for each recipe and learning rate."""

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read a results folder.

        Raises:
            UserError: the folder holds no comparison, or no record, or one with names that no run of ours has.
        """
        comparison = read_comparison(folder)
        target_loss, order = comparison["target_loss"], list(comparison["recipes"])
        records = load_records(folder)
        if len({record.metric for record in records}) > 1:
            raise UserError(f"{folder} holds records of tasks with different metrics; move one kind out of the folder")
        order += sorted({record.recipe for record in records} - set(order))
        records.sort(key=lambda record: (order.index(record.recipe), record.learning_rate, record.seed))
        results = cls(comparison=comparison, records=records, rows=summarise(records, target_loss))
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

    def updates(self, recipe: Recipe) -> int:
        """Length of a run of a recipe."""
        return recipe.max_steps or self.max_steps

    @property
    def max_steps(self) -> int:
        """Updates of a run, unless its recipe says otherwise; of a script as many as it took."""
        return self.comparison["shared"]["max_steps"] or max(record.updates for record in self.records)

    @property
    def missing(self) -> int:
        """Runs without a record that some job was asked for; where none says, of all recipes at each rate and seed."""
        asked, made = self.comparison.get("asked"), {record.id for record in self.records}
        every = len(self.recipes) * len(self.learning_rates) * len(self.seeds)
        return every - len(made) if asked is None else len(set(asked) - made)

    def paired(self) -> Results:
        """The same with those seeds only that all recipes have, at all the rates that they were run at."""
        common = set(self.seeds).intersection(*({run.seed for run in runs} for runs in by_rate(self.records).values()))
        records = [record for record in self.records if record.seed in common]
        if len(records) == len(self.records):
            return self
        rows = summarise(records, self.comparison["target_loss"]) if records else []
        return replace(self, records=records, rows=rows)

    @property
    def metric(self) -> str:
        """The task's own metric, a key of `Record.final`."""
        return self.records[0].metric

    @property
    def selection(self) -> str:
        """The number by which runs are chosen: measured on validation text, never on the test text."""
        return headline(self.records)

    @property
    def learning_rates(self) -> list[float]:
        """The peak learning rates that were tried."""
        return sorted({record.learning_rate for record in self.records})

    @property
    def seeds(self) -> list[int]:
        """All seeds."""
        return sorted({record.seed for record in self.records})

    def judged(self, row: Row) -> Estimate:
        """The number by which a row is judged, over its seeds."""
        return row.loss if self.selection == "loss" else row.metrics[self.selection]

    def runs(self, row: Row) -> list[Record]:
        """The records of a row."""
        return [r for r in self.records if (r.recipe, r.learning_rate) == (row.recipe, row.learning_rate)]

    def by_seed(self, row: Row) -> dict[int, float]:
        """The number by which each of a row's runs is judged, where it is finite."""
        return {run.seed: value for run in self.runs(row) if (value := run.final[self.selection]) is not None}

    def pairs(self, one: Row, other: Row) -> list[tuple[float, float]]:
        """Those numbers of two rows, for each seed with both."""
        ours, theirs = self.by_seed(one), self.by_seed(other)
        return [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]

    def places(self, row: Row) -> list[list[float]]:
        """Where a row's finite runs ended: one group of values, or two; see `statistics.modes`."""
        values = list(self.by_seed(row).values())
        return modes(values, METRICS[self.selection].apart) if values else []

    def best_rows(self) -> list[Row]:
        """For each recipe the row of its best learning rate, in the order of the comparison."""
        best = dict.fromkeys((record.recipe, record.learning_rate) for record in at_best_rate(self.records))
        rows = {(row.recipe, row.learning_rate): row for row in self.rows}
        return [rows[key] for key in best]

    def best_row(self) -> Row:
        """The row with the best mean over seeds."""
        return min(self.best_rows(), key=self.cost)

    def best_run(self, recipe: str | None = None) -> Record:
        """The best run of a recipe, by default of the best recipe.

        Raises:
            UserError: no such recipe, or none of its runs ended with finite numbers.
        """
        names = list(dict.fromkeys(record.recipe for record in self.records))
        if recipe is not None and recipe not in names:
            raise UserError(unknown_name("recipe", recipe, names))
        row = next(row for row in self.best_rows() if row.recipe == (recipe or self.best_row().recipe))
        best = min(self.runs(row), key=lambda run: METRICS[self.selection].cost(run.final.get(self.selection)))
        if best.final.get(self.selection) is None:
            raise UserError(f"all runs of {row.recipe!r} diverged; choose another --recipe, or give --no_weights")
        return best

    def cost(self, row: Row) -> float:
        """The less the better; infinite where a seed has no finite value."""
        return METRICS[self.selection].cost(self.judged(row).mean)
