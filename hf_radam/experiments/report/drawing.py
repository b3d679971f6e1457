"""What all charts share: colours of recipes, parts of Vega-Lite, and PNGs for light and dark pages."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import vl_convert

from hf_radam.files import whole

Spec = dict[str, Any]
WIDTH = 800  # CSS pixels; files hold two for each
LABEL = 12  # of text, in pixels
PITCH = 15  # between two lines of it
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
# each of three colour blindnesses, at a contrast of at least 3.3; tests/report/test_charts.py computes both.
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


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One or more panels, and what is said above them."""

    name: str
    """Of its files, without ending."""
    title: str
    """What it shows, for captions and for those who hear it."""
    message: str
    panels: Sequence[Spec]
    """Views of Vega-Lite, without a width."""
    colors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By name of the theme, the colour of each name that panels use."""
    columns: int = 2
    names: Sequence[str] = ()
    """What stands at the ends of lines, or before the axis."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """A figure on the disk."""

    title: str
    path: str
    """Relative to the report."""
    width: int
    """In CSS pixels; text has one size in all figures."""
    dark: str
    """Path of its variant for dark pages."""


def colors(runs: pd.DataFrame, theme: Theme, by: str = "recipe") -> dict[str, str]:
    """The colour of each recipe or label: a family's hue, or shades of it where the family has several.

    Shades of recipes differ within one beta2, so that the same recipe at another beta2 keeps its colour.
    """
    used = list(runs.family.unique())
    free = cycle([hue for family, hue in reversed([*theme.hues.items()]) if family not in used])
    hues = {family: theme.hues.get(family) or next(free) for family in used}
    found: dict[str, str] = {}
    one_each, kinds = runs.drop_duplicates(by), ["family", "beta2"] if by == "recipe" else ["family"]
    for _, of in one_each.groupby(kinds, sort=False):
        found.update(zip(of[by], shades(hues[of.family.iat[0]], len(of), theme), strict=True))
    return {each: found[each] for each in one_each[by]}


def shades(hue: str, n: int, theme: Theme) -> list[str]:
    """A hue alone, or n shades of it, the nearest to it first, each with the contrast that a line needs."""
    if n == 1:
        return [hue]
    shares = np.arange(0, 1, 0.01)
    palest = max(share for share in shares if contrast(_mixed(hue, theme.page, share), theme.page) >= CONTRAST)
    darkest = 0.0 if hue == theme.ink else DARKEST
    steps = sorted(np.linspace(darkest, -palest, n), key=abs)
    return [_mixed(hue, theme.ink if step > 0 else theme.page, abs(step)) for step in steps]


def contrast(color: str, other: str) -> float:
    """The contrast ratio of WCAG 2.1, from 1 to 21.

    Example:
        >>> contrast("#000000", "#ffffff")
        21.0
    """
    encoded = np.array([rgb(color), rgb(other)])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((high + 0.05) / (low + 0.05))


def rgb(color: str) -> np.ndarray:
    """#rrggbb as three numbers from 0 to 1."""
    return np.frombuffer(bytes.fromhex(color[1:]), np.uint8) / 255


def _mixed(color: str, other: str, share: float) -> str:
    channels = (1 - share) * rgb(color) + share * rgb(other)
    return "#" + np.round(255 * channels).astype(np.uint8).tobytes().hex()


def config(theme: Theme, colors: Sequence[str] = ()) -> Spec:
    """Vega-Lite's settings that are a theme's; panels name no colour themselves."""
    axis = {"gridColor": theme.grid, "domainColor": theme.muted, "tickColor": theme.muted, "labelColor": theme.ink}
    text = {"titleColor": theme.ink, "titleFontWeight": "normal", "titleFontSize": 13, "labelFontSize": 13}
    return {
        "background": theme.page,
        "font": "DejaVu Sans, Verdana, sans-serif",
        "axis": {**axis, **text, "domainWidth": 1},
        "legend": {**text, "labelColor": theme.ink, "labelLimit": 400, "symbolLimit": 0, "symbolStrokeWidth": 2.5},
        "view": {"stroke": None},
        "title": {"anchor": "start", "color": theme.ink, "fontSize": 13, "fontWeight": "normal", "offset": 8},
        "concat": {"spacing": 14},
        "style": {"dot": {"stroke": theme.page, "strokeWidth": 0.8, "filled": True, "opacity": 1}},
        "range": {"category": [*colors]},
    }


def layer(data: pd.DataFrame, mark: str | Mapping[str, Any], **encoding: Any) -> Spec:
    """Marks for the rows of a table; what is not finite is left out of a line."""
    return {"data": values(data), "mark": mark, "encoding": encoding}


def values(data: pd.DataFrame) -> Spec:
    """The rows of a table as data; what is not finite is null."""
    return {"values": json.loads(str(data.to_json(orient="records")))}


def number(name: str, **options: Any) -> Spec:
    """The encoding of a number."""
    return {"field": name, "type": "quantitative", "title": None, **options}


def word(name: str, **options: Any) -> Spec:
    """The encoding of a name, in the order of the rows."""
    return {"field": name, "type": "nominal", "title": None, "sort": None, **options}


def colored(names: Sequence[str], by: str = "recipe") -> Spec:
    """The encoding of a colour by name."""
    return word(by, scale={"domain": [*names]}, legend=None)


def scale(values: pd.Series | Sequence[float], logarithmic: bool, most: int = 9) -> Spec:
    """Scale and axis for these values: few ticks, as plain numbers; logarithmic, if asked for, of positives."""
    finite = np.array([value for value in values if math.isfinite(value)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if not logarithmic or low <= 0:
        margin = 0.05 * (high - low) or 0.1
        domain = [low - margin, high + margin]
        return {"scale": {"domain": domain, "nice": False}, "axis": {"tickCount": 5, "format": "~f"}}
    margin = (high / low) ** 0.06 * 1.02
    low, high = low / margin, high * margin
    for steps in ([1, 2, 5], [1]):
        ticks = np.outer(10.0 ** np.arange(-9, 10), steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) <= most:
            break
    # Vega-Lite's own ticks are every 1, 2, 3 ... 9, and good where the range is narrower than that.
    places = {"values": list(ticks)} if len(ticks) > 1 else {"tickCount": 5}
    return {"scale": {"type": "log", "domain": [low, high], "nice": False}, "axis": {"format": "~g", **places}}


def named_ends(ends: pd.DataFrame, y: Spec, height: int, color: Spec) -> list[Spec]:
    """Names beside the ends of lines, moved apart where they would overlap, with a hair to the line's end.

    `ends` has `recipe`, which is the name, and `value` (at the top where it is not finite); `height` is in pixels.
    """
    low, high = y["scale"]["domain"]
    unit = np.log if y["scale"].get("type") == "log" else np.asarray
    ends = ends.fillna({"value": high}).sort_values("value", ascending=False, kind="stable")
    ends = ends.assign(end=np.interp(unit(ends.value), unit([low, high]), [height, 0]))
    ends = ends.assign(place=spread(ends.end, PITCH, height))
    hair = {"type": "rule", "strokeWidth": 0.7, "opacity": 0.5, "xOffset": 3, "x2Offset": 14}
    right, pixels = {"value": "width"}, {"scale": None, "axis": None}
    return [
        layer(ends, hair, x=right, x2=right, y=number("end", **pixels), y2={"field": "place"}, color=color),
        layer(ends, {"type": "text", "align": "left", "dx": 17, "fontSize": LABEL}, x=right,
              y=number("place", **pixels), text=word("recipe"), color=color),
    ]  # fmt: skip


def spread(places: Sequence[float] | pd.Series, pitch: float, room: float) -> np.ndarray:
    """Ascending places moved as little as needed to lie a pitch apart, between 0 and room, which must hold them.

    Example:
        >>> spread([0.5, 0.5], 0.25, 1.0).tolist()
        [0.375, 0.625]
    """
    from scipy.optimize import isotonic_regression  # slow to import

    apart = pitch * np.arange(len(places))
    moved = isotonic_regression(np.asarray(places) - apart).x
    return moved.clip(pitch / 2, room - pitch * (len(places) - 0.5)) + apart


def save(chart: Chart, folder: Path) -> Image:
    """Write `NAME.png` and its twin for dark pages, `NAME_dark.png`."""
    width, columns = 0, min(chart.columns, len(chart.panels))
    room = 24 + 6.8 * max(map(len, chart.names)) if chart.names else 4
    each = (WIDTH - 14 * (columns - 1)) / columns - room - 46
    joined = re.sub(r"(\blr|\d of|beta2) (?=\d)", "\\1\N{NO-BREAK SPACE}", chart.message)
    for theme, ending in ((LIGHT, ""), (DARK, "_dark")):
        spec = {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "title": {"text": textwrap.wrap(joined, 88), "fontWeight": "bold", "fontSize": 15, "offset": 10},
            "concat": [{"width": round(each), **panel} for panel in chart.panels],
            "columns": columns,
            "config": config(theme, list(chart.colors.get(theme.name, {}).values())),
        }
        drawn = vl_convert.vegalite_to_png(spec, scale=2)
        with PIL.Image.open(BytesIO(drawn)) as image, whole(folder / f"{chart.name}{ending}.png") as unfinished:
            small = image.convert("RGB").quantize(dither=PIL.Image.Dither.NONE)
            small.save(unfinished, format="png", optimize=True)
            width = image.width // 2
    path = f"{folder.name}/{chart.name}"
    return Image(title=chart.title, path=f"{path}.png", width=width, dark=f"{path}_dark.png")
