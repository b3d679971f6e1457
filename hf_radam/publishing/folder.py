"""The folder that is uploaded: replaced as a whole, where nothing but an earlier one is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from hf_radam.experiments.schema import UserError

# Lists the files that we have written; never uploaded.
MARK = ".hf_radam_bundle"


@contextmanager
def replacing(output_dir: Path, results: Path) -> Iterator[Path]:
    """Write a folder under another name, which takes the place of `output_dir` when the block ends well.

    Args:
        output_dir: new, empty, or a folder that this function has made and that holds nothing else since.
        results: the results folder, which must not be lost either.

    Raises:
        UserError: `output_dir` is a link, holds anything else, or holds the results.
    """
    _refuse_links(output_dir, results)
    output_dir = output_dir.resolve()
    unfinished = output_dir.with_name(f".{output_dir.name}.tmp")
    for folder in (output_dir, unfinished):
        if results.resolve().is_relative_to(folder):
            raise UserError(f"{folder} holds the results and would be replaced; choose another --output_dir")
        _refuse_loss(folder, all_of_it=folder == output_dir)
    _remove(unfinished)
    unfinished.mkdir(parents=True)
    (unfinished / MARK).touch()
    try:
        yield unfinished
        (unfinished / MARK).write_text("".join(f"{name}\n" for name in files_below(unfinished)), encoding="utf-8")
        _remove(output_dir)
        unfinished.rename(output_dir)
    finally:
        _remove(unfinished)


def files_below(folder: Path) -> dict[str, Path]:
    """What is to be uploaded, by its path in the repo."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if _is_file(path)}
    return {name: path for name, path in files.items() if name != MARK and not name.startswith(".cache/huggingface/")}


def refuse_outside(path: Path, results: Path) -> Path:
    """The path itself, unless it leads out of the results folder.

    Raises:
        UserError: it is a link to elsewhere, or below one.
    """
    if not path.resolve().is_relative_to(results.resolve()):
        raise UserError(f"{path} is a link that leads out of {results}; put the file itself there, or remove the link")
    return path


def _refuse_links(output_dir: Path, results: Path) -> None:
    """Refuse a link as the last part, and below the results folder as any part."""
    places = [output_dir, *output_dir.absolute().parents]
    below = list(takewhile(lambda place: not (place.exists() and place.samefile(results)), places))
    for place in below if len(below) < len(places) else [output_dir]:
        if place.is_symlink():
            raise UserError(f"{place} is a link, and what it leads to would be replaced; choose another --output_dir")


def _refuse_loss(folder: Path, *, all_of_it: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise UserError(f"{folder} is no folder; choose another --output_dir")
    mark = folder / MARK
    if mark.is_file() and not all_of_it:
        return
    written = mark.read_text(encoding="utf-8").splitlines() if mark.is_file() else []
    strange = next((name for name in files_below(folder) if name not in written), None)
    if strange is not None:
        raise UserError(
            f"{folder} holds {strange}, which no earlier `publish` has written and which would be lost; choose another "
            "--output_dir, or move it away"
        )


def _is_file(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
