"""The one reader of a results folder: claims, opens, reads, writes and judges it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hf_radam.experiments.comparison import Comparison, read_recipe
from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.recipes import Recipe
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.report.statistics import Estimate, Row, at_best_rate, by_rate, headline, modes, summarise
from hf_radam.experiments.schema import UserError
from hf_radam.files import one_line, write_whole
from hf_radam.registry import unknown_name


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
        comparison = _read_comparison(folder)
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

    @property
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


@contextmanager
def claim(
    folder: Path, comparison: Comparison, fingerprint: str, part: tuple[int, int] | None = None
) -> Iterator[None]:
    """Hold a results folder for one job, as long as the block lasts, and write down whose results it holds.

    The lock is the operating system's, so that nothing of it is left after SIGKILL. Reading takes no lock.

    Args:
        folder: made if missing.
        comparison: what the job runs.
        fingerprint: of its text, from the task.
        part: (k, n) for the k-th of n jobs that do one sweep together in this folder; None for a job that does it all.

    Raises:
        UserError: another job holds the folder, or it holds results of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = folder / (".job.lock" if part is None else f".job-{part[0]}-of-{part[1]}.lock")
    lock = FileLock(ours)
    try:
        with FileLock(folder / ".claim.lock"):  # for a moment only: two jobs look and write one after the other
            for other in sorted({ours, *folder.glob(".job*.lock")}):
                if part is None or other == ours or not other.stem.endswith(f"-of-{part[1]}"):
                    _refuse_held(other)
            check_folder(folder, comparison, fingerprint)
            lock.acquire(blocking=False)
            _holder(ours).write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            _write_comparison(folder, comparison, fingerprint)
        yield
    finally:
        if lock.is_locked:
            _holder(ours).unlink(missing_ok=True)
            lock.release()


def _holder(lock: Path) -> Path:
    """Where a job says which one it is: a second job that asks for the lock empties the lock's own file."""
    return lock.with_suffix(".holder")


def _refuse_held(path: Path) -> None:
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = _holder(path)
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "a process that has just begun"
        raise UserError(
            f"{path.parent} belongs to another job, {who}; wait for its end, or give --output_dir another folder"
        ) from None
    lock.release()


def check_folder(folder: Path, comparison: Comparison, fingerprint: str | None = None) -> None:
    """Refuse a folder with results of something else; without a fingerprint, before any text is read.

    Raises:
        UserError: it is a file, or holds other files, another comparison, or results on another text.
    """
    description = folder / "comparison.json"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give --output_dir a folder")
    if not description.is_file():
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise UserError(f"{folder} holds other files and no comparison; give --output_dir an empty or new folder")
        return
    if not any((folder / "records").glob("*.json")):
        return  # a job that stopped before its first result binds nobody
    earlier = _read_comparison(folder)
    recipes = {recipe.name: recipe.definition() for recipe in comparison.recipes}
    known = {name: recipe for name, recipe in recipes.items() if name in earlier["recipes"]}
    for now, before in (
        (comparison.shared(), earlier["shared"]),
        (known, {name: earlier["recipes"][name] for name in known}),
    ):
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                raise UserError(
                    f"{folder} holds results of another comparison: {key} was {before.get(key)!r} and is now "
                    f"{now.get(key)!r}; give --output_dir a new folder, or a changed recipe a new name"
                )
    if fingerprint not in (None, earlier["data"]):
        raise UserError(
            f"{folder} holds results on another text or checkpoint, or of another script; give --output_dir a new "
            "folder"
        )


def _write_comparison(folder: Path, comparison: Comparison, fingerprint: str) -> None:
    """Write down whose results the folder holds, and which runs were asked for; those of earlier jobs stay."""
    earlier = _read_comparison(folder) if any((folder / "records").glob("*.json")) else {}
    content = {
        "name": comparison.name,
        "shared": comparison.shared(),
        "data": fingerprint,
        "target_loss": comparison.target_loss,
        "asked": sorted({*earlier.get("asked", []), *(run.id for run in comparison.runs())}),
        "recipes": {
            **earlier.get("recipes", {}),
            **{recipe.name: recipe.definition() for recipe in comparison.recipes},
        },
    }
    write_whole(folder / "comparison.json", json.dumps(content, indent=2) + "\n")


def _read_comparison(folder: Path) -> dict[str, Any]:
    """The content of comparison.json, checked as far as its readers rely on it.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / "comparison.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder} is no results folder: {path} is missing or damaged ({one_line(error)})") from error
    kinds = {"name": str, "shared": dict, "data": str, "target_loss": (int, float, type(None)), "recipes": dict}
    for key, kind in kinds.items():
        if not isinstance(content, dict) or not isinstance(content.get(key, ...), kind):
            raise UserError(f"{folder} is no results folder: {path} is damaged at {key!r}; move it out of the way")
    asked = content.get("asked", [])
    if not isinstance(asked, list) or not all(isinstance(run, str) for run in asked):
        raise UserError(f"{folder} is no results folder: {path} is damaged at 'asked'; move it out of the way")
    return content
