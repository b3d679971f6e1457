"""Colours of recipes: seen apart with any colour vision, on both pages, and the same within a family."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from made_up import read, record

from hf_radam.experiments.report import drawing
from hf_radam.experiments.report.drawing import CONTRAST, DARK, LIGHT, Theme

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
        record("a", optimizer="lion"),
        record("b", optimizer="sgd"),
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
