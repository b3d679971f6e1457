"""scripts/bf16_weights.py: what the page says of bf16 weights is what the libraries do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from adamw_kernels import needs
from bf16_weights import CONTENDERS, draw, follow, table

from hf_radam.experiments.report.drawing import save

FOLDER = Path(__file__).parents[2] / "docs" / "bf16_weights"
# Of the shares, which stochastic rounding draws anew where a version of PyTorch draws otherwise.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def committed() -> Any:
    return json.loads((FOLDER / "bf16_weights.json").read_text("utf-8"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "contender",
    [
        pytest.param(c, id=c.name, marks=[] if c.package == "torch" else needs(c.package.removeprefix("torch-")))
        for c in CONTENDERS
    ],
)
def test_the_committed_numbers_are_what_happens(contender: Any, committed: Any) -> None:
    row = next(row for row in committed["rows"] if row["optimizer"] == contender.name)
    found = follow(contender, [committed["step"][-1]])
    assert found["moved"][0] == pytest.approx(row["moved"][-1], abs=TOLERANCE)
    assert found["distance"][0] == pytest.approx(row["distance"][-1], abs=TOLERANCE)


def test_rounding_to_the_nearest_loses_what_the_others_keep(committed: Any) -> None:
    share = {row["optimizer"]: row["moved"][-1] for row in committed["rows"]}
    nearest = [share.pop(name) for name in [*share] if "to the nearest" in name]
    assert max(nearest) < 0.05
    assert min(share.values()) > 0.5
    assert table(committed).count("\n| radam") == len(CONTENDERS)


def test_the_figure_is_drawn_for_both_pages(committed: Any, tmp_path: Path) -> None:
    image = save(draw(committed), tmp_path)
    assert min((tmp_path.parent / path).stat().st_size for path in (image.path, image.dark)) > 10_000
