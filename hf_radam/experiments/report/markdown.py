"""Text that Markdown, HTML and terminals take literally, and tables of it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from hf_radam.experiments.report.tables import Table
from hf_radam.files import one_line, printable

# An underscore means something at the edge of a word only; signs and "1." at the beginning of a line only.
_SPECIAL = re.compile(r"[\\`*\[\]#|~$]|(?<![^\W_])_|_(?![^\W_])|^[-+=]|(?<=^\d)[.)](?!\S)|(?<=^\d\d)[.)](?!\S)")


def literal(text: Any) -> str:
    """Text that Markdown, HTML and formulas take literally, on one line; for anything that a record says."""
    escaped = html.escape(one_line(str(text)), quote=False)
    # A backslash before a bracket would begin a formula on the Hub, also where it is escaped.
    return _SPECIAL.sub(lambda match: "&#92;" if match[0] == "\\" else f"\\{match[0]}", escaped)


def code(value: Any) -> str:
    """A value in code marks, also inside of a table."""
    text = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).replace("|", "\\|")
    marks = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{marks}{padding}{text}{padding}{marks}" if text else ""


def fenced(text: str, language: str = "") -> str:
    """A code block that its content cannot end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table_markdown(table: Table) -> str:
    """A table as Markdown."""
    lines = [[literal(head) for head in table.columns], ["---", *["---:"] * (len(table.columns) - 1)]]
    for i, row in enumerate(table.rows):
        cells = [literal(cell) for cell in row]
        lines.append([f"**{cell}**" if (i, j) in table.best and cell else cell for j, cell in enumerate(cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text in columns, the first to the left and the others to the right.

    Example:
        >>> print(aligned([("recipe", "loss"), ("adam", "1.0")]))
        recipe  loss
        adam     1.0
    """
    shown = [[printable(one_line(cell)) for cell in row] for row in rows]
    first, *others = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ([row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in shown)
    return "\n".join("  ".join(line).rstrip() for line in lines)
