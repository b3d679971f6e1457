"""Results + template -> the text and metadata of a card. Pure: reads and writes no file."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from huggingface_hub import CardData, DatasetCardData, EvalResult, ModelCardData

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.recipes import Recipe
from hf_radam.experiments.records import Record
from hf_radam.experiments.report.escape import code, fenced, literal, one_line
from hf_radam.experiments.report.report import Image, Report
from hf_radam.experiments.report.statistics import BASELINE, Estimate, Row, at_best_rate
from hf_radam.experiments.report.writers import body
from hf_radam.experiments.results import Results
from hf_radam.publishing import reproduce
from hf_radam.publishing.tables import Table, features

TAGS = ["radam", "warmup", "optimizer", "learning-rate-schedule", "hf_radam"]
# Our tasks by the names that the Hub and Transformers have for them.
PIPELINES = {
    "translation": ("translation", "AutoModelForSeq2SeqLM"),
    "classification": ("text-classification", "AutoModelForSequenceClassification"),
    "language_modeling": ("text-generation", "AutoModelForCausalLM"),
}
# How a model of each is run, as `runs.example` did when it was trained.
RUN = {
    "translation": """tokens = model.generate(**batch, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))""",
    "classification": """print(model.config.id2label[int(model(**batch).logits.argmax())])""",
}


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a card shows beside the numbers: where it stands, and what lies around it."""

    title: str
    """Name of the model or dataset in the metadata; the last part of the repo's id."""
    repo_id: str | None = None
    """The repo, where the card is that of one."""
    repo_type: str = "model"
    """model or dataset."""
    license: str = "apache-2.0"
    """Identifier of the license."""
    base_model: str | None = None
    """Name on the Hub of the checkpoint that was fine-tuned; by default what the records tell of it."""
    report: Report
    """Verdict, tables and notes."""
    images: Sequence[Image] = ()
    """The report's figures, with paths relative to the card, in the order in which they are shown."""
    weights: Record | None = None
    """The run whose weights lie beside the card."""
    data: Mapping[str, Table] = dataclasses.field(default_factory=dict)
    """Of a dataset: its tables by name."""
    also: Sequence[str] = ()
    """Repos that belong to this one: namespace/name of models, datasets/namespace/name, spaces/namespace/name."""
    comparison_path: str = "comparison.yaml"
    """Of the file to reproduce the comparison with, as a reader would type it."""


def render(results: Results, page: Page, template: str) -> str:
    """The card, as Markdown with metadata on top.

    Args:
        results: the numbers.
        page: the rest.
        template: Jinja source. What comes from names or settings goes through its filters `text`, `code` or `fenced`,
            which keep it from being read as Markdown or HTML.
    """
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"text": literal, "code": code, "fenced": fenced, "picture": picture}
    given, rest = _settings(results)
    arms = results.recipes.values()
    base_model = page.base_model or reproduce.base_model(results)
    return environment.from_string(template).render(
        metadata=_metadata(results, page, base_model).to_yaml(),
        name=results.comparison["name"],
        about=_about(results, page, base_model),
        links=[_linked(repo) for repo in page.also],
        time=_time(results, page.weights),
        finding=page.report.verdict.text,
        report=body(page.report),
        page=page,
        given=given,
        rest=rest,
        recipes=[_arm(results, name) for name in _one_per_recipe(results)],
        command=reproduce.command(
            results, page.comparison_path, base_model=base_model, repo_id=page.repo_id, repo_type=page.repo_type
        ),
        commits=reproduce.commits(results),
        local_text=bool(reproduce.local_files(results)),
        script=reproduce.script(results),
        local_checkpoint=reproduce.local_checkpoint(results, base_model),
        base_model=base_model,
        limitations=_limitations(results),
        cited={
            "untuned": any(recipe.warmup.startswith("untuned") for recipe in arms),
            "schedule_free": any("schedule_free" in recipe.optimizer for recipe in arms),
        },
        usage=_usage(results, page),
    )


def picture(image: Image, folder: str = "") -> str:
    """HTML that shows a figure, on GitHub in the colours of the page.

    Args:
        image: the figure.
        folder: what to put before its paths; ends with a slash.
    """
    title = html.escape(one_line(image.title))
    light = f'<img width="{image.width}" src="{html.escape(folder + image.path)}" alt="{title}">'
    if image.dark is None:
        return light
    dark = html.escape(folder + image.dark)
    return f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">{light}</picture>'


def _metadata(results: Results, page: Page, base_model: str | None) -> CardData:
    data = results.comparison["shared"]["data"]
    dataset = data.get("dataset_name") if reproduce.is_hub_id(data.get("dataset_name")) else None
    task, _ = _pipeline(results)
    tags = [*TAGS, *([] if reproduce.script(results) else [task])]
    if page.repo_type == "dataset":
        return DatasetCardData(
            language=_languages(results),
            license=page.license,
            pretty_name=one_line(results.comparison["name"]),
            tags=tags,
            size_categories=_size(sum(len(table) for table in page.data.values())),
            configs=[
                {"config_name": name, "data_files": f"data/{name}.parquet", **({"default": True} if i == 0 else {})}
                for i, name in enumerate(page.data)
            ],
            dataset_info=[{"config_name": name, "features": features(table)} for name, table in page.data.items()],
        )
    return ModelCardData(
        language=_languages(results),
        license=page.license,
        library_name="transformers" if page.weights else "hf_radam",
        pipeline_tag=task if page.weights and task != "other" else None,
        tags=tags,
        datasets=[dataset] if dataset else None,
        base_model=base_model,
        metrics=[results.metric] if results.metric != "loss" else None,
        model_name=page.title,
        eval_results=_eval_results(results, page.weights),
    )


def _languages(results: Results) -> list[str] | None:
    """Codes of the languages that a translation reads and writes, where the data says them."""
    data = results.comparison["shared"]["data"]
    if not (data.get("dataset_name") or reproduce.local_files(results)):
        return None
    codes = [str(data.get(key)) for key in ("source_lang", "target_lang")]
    return codes if all(re.fullmatch(r"[a-z]{2,3}", code) for code in codes) else None


def _pipeline(results: Results) -> tuple[str, str]:
    return PIPELINES.get(results.comparison["shared"]["task"], ("other", "AutoModel"))


def _eval_results(results: Results, weights: Record | None) -> list[EvalResult]:
    """One result for each recipe and metric, at the recipe's best learning rate; that of the weights comes first."""
    data, (task, _) = results.comparison["shared"]["data"], _pipeline(results)
    dataset = data.get("dataset_name")
    local = reproduce.local_files(results).values()
    script = reproduce.script(results)
    about = {
        "task_type": task,
        "dataset_type": dataset or ("local-files" if local or script else "hf_radam-grammar"),
        "dataset_name": dataset or one_line(", ".join(local) or script) or "the built-in grammar of hf_radam",
        "dataset_config": data.get("dataset_config_name"),
        "dataset_revision": data.get("dataset_revision"),
    }
    rows = sorted(results.best_rows(), key=lambda row: weights is None or row.recipe != weights.recipe)
    found: list[EvalResult] = []
    for name in dict.fromkeys(["loss", results.metric, *results.rows[0].metrics]):
        for row in rows:
            estimate = row.loss if name == "loss" else row.metrics[name]
            if estimate.mean is not None:
                found.append(
                    EvalResult(
                        **about,
                        metric_type=name,
                        metric_value=round(estimate.mean, 6),
                        metric_name=_metric_name(name, row, estimate),
                        metric_args={
                            "recipe": row.recipe,
                            "learning_rate": row.learning_rate,
                            "seeds": list(row.seeds),
                            "std": None if estimate.std is None else round(estimate.std, 6),
                        },
                    )
                )
    return found


def _metric_name(name: str, row: Row, estimate: Estimate) -> str:
    label, digits = (METRICS[name].label, METRICS[name].digits) if name in METRICS else (name.replace("_", " "), 3)
    spread = "" if estimate.std is None else f", mean of {estimate.n} seeds ± {estimate.std:.{digits}f}"
    return f"{label} ({row.recipe}, lr {row.learning_rate:g}{spread})"


def _settings(results: Results) -> tuple[list[tuple[str, Any]], str]:
    """The settings that the comparison chose, and all that was used as JSON."""
    shared = results.comparison["shared"]
    described = {"task", "data", "model", "training", "max_steps"}
    chosen = {
        "updates": results.max_steps,
        **{key.replace("_", " "): value for key, value in shared.items() if key not in described},
        "learning rate": ", ".join(f"{rate:g}" for rate in results.learning_rates),
        "seeds": ", ".join(map(str, results.seeds)),
        **shared["training"],
        **{f"data: {key}": value for key, value in shared["data"].items() if value is not None},
        **{f"model: {key}": value for key, value in shared["model"].items()},
    }
    optimizers = {name: record.optimizer for name, record in _one_per_recipe(results).items()}
    versions = _unique(record.environment for record in results.records)
    everything = {"shared": shared, "optimizers, as they ended": optimizers, "machines": versions}
    return list(chosen.items()), json.dumps(everything, indent=2, ensure_ascii=False)


def _about(results: Results, page: Page, base_model: str | None) -> str:
    """What the reader has before them, in a sentence with links."""
    data = results.comparison["shared"]["data"]
    task = _pipeline(results)[0].replace("-", " ")
    dataset = data.get("dataset_name") if reproduce.is_hub_id(data.get("dataset_name")) else None
    text = _linked(f"datasets/{dataset}") if dataset else "the built-in grammar of `hf_radam`"
    if local := reproduce.local_files(results).values():
        text = ", ".join(map(code, local))
    start = f" from {_linked(base_model)}" if base_model else ""
    recipes = len(results.recipes)
    question = (
        f"a comparison of {recipes} recipe{'s' * (recipes > 1)}, made with `hf_radam`, that asks whether "
        "[RAdam](https://arxiv.org/abs/1908.03265) needs no learning-rate warmup"
    )
    trained, trains = f"A model for {task}, trained{start} on {text}", f"It trains models for {task}{start} on {text}."
    if script := reproduce.script(results):
        versions = sorted({str(record.environment["versions"].get(script)) for record in results.records})
        which = f"the training script {code(script)} ({' and '.join(map(literal, versions))}), which is not ours"
        trained, trains = f"A model, trained by {which},", f"It runs {which}."
    if page.weights is not None:
        return f"{trained} with {code(page.weights.recipe)}: the best run of {question}."
    kind = "The records of" if page.repo_type == "dataset" else "The report of"
    return f"{kind} {question}. {trains}"


def _linked(repo: str) -> str:
    kind = {"datasets/": "dataset ", "spaces/": "page "}
    name = next((label + repo.removeprefix(start) for start, label in kind.items() if repo.startswith(start)), repo)
    return f"[{literal(name)}](https://huggingface.co/{repo})"


def _time(results: Results, weights: Record | None) -> str:
    """How long the training took, without evaluations."""
    total = sum(map(_seconds, results.records))
    runs = len(results.records)
    machines = sorted({str(record.environment["hardware"]) for record in results.records})
    own = f"{_duration(_seconds(weights))} for these weights, " if weights else ""
    return (
        f"Training time: {own}{_duration(total)} for {f'all {runs} runs' if runs > 1 else 'the run'}, without "
        f"evaluations, on {' and '.join(map(literal, machines))}."
    )


def _seconds(record: Record) -> float:
    return record.seconds_per_step * record.updates


def _duration(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def _usage(results: Results, page: Page) -> str:
    """How to load what lies beside the card."""
    if page.repo_type == "dataset":
        lines = ["from datasets import load_dataset", ""]
        return "\n".join(
            [*lines, *(f'{name} = load_dataset("{page.repo_id}", "{name}", split="train")' for name in page.data)]
        )
    _, model_class = _pipeline(results)
    lines = [
        f"from transformers import {model_class}, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{page.repo_id}")',
        f'model = {model_class}.from_pretrained("{page.repo_id}")',
    ]
    task, example = results.comparison["shared"]["task"], page.weights and page.weights.example
    if example and task in RUN:
        lines += [f'batch = tokenizer({json.dumps(example["input"])}, return_tensors="pt")', RUN[task]]
        lines.append(f"# {one_line(example['output'])}")
    return "\n".join(lines)


def _limitations(results: Results) -> list[str]:
    rates = results.learning_rates
    recipes = results.recipes.values()
    scope = "One task" if any(recipe.model for recipe in recipes) else "One task and one model"
    limits = [
        f"{scope}, {results.max_steps:,} updates. RAdam and warmup spend less of a schedule's area "
        "than Adam, the more so the shorter the run: short runs compare learning rates as much as optimizers.",
    ]
    if len(rates) == 1:
        limits.append(
            f"One learning rate, {rates[0]:g}, for all recipes: a rate that suits one may be too high or too low for "
            "another."
        )
    if not any(recipe.warmup.startswith("untuned") for recipe in recipes):
        limits.append(
            "No untuned warmup among the recipes, which [Ma & Yarats](https://arxiv.org/abs/1910.04209) found about "
            "equal to RAdam."
        )
    lengths = sorted({_warmup_updates(results, recipe) for recipe in recipes if recipe.warmup == "linear"})
    if lengths:
        tried = ", ".join(f"{length:,}" for length in lengths)
        limits.append(
            f"The length of the linear warmup, {tried} updates, was given and not searched for in these runs; RAdam "
            "needs no such choice."
            if len(lengths) == 1
            else f"Warmup was tried at these lengths only: {tried} updates."
        )
    elif not any(recipe.name == BASELINE for recipe in recipes):
        limits.append("No Adam with warmup among the recipes to compare with.")
    return limits


def _arm(results: Results, name: str) -> dict[str, Any]:
    """A recipe as the table shows it, with what sets its runs apart from the others'."""
    recipe = results.recipes[name]
    warmup, apart = recipe.warmup.replace("_", " "), []
    if recipe.warmup == "linear":
        warmup += f", {_warmup_updates(results, recipe):,} updates"
    if recipe.max_steps is not None:
        apart.append(f"{recipe.max_steps:,} updates")
    if recipe.learning_rate_scale != 1:
        apart.append(f"{recipe.learning_rate_scale:g} times the learning rate")
    apart += [f"model: {code(f'{key}: {json.dumps(value)}')}" for key, value in recipe.model.items()]
    return {
        "name": name,
        "optimizer": recipe.optimizer,
        "options": dict(recipe.optim_args) or "",
        "warmup": warmup,
        "apart": ", ".join(apart),
    }


def _warmup_updates(results: Results, recipe: Recipe) -> int:
    return recipe.warmup_updates(results.updates(recipe))


def _one_per_recipe(results: Results) -> dict[str, Record]:
    """A record of each recipe, of its best learning rate."""
    first: dict[str, Record] = {}
    for record in at_best_rate(results.records):
        first.setdefault(record.recipe, record)
    return first


def _unique(values: Any) -> list[Any]:
    return [json.loads(text) for text in dict.fromkeys(json.dumps(value, sort_keys=True) for value in values)]


def _size(rows: int) -> str:
    for limit, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if rows < limit:
            return name
    return "1M<n<10M"
