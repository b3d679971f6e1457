"""Colours of recipes: one hue a family, told apart with any colour vision, on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

# What a line needs beside its page: WCAG 2.1, 1.4.11.
CONTRAST = 3.0
# Shades of a family reach from this share of ink to as much of the page as the contrast allows.
DARKEST = 0.45


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of a page, as #rrggbb."""

    name: str
    page: str
    ink: str
    muted: str
    """Marks and their names."""
    grid: str
    hues: Mapping[str, str]
    """Colour of each family."""


# Found by a random search for the greatest least distance (OKLab) of any two as seen with normal vision and with
# each of three colour blindnesses, at a contrast of at least 3.3; tests/report/test_palette.py computes both.
LIGHT = Theme(
    name="light", page="#ffffff", ink="#141414", muted="#666666", grid="#e6e6e6",
    hues={
        "adam": "#141414", "radam": "#df6c05", "warmup": "#1c45b9", "untuned": "#2f9981", "adam_2k": "#9a1774",
        "adam_eps": "#655c0d", "further": "#9b68f1",
    },
)  # fmt: skip
DARK = Theme(
    name="dark", page="#0b0f19", ink="#ececec", muted="#9aa0aa", grid="#262b38",
    hues={
        "adam": "#ececec", "radam": "#ee8032", "warmup": "#3773ef", "untuned": "#3ccba6", "adam_2k": "#9b4f9d",
        "adam_eps": "#f2c71f", "further": "#ba99fb",
    },
)  # fmt: skip


def label_colors(runs: pd.DataFrame, theme: Theme) -> dict[str, str]:
    """The colour of each label: a family's hue, or shades of it where the family has several labels."""
    found: dict[str, str] = {}
    for key, members in runs.drop_duplicates("label").groupby("family", sort=False).label:
        hue = theme.hues.get(str(key), theme.hues["further"])
        found.update(zip(members, shades(hue, len(members), theme), strict=True))
    return {label: found[label] for label in dict.fromkeys(runs.label)}


def colors(runs: pd.DataFrame, theme: Theme) -> dict[str, str]:
    """The colour of each recipe: a family's hue, or shades of it where the family has several recipes.

    Shades differ within one beta2, so that the same recipe at another beta2 keeps its colour.
    """
    used = list(dict.fromkeys(runs.family))
    free = [theme.hues["further"], *(hue for key, hue in theme.hues.items() if key not in {*used, "further"})]
    unnamed = [key for key in used if key not in theme.hues]
    hues = {**theme.hues, **{key: free[i % len(free)] for i, key in enumerate(unnamed)}}
    found: dict[str, str] = {}
    for (key, _), members in runs.drop_duplicates("recipe").groupby(["family", "beta2"], sort=False).recipe:
        found.update(zip(members, shades(hues[key], len(members), theme), strict=True))
    return {recipe: found[recipe] for recipe in dict.fromkeys(runs.recipe)}


def shades(hue: str, n: int, theme: Theme) -> list[str]:
    """A hue alone, or n shades of it, the nearest to it first, each with the contrast that a line needs."""
    if n == 1:
        return [hue]
    paler = max(i for i in range(100) if contrast(_mixed(hue, theme.page, i / 100), theme.page) >= CONTRAST) / 100
    darkest = 0.0 if hue == theme.ink else DARKEST
    steps = sorted((darkest - (darkest + paler) * i / (n - 1) for i in range(n)), key=abs)
    return [_mixed(hue, theme.ink if step > 0 else theme.page, abs(step)) for step in steps]


def contrast(color: str, other: str) -> float:
    """The contrast ratio of WCAG 2.1, from 1 to 21.

    Example:
        >>> contrast("#000000", "#ffffff")
        21.0
    """
    low, high = sorted((luminance(color), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    """Relative luminance of sRGB, from 0 to 1."""
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def rgb(color: str) -> tuple[float, float, float]:
    """#rrggbb as three numbers from 0 to 1."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _mixed(color: str, other: str, share: float) -> str:
    channels = ((1 - share) * a + share * b for a, b in zip(rgb(color), rgb(other), strict=True))
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
