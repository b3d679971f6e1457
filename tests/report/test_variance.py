"""scripts/variance.py: the simulation agrees with the formula, and the command writes numbers, table and figures."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import variance
from comparisons import ROOT

from hf_radam.rectification import rho, variance_exact


def test_docstring_examples() -> None:
    found = doctest.testmod(variance)
    assert (found.failed, found.attempted) == (0, 1)


def test_the_simulated_variance_is_that_of_the_formula() -> None:
    """10,000 paths know a variance to about 1.4 %, more where the tail is heavy; the formula is good to 5 % here."""
    steps = [10, 50, 150]
    found = variance.simulate(steps, means=(0.0, 1.0), paths=10_000)
    exact = np.array([variance_exact(rho(step, 0.999)) for step in steps])
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
    # The numbers themselves are those that the script computes.
    near = {name: variance.agree(found["step"], found[name], found["simulated"][0]) for name in variance.FORMULAS}
    assert json.loads(json.dumps(near)) == {name: found["agreement"][name] for name in near}
