"""Figures for pages in dark mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def darken(picture: Path, target: Path) -> None:
    """Write a picture with light and dark exchanged and every hue kept.

    Adding 1 - max - min to the three colours, which lie in [0, 1], mirrors the lightness of the HSL colour model, whose
    hue and saturation stay: black lines on white become white lines on black, and a blue one stays blue.
    """
    rgb = np.asarray(Image.open(picture).convert("RGB"), dtype=np.int16)
    mirrored = rgb + (255 - rgb.max(-1, keepdims=True) - rgb.min(-1, keepdims=True))
    Image.fromarray(mirrored.astype(np.uint8)).save(target, optimize=True)
