"""A results folder -> a folder that is, file by file, what the Hub will hold."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

import pandas as pd
from huggingface_hub import SpaceCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from hf_radam.errors import UserError
from hf_radam.experiments.report.markdown import literal
from hf_radam.experiments.report.report import draw, make_report, page_of, to_json
from hf_radam.experiments.results import Results
from hf_radam.files import one_line, write_whole
from hf_radam.publishing.card import TAGS, TEMPLATE, Page, snippet, write_card
from hf_radam.publishing.reproduce import is_hub_id

# Lists the files that we have written, here and in the repo.
MARK = ".hf_radam_bundle"
# Files of a model folder that are of use to nobody else. training_args.bin is a pickle that names local folders.
_PICKLE_ENDINGS = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_STAY_HOME = frozenset({"training_args.bin", "optimizer.pt", "scheduler.pt", "trainer_state.json", "README.md"})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is to be published, how and where."""

    repo_id: str
    """namespace/name."""
    repo_type: Literal["model", "dataset", "space"] = "model"
    """A model with weights, a dataset of records, or the page to explore them in, as a static Space."""
    recipe: str | None = None
    """Whose best run gives the weights; by default the best recipe's."""
    with_weights: bool = True
    """False leaves the weights out of a model repo."""
    license: str = "apache-2.0"
    """Of the card's metadata."""
    base_model: str | None = None
    """Name on the Hub of the checkpoint that was fine-tuned; by default what the records tell of it."""
    template: Path = TEMPLATE
    """Of the card, in Jinja."""
    also: Sequence[str] = ()
    """Repos that the card links: me/model, datasets/me/records, spaces/me/page."""
    private: bool = False
    """Whether nobody else may see the repo."""
    revision: str | None = None
    """Branch, made if missing, or refs/pr/N; by default main."""
    create_pr: bool = False
    """Open a pull request instead of committing to main."""

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            raise UserError(f"--repo_id: {one_line(error)}") from error
        if "/" not in self.repo_id:
            raise UserError(f"--repo_id must be namespace/name, got {self.repo_id!r}; yours is in `hf auth whoami`")
        if self.create_pr and self.revision is not None:
            raise UserError("--create_pr makes a branch of its own; drop it, or --revision")
        if self.base_model is not None and not is_hub_id(self.base_model):
            raise UserError(f"--base_model must be a name on the Hub, such as me/model, got {self.base_model!r}")
        for repo in self.also:
            if not re.fullmatch(r"(datasets/|spaces/)?\w[\w.-]*/\w[\w.-]*", repo):
                raise UserError(
                    f"--also takes names such as me/model, datasets/me/records, spaces/me/page; got {repo!r}"
                )


def build(folder: Path, output_dir: Path, choice: Choice) -> Path:
    """Write everything that is to be uploaded; the results folder itself stays as it is.

    Args:
        folder: a results folder of `hf-radam compare`.
        output_dir: new, empty, or that of an earlier call, which is replaced as a whole.
        choice: what to publish.

    Returns:
        The path of the card, `output_dir/README.md`.

    Raises:
        UserError: no results, no such recipe, no weights; links that lead out of the results folder; an `output_dir`
            that holds anything else.
    """
    for path in (folder / "comparison.json", folder / "records", *folder.glob("records/*.json")):
        _refuse_outside(path, folder)
    results = Results.load(folder)
    report, kind = make_report(results), choice.repo_type
    weights = results.best_run(choice.recipe) if kind == "model" and choice.with_weights else None
    with replacing(output_dir, folder) as unfinished:
        write_whole(unfinished / "comparison.json", json.dumps(results.comparison, indent=2) + "\n")
        if kind == "space":
            _write_space(choice, report.name, report.verdict.text, unfinished)
            write_whole(unfinished / "index.html", page_of(results, report))
            return output_dir / "README.md"
        if weights is not None:
            _copy_weights(folder / "runs" / weights.id / "model", folder, unfinished, choice.base_model)
        images = draw(results, unfinished)
        write_whole(unfinished / "summary.json", to_json(report, images))
        for record in results.records:
            record.save(unfinished / "records" / f"{record.id}.json")
        tables = _tables(results) if kind == "dataset" else {}
        for name, table in tables.items():
            (unfinished / "data").mkdir(exist_ok=True)
            table.to_parquet(unfinished / "data" / f"{name}.parquet", index=False)
        page = Page(
            title=choice.repo_id.rpartition("/")[2], report=report, images=images, repo_id=choice.repo_id,
            repo_type=kind, license=choice.license, base_model=choice.base_model, weights=weights, also=choice.also,
            rows={name: len(table) for name, table in tables.items()},
            usage=snippet(results, unfinished, choice.repo_id),
        )  # fmt: skip
        write_card(results, unfinished, page, choice.template)
    return output_dir / "README.md"


def _tables(results: Results) -> dict[str, pd.DataFrame]:
    """All records as three tables: a row for each run, for each evaluation, and for each update."""
    texts = ("config", "optimizer", "environment")
    told = {name: [json.dumps(getattr(record, name)) for record in results.records] for name in texts}
    runs = results.runs.assign(**told).drop(columns=["cost", "validation", "notes", "machine"])
    return {"runs": runs, "evaluations": results.evaluations, "updates": results.updates}


def _write_space(choice: Choice, name: str, verdict: str, folder: Path) -> None:
    """The card that tells the Hub to show index.html."""
    linked = [repo for repo in choice.also if not repo.startswith("spaces/")]
    metadata = SpaceCardData(
        title=one_line(name), sdk="static", license=choice.license, tags=TAGS,
        models=[repo for repo in linked if not repo.startswith("datasets/")] or None,
        datasets=[repo.removeprefix("datasets/") for repo in linked if repo.startswith("datasets/")] or None,
    )  # fmt: skip
    write_whole(folder / "README.md", f"---\n{metadata.to_yaml()}\n---\n\n# {literal(name)}\n\n{verdict}\n")


def _copy_weights(model: Path, results: Path, target: Path, base_model: str | None) -> None:
    files = sorted(path for path in model.glob("*") if path.is_file() and path.name not in _STAY_HOME)
    if not any(path.suffix == ".safetensors" for path in files):
        raise UserError(
            f"{model} holds no weights (*.safetensors): they are where the run was made; give --no_weights to publish "
            "without, or another --recipe"
        )
    if not {"config.json", "adapter_config.json"} & {path.name for path in files}:
        raise UserError(
            f"{model} holds no config.json, which loading the weights needs; put it there, or give "
            "--no_weights to publish without"
        )
    for path in files:
        _refuse_outside(path, results)
        if is_pickle(path):
            raise UserError(f"nothing was uploaded: {path} is a pickle, which runs code when it is loaded; remove it")
        if path.name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
            # Transformers and PEFT remember the local folder that a model was loaded from.
            content = json.loads(path.read_text(encoding="utf-8"))
            for key in ("_name_or_path", "name_or_path", "base_model_name_or_path"):
                if key in content and not is_hub_id(content[key]):
                    del content[key]
            if path.name == "adapter_config.json":
                content.setdefault("base_model_name_or_path", base_model)
            write_whole(target / path.name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
            continue
        try:
            os.link(path, target / path.name)  # gigabytes need not be copied where the file system can do without
        except OSError:
            shutil.copyfile(path, target / path.name)


def is_pickle(path: Path) -> bool:
    """Whether loading the file could run code."""
    if path.suffix in _PICKLE_ENDINGS:
        return True
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return path.suffix != ".safetensors"  # these begin with a length, which may be any number
    return zipfile.is_zipfile(path) and any(name.endswith(".pkl") for name in zipfile.ZipFile(path).namelist())


@contextmanager
def replacing(output_dir: Path, results: Path) -> Iterator[Path]:
    """Write a folder under another name, which takes the place of `output_dir` when the block ends well.

    Args:
        output_dir: new, empty, or a folder that this function has made and that holds nothing else since.
        results: the results folder, which must not be lost either.

    Raises:
        UserError: `output_dir` is a link, holds anything else, or holds the results.
    """
    # Any part below the results folder may be a link, and else the last.
    places = [output_dir, *output_dir.absolute().parents]
    below = list(takewhile(lambda place: not (place.exists() and place.samefile(results)), places))
    for place in below if len(below) < len(places) else [output_dir]:
        if place.is_symlink():
            raise UserError(f"{place} is a link, and what it leads to would be replaced; choose another --output_dir")
    output_dir = output_dir.resolve()
    unfinished = output_dir.with_name(f".{output_dir.name}.tmp")
    for folder in (output_dir, unfinished):
        if results.resolve().is_relative_to(folder):
            raise UserError(f"{folder} holds the results and would be replaced; choose another --output_dir")
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is no folder; choose another --output_dir")
        mark = folder / MARK
        written = mark.read_text(encoding="utf-8").splitlines() if mark.is_file() else []
        strange = next((name for name in files_below(folder) if name not in written), None)
        if strange is not None and not (mark.is_file() and folder == unfinished):
            raise UserError(
                f"{folder} holds {strange}, which no earlier `publish` has written and which would be lost; choose "
                "another --output_dir, or move it away"
            )
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / MARK).touch()
    try:
        yield unfinished
        (unfinished / MARK).write_text("".join(f"{name}\n" for name in files_below(unfinished)), encoding="utf-8")
        shutil.rmtree(output_dir, ignore_errors=True)
        unfinished.rename(output_dir)
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


def _refuse_outside(path: Path, results: Path) -> None:
    if not path.resolve().is_relative_to(results.resolve()):
        raise UserError(f"{path} is a link that leads out of {results}; put the file itself there, or remove the link")
