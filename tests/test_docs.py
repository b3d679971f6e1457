"""What the documentation shows runs, and its numbers are those of the committed records."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import render_cards
from comparisons import ROOT, environment, run

import hf_radam
from hf_radam import registry
from hf_radam.experiments.report.drawing import Image
from hf_radam.experiments.report.report import to_json, to_markdown

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]
MODULES = [
    info.name for info in pkgutil.walk_packages(hf_radam.__path__, "hf_radam.") if not info.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))  # an example registers an optimizer
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_python_on_pages_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    snippet = re.compile(r"```python\n(.*?)```", re.DOTALL)
    snippets = [code for page in PAGES for code in snippet.findall(page.read_text("utf-8"))]
    assert len(snippets) >= 6
    for code in snippets:
        exec(code, {"__name__": "page"})


def test_links_exist() -> None:
    link = re.compile(r"\]\((?!https?://)([^)#\s]+)")
    links = [page.parent / target for page in PAGES for target in link.findall(page.read_text("utf-8"))]
    assert [path for path in links if not path.exists()] == []


@pytest.mark.slow
def test_the_readme_installs(tmp_path: Path) -> None:
    """Its lines in an environment of their own, with CI's versions; then its first command."""
    (lines,) = re.findall(r"## Install.*?```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    run([sys.executable, "-m", "venv", tmp_path / "env"])
    command = f"PATH={tmp_path}/env/bin:$PATH\n{lines}\nhf-radam advise --max_steps 1000\nhf-radam compare --help"
    variables = environment(PIP_CONSTRAINT="constraints.txt", PYTHONPATH="")
    assert "beta2=0.995" in run(["bash", "-ec", command], cwd=ROOT, env=variables).stdout


def test_the_api_page_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r":: hf_radam\.([\w.]+)", page)) == sorted([*hf_radam.__all__, "rectified.rectified"])


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    run([sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", tmp_path], cwd=ROOT)


def test_rendered_numbers_are_those_of_the_records() -> None:
    """Stale? `make readme` renders README.md, docs/ and model_cards/ anew."""
    cards = {}
    for description in ROOT.glob("model_cards/**/comparison.json"):
        folder = description.parent
        card = cards[str(folder.relative_to(ROOT))] = render_cards.load(folder)
        if folder.parent.name != "model_cards":
            continue
        assert (folder / "summary.json").read_text() == to_json(card.report, card.images)
        assert (folder / "table.md").read_text() == to_markdown(card.report, card.images)
        for image in card.images:
            assert (folder / image.path).is_file()
            assert (folder / image.dark).is_file()
    for page in render_cards.PAGES:
        text = page.read_text(encoding="utf-8")
        assert render_cards.render(page, text, cards) == text, page


FOLDER, BENCHMARK = "model_cards/grammar", "docs/benchmark/step_cpu.json"
# what is asked for, and what stands in what is rendered of it
BLOCKS = {
    f"verdict: {FOLDER}": [r"\A\*\*Almost\.\*\* RAdam ends at [^\n]*\.\n\Z"],
    f"rates: {FOLDER}": [r"\A\| task \| RAdam \| the other \|"],
    f"best_rates: {FOLDER}": [r"\A\| task \| beta2 \|", r"\| grammar \| 0\.997 \| ≤ 0\.005 \| ≤ 0\.005 \|"],
    f"table: {FOLDER}": [r"\A\| recipe \| eval loss \|", r"\A(\|[^\n]*\n)+\Z"],
    f"table: {FOLDER} 1": [r"\A\| recipe \| s/step \| peak memory \|"],
    f"figure: {FOLDER} evaluation": [
        rf'\A<picture><source media="\(prefers-color-scheme: dark\)" srcset="\.\./{FOLDER}/figures/\w+_dark\.png">',
        rf'<img width="\d+" src="\.\./{FOLDER}/figures/evaluation\.png" alt="a &lt; b">',
    ],
    f"benchmark: {BENCHMARK}": ["bert-base: 109.5 M", "lora: ", r"\| optimi\.RAdam \|"],
    f"costs: {BENCHMARK}": [
        r"\ARelative to fused AdamW: 1\.03 \(BERT-base\), 0\.86 \(LoRA.*`torch\.optim\.RAdam`: 3\.72, 3\.25"
    ],
    f"answers: {FOLDER}": [
        r"\| 5 \| 3\.788 \| \*\*0\.119\*\* \| 0\.134 \| 0\.125 \|\n",
        "Against Adam with warmup, RAdam ends better on 0 of 1 tasks and worse on 1, in all seeds;",
    ],
}


@pytest.mark.parametrize("what", BLOCKS)
def test_a_page_shows_what_it_asks_for(what: str) -> None:
    card = render_cards.load(ROOT / FOLDER)
    image = Image(title="a < b", path="figures/evaluation.png", width=800, dark="figures/evaluation_dark.png")
    cards = {FOLDER: replace(card, images=[image])}
    page = f"before\n\n<!-- {what} -->\nstale\n<!-- end -->\n\nafter\n"
    shown = render_cards.render(ROOT / "docs" / "page.md", page, cards)
    start, end = f"before\n\n<!-- {what} -->\n\n", "\n<!-- end -->\n\nafter\n"
    assert shown.startswith(start)
    assert shown.endswith(end)
    for words in BLOCKS[what]:
        assert re.search(words, shown.removeprefix(start).removesuffix(end))


@pytest.mark.parametrize(
    "what", ["figure: model_cards/grammar none", "table: model_cards/none", "chart: model_cards/grammar", "table: a b"]
)
def test_a_page_that_asks_for_what_is_not_there_is_refused(what: str) -> None:
    cards = {"model_cards/grammar": render_cards.load(ROOT / "model_cards" / "grammar")}
    with pytest.raises(ValueError, match=f"page.md: nothing to render for <!-- {what} -->"):
        render_cards.render(ROOT / "page.md", f"<!-- {what} -->\n<!-- end -->\n", cards)
