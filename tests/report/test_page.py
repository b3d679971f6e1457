"""report.html: its size, the texts of records in it, and in Chromium what a reader does and sees."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from comparisons import ROOT
from made_up import record

from hf_radam.experiments.records import load_records
from hf_radam.experiments.report import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NASTY = "</script><script>window.hacked=1</script>\u2028<img src=x onerror=window.hacked=1>{{data}}&amp;"
RATES = (1e-3, 2e-3)
RECORDS = [
    record(recipe, rate=rate, seed=seed, loss=0.123456789 * (1 + i + 0.4 * seed) * (1 + 1000 * rate))
    for i, recipe in enumerate(("adam", "radam", NASTY))
    for rate in RATES
    for seed in (0, 1)
]


class Reader(HTMLParser):
    """Tags, and the text of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_sixty_runs_are_below_200_kB() -> None:
    folder = max((ROOT / "model_cards").glob("*/records"), key=lambda path: len(list(path.iterdir()))).parent
    records = (load_records(folder) * 60)[:60]
    assert len(page.to_html(records, title="Sixty").encode()) < 200_000


def test_texts_of_records_stay_text() -> None:
    reader = read(page.to_html(RECORDS, title=NASTY, verdict=[NASTY]))
    assert [tag for tag, _ in reader.tags].count("script") == 2, "the data and the page's own"
    assert "img" not in {tag for tag, _ in reader.tags}
    data = json.loads(reader.scripts[0])
    assert [recipe["name"] for recipe in data["recipes"]] == ["adam", "radam", NASTY]
    assert reader.scripts[0].isascii(), "U+2028 ends a line in older JavaScript"


def test_nothing_is_loaded() -> None:
    text = page.to_html(RECORDS, title="Made up")
    assert not [attrs for _, attrs in read(text).tags if {"src", "href"} & set(attrs)]
    assert "default-src 'none'" in text
    assert not re.findall(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page in a window as wide as the test asks for."""
    path = tmp_path / "report.html"
    path.write_text(page.to_html(RECORDS, title="Made up", verdict=["All is well."]), encoding="utf-8")
    width, scheme = getattr(request, "param", (1200, "light"))
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=True)
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text))
    tab.goto(path.as_uri())
    yield tab
    assert problems == []
    assert tab.evaluate("window.hacked") is None
    context.close()


def told(text: str) -> tuple[str, float, int, int, float]:
    """Recipe, rate, seed, update and value, as the page tells them."""
    found = re.fullmatch(r"(.*), lr (\S+), seed (\d+), update (\d+): (\S+)", " ".join(text.split("\n")), re.DOTALL)
    assert found is not None, text
    return found[1], float(found[2]), int(found[3]), int(found[4]), float(found[5])


def test_all_recipes_or_none(opened: Any) -> None:
    boxes, lines = opened.locator("#recipes input"), opened.locator("#chart path")
    before = lines.count()
    for checked, count in ((0, 0), (boxes.count(), before)):
        opened.get_by_role("button", name="all or none").click()
        assert [boxes.nth(i).is_checked() for i in range(boxes.count())].count(True) == checked
        assert lines.count() == count
    assert before > 0


def test_values_under_the_pointer_are_those_of_the_records(opened: Any) -> None:
    """At the ends of all lines, of each rate."""
    box = opened.locator("#chart").bounding_box()
    for rate in RATES:
        opened.get_by_label(f"lr {rate:g}").check()
        ends = opened.evaluate("shown.map(line => line.points.at(-1)).map(p => [scales.x(p[0]), scales.y(p[1])])")
        assert len(ends) == 6
        seen = set()
        for x, y in ends:
            opened.mouse.move(box["x"] + x, box["y"] + y)
            recipe, *rest = opened.locator("#tip div").all_inner_texts()
            seen.add(told(", ".join([recipe, *rest])))
        wanted = {
            (r.recipe, rate, r.seed, 4, float(f"{r.final['loss']:.5g}")) for r in RECORDS if r.learning_rate == rate
        }
        assert {(shown[0].replace("\u2028", "\n"), *shown[1:]) for shown in seen} == {
            (one[0].replace("\u2028", "\n"), *one[1:]) for one in wanted
        }


def test_keys_go_along_a_run_and_to_others(opened: Any) -> None:
    opened.locator("#chart").focus()
    said = []
    for key in ("ArrowRight", "Home", "ArrowDown"):
        opened.keyboard.press(key)
        said.append(told(opened.locator("#said").text_content()))
    by_seed = [r.final["loss"] for r in RECORDS if (r.recipe, r.learning_rate) == ("adam", said[0][1])]
    assert said[0][2:] == (0, 4, pytest.approx(by_seed[0], rel=1e-4))
    assert said[1][2:] == (0, 0, 4.0)
    assert said[2][2:] == (1, 0, 4.0)
    opened.keyboard.press("Escape")
    assert opened.locator("#tip").is_hidden()


def test_choices(opened: Any) -> None:
    assert opened.locator("#lines path").count() == 6
    opened.get_by_label("radam", exact=True).uncheck()
    assert opened.locator("#lines path").count() == 4
    opened.get_by_label("training loss").check()
    assert "training loss" in opened.locator("#caption").inner_text()
    for box in opened.locator("[name=recipe]").all():
        box.uncheck()
    assert "No run chosen" in opened.locator("#chart").text_content()


@pytest.mark.parametrize("opened", [(390, "light"), (390, "dark"), (1200, "dark")], indirect=True)
def test_it_fits_the_screen_and_a_tap_tells_a_value(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page_color = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page_color == ("rgb(11, 15, 25)" if dark else "rgb(255, 255, 255)")
    x, y = opened.evaluate("[scales.x(shown[0].points[1][0]), scales.y(shown[0].points[1][1])]")
    opened.locator("#chart").tap(position={"x": x - 2, "y": y})
    assert opened.locator("#tip").is_visible()
    tip, plot = opened.locator("#tip").bounding_box(), opened.locator("#chart").bounding_box()
    assert plot["x"] <= tip["x"]
    assert tip["x"] + tip["width"] <= plot["x"] + plot["width"] + 1
