"""Figures on a page: how wide they are, and their variants for dark mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

# What white becomes: near the background of the Hub's dark pages.
BACKGROUND = np.array([11, 15, 25], dtype=np.float32)
# A pixel is coloured where its greatest and its least component, of 255, differ by as much; pale areas are not.
COLORED = (40, 100)
# Coloured lines are made at least so light, of 255.
LINE_LIGHTNESS = 115


def width(picture: Path) -> int:
    """Width in CSS pixels at which the text of all figures has one size: half of the file's, which is at 160 dpi."""
    with Image.open(picture) as image:
        return image.width // 2


def darken(picture: Path, target: Path) -> None:
    """Write a picture for a dark page: white becomes dark and black white, and lines keep their colours.

    Works on the lightness of the HSL colour model, which is mirrored, except in coloured pixels.
    """
    with Image.open(picture) as image:
        rgb = np.asarray(image.convert("RGB"), dtype=np.float32)
    greatest, least = rgb.max(-1, keepdims=True), rgb.min(-1, keepdims=True)
    lightness = (greatest + least) / 2
    colored = np.clip((greatest - least - COLORED[0]) / (COLORED[1] - COLORED[0]), 0, 1)
    wanted = (1 - colored) * (255 - lightness) + colored * np.maximum(lightness, LINE_LIGHTNESS)
    dark = BACKGROUND + np.clip(rgb + wanted - lightness, 0, 255) * (1 - BACKGROUND / 255)
    Image.fromarray(dark.astype(np.uint8)).save(target, optimize=True)
