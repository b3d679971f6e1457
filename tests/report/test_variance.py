"""scripts/variance.py: the simulation agrees with the formula, and the command writes numbers, table and figures."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import variance
from comparisons import ROOT

from hf_radam.rectification import rho, rho_inf, variance_ratio


def test_docstring_examples() -> None:
    found = doctest.testmod(variance)
    assert (found.failed, found.attempted) == (0, 1)


@pytest.mark.parametrize("degrees", [6, 10, 30])
def test_the_exact_formula_is_that_of_samples(degrees: int) -> None:
    gradients = np.random.default_rng(0).standard_normal((50_000, degrees))
    psi = np.sqrt(degrees / np.square(gradients).sum(1))
    assert psi.var() == pytest.approx(variance.variance_exact(degrees), rel=0.1)


def test_the_first_order_is_near_where_the_paper_draws_it_near() -> None:
    exact, first_order = variance.variance_exact, variance.variance_first_order
    assert first_order(1999) == pytest.approx(exact(1999), rel=0.01)
    assert first_order(16) == pytest.approx(exact(16), rel=0.25)
    assert first_order(5) > 2 * exact(5)
    # r_t is the square root of the ratio of two first-order variances.
    rho_t, limit = rho(100, 0.999), rho_inf(0.999)
    assert variance_ratio(rho_t, limit) == pytest.approx(first_order(limit) / first_order(rho_t), rel=1e-12)


def test_the_simulated_variance_is_that_of_the_formula() -> None:
    """10,000 paths know a variance to about 1.4 %, more where the tail is heavy; the formula is good to 5 % here."""
    steps = [10, 50, 150]
    found = variance.simulate(steps, means=(0.0, 1.0), paths=10_000)
    exact = np.array([variance.variance_exact(rho(step, 0.999)) for step in steps])
    assert np.abs(exact / found[0] - 1).max() < 0.12
    assert (found[1] < 0.5 * found[0]).all()
    assert (variance.simulate(steps, means=(0.0, 1.0), paths=10_000) == found).all()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variance.main(["--output_dir", str(tmp_path), "--paths", "1", "--steps", "50"])
    found = json.loads((tmp_path / "variance.json").read_text())
    assert len(found["simulated"]) == len(found["mean"]) == 6
    assert variance.statement(found) == (tmp_path / "table.md").read_text()
    for name in ("variance", "rectification"):
        assert {f"{name}.png", f"{name}_dark.png"} <= {path.name for path in (tmp_path / "figures").iterdir()}
    with pytest.raises(SystemExit, match="2"):
        variance.main(["--steps", "4"])
    assert "--paths must be >= 1 and --steps >= 5, got 100000 and 4\n" in capsys.readouterr().err


def test_the_committed_table_is_that_of_the_committed_numbers() -> None:
    found = json.loads((ROOT / "docs" / "variance" / "variance.json").read_text())
    assert variance.statement(found) == (ROOT / "docs" / "variance" / "table.md").read_text()
