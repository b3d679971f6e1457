"""What a results folder says, read once: the comparison, its records, and the best run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.statistics import Estimate, Row, at_best_rate, summarise
from hf_radam.experiments.typed import UserError
from hf_radam.registry import unknown_name


@dataclass(frozen=True, kw_only=True)
class Results:
    """A results folder of `scripts/compare.py`."""

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
            UserError: the folder holds no comparison, or no record.
        """
        description = folder / "comparison.json"
        try:
            comparison = json.loads(description.read_text(encoding="utf-8"))
            target_loss, order = comparison["target_loss"], list(comparison["recipes"])
            _ = comparison["name"], comparison["shared"]["task"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder} is no results folder of scripts/compare.py: {description} is missing or damaged"
            ) from error
        records = load_records(folder)
        order += sorted({record.recipe for record in records} - set(order))
        records.sort(key=lambda record: (order.index(record.recipe), record.learning_rate, record.seed))
        return cls(comparison=comparison, records=records, rows=summarise(records, target_loss))

    @property
    def metric(self) -> str:
        """The task's own metric, a key of `Record.final`."""
        return self.records[0].metric

    @property
    def selection(self) -> str:
        """The number by which runs are chosen: measured on validation text, never on the test text."""
        return self.metric if self.metric in self.records[0].evaluations else "loss"

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

    def by_seed(self, row: Row) -> dict[int, float]:
        """The same of each of its runs, where it is finite."""
        of_row = [r for r in self.records if (r.recipe, r.learning_rate) == (row.recipe, row.learning_rate)]
        return {record.seed: value for record in of_row if (value := record.final[self.selection]) is not None}

    def best_rows(self) -> list[Row]:
        """For each recipe the row of its best learning rate, in the order of the comparison."""
        best = dict.fromkeys((record.recipe, record.learning_rate) for record in at_best_rate(self.records))
        rows = {(row.recipe, row.learning_rate): row for row in self.rows}
        return [rows[key] for key in best]

    def best_row(self) -> Row:
        """The row with the best mean over seeds."""
        return min(self.best_rows(), key=lambda row: self._cost(self.judged(row).mean))

    def best_run(self, recipe: str | None = None) -> Record:
        """The best run of a recipe, by default of the best recipe.

        Raises:
            UserError: no such recipe, or none of its runs ended with finite numbers.
        """
        names = list(dict.fromkeys(record.recipe for record in self.records))
        if recipe is not None and recipe not in names:
            raise UserError(unknown_name("recipe", recipe, names))
        row = next(row for row in self.best_rows() if row.recipe == (recipe or self.best_row().recipe))
        runs = [r for r in self.records if (r.recipe, r.learning_rate) == (row.recipe, row.learning_rate)]
        best = min(runs, key=lambda run: self._cost(run.final.get(self.selection)))
        if best.final.get(self.selection) is None:
            raise UserError(f"all runs of {row.recipe!r} diverged; choose another --recipe, or give --no_weights")
        return best

    def _cost(self, value: float | None) -> float:
        if value is None:
            return math.inf
        return -value if METRICS[self.selection].higher_is_better else value
