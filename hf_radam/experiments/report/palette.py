"""Colours of recipes: one hue a family, told apart with any colour vision, on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_radam.experiments.records import Record
from hf_radam.experiments.report.series import beta2, warmup_updates

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

_WARMUPS = {"none": "adam", "linear": "warmup", "untuned_linear": "untuned", "untuned_exponential": "untuned"}
_LABELS = {"adam": "Adam", "radam": "RAdam", "untuned": "untuned warmup", "adam_2k": "Adam-2k", "adam_eps": "Adam-eps"}


def family(recipe: Mapping[str, Any]) -> str:
    """A key of `Theme.hues`, or the name of an optimizer that has none; from the definition, whatever its name.

    Args:
        recipe: `Record.config["recipe"]`.

    Example:
        >>> family({"name": "mine", "optimizer": "adam", "warmup": "linear"})
        'warmup'
        >>> family({"name": "mine", "optimizer": "radam_8bit", "warmup": "none"})
        'radam'
    """
    optimizer = recipe["optimizer"]
    if optimizer == "adam" or optimizer.startswith("adamw"):
        return _WARMUPS[recipe["warmup"]]
    return "radam" if optimizer.startswith(("radam", "paged_radam")) else str(optimizer)  # radam_8bit and its like


def families(records: Sequence[Record]) -> dict[str, str]:
    """The family of each recipe by name, recipes in their first order."""
    return {record.recipe: family(record.config["recipe"]) for record in records}


def labels(records: Sequence[Record]) -> dict[str, str]:
    """What readers call each recipe by name: its family, and of a linear warmup its share of the run."""
    found = {}
    for record in records:
        key = family(record.config["recipe"])
        share = warmup_updates(record) / record.updates
        found[record.recipe] = f"{share:.0%}".replace("%", " % warmup") if key == "warmup" else _LABELS.get(key, key)
    return found


def label_colors(records: Sequence[Record], theme: Theme) -> dict[str, str]:
    """The colour of each label: a family's hue, or shades of it where the family has several labels."""
    members: dict[str, list[str]] = {}
    for label, key in dict.fromkeys(zip(labels(records).values(), families(records).values(), strict=True)):
        members.setdefault(key, []).append(label)
    hues = {key: theme.hues.get(key, theme.hues["further"]) for key in members}
    pairs = ((names, shades(hues[key], len(names), theme)) for key, names in members.items())
    return {label: color for names, found in pairs for label, color in zip(names, found, strict=True)}


def colors(records: Sequence[Record], theme: Theme) -> dict[str, str]:
    """The colour of each recipe: a family's hue, or shades of it where the family has several recipes.

    Shades differ within one beta2, so that the same recipe at another beta2 keeps its colour.
    """
    members: dict[tuple[str, float], list[str]] = {}
    betas = {record.recipe: beta2(record) for record in records}
    for recipe, key in families(records).items():
        members.setdefault((key, betas[recipe]), []).append(recipe)
    used = dict.fromkeys(key for key, _ in members)
    free = [theme.hues["further"], *(hue for key, hue in theme.hues.items() if key not in {*used, "further"})]
    unnamed = [key for key in used if key not in theme.hues]
    hues = {**theme.hues, **{key: free[i % len(free)] for i, key in enumerate(unnamed)}}
    return {
        recipe: color
        for (key, _), names in members.items()
        for recipe, color in zip(names, shades(hues[key], len(names), theme), strict=True)
    }


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
