"""The one escape: what it returns reads as what it was given."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from hf_radam.experiments.report.markdown import code, literal

TEXTS = [
    "plain text, with-hyphens (and brackets) 1.0+cpu", "__init__ a_b _c_ __d__ _", "*a* **b** ~~c~~", "`code` ``",
    "# no", "- item", "+ item", "1. item", "12) item", "=== ",
    "<b>bold</b> &amp; <!-- gone -->", "[link](http:x) ![image](x)",
    "a | b", "\\(x\\) \\[y\\] $z$ \\", "a trailing #", "&lt; &#60;", "two\nlines\n\n# three", "> quote", "{{ 7*7 }}",
]  # fmt: skip


PLACES = ["{}", "# {}", "- {}", "| a |\n| --- |\n| {} |"]
OURS = {"p", "h1", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code"}
CASES = [(escape, place, text) for escape in (literal, code) for place in PLACES for text in TEXTS]


# `code` escapes "|" for tables, which shows elsewhere.
@pytest.mark.parametrize(
    ("escape", "place", "text"), [c for c in CASES if c[0] is literal or c[1] == PLACES[-1] or "|" not in c[2]]
)
def test_a_text_is_read_as_it_stands(escape: Callable[[str], str], place: str, text: str) -> None:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(place.format(escape(text)))
    assert set(re.findall(r"<(\w+)", page)) <= OURS
    shown = html.unescape(re.sub(r"<[^>]*>", "", page.replace("<th>a</th>", "")))
    assert shown.strip() == " ".join(text.split())


def test_no_formula_begins_in_a_text() -> None:
    """The Hub takes an escaped backslash and a bracket for the beginning of one."""
    assert literal("\\(x\\) $y$") == "&#92;(x&#92;) \\$y\\$"
