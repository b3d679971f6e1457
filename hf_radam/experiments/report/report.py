"""A results folder -> a Report, a frozen value -> table.md, summary.json, report.html and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_radam.experiments.report import drawing
from hf_radam.experiments.report.charts import charts
from hf_radam.experiments.report.drawing import Image
from hf_radam.experiments.report.markdown import aligned, literal, table_markdown
from hf_radam.experiments.report.notes import notes
from hf_radam.experiments.report.page import to_page
from hf_radam.experiments.report.tables import Table, tables
from hf_radam.experiments.report.verdict import judge
from hf_radam.experiments.results import Results
from hf_radam.files import one_line, printable, write_whole

# Columns of a terminal's table: recipe, result, difference and the like.
TERMINAL_COLUMNS = 6
# Of the verdict, those that a terminal and report.html show.
SENTENCES = 3


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a comparison found."""

    name: str
    """Title of the comparison."""
    verdict: Sequence[str]
    """Sentences in Markdown, the answer first."""
    tables: Sequence[Table]
    """The one that says most comes first."""
    notes: Sequence[str]
    """What the tables do not say by themselves, as plain text."""


def make_report(results: Results) -> Report:
    """The report of all records of a results folder; reads and writes nothing."""
    name = results.comparison["name"]
    return Report(name=name, verdict=judge(results), tables=tables(results), notes=notes(results))


def draw(results: Results, folder: Path, most: int | None = None) -> list[Image]:
    """Draw all figures below `folder/figures`, or the `most` that say most."""
    return [drawing.save(chart, folder / "figures") for chart in charts(results)[:most]]


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
    results = Results.load(folder)
    report, output_dir = make_report(results), output_dir or folder
    images = draw(results, output_dir, most)
    write_whole(output_dir / "summary.json", to_json(report, images))
    write_whole(output_dir / "report.html", to_html(results, report))
    write_whole(output_dir / "table.md", to_markdown(report, images))
    return report


def to_html(results: Results, report: Report) -> str:
    """The report as one HTML file to explore its runs in."""
    return to_page(results, title=report.name, verdict=report.verdict[:SENTENCES], tables=report.tables)


def to_markdown(report: Report, images: Sequence[Image] = ()) -> str:
    """The whole report, with its title."""
    shown = "\n".join(f"![{literal(image.title)}]({image.path})" for image in images)
    told = "\n".join(f"- {literal(note)}" for note in report.notes)
    parts = [
        f"# {literal(report.name)}",
        " ".join(report.verdict),
        *(f"## {literal(table.title)}\n\n{table_markdown(table)}" for table in report.tables),
        told,
        *([shown] if shown else []),
    ]
    return "\n\n".join(parts) + "\n"


def to_json(report: Report, images: Sequence[Image] = ()) -> str:
    """The verdict and the figures, for machines."""
    figures = [asdict(image) for image in images]
    content = {"name": report.name, "verdict": report.verdict, "figures": figures}
    return json.dumps(content, indent=2) + "\n"


def to_terminal(report: Report, folder: Path, output_dir: Path | None = None) -> str:
    """Verdict, the first table, where `write_report` has put the rest, and the command that publishes it."""
    verdict, table = re.sub(r"`|\*\*", "", " ".join(report.verdict[:SENTENCES])), report.tables[0]
    return "\n\n".join([
        "\n".join(printable(one_line(line)) for line in (report.name, verdict)),
        aligned([row[:TERMINAL_COLUMNS] for row in (table.columns, *table.rows)]),
        f"open:    {(output_dir or folder) / 'report.html'}\n"
        f"publish: hf-radam publish {folder} --repo_id NAME/REPO",
    ])  # fmt: skip
