"""A results folder -> a folder that is, file by file, what the Hub will hold."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from huggingface_hub import SpaceCardData

from hf_radam.experiments.report import escape
from hf_radam.experiments.report.report import Report, draw, make_report
from hf_radam.experiments.report.writers import to_json, to_page
from hf_radam.experiments.results import Results
from hf_radam.experiments.schema import UserError
from hf_radam.files import write_whole
from hf_radam.publishing import reproduce
from hf_radam.publishing.card import render
from hf_radam.publishing.folder import files_below, refuse_outside, replacing
from hf_radam.publishing.metadata import TAGS
from hf_radam.publishing.page import Page
from hf_radam.publishing.privacy import is_pickle
from hf_radam.publishing.tables import as_csv, as_parquet, tables

# Files of a model folder that are of use to nobody else. training_args.bin is a pickle that names local folders.
_STAY_HOME = frozenset({"training_args.bin", "optimizer.pt", "scheduler.pt", "trainer_state.json", "README.md"})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is to be published, and how."""

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

    also: Sequence[str] = ()
    """Repos that the card links; see `card.Page.also`."""

    def __post_init__(self) -> None:
        if self.base_model is not None and not reproduce.is_hub_id(self.base_model):
            raise UserError(f"--base_model must be a name on the Hub, such as me/model, got {self.base_model!r}")
        for repo in self.also:
            if not re.fullmatch(r"(datasets/|spaces/)?\w[\w.-]*/\w[\w.-]*", repo):
                raise UserError(
                    f"--also takes names such as me/model, datasets/me/records, spaces/me/page; got {repo!r}"
                )


def build(folder: Path, output_dir: Path, choice: Choice, template: str) -> Path:
    """Write everything that is to be uploaded; the results folder itself stays as it is.

    Args:
        folder: a results folder of `hf-radam compare`.
        output_dir: new, empty, or that of an earlier call, which is replaced as a whole.
        choice: what to publish.
        template: of the card; see `card.render`.

    Returns:
        The path of the card, `output_dir/README.md`.

    Raises:
        UserError: no results, no such recipe, no weights; links that lead out of the results folder; an `output_dir`
            that holds anything else.
    """
    _refuse_links(folder)
    results = Results.load(folder)
    weights = results.best_run(choice.recipe) if choice.repo_type == "model" and choice.with_weights else None
    with replacing(output_dir, folder) as unfinished:
        write_whole(unfinished / "comparison.json", json.dumps(results.comparison, indent=2) + "\n")
        if choice.repo_type == "space":
            _write_space(results, make_report(results), unfinished, choice)
            return output_dir / "README.md"
        if weights is not None:
            _copy_weights(folder, weights.id, unfinished)
        report, images = make_report(results), draw(results, unfinished)
        write_whole(unfinished / "summary.json", to_json(report, images))
        page = Page(
            title=choice.repo_id.rpartition("/")[2],
            report=report,
            images=images,
            repo_id=choice.repo_id,
            repo_type=choice.repo_type,
            license=choice.license,
            base_model=choice.base_model,
            weights=weights,
            also=choice.also,
        )
        flat = tables(results.records)
        if choice.repo_type == "dataset":
            page = replace(page, data=flat)
        for name, table in flat.items():
            ending, write = (".parquet", as_parquet) if choice.repo_type == "dataset" else (".csv", as_csv)
            write_whole(unfinished / "data" / f"{name}{ending}", write(table))
        for record in results.records:
            record.save(unfinished / "records" / f"{record.id}.json")
        write_card(results, unfinished, page, template)
    return output_dir / "README.md"


def write_card(results: Results, output_dir: Path, page: Page, template: str) -> Path:
    """Write the card and, beside it, the file that reproduces the comparison."""
    write_whole(output_dir / "comparison.yaml", reproduce.comparison_file(results))
    path = output_dir / "README.md"
    write_whole(path, render(results, page, template))
    return path


def _write_space(results: Results, report: Report, folder: Path, choice: Choice) -> None:
    """The page as index.html, and the card that tells the Hub to show it."""
    linked = [repo for repo in choice.also if not repo.startswith("spaces/")]
    datasets = [repo.removeprefix("datasets/") for repo in linked if repo.startswith("datasets/")]
    metadata = SpaceCardData(
        title=escape.one_line(report.name),
        sdk="static",
        license=choice.license,
        tags=TAGS,
        models=[repo for repo in linked if not repo.startswith("datasets/")] or None,
        datasets=datasets or None,
    )
    write_whole(folder / "index.html", to_page(report, results.records))
    text = f"---\n{metadata.to_yaml()}\n---\n\n# {escape.literal(report.name)}\n\n{report.verdict.text}\n"
    write_whole(folder / "README.md", text)


def _refuse_links(folder: Path) -> None:
    for path in (folder / "comparison.json", folder / "records", *folder.glob("records/*.json")):
        refuse_outside(path, folder)


def _copy_weights(folder: Path, run: str, target: Path) -> None:
    model = folder / "runs" / run / "model"
    files = sorted(path for path in model.glob("*") if path.is_file() and path.name not in _STAY_HOME)
    if not any(path.suffix == ".safetensors" for path in files):
        raise UserError(
            f"{model} holds no weights (*.safetensors): they are where the run was made; give --no_weights to publish "
            "without, or another --recipe"
        )
    names = {path.name for path in files}
    for needed in ({"config.json"}, {"tokenizer.json", "tokenizer_config.json"}):
        if not needed & names:
            raise UserError(
                f"{model} holds no {' or '.join(sorted(needed))}, without which nobody can load the weights; put it "
                "there, or give --no_weights to publish without"
            )
    for path in files:
        refuse_outside(path, folder)
        if is_pickle(path):
            raise UserError(f"nothing was uploaded: {path} is a pickle, which runs code when it is loaded; remove it")
        if path.name in ("config.json", "tokenizer_config.json"):
            _copy_without_origin(path, target / path.name)
        else:
            _link(path, target / path.name)


def _copy_without_origin(path: Path, target: Path) -> None:
    """Copy a configuration, but for the local folder that Transformers remembers it was loaded from."""
    content = json.loads(path.read_text(encoding="utf-8"))
    local = [k for k in ("_name_or_path", "name_or_path") if k in content and not reproduce.is_hub_id(content[k])]
    for key in local:
        del content[key]
    write_whole(target, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _link(path: Path, target: Path) -> None:
    """The same file under another name, without copying gigabytes where the file system can."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def describe(folder: Path) -> str:
    """The tree of a folder with sizes, for people to look at before they upload it."""
    sizes = {name: path.stat().st_size for name, path in files_below(folder).items()}
    lines = [f"{_size(size):>10}  {name}" for name, size in sizes.items()]
    return "\n".join([*lines, f"{_size(sum(sizes.values())):>10}  in {len(sizes)} files"])


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
