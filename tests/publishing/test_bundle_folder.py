"""What is uploaded comes from the results folder, and writing it deletes nothing of the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import write_results

from hf_radam.experiments.schema import UserError
from hf_radam.publishing.bundle import MARK, Choice, build, files_below, replacing

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


def _thesis(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    return folder


def _linked(link: Path, target: Path) -> Path:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return link


def _bundle(results: Path, folder: Path, extra: str) -> Path:
    """An earlier bundle, to which somebody has added a file."""
    with replacing(folder, results) as unfinished:
        (unfinished / "README.md").touch()
    (folder / extra).parent.mkdir(exist_ok=True)
    (folder / extra).write_text("years of work")
    return folder


def _hub_in_results(results: Path, target: Path) -> Path:
    _linked(results / "hub", target)
    return results / "hub" / "model"


def _marked(folder: Path) -> Path:
    (folder / MARK).write_text("\n".join(files_below(folder)))
    return folder


# name: from a results folder and an empty one to an --output_dir; what the refusal says
KEPT: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "a_folder_of_the_users": (lambda _, base: _thesis(base / "mine"), "holds thesis.tex"),
    "a_file": (lambda _, base: _thesis(base / "mine") / "thesis.tex", "is no folder"),
    "the_results": (lambda results, _: results, "holds the results"),
    "results_that_were_a_bundle": (lambda results, _: _marked(results), "holds the results"),
    "an_ancestor": (lambda results, _: results.parent, "holds the results"),
    "an_ancestor_by_another_name": (lambda results, _: results / "..", "holds the results"),
    "records": (lambda results, _: results / "records", "holds radam-"),
    "a_link": (lambda _, base: _linked(base / "link", _thesis(base / "mine")), "is a link"),
    "a_link_to_nothing": (lambda _, base: _linked(base / "link", base / "nothing"), "is a link"),
    "a_link_to_a_bundle": (lambda results, base: _linked(base / "link", _marked(_thesis(base / "mine"))), "is a link"),
    "a_link_in_the_results": (lambda results, base: _hub_in_results(results, _thesis(base / "mine")), "is a link"),
    "an_unfinished_one": (lambda _, base: _thesis(base / ".hub.tmp").with_name("hub"), "holds thesis.tex"),
    "a_bundle_and_more": (lambda results, base: _bundle(results, base / "hub", "thesis.tex"), "holds thesis.tex"),
    "a_bundle_and_more_below": (lambda results, base: _bundle(results, base / "hub", "a/b.tex"), "holds a/b.tex"),
}


@pytest.mark.parametrize("name", KEPT)
def test_nothing_of_the_users_is_deleted(name: str, results: Path, tmp_path: Path) -> None:
    choose, said = KEPT[name]
    output_dir = choose(results, tmp_path / "base")
    before = _below(tmp_path)
    with pytest.raises(UserError, match=said):
        build(results, output_dir, Choice(repo_id="me/invented", with_weights=False))
    assert _below(tmp_path) == before


@pytest.mark.parametrize("name", ["new", "empty", "earlier", "killed"])
def test_a_folder_of_ours_is_replaced(name: str, results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base" / "hub"
    if name == "empty":
        folder.mkdir(parents=True)
    elif name == "earlier":
        with replacing(folder, results) as unfinished:
            (unfinished / "old.md").touch()
    elif name == "killed":  # which leaves the folder as far as it was written
        context = replacing(folder, results)
        (context.__enter__() / "old.md").touch()
    with replacing(folder, results) as unfinished:
        (unfinished / "new.md").touch()
    assert list(files_below(folder)) == ["new.md"]
    assert [path.name for path in folder.parent.iterdir()] == ["hub"]


def test_what_fails_leaves_the_earlier_one(results: Path, tmp_path: Path) -> None:
    with replacing(tmp_path / "hub", results) as unfinished:
        (unfinished / "old.md").touch()
    before = _below(tmp_path)
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "hub", results) as unfinished:
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
    with pytest.raises(UserError, match="is a link that leads out of"):
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
