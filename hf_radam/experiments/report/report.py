"""A results folder -> a Report, a frozen value -> table.md, summary.json, report.html and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_radam.experiments.report.notes import notes
from hf_radam.experiments.report.table import Image, Table, tables
from hf_radam.experiments.report.verdict import Verdict, judge
from hf_radam.experiments.results import Results
from hf_radam.files import write_whole


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a comparison found."""

    name: str
    """Title of the comparison."""
    verdict: Verdict
    tables: Sequence[Table]
    """The one that says most comes first."""
    notes: Sequence[str]
    """What the tables do not say by themselves, as plain text."""


def make_report(results: Results) -> Report:
    """The report of all records of a results folder; reads and writes nothing."""
    found, sentences = tables(results)
    return Report(
        name=results.comparison["name"],
        verdict=judge(results),
        tables=found,
        notes=[*sentences, *notes(results)],
    )


def draw(results: Results, folder: Path, most: int | None = None, only: str | None = None) -> list[Image]:
    """Draw all figures below `folder/figures`, or the `most` that say most, or the one of that name."""
    from hf_radam.experiments.report import figures  # matplotlib is slow to import

    return figures.draw_all(results.records, folder, results.comparison["target_loss"], most=most, only=only)


def write_report(folder: Path, output_dir: Path | None = None, most: int | None = None) -> Report:
    """Write the report of all records in a results folder.

    Args:
        folder: a results folder of `hf-radam compare`.
        output_dir: where to write; the folder itself by default.
        most: how many figures, those that say most; all by default.

    Returns:
        The report; table.md, summary.json, report.html and figures/ lie in `output_dir`.

    Raises:
        UserError: the folder holds no comparison, or no record.
    """
    from hf_radam.experiments.report.writers import to_json, to_markdown, to_page

    results = Results.load(folder)
    report, output_dir = make_report(results), output_dir or folder
    images = draw(results, output_dir, most)
    write_whole(output_dir / "summary.json", to_json(report, images))
    write_whole(output_dir / "report.html", to_page(report, results.records))
    write_whole(output_dir / "table.md", to_markdown(report, images))
    return report
