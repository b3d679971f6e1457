"""Which charts are drawn from which records, and what they say; histograms of gradients; colours of recipes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import read, record
from PIL import Image

from hf_radam.experiments.records import Record
from hf_radam.experiments.report import charts, drawing, page
from hf_radam.experiments.report.drawing import CONTRAST, DARK, LIGHT, Theme
from hf_radam.experiments.report.report import draw
from hf_radam.experiments.runs.gradients import BINS, HIGH, LOW, SAMPLE, collect, histogram

CURVES = ["evaluation", "gradient_histograms"]
SEVERAL = ["evaluation", "over_seeds", "gradient_histograms"]
RATES = (1e-3, 2e-3)
CASES: dict[str, tuple[list[Record], list[str]]] = {
    "one run": ([record("radam")], CURVES),
    "no histograms": ([replace(record("radam"), gradients=None)], CURVES[:1]),
    "seeds": ([record("radam", seed=seed, loss=1.0 + seed) for seed in range(3)], SEVERAL),
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
            record(recipe, seed=seed, metric="token_accuracy", value=0.4, validated_metric=0.4,
                   facts={"majority_class": 0.5})
            for recipe in ("adam", "radam")
            for seed in range(3)
        ],
        SEVERAL,
    ),
}  # fmt: skip


def rows(panel: drawing.Spec, mark: str) -> list[dict[str, Any]]:
    """What the marks of a kind in a panel are drawn from."""
    layers = [layer for layer in panel["layer"] if layer["mark"] == mark or layer["mark"]["type"] == mark]
    return [row for layer in layers for row in layer["data"]["values"]]


@pytest.mark.parametrize("case", CASES)
def test_what_is_drawn(case: str, tmp_path: Path) -> None:
    """In a palette, with a twin for dark pages."""
    records, expected = CASES[case]
    found = draw(read(records, target_loss=1.0), tmp_path)
    assert [Path(image.path).stem for image in found] == expected
    assert {f"figures/{path.name}" for path in (tmp_path / "figures").iterdir()} == {
        path for image in found for path in (image.path, image.dark)
    }
    for image in found:
        for file, theme in ((image.path, LIGHT), (image.dark, DARK)):
            with Image.open(tmp_path / file) as picture:
                assert picture.mode == "P"
                assert picture.width == 2 * image.width
                assert "#" + picture.convert("RGB").tobytes()[:3].hex() == theme.page


@pytest.mark.parametrize("case", ["seeds", "rates", "another task"])
def test_each_run_is_a_line_of_its_evaluations(case: str) -> None:
    records, _ = CASES[case]
    name = "token_accuracy" if case == "another task" else "loss"
    panels = [p for p in charts.evaluation(read(records)).panels if name.replace("_", " ") in p["title"].lower()]
    drawn = sorted((row["id"], row["step"], row["value"]) for panel in panels for row in rows(panel, "line"))
    wanted = [zip([r.id] * 2, r.evaluations["step"], r.evaluations[name], strict=True) for r in records]
    assert drawn == sorted(point for line in wanted for point in line)


def test_one_dot_a_run_over_rates_and_lines_through_medians() -> None:
    losses = (1.0, 2.0, 9.0)
    records = [record("radam", rate=rate, seed=i, loss=loss) for rate in RATES for i, loss in enumerate(losses)]
    panel = charts.over_learning_rates(read(records)).panels[0]
    assert [(row["place"], row["value"]) for row in rows(panel, "point")] == [
        (f"{rate:g}", loss) for rate in RATES for loss in losses
    ]
    assert [(row["place"], row["value"]) for row in rows(panel, "line")] == [("0.001", 2.0), ("0.002", 2.0)]
    assert panel["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"


def test_runs_without_a_number_are_crosses() -> None:
    records = [record("radam", rate=rate, seed=seed, loss=None if seed else 1.0) for rate in RATES for seed in (0, 1)]
    for chart in (charts.over_learning_rates(read(records)), charts.over_seeds(read(records[:2]))):
        values = [row.get("value") for row in rows(chart.panels[0], "point")]
        assert values.count(None) == (2 if chart.name == "over_learning_rates" else 1)
    (panel,) = charts.over_seeds(read(CASES["another task"][0])).panels
    assert {row["label"] for row in rows(panel, "point")} == {"adam ✗ 3/3", "radam ✗ 3/3"}, "failed runs are counted"


def test_names_at_the_ends_do_not_overlap() -> None:
    """Of recipes, and of what they are compared with."""
    records = [record(f"recipe {i}", optimizer=f"optimizer{i}", loss=1.0 + i / 100) for i in range(12)]
    panel = charts.evaluation(read(records, target_loss=1.05)).panels[0]
    names = panel["layer"][-1]["data"]["values"]
    assert {row["recipe"] for row in names} == {*(of.recipe for of in records), "constant prediction", "target"}
    places = [0, *(row["place"] for row in names), panel["height"]]
    assert [low for low, high in pairwise(places) if high - low < 0.499 * drawing.PITCH] == []
    assert [low for low, high in pairwise(places[1:-1]) if high - low < 0.999 * drawing.PITCH] == []


def test_curves_of_every_tenth_update_are_those_of_all_of_them() -> None:
    steps = range(1, 101)
    curves: dict[str, Any] = {
        "step": steps, "loss": [200.0 - step for step in steps], "learning_rate": [step * 1e-5 for step in steps],
    }  # fmt: skip
    whole = replace(record("adam", optim_args={"freeze_steps": 15}), curves={k: list(v) for k, v in curves.items()})
    thinned = replace(whole, curves={name: column[9::10] for name, column in whole.curves.items()})
    rates = {}
    for kind in (whole, thinned):
        updates = read([kind]).updates
        rates[len(updates)] = dict(zip(updates.step, updates.effective_rate, strict=True))
        losses, _ = page.windows(read([kind]))
        assert max(abs(losses.value - (200 - losses.step))) < 10
    assert rates[10] == {step: rates[100][step] for step in range(10, 101, 10)}
    assert rates[10][10] == 0 < rates[10][20]


def test_histogram_counts_each_gradient_in_its_bin() -> None:
    """Of many gradients a sample."""
    values = [10.0**exponent for exponent in (-11.9, -3.1, -3.1, 3.9)]
    counts, width = histogram([torch.tensor(values[:2]), -torch.tensor([values[2:], [0.0, float("nan")]])]), 16 / BINS
    assert [counts[int((exponent - LOW) / width)] for exponent in (-11.9, -3.1, 3.9)] == [1, 2, 1]
    assert (counts.sum(), HIGH - LOW) == (4, 16)
    large = torch.full((3, SAMPLE), 1e-3)
    large[:, 1::2] = 1e-6
    counts = histogram([large, torch.ones(2)])
    assert counts.sum() <= SAMPLE + 2
    shares = [counts[int((exponent - LOW + width / 2) / width)] / counts.sum() for exponent in (-3, -6)]
    assert shares == pytest.approx([0.5, 0.5], abs=1e-3)


def test_of_a_resumed_run_the_later_histogram_counts() -> None:
    log = [{"step": step, "loss": 1.0, "gradient_histogram": [value]} for step, value in ((1, 1), (2, 2), (2, 3))]
    found = collect([*log, {"step": 3, "loss": 1.0}])
    assert (found["step"], found["counts"]) == ([1, 2], [[1], [3]])


def test_quantiles_of_histograms_with_equal_counts() -> None:
    (panel,) = charts.gradient_histograms(read([record("radam")])).panels
    width = HIGH - LOW
    found = [[row[share] for share in charts.QUANTILES] for row in rows(panel, "line")]
    assert found == [pytest.approx([LOW + share * width for share in charts.QUANTILES.values()])] * 2


# Linear RGB as dichromats see it, at full severity (Machado, Oliveira and Fernandes 2009).
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# 100 times OKLab; 2 is just noticeable for large patches, and lines want several times that.
APART = 10
TO_LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def seen(color: str, vision: str) -> np.ndarray:
    """A colour in OKLab, as someone with that vision sees it."""
    encoded = np.array(drawing.rgb(color))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return 100 * np.array(TO_LAB) @ np.cbrt(np.array(TO_LMS) @ np.clip(np.array(VISION[vision]) @ linear, 0, 1))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("vision", VISION)
def test_families_are_told_apart(theme: Theme, vision: str) -> None:
    table = {
        (a, b): float(np.linalg.norm(seen(theme.hues[a], vision) - seen(theme.hues[b], vision)))
        for a, b in combinations(theme.hues, 2)
    }
    assert min(table.values()) >= APART, sorted((round(d, 1), pair) for pair, d in table.items())[:5]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("n", [1, 2, 8])
def test_all_shades_have_the_contrast_of_a_line(theme: Theme, n: int) -> None:
    for family, hue in theme.hues.items():
        shades = drawing.shades(hue, n, theme)
        assert len(set(shades)) == n
        assert min(drawing.contrast(shade, theme.page) for shade in shades) >= CONTRAST, family


def test_a_family_is_what_the_optimizer_is_not_what_the_name_says() -> None:
    records = [
        record("adam"),
        record("radam b2=0.995", optimizer="radam"),
        record("adam_warmup_80", optimizer="adam", warmup="linear", warmup_steps=2),
        record("radam they say", optimizer="adam", warmup="untuned_linear"),
        *(record(name, optimizer=name) for name in ("lion", "sgd")),
    ]
    runs = read(records).runs
    assert list(runs.family) == ["adam", "radam", "warmup", "untuned", "lion", "sgd"]
    colors = drawing.colors(runs, LIGHT)
    assert colors["adam_warmup_80"] == LIGHT.hues["warmup"]
    assert len(set(colors.values())) == 6


def test_a_recipe_keeps_its_colour_at_another_beta2() -> None:
    records = [
        record(f"{name} b2={beta2}", optimizer=name, optim_args={"betas": [0.9, beta2]})
        for name in ("adam", "radam")
        for beta2 in (0.99, 0.995)
    ]
    colors = drawing.colors(read(records).runs, DARK)
    assert colors["radam b2=0.99"] == colors["radam b2=0.995"] == DARK.hues["radam"]
