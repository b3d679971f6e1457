"""Render the reports and cards under `model_cards/`, and what README.md and docs/ show of the committed records.

    python scripts/render_cards.py

On a page, what is rendered stands between one of these lines and `<!-- end -->`; paths are relative to the root:

    <!-- headline: model_cards/NAME -->         what a comparison found, in two or three sentences (or NAME/PART)
    <!-- verdict: model_cards/NAME -->          all that it found
    <!-- table: model_cards/NAME -->            its first table; `tables` gives all of them, with their titles
    <!-- figure: model_cards/NAME evaluation -->    a figure, by the name of its file
    <!-- rates: model_cards/NAME model_cards/NAME -->    RAdam at equal effective rates, a row for each of them
    <!-- best_rates: model_cards/NAME -->       RAdam's best learning rate over Adam's, likewise
    <!-- benchmark: FILE.json -->               all tables of a benchmark
    <!-- speed: FILE.json -->                   its first table, cut down to fused AdamW and RAdam
    <!-- bf16_weights: FOLDER -->               what scripts/bf16_weights.py found
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

from benchmark import table as benchmark_table
from benchmark_sharded import table as sharded_table
from bf16_weights import table as bf16_table

from hf_radam.experiments.records import Record
from hf_radam.experiments.report import rates
from hf_radam.experiments.report.report import Image, Report, draw, make_report, write_report
from hf_radam.experiments.report.writers import table_markdown, tables_markdown, to_json
from hf_radam.experiments.results import Results
from hf_radam.files import write_whole
from hf_radam.publishing.card import Page, picture, write_card

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# Of a committed comparison; `hf-radam report` draws the others.
FIGURES = 2
# Rows of the short table of a benchmark; the first is what the others are measured against.
SPEED = (
    "torch.optim.AdamW (fused)",
    "hf_radam.RAdam (fused)",
    "torch.optim.RAdam (foreach)",
    "torch.optim.RAdam (for-loop)",
)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A committed comparison."""

    results: Results
    report: Report
    images: list[Image]
    """As summary.json has them."""


def load(folder: Path) -> Rendered:
    """What is under `model_cards/NAME`, whose report has been written, or `model_cards/NAME/PART`, which has none."""
    results, summary = Results.load(folder), folder / "summary.json"
    images = json.loads(summary.read_text(encoding="utf-8"))["figures"] if summary.is_file() else []
    return Rendered(results=results, report=make_report(results), images=[Image(**image) for image in images])


def render(page: Path, text: str, cards: Mapping[str, Rendered]) -> str:
    """A page with all that comes from records made anew.

    Args:
        page: where it lies, for the paths of figures.
        text: what stands there.
        cards: by folder, relative to the root.

    Raises:
        ValueError: no such kind, folder or figure.
    """

    def figure(path: str, name: str) -> str:
        found = {Path(image.path).stem: image for image in cards[path].images}
        return picture(found[name], f"{relpath(ROOT / path, page.parent)}/") + "\n"

    kinds: dict[str, Callable[..., str]] = {
        "headline": lambda path: " ".join(cards[path].report.verdict.headline) + "\n",
        "verdict": lambda path: cards[path].report.verdict.text + "\n",
        "table": lambda path: table_markdown(cards[path].report.tables[0]) + "\n",
        "tables": lambda path: tables_markdown(cards[path].report) + "\n",
        "figure": figure,
        "rates": lambda *paths: equal_rates({path: cards[path].results.records for path in paths}),
        "best_rates": lambda *paths: coming_from_adam({path: cards[path].results.records for path in paths}),
        "benchmark": benchmark,
        "speed": speed,
        "bf16_weights": lambda path: bf16_table(json.loads((ROOT / path / "bf16_weights.json").read_text("utf-8"))),
    }

    def block(match: re.Match[str]) -> str:
        kind, *arguments = match["what"].replace(":", "", 1).split()
        try:
            body = kinds[kind](*arguments)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{page}: nothing to render for <!-- {match['what']} -->") from error
        return f"<!-- {match['what']} -->\n\n{body}\n<!-- end -->"

    return re.sub(r"<!-- (?P<what>\w+: [^\n]+?) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def equal_rates(records: Mapping[str, Sequence[Record]]) -> str:
    """The rule, a table, and a sentence for each comparison."""
    tasks = {path.removeprefix("model_cards/"): of for path, of in records.items()}
    said = [f"- {task}. {duel.sentence}" for task, of in tasks.items() for duel in rates.duels(of)]
    return "\n\n".join([rates.RULE, table_markdown(rates.comparison_table(tasks)), "\n".join(said)]) + "\n"


def coming_from_adam(records: Mapping[str, Sequence[Record]]) -> str:
    """A table, and what follows from it."""
    table, said = rates.best_rates({path.removeprefix("model_cards/"): of for path, of in records.items()})
    return f"{table_markdown(table)}\n\n{said}\n"


def benchmark(path: str) -> str:
    """All tables of a benchmark."""
    measured = json.loads((ROOT / path).read_text(encoding="utf-8"))
    return "\n".join(_benchmark_table(one, measured["environment"]) for one in measured["benchmarks"])


def speed(path: str) -> str:
    """Time a step of the first benchmark of a file, of the optimizers that most will choose between."""
    measured = json.loads((ROOT / path).read_text(encoding="utf-8"))
    first = measured["benchmarks"][0]
    rows = {row["optimizer"]: row for row in first["rows"]}
    text = _benchmark_table({**first, "rows": [rows[name] for name in SPEED]}, measured["environment"])
    about, gap, *table = text.splitlines()
    return "\n".join([about, gap, *("|".join(line.split("|")[:4]) + "|" for line in table)]) + "\n"


def _benchmark_table(measured: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    return (benchmark_table if "shapes" in measured else sharded_table)(measured, environment)


def render_card(folder: Path, output_dir: Path) -> Path:
    """Write the card of a committed comparison, whose report is up to date."""
    card, name = load(folder), folder.name
    page = Page(
        title=name,
        report=card.report,
        images=card.images,
        comparison_path=f"model_cards/{name}/comparison.yaml",
    )
    return write_card(card.results, output_dir, page)


def main() -> None:
    """Write everything in its place."""
    cards: dict[str, Rendered] = {}
    for description in sorted(ROOT.glob("model_cards/**/comparison.json")):
        folder = description.parent
        if folder.parent.name == "model_cards":  # one within another is a search or a part of the same question
            for figure in folder.glob("figures/*.png"):
                figure.unlink()
            write_report(folder, most=FIGURES)
            render_card(folder, folder)
        elif rates.duels((results := Results.load(folder)).records):
            images = draw(results, folder, only="effective_rates")
            write_whole(folder / "summary.json", to_json(make_report(results), images))
        cards[str(folder.relative_to(ROOT))] = load(folder)
    for page in PAGES:
        write_whole(page, render(page, page.read_text(encoding="utf-8"), cards))


if __name__ == "__main__":
    main()
