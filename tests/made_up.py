"""Records and results folders that no run has made, for what is computed, drawn and published from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hf_radam.experiments.comparison import Comparison, Run
from hf_radam.experiments.recipes import RECIPES, Recipe
from hf_radam.experiments.records import Record
from hf_radam.experiments.results import Results
from hf_radam.files import write_whole

ARMS = {
    **RECIPES,
    "adam_warmup": Recipe(name="adam_warmup", optimizer="adam", warmup="linear", warmup_steps=5),
    "adam_warmup_10": Recipe(name="adam_warmup_10", optimizer="adam", warmup="linear", warmup_steps=10),
    "adam_warmup_share": Recipe(
        name="adam_warmup_share", optimizer="adam", warmup="linear", warmup_steps=0.1, max_steps=44,
        learning_rate_scale=1.1,
    ),
    "adam_pre_ln": Recipe(name="adam_pre_ln", optimizer="adam", model={"normalize_before": True}),
}  # fmt: skip
ENVIRONMENT: dict[str, Any] = {
    "python": "3.11.0", "versions": {"hf_radam": "0.1.0", "torch": "2.13.0"}, "commit": "c" * 40,
    "system": "Linux x86_64", "hardware": "a processor", "cpu_cores": 2, "processes": 1, "threads": 1,
}  # fmt: skip


def record(
    recipe: str,
    *,
    rate: float = 1e-3,
    seed: int = 0,
    loss: float | None = 1.0,
    validation: float | None = -1.0,
    metric: str = "bleu",
    value: float | None = 10.0,
    validated_metric: float | None = None,
    facts: Mapping[str, float] | None = None,
    **options: Any,
) -> Record:
    """A run of four updates.

    Args:
        loss: the final one.
        validation: the last evaluation's loss; `loss` if it is -1.
        value: the final metric; None is for a diverged run, as for losses.
        validated_metric: the last evaluation's metric, if evaluations shall hold it.
        options: fields of the recipe.
    """
    base = vars(RECIPES[recipe]) if recipe in RECIPES else {"optimizer": "adam", "optim_args": {}, "warmup": "none"}
    if base["warmup"] == "linear":
        base = {**base, "warmup_steps": 2}
    last = loss if validation == -1.0 else validation
    evaluations: dict[str, list[float | None]] = {"step": [0, 4], "loss": [4.0, last]}
    if validated_metric is not None:
        evaluations[metric] = [0.0, validated_metric]
    return Record(
        id=f"{recipe}-lr{rate:g}-seed{seed}",
        comparison="Made up",
        config={
            "task": "translation",
            "recipe": {"warmup_steps": 0, **base, "name": recipe, **options},
            "learning_rate": rate,
            "seed": seed,
            "batch_size": 8,
        },
        diverged=loss is None,
        curves={"step": [1, 2, 3, 4], "loss": [4.0, 3.0, 2.0, loss], "learning_rate": [rate] * 4, "seconds": [0.1] * 4},
        evaluations=evaluations,
        final={"loss": loss, metric: value},
        facts={"unigram_entropy": 3.8} if facts is None else facts,
        optimizer={},
        seconds_per_step=0.1,
        peak_memory=10**9,
        environment=ENVIRONMENT,
        metric=metric,
        loss_unit="nats a token",
        gradients={"low": -12.0, "high": 4.0, "step": [1, 2], "counts": [[1] * 64] * 2},
    )


def of_run(run: Run, loss: float | None) -> Record:
    """The same of a run of a comparison; the metrics follow from the loss."""
    accuracy = None if loss is None else 1 / (1 + loss)
    made = record(run.recipe.name, loss=loss)
    rectification = {"rectification": [0.0, 0.0, 0.1, 0.2]} if run.recipe.name == "radam" else {}
    return replace(
        made,
        id=run.id,
        comparison=run.comparison.name,
        config=run.config(),
        curves={**made.curves, **rectification},
        evaluations={"step": [0, 20, 40], "loss": [5.0, 4.0, loss], "token_accuracy": [0.0, 0.1, accuracy]},
        final={"loss": loss, "token_accuracy": accuracy, "bleu": accuracy and 100 * accuracy},
        optimizer={"name": run.recipe.optimizer, "class": "some.Class", "lr": 0.0, "betas": [0.9, 0.9]},
        gradients=None,
    )


def read(records: Iterable[Record], target_loss: float | None = None) -> Results:
    """Results of these records."""
    records = list(records)
    comparison = {
        "name": "Made up", "shared": {"task": "translation", "max_steps": 4}, "target_loss": target_loss,
        "recipes": {made_up.recipe: made_up.config["recipe"] for made_up in records},
    }  # fmt: skip
    return Results(comparison=comparison, records=records)


def comparison(recipes: list[str], rates: tuple[float, ...], seeds: int, **changes: Any) -> Comparison:
    settings: dict[str, Any] = {
        "name": "Invented", "task": "translation", "data": {"vocab_size": 300}, "model": {"d_model": 16},
        "max_steps": 40, "batch_size": 4, "eval_steps": 20, "target_loss": 1.0, "threads": 1,
        "training": {"adam_beta2": 0.9, "lr_scheduler_type": "linear"},
    }  # fmt: skip
    arms = tuple(ARMS[name] for name in recipes)
    return Comparison(**{**settings, "recipes": arms, "learning_rates": rates, "seeds": tuple(range(seeds)), **changes})


def write_results(
    folder: Path, losses: Mapping[str, list[float | None] | Mapping[float, list[float | None]]], **changes: Any
) -> Path:
    """A results folder whose runs ended with these losses.

    Args:
        folder: made.
        losses: by recipe one loss a seed (None where the run diverged), or such lists by learning rate. Where a list is
            shorter than others, runs have not been made yet.
        changes: fields of the comparison.
    """
    by_rate = {name: of if isinstance(of, Mapping) else {1e-3: of} for name, of in losses.items()}
    seeds = max(len(of_rate) for of in by_rate.values() for of_rate in of.values())
    described = comparison(list(losses), tuple(next(iter(by_rate.values()))), seeds, **changes)
    recipes = {recipe.name: recipe.__dict__ for recipe in described.recipes}
    content = {"name": described.name, "shared": described.shared(), "target_loss": described.target_loss,
               "recipes": recipes, "data": "0" * 64}  # fmt: skip
    write_whole(folder / "comparison.json", json.dumps(content))
    for run in described.runs():
        ends = by_rate[run.recipe.name][run.learning_rate]
        if run.seed >= len(ends):
            continue
        of_run(run, ends[run.seed]).save(folder / "records" / f"{run.id}.json")
        model = folder / "runs" / run.id / "model"
        model.mkdir(parents=True)
        save_file({"weight": torch.full((64,), float(run.seed))}, model / "model.safetensors")
        (model / "config.json").write_text('{"model_type": "marian", "_name_or_path": "/home/ann/model"}')
        (model / "tokenizer.json").write_text('{"model": {"vocab": {"ann": 1, "/tmp/x": 2}}}')
        (model / "training_args.bin").write_bytes(b"\x80\x04N.")
    return folder
