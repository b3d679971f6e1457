"""Results -> a card with its metadata, and the file and the command that make the comparison again."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CardData, DatasetCardData, EvalResult, ModelCardData, RepoCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from hf_radam.errors import UserError
from hf_radam.experiments.records import Record
from hf_radam.experiments.report.drawing import Image
from hf_radam.experiments.report.markdown import code, fenced, literal, table_markdown
from hf_radam.experiments.report.report import Report
from hf_radam.experiments.report.statistics import name
from hf_radam.experiments.results import Results
from hf_radam.files import one_line
from hf_radam.publishing import reproduce
from hf_radam.publishing.reproduce import Origin

TABLES = ("runs", "evaluations", "updates")  # of a dataset
TAGS = ["radam", "warmup", "optimizer", "learning-rate-schedule", "hf_radam"]
GENERATE = "print(tokenizer.decode(model.generate(**batch, max_new_tokens=64)[0], skip_special_tokens=True))"
# Our tasks by the names that the Hub has for them, and what a model of each is asked.
TASKS = {
    "translation": ("translation", GENERATE),
    "classification": ("text-classification", "print(model.config.id2label[int(model(**batch).logits.argmax())])"),
    "language_modeling": ("text-generation", GENERATE),
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is to be published, how and where."""

    repo_id: str = ""
    """namespace/name; empty for a card in `model_cards` of a checkout."""
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
    private: bool = False
    """Whether nobody else may see the repo."""
    create_pr: bool = False
    """Open a pull request instead of committing to main."""

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.repo_id or "none")
        except HFValidationError as error:
            raise UserError(f"--repo_id: {one_line(error)}") from error
        if self.repo_id and "/" not in self.repo_id:
            raise UserError(f"--repo_id must be namespace/name, got {self.repo_id!r}; `hf auth whoami` tells yours")
        if self.base_model is not None and not reproduce.is_hub_id(self.base_model):
            raise UserError(f"--base_model must be a name on the Hub, such as me/model, got {self.base_model!r}")


def render(
    results: Results,
    report: Report,
    images: Sequence[Image] = (),
    *,
    title: str,
    choice: Choice = Choice(),
    weights: Record | None = None,
    usage: str = "",
) -> str:
    """The card, as Markdown with metadata on top; names and settings are escaped before they reach the template.

    `title` is the model's name in the metadata. The weights of the run `weights` lie beside the card, and the Python
    in `usage` loads what lies there.
    """
    found, (first, *tables) = reproduce.origin(results, choice.base_model), report.tables
    ended = [f"{name(row)}: {json.dumps(results.record(row).optimizer)}" for row in results.best_rows]
    path = "comparison.yaml" if choice.repo_id else f"model_cards/{title}/comparison.yaml"
    card = RepoCard.from_template(
        _metadata(results, title, choice, weights, found),
        template_path=str(Path(__file__).with_name("template.md")),
        name=literal(results.comparison["name"]),
        verdict=" ".join(report.verdict),
        table=table_markdown(first),
        trained=_trained(results, found),
        weights=weights and {"run": code(weights.id), "recipe": code(weights.recipe)},
        usage=fenced(usage, "python") if usage else "",
        data=TABLES if choice.repo_type == "dataset" else (),
        pictures=[picture(image, hub=bool(choice.repo_id)) for image in images],
        tables=[(literal(table.title), table_markdown(table)) for table in tables],
        notes=[*map(literal, report.notes)],
        recipes=_recipes(results),
        settings=fenced(reproduce.comparison_file(results), "yaml"),
        ended=fenced("\n".join(ended)),
        command=fenced(reproduce.command(found, path, choice.repo_id, choice.repo_type), "bash"),
        local=bool(found.local),
        script=code(found.script),
    )
    return f"{str(card).rstrip()}\n"


def snippet(task: str, folder: Path, repo_id: str) -> str:
    """Python that loads what a folder holds: tables, an adapter, or a model with or without a tokenizer."""
    files = {path.name for path in folder.glob("*")}
    lines: list[str] = []
    if "data" in files:
        lines += ["from datasets import load_dataset", ""]
        lines += [f'{name} = load_dataset("{repo_id}", "{name}", split="train")' for name in TABLES]
    elif "adapter_config.json" in files:
        lines += ["from peft import PeftModel", "", "# base_model: one as the adapter was trained on"]
        lines += [f'model = PeftModel.from_pretrained(base_model, "{repo_id}")']
    elif "config.json" in files:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        named = str((config.get("architectures") or [""])[0])
        model = named if named.isidentifier() else "AutoModel"
        lines += [f"from transformers import {model}", "", f'model = {model}.from_pretrained("{repo_id}")']
        if files & {"tokenizer.json", "tokenizer_config.json"}:
            lines[0] += ", AutoTokenizer"
            lines += [f'tokenizer = AutoTokenizer.from_pretrained("{repo_id}")']
            if model != "AutoModel" and _task(task)[1]:
                lines += ['batch = tokenizer("Your text", return_tensors="pt")', _task(task)[1]]
    return "\n".join(lines)


def _task(name: str) -> tuple[str, str]:
    return TASKS.get(name, ("other", ""))


def picture(image: Image, folder: str = "", *, hub: bool = False) -> str:
    """HTML that shows a figure below a folder (`NAME/`) in the colours of the page: GitHub's, or those of the Hub."""
    if hub:
        return _img(image, folder + image.path, "dark:hidden") + "\n" + _img(image, image.dark, "hidden dark:block")
    dark, light = html.escape(folder + image.dark), _img(image, folder + image.path)
    return f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">{light}</picture>'


def _img(image: Image, path: str, kind: str = "") -> str:
    title, kind = html.escape(one_line(image.title)), kind and f' class="{kind}"'
    return f'<img{kind} width="{image.width}" src="{html.escape(path)}" alt="{title}">'


def _metadata(results: Results, title: str, choice: Choice, weights: Record | None, found: Origin) -> CardData:
    data, (task, _) = results.comparison["shared"]["data"], _task(results.comparison["shared"]["task"])
    shared: dict[str, Any] = {"license": choice.license, "tags": TAGS if found.script else [*TAGS, task]}
    if choice.repo_type == "dataset":
        configs = [
            {"config_name": name, "data_files": f"data/{name}.parquet", "default": name == TABLES[0]} for name in TABLES
        ]
        return DatasetCardData(**shared, pretty_name=one_line(results.comparison["name"]), configs=configs)
    of_weights, metric = weights and weights.recipe, results.metric
    local = one_line(", ".join(found.texts.values()) or found.script)
    about = {
        "task_type": task,
        "dataset_type": data.get("dataset_name") or ("local-files" if local else "hf_radam-grammar"),
        "dataset_name": data.get("dataset_name") or local or "the built-in grammar of hf_radam",
        "dataset_config": data.get("dataset_config_name"),
        "dataset_revision": data.get("dataset_revision"),
        "metric_type": results.selection,
    }
    judged: list[EvalResult] = []
    for row in sorted(results.best_rows, key=lambda row: name(row) != of_weights):
        seeds, mean = len(row), float(row.value.mean(skipna=False))
        spread = f", mean of {seeds} seeds ± {row.value.std():.{metric.digits}f}" if seeds > 1 else ""
        called = f"{metric.label} ({name(row)}, lr {row.peak.iat[0]:g}{spread})"
        if math.isfinite(mean):
            judged.append(EvalResult(**about, metric_value=round(mean, 6), metric_name=called))
    return ModelCardData(
        **shared,
        library_name="transformers" if weights else "hf_radam",
        pipeline_tag=task if weights and task != "other" else None,
        datasets=[found.dataset] if found.dataset else None,
        metrics=None if results.selection == "loss" else [results.selection],
        base_model=found.base_model,
        model_name=title,
        eval_results=judged,
    )


def _trained(results: Results, found: Origin) -> str:
    """What the runs train, with links."""
    if found.script:
        return f"models by the script {code(found.script)}, which is not ours"
    said = f"models for {_task(results.comparison['shared']['task'])[0].replace('-', ' ')}"
    if found.base_model:
        said += f" from [{literal(found.base_model)}](https://huggingface.co/{found.base_model})"
    if found.texts:
        return f"{said} on {', '.join(map(code, found.texts.values()))}"
    if found.dataset:
        return f"{said} on [{literal(found.dataset)}](https://huggingface.co/datasets/{found.dataset})"
    return f"{said} on the built-in grammar of `hf_radam`"


def _recipes(results: Results) -> str:
    """A table of the recipes, each with its settings as `comparison.yaml` has them."""
    lines = ["| recipe | optimizer | settings |", "| --- | --- | --- |"]
    for recipe in (results.recipes[name(row)] for row in results.best_rows):
        told = {key: value for key, value in recipe.definition().items() if value}
        optimizer = told.pop("optimizer")
        lines.append(f"| {literal(told.pop('name'))} | {code(optimizer)} | {code(told)} |")
    return "\n".join(lines)
