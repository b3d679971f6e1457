"""The site: `make docs`."""

import inspect
import json
import re
import shutil
import sys
from os.path import relpath
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
exclude_patterns = ["benchmark", "_static"]
myst_enable_extensions, myst_heading_anchors = ["dollarmath"], 3
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
default_role = "code"
autodoc_member_order, autodoc_typehints = "bysource", "description"
autodoc_inherit_docstrings, autodoc_typehints_description_target = False, "documented"
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


def _notebook(app, docname, source):
    """A notebook is a page with its text, its code, and what that printed and drew when it was run."""
    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    parts = []
    for cell in json.loads(source[0])["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text'])}```")
            if "image/png" in output.get("data", {}):
                parts.append(f'<img alt="{docname}" src="data:image/png;base64,{output["data"]["image/png"].strip()}">')
    source[0] = "\n\n".join(parts)


def _leave(app, docname, source):
    """Links of a page to files that are no pages lead to GitHub."""
    folder = Path(app.srcdir, docname).parent

    def link(match):
        target, _, anchor = match[2].partition("#")
        if re.match(r"https?:|mailto:", target) or not target:
            return match[0]
        path = (folder / target).resolve()
        if path.is_relative_to(app.srcdir) and path.suffix in app.config.source_suffix and path.is_file():
            return match[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"{match[1]}({REPO}/{kind}/main/{path.relative_to(ROOT)}{'#' * bool(anchor)}{anchor})"

    source[0] = re.sub(r"(?<!!)(\[[^\]\n]*(?:\n[^\]\n]*)?\])\(([^)\s]+)\)", link, source[0])


def _figures(app, docname, source):
    """Pictures of committed comparisons, which lie outside of this folder, are copied beside the pages."""
    folder = Path(app.srcdir, docname).parent

    def copy(match):
        path = (folder / match[1]).resolve()
        target = Path(app.outdir, "_images", "-".join(path.relative_to(ROOT).parts))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return match[0].replace(match[1], relpath(target, Path(app.outdir, docname).parent))

    source[0] = re.sub(r'(?:src|srcset)="(?!https?:|data:)([^"]+)"', copy, source[0])


def setup(app):
    for change in (_notebook, _leave, _figures):
        app.connect("source-read", change)
