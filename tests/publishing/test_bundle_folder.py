"""What is uploaded comes from the results folder, and writing it deletes nothing of the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import write_results

from hf_radam.errors import UserError
from hf_radam.publishing.bundle import build, files_below, replacing
from hf_radam.publishing.card import Choice

pytestmark = pytest.mark.usefixtures("sketched")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(tmp_path / "work" / "results", {"radam": [0.5]})


def _below(folder: Path) -> dict[str, bytes | str]:
    """Everything, links as what they say."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def _thesis(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("years of work")


def _linked(link: Path, target: Path) -> None:
    _thesis(target / "thesis.tex")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)


def _bundle(folder: Path, file: str) -> None:
    """A copy that was made earlier."""
    with replacing(folder) as unfinished:
        _thesis(unfinished / file)


# name: what is done to the folder RESULTS/hub/model, and what the refusal says
KEPT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a_folder_of_the_users": (lambda hub: _thesis(hub / "thesis.tex"), "holds thesis.tex"),
    "a_file": (_thesis, "is a link or a file"),
    "a_link": (lambda hub: _linked(hub, hub.parents[2] / "mine"), "is a link"),
    "a_link_around_it": (lambda hub: _linked(hub.parent, hub.parents[2] / "mine"), "is a link"),
    "a_link_to_nothing": (lambda hub: (hub.parent.mkdir(), hub.symlink_to("nothing")), "is a link"),
    "a_link_to_a_bundle": (
        lambda hub: (_bundle(hub.parents[2] / "mine", "a"), _linked(hub, hub.parents[2] / "mine")), "is a link",
    ),
    "a_bundle_and_more": (lambda hub: (_bundle(hub, "a"), _thesis(hub / "b.tex")), "holds b.tex"),
    "a_bundle_and_more_below": (lambda hub: (_bundle(hub, "a/a"), _thesis(hub / "a/b.tex")), "holds a/b.tex"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_nothing_of_the_users_is_deleted(name: str, results: Path, tmp_path: Path) -> None:
    spoil, said = KEPT[name]
    spoil(results / "hub" / "model")
    before = _below(tmp_path)
    with pytest.raises(UserError, match=said):
        build(results, results / "hub" / "model", Choice(repo_id="me/invented", with_weights=False))
    assert _below(tmp_path) == before


@pytest.mark.parametrize("name", ["new", "empty", "earlier", "killed"])
def test_a_folder_of_ours_is_replaced(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "base" / "hub"
    if name == "empty":
        folder.mkdir(parents=True)
    elif name == "earlier":
        _bundle(folder, "old.md")
    elif name == "killed":  # which leaves the folder as far as it was written
        context = replacing(folder)
        (context.__enter__() / "old.md").touch()
    _bundle(folder, "new.md")
    assert list(files_below(folder)) == ["new.md"]
    assert [path.name for path in folder.parent.iterdir()] == ["hub"]


def test_what_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    _bundle(tmp_path / "hub", "old.md")
    before = _below(tmp_path)
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "hub") as unfinished:
        (unfinished / "new.md").write_text(str(1 / 0))
    assert _below(tmp_path) == before


# name: where the link stands below the results folder
LINKS = {
    "description": "comparison.json",
    "all_records": "records",
    "a_record": "records/stolen.json",
    "a_model_file": "runs/{run}/model/diary.txt",
    "configuration": "runs/{run}/model/config.json",
    "all_of_a_model": "runs/{run}/model",
    "all_runs": "runs",
}


@pytest.mark.parametrize("name", LINKS)
def test_links_that_lead_outside_are_refused(name: str, results: Path, tmp_path: Path) -> None:
    link = results / LINKS[name].format(run=next((results / "runs").iterdir()).name)
    outside = tmp_path / "outside"
    if link.exists():
        link.rename(outside)
    else:
        outside.write_text("{}")
    link.symlink_to(outside)
    with pytest.raises(UserError, match="a link that leads out of"):
        build(results, tmp_path / "hub", Choice(repo_id="me/invented"))
    assert not (tmp_path / "hub").exists()


def test_only_records_that_were_read_are_published(results: Path, tmp_path: Path) -> None:
    """A link inside of the folder is as good as its file."""
    (record,) = (results / "records").iterdir()
    content = record.read_bytes()
    record.rename(results / "record")
    record.symlink_to(results / "record")
    (results / "records" / "diary.txt").write_text("years")
    build(results, tmp_path / "hub", Choice(repo_id="me/invented", with_weights=False))
    assert [path.name for path in (tmp_path / "hub" / "records").iterdir()] == [record.name]
    assert (tmp_path / "hub" / "records" / record.name).read_bytes() == content
