"""What a report says: means, tests, the choice of a learning rate, two places of ending, columns that say the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up import read, record, write_results

from hf_radam.experiments.report import statistics
from hf_radam.experiments.report.markdown import table_markdown
from hf_radam.experiments.report.report import make_report, to_markdown, to_terminal
from hf_radam.experiments.results import Results


def folder_of(tmp_path: Path, losses: dict[str, Any]) -> Results:
    return Results.load(write_results(tmp_path / "results", losses))


def test_recipes_of_a_seed_start_alike_or_not() -> None:
    same = [record(recipe, seed=seed) for recipe in ("adam", "radam") for seed in (0, 1)]
    other = record("radam", seed=1)
    other = replace(other, curves={**other.curves, "loss": [4.1, 3.0, 2.0, 1.0]})
    broken = replace(other, curves={**other.curves, "loss": [None, None, None, None]})
    assert read(same).same_start
    assert read([*same, broken]).same_start, "NaN is no other start"
    assert not read([*same, other]).same_start
    assert not read([broken]).same_start


@pytest.mark.parametrize(
    ("values", "higher_is_better", "middle"),
    [
        ([3.0, 1.0, 2.0], True, 2.0),
        ([3.0, math.nan, 2.0], False, 3.0),
        ([3.0, math.nan, 2.0], True, 2.0),
        ([3.0, math.nan], False, math.nan),
    ],
)
def test_a_run_without_a_number_is_the_worst(values: list[float], higher_is_better: bool, middle: float) -> None:
    found = statistics.middle(pd.Series(values), higher_is_better=higher_is_better)
    assert found == pytest.approx(middle, nan_ok=True)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.1] * 5, None),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2 / 64),
        ([-0.1, -0.2, -0.3, -0.4, -0.5, -0.6], 2 / 64),
        ([0.1, 0.2, 0.3, 0.4, 0.5, -0.05], 4 / 64),  # only this and all positive are as far from 0
        ([1.0, -1.0] * 3, 1.0),
        ([0.1] * 6 + [math.nan], None),
        ([0.1 * i for i in range(1, 13)], 2 / 2**12),
    ],
)
def test_sign_flips(differences: list[float], p: float | None) -> None:
    assert statistics.sign_flip_p(differences) == (None if p is None else pytest.approx(p))


def column(results: Results, head: str, at: int = 0) -> dict[str, str]:
    """A column of a table, by recipe."""
    table = make_report(results).tables[at]
    return {row[0]: row[table.columns.index(head)] for row in table.rows}


@pytest.mark.parametrize("seeds", [3, 6])
def test_recipes_are_compared_seed_by_seed(seeds: int) -> None:
    ends = [("adam_warmup", 1.0), ("radam", 1.5)]
    found = read(record(recipe, seed=seed, loss=end + seed) for recipe, end in ends for seed in range(seeds))
    assert column(found, "difference") == {"adam_warmup": "", "radam": "+0.500"}
    assert ("p" in make_report(found).tables[0].columns) == (seeds == 6)
    if seeds == 6:
        assert column(found, "p") == {"adam_warmup": "", "radam": "0.031"}


def test_the_best_rate_is_chosen_by_validation() -> None:
    runs = [
        record("radam", rate=rate, seed=seed, loss=loss, validation=validation)
        for rate, loss, validation in ((1e-3, 0.1, 2.0), (2e-3, 0.5, 1.0), (4e-3, 0.0, None), (8e-3, None, 0.5))
        for seed in (0, 1)
    ]
    radam, baseline = read([*runs, record("adam_warmup", rate=8e-3, seed=0, loss=0.25)]).best_rows
    found = [(statistics.name(row), statistics.rate(row), len(row)) for row in (radam, baseline)]
    assert found == [("radam", 2e-3, 2), ("adam_warmup", 8e-3, 1)]
    both = radam.merge(baseline, on="seed")  # best against best, for the seed that both have
    assert list(both.value_x - both.value_y) == [0.25]


def test_a_metric_that_evaluations_hold_decides() -> None:
    found = read(
        record("radam", rate=rate, loss=loss, metric="token_accuracy", value=value, validated_metric=value)
        for rate, loss, value in ((1e-3, 0.1, 0.7), (2e-3, 0.5, 0.9))
    )
    assert (found.selection, found.best_run().learning_rate) == ("token_accuracy", 2e-3)


@pytest.mark.parametrize(
    ("values", "cell"), [((0.5, 0.9, None, 0.4), "✗ 3/4"), ((0.5,), "✗"), ((0.6, 0.7, 0.8, 0.9), "")]
)
def test_failures_are_counted(values: tuple[float | None, ...], cell: str) -> None:
    """Beside a recipe with one failed run, so that the column stays."""
    runs = [
        record(recipe, seed=seed, metric="token_accuracy", value=value, facts={"majority_class": 0.5})
        for recipe, of in (("adam", values), ("radam", (0.2, 0.6)))
        for seed, value in enumerate(of)
    ]
    assert column(read(runs), "failed") == {"adam": cell, "radam": "✗ 1/2"}


def test_unequal_effort_is_said() -> None:
    runs = [record("adam_warmup", rate=rate, seed=s) for rate in (1e-3, 2e-3) for s in (0, 1)] + [record("radam")]
    text = to_markdown(make_report(read(runs)))
    assert "Unequal numbers of learning rates, which favours those with more: 2 for adam_warmup, 1 for radam." in text
    assert "Unequal numbers of seeds (the comparison is not finished): 1 settings have 1, 2 settings have 2." in text
    assert text.index("best learning rate") < text.index("All learning rates")
    assert "Unequal" not in to_markdown(make_report(read([record("adam_warmup"), record("radam")])))


@pytest.mark.parametrize(
    ("ours", "cell", "said"),
    [
        ([0.12, 0.80, 0.82], "0.120 (1 of 3), 0.810 (2 of 3)", "RAdam: 0.120 (1 of 3), 0.810 (2 of 3);"),
        ([0.12, 0.13, 0.14], "0.130 ± 0.010", "Tie.** RAdam (0.130 ± 0.010) and Adam"),
        ([0.12, None, 0.12], "0.120 (2 of 3), not finite (1 of 3)", "RAdam: 0.120 (2 of 3), not finite (1 of 3)"),
    ],
)
def test_seeds_that_end_in_two_places_have_no_mean(ours: Any, cell: str, said: str, tmp_path: Path) -> None:
    report = make_report(folder_of(tmp_path, {"adam_warmup": [0.12, 0.12, 0.12], "radam": ours}))
    assert cell in next(row for row in report.tables[0].rows if row[0] == "radam")
    assert said in " ".join(report.verdict)
    assert said.replace("**", "") in to_terminal(report, tmp_path)


def test_tables_are_sorted_and_say_nothing_twice(tmp_path: Path) -> None:
    report = make_report(folder_of(tmp_path, {"adam": [3.0, 3.1], "radam": [0.5, 0.6], "adam_warmup": [0.4, 0.5]}))
    first = report.tables[0]
    assert [row[0] for row in first.rows] == ["adam_warmup", "radam", "adam"]
    assert "**adam_warmup** | **0.450 ± 0.071**" in table_markdown(first)
    assert "diverged" not in first.columns
    assert "; 0 of 6 runs diverged." in to_markdown(report)


def test_state_is_told_where_it_was_measured() -> None:
    measured = {"adam": 8.0, "radam": 2.034, "adam_eps": None}
    found = read(replace(record(recipe), state_bytes_per_parameter=of) for recipe, of in measured.items())
    told = {"adam": "8.00", "radam": "2.03", "adam_eps": ""}
    assert column(found, "optimizer state, bytes a parameter", at=-1) == told
    assert make_report(read([record("adam")])).tables[-1].columns == ("recipe", "s/step", "peak memory")


def test_rates_are_columns(tmp_path: Path) -> None:
    losses = {recipe: {1e-3: [a, a], 2e-3: [b, b]} for recipe, a, b in (("adam", 1.0, 3.0), ("radam", 2.0, 0.5))}
    pivot = make_report(folder_of(tmp_path, losses)).tables[1]
    assert pivot.columns == ("recipe", "lr 0.001", "lr 0.002")
    assert pivot.rows == (("radam", "2.000 ± 0.000", "0.500 ± 0.000"), ("adam", "1.000 ± 0.000", "3.000 ± 0.000"))
    assert pivot.best == {(1, 1), (0, 2)}


def test_a_terminal_gets_no_control_characters(tmp_path: Path) -> None:
    text = to_terminal(replace(make_report(read([record("adam")])), name="\x1b[31mred"), tmp_path)
    assert text.startswith("\\x1b[31mred\n")
    assert all(c.isprintable() or c == "\n" for c in text)
