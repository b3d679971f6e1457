"""A grid of beta2 and learning rate: where each recipe works, and equal effective rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from made_up import read, record

from hf_radam.experiments.records import Record
from hf_radam.experiments.report import rates
from hf_radam.experiments.report.report import make_report
from hf_radam.experiments.report.verdict import grid_sentences

RATES, BETAS = (1e-3, 2e-3, 5e-3), (0.98, 0.99, 0.999)


def made(loss: Callable[[str, float, float, int], float], rates: tuple[float, ...] = RATES) -> list[Record]:
    """Runs of two recipes whose final losses are a function of recipe, beta2, rate and seed."""
    return [
        record(f"{recipe} b2={beta2:g}", rate=rate, seed=seed, loss=loss(recipe, beta2, rate, seed), optimizer=recipe,
               optim_args={"betas": [0.9, beta2]})
        for recipe in ("adam", "radam") for beta2 in BETAS for rate in rates for seed in range(3)
    ]  # fmt: skip


def larger_beta2_bears_higher_rates(recipe: str, beta2: float, rate: float, seed: int) -> float:
    """Adam works at 1e-3 alone, RAdam also at 2e-3, and from 0.99 on at 5e-3 but for one seed at 0.99."""
    if recipe == "adam":
        return 0.2 if rate < 2e-3 else 3.8
    works = rate < 5e-3 or beta2 > 0.99 or (beta2 == 0.99 and seed)
    return 0.12 + seed / 100 if works else 0.8


def test_how_widely_each_recipe_works() -> None:
    assert grid_sentences(read(made(larger_beta2_bears_higher_rates))) == [
        "**Works most widely: RAdam.**",
        "All seeds end within 0.1 (0.03) of the best median eval loss at that learning rate: Adam in 3 (0) of 9, "
        "RAdam in 7 (7) of 9 settings.",
        "Best settings: Adam 0.200 (lr 0.001, beta2 0.98), RAdam 0.130 (lr 0.001, beta2 0.98).",
    ]  # fmt: skip
    nearly = made(lambda recipe, beta2, rate, seed: 0.15 if recipe == "adam" and rate > 1e-3 else 0.1)
    said = grid_sentences(read(nearly))
    assert said[0] == "**No clear winner.**", "Adam is within 0.1 everywhere"


def test_a_row_for_each_family_and_beta2() -> None:
    report = make_report(read(made(larger_beta2_bears_higher_rates)))
    (table,) = report.tables
    assert table.columns == ("recipe", "beta2", "lr 0.001", "lr 0.002", "lr 0.005")
    bold = [tuple(f"**{cell}**" * ((i, j) in table.best) or cell for j, cell in enumerate(row))
            for i, row in enumerate(table.rows)]  # fmt: skip
    assert bold[1:] == [
        ("Adam", "0.99", "**0.200**", "3.800 ✗ 3/3", "3.800 ✗ 3/3"),
        ("Adam", "0.999", "**0.200**", "3.800 ✗ 3/3", "3.800 ✗ 3/3"),
        ("RAdam", "0.98", "**0.130**", "**0.130**", "0.800 ✗ 3/3"),
        ("RAdam", "0.99", "**0.130**", "**0.130**", "0.140 ✗ 1/3"),
        ("RAdam", "0.999", "**0.130**", "**0.130**", "**0.130**"),
    ]
    assert report.verdict[0] == "**Works most widely: RAdam.**"


def test_one_beta2_or_few_settings_make_no_grid() -> None:
    runs = made(larger_beta2_bears_higher_rates)
    assert not read(run for run in runs if run.recipe.endswith("b2=0.98")).is_grid
    assert not read(run for run in runs if run.learning_rate == 1e-3).is_grid
    few = (run for run in runs if not run.recipe.endswith("b2=0.98") and run.learning_rate < 5e-3)
    assert read(few).is_grid


def effective(recipe: str, rate: float, loss: float | None, beta2: float = 0.99, share: float = 1.0) -> Record:
    """A run that spends a share of its learning rate on average, by a curve that is thinned after the first updates."""
    made_up = record(f"{recipe} b2={beta2:g}", rate=rate, loss=loss, optimizer=recipe.partition("_")[0],
                     optim_args={"betas": [0.9, beta2]}, warmup="linear" if "_" in recipe else "none",
                     warmup_steps=10 if "_" in recipe else 0, max_steps=21)  # fmt: skip
    steps = [1, 2, 3, 11, 21]
    curve: dict[str, list[float | None]] = {"step": [*steps], "loss": [4.0] * 5}
    curve["learning_rate"] = [2 * rate * (21 - step) / 20 for step in steps]  # a line from twice the rate to 0
    if recipe == "radam":
        curve["rectification"] = [share] * 5
    return replace(made_up, curves=curve)


LEVEL = ((2e-3, 0.2), (4e-3, 0.42))
ADAM = [effective("adam", rate, loss) for rate, loss in ((1e-3, 0.2), (2e-3, 0.4), (4e-3, 3.8))]
# RAdam's share of the rate, its learning rate and loss; what is counted
DUELS: dict[str, tuple[list[tuple[float, float, float | None]], dict[str, int]]] = {
    "on the line": ([(0.5, 2e-3, 0.2), (0.5, 4e-3, 0.42)], {"level": 2}),
    "better than both neighbours": ([(0.7, 4e-3, 0.15)], {"ahead": 1}),
    "far from the line, between its neighbours": ([(0.7, 4e-3, 0.5)], {"undecided": 1}),
    "worse than both": ([(0.7, 2e-3, 1.0)], {"behind": 1}),
    "near, not level": ([(0.5, 2e-3, 0.26)], {"undecided": 1}),
    "both fail": ([(0.99, 4e-3, 3.7)], {"both fail": 1}),
    "diverged where the line does not": ([(0.7, 2e-3, None)], {"behind": 1}),
    "slower and faster than any": ([(0.5, 1e-3, 0.1), (1.0, 8e-3, 3.8)], {"outside": 2}),
}


@pytest.mark.parametrize("case", DUELS)
def test_recipes_at_equal_effective_rates(case: str) -> None:
    settings, counts = DUELS[case]
    ours = (effective("radam", rate, loss, share=share) for share, rate, loss in settings)
    (found,) = rates.duels(read([*ADAM, *ours])).values()
    assert found == counts


def test_the_mean_rate_is_that_of_all_updates() -> None:
    """Thinned or not; of a curve that ends early it is that of the updates that it has."""
    short = {name: column[:3] for name, column in ADAM[0].curves.items()}
    runs = [ADAM[0], effective("radam", 1e-3, 0.1, share=0.5), replace(ADAM[0], curves=short)]
    assert list(read(runs).runs.rate) == pytest.approx([1e-3, 5e-4, 1.9e-3])


def test_a_sentence_for_each_pair() -> None:
    ours = [effective("radam", rate, loss, share=0.7) for rate, loss in ((2e-3, 1.0), (4e-3, 0.15))]
    said, level = "At equal effective rates RAdam", [effective("radam", *of, share=0.5) for of in LEVEL]
    for found, text in (
        (ours, "wins and loses against Adam: ahead in 1, behind in 1 of 2 settings."),
        (level, "coincides with Adam, so its start is a smaller rate and no more: level in 2 of 2 settings."),
        ([effective("radam", 8e-3, 3.8)], "and Adam stay undecided: no setting to compare."),
    ):
        assert rates.sentences(read([*ADAM, *found])) == [f"{said} {text}"]


def test_the_best_rates() -> None:
    """Edges of what was tried are bounds; a warmup's length is told apart from its label, whatever its name."""
    runs = [*ADAM, *(effective("radam", rate, loss) for rate, loss in ((2e-3, 0.3), (4e-3, 0.2), (8e-3, 1.0)))]
    runs += [effective("adam_any", rate, loss) for rate, loss in ((2e-3, 0.2), (4e-3, 0.1))]
    found = read(runs)
    table, said = rates.best_rates({"task": found})
    assert table.rows == (("task", "0.99", "0.004", "≤ 0.001", "≥ 4", "≥ 0.004", "≤ 1", "1"),)
    assert "is 4 to 4 times that of Adam without warmup (median 4 in 1 rows) and 1 to 1 times that" in said
    assert list(rates.duels(found)) == ["Adam", "48 % warmup"]
