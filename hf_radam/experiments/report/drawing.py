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
    palette: int = 64
    """Colours of its files; antialiased lines need few."""


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
    free = [theme.hues["further"], *(hue for key, hue in theme.hues.items() if key not in {*used, "further"})]
    hues = {**dict(zip((key for key in used if key not in theme.hues), cycle(free), strict=False)), **theme.hues}
    found: dict[str, str] = {}
    one_each, kinds = runs.drop_duplicates(by), ["family", "beta2"] if by == "recipe" else ["family"]
    for _, of in one_each.groupby(kinds, sort=False):
        found.update(zip(of[by], shades(hues[of.family.iat[0]], len(of), theme), strict=True))
    return {each: found[each] for each in one_each[by]}


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
    shares = [[v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb(one)] for one in (color, other)]
    low, high = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in shares)
    return (high + 0.05) / (low + 0.05)


def rgb(color: str) -> list[float]:
    """#rrggbb as three numbers from 0 to 1."""
    return [channel / 255 for channel in bytes.fromhex(color[1:])]


def _mixed(color: str, other: str, share: float) -> str:
    channels = ((1 - share) * a + share * b for a, b in zip(rgb(color), rgb(other), strict=True))
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def config(theme: Theme, colors: Sequence[str] = ()) -> Spec:
    """Vega-Lite's settings that are a theme's; panels name no colour themselves."""
    axis = {"gridColor": theme.grid, "domainColor": theme.muted, "tickColor": theme.muted, "labelColor": theme.ink}
    styles = {
        "level": {"color": theme.muted, "strokeDash": [2, 3]},
        "note": {"color": theme.muted, "fontSize": LABEL},
        "middle": {"color": theme.hues["radam"], "strokeWidth": 2},
        "shade": {"color": theme.grid},
        "dot": {"stroke": theme.page, "strokeWidth": 0.8, "filled": True, "opacity": 1},
    }
    limits = {"labelLimit": 400, "titleLimit": 400, "symbolLimit": 0}
    title = {"anchor": "start", "color": theme.ink, "fontSize": 13, "fontWeight": "normal", "offset": 8}
    text = {"titleColor": theme.ink, "titleFontWeight": "normal", "titleFontSize": 13, "labelFontSize": 13}
    return {
        "background": theme.page,
        "font": "DejaVu Sans, Verdana, sans-serif",
        "axis": {**axis, **text, "domainWidth": 1},
        "legend": {**text, **limits, "labelColor": theme.ink, "symbolStrokeWidth": 2.5},
        "view": {"stroke": None},
        "title": title,
        "concat": {"spacing": 14},
        "style": styles,
        "range": {"category": [*colors], "ramp": [theme.page, theme.hues["warmup"], theme.ink]},
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


def colored(names: Sequence[str], by: str = "recipe", **options: Any) -> Spec:
    """The encoding of a colour by name."""
    return word(by, scale={"domain": [*names]}, legend=None, **options)


def scale(values: pd.Series | Sequence[float], logarithmic: bool, most: int = 9) -> Spec:
    """Scale and axis for these values: few ticks, as plain numbers; logarithmic, if asked for, of positives."""
    finite = np.array([value for value in values if math.isfinite(value)])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if not logarithmic or low <= 0:
        margin = 0.05 * (high - low) or 0.1
        domain = [low - margin, high + margin]
        return {"scale": {"domain": domain, "nice": False, "zero": False}, "axis": {"tickCount": 5, "format": "~g"}}
    margin = (high / low) ** 0.06 * 1.02
    low, high = low / margin, high * margin
    for each in ((1, 2, 5), (1,)):
        ticks = [tick for k in range(-9, 10) for m in each if low <= (tick := float(f"{m}e{k}")) <= high]
        if len(ticks) <= most:
            break
    if len(ticks) < 2:
        ticks = [float(f"{value:.2g}") for value in np.geomspace(low, high, 5)[1:-1]]
    told = f"{json.dumps([f'{tick:g}' for tick in ticks])}[indexof({json.dumps(ticks)}, datum.value)]"
    return {
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {"values": ticks, "labelExpr": told},
    }


def named_ends(ends: pd.DataFrame, y: Spec, height: int, color: Spec) -> list[Spec]:
    """Names beside the ends of lines, moved apart where they would overlap, with a hair to the line's end.

    `ends` has `name`, `value` (at the top where it is not finite) and what the colour goes by; `height` is in pixels.
    """
    low, high = y["scale"]["domain"]
    to, back = (np.log, np.exp) if y["scale"].get("type") == "log" else (np.asarray, np.asarray)
    ends = ends.assign(value=ends.value.fillna(high).clip(low, high)).sort_values("value", kind="stable")
    at = spread(list((to(ends.value) - to(low)) / (to(high) - to(low))), PITCH / height)
    ends = ends.assign(place=back(to(low) + np.array(at) * (to(high) - to(low))))
    right = {"value": "width"}
    hair = {"type": "rule", "strokeWidth": 0.7, "opacity": 0.5, "xOffset": 3, "x2Offset": 14}
    return [
        layer(ends, hair, x=right, x2=right, y=number("value", **y), y2={"field": "place"}, color=color),
        layer(ends, {"type": "text", "align": "left", "dx": 17, "fontSize": LABEL}, x=right,
              y=number("place", **y), text=word("name"), color=color),
    ]  # fmt: skip


def spread(heights: Sequence[float], pitch: float) -> list[float]:
    """Ascending heights moved as little as needed to lie a pitch apart, within 0 and 1 where there is room.

    Example:
        >>> spread([0.5, 0.5], 0.25)
        [0.375, 0.625]
    """
    groups: list[tuple[float, int]] = []  # the middle of each block of labels that touch, and how many it holds
    for height in heights:
        groups.append((height, 1))
        while len(groups) > 1:
            (below, m), (above, n) = groups[-2:]
            if above - below >= pitch * (m + n) / 2:
                break
            groups[-2:] = [((below * m + above * n) / (m + n), m + n)]
    found = [middle + pitch * (i - (n - 1) / 2) for middle, n in groups for i in range(n)]
    if len(found) * pitch <= 1:
        found = [max(place, pitch * (i + 0.5)) for i, place in enumerate(found)]
        found = [min(place, 1 - pitch * (len(found) - i - 0.5)) for i, place in enumerate(found)]
    return found


def levels(places: Mapping[str, float | None], axis: Spec, along: str = "y") -> list[Spec]:
    """Dotted lines for what a result may be compared with, within the panel; each has its name above its right end."""
    low, high = axis["scale"]["domain"]
    other, side, above = ("x", "width", -11) if along == "y" else ("y", "height", -7)
    found = []
    for name, place in places.items():
        if place is not None and low < place < high:
            early = name == "target"  # below the left end, where no run is yet
            row = pd.DataFrame([{"place": place, "name": name}])
            text = {"type": "text", "style": "note", "dx": 0 if early else -4, "dy": 10 if early else above,
                    "align": "left" if early else "right"}  # fmt: skip
            where = {along: number("place"), other: {"value": 4 if early else side}}
            found.append(layer(row, {"type": "rule", "style": "level"}, **{along: number("place")}))
            found.append(layer(row, text, text=word("name"), **where))
    return found


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
            reduced(image.convert("RGB"), chart.palette).save(unfinished, format="png", optimize=True)
            width = image.width // 2
    path = f"{folder.name}/{chart.name}"
    return Image(title=chart.title, path=f"{path}.png", width=width, dark=f"{path}_dark.png")


def reduced(image: PIL.Image.Image, colors: int) -> PIL.Image.Image:
    """The image with a palette; thin lines count for more than their pixels, so that a page of white keeps them."""
    found: Any = image.getcolors(image.width * image.height)
    counts, pixels = zip(*sorted(found), strict=True)
    weighted = np.repeat(np.array(pixels, np.uint8), np.ceil(np.sqrt(counts)).astype(int), axis=0)
    palette = PIL.Image.fromarray(weighted[None]).quantize(colors, PIL.Image.Quantize.MEDIANCUT)
    return image.quantize(palette=palette, dither=PIL.Image.Dither.NONE)
