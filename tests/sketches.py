"""Files of one pixel in the place of figures, where no test looks at them: drawing those of a report takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@contextmanager
def sketches() -> Iterator[None]:
    """Write figures under the names and titles that they would have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_radam.experiments.report.drawing.save", _save)
        yield


def _save(chart: Any, folder: Path) -> tuple[str, str, int]:
    folder.mkdir(parents=True, exist_ok=True)
    light, dark = f"{chart.name}.png", f"{chart.name}_dark.png"
    for file in (light, dark):
        Image.new("P", (1, 1)).save(folder / file)
        with (folder / file).open("ab") as end:
            end.write(file.encode())  # no two are the same
    return light, dark, 1
