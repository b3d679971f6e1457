"""Text that Markdown, HTML and tables take literally."""

from __future__ import annotations

import html
import json
import re
from typing import Any

# An underscore means something at the edge of a word only; signs and "1." at the beginning of a line only.
_SPECIAL = re.compile(r"[\\`*\[\]#|~$]|(?<![^\W_])_|_(?![^\W_])|^[-+=]|(?<=^\d)[.)](?!\S)|(?<=^\d\d)[.)](?!\S)")


def one_line(text: str) -> str:
    """The text with each run of white space as one space."""
    return " ".join(text.split())


def literal(text: Any) -> str:
    """Text that Markdown, HTML and formulas take literally, on one line; for anything that a record says."""
    return _SPECIAL.sub(_escaped, html.escape(one_line(str(text)), quote=False))


def _escaped(match: re.Match[str]) -> str:
    # A backslash before a bracket would begin a formula on the Hub, also where it is escaped.
    return "&#92;" if match[0] == "\\" else f"\\{match[0]}"


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
