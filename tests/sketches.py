"""Files of one pixel in the place of figures, where no test looks at them: drawing those of a report takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def sketches() -> Iterator[None]:
    """Write figures under the names and titles that they would have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_radam.experiments.report.drawing.save", _save)
        yield


def _save(chart: Any, folder: Path) -> Any:
    import PIL.Image  # neither is there where only the optimizer is tested

    from hf_radam.experiments.report.drawing import Image

    folder.mkdir(parents=True, exist_ok=True)
    light, dark = (f"{folder.name}/{chart.name}{ending}.png" for ending in ("", "_dark"))
    for file in (light, dark):
        PIL.Image.new("P", (1, 1)).save(folder.parent / file)
        with (folder.parent / file).open("ab") as end:
            end.write(file.encode())  # no two are the same
    return Image(title=chart.title, path=light, width=1, dark=dark)
