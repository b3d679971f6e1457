"""Text that Markdown, HTML and tables take literally."""

from __future__ import annotations

import html
import json
import re
from typing import Any


def one_line(text: str) -> str:
    """The text with each run of white space as one space."""
    return " ".join(text.split())


def literal(text: Any) -> str:
    """Text that Markdown and HTML take literally, on one line."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", html.escape(one_line(str(text)), quote=False))


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
