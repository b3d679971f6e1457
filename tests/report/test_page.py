"""report.html: its size, the texts of records in it, and what Chromium makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from comparisons import ROOT
from made_up import read, record

from hf_radam.experiments.records import load_records
from hf_radam.experiments.report import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NASTY = "</script><script>window.hacked=1</script>\u2028<img src=x onerror=window.hacked=1>{{data}}&amp;"
RECORDS = [
    record(recipe, rate=rate, seed=seed, loss=0.123456789 * (1 + i + 0.4 * seed) * (1 + 1000 * rate))
    for i, recipe in enumerate(("adam", "radam"))
    for rate in (1e-3, 2e-3)
    for seed in (0, 1)
]


def test_sixty_runs_are_below_1300_kB() -> None:
    folder = max((ROOT / "model_cards").glob("*/records"), key=lambda path: len(list(path.iterdir()))).parent
    records = (load_records(folder) * 60)[:60]
    assert len(page.to_page(read(records), title="Sixty").encode()) < 1_300_000


def test_texts_of_records_stay_text() -> None:
    """Nothing is loaded either."""
    records = [replace(run, loss_unit=NASTY) for run in RECORDS]
    script, text = r"<script[^>]*>(.*?)</script>", page.to_page(read(records), title=NASTY, verdict=[NASTY])
    _, data, _ = re.findall(script, text, re.DOTALL)  # the engine, the data and the page's own
    assert json.loads(data)["curves"][0]["title"] == f"eval loss, {NASTY}"
    assert data.isascii(), "U+2028 ends a line in older JavaScript"
    rest = re.sub(script, "", text, flags=re.DOTALL)
    assert re.findall(r"<(?:script|img)|<[^>]*\s(?:src|href|onerror)=", rest) == []
    assert '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; ' in rest


def test_values_are_those_of_the_records() -> None:
    spec = page.live(read(RECORDS))[0]
    told = spec["transform"][0]["from"]["data"]["values"]
    assert [(run["run"], run["recipe"], float(run["lr"]), run["seed"]) for run in told] == [
        (i, run.recipe, run.learning_rate, run.seed) for i, run in enumerate(RECORDS)
    ]
    drawn = [(row["run"], row["step"], row["value"]) for row in spec["data"]["values"]]
    assert drawn == [
        (i, step, pytest.approx(value))
        for i, run in enumerate(RECORDS)
        for step, value in zip(run.evaluations["step"], run.evaluations["loss"], strict=True)
    ]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")
@pytest.mark.parametrize(("width", "dark"), [(500, False), (1200, True)])
def test_a_browser_draws_the_chosen_rate(width: int, dark: bool, tmp_path: Path) -> None:
    """500 pixels is Chromium's narrowest window."""
    said = (
        "<script>addEventListener('error', e => document.body.append('wro' + 'ng: ' + e.message));"
        "setTimeout(() => document.body.append('wide: ' + document.documentElement.scrollWidth), 3000)</script>"
    )
    text = page.to_page(read(RECORDS), title="Made up", verdict=["All is well."])
    (tmp_path / "report.html").write_text(text.replace("<body>", f"<body>{said}", 1), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--virtual-time-budget=6000", f"--window-size={width},800",
               f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
               "--dump-dom", str(tmp_path / "report.html")]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert "wrong:" not in dom
    assert int(re.findall(r"wide: (\d+)", dom)[0]) <= width
    assert dom.count('aria-roledescription="line mark"') == 4, "two recipes, two seeds, one rate"
    assert ("background-color: rgb(11, 15, 25)" in dom) == dark
