"""A results folder -> a folder that is, file by file, what the Hub will hold."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import SpaceCardData

from hf_radam.errors import UserError
from hf_radam.experiments.report.markdown import literal
from hf_radam.experiments.report.report import draw, make_report, to_html, to_json
from hf_radam.experiments.results import Results
from hf_radam.files import one_line, write_whole
from hf_radam.publishing.card import TABLES, TAGS, Choice, render, snippet
from hf_radam.publishing.reproduce import comparison_file, is_hub_id

# Lists the files that we have written, here and in the repo.
MARK = ".hf_radam_bundle"
# Files of a model folder that are of use to nobody else. training_args.bin is a pickle that names local folders.
_STAY_HOME = frozenset({"training_args.bin", "optimizer.pt", "scheduler.pt", "trainer_state.json", "README.md"})


def build(folder: Path, output_dir: Path, choice: Choice) -> Path:
    """Write all that is to be uploaded of a results folder, which stays as it is; returns the path of the card.

    Raises:
        UserError: no results, no such recipe, no weights; links that lead out of the results folder; an `output_dir`
            that holds anything but an earlier copy.
    """
    for path in (folder / "comparison.json", folder / "records", *folder.glob("records/*.json")):
        _refuse_outside(path, folder)
    results = Results.load(folder)
    report, kind = make_report(results), choice.repo_type
    weights = results.best_run(choice.recipe) if kind == "model" and choice.with_weights else None
    with replacing(output_dir) as unfinished:
        write_whole(unfinished / "comparison.json", json.dumps(results.comparison, indent=2) + "\n")
        if kind == "space":
            metadata = SpaceCardData(title=one_line(report.name), sdk="static", license=choice.license, tags=TAGS)
            card = f"---\n{metadata.to_yaml()}\n---\n\n# {literal(report.name)}\n\n{' '.join(report.verdict)}\n"
            write_whole(unfinished / "README.md", card)
            write_whole(unfinished / "index.html", to_html(results, report))
            return output_dir / "README.md"
        if weights is not None:
            _copy_weights(folder / "runs" / weights.id / "model", folder, unfinished, choice.base_model)
        images = draw(results, unfinished)
        write_whole(unfinished / "summary.json", to_json(report, images))
        for record in results.records:
            record.save(unfinished / "records" / f"{record.id}.json")
        if kind == "dataset":
            _write_tables(results, unfinished / "data")
        usage = snippet(results.comparison["shared"]["task"], unfinished, choice.repo_id)
        title = choice.repo_id.rpartition("/")[2]
        card = render(results, report, images, title=title, choice=choice, weights=weights, usage=usage)
        write_whole(unfinished / "comparison.yaml", comparison_file(results))
        write_whole(unfinished / "README.md", card)
    return output_dir / "README.md"


def _write_tables(results: Results, folder: Path) -> None:
    """All records as three tables: a row for each run, for each evaluation, and for each update."""
    folder.mkdir()
    texts = ("config", "optimizer", "environment")
    told = {name: [json.dumps(getattr(record, name)) for record in results.records] for name in texts}
    runs = results.runs.assign(**told).drop(columns=["cost", "validation", "notes", "machine"])
    for name, table in zip(TABLES, (runs, results.evaluations, results.updates), strict=True):
        table.to_parquet(folder / f"{name}.parquet", index=False)


def _copy_weights(model: Path, results: Path, target: Path, base_model: str | None) -> None:
    files = {path.name: path for path in sorted(model.glob("*")) if path.is_file() and path.name not in _STAY_HOME}
    has_weights = any(name.endswith(".safetensors") for name in files)
    if not has_weights or not files.keys() & {"config.json", "adapter_config.json"}:
        raise UserError(
            f"a model needs weights (*.safetensors) and config.json or adapter_config.json, and {model} holds "
            f"{', '.join(files) or 'nothing'}; put them there, choose another --recipe, or give --no_weights"
        )
    for name, path in files.items():
        _refuse_outside(path, results)
        if name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
            # Transformers and PEFT remember the local folder that a model was loaded from.
            content = json.loads(path.read_text(encoding="utf-8"))
            for key in ("_name_or_path", "name_or_path", "base_model_name_or_path"):
                if key in content and not is_hub_id(content[key]):
                    del content[key]
            if name == "adapter_config.json":
                content.setdefault("base_model_name_or_path", base_model)
            write_whole(target / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
            continue
        try:
            os.link(path, target / name)  # gigabytes need not be copied where the file system can do without
        except OSError:
            shutil.copyfile(path, target / name)


def _refuse_outside(path: Path, results: Path) -> None:
    if not path.resolve().is_relative_to(results.resolve()):
        raise UserError(
            f"what is published must lie in {results}, and {path} is a link that leads out of it; put the file itself "
            "there, or remove the link"
        )


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Write a folder under another name, which takes its place when the block ends well.

    Args:
        folder: new, empty, or made by this function and holding nothing else since.

    Raises:
        UserError: it is a file, it or the folder around it is a link, or it holds anything else.
    """
    unfinished, mark = folder.with_name(f".{folder.name}.tmp"), folder / MARK
    for place in (folder.parent, folder):
        if place.is_symlink() or place.is_file():
            raise UserError(f"{place} must be a folder of its own, and is a link or a file; move it away")
    written = mark.read_text(encoding="utf-8").splitlines() if mark.is_file() else []
    if strange := [name for name in files_below(folder) if name not in written]:
        raise UserError(
            f"{folder} is replaced as a whole, so it must hold earlier copies alone, and it holds {strange[0]}; move "
            "that away"
        )
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        (unfinished / MARK).write_text("".join(f"{name}\n" for name in files_below(unfinished)), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def files_below(folder: Path) -> dict[str, Path]:
    """What is to be uploaded, by its path in the repo."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in files.items() if name != MARK and not name.startswith(".cache/huggingface/")}


def describe(folder: Path) -> str:
    """The files of a folder with their sizes, for people to look at before they upload it."""
    sizes = {name: path.stat().st_size for name, path in files_below(folder).items()}
    lines = [f"{size / 1000:>12,.1f} kB  {name}" for name, size in sizes.items()]
    return "\n".join([*lines, f"{sum(sizes.values()) / 1000:>12,.1f} kB  in {len(sizes)} files"])
