"""What the documentation shows runs, and its numbers are those of the committed records."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from comparisons import ROOT

import hf_radam
from hf_radam import registry
from hf_radam.experiments.report.report import Image, make_report
from hf_radam.experiments.report.writers import to_json, to_markdown
from hf_radam.experiments.results import Results

README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = [
    info.name for info in pkgutil.walk_packages(hf_radam.__path__, "hf_radam.") if not info.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))  # an example registers an optimizer
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("number", range(len(re.findall(r"```python\n", README))))
def test_readme_snippets(number: int, tmp_path: Path) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number])
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readme_links_exist() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_rendered_numbers_are_those_of_the_records() -> None:
    """Stale? `make readme` renders README.md and model_cards/ anew."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        readme = importlib.import_module("readme")
    finally:
        sys.path.pop(0)
    reports = {}
    for description in ROOT.glob("model_cards/*/comparison.json"):
        folder = description.parent
        report = reports[str(folder.relative_to(ROOT))] = make_report(Results.load(folder))
        summary = json.loads((folder / "summary.json").read_text())
        images = [Image(**image) for image in summary["figures"]]
        assert (folder / "summary.json").read_text() == to_json(report, images)
        assert (folder / "table.md").read_text() == to_markdown(report, images)
        for image in images:
            assert (folder / image.path).is_file()
    assert readme.render(README, reports) == README
