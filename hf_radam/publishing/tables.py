"""Records as flat tables, for `datasets.load_dataset`, spreadsheets and whoever draws the figures again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_radam.experiments.records import Record

Table = list[dict[str, Any]]


def tables(records: Sequence[Record]) -> dict[str, Table]:
    """All records as three tables.

    Returns:
        `runs` with a row for each run, `evaluations` with a row for each evaluation, and `updates` with a row for each
        update. All rows of a table have the same columns; None stands where a run has no such number.
    """
    return {
        "runs": _aligned([_run(record) for record in records]),
        "evaluations": _aligned([row for record in records for row in _curve(record, record.evaluations)]),
        "updates": _aligned([row for record in records for row in _curve(record, record.curves)]),
    }


def as_csv(table: Table) -> str:
    """A table with its column names in the first line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def as_parquet(table: Table) -> bytes:
    """A table with the types of `features`."""
    columns = {
        feature["name"]: pa.array([_as(row[feature["name"]], feature["dtype"]) for row in table], feature["dtype"])
        for feature in features(table)
    }
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()


def features(table: Table) -> list[dict[str, str]]:
    """The columns and their types, as a dataset card declares them; otherwise readers guess from the first rows."""
    return [{"name": name, "dtype": _dtype([row[name] for row in table])} for name in table[0]]


def _run(record: Record) -> dict[str, Any]:
    recipe, environment = record.config["recipe"], record.environment
    return {
        "id": record.id,
        "comparison": record.comparison,
        "task": record.config["task"],
        "recipe": record.recipe,
        "optimizer": recipe["optimizer"],
        "optim_args": json.dumps(recipe["optim_args"], sort_keys=True),
        "warmup": recipe["warmup"],
        "warmup_steps": recipe["warmup_steps"],
        "learning_rate": record.learning_rate,
        "seed": record.seed,
        "updates": record.updates,
        "diverged": record.diverged,
        **{f"final_{name}": value for name, value in record.final.items()},
        "seconds_per_step": record.seconds_per_step,
        "peak_memory": record.peak_memory,
        "hardware": environment["hardware"],
        "processes": environment["processes"],
        "commit": environment["commit"],
        **{f"version_{package}": version for package, version in environment["versions"].items()},
        "config": json.dumps(record.config, sort_keys=True),
    }


def _curve(record: Record, columns: Mapping[str, Sequence[Any]]) -> Table:
    run = {"recipe": record.recipe, "learning_rate": record.learning_rate, "seed": record.seed}
    return [{**run, **dict(zip(columns, values, strict=True))} for values in zip(*columns.values(), strict=True)]


def _aligned(rows: Table) -> Table:
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def _as(value: Any, dtype: str) -> Any:
    """The value itself; as JSON where a column of text holds another."""
    return value if dtype != "string" or value is None or isinstance(value, str) else json.dumps(value)


def _dtype(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    for kind, name in ((bool, "bool"), (str, "string"), (int, "int64")):
        if kinds == {kind}:
            return name
    return "float64" if kinds <= {int, float} else "string"
