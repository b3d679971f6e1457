"""A results folder as a comparison leaves it, made of invented numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hf_radam.experiments.comparison import Comparison
from hf_radam.experiments.recipes import RECIPES, Recipe
from hf_radam.experiments.records import Record
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
ENTROPY = 3.8


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
    rates = tuple(next(iter(by_rate.values())))
    seeds = max(len(of_rate) for of in by_rate.values() for of_rate in of.values())
    described = comparison(list(losses), rates, seeds, **changes)
    recipes = {recipe.name: json.loads(json.dumps(recipe.__dict__)) for recipe in described.recipes}
    content = {
        "name": described.name, "shared": described.shared(), "data": "0" * 64,
        "target_loss": described.target_loss, "recipes": recipes,
    }  # fmt: skip
    write_whole(folder / "comparison.json", json.dumps(content))
    for run in described.runs():
        made = by_rate[run.recipe.name][run.learning_rate]
        if run.seed >= len(made):
            continue
        loss = made[run.seed]
        record(run, loss).save(folder / "records" / f"{run.id}.json")
        model = folder / "runs" / run.id / "model"
        model.mkdir(parents=True)
        save_file({"weight": torch.full((64,), float(run.seed))}, model / "model.safetensors")
        (model / "config.json").write_text('{"model_type": "marian", "_name_or_path": "/home/ann/model"}')
        (model / "tokenizer.json").write_text('{"model": {"vocab": {"ann": 1, "/tmp/x": 2}}}')
        (model / "training_args.bin").write_bytes(b"\x80\x04N.")
    return folder


def record(run: Any, loss: float | None) -> Record:
    accuracy = None if loss is None else 1 / (1 + loss)
    curves: dict[str, list[float | None]] = {
        "step": [1, 2, 3, 4], "loss": [4.0, 3.5, 3.0, loss], "learning_rate": [1e-3] * 4,
        **({"rectification": [0.0, 0.0, 0.1, 0.2]} if run.recipe.name == "radam" else {}),
    }  # fmt: skip
    return Record(
        id=run.id,
        comparison=run.comparison.name,
        config=run.config(),
        diverged=loss is None,
        curves=curves,
        evaluations={"step": [0, 20, 40], "loss": [5.0, 4.0, loss], "token_accuracy": [0.0, 0.1, accuracy]},
        final={"loss": loss, "token_accuracy": accuracy, "bleu": None if loss is None else 100 * (accuracy or 0.0)},
        facts={"unigram_entropy": ENTROPY},
        metric="bleu",
        loss_unit="nats a token",
        optimizer={"name": run.recipe.optimizer, "class": "some.Class", "lr": 0.0, "betas": [0.9, 0.9]},
        seconds_per_step=0.01,
        peak_memory=10**6,
        environment={
            "python": "3.11.0", "versions": {"hf_radam": "0.1.0", "torch": "2.13.0"}, "commit": "c" * 40,
            "system": "Linux x86_64", "hardware": "a processor", "cpu_cores": 2, "processes": 1, "threads": 1,
        },
    )  # fmt: skip
