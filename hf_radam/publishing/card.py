"""Results -> a card with its metadata, and the file and the command that make the comparison again."""

from __future__ import annotations

import html
import json
import math
import re
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
from hf_radam.experiments.report.statistics import BASELINE, name
from hf_radam.experiments.results import Results
from hf_radam.files import one_line
from hf_radam.publishing import reproduce
from hf_radam.publishing.reproduce import Origin

TABLES = ("runs", "evaluations", "updates")  # of a dataset
TAGS = ["radam", "warmup", "optimizer", "learning-rate-schedule", "hf_radam"]
GENERATE = "print(tokenizer.decode(model.generate(**batch, max_new_tokens=64)[0], skip_special_tokens=True))"
# Our tasks by the names that the Hub and Transformers have for them, and what a model of each is asked.
TASKS = {
    "translation": ("translation", "AutoModelForSeq2SeqLM", GENERATE),
    "classification": (
        "text-classification", "AutoModelForSequenceClassification",
        "print(model.config.id2label[int(model(**batch).logits.argmax())])",
    ),
    "language_modeling": ("text-generation", "AutoModelForCausalLM", GENERATE),
}  # fmt: skip


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
    machines = dict.fromkeys(json.dumps(record.environment, sort_keys=True) for record in results.records)
    path = "comparison.yaml" if choice.repo_id else f"model_cards/{title}/comparison.yaml"
    card = RepoCard.from_template(
        _metadata(results, title, choice, weights, found),
        template_path=str(Path(__file__).with_name("template.md")),
        name=literal(results.comparison["name"]),
        verdict=report.verdict.text,
        table=table_markdown(first),
        about=_about(results, choice, weights, found),
        usage=fenced(usage, "python") if usage else "",
        data=TABLES if choice.repo_type == "dataset" else (),
        pictures=[picture(image, hub=bool(choice.repo_id)) for image in images],
        tables=[(literal(table.title), table_markdown(table)) for table in tables],
        notes=[*map(literal, report.notes), _time(results, weights), *_limitations(results)],
        alike=_alike(results),
        recipes=_recipes(results),
        settings=fenced(reproduce.comparison_file(results), "yaml"),
        ended=fenced("\n".join([*ended, *machines])),
        command=fenced(reproduce.command(results, found, path, choice.repo_id, choice.repo_type), "bash"),
        hints=reproduce.hints(results, found),
        untuned=any(recipe.warmup.startswith("untuned") for recipe in results.recipes.values()),
    )
    return f"{str(card).rstrip()}\n"


def snippet(task: str, folder: Path, repo_id: str) -> str:
    """Python that loads what a folder holds: tables, an adapter, or a model with or without a tokenizer."""
    files = {path.name for path in folder.glob("*")}
    if "data" in files:
        loads = [f'{name} = load_dataset("{repo_id}", "{name}", split="train")' for name in TABLES]
        return "\n".join(["from datasets import load_dataset", "", *loads])
    if "adapter_config.json" in files:
        load = f'model = PeftModel.from_pretrained(base_model, "{repo_id}")  # a model as the adapter was trained on'
        return f"from peft import PeftModel\n\n{load}"
    if "config.json" not in files:
        return ""
    named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    _, model_class, ask = TASKS.get(task, ("", named[0] if str(named[0]).isidentifier() else "AutoModel", ""))
    load = f'model = {model_class}.from_pretrained("{repo_id}")'
    if not files & {"tokenizer.json", "tokenizer_config.json"}:
        return f"from transformers import {model_class}\n\n{load}"
    lines = [f"from transformers import {model_class}, AutoTokenizer", ""]
    lines += [f'tokenizer = AutoTokenizer.from_pretrained("{repo_id}")', load]
    return "\n".join([*lines, *(['batch = tokenizer("Your text", return_tensors="pt")', ask] if ask else [])])


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
    data, (task, *_) = results.comparison["shared"]["data"], TASKS.get(found.task, ("other",))
    codes = [str(data.get(key)) for key in ("source_lang", "target_lang")]
    known = (found.dataset or found.files) and all(re.fullmatch(r"[a-z]{2,3}", c) for c in codes)
    shared: dict[str, Any] = {
        "language": codes if known else None,
        "license": choice.license,
        "tags": TAGS if found.script else [*TAGS, task],
    }
    if choice.repo_type == "dataset":
        configs = [
            {"config_name": name, "data_files": f"data/{name}.parquet", "default": name == TABLES[0]} for name in TABLES
        ]
        return DatasetCardData(**shared, pretty_name=one_line(results.comparison["name"]), configs=configs)
    of_weights, metric = weights and weights.recipe, results.metric
    local = one_line(", ".join(found.files.values()) or found.script)
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


def _about(results: Results, choice: Choice, weights: Record | None, found: Origin) -> str:
    """What the reader has before them, in a sentence or two with links."""
    text = _linked(f"datasets/{found.dataset}") if found.dataset else "the built-in grammar of `hf_radam`"
    text = ", ".join(map(code, found.files.values())) or text
    task = TASKS.get(found.task, ("other",))[0].replace("-", " ")
    what = f"models for {task}{f' from {_linked(found.base_model)}' if found.base_model else ''} on {text}"
    if found.script:
        versions = sorted({literal(record.environment["versions"].get(found.script)) for record in results.records})
        what = f"by the training script {code(found.script)} ({' and '.join(versions)}), which is not ours"
    count, whose = len(results.recipes), "The records of a" if choice.repo_type == "dataset" else "A"
    said = (
        f"{whose} comparison of {count} recipe{'s' * (count > 1)}, made with `hf_radam`: does "
        f"[RAdam](https://arxiv.org/abs/1908.03265) need no learning-rate warmup? It trains {what}."
    )
    if weights is not None:
        said += f" The weights here are those of {code(weights.id)}, the best run of {code(weights.recipe)}."
    return said


def _linked(repo: str) -> str:
    return f"[{literal(repo.replace('datasets/', 'dataset '))}](https://huggingface.co/{repo})"


def _time(results: Results, weights: Record | None) -> str:
    def took(records: Sequence[Record]) -> str:
        seconds = sum(record.seconds_per_step * record.updates for record in records)
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

    machines = sorted({literal(record.environment["hardware"]) for record in results.records})
    own = f"{took([weights])} for these weights, " if weights else ""
    return f"Training time: {own}{took(results.records)} in all, without evaluations, on {' and '.join(machines)}."


def _alike(results: Results) -> str:
    """What all recipes had in common; of a script no more than was asked and seen."""
    if results.comparison["shared"]["task"] != "script":
        return "the same data order, the same initial weights for a seed, the same learning rates and updates"
    seen = ", and for a seed the same loss at the first update: the same initial weights and first examples"
    early = any(record.updates < results.length(results.recipes[record.recipe]) for record in results.records)
    updates = "updates (fewer where a run ended early)" if early else "updates"
    return f"the same arguments, learning rates and {updates}{seen if results.same_start else ''}"


def _limitations(results: Results) -> list[str]:
    recipes, peaks = results.recipes.values(), " or ".join(f"{peak:g}" for peak in sorted(set(results.runs.peak)))
    lengths = sorted({recipe.warmup_updates(results.length(recipe)) for recipe in recipes if recipe.warmup == "linear"})
    tried = ", ".join(f"{length:,}" for length in lengths)
    unequal = results.comparison["shared"]["task"] == "script" and not results.same_start
    untuned = any(recipe.warmup.startswith("untuned") for recipe in recipes)
    cases = {
        "Recipes differ at the first update: the script's initial weights or first examples depend on more than the "
        "seed that it was given.": unequal,
        f"One learning rate, {peaks}: it may be too high or too low for a recipe.": len(results.learning_rates) == 1,
        "No untuned warmup, which [Ma & Yarats](https://arxiv.org/abs/1910.04209) found equal to RAdam.": not untuned,
        f"The length of the linear warmup, {tried} updates, was given and not searched for.": len(lengths) == 1,
        f"Warmup was tried at these lengths only: {tried} updates.": len(lengths) > 1,
        "No Adam with warmup to compare with.": not lengths and all(recipe.name != BASELINE for recipe in recipes),
    }
    return [text for text, holds in cases.items() if holds]


def _recipes(results: Results) -> str:
    """A table of the recipes, with what sets the runs of one apart from the others'."""
    rows = []
    for recipe in (results.recipes[name(row)] for row in results.best_rows):
        warmup, apart = recipe.warmup.replace("_", " "), []
        if recipe.warmup == "linear":
            warmup += f", {recipe.warmup_updates(results.length(recipe)):,} updates"
        if recipe.max_steps is not None:
            apart.append(f"{recipe.max_steps:,} updates")
        if recipe.learning_rate_scale != 1:
            apart.append(f"{recipe.learning_rate_scale:g} times the learning rate")
        apart += [f"model: {code(f'{key}: {json.dumps(value)}')}" for key, value in recipe.model.items()]
        options = code(dict(recipe.optim_args) or "")
        rows.append([literal(recipe.name), code(recipe.optimizer), options, warmup, ", ".join(apart)])
    heads = ["recipe", "optimizer", "its options", "warmup", "set apart by"]
    width = 5 if any(row[4] for row in rows) else 4
    return "\n".join(f"| {' | '.join(row[:width])} |" for row in [heads, ["---"] * 5, *rows])
