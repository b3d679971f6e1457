"""The site: `make docs`."""

import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hf_radam  # noqa: E402

REPO = "https://github.com/hf-radam/hf_radam"

project, author, release = "hf_radam", "The hf_radam authors", hf_radam.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.linkcode"]
html_theme, html_title, html_show_copyright = "furo", "hf_radam", False
html_theme_options = {"source_repository": REPO, "source_branch": "main", "source_directory": "docs/"}
# Files of the repository that pages link are shown on GitHub; see `_leave`.
exclude_patterns = ["benchmark", "bf16_weights", "_static"]
myst_enable_extensions, myst_heading_anchors = ["dollarmath"], 3
default_role = "code"
autodoc_member_order, autodoc_typehints = "bysource", "description"
autodoc_inherit_docstrings = False
napoleon_use_rtype = False
# Downloaded by `make docs` from npm, so that no reader's browser asks a third party.
html_static_path = ["_static"] if (ROOT / "docs" / "_static").is_dir() else []
mathjax_path = "mathjax/tex-chtml.js"
# Headings that generated tables bring along, and the languages of shell sessions.
suppress_warnings = ["myst.header", "misc.highlighting_failure"]


def linkcode_resolve(domain, info):
    """The lines of an object on GitHub."""
    try:
        found = sys.modules[info["module"]]
        for part in info["fullname"].split("."):
            found = getattr(found, part)
        lines, first = inspect.getsourcelines(inspect.unwrap(found))
        path = Path(inspect.getsourcefile(inspect.unwrap(found))).relative_to(ROOT)
    except (AttributeError, KeyError, TypeError, OSError, ValueError):
        return None
    return f"{REPO}/blob/main/{path}#L{first}-L{first + len(lines) - 1}"


def _leave(app, docname, source):
    """Links of a page to files that are no pages lead to GitHub."""
    import re

    def link(match):
        target, _, anchor = match[2].partition("#")
        if re.match(r"https?:|mailto:", target) or not target:
            return match[0]
        path = (Path(app.srcdir) / target).resolve()
        if path.is_relative_to(app.srcdir) and path.suffix == ".md" and path.is_file():
            return match[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"{match[1]}({REPO}/{kind}/main/{path.relative_to(ROOT)}{'#' * bool(anchor)}{anchor})"

    source[0] = re.sub(r"(?<!!)(\[[^\]\n]*(?:\n[^\]\n]*)?\])\(([^)\s]+)\)", link, source[0])


def _figures(app, docname, source):
    """Pictures of committed comparisons, which lie outside of this folder, are copied beside the pages."""
    import re
    import shutil

    def copy(match):
        path = (Path(app.srcdir) / match[1]).resolve()
        name = "-".join(path.relative_to(ROOT).parts)
        target = Path(app.outdir) / "_images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return match[0].replace(match[1], f"_images/{name}")

    source[0] = re.sub(r'(?:src|srcset)="(?!https?:)([^"]+)"', copy, source[0])


def setup(app):
    app.connect("source-read", _leave)
    app.connect("source-read", _figures)
