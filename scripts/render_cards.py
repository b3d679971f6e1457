"""Render the reports and cards under `model_cards/`, and what README.md and docs/ show of the committed records.

    python scripts/render_cards.py

On a page, what is rendered stands between one of these lines and `<!-- end -->`; paths are relative to the root:

    <!-- verdict: model_cards/NAME -->          what a comparison found (or NAME/PART)
    <!-- answers: model_cards/NAME model_cards/NAME -->    each family of recipes at its best, a row for each of them
    <!-- table: model_cards/NAME 1 -->          its second table; without a number its first
    <!-- figure: model_cards/NAME evaluation -->    a figure, by the name of its file
    <!-- rates: model_cards/NAME model_cards/NAME -->    RAdam at equal effective rates, a row for each of them
    <!-- best_rates: model_cards/NAME -->       the best learning rates of RAdam and Adam, likewise
    <!-- benchmark: FILE.json -->               all tables of a benchmark
    <!-- costs: FILE.json FILE.json -->         RAdam's time over fused AdamW's, ours and PyTorch's
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import relpath
from pathlib import Path

import pandas as pd
from benchmark import table as benchmark_table

from hf_radam.experiments.report import rates
from hf_radam.experiments.report.charts import effective_rates
from hf_radam.experiments.report.drawing import Image, save
from hf_radam.experiments.report.markdown import table_markdown
from hf_radam.experiments.report.report import Report, make_report, to_json, write_report
from hf_radam.experiments.report.statistics import cost
from hf_radam.experiments.results import Results
from hf_radam.files import write_whole
from hf_radam.publishing.card import picture
from hf_radam.publishing.card import render as render_card
from hf_radam.publishing.reproduce import comparison_file

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")))
# Of a committed comparison; `hf-radam report` draws the others.
FIGURES = 2
SHAPES = {"decoder-1b": "1.1 B parameters, bf16", "bert-base": "BERT-base", "lora": "LoRA, 500 small tensors"}


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
    """The text of a page with all that comes from records made anew; `cards` are by folder, relative to the root.

    Raises:
        ValueError: no such kind, folder or figure.
    """

    def figure(path: str, name: str) -> str:
        found = {Path(image.path).stem: image for image in cards[path].images}
        return picture(found[name], f"{relpath(ROOT / path, page.parent)}/") + "\n"

    def tasks(paths: Sequence[str]) -> dict[str, Results]:
        return {path.removeprefix("model_cards/"): cards[path].results for path in paths}

    kinds: dict[str, Callable[..., str]] = {
        "verdict": lambda path: " ".join(cards[path].report.verdict) + "\n",
        "answers": lambda *paths: answers({relpath(ROOT / path, page.parent): cards[path].results for path in paths}),
        "table": lambda path, at=0: table_markdown(cards[path].report.tables[int(at)]) + "\n",
        "figure": figure,
        "rates": lambda *paths: table_markdown(rates.equal_rates(tasks(paths))) + "\n",
        "best_rates": lambda *paths: coming_from_adam(tasks(paths)),
        "benchmark": benchmark,
        "costs": costs,
    }

    def block(match: re.Match[str]) -> str:
        kind, *arguments = match["what"].replace(":", "", 1).split()
        try:
            body = kinds[kind](*arguments)
        except (LookupError, TypeError) as error:
            raise ValueError(f"{page}: nothing to render for <!-- {match['what']} -->") from error
        return f"<!-- {match['what']} -->\n\n{body}\n<!-- end -->"

    return re.sub(r"<!-- (?P<what>\w+: [^\n]+?) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def coming_from_adam(tasks: Mapping[str, Results]) -> str:
    """The table of best learning rates, and what follows from it."""
    table, said = rates.best_rates(tasks)
    return f"{table_markdown(table)}\n\n{said}\n"


def answers(comparisons: Mapping[str, Results]) -> str:
    """A table with the mean of each family at its best setting, and how often RAdam is ahead of the two warmups."""
    lines = ["| task | seeds | Adam | Adam + warmup | Adam + untuned warmup | RAdam |", "|---|--:|--:|--:|--:|--:|"]
    against: dict[str, list[str]] = {"warmup": [], "untuned": []}
    for path, results in comparisons.items():
        best = best_of_families(results)
        cells = [f"{row.value.mean():.3f}" for row in best.values()]
        least = f"{min(best.values(), key=cost).value.mean():.3f}"
        cells = [f"**{cell}**" if cell == least else cell for cell in cells]
        name = re.sub(r"^Can warmup go(\?| in) |\?$", "", results.comparison["name"])
        seeds = len(best["radam"])
        lines.append(f"| [{name}]({path}/README.md) ({results.metric.label}) | {seeds} | {' | '.join(cells)} |")
        for other, found in against.items():
            found.append(_outcome(best["radam"], best[other]))
    said = [
        f"Against {what}, RAdam ends better on {found.count('ahead')} of {len(found)} tasks and worse on "
        f"{found.count('behind')}, in all seeds; on {found.count('tie')} the seeds disagree."
        for what, found in zip(("Adam with warmup", "untuned warmup"), against.values(), strict=True)
    ]
    return "\n".join([*lines, "", *said]) + "\n"


def best_of_families(results: Results) -> dict[str, pd.DataFrame]:
    """The best row of Adam, of both warmups and of RAdam, among those with the most seeds."""
    found: dict[str, pd.DataFrame] = {}
    rows = results.rows.values()
    for row in sorted(rows, key=cost):
        if len(row) == max(map(len, rows)):
            found.setdefault(row.family.iat[0], row)
    return {name: found[name] for name in ("adam", "warmup", "untuned", "radam")}


def _outcome(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """Whether one row is ahead of another in every seed that both have."""
    both = ours.merge(theirs, on="seed")
    ahead = set(both.cost_x < both.cost_y)
    return "tie" if len(ahead) > 1 else "ahead" if True in ahead else "behind"


def benchmark(path: str) -> str:
    """All tables of a benchmark."""
    measured = json.loads((ROOT / path).read_text(encoding="utf-8"))
    return "\n".join(benchmark_table(one, measured["environment"]) for one in measured["benchmarks"])


def costs(*paths: str) -> str:
    """Time a step over that of fused AdamW: of this package's RAdam, and of PyTorch's fastest."""
    ours, theirs = [], []
    for one in (one for path in paths for one in json.loads((ROOT / path).read_text("utf-8"))["benchmarks"]):
        ratios = {row["optimizer"]: row["ratio"] for row in one["rows"]}
        ours.append(f"{ratios['hf_radam.RAdam (fused)']:.2f} ({SHAPES[one['shapes']]})")
        theirs.append(f"{ratios['torch.optim.RAdam (foreach)']:.2f}")
    return f"Relative to fused AdamW: {', '.join(ours)}. `torch.optim.RAdam`: {', '.join(theirs)}.\n"


def write_card(card: Rendered, name: str, folder: Path) -> None:
    """Write the card of a committed comparison, whose report is up to date, and the file that makes it again."""
    write_whole(folder / "README.md", render_card(card.results, card.report, card.images, title=name))
    write_whole(folder / "comparison.yaml", comparison_file(card.results))


def main() -> None:
    """Write everything in its place."""
    cards: dict[str, Rendered] = {}
    for description in sorted(ROOT.glob("model_cards/**/comparison.json")):
        folder = description.parent
        if folder.parent.name == "model_cards":
            for figure in folder.glob("figures/*.png"):
                figure.unlink()
            write_report(folder, most=FIGURES)
            card = load(folder)
            write_card(card, folder.name, folder)
        else:  # a search, or a part of the same question
            card = load(folder)
            if rates.duels(card.results):
                card = replace(card, images=[save(effective_rates(card.results), folder / "figures")])
                write_whole(folder / "summary.json", to_json(card.report, card.images))
        cards[str(folder.relative_to(ROOT))] = card
    for page in PAGES:
        write_whole(page, render(page, page.read_text(encoding="utf-8"), cards))


if __name__ == "__main__":
    main()
