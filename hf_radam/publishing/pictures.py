"""Figures on a page: how wide they are."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def width(picture: Path) -> int:
    """Width in CSS pixels at which the text of all figures has one size: half of the file's, which is at 160 dpi."""
    with Image.open(picture) as image:
        return image.width // 2
