"""A Report -> Markdown, HTML, JSON, and lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hf_radam.experiments.records import Record
from hf_radam.experiments.report.escape import literal, one_line
from hf_radam.experiments.report.page import to_html
from hf_radam.experiments.report.report import Image, Report
from hf_radam.experiments.report.table import Table

# Columns of a terminal's table: recipe, result, difference and the like.
TERMINAL_COLUMNS = 6


def to_markdown(report: Report, images: Sequence[Image] = ()) -> str:
    """The whole report, with its title."""
    shown = "\n".join(f"![{literal(image.title)}]({image.path})" for image in images)
    return (
        "\n\n".join([f"# {literal(report.name)}", report.verdict.text, body(report), *([shown] if shown else [])])
        + "\n"
    )


def body(report: Report) -> str:
    """Tables and notes as Markdown, without title and verdict."""
    return "\n\n".join([tables_markdown(report), "\n".join(f"- {literal(note)}" for note in report.notes)])


def tables_markdown(report: Report) -> str:
    """All tables, each below its title."""
    return "\n\n".join(f"## {literal(table.title)}\n\n{table_markdown(table)}" for table in report.tables)


def table_markdown(table: Table) -> str:
    """A table as Markdown."""
    lines = [[literal(head) for head in table.columns], ["---", *["---:"] * (len(table.columns) - 1)]]
    for i, row in enumerate(table.rows):
        cells = [literal(cell) for cell in row]
        lines.append([f"**{cell}**" if (i, j) in table.best and cell else cell for j, cell in enumerate(cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def to_page(report: Report, records: Sequence[Record]) -> str:
    """The report as one HTML file to explore its records in."""
    verdict = [plain(sentence) for sentence in report.verdict.headline]
    return to_html(records, title=report.name, verdict=verdict, tables=report.tables)


def plain(sentence: str) -> str:
    """A sentence of a verdict without Markdown's marks."""
    return sentence.replace("`", "").replace("**", "")


def to_json(report: Report, images: Sequence[Image] = ()) -> str:
    """The verdict and the figures, for machines."""
    figures = [asdict(image) for image in images]
    content = {"name": report.name, "verdict": asdict(report.verdict), "figures": figures}
    return json.dumps(content, indent=2) + "\n"


def to_terminal(report: Report, folder: Path) -> str:
    """Verdict, the first table, where the rest lies, and the command that publishes it.

    Args:
        report: of the results in the folder.
        folder: the results folder, into which `write_report` has written.
    """
    verdict = plain(" ".join(report.verdict.headline))
    table = report.tables[0]
    return "\n\n".join([
        printable(f"{report.name}\n{verdict}"),
        aligned([row[:TERMINAL_COLUMNS] for row in (table.columns, *table.rows)]),
        f"report:  {folder / 'table.md'}\nfigures: {folder / 'figures'}\n"
        f"publish: hf-radam publish {folder} --repo_id NAME/REPO --dry_run",
    ])  # fmt: skip


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text in columns, the first to the left and the others to the right.

    Example:
        >>> print(aligned([("recipe", "loss"), ("adam", "1.0")]))
        recipe  loss
        adam     1.0
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = []
    for first, *rest in shown:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    """Each line of a text on one line, without control characters."""
    return "\n".join("".join(c for c in one_line(line) if c.isprintable()) for line in text.split("\n"))
