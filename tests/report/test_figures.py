"""Which figures are drawn from which records, and what they say; histograms of gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import record
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from hf_radam.experiments.records import Record
from hf_radam.experiments.report import palette, series
from hf_radam.experiments.report.figures import curves, draw_all, gradients, specify, style, sweeps
from hf_radam.experiments.report.palette import DARK, LIGHT
from hf_radam.experiments.runs.gradients import BINS, HIGH, LOW, SAMPLE, collect, histogram

CURVES = ["evaluation", "gradient_histograms"]
SEVERAL = ["evaluation", "over_seeds", "gradient_histograms"]
RATES = (1e-3, 2e-3)
CASES: dict[str, tuple[list[Record], list[str]]] = {
    "one run": ([record("radam")], CURVES),
    "seeds": ([record("radam", seed=seed, loss=1.0 + seed) for seed in range(3)], SEVERAL),
    "many seeds": ([record("radam", seed=seed, loss=1.0 + seed) for seed in range(7)], SEVERAL),
    "rates": (
        [record(recipe, rate=rate) for recipe in ("adam", "radam") for rate in RATES],
        ["over_learning_rates", "effective_rates", *CURVES],
    ),
    "each recipe its rate": ([record("adam", rate=1e-3), record("radam", rate=2e-3)], CURVES),
    "betas": (
        [
            record(f"{recipe} b2={beta2}", rate=rate, loss=loss, optimizer=recipe, optim_args={"betas": [0.9, beta2]})
            for recipe, loss in (("adam", 3.8), ("radam", 0.2))
            for beta2 in (0.99, 0.999)
            for rate in RATES
        ],
        ["effective_rates"],
    ),
    "diverged": (
        [record("radam", loss=None, value=None, seed=seed) for seed in range(3)] + [record("adam")],
        SEVERAL,
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
        SEVERAL,
    ),
}  # fmt: skip


def drawn(figure: Callable[..., Figure], records: list[Record], **options: Any) -> Figure:
    with style.styled(LIGHT):
        return figure(records, theme=LIGHT, **options)


def points(axes: Axes, marker: str) -> list[tuple[float, float]]:
    """What the lines of a panel with that marker stand at, without their shift along the axis of names."""
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return sorted((round(x), y) for line in lines for x, y in np.asarray(line.get_xydata()).tolist())


@pytest.mark.parametrize("case", CASES)
def test_what_is_drawn(case: str) -> None:
    records, expected = CASES[case]
    found = specify(records, target_loss=1.0)
    assert [spec.name for spec in found] == expected
    for spec in found:
        with style.styled(LIGHT):
            assert spec.draw(LIGHT).get_suptitle().strip()


def test_files_have_palettes_and_a_twin_for_dark_pages(tmp_path: Path) -> None:
    found = draw_all(CASES["seeds"][0], tmp_path, target_loss=1.0)
    assert {f"figures/{path.name}" for path in (tmp_path / "figures").iterdir()} == {
        path for figure in found for path in (figure.path, figure.dark)
    }
    for figure in found:
        for file, theme in ((figure.path, LIGHT), (str(figure.dark), DARK)):
            with Image.open(tmp_path / file) as image:
                assert image.mode == "P"
                assert len(set(image.tobytes())) <= (256 if "gradient_histograms" in file else 64)
                assert image.width == 2 * figure.width
                corner = "#" + image.convert("RGB").tobytes()[:3].hex()
                assert palette.contrast(corner, theme.page) < 1.05, "the page is of its theme"


@pytest.mark.parametrize("case", ["seeds", "rates", "another task"])
def test_each_run_is_a_line_of_its_evaluations(case: str) -> None:
    records, _ = CASES[case]
    name = "token_accuracy" if case == "another task" else "loss"
    figure = drawn(curves.evaluation, records)
    lines = [
        np.asarray(line.get_xydata()).tolist()
        for axes in figure.axes
        if name.replace("_", " ") in axes.get_title(loc="left").lower()
        for line in axes.get_lines()
        if len(np.asarray(line.get_xdata())) > 1 and line.get_linestyle() != ":"
    ]
    wanted = [list(map(list, zip(r.evaluations["step"], r.evaluations[name], strict=True))) for r in records]
    assert sorted(lines) == sorted(wanted)


def test_many_seeds_are_their_median_and_range() -> None:
    records, _ = CASES["many seeds"]
    axes = drawn(curves.evaluation, records).axes[0]
    (line,) = [line for line in axes.get_lines() if line.get_linestyle() != ":"]
    assert np.asarray(line.get_ydata()).tolist() == [4.0, 4.0]
    (band,) = axes.collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 7.0)


def test_one_dot_a_run_over_rates_and_lines_through_medians() -> None:
    losses = (1.0, 2.0, 9.0)
    records = [record("radam", rate=rate, seed=i, loss=loss) for rate in RATES for i, loss in enumerate(losses)]
    axes = drawn(sweeps.over_learning_rates, records).axes[0]
    assert points(axes, "o") == [(place, loss) for place in (0, 1) for loss in losses]
    assert [(0, 2.0), (1, 2.0)] in [
        [(round(x), y) for x, y in np.asarray(line.get_xydata()).tolist()]
        for line in axes.get_lines()
        if line.get_marker() == "None"
    ]
    assert axes.get_yscale() == "log"


def test_names_at_the_ends_do_not_overlap() -> None:
    """Without the hairs that lead to the lines, which are a part of an annotation."""
    records = [record(f"recipe {i}", optimizer=f"optimizer{i}", loss=1.0 + i / 100) for i in range(12)]
    figure = drawn(curves.evaluation, records)
    figure.canvas.draw()
    boxes = sorted([Text.get_window_extent(text).y0, Text.get_window_extent(text).y1] for text in figure.axes[0].texts
                   if text.get_text().startswith("recipe"))  # fmt: skip
    assert len(boxes) == 12
    assert all(above[0] >= below[1] - 1 for below, above in pairwise(boxes))


def test_curves_of_every_tenth_update_are_those_of_all_of_them() -> None:
    steps = range(1, 101)
    curves: dict[str, Any] = {
        "step": steps, "loss": [200.0 - step for step in steps], "learning_rate": [step * 1e-5 for step in steps],
    }  # fmt: skip
    whole = replace(record("adam", optim_args={"freeze_steps": 15}), curves={k: list(v) for k, v in curves.items()})
    thinned = replace(whole, curves={name: column[9::10] for name, column in whole.curves.items()})
    rates = [dict(zip(c.steps, c.values, strict=True)) for c in map(series.relative_rate, (thinned, whole))]
    assert rates[0] == {step: rates[1][step] for step in range(10, 101, 10)}
    assert rates[0][10] == 0 < rates[0][20]
    losses = series.training_loss(thinned)
    assert [abs(value - (200 - step)) < 10 for step, value in zip(losses.steps, losses.values, strict=True)] == [
        True
    ] * 10


def test_records_may_lack_histograms() -> None:
    names = [spec.name for spec in specify([replace(record("radam"), gradients=None)], None)]
    assert "gradient_histograms" not in names


def test_failed_runs_are_counted_beside_the_recipe() -> None:
    figure = drawn(sweeps.over_seeds, CASES["another task"][0])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["adam, failed 3 of 3", "radam, failed 3 of 3"]


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
    figure = drawn(gradients.gradient_histograms, [record("radam")])
    line = figure.axes[0].get_lines()[0]
    assert np.allclose(np.asarray(line.get_ydata(), dtype=float), (LOW + HIGH) / 2)  # equal counts in all bins
