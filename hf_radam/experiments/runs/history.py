"""What a training leaves in Trainer's log, as the fields of its record; and whether it is what was asked for."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from accelerate import PartialState
from torch.optim.lr_scheduler import LambdaLR

from hf_radam.experiments.environment import environment, peak_memory
from hf_radam.experiments.recipes import UNTUNED_WARMUP
from hf_radam.experiments.runs.gradients import collect
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.script_data import key_of
from hf_radam.fit import state_bytes_per_parameter
from hf_radam.training.callbacks import innermost
from hf_radam.training.trainer_card import describe_optimizer

# Columns of the record's curves, and what each evaluation reports of itself.
CURVES = ("loss", "learning_rate", "rectification", "rho", "grad_norm", "seconds")
NOISE = {"samples", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time"}
# Options that groups of parameters have under another name.
_OF_GROUP = {"learning_rate": "initial_lr", "adam_epsilon": "eps"}


def is_update(logs: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether Trainer logged this of an update: a loss that somebody else logs comes without the learning rate."""
    return logs is not None and {"loss", "learning_rate"} <= logs.keys()


def curves_of(history: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What was logged of the updates, as columns; of two entries for one step (after a resume) the later counts."""
    rows = {entry["step"]: entry for entry in history if is_update(entry)}.values()
    present = [name for name in CURVES if any(name in row for row in rows)]
    return {name: [row.get(name) for row in rows] for name in ("step", *present)}


def evaluations_of(history: Sequence[Mapping[str, Any]], every: int, last: int, metric: str) -> dict[str, list[Any]]:
    """Loss and all else that was evaluated, as columns by the names that records have.

    Several data sets are evaluated one after the other, at one step. The loss is that of the one with the metric.
    """
    of_steps: dict[int, dict[str, Any]] = {}
    for entry in history:
        if every and entry["step"] % every and entry["step"] != last:
            continue  # a resumed run has also evaluated where it went on
        losses = [value for key, value in entry.items() if key.startswith("eval_") and key.endswith("_loss")]
        loss = {"eval_loss": losses[0]} if f"eval_{metric}" in entry and losses else {}
        of_steps.setdefault(entry["step"], {}).update({**loss, **entry})
    rows = [entry for entry in of_steps.values() if "eval_loss" in entry]
    numbers = {key for row in rows for key, value in row.items() if isinstance(value, (int, float)) and len(key) < 64}
    names = {key.removeprefix("eval_") for key in numbers if key.startswith("eval_")} - NOISE - {"loss"}
    found = {key_of(name): [row.get(f"eval_{name}") for row in rows] for name in sorted(names)}
    return {"step": [row["step"] for row in rows], "loss": [row["eval_loss"] for row in rows], **found}


def is_finite(curves: Mapping[str, list[Any]]) -> bool:
    """Whether no loss became infinite or NaN."""
    return all(map(math.isfinite, curves["loss"]))


def measured(
    trainer: Any, curves: Mapping[str, list[Any]], evaluations: Mapping[str, list[Any]], every: int
) -> dict[str, Any]:
    """The fields of a record that a Trainer knows by itself; `every` as `Comparison.record_every`."""
    steps, losses = curves["step"], evaluations["loss"]
    kept = [i for i, step in enumerate(steps) if step <= every or step % every == 0 or step == steps[-1]]
    return {
        "diverged": not is_finite(curves) or (bool(losses) and _ended_above_its_start(curves["loss"], losses)),
        "curves": {name: [column[i] for i in kept] for name, column in curves.items()},
        "gradients": collect(trainer.state.log_history) if every == 1 else None,
        "evaluations": evaluations,
        "optimizer": _built_optimizer(trainer),
        "seconds_per_step": statistics.median(curves["seconds"]),
        "peak_memory": peak_memory(),
        "environment": environment(trainer.args.world_size),
        "state_bytes_per_parameter": state_bytes_per_parameter(innermost(trainer.optimizer)),
    }


def _ended_above_its_start(training: list[float], evaluation: list[float]) -> bool:
    """Whether both losses rose; that of the evaluation alone also rises by overfitting."""
    last = statistics.fmean(training[-max(1, len(training) // 10) :])
    return not math.isfinite(evaluation[-1]) or (evaluation[-1] > evaluation[0] and last > training[0])


def _built_optimizer(trainer: Any) -> dict[str, Any]:
    """Name, class and plain options of the optimizer; of options that differ between groups, the first group's.

    Of a schedule-free one also whether its averaged weights were in place at the end (`train_mode` is False).
    """
    name, options = describe_optimizer(trainer.optimizer)
    of_group = innermost(trainer.optimizer).param_groups[0]
    if "train_mode" in of_group:
        options["train_mode"] = [of_group["train_mode"]]
    plain = {key: values[0] for key, values in options.items() if isinstance(values[0], (bool, int, float, str, tuple))}
    return {"name": str(trainer.args.optim), "class": name, **plain}


def unheeded(optimizer: Any, asked: Mapping[str, Any], **own: Any) -> Iterator[tuple[str, Any, Any]]:
    """What neither a group of parameters nor `own` has as it was asked for: its name, what was asked, what is there."""
    groups = [
        {**group, **dict(zip(("adam_beta1", "adam_beta2"), group.get("betas", ()), strict=False)), **own}
        for group in innermost(optimizer).param_groups
    ]
    for name, value in asked.items():
        found = [group.get(_OF_GROUP.get(name, name)) for group in groups]
        there = torch.tensor(value, dtype=found[0].dtype).item() if isinstance(found[0], torch.Tensor) else value
        plain = json.loads(json.dumps([there, *found], default=float))
        if plain[0] not in plain[1:]:
            yield name, value, found[0]


def add_untuned_warmup(scheduler: Any, warmup: Any, recipe: str) -> None:
    """Multiply the scheduler's factors, the present one too, by those of the recipe's rule, where that is untuned."""
    rule: Any = UNTUNED_WARMUP.get(warmup)
    if rule is None:
        return
    if not isinstance(scheduler, LambdaLR) or "betas" not in scheduler.optimizer.param_groups[0]:
        raise UserError(
            f"recipe {recipe!r}: untuned warmup needs an optimizer with betas and a schedule that is a function of the "
            "step, such as linear or cosine"
        )
    groups = scheduler.optimizer.param_groups
    beta2 = groups[0]["betas"][1]
    factors: list[Any] = [lambda step, of=of: rule(step + 1, beta2) * of(step) for of in scheduler.lr_lambdas]
    scheduler.lr_lambdas = factors
    for group, factor, rate in zip(groups, factors, scheduler.base_lrs, strict=True):
        group["lr"] = rate * factor(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in groups]


def resume_point(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; Trainer writes `trainer_state.json` last."""
    found = {path.name.removeprefix("checkpoint-"): path for path in folder.glob("checkpoint-*")}
    for number in sorted(filter(str.isdecimal, found), key=int, reverse=True):
        try:
            json.loads((found[number] / "trainer_state.json").read_text(encoding="utf-8"))
            return str(found[number])
        except (OSError, ValueError):
            if PartialState().is_main_process:
                shutil.rmtree(found[number], ignore_errors=True)
    return None
