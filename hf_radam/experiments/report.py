"""A results folder -> table.md, summary.json and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_radam.experiments import figures, statistics
from hf_radam.experiments.config import UserError
from hf_radam.experiments.records import Record, load_records, write_atomically

# Two-sided sign-flip tests of fewer pairs cannot give p < 0.05.
SEEDS_FOR_SIGNIFICANCE = 6


def write_report(folder: Path, output_dir: Path | None = None) -> Path:
    """Write the report of all records in a results folder.

    Args:
        folder: a results folder of `scripts/compare.py`.
        output_dir: where to write; the folder itself by default.

    Returns:
        The path of table.md; summary.json and figures/ lie beside it.

    Raises:
        UserError: the folder holds no comparison, or no record.
    """
    description = folder / "comparison.json"
    try:
        comparison = json.loads(description.read_text(encoding="utf-8"))
        name, target_loss = comparison["name"], comparison["target_loss"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is no results folder of scripts/compare.py: {description} is missing or damaged"
        ) from error
    records = _in_order(load_records(folder), list(comparison.get("recipes", {})))
    output_dir = output_dir or folder
    rows = statistics.summarise(records, target_loss)
    drawn = figures.draw_all(records, output_dir / "figures", target_loss=target_loss, metric=records[0].metric)
    summary = {"name": name, "target_loss": target_loss, "facts": records[0].facts, "rows": statistics.as_json(rows)}
    write_atomically(output_dir / "summary.json", json.dumps(summary, indent=2) + "\n")
    path = output_dir / "table.md"
    write_atomically(path, _markdown(name, records, statistics.table(rows, target_loss, records[0].metric), drawn))
    return path


def _markdown(name: str, records: list[Record], table: str, drawn: list[str]) -> str:
    first = records[0]
    rates = ", ".join(f"{rate:g}" for rate in sorted({record.learning_rate for record in records}))
    seeds = sorted({record.seed for record in records})
    constant = first.facts.get("unigram_entropy")
    batch = f"{first.config['batch_size']} examples" if "batch_size" in first.config else (
        f"{first.config['tokens_per_batch']} tokens")  # fmt: skip
    notes = [
        f"Loss: evaluation, {first.loss_unit}, without label smoothing."
        + (
            f" Always predicting the token frequencies of the training target costs about {constant:.2f} "
            "(constant prediction)."
            if constant is not None
            else ""
        ),
        f"Seeds {', '.join(map(str, seeds))}; {first.config['max_steps']} updates of {batch}; learning rate {rates}.",
        "Short runs compare learning rates as much as optimizers: RAdam and warmup spend less of the schedule's area.",
        "± is the sample standard deviation over seeds; the interval is Student's t.",
        *(f"{line}." for line in sorted({_environment(record.environment) for record in records})),
    ]
    if len(seeds) < SEEDS_FOR_SIGNIFICANCE:
        notes.insert(2, f"Fewer than {SEEDS_FOR_SIGNIFICANCE} seeds: no claim of significance.")
    lines = [f"# {name}", "", table, "", *(f"- {note}" for note in notes), ""]
    lines += [f"![{figure.replace('_', ' ')}](figures/{figure}.png)" for figure in drawn]
    return "\n".join(lines) + "\n"


def _environment(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in environment["versions"].items() if version)
    return (
        f"{environment['hardware']}, {environment['processes']} process(es) of {environment['threads']} thread(s); "
        f"{versions}; commit {environment['commit']}"
    )


def _in_order(records: list[Record], recipes: list[str]) -> list[Record]:
    order = {name: position for position, name in enumerate(recipes)}
    return sorted(records, key=lambda record: (order.get(record.recipe, len(order)), record.recipe))
