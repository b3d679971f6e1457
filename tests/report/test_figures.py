"""Which figures are drawn from which records, and what they say; histograms of gradients; the simulated variance."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparisons import ROOT
from made_up import record

from hf_radam.experiments.records import Record
from hf_radam.experiments.report.figures import draw_all, gradients, style, sweeps
from hf_radam.experiments.runs.gradients import BINS, HIGH, LOW, SAMPLE, collect, histogram
from hf_radam.experiments.variance import simulate
from hf_radam.rectification import rho, variance_exact

CURVES = ["training_loss", "evaluation", "effective_learning_rate", "gradient_histograms"]
RATES = (1e-3, 2e-3)
CASES: dict[str, tuple[list[Record], list[str]]] = {
    "one run": ([record("radam")], CURVES),
    "seeds": ([record("radam", seed=seed) for seed in range(3)], ["over_seeds", *CURVES]),
    "rates": (
        [record(recipe, rate=rate) for recipe in ("adam", "radam") for rate in RATES],
        ["over_learning_rates", *(f"{name}_lr{rate:g}" for rate in RATES for name in CURVES)],
    ),
    "each recipe its rate": ([record("adam", rate=1e-3), record("radam", rate=2e-3)], CURVES),
    "warmup lengths": (
        [
            record("radam"),
            *(record(f"w{n}", warmup="linear", warmup_steps=n, loss=n / 100) for n in (100, 200)),
            record("adam"),
        ],
        ["over_warmup_lengths", *CURVES],
    ),
    "diverged": (
        [record("radam", loss=None, value=None, seed=seed) for seed in range(3)] + [record("adam")],
        ["over_seeds", *CURVES],
    ),
    "another task": (
        [
            record(
                recipe, seed=seed, metric="token_accuracy", value=0.4, validated_metric=0.4,
                facts={"majority_class": 0.5},
            )
            for recipe in ("adam", "radam")
            for seed in range(3)
        ],
        ["over_seeds", *CURVES],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_drawn(case: str, tmp_path: Path) -> None:
    records, expected = CASES[case]
    assert draw_all(records, tmp_path, target_loss=1.0) == expected
    for name in expected:
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
        assert (tmp_path / f"{name}.svg").read_text().startswith("<?xml")


def test_records_may_lack_histograms(tmp_path: Path) -> None:
    bare = replace(record("radam"), gradients=None)
    assert "gradient_histograms" not in draw_all([bare], tmp_path, None)


def test_failed_runs_are_counted_below_the_seeds() -> None:
    figure = style.styled(sweeps.over_seeds)(CASES["another task"][0])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["adam\nfailed 3 of 3", "radam\nfailed 3 of 3"]


def test_warmup_lengths_are_those_of_one_optimizer() -> None:
    swept = sweeps.warmup_sweep(CASES["warmup lengths"][0])
    assert sorted(r.recipe for r in swept) == ["adam", "w100", "w200"]
    assert sweeps.warmup_sweep([record("radam"), record("adam"), record("adam_untuned_linear")]) == []


def test_what_the_figure_over_warmup_lengths_says() -> None:
    """Shares are lengths, and each other recipe has its colour and each rate its dashes."""
    swept = [record(f"w{steps}", warmup="linear" if steps else "none", warmup_steps=steps) for steps in (0, 0.25, 2)]
    others = [record(recipe, rate=rate, optimizer=recipe) for recipe in ("radam", "adam_2k") for rate in RATES]
    figure = sweeps.over_warmup_lengths([*swept, *others])
    loss = figure.axes[0]
    updates = len(swept[0].curves["step"])
    assert [label.get_text() for label in loss.get_xticklabels()] == ["0", *map(str, sorted((2, -(-updates // 4))))]
    level = {str(line.get_label()): line for line in loss.get_lines() if "lr 0.00" in str(line.get_label())}
    lines = {
        f"{recipe}, lr {rate:g}": level[f"{recipe}, lr {rate:g}"] for recipe in ("radam", "adam_2k") for rate in RATES
    }
    assert len({(line.get_color(), line.get_linestyle()) for line in lines.values()}) == 4


def test_histogram_counts_each_gradient_in_its_bin() -> None:
    values = [10.0**exponent for exponent in (-11.9, -3.1, -3.1, 3.9)]
    counts = histogram([torch.tensor(values[:2]), -torch.tensor([values[2:], [0.0, float("nan")]])])
    assert counts.sum() == 4
    width = (HIGH - LOW) / BINS
    for exponent, count in ((-11.9, 1), (-3.1, 2), (3.9, 1)):
        assert counts[int((exponent - LOW) / width)] == count


def test_of_many_gradients_a_sample_is_counted() -> None:
    large = torch.full((3, SAMPLE), 1e-3)
    large[:, 1::2] = 1e-6
    counts = histogram([large, torch.ones(2)])
    assert counts.sum() <= SAMPLE + 2
    width = (HIGH - LOW) / BINS
    shares = [counts[int((exponent - LOW + width / 2) / width)] / counts.sum() for exponent in (-3, -6)]
    assert shares == pytest.approx([0.5, 0.5], abs=1e-3)


def test_of_a_resumed_run_the_later_histogram_counts() -> None:
    log = [{"step": step, "loss": 1.0, "gradient_histogram": [value]} for step, value in ((1, 1), (2, 2), (2, 3))]
    found = collect([*log, {"step": 3, "loss": 1.0}])
    assert (found["step"], found["counts"]) == ([1, 2], [[1], [3]])


def test_medians_and_borders_of_the_heat_map() -> None:
    figure = gradients.gradient_histograms([record("radam")])
    line = figure.axes[0].get_lines()[0]
    assert np.allclose(np.asarray(line.get_ydata(), dtype=float), (LOW + HIGH) / 2)  # equal counts in all bins


@pytest.mark.parametrize("steps", [[10, 50, 150]])
def test_the_simulated_variance_is_that_of_the_formula(steps: Sequence[int]) -> None:
    """10,000 paths know a variance to about 1.4 %, more where the tail is heavy; the formula is good to 5 % here."""
    found = simulate(steps, means=(0.0, 1.0), paths=10_000)
    exact = np.array([variance_exact(rho(step, 0.999)) for step in steps])
    assert np.abs(exact / found[0] - 1).max() < 0.12
    assert (found[1] < 0.5 * found[0]).all()
    assert (simulate(steps, means=(0.0, 1.0), paths=10_000) == found).all()


def test_variance_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("variance", ROOT / "scripts" / "variance.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--output_dir", str(tmp_path), "--paths", "1", "--steps", "50"]) == 0
    found = json.loads((tmp_path / "variance.json").read_text())
    assert len(found["simulated"]) == len(found["mean"]) == 6
    assert script.statement(found) == (tmp_path / "table.md").read_text()
    for name in ("variance", "rectification"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5_000
    assert script.main(["--steps", "4"]) == 2
    assert capsys.readouterr().err.endswith("error: --paths must be >= 1 and --steps >= 5\n")
    committed = ROOT / "model_cards" / "variance"
    assert (
        script.statement(json.loads((committed / "variance.json").read_text())) == (committed / "table.md").read_text()
    )
