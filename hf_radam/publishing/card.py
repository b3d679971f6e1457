"""Results + template -> the text and metadata of a card. Pure: reads and writes no file."""

from __future__ import annotations

import json
from typing import Any

import jinja2

from hf_radam.experiments.recipes import Recipe
from hf_radam.experiments.records import Record
from hf_radam.experiments.report.escape import code, fenced, literal, one_line
from hf_radam.experiments.report.statistics import BASELINE, at_best_rate, same_start
from hf_radam.experiments.report.writers import body
from hf_radam.experiments.results import Results
from hf_radam.publishing import reproduce
from hf_radam.publishing.metadata import metadata, pipeline
from hf_radam.publishing.page import Page, picture

# How a model of each is run, as `runs.example` did when it was trained.
RUN = {
    "translation": """tokens = model.generate(**batch, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))""",
    "classification": """print(model.config.id2label[int(model(**batch).logits.argmax())])""",
}


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
        metadata=metadata(results, page, base_model).to_yaml(),
        name=results.comparison["name"],
        about=_about(results, page, base_model),
        links=[_linked(repo) for repo in page.also],
        time=_time(results, page.weights),
        finding=page.report.verdict.text,
        report=body(page.report),
        page=page,
        given=given,
        rest=rest,
        alike=_alike(results),
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
    task = pipeline(results)[0].replace("-", " ")
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
    _, model_class = pipeline(results)
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


def _alike(results: Results) -> str:
    """What all recipes had in common; of a script no more than was asked and seen."""
    if results.comparison["shared"]["task"] != "script":
        return "the same data order, the same initial weights for a seed, the same learning rates and updates"
    seen = ", and for a seed the same loss at the first update: the same initial weights and first examples"
    return f"the same arguments, learning rates and updates{seen if same_start(results.records) else ''}"


def _limitations(results: Results) -> list[str]:
    rates = results.learning_rates
    recipes = results.recipes.values()
    scope = "One task" if any(recipe.model for recipe in recipes) else "One task and one model"
    limits = [
        f"{scope}, {results.max_steps:,} updates. RAdam and warmup spend less of a schedule's area "
        "than Adam, the more so the shorter the run: short runs compare learning rates as much as optimizers.",
    ]
    if results.comparison["shared"]["task"] == "script" and not same_start(results.records):
        limits.append(
            "Recipes differ at the first update already: the script's initial weights or its first examples depend on "
            "more than the seed that it was given, and results may as well."
        )
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
