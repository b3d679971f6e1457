"""scripts/variance.py: the simulation agrees with the formula, and the command writes numbers, table and figures."""

from __future__ import annotations

import doctest
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from comparisons import ROOT

from hf_radam.rectification import rho, variance_exact


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("variance", ROOT / "scripts" / "variance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docstring_examples(script: ModuleType) -> None:
    found = doctest.testmod(script)
    assert (found.failed, found.attempted) == (0, 2)


def test_the_simulated_variance_is_that_of_the_formula(script: ModuleType) -> None:
    """10,000 paths know a variance to about 1.4 %, more where the tail is heavy; the formula is good to 5 % here."""
    steps = [10, 50, 150]
    found = script.simulate(steps, means=(0.0, 1.0), paths=10_000)
    exact = np.array([variance_exact(rho(step, 0.999)) for step in steps])
    assert np.abs(exact / found[0] - 1).max() < 0.12
    assert (found[1] < 0.5 * found[0]).all()
    assert (script.simulate(steps, means=(0.0, 1.0), paths=10_000) == found).all()


def test_the_command(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--output_dir", str(tmp_path), "--paths", "1", "--steps", "50"]) == 0
    found = json.loads((tmp_path / "variance.json").read_text())
    assert len(found["simulated"]) == len(found["mean"]) == 6
    assert script.statement(found) == (tmp_path / "table.md").read_text()
    for name in ("variance", "rectification"):
        assert {f"{name}.png", f"{name}_dark.png"} <= {path.name for path in (tmp_path / "figures").iterdir()}


def test_too_few_steps_are_refused(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--steps", "4"]) == 2
    assert capsys.readouterr().err.endswith("error: --paths must be >= 1 and --steps >= 5\n")


def test_the_committed_table_is_that_of_the_committed_numbers(script: ModuleType) -> None:
    committed = ROOT / "docs" / "variance"
    found = json.loads((committed / "variance.json").read_text())
    assert script.statement(found) == (committed / "table.md").read_text()
