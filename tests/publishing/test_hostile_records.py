"""Every text of a record or of a comparison is data: pages show it as it stands, and never take it for markup."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hub_server import metadata_errors
from made_up import write_results
from markdown_it import MarkdownIt
from sketches import sketches

from hf_radam.errors import UserError
from hf_radam.experiments.report.report import write_report
from hf_radam.experiments.results import Results
from hf_radam.publishing.bundle import build
from hf_radam.publishing.card import Choice

DATA = {"vocab_size": 300, "dataset_name": "me/set", "dataset_config_name": "en", "train_file": "train.jsonl"}


def _markup(field: tuple[Any, ...]) -> str:
    """Markup that tells where it stood."""
    name = re.sub(r"\W|_", "", "".join(map(str, field)))
    return f"<img src=x onerror={name}>\n# heading{name}\n\n<script>{name}</script> [x](http:{name}) | `$b$` {{{{7}}}}"


def _texts(content: Any, *field: Any) -> Iterator[tuple[Any, ...]]:
    """The place of each text in some JSON, and one for a new key in each mapping."""
    if isinstance(content, str):
        yield field
    if isinstance(content, dict):
        yield (*field, "NEW")
    if isinstance(content, (dict, list)):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _texts(value, *field, key)


def _changed(contents: dict[str, Any], *fields: tuple[Any, ...]) -> dict[str, Any]:
    """The files' contents with markup in these places."""
    contents = json.loads(json.dumps(contents))
    for field in fields:
        inner: Any = contents
        for key in field[:-1]:
            inner = inner[key]
        if field[-1] == "NEW":  # with a value of the kind that its neighbours have
            inner[_markup(field)] = next((v for v in inner.values() if not isinstance(v, (str, dict))), _markup(field))
        else:
            inner[field[-1]] = _markup(field)
    return contents


def _write(contents: dict[str, Any], folder: Path) -> Path:
    (folder / "records").mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps(contents["comparison"]))
    (folder / "records" / "radam.json").write_text(json.dumps(contents["record"]))
    return folder


def _example(folder: Path) -> dict[str, Any]:
    """A record and a comparison with a text in every place that may have one."""
    write_results(folder, {"radam": [0.5]}, data=DATA, model={"name_or_path": "me/model"})
    record = json.loads(next((folder / "records").iterdir()).read_text())
    comparison = json.loads((folder / "comparison.json").read_text())
    return {"record": {**record, "notes": ["a note"]}, "comparison": comparison}


with TemporaryDirectory() as _folder:
    EXAMPLE = _example(Path(_folder))
FIELDS = {".".join(map(str, field)): field for field in _texts(EXAMPLE) if len(field) > 1}
# What decides what else is read: names of recipes and runs, warmups, metrics.
REFUSED = {
    "record.id", "record.metric", "record.NEW", "record.curves.NEW", "record.evaluations.NEW", "record.final.NEW",
    "record.config.recipe.NEW", "record.config.recipe.name",
    "record.config.recipe.warmup", "comparison.recipes.NEW", "comparison.recipes.radam.NEW",
    "comparison.recipes.radam.name", "comparison.recipes.radam.warmup",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_names_of_our_own_are_no_free_text(name: str, tmp_path: Path) -> None:
    folder = _write(_changed(EXAMPLE, FIELDS[name]), tmp_path / "results")
    with pytest.raises(UserError) as refusal:
        Results.load(folder)
    assert "\n" not in str(refusal.value)
    if name.startswith("record.config.recipe.") or name == "record.id":
        assert "out of the folder" in str(refusal.value)


# name: kind of repo, and the file in it
PAGES = {
    "card of a model": ("model", "README.md"),
    "card of a dataset": ("dataset", "README.md"),
    "card of a Space": ("space", "README.md"),
    "page of a Space": ("space", "index.html"),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """HTML of everything that is shown of a record with markup in all of its texts at once."""
    folder = tmp_path_factory.mktemp("hostile")
    fields = [field for name, field in FIELDS.items() if name not in REFUSED]
    results = _write(_changed(EXAMPLE, *fields), folder / "results")
    markdown = MarkdownIt("commonmark").enable("table")
    write_report(results)
    shown = {"table.md": markdown.render((results / "table.md").read_text(encoding="utf-8"))}
    for repo_type in ("model", "dataset", "space"):
        choice = Choice(repo_id="me/invented", repo_type=repo_type, with_weights=False)
        with sketches():  # the report's figures have shown that such texts can be drawn
            card = build(results, folder / repo_type, choice)
        assert metadata_errors(card.read_text(encoding="utf-8"), repo_type) == []
    for name, (repo_type, file) in PAGES.items():
        text = (folder / repo_type / file).read_text(encoding="utf-8")
        shown[name] = text if file.endswith(".html") else markdown.render(text.split("\n---\n", 1)[1])
    return shown


@pytest.mark.parametrize("page", ["table.md", *PAGES])
@pytest.mark.parametrize("name", sorted(FIELDS.keys() - REFUSED))
def test_texts_are_shown_as_they_stand(name: str, page: str, pages: dict[str, str]) -> None:
    """Such a text is in no tag, and a heading shows its sign."""
    mark = re.sub(r"\W|_", "", name)
    assert re.findall(rf"<[a-z/!][^>]*{mark}\b[^>]*>", pages[page], re.IGNORECASE) == []
    headings = re.findall(r"<h\d>.*?</h\d>", pages[page], re.DOTALL)
    assert [text for text in headings if f"heading{mark}" in text and "# heading" not in text] == []
