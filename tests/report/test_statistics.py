"""Means, tests, the choice of a learning rate, and what the report says about them; on made-up records."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
from made_up import read, record

from hf_radam.experiments.report import statistics
from hf_radam.experiments.report.report import make_report, to_markdown
from hf_radam.experiments.report.tables import tables


def test_recipes_of_a_seed_start_alike_or_not() -> None:
    same = [record(recipe, seed=seed) for recipe in ("adam", "radam") for seed in (0, 1)]
    other = record("radam", seed=1)
    other = replace(other, curves={**other.curves, "loss": [4.1, 3.0, 2.0, 1.0]})
    broken = replace(other, curves={**other.curves, "loss": [None, None, None, None]})
    assert read(same).same_start
    assert read([*same, broken]).same_start, "NaN is no other start"
    assert not read([*same, other]).same_start
    assert not read([broken]).same_start


def test_mean_and_spread() -> None:
    told = [statistics.spread(pd.Series([1.0, 3.0, 5.0][:n]), 2) for n in (1, 2, 3)]
    assert told == ["1.00", "2.00 ± 1.41", "3.00 ± 2.00"]


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


def test_recipes_are_compared_seed_by_seed() -> None:
    runs = [record("adam_warmup", seed=seed, loss=1.0 + seed) for seed in range(6)]
    runs += [record("radam", seed=seed, loss=1.5 + seed) for seed in range(6)]
    table = tables(read(runs))[0][0]
    cells = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert cells["radam"]["difference"] == "+0.500"
    assert cells["radam"]["p"] == "0.031"
    assert cells["adam_warmup"]["difference"] == cells["adam_warmup"]["p"] == ""


def test_the_best_rate_is_chosen_by_validation() -> None:
    runs = [
        record("radam", rate=rate, seed=seed, loss=loss, validation=validation)
        for rate, loss, validation in ((1e-3, 0.1, 2.0), (2e-3, 0.5, 1.0), (4e-3, 0.0, None), (8e-3, None, 0.5))
        for seed in (0, 1)
    ]
    runs.append(record("adam_warmup", rate=8e-3, seed=0, loss=0.25))
    found = read(runs)
    radam, baseline = found.best_rows
    assert [(row.recipe.iat[0], row.learning_rate.iat[0], len(row)) for row in (radam, baseline)] == [
        ("radam", 2e-3, 2), ("adam_warmup", 8e-3, 1)
    ]  # fmt: skip
    both = statistics.pairs(radam, baseline)  # best against best, for the seed that both have
    assert list(both.value_x - both.value_y) == [0.25]


def test_a_metric_that_evaluations_hold_decides() -> None:
    runs = [
        record("radam", rate=rate, loss=loss, metric="token_accuracy", value=value, validated_metric=value)
        for rate, loss, value in ((1e-3, 0.1, 0.7), (2e-3, 0.5, 0.9))
    ]
    found = read(runs)
    assert found.selection == "token_accuracy"
    assert found.best_run().learning_rate == 2e-3


def test_failures_are_counted() -> None:
    values = (0.5, 0.9, None, 0.4)
    runs = [
        record("adam", seed=seed, metric="token_accuracy", value=value, facts={"majority_class": 0.5})
        for seed, value in enumerate(values)
    ]
    assert list(read(runs).runs.failed) == [True, False, True, True]


@pytest.mark.parametrize("seeds", [3, 6])
def test_no_p_below_six_seeds(seeds: int) -> None:
    runs = [record(recipe, seed=s, loss=1.0 + s) for recipe in ("adam_warmup", "radam") for s in range(seeds)]
    text = to_markdown(make_report(read(runs)))
    assert ("no claim of significance" in text) == (seeds < 6)
    assert ("| p |" in text) == (seeds >= 6)
    assert ("sign-flip test" in text) == (seeds >= 6)


def test_unequal_effort_is_said() -> None:
    runs = [record("adam_warmup", rate=rate, seed=s) for rate in (1e-3, 2e-3) for s in (0, 1)] + [record("radam")]
    text = to_markdown(make_report(read(runs)))
    assert "Unequal numbers of learning rates, which favours those with more: 2 for adam_warmup, 1 for radam." in text
    assert "Unequal numbers of seeds (the comparison is not finished): 1 settings have 1, 2 settings have 2." in text
    assert text.index("best learning rate") < text.index("All learning rates")
    assert "Unequal" not in to_markdown(make_report(read([record("adam_warmup"), record("radam")])))
