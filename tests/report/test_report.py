"""What a report says: two places of ending, the order of a table, columns that say the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import write_results

from hf_radam.experiments.report.markdown import table_markdown
from hf_radam.experiments.report.report import make_report, to_terminal
from hf_radam.experiments.results import Results


def folder_of(tmp_path: Path, losses: dict[str, list[float | None]]) -> Results:
    return Results.load(write_results(tmp_path / "results", losses))


@pytest.mark.parametrize(
    ("ours", "cell", "sentence"),
    [
        (
            [0.12, 0.80, 0.82],
            "0.120 (1 of 3), 0.810 (2 of 3)",
            "RAdam ends at 0.120 in 1 of 3 seeds and at 0.810 in 2;",
        ),
        ([0.12, 0.13, 0.14], "0.130 ± 0.010", "Tie.** RAdam (0.130 ± 0.010) and Adam"),
        ([0.12, None, 0.12], "0.120 (2 of 3), not finite (1 of 3)", "RAdam diverged in 1 of 3 seeds"),
    ],
)
def test_seeds_that_end_in_two_places_have_no_mean(
    ours: list[float | None], cell: str, sentence: str, tmp_path: Path
) -> None:
    results = folder_of(tmp_path, {"adam_warmup": [0.12, 0.12, 0.12], "radam": ours})
    report = make_report(results)
    row = next(row for row in report.tables[0].rows if row[0] == "radam")
    assert cell in row
    assert sentence in report.verdict.text
    assert sentence.replace("**", "") in to_terminal(report, tmp_path)


def test_tables_are_sorted_and_say_nothing_twice(tmp_path: Path) -> None:
    report = make_report(folder_of(tmp_path, {"adam": [3.0, 3.1], "radam": [0.5, 0.6], "adam_warmup": [0.4, 0.5]}))
    first = report.tables[0]
    assert [row[0] for row in first.rows] == ["adam_warmup", "radam", "adam"]
    assert "**adam_warmup** | **0.450 ± 0.071**" in table_markdown(first)
    assert "diverged" not in first.columns
    assert "No run diverged." in report.notes


@pytest.mark.parametrize(
    ("of_radam", "told"),
    [(2.034, {"adam": "8.00", "radam": "2.03"}), (8.001, {}), (None, {"adam": "8.00", "radam": ""})],
)
def test_state_is_told_where_recipes_differ(of_radam: float | None, told: dict[str, str], tmp_path: Path) -> None:
    results = folder_of(tmp_path, {"adam": [1.0], "radam": [2.0]})
    bytes_of = {"adam": 8.0, "radam": of_radam}
    records = [replace(record, state_bytes_per_parameter=bytes_of[record.recipe]) for record in results.records]
    cost = make_report(replace(results, records=records)).tables[-1]
    column = "optimizer state, bytes a parameter"
    assert (column in cost.columns) == bool(told)
    assert not told or {row[0]: row[cost.columns.index(column)] for row in cost.rows} == told


def test_rates_are_columns(tmp_path: Path) -> None:
    losses: Any = {recipe: {1e-3: [a, a], 2e-3: [b, b]} for recipe, a, b in (("adam", 1.0, 3.0), ("radam", 2.0, 0.5))}
    pivot = make_report(Results.load(write_results(tmp_path / "results", losses))).tables[1]
    assert pivot.columns == ("recipe", "lr 0.001", "lr 0.002")
    assert pivot.rows == (("radam", "2.000 ± 0.000", "0.500 ± 0.000"), ("adam", "1.000 ± 0.000", "3.000 ± 0.000"))
    assert pivot.best == {(1, 1), (0, 2)}


def test_a_terminal_gets_no_control_characters(tmp_path: Path) -> None:
    report = make_report(folder_of(tmp_path, {"adam": [1.0]}))
    text = to_terminal(replace(report, name="\x1b[31mred"), tmp_path)
    assert text.startswith("\\x1b[31mred\n")
    assert all(c.isprintable() or c == "\n" for c in text)
