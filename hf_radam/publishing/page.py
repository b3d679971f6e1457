"""What a card shows beside the numbers."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_radam.experiments.records import Record
from hf_radam.experiments.report.escape import one_line
from hf_radam.experiments.report.report import Image, Report
from hf_radam.publishing.tables import Table


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a card shows beside the numbers: where it stands, and what lies around it."""

    title: str
    """Name of the model or dataset in the metadata; the last part of the repo's id."""
    repo_id: str | None = None
    """The repo, where the card is that of one."""
    repo_type: str = "model"
    """model or dataset."""
    license: str = "apache-2.0"
    """Identifier of the license."""
    base_model: str | None = None
    """Name on the Hub of the checkpoint that was fine-tuned; by default what the records tell of it."""
    report: Report
    """Verdict, tables and notes."""
    images: Sequence[Image] = ()
    """The report's figures, with paths relative to the card, in the order in which they are shown."""
    weights: Record | None = None
    """The run whose weights lie beside the card."""
    data: Mapping[str, Table] = dataclasses.field(default_factory=dict)
    """Of a dataset: its tables by name."""
    also: Sequence[str] = ()
    """Repos that belong to this one: namespace/name of models, datasets/namespace/name, spaces/namespace/name."""
    comparison_path: str = "comparison.yaml"
    """Of the file to reproduce the comparison with, as a reader would type it."""


def picture(image: Image, folder: str = "") -> str:
    """HTML that shows a figure, on GitHub in the colours of the page.

    Args:
        image: the figure.
        folder: what to put before its paths; ends with a slash.
    """
    title = html.escape(one_line(image.title))
    light = f'<img width="{image.width}" src="{html.escape(folder + image.path)}" alt="{title}">'
    if image.dark is None:
        return light
    dark = html.escape(folder + image.dark)
    return f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">{light}</picture>'
