"""Records that no run has made, for what is computed and drawn from records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_radam.experiments.recipes import RECIPES
from hf_radam.experiments.records import Record

STEPS = [1, 2, 3, 4]


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
            "recipe": {"warmup_steps": 0, **base, "name": recipe, **options},
            "learning_rate": rate,
            "seed": seed,
            "batch_size": 8,
        },
        diverged=loss is None,
        curves={"step": [*STEPS], "loss": [4.0, 3.0, 2.0, loss], "learning_rate": [rate] * 4, "seconds": [0.1] * 4},
        evaluations=evaluations,
        final={"loss": loss, metric: value},
        facts={"unigram_entropy": 3.8} if facts is None else facts,
        optimizer={},
        seconds_per_step=0.1,
        peak_memory=10**9,
        environment={"hardware": "none", "processes": 1, "threads": 1, "versions": {}, "commit": None},
        metric=metric,
        loss_unit="nats a token",
        gradients={"low": -12.0, "high": 4.0, "step": [1, 2], "counts": [[1] * 64] * 2},
    )


def results(folder: Path, records: Iterable[Record], target_loss: float | None = None) -> Path:
    """A results folder of these records."""
    for made_up in records:
        made_up.save(folder / "records" / f"{made_up.id}.json")
    recipes = {made_up.recipe: made_up.config["recipe"] for made_up in map(Record.load, (folder / "records").glob("*"))}
    content = {"name": "Made up", "shared": {"task": "translation", "max_steps": 4}, "data": "0", "recipes": recipes}
    (folder / "comparison.json").write_text(json.dumps({**content, "target_loss": target_loss}))
    return folder
